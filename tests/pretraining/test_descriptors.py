"""The descriptors say what they are named for."""

from __future__ import annotations

import numpy as np
import pytest

from pretraining.descriptors import BANDS, COUNT, SEGMENTS, describe

FS, BAND = 100.0, (0.5, 32.0)  # six octaves: two bands an octave
T = np.arange(1000) / FS


def test_neither_offset_nor_gain_changes_them():
    x = np.random.default_rng(0).standard_normal(1000)
    np.testing.assert_allclose(describe(x, FS, BAND), describe(7 + 3 * x, FS, BAND), atol=1e-5)
    assert describe(x, FS, BAND).shape == (COUNT,)


@pytest.mark.parametrize(("pitch", "loudest"), [(0.6, 0), (2.4, 4), (9.6, 8), (30.0, 11)])
def test_a_tone_is_found_in_its_band_and_by_its_rhythm(pitch, loudest):
    facts = describe(np.sin(2 * np.pi * pitch * T), FS, BAND)
    assert facts[:BANDS].argmax() == loudest
    lag, height = facts[COUNT - 7 : COUNT - 5]
    periods = np.exp(lag) / np.sqrt(BAND[0] * BAND[1]) * pitch
    assert periods == pytest.approx(round(periods), abs=0.2)
    assert height > 0.5


def test_energy_is_found_in_its_segment():
    x = np.random.default_rng(0).standard_normal(1000) * (np.arange(1000) // 167 == 3)
    assert facts_of_segments(x).argmax() == 3


def facts_of_segments(x):
    return describe(x, FS, BAND)[BANDS : BANDS + SEGMENTS]


def test_a_rising_line_has_the_largest_trend():
    assert describe(T, FS, BAND)[-3] == pytest.approx(np.sqrt(3), rel=0.01)


@pytest.mark.parametrize("n", [16, 40, 5000])
def test_any_length_gives_finite_numbers(n):
    facts = describe(np.sin(np.arange(n)), 40.0, (0.5, 16.0))
    assert np.isfinite(facts).all()
    assert 7 <= facts[:BANDS].argmax() <= 9  # one radian a sample is 6.37 Hz: band 8 of 12, or next to it


def test_only_given_limits_let_the_level_show():
    x = np.random.default_rng(0).standard_normal(1000)
    low, high = (describe(x + level, FS, BAND, (-10, 30))[-2] for level in (0, 20))
    assert high - low == pytest.approx(0.5)
    assert describe(2 * x, FS, BAND, (-10, 30))[-1] - describe(x, FS, BAND, (-10, 30))[-1] > 0.6
