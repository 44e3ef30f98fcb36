"""Windows of a recording with gaps: a gap costs the windows that it touches, and no others (row 116)."""

from __future__ import annotations

import numpy as np
import pytest

from tiny_biomoe.config import Recipe
from tiny_biomoe.errors import SignalError
from tiny_biomoe.images.windows import FilteredRecording, draw_windows, runs
from tiny_biomoe.signals.request import Call
from tiny_biomoe.signals.validation import windows

FS = 4.0


@pytest.fixture
def signal(rng):
    return 2 + rng.standard_normal(2400).cumsum() * 0.02


def call(**options):
    return Call.check(Recipe(), FS, "eda", windowed=True, **options)


def test_runs():
    assert runs(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert runs(np.zeros(3, bool)) == []


@pytest.mark.parametrize(("policy", "length", "lost"), [("interpolate", 8, 1), ("interpolate", 4, 0), ("error", 1, 1)])
def test_row_116_a_gap_costs_its_windows(signal, policy, length, lost):
    gappy = signal.copy()
    gappy[1010 : 1010 + length] = np.nan
    found = FilteredRecording.by_window(gappy, call(nan_policy=policy), "a")
    spans = windows(2400, FS, 10)[20:30]
    drawn = draw_windows(found.call, found.limits, found.noise, [found.window(span) for span in spans])
    failed = [index for index, each in enumerate(drawn) if isinstance(each, str)]
    assert failed == [5] * lost
    assert found.refused(list(spans)).nonzero()[0].tolist() == failed
    if lost:
        assert drawn[5].startswith("a, 250-260 s, lies in or beside ")
        with pytest.raises(SignalError, match="missing samples|has a gap of 2 s"):
            FilteredRecording.of(gappy, call(nan_policy=policy), "a")


def test_row_116_windows_without_a_gap_are_those_of_their_run(signal):
    gappy = signal.copy()
    gappy[1000:1040] = np.nan
    found = FilteredRecording.by_window(gappy, call(), "a")
    alone = FilteredRecording.of(signal[1040:], call(), "a")
    np.testing.assert_array_equal(found.filtered[1040:], alone.filtered)
    whole = FilteredRecording.by_window(signal, call(), "a")
    np.testing.assert_array_equal(whole.filtered, FilteredRecording.of(signal, call(), "a").filtered)


def test_row_116_windows_are_refused_by_their_share_of_missing_samples(signal):
    gappy = signal.copy()
    gappy[400:404] = gappy[410:412] = np.nan  # 6 of 40
    for share, expected in ((0.1, [10]), (0.15, []), (0.0, [10])):
        found = FilteredRecording.by_window(gappy, call(nan_policy="interpolate"), "a", share)
        assert found.refused(list(windows(2400, FS, 10))).nonzero()[0].tolist() == expected
        assert (found.window((400, 440))[1].size == 0) == bool(expected)


def test_a_recording_that_is_all_gap(signal):
    with pytest.raises(SignalError, match="only missing samples"):
        FilteredRecording.by_window(np.full(2400, np.nan), call(), "a")
