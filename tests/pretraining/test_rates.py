"""Rates of pulse and breathing: found where they are certain, None where they are not."""

from __future__ import annotations

import numpy as np
import pytest

from pretraining.rates import steady_rate

T = np.arange(480) / 16


def pulse(rate, rng, noise=0.1):
    phase = 2 * np.pi * rate * T
    drift = 3 * np.sin(2 * np.pi * 0.03 * T + 1)
    return 40 + drift + np.cos(phase) + 0.5 * np.cos(2 * phase + 1) + noise * rng.standard_normal(T.size)


@pytest.mark.parametrize("rate", [0.8, 1.1, 1.55, 2.4])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_pulse_is_found_either_way_up(rate, sign, rng):
    assert steady_rate(sign * pulse(rate, rng), 16.0, "bvp") == pytest.approx(rate, abs=0.02)


@pytest.mark.parametrize("rate", [0.13, 0.25, 0.5])
def test_breathing_is_found(rate, rng):
    t = np.arange(256) / 8
    breath = np.sin(2 * np.pi * rate * t) + 0.2 * rng.standard_normal(t.size)
    assert steady_rate(breath, 8.0, "resp") == pytest.approx(rate, abs=0.015)


def test_noise_has_no_rate():
    found = [steady_rate(np.random.default_rng(seed).standard_normal(480), 16.0, "bvp") for seed in range(100)]
    assert found == [None] * 100


def test_a_rate_that_changes_within_the_window_is_not_certain(rng):
    half = T.size // 2
    changed = np.concatenate([pulse(0.9, rng)[:half], pulse(1.5, rng)[half:]])
    assert steady_rate(changed, 16.0, "bvp") is None


def test_a_pulse_buried_in_motion_is_not_certain(rng):
    buried = pulse(1.2, rng) + 3 * np.cumsum(rng.standard_normal(T.size)) + 2 * rng.standard_normal(T.size)
    assert steady_rate(buried, 16.0, "bvp") is None
