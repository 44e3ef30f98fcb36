"""The picture that a vector must hold: where a tone lies, what does not change it, and its averages."""

from __future__ import annotations

import numpy as np
import pytest

from pretraining.picture_targets import COUNT, FREQUENCIES, PICTURE, ROWS, TIMES, averages, picture
from tiny_biomoe import Recipe

FS, BAND = 50.0, (0.5, 8.0)
TIME = np.arange(1500) / FS


def parts(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coarse picture (24, 40), means (112,) and spreads (112,) of the rows."""
    drawn = picture(signal, FS, BAND, Recipe())
    assert drawn.shape == (COUNT,) == (24 * 40 + 2 * 112,)
    return drawn[:PICTURE].reshape(FREQUENCIES, TIMES), drawn[PICTURE : PICTURE + ROWS], drawn[PICTURE + ROWS :]


@pytest.mark.parametrize("rate", [0.7, 2.0, 6.0])
def test_a_tone_is_the_loudest_row_at_its_place_and_steady(rate):
    coarse, means, spreads = parts(np.sin(2 * np.pi * rate * TIME))
    place = np.log(rate / BAND[0]) / np.log(BAND[1] / BAND[0])
    assert means.argmax() == pytest.approx(place * ROWS, abs=2)
    assert coarse[:, 20].argmax() == pytest.approx(place * FREQUENCIES, abs=1)
    assert means.max() == pytest.approx(0, abs=0.1)
    assert means.min() < -1.5
    assert spreads[means.argmax()] < spreads.max() / 2


def test_neighbouring_breathing_rates_differ_by_rows():
    """16 and 18 breaths a minute, a sixth of an octave apart in respiration's band."""
    band = (0.05, 0.5)
    means = [
        picture(np.sin(2 * np.pi * rate / 60 * np.arange(0, 32, 1 / 8)), 8.0, band, Recipe())[PICTURE : PICTURE + ROWS]
        for rate in (16, 18)
    ]
    assert means[1].argmax() - means[0].argmax() == pytest.approx(np.log(18 / 16) / np.log(10) * ROWS, abs=1.5)


def test_offset_gain_and_sign_change_nothing():
    rng = np.random.default_rng(0)
    signal = np.cumsum(rng.standard_normal(1500))
    drawn = picture(signal, FS, BAND, Recipe())
    assert np.allclose(picture(-30 * signal + 1000, FS, BAND, Recipe()), drawn, atol=1e-4)
    assert drawn[: PICTURE + ROWS].min() >= -2.001
    assert drawn.max() <= 0.7


def test_a_rhythm_that_ends_is_seen_where_it_ends():
    coarse, _, spreads = parts(np.where(TIME < 15, np.sin(2 * np.pi * 2 * TIME), 0.0))
    row = round(FREQUENCIES / 2)
    assert coarse[row, 5:15].min() > coarse[row, 25:35].max() + 1
    assert spreads.max() > 0.5


def testaverages_cut_numbers_where_they_must():
    weights = averages(24)
    assert np.allclose(weights.sum(1), 1)
    assert np.allclose(weights.sum(0), 24 / 224)
    assert weights[0, 9] == pytest.approx(24 / 224 / 3)
    assert np.allclose(averages(112) @ np.arange(224.0), np.arange(224.0).reshape(112, 2).mean(1))
