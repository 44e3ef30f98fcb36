"""One call's arguments: the scale, and what is passed on for provenance."""

import json

import numpy as np
import pytest

from tiny_biomoe.config import Recipe
from tiny_biomoe.errors import ConfigError, SignalError, SignalWarning
from tiny_biomoe.signals.request import Call, check_scale, recording_limits

RECIPE = Recipe()


def test_the_scales_there_are():
    assert check_scale("window") == "window"
    assert check_scale((0, 5)) == check_scale([np.int64(0), np.float32(5)]) == (0.0, 5.0)
    assert check_scale("recording", from_recording=True) == "recording"
    with pytest.raises(ConfigError, match='scale="recording" needs windows cut from a recording: pass window='):
        check_scale("recording")


@pytest.mark.parametrize(
    "scale",
    ["windows", None, 5, (5,), (0, 1, 2), (5, 0), (5, 5), (0, np.nan), (0, np.inf), (0, True), ("0", 1), (0, 10**400)],
    ids=lambda scale: repr(scale)[:20],
)
def test_what_is_no_scale_is_refused(scale):
    with pytest.raises(ConfigError, match=r'scale=.*: expected "window", "recording" or \(low, high\)'):
        check_scale(scale)


def test_a_recordings_limits_are_its_percentiles():
    assert recording_limits(np.arange(1001.0), RECIPE) == (10, 990)
    resting = np.zeros(1000)
    resting[:5] = 9
    with pytest.raises(SignalError, match="rests on 0 nearly all the time.*pass"):
        recording_limits(resting, RECIPE)


def test_limits_come_from_the_caller_the_recording_or_nowhere():
    recording = np.arange(1001.0)
    for scale, limits, window_limits in (
        ("window", None, None),
        ((0, 5), (0, 5), (0, 5)),
        ("recording", None, (10, 990)),
    ):
        call = Call.check(RECIPE, 100, "eda", scale=scale, windowed=True)
        assert (call.limits, call.window_limits(recording)) == (limits, window_limits)


def test_a_call_knows_its_canonical_names():
    call = Call.check(RECIPE, 64, "PPG", ["Spectrogram-PSD", "waveform"], fusion="add")
    assert (call.modality, call.representations, call.fusion) == ("bvp", ("psd", "waveform"), "add")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"representation": []}, r"representation=\[\]: expected a name or a list of names"),
        ({"representation": None}, "representation=None: expected a name or a list of names"),
        ({"representation": ["psd", "PSD"]}, "names one representation twice"),
        ({"representation": ["psd", "angel"]}, "unknown representation 'angel'.*did you mean 'angle'"),
        ({"fusion": "mean"}, "unknown fusion 'mean': choose from 'concat', 'add'"),
        ({"readout": "row"}, "unknown readout 'row'.*did you mean 'rows'"),
        ({"max_gap": -1}, "max_gap=-1 must be a number of seconds, 0 or more"),
        ({"max_gap": np.nan}, "max_gap=nan must be a number of seconds"),
        ({"max_gap": None}, "max_gap=None must be a number of seconds"),
        ({"nan_policy": "drop"}, "unknown nan_policy 'drop': choose from 'error', 'interpolate'"),
    ],
)
def test_wrong_arguments_fail_at_the_door(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Call.check(RECIPE, 100, "eda", **arguments)


def test_row_01_missing_samples_are_reported(rng):
    signal = rng.standard_normal(200)
    signal[50:60] = np.nan
    filtered, quality = Call.check(RECIPE, 100, "eda", nan_policy="interpolate").prepare(signal)
    assert np.isfinite(filtered).all()
    assert quality.missing == 0.05


def test_row_09_a_clipped_signal_is_warned_of(rng):
    clipped = np.clip(np.cumsum(rng.standard_normal(500)), -1, 1)
    with pytest.warns(SignalWarning, match=r"a\.csv: \d\d% of the samples rest on"):
        _, quality = Call.check(RECIPE, 100, "eda").prepare(clipped, "a.csv")
    assert quality.clipped > 0.5


@pytest.mark.parametrize("modality", ["ecg", "eda"])
def test_row_33_a_tone_outside_the_band_is_warned_of_filtered_or_not(modality):
    hum = np.sin(2 * np.pi * 60 * np.arange(10_000) / 1000)
    with pytest.warns(
        SignalWarning, match=r"b\.csv: of its power above 0 Hz only a share of \de-\d\d lies in the band"
    ):
        Call.check(RECIPE, 1000, modality).prepare(hum, "b.csv")


def test_row_20_provenance_says_which_edge_was_dropped():
    described = Call.check(RECIPE, 4, "gsr", "scalogram").describe()
    assert (
        json.loads(json.dumps(described))
        == described
        == {
            "fs": 4.0,
            "modality": "eda",
            "representation": ["scalogram"],
            "fusion": None,
            "readout": "embedding",
            "filter": {"low": None, "high": None, "order": 4},
            "filter_dropped": ["high cut-off 5 Hz is at or above Nyquist (2 Hz) and removes nothing"],
            "shown_band": [None, 2.0],
            "scale": "window",
            "nan_policy": "error",
            "max_gap": None,
        }
    )


def test_row_20_provenance_says_which_edges_were_applied():
    described = Call.check(
        RECIPE, 64, "ppg", ["psd", "angle"], scale=(-1, 1), nan_policy="interpolate", max_gap=2
    ).describe()
    assert described["filter"] == {"low": 0.04, "high": 1.7, "order": 4}
    assert (described["fusion"], described["scale"], described["max_gap"]) == ("concat", [-1.0, 1.0], 2.0)
