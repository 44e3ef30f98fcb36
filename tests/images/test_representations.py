"""The six representations against other people's code, and against signals small enough to work by hand."""

import dataclasses
import inspect
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import pywt
from matplotlib import mlab
from scipy.signal import chirp, resample_poly
from scipy.spatial.distance import cdist

from tiny_biomoe.config import IMAGE_SIZE, Recipe
from tiny_biomoe.errors import ConfigError
from tiny_biomoe.images.representations import (
    REPRESENTATIONS,
    angle,
    decimate,
    delay_embedding,
    morlet_frequencies,
    phase,
    psd,
    recurrence,
    scalogram,
    spectrogram,
    waveform,
)
from tiny_biomoe.signals.request import ALIASES, REPRESENTATION_NAMES, representation_name

RECIPE = Recipe()


def tone(frequency, fs, n_samples):
    return np.sin(2 * np.pi * frequency * np.arange(n_samples) / fs)


def upright(matrix):
    """Rows from the lowest frequency, or the first instant, upwards: images have theirs at the bottom."""
    return matrix[::-1]


# --- Spectrograms ----------------------------------------------------------------------------------------------------
# A grid on which ours and matplotlib's coincide: 500 points at 100 Hz make bins of 0.2 Hz, and 0.4-45 Hz are the 224
# bins from number 2. Half a cycle a row makes frames of 251 samples, and 251 + 223 * 4 samples hold 224 frames, one
# every 4 samples. The band reaches above 100 Hz / 5, so nothing is decimated.
FS, BAND, FRAME, HOP, PADDED, FIRST = 100.0, (0.4, 45.0), 251, 4, 500, 2
GRID = FRAME + 223 * HOP


@pytest.fixture
def zero_mean(rng):
    signal = np.cumsum(rng.standard_normal(GRID)) + rng.standard_normal(GRID)
    return signal - signal.mean()


def matplotlib_specgram(signal, mode):
    matrix, frequencies, _ = mlab.specgram(
        signal, NFFT=FRAME, Fs=FS, window=mlab.window_hanning, noverlap=FRAME - HOP, pad_to=PADDED, mode=mode
    )
    np.testing.assert_allclose(frequencies[[FIRST, FIRST + 223]], BAND)
    return matrix[FIRST : FIRST + IMAGE_SIZE]


def test_angle_is_matplotlibs(zero_mean):
    difference = upright(angle(zero_mean, FS, BAND, RECIPE)) - matplotlib_specgram(zero_mean, "angle")
    np.testing.assert_allclose(np.exp(1j * difference), 1, atol=1e-8)


def test_phase_is_matplotlibs_but_for_whole_turns_below_the_band(zero_mean):
    turns = (upright(phase(zero_mean, FS, BAND, RECIPE)) - matplotlib_specgram(zero_mean, "phase")) / (2 * np.pi)
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-8)
    np.testing.assert_array_equal(np.round(turns), np.round(turns[:1]).repeat(IMAGE_SIZE, axis=0))


def test_psd_is_matplotlibs_relative_to_a_tone_of_amplitude_one(zero_mean):
    """matplotlib gives 2 |X|^2 / (fs sum w^2); a tone of amplitude 1 peaks at |X| = (sum w) / 2."""
    window = np.hanning(FRAME)
    tone_of_one = 2 * (window.sum() / 2) ** 2 / (FS * np.sum(window**2))
    expected = 10 * np.log10(matplotlib_specgram(zero_mean, "psd") / tone_of_one)
    np.testing.assert_allclose(upright(psd(zero_mean, FS, BAND, RECIPE)), expected, atol=1e-6)


@pytest.mark.parametrize("fs", [100.0, 125.0, 500.0, 1000.0])
def test_psd_of_a_tone_of_amplitude_one_is_zero_db(fs):
    matrix = psd(tone(20, fs, int(10 * fs)), fs, (0.4, 45.0), RECIPE)
    np.testing.assert_allclose(matrix.max(axis=0), 0.0, atol=0.02)


@pytest.mark.parametrize("n_samples", [16, 20, 32, 64])
def test_psd_keeps_its_unit_in_short_frames(n_samples):
    """Frames of 8 to 32 samples: what is left is the leakage of the tone's negative frequency."""
    matrix = psd(tone(25, 100, n_samples), 100.0, (100 / n_samples, 50.0), RECIPE)
    assert matrix.max(axis=0).mean() == pytest.approx(0.0, abs=0.3)


def test_angle_counts_from_the_start_of_its_frame():
    """An impulse in the middle of a frame, 125 samples in, has turned by 125 f / fs at frequency f."""
    impulse = np.zeros(GRID)
    impulse[HOP * 100 + 125] = 1.0  # in the middle of frame 100
    frequencies = np.linspace(*BAND, IMAGE_SIZE)[20:]  # above what the mean leaks into
    measured = upright(angle(impulse, FS, BAND, RECIPE))[20:, 100]
    np.testing.assert_allclose(np.exp(1j * (measured + 2 * np.pi * frequencies * 125 / FS)), 1, atol=1e-3)


def test_fractional_frames_differ_where_instants_outnumber_samples(rng):
    """40 samples, frames of 20: 21 whole starts, and yet 224 instants, each between its neighbours."""
    spectrum, frame = spectrogram(rng.standard_normal(40), 100.0, (2.5, 50.0), RECIPE)
    assert frame == 20
    steps = np.abs(np.diff(spectrum, axis=1)).max(axis=0)
    assert steps.min() > 0
    assert steps.max() < 0.4 * np.abs(spectrum).max()


@pytest.mark.parametrize("fs", [125, 250, 300, 360, 500, 1000, 4096])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_each_row_stands_for_its_share_of_the_band(fs, share):
    """Transforms have the next fast length, so that rows lie up to 7 % closer than the band's width asks for."""
    frequency = 0.5 + share * 49.5
    row = upright(psd(tone(frequency, fs, 10 * fs), float(fs), (0.5, 50.0), RECIPE)).sum(axis=1).argmax()
    assert share * 223 - 1 <= row <= 1.07 * share * 223 + 1


def test_silence_has_one_angle():
    """A flat window under a scale from outside: no rounding noise is drawn (row 8)."""
    for level in (0.0, 0.3, 97.0, -1 / 3):
        for function in (angle, phase):
            assert np.ptp(function(np.full(1000, level), FS, BAND, RECIPE)) == 0, (level, function.__name__)


# --- Scalogram -------------------------------------------------------------------------------------------------------


def test_scalogram_is_pywavelets_inside_the_cone_of_influence(rng):
    """45 samples an instant, so that instants fall on samples 22, 67, ...; pywt's scales, in samples, are long ones."""
    fs, band, n = 1000.0, (2.0, 20.0), 45 * IMAGE_SIZE
    signal = np.cumsum(rng.standard_normal(n))
    signal -= signal.mean()
    frequencies = morlet_frequencies(band)[::8]
    spread = RECIPE.morlet_omega / (2 * np.pi)  # standard deviation of the wavelet, in periods of its carrier
    scales = fs / frequencies
    coefficients, _ = pywt.cwt(signal, scales, f"cmor{2 * spread**2}-1.0", method="fft")
    expected = (2 * np.abs(coefficients) / np.sqrt(scales)[:, None])[:, 22::45]
    ours = upright(scalogram(signal, fs, band, RECIPE))[::8]
    instants = np.arange(22, n, 45)
    share = 0.01 if "precision" in inspect.signature(pywt.cwt).parameters else 0.03  # coarser before pywt 1.9
    for row, measured, frequency in zip(expected, ours, frequencies, strict=True):
        reach = 3.5 * spread / frequency * fs  # samples; beyond, the ends are extended in another way
        inside = (instants > reach) & (instants < n - reach)
        assert inside.sum() > 70
        np.testing.assert_allclose(measured[inside], row[inside], atol=share * row.max())


@pytest.mark.parametrize("fs", [100.0, 1000.0])
@pytest.mark.parametrize("row", [40, 112, 200])
def test_a_tone_of_amplitude_one_gives_one_in_its_row(fs, row):
    band = (0.5, 45.0)
    matrix = upright(scalogram(tone(morlet_frequencies(band)[row], fs, int(30 * fs)), fs, band, RECIPE))
    np.testing.assert_allclose(matrix[row, 56:168], 1.0, atol=1e-3)
    np.testing.assert_array_equal(matrix[:, 56:168].argmax(axis=0), row)


def test_a_chirps_ridge_rises_without_falling():
    fs, band = 200.0, (1.0, 50.0)
    t = np.arange(4000) / fs
    matrix = upright(scalogram(chirp(t, 2, t[-1], 40, method="logarithmic"), fs, band, RECIPE))
    ridge = matrix.argmax(axis=0)[20:-20]
    expected = np.interp(
        np.log(2 * 20 ** np.linspace(0, 1, IMAGE_SIZE)), np.log(morlet_frequencies(band)), np.arange(224.0)
    )
    assert np.diff(ridge).min() >= 0
    np.testing.assert_allclose(ridge, expected[20:-20], atol=2)


def test_scalogram_rows_do_not_depend_on_the_blocks_they_are_made_in(rng):
    """Bins are worked in blocks of 448 and folded; direct synthesis of one row, at its 224 instants, for comparison."""
    fs, band, n = 50.0, (0.5, 20.0), 1000
    signal = rng.standard_normal(n)
    period = np.concatenate([signal, signal[::-1]]) - signal.mean()
    bins = np.arange(n + 1)
    instants = (np.arange(IMAGE_SIZE) + 0.5) * n / IMAGE_SIZE - 0.5
    waves = np.exp(2j * np.pi * np.outer(bins, instants) / (2 * n))
    ours = upright(scalogram(signal, fs, band, RECIPE))
    for row in (0, 100, 223):
        centre = morlet_frequencies(band)[row]
        wavelet = np.exp(-0.5 * ((bins * fs / (2 * n) / centre - 1) * RECIPE.morlet_omega) ** 2)
        np.testing.assert_allclose(ours[row], np.abs((wavelet * np.fft.rfft(period) / n) @ waves), atol=1e-5)


@pytest.mark.parametrize(("n_samples", "factor"), [(1800, 2), (9999, 7), (40, 25), (5000, 100), (6000, 1001)])
def test_decimation_is_scipys(n_samples, factor, rng):
    signal = np.cumsum(rng.standard_normal(n_samples))
    expected = resample_poly(signal, 1, factor, window=("kaiser", 5.0))
    np.testing.assert_allclose(decimate(signal, factor), expected, atol=1e-12 * np.abs(signal).max())


# --- Recurrence ------------------------------------------------------------------------------------------------------


PYTS = """
import sys, numpy as np
from pyts.image import RecurrencePlot
signal = np.load(sys.argv[1])
np.save(sys.argv[1], RecurrencePlot(dimension=3, time_delay=4).transform(signal[None])[0])
"""


def test_recurrence_is_pytss(rng, tmp_path):
    """At 64 Hz a quarter of the period of sqrt(1 * 16) = 4 Hz is 4 samples; 224 + 2 * 4 samples are one an instant.

    pyts runs in a process of its own without numba's compiler: at import it compiles for half a minute what this does
    not need, and numba cannot be switched off where something else in the process has compiled with it.
    """
    signal, file = np.cumsum(rng.standard_normal(232)), tmp_path / "signal.npy"
    np.save(file, signal)
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", PYTS, file], check=True, env=environment)
    expected = np.load(file)
    np.testing.assert_allclose(upright(recurrence(signal, 64.0, (1.0, 16.0), RECIPE)), expected, atol=1e-12)


@pytest.mark.parametrize("n_samples", [40, 232, 1000])
@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_recurrence_is_the_distance_of_delay_embedded_states(n_samples, dimension, rng):
    signal, recipe = rng.standard_normal(n_samples), dataclasses.replace(RECIPE, recurrence_dimension=dimension)
    states = delay_embedding(signal, 64.0, (1.0, 16.0), recipe)
    assert states.shape == (dimension, IMAGE_SIZE)
    np.testing.assert_allclose(
        upright(recurrence(signal, 64.0, (1.0, 16.0), recipe)), cdist(states.T, states.T), atol=1e-12
    )


def test_delay_embedding_averages_what_an_instant_spans():
    """450 samples less a reach of 2 are two samples an instant: means of neighbours, one sample later a coordinate."""
    signal = np.random.default_rng(0).standard_normal(450)
    states = delay_embedding(signal, 4.0, (1.0, 1.0), RECIPE)  # a delay of a quarter second, one sample
    pairs = (signal[:-1] + signal[1:]) / 2
    np.testing.assert_allclose(states, [pairs[0:448:2], pairs[1:449:2], pairs[2:450:2]], atol=1e-12)


def test_recurrence_of_six_samples_by_hand():
    """The ramp 0 1 2 3 4 5 with a delay of one sample: a reach of 2 leaves 4 samples, 56 instants each.

    Instant i stands at t = (i - 27.5) / 56 samples, from -0.49 to 3.49, and its state is (t, t+1, t+2), except that the
    ramp is held at 0 before sample 0 and at 5 after sample 5: the first and last 28 instants have one coordinate fixed.
    """
    matrix = upright(recurrence(np.arange(6.0), 4.0, (1.0, 1.0), RECIPE))
    assert matrix[28, 28] == 0
    assert matrix[28, 29] == pytest.approx(np.sqrt(3) / 56)  # all three coordinates move by 1/56
    assert matrix[28, 195] == pytest.approx(np.sqrt(3) * 167 / 56)  # the whole free ramp, t = 1/112 to 335/112
    assert matrix[0, 1] == pytest.approx(np.sqrt(2) / 56)  # t < 0: the first coordinate rests at 0
    assert matrix[0, 28] == pytest.approx(np.sqrt((1 / 112) ** 2 + 2 * (28 / 56) ** 2))
    assert matrix[223, 222] == pytest.approx(np.sqrt(2) / 56)  # t + 2 > 5: the last rests at 5
    # The first and the last instant, each with one coordinate at rest, lie furthest apart: 195.5, 223, 195.5 steps.
    assert matrix.max() == matrix[0, 223] == pytest.approx(np.sqrt(2 * (195.5 / 56) ** 2 + (223 / 56) ** 2))


def test_recurrence_of_one_spike_by_hand():
    """0 0 4 0 0 0 with the same delay: the tent around sample 2 passes from the third coordinate to the first."""
    signal = np.array([0, 0, 4.0, 0, 0, 0])
    near, far = 4 * 111 / 112, 4 / 112  # the tent 1/112 and 111/112 of a sample from its top
    instants = [27, 28, 84, 140]  # t = -1/112, 1/112, 1 + 1/112, 2 + 1/112
    states = delay_embedding(signal, 4.0, (1.0, 1.0), RECIPE)[:, instants]
    expected = [[0, 0, far, near], [0, far, near, 0], [near, near, 0, 0]]  # x(t), x(t + 1), x(t + 2)
    np.testing.assert_allclose(states, expected, atol=1e-12)
    matrix = upright(recurrence(signal, 4.0, (1.0, 1.0), RECIPE))
    assert matrix[27, 28] == pytest.approx(far)
    assert matrix[28, 84] == pytest.approx(np.sqrt(far**2 + (near - far) ** 2 + near**2))
    assert matrix[27, 140] == pytest.approx(near * np.sqrt(2))


# --- Waveform --------------------------------------------------------------------------------------------------------


def test_waveform_of_six_samples_by_hand():
    """1 1 1 -1 -1 -1: a line at row 4, a fall through the middle, a line at row 220; each is 2 pixels thick.

    A sample takes 224 / 6 = 37.33 columns, so the fall runs from column 93.33 to 130.67, 216 rows in 37.33 columns:
    81 / 14 = 5.786 rows a column, through the middle of the image.
    """
    covered = waveform(np.array([1.0, 1, 1, -1, -1, -1]), 1.0, (0.1, 0.5), RECIPE)
    assert covered[:, :93].sum(axis=0).tolist() == [2.0] * 93
    assert (covered[3:5, :93] == 1).all()  # row 4 is the border of pixels 3 and 4
    assert (covered[219:221, 131:] == 1).all()
    assert covered[:, 131:].sum(axis=0).tolist() == [2.0] * 93
    # Column 112 is entered at row 112 and left at 117.786; with half the thickness at both ends, 111 to 118.786.
    np.testing.assert_allclose(covered[110:120, 112], [0, 1, 1, 1, 1, 1, 1, 1, 11 / 14, 0], atol=1e-12)
    # Column 93 holds the corner: the line rests at row 4 for a third of it and falls to 4 + 2/3 * 5.786 = 7.857.
    np.testing.assert_allclose(covered[2:10, 93], [0, 1, 1, 1, 1, 1, 6 / 7, 0], atol=1e-12)
    np.testing.assert_allclose(covered, covered[::-1, ::-1], atol=1e-12)  # the signal is odd about its middle


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (1.0, {3: 1, 4: 1}),
        (-1.0, {219: 1, 220: 1}),
        (5.0, {3: 1, 4: 1}),  # beyond a scale from outside: held at its edge
        (0.0, {111: 1, 112: 1}),
        (1 / 216, {110: 0.5, 111: 1, 112: 0.5}),  # half a pixel above the middle
    ],
)
def test_waveform_of_a_level(value, rows):
    expected = np.zeros(IMAGE_SIZE)
    expected[list(rows)] = list(rows.values())
    np.testing.assert_allclose(
        waveform(np.full(6, value), 1.0, (0.1, 0.5), RECIPE), expected[:, None].repeat(224, 1), atol=1e-12
    )


def test_waveform_loses_no_spike():
    """One sample in 100 000 reaches the top: its column is covered from there to the line."""
    signal = np.full(100_000, -0.5)
    signal[25_100] = 1.0  # 446.43 samples a column: column 56
    covered = waveform(signal, 1000.0, (0.01, 50.0), RECIPE)
    assert (covered[3:167, 56] == 1).all()
    assert covered[:160].sum(axis=0).nonzero()[0].tolist() == [56]


# --- All of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [psd, scalogram], ids=lambda function: function.__name__)
def test_low_frequencies_are_at_the_bottom_and_time_runs_left_to_right(function):
    """A slow burst in the first quarter, a fast one in the last."""
    fs, band = 100.0, (0.5, 45.0)
    t = np.arange(2000) / fs
    bursts = [np.sin(2 * np.pi * f * t) * np.exp(-(((t - middle) / 1.5) ** 2)) for f, middle in ((3, 5), (30, 15))]
    slow, fast = (function(burst, fs, band, RECIPE) for burst in bursts)
    assert np.unravel_index(slow.argmax(), slow.shape)[0] > np.unravel_index(fast.argmax(), fast.shape)[0] + 50
    assert 45 < slow.max(axis=0).argmax() < 67
    assert 157 < fast.max(axis=0).argmax() < 179


def test_recurrence_has_its_diagonal_from_bottom_left_to_top_right(rng):
    matrix = recurrence(rng.standard_normal(500), 100.0, (1.0, 50.0), RECIPE)
    np.testing.assert_array_equal(np.diag(matrix[::-1]), 0)
    np.testing.assert_array_equal(matrix, matrix[::-1, ::-1].T)


@pytest.mark.parametrize("name", REPRESENTATIONS)
@pytest.mark.parametrize(
    ("n_samples", "fs"), [(16, 1.0), (17, 1.0), (20, 0.3), (448, 7.3), (449, 100.0), (10**6, 1000.0)]
)
def test_every_size_gives_a_finite_matrix(name, n_samples, fs, rng):
    signal = np.clip(rng.standard_normal(n_samples) / 3, -1, 1)
    matrix = REPRESENTATIONS[name](signal, fs, (fs / n_samples, min(fs / 2, 50.0)), RECIPE)
    assert matrix.shape == (IMAGE_SIZE, IMAGE_SIZE)
    assert np.isfinite(matrix).all()
    assert np.ptp(matrix) > 0.01


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_a_long_signal_leaves_little_memory_behind(name, rng):
    """What is kept for the next signal of the same length is worth keeping: a few megabytes."""
    tracemalloc.start()
    REPRESENTATIONS[name](rng.standard_normal(10**6), 1000.0, (0.001, 450.0), RECIPE)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 50e6  # bytes


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        *((name, name) for name in REPRESENTATIONS),
        *ALIASES.items(),
        ("Scalogram", "scalogram"),
        ("Spectrogram-Angle", "angle"),
    ],
)
def test_row_30_documented_aliases_and_case_only(name, canonical):
    assert representation_name(name) == canonical
    with pytest.raises(ConfigError, match="unknown representation"):
        representation_name(f" {name}")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("scalagram", "scalogram"), ("wave form", "waveform"), ("spectrogram-psd ", "spectrogram-psd")],
)
def test_row_28_unknown_representation_names_the_nearest(name, nearest):
    with pytest.raises(
        ConfigError, match=f"unknown representation '{name}': choose from 'angle', .*did you mean '{nearest}'"
    ):
        representation_name(name)


@pytest.mark.parametrize("name", [None, 1, ["angle"]])
def test_row_28_what_is_no_name_is_refused(name):
    with pytest.raises(ConfigError, match="unknown representation .*: choose from 'angle', 'phase', 'psd'"):
        representation_name(name)


def test_every_name_that_a_call_accepts_is_drawn():
    assert tuple(REPRESENTATIONS) == REPRESENTATION_NAMES
