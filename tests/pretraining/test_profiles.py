"""Fine profiles: tones, lags and bursts are found where they are, whatever the offset and gain."""

from __future__ import annotations

import numpy as np
import pytest

from pretraining.profiles import BANDS, COUNT, LAGS, profile, spectrum_shares

FS, BAND = 100.0, (0.5, 32.0)  # six octaves
T = np.arange(1000) / FS
EDGES = np.geomspace(*BAND, BANDS + 1)


def described(x, fs=FS, band=BAND):
    return profile(x, fs, band, spectrum_shares(x, fs, band))


@pytest.mark.parametrize("pitch", [0.7, 1.1, 4.0, 9.0, 28.0])
def test_a_tone_is_found_in_its_band(pitch):
    shares = spectrum_shares(np.sin(2 * np.pi * pitch * T), FS, BAND)
    assert shares.sum() == pytest.approx(1, abs=1e-6)
    assert EDGES[shares.argmax()] <= pitch * 1.06
    assert EDGES[shares.argmax() + 1] >= pitch / 1.06
    assert described(np.sin(2 * np.pi * pitch * T))[:BANDS].argmax() == shares.argmax()


def test_bands_share_the_power_of_white_noise_by_their_widths():
    rng = np.random.default_rng(0)
    shares = np.mean([spectrum_shares(rng.standard_normal(1000), FS, BAND) for _ in range(400)], axis=0)
    np.testing.assert_allclose(shares[8:], (np.diff(EDGES) / np.ptp(EDGES))[8:], rtol=0.12)


def test_neighbouring_breathing_rates_fall_into_different_bands():
    t = np.arange(750) / 25
    slower, faster = (spectrum_shares(np.sin(2 * np.pi * n / 60 * t), 25.0, (0.05, 0.5)) for n in (16, 18))
    assert faster.argmax() - slower.argmax() == 2


def test_smooth_spectra_leave_nothing_fine():
    rng = np.random.default_rng(1)
    fine = np.mean([described(rng.standard_normal(4000))[:BANDS] for _ in range(100)], axis=0)
    assert np.abs(fine[5:-5]).max() < 0.1


@pytest.mark.parametrize("n", [181, 400, 603])  # whose transforms have an odd and an even number of points
def test_autocorrelation_by_its_definition(n):
    x = np.random.default_rng(2).standard_normal(n).cumsum()
    z = (x - x.mean()) / x.std()
    lags = np.geomspace(0.25 / BAND[1], 4 / np.sqrt(BAND[0] * BAND[1]), LAGS) * FS
    lag = 8
    low = int(lags[lag])
    low_height, high_height = (np.mean(z[: z.size - k] * z[k:]) for k in (low, low + 1))
    expected = low_height + (lags[lag] - low) * (high_height - low_height)
    assert described(x)[BANDS + lag] == pytest.approx(expected, abs=1e-5)


def test_energy_is_found_in_its_segment():
    x = np.random.default_rng(3).standard_normal(1000) * (np.arange(1000) // 100 == 5)
    segments = described(x)[BANDS + LAGS :]
    assert 12 <= segments.argmax() <= 14  # the sixth tenth of the window, in 24ths
    assert segments[0] < -3


def test_neither_offset_nor_gain_changes_them():
    x = np.random.default_rng(4).standard_normal(1000)
    np.testing.assert_allclose(described(x), described(7 + 3 * x), atol=1e-4)
    np.testing.assert_allclose(spectrum_shares(x, FS, BAND), spectrum_shares(7 + 3 * x, FS, BAND), atol=1e-5)


@pytest.mark.parametrize("n", [16, 40, 5000])
def test_any_length_gives_finite_numbers(n):
    numbers = described(np.sin(np.arange(n)), 40.0, (0.5, 16.0))
    assert numbers.shape == (COUNT,)
    assert np.isfinite(numbers).all()
    assert np.abs(numbers).max() < 5
