"""The filters, by physics: a tone inside the band passes, a tone an octave outside dies, nothing is shifted."""

import math
import re
import tracemalloc

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from tiny_biomoe.config import Recipe
from tiny_biomoe.errors import ConfigError, SignalError, SignalWarning
from tiny_biomoe.signals.filters import (
    BLOCK,
    MODALITIES,
    OUTSIDE,
    Passband,
    apply_filter,
    minimum_duration,
    modality_name,
    passband,
    share_in_band,
    warn_if_outside,
)

RECIPE = Recipe()
RATES = (1, 4, 25, 64, 100, 1000, 10_000)  # Hz
FILTERED = [
    pytest.param(row.name, fs, id=f"{row.name}-{fs}")
    for row in RECIPE.modalities
    for fs in RATES
    if row.filtered and (row.low or row.high < fs / 2)
]


def tone(frequency, fs, duration):
    return np.sin(2 * np.pi * frequency * np.arange(round(duration * fs)) / fs)


def gain(frequency, fs, edges):
    """What the filter makes of a tone of amplitude 1, in dB, in the middle half of a long signal."""
    lowest = min(frequency, edges.low or math.inf, edges.high or math.inf)
    filtered = apply_filter(tone(frequency, fs, 8 / lowest), fs, edges, RECIPE)
    middle = np.arange(filtered.size // 4, 3 * filtered.size // 4)
    window = np.hanning(middle.size)
    amplitude = abs(np.sum(window * filtered[middle] * np.exp(-2j * np.pi * frequency / fs * middle)))
    return 20 * np.log10(2 * amplitude / window.sum())


def noise(rng, n_samples=4000):
    """Half a random walk, so that every band holds something."""
    return 0.1 * np.cumsum(rng.standard_normal(n_samples)) + rng.standard_normal(n_samples)


@pytest.mark.parametrize(("modality", "fs"), FILTERED)
def test_a_tone_inside_passes_and_an_octave_outside_dies(modality, fs):
    edges = passband(fs, modality, RECIPE)
    low, high = edges.low, edges.high
    inside = math.sqrt(low * (high or fs / 4)) if low else high / 4
    assert abs(gain(inside, fs, edges)) < 0.5
    if high and 2 * high < fs / 2:
        assert gain(2 * high, fs, edges) < -48
    if low:
        assert gain(low / 2, fs, edges) < -48


@pytest.mark.parametrize(("modality", "fs"), FILTERED)
def test_an_edge_is_6_db_down(modality, fs):
    edges = passband(fs, modality, RECIPE)
    for edge in filter(None, (edges.low, edges.high)):
        assert gain(edge, fs, edges) == pytest.approx(20 * np.log10(1 / 2), abs=0.1)


@pytest.mark.parametrize("modality", ["eda", "bvp", "resp", "spo2"])
@pytest.mark.parametrize("fs", [25, 100])
def test_nothing_is_shifted_in_time(modality, fs):
    edges = passband(fs, modality, RECIPE)
    impulse = np.zeros(200 * fs + 1)
    impulse[100 * fs] = 1.0
    response = apply_filter(impulse, fs, edges, RECIPE)
    np.testing.assert_allclose(response, response[::-1], atol=1e-6 * response.max())
    assert response.argmax() == 100 * fs  # the cross-correlation of impulse and response peaks at lag 0


@pytest.mark.parametrize(
    ("modality", "fs", "expected"),
    [
        ("eda", 100, Passband(None, 5, None, 5)),
        ("bvp", 64, Passband(0.04, 1.7, 0.04, 1.7)),
        ("resp", 25, Passband(0.05, 0.5, 0.05, 0.5)),
        ("spo2", 100, Passband(0.04, 1.7, 0.04, 1.7)),
        ("ecg", 360, Passband(None, None, None, 50)),
        ("emg", 2000, Passband(None, None, None, 450)),
        ("emg", 200, Passband(None, None, None, 100)),
        ("eeg", 128, Passband(None, None, None, 50)),
    ],
)
def test_the_modality_table(modality, fs, expected):
    assert passband(fs, modality, RECIPE) == expected


@pytest.mark.parametrize(
    ("band", "expected"),
    [
        (None, Passband(None, None, 0.04, 1.7)),
        ((0.5, 8), Passband(0.5, 8, 0.5, 8)),
        ([0.5, 8], Passband(0.5, 8, 0.5, 8)),
        ((None, 8), Passband(None, 8, None, 8)),
        ((0.5, None), Passband(0.5, None, 0.5, 1.7)),  # shown up to the modality's own edge ...
        ((5, None), Passband(5, None, 5, 50)),  # ... or Nyquist where that lies below the band
        ((None, None), Passband(None, None, None, 1.7)),
    ],
)
def test_a_band_of_the_callers(band, expected):
    assert passband(100, "bvp", RECIPE, band) == expected


@pytest.mark.parametrize("band", ["all", 5, (5,), (1, 2, 3), (8, 0.5), (5, 5), (0, 5), (-1, 5), (None, 0), ("1", 5)])
def test_what_is_no_band_is_refused(band):
    with pytest.raises(ConfigError, match=r'band=.*: expected "modality", None or \(low, high\) in Hz'):
        passband(100, "bvp", RECIPE, band)


@pytest.mark.parametrize("edge", [np.nan, np.inf, True, 1j, 10**400], ids=lambda edge: repr(edge)[:20])
def test_what_is_no_edge_is_refused(edge):
    with pytest.raises(ConfigError, match="band="):
        passband(100, "bvp", RECIPE, (None, edge))


def test_no_band_leaves_the_signal_as_it_is(rng):
    signal = noise(rng)
    np.testing.assert_array_equal(apply_filter(signal, 100, passband(100, "bvp", RECIPE, None), RECIPE), signal)


def test_each_side_of_a_band_may_be_open():
    below, above = passband(100, "ecg", RECIPE, (None, 8)), passband(100, "ecg", RECIPE, (8, None))
    assert abs(gain(2, 100, below)) < 0.1 > abs(gain(32, 100, above))
    assert gain(16, 100, below) < -48 > gain(4, 100, above)


@pytest.mark.parametrize(
    ("modality", "fs", "samples", "seconds"),
    [
        ("eda", 100, 40, "0.4"),
        ("eda", 4, 16, "4"),
        ("resp", 25, 100, "4"),
        ("ecg", 1000, 40, "0.04"),
        ("spo2", 1, 16, "16"),
    ],
)
def test_row_06_too_short_states_the_minimum(modality, fs, samples, seconds, rng):
    edges = passband(fs, modality, RECIPE)
    signal = noise(rng, samples)
    assert minimum_duration(fs, edges, RECIPE) == pytest.approx(float(seconds))
    assert apply_filter(signal, fs, edges, RECIPE).shape == (samples,)
    with pytest.raises(SignalError, match=rf"at {fs} Hz: at least {seconds} s \({samples} samples\) are needed"):
        apply_filter(signal[1:], fs, edges, RECIPE)


def test_row_08_a_constant_has_a_level_only_where_the_filter_keeps_one():
    constant = np.full(400, 97.0)
    for modality, level in (("eda", 97), ("ecg", 97), ("bvp", 0), ("spo2", 0)):
        filtered = apply_filter(constant, 10, passband(10, modality, RECIPE), RECIPE)
        np.testing.assert_allclose(filtered, level, err_msg=modality)


@pytest.mark.parametrize(
    ("lowest", "highest", "message"),
    [
        (0, 1.7e308, "signal: the filtered signal overflows"),  # a square wave rings beyond its own range
        (-8.8e307, 8.8e307, "signal: the filtered signal overflows"),  # still finite, but its range is not
        (-1.7e308, 1.7e308, "signal spans more than float64 can hold: convert it to smaller units"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_row_10_overflow_is_an_error(lowest, highest, message):
    square = np.where(tone(0.3, 100, 20) >= 0, highest, lowest)
    with pytest.raises(SignalError, match=message):
        apply_filter(square, 100, passband(100, "eda", RECIPE), RECIPE)


def test_row_10_nothing_left_is_an_error(rng):
    fast = tone(450, 1000, 60) * np.hanning(60_000)
    with pytest.raises(SignalError, match=r"a\.csv holds nothing in 0\.05-0\.5 Hz.*check fs and modality"):
        apply_filter(fast, 1000, passband(1000, "resp", RECIPE), RECIPE, "a.csv")


def test_the_filter_is_linear(rng):
    edges = passband(64, "bvp", RECIPE)
    one, other = noise(rng), noise(rng)
    mixed = apply_filter(3 * one - 2e6 * other + 5, 64, edges, RECIPE)
    parts = 3 * apply_filter(one, 64, edges, RECIPE) - 2e6 * apply_filter(other, 64, edges, RECIPE)
    np.testing.assert_allclose(mixed, parts, atol=1e-8 * np.abs(parts).max())


@pytest.mark.parametrize(("modality", "kept"), [("eda", 1), ("bvp", 0)])
@pytest.mark.parametrize("offset", [1e3, -1e9, 1e12])
def test_row_17_a_huge_offset_costs_only_its_own_rounding(modality, kept, offset, rng):
    signal, edges = noise(rng), passband(64, modality, RECIPE)
    expected = apply_filter(signal, 64, edges, RECIPE) + kept * offset
    shifted = apply_filter(signal + offset, 64, edges, RECIPE)
    np.testing.assert_allclose(shifted, expected, rtol=0, atol=50 * np.spacing(abs(offset)))


@pytest.mark.parametrize("modality", ["eda", "bvp"])
def test_row_17_denormals_are_filtered_like_anything_else(modality, rng):
    signal, edges = noise(rng), passband(64, modality, RECIPE)
    expected = apply_filter(signal, 64, edges, RECIPE)
    tiny = apply_filter(signal * 1e-310, 64, edges, RECIPE)
    np.testing.assert_allclose(tiny * 1e300 * 1e10, expected, atol=1e-12 * np.abs(signal).max() + 1e-11)


@pytest.mark.parametrize(
    ("modality", "fs", "low", "dropped"),
    [
        ("eda", 4, None, "high cut-off 5 Hz is at or above Nyquist (2 Hz) and removes nothing"),
        ("eda", 10, None, "high cut-off 5 Hz is at or above Nyquist (5 Hz) and removes nothing"),
        ("spo2", 1, 0.04, "high cut-off 1.7 Hz is at or above Nyquist (0.5 Hz) and removes nothing"),
        ("bvp", 2, 0.04, "high cut-off 1.7 Hz is at or above Nyquist (1 Hz) and removes nothing"),
        ("resp", 1, 0.05, "high cut-off 0.5 Hz is at or above Nyquist (0.5 Hz) and removes nothing"),
    ],
)
def test_row_20_a_cut_off_at_or_above_nyquist_is_dropped_and_reported(modality, fs, low, dropped):
    assert passband(fs, modality, RECIPE) == Passband(low, None, low, fs / 2, (dropped,))


def test_row_20_the_other_edge_is_still_applied(rng):
    signal = noise(rng)
    wristband = apply_filter(signal, 4, passband(4, "eda", RECIPE), RECIPE)
    np.testing.assert_array_equal(wristband, signal)  # a low-pass at 5 Hz removes nothing from 4 Hz
    edges = passband(1, "spo2", RECIPE)
    assert abs(gain(0.2, 1, edges)) < 0.1
    assert gain(0.02, 1, edges) < -48


@pytest.mark.parametrize(
    ("modality", "fs", "band", "named"),
    [
        ("bvp", 1, (0.6, 0.9), r"0\.6 to 0\.9 Hz"),
        ("ecg", 100, (50, 90), "50.* to 90.* Hz"),
        ("resp", 0.08, "modality", r"0\.05 to 0\.5 Hz"),
        ("resp", 0.08, None, r"0\.05 to 0\.5 Hz"),  # not filtered, and still nothing to show
    ],
)
def test_row_20_a_band_wholly_above_nyquist_is_an_error(modality, fs, band, named):
    with pytest.raises(
        SignalError, match=f"the band {named} lies above the Nyquist frequency, {fs / 2:g} Hz at fs={fs:g}"
    ):
        passband(fs, modality, RECIPE, band)


@pytest.mark.parametrize("share", [0.9, 0.98, 0.9899])
@pytest.mark.parametrize("low", [None, 1e-5, 0.2])
def test_row_21_stable_just_below_nyquist(share, low, rng):
    """Cut-offs in shares of Nyquist: the margin is 1 %, beyond which a cut-off counts as at Nyquist."""
    edges = passband(2.0, "eda", RECIPE, (low, share))
    assert (edges.low, edges.high) == (low, share)
    white = rng.standard_normal(100_000)
    assert np.abs(apply_filter(white, 2.0, edges, RECIPE)).max() < 2 * np.abs(white).max()
    assert abs(gain(0.5, 2.0, Passband(0.2 if low else None, share, low, share))) < 0.1


def test_row_21_the_margin():
    assert passband(2.0, "eda", RECIPE, (None, 0.99)).high is None
    assert len(passband(2.0, "eda", RECIPE, (None, 0.99)).dropped) == 1


@pytest.mark.parametrize("edges", [Passband(None, 5, None, 5), Passband(1, 5, 1, 5)])
def test_a_band_begins_at_one_period_of_the_duration(edges):
    assert edges.shown(0.5) == (2, 5)
    assert edges.shown(100) == (edges.shown_low or 0.01, 5)


@pytest.mark.parametrize(
    ("name", "canonical"), [("PPG", "bvp"), ("gsr", "eda"), ("Rsp", "resp"), ("ECG", "ecg"), ("SpO2", "spo2")]
)
def test_row_30_documented_aliases_and_case_only(name, canonical):
    assert modality_name(name) == canonical
    with pytest.raises(ConfigError, match=f"unknown modality '{name} '"):
        modality_name(name + " ")


@pytest.mark.parametrize(
    ("name", "nearest"), [("edaa", "eda"), ("ecgg", "ecg"), ("SPO₂", "spo2"), (None, None), (3, None), ([], None)]
)
def test_row_28_unknown_modality_names_the_choices(name, nearest):
    with pytest.raises(ConfigError, match="unknown modality .*: choose from 'eda', 'gsr', 'bvp', 'ppg'") as caught:
        modality_name(name)
    assert re.findall(r"did you mean '(\w+)'\?", str(caught.value)) == ([nearest] if nearest else [])


def test_every_modality_has_numbers_and_a_meaning():
    assert list(MODALITIES) == [row.name for row in RECIPE.modalities]
    assert MODALITIES["eda"].measures == "electrodermal activity"


@pytest.mark.parametrize("n_samples", [80, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
@pytest.mark.parametrize(("low", "high", "kind"), [(None, 5, "low"), (0.5, None, "high"), (0.04, 1.7, "band")])
def test_row_16_blocks_give_what_one_call_gives(n_samples, low, high, kind, rng):
    signal, fs = noise(rng, n_samples), 64
    sections = butter(RECIPE.filter_order, (low, high) if kind == "band" else low or high, kind, fs=fs, output="sos")
    padding = min(n_samples - 1, max(6 * RECIPE.filter_order, math.ceil(fs / (low or high))))
    level, span = signal[0], np.ptp(signal)
    expected = sosfiltfilt(sections, (signal - level) / span, padlen=padding) * span + (0.0 if low else level)
    filtered = apply_filter(signal, fs, passband(fs, "bvp", RECIPE, (low, high)), RECIPE)
    np.testing.assert_allclose(filtered, expected, rtol=0, atol=1e-9 * span)


def test_row_16_a_long_recording_is_held_once_more(rng):
    signal = rng.standard_normal(10**7)
    tracemalloc.start()
    apply_filter(signal, 1000, passband(1000, "eda", RECIPE), RECIPE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * signal.nbytes


@pytest.mark.parametrize("duration", [3, 30, 300])  # the last is longer than one segment
@pytest.mark.parametrize(("inside", "outside"), [(10, 200), (1, 60), (49, 55)])
def test_the_share_in_band_is_that_of_two_tones(inside, outside, duration):
    edges = Passband(None, None, None, 50)
    for amplitude in (1, 1e-2, 1e-4):
        both = 1e3 + amplitude * tone(inside, 1000, duration) + tone(outside, 1000, duration)
        expected = amplitude**2 / (amplitude**2 + 1)
        assert share_in_band(both, 1000, edges) == pytest.approx(expected, rel=0.02), amplitude


def test_the_share_in_band_knows_no_unit_and_no_drift(rng):
    edges, t = passband(64, "bvp", RECIPE), np.arange(64 * 60) / 64
    pulse = tone(1.1, 64, 60)
    share = share_in_band(pulse, 64, edges)
    assert share == pytest.approx(1, abs=1e-6)
    assert share_in_band(1e300 * pulse, 64, edges) == pytest.approx(share)
    assert share_in_band(pulse * 1e-300, 64, edges) == pytest.approx(share)
    assert share_in_band(pulse + 1e5 * tone(0.005, 64, 60) + 1e4 * t, 64, edges) > 0.9
    assert share_in_band(np.full(100, 5.0), 64, edges) == 1.0


@pytest.mark.parametrize(
    ("modality", "fs", "frequency", "band"),
    [("ecg", 1000, 200, "modality"), ("emg", 10_000, 3000, "modality"), ("eda", 1000, 60, "modality"),
     ("eeg", 500, 60, "modality"), ("bvp", 1000, 60, None), ("resp", 100, 20, None), ("ecg", 1000, 60, (1, 10))],
)  # fmt: skip
def test_row_33_a_signal_outside_the_band_that_is_shown_is_warned_of(modality, fs, frequency, band):
    edges = passband(fs, modality, RECIPE, band)
    with pytest.warns(SignalWarning, match=r"a\.csv: of its power above .* only a share of .* check fs and modality"):
        warn_if_outside(tone(frequency, fs, 10), fs, edges, "a.csv")


def test_row_33_neither_examples_nor_white_noise_are_warned_of(examples, rng):
    white = {(row.name, rate): rng.standard_normal(20 * rate) for row in RECIPE.modalities for rate in RATES[2:]}
    signals = {(name, fs): signal for name, (signal, fs) in examples.items()} | white
    shares = {key: share_in_band(signal, key[1], passband(key[1], key[0], RECIPE)) for key, signal in signals.items()}
    assert min(shares.values()) > 10 * OUTSIDE, min(shares, key=shares.get)
