"""Made windows: rhythms at rates within the range, noise of the told colour, events that decay."""

from __future__ import annotations

import numpy as np
import pytest

from pretraining import synthetic
from pretraining.synthetic import made_window


def test_a_window_is_a_pure_function_of_its_generator():
    first, again, other = (made_window(300, (2, 30), np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first.tobytes() == again.tobytes() != other.tobytes()


@pytest.mark.parametrize("n", [128, 2048])
def test_windows_are_finite_and_of_many_sizes(n):
    spreads = [made_window(n, (1, n / 8), np.random.default_rng(seed)).std() for seed in range(200)]
    assert np.isfinite(spreads).all()
    assert 0.01 < min(spreads) < 0.2
    assert 1.5 < max(spreads) < 20


def test_a_rhythm_comes_as_often_as_it_is_told():
    for count in (4, 11, 40):
        found = [
            np.abs(np.fft.rfft(synthetic._rhythm(1024, count, np.random.default_rng(seed))))[1:].argmax() + 1
            for seed in range(30)
        ]
        assert np.median(found) == pytest.approx(count, rel=0.1)


def test_rhythms_come_as_often_as_the_range_allows(monkeypatch):
    monkeypatch.setattr(synthetic, "_coloured_noise", lambda n, exponent, rng: np.zeros(n))
    monkeypatch.setattr(synthetic, "_events", lambda n, rng: np.zeros(n))
    windows = [made_window(1024, (20, 60), np.random.default_rng(seed)) for seed in range(60)]
    peaks = [np.abs(np.fft.rfft(window)).argmax() for window in windows if window.any()]
    assert 30 < len(peaks) < 60
    assert 13 <= min(peaks) < 25
    assert 50 < max(peaks) <= 80


def test_no_harmonic_lies_above_half_the_sampling_rate():
    for seed in range(20):
        wave = synthetic._rhythm(256, 60, np.random.default_rng(seed))
        power = np.abs(np.fft.rfft(wave)) ** 2
        assert power[30:90].sum() > 0.9 * power.sum()


def test_noise_falls_with_frequency_as_told():
    rng = np.random.default_rng(0)
    for exponent in (0.0, 1.0, 2.0):
        power = np.mean(
            [np.abs(np.fft.rfft(synthetic._coloured_noise(512, exponent, rng))) ** 2 for _ in range(200)], 0
        )
        fall = np.polyfit(np.log(np.arange(1, 200)), np.log(power[1:200]), 1)[0]
        assert fall == pytest.approx(-exponent, abs=0.1)


def test_events_rise_faster_than_they_decay():
    skews = [np.mean(np.diff(synthetic._events(500, np.random.default_rng(seed))) ** 3) for seed in range(100)]
    assert np.mean(np.array(skews) > 0) > 0.95
