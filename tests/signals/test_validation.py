"""The door: what a signal and a rate must be (rows 1-19), how good a signal is, where windows are cut."""

import re
import tracemalloc
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_biomoe.errors import ConfigError, SignalError, SignalTypeError, SignalWarning
from tiny_biomoe.readers.read import Recording
from tiny_biomoe.signals.quality import Quality, quality, warn_if_clipped
from tiny_biomoe.signals.validation import (
    check_fs,
    check_length,
    check_positive,
    check_signals,
    cut,
    fill_gaps,
    is_flat,
    is_number,
    windows,
)

NAN = np.nan


def test_row_01_nan_is_an_error_with_count_and_first_index():
    with pytest.raises(SignalError, match=r"signal has 2 missing samples \(NaN\), the first at index 1: .*interpolate"):
        fill_gaps(np.array([0, NAN, 1, NAN]), 1.0, "error", 1.0)


def test_row_01_gaps_are_interpolated_on_request():
    filled, missing = fill_gaps(np.array([NAN, 1, NAN, NAN, 4, NAN]), 2.0, "interpolate", max_gap=1.0)
    assert filled.tolist() == [1, 1, 2, 3, 4, 4]  # ends hold the nearest sample
    assert missing == pytest.approx(4 / 6)


@pytest.mark.parametrize("policy", ["error", "interpolate"])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_row_02_infinite_samples_are_an_error(value, policy):
    with pytest.raises(SignalError, match="1 infinite samples, the first at index 2"):
        fill_gaps(np.array([0, 1, value, NAN]), 1.0, policy, 9.0)


@pytest.mark.parametrize("policy", ["error", "interpolate"])
def test_row_03_nothing_but_nan_is_never_interpolated(policy):
    with pytest.raises(SignalError, match="only missing samples"):
        fill_gaps(np.full(5, NAN), 1.0, policy, 9.0)


def test_row_04_a_gap_longer_than_max_gap_is_an_error():
    signal = np.array([0, NAN, 2, NAN, NAN, NAN, 6])
    with pytest.raises(SignalError, match=r"a gap of 1\.5 s at index 3, longer than max_gap=1 s"):
        fill_gaps(signal, 2.0, "interpolate", max_gap=1.0)
    assert fill_gaps(signal, 2.0, "interpolate", max_gap=1.5)[0].tolist() == [0, 1, 2, 3, 4, 5, 6]


EMPTY = {
    "signal": [[], [[]], np.zeros(0), np.zeros((0, 5))],
    "signal[0]": [np.zeros((3, 0))],
    "signal[1]": [[[1.0], []]],
}


@pytest.mark.parametrize(("name", "empty"), [(name, empty) for name, cases in EMPTY.items() for empty in cases])
def test_row_05_empty_is_an_error(name, empty):
    with pytest.raises(SignalError, match=f"^{re.escape(name)} is empty"):
        check_signals(empty)


def test_row_06_too_short_states_the_minimum_in_seconds_and_samples():
    message = r"a\.csv has 19 samples \(1\.9 s\), too short for EDA at 10 Hz: at least 2 s \(20 samples\) are needed"
    with pytest.raises(SignalError, match=message):
        check_length(np.zeros(19), 10.0, 2.0, "EDA", "a.csv")
    check_length(np.zeros(20), 10.0, 2.0, "EDA")


def test_row_07_a_recording_shorter_than_one_window():
    with pytest.raises(SignalError, match=r"lasts 1\.5 s, less than one window of 2 s"):
        windows(3, fs=2, window=2)
    assert list(windows(3, fs=2, window=2, short="drop")) == []
    assert list(windows(3, fs=2, window=2, short="pad")) == [(0, 4)]
    assert [part.tolist() for part in cut(np.array([5.0, 6, 7]), [(0, 4)])] == [[5, 6, 7, 7]]
    with pytest.raises(ConfigError, match="unknown short 'padded'"):
        windows(3, fs=2, window=2, short="padded")


@pytest.mark.parametrize(("signal", "flat"), [([3.0, 3, 3], True), ([3.0, 3, 3.1], False), ([1e300], True)])
def test_row_08_flat_means_one_value(signal, flat):
    assert is_flat(np.array(signal)) is flat


def test_row_09_clipping_above_a_stated_share_is_warned_of():
    wave = np.sin(np.linspace(0, 20, 1000))
    with pytest.warns(SignalWarning, match=r"a\.csv: \d\d% of the samples rest on the lowest or highest value"):
        warn_if_clipped(quality(np.clip(wave, -0.5, 0.5)), "a.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_clipped(quality(wave))
        warn_if_clipped(quality(np.zeros(9)))  # flat, which says more than clipped


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        ([*range(20), 30, 30, 30, 2], Quality(0.0, 2 / 24, 3 / 24)),
        ([0, 0, 0, *range(1, 18), 30, 30, 30, 30], Quality(0.0, 5 / 24, 7 / 24)),
        ([30, 30, *range(1, 17), 5, 5, 5, 5, 0, 1], Quality(0.0, 4 / 24, 0.0)),  # two at the top, four in the middle
        ([*[0, 30] * 4, *range(1, 17)], Quality(0.0, 0.0, 0.0)),  # goes from rail to rail and rests on neither
        ([97, 97, 97, 96, 96, 98, 98, 98], Quality(0.0, 5 / 8, 0.0)),  # whole percents are coarse, not clipped
    ],
)
def test_row_09_quality_counts_rests(signal, expected):
    assert quality(np.array(signal, float)) == expected


def test_row_11_one_signal_or_several():
    rows, single = check_signals([1, 2, 3])
    assert (single, [row.tolist() for row in rows]) == (True, [[1, 2, 3]])
    rows, single = check_signals(np.array([[1, 2, 3]]))
    assert (single, [row.tolist() for row in rows]) == (False, [[1, 2, 3]])  # (1, n) is a batch of one
    rows, single = check_signals([[1, 2], (3.5,), np.arange(3)])
    assert (single, [row.tolist() for row in rows]) == (False, [[1, 2], [3.5], [0, 1, 2]])


@pytest.mark.parametrize("signals", [np.zeros((2, 3, 4)), 5.0, [np.zeros((3, 1))], [np.zeros((2, 3)), np.zeros(3)]])
def test_row_11_other_shapes_are_shown_the_shape_wanted(signals):
    with pytest.raises(SignalError, match=r"has shape \(.*\(n_samples,\)"):
        check_signals(signals)


def test_row_11_a_column_is_no_batch_of_signals_of_one_sample():
    with pytest.raises(SignalError, match=r"shape \(100, 1\), 100 signals of one sample each: .*\[:, 0\]"):
        check_signals(np.zeros((100, 1)))
    signals, single = check_signals(np.ones((1, 500)))
    assert (len(signals), single) == (1, False)


def test_row_11_a_short_signal_is_told_how_arrays_are_read():
    with pytest.raises(SignalError, match=r"9 samples .* arrays are \(n_samples,\) or \(n_signals, n_samples\)"):
        check_length(np.zeros(9), 10.0, 1.6, "EDA")


def test_row_11_many_short_signals_are_no_transposed_recording(rng):
    walk = np.cumsum(rng.standard_normal(64 * 500))
    beats = np.sin(np.linspace(0, 6, 100)) + 0.1 * rng.standard_normal((1000, 100)) + rng.standard_normal((1000, 1))
    overlapping = np.lib.stride_tricks.sliding_window_view(walk, 64)[::16]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for windows_of_one in (walk.reshape(500, 64), overlapping, beats, walk[:128].reshape(2, 64)):
            check_signals(windows_of_one)
    for transposed in (walk.reshape(64, 500).T, walk.reshape(16, 2000).T.astype(np.float32)):
        with pytest.warns(SignalWarning, match=r"changes less from row to row .* pass its transpose, \(n_signals, n_"):
            check_signals(transposed)


@pytest.mark.parametrize(
    ("signals", "told"),
    [
        (np.ones(3, complex), "signal has dtype complex128: samples must be real"),
        (np.array(["1", "2"]), r"signal holds '1' \(str\) at index 0: .*float\(\)"),
        (np.array([1, None, 2]), r"signal holds 'None' \(NoneType\) at index 1: .*float\(\"nan\"\)"),
        ("123", r"signal is text: .*recordings\.read\(path\)"),
        (Path("a.csv"), r"signal is text: .*recordings\.read\(path\)"),
        (Recording(np.ones(3), 1.0, None, "a", None, "a.csv"), r"signal is a Recording: .*\.signal and \.fs"),
        (None, r"signal is a NoneType: .*\(n_samples,\)"),
        ({"a": 1}, r"signal is a dict: .*\(n_samples,\)"),
        ([1, [2, 3]], "signal cannot be read as an array"),
        ([[1, 2], ["a", "b"]], r"signal\[1\] holds 'a' \(str\) at index 0"),
        (np.ma.masked_invalid([1.0, NAN]), "signal is a masked array"),
        ([np.ma.masked_invalid([1.0, NAN])], r"signal\[0\] is a masked array"),
        (np.array(["2020-01-01"], "datetime64[s]"), "signal has dtype datetime64"),
    ],
)
def test_row_12_what_has_no_real_samples_is_a_type_error(signals, told):
    with pytest.raises(SignalTypeError, match=f"^{told}") as caught:
        check_signals(signals)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int64, np.float16, np.float32])
def test_row_13_real_dtypes_become_float64(dtype):
    ((row,), _) = check_signals(np.array([0, 1, 1, 0]).astype(dtype))
    assert row.dtype == np.float64
    assert row.tolist() == [0, 1, 1, 0]


def lazily_negated(values):
    """A view of a tensor whose sign is not worked out yet."""
    return (
        torch.complex(torch.zeros(len(values), dtype=torch.float64), -torch.tensor(values, dtype=torch.float64))
        .conj()
        .imag
    )


@pytest.mark.parametrize(
    "made",
    [
        lambda values: np.array(values, object),
        lambda values: np.array([1, Fraction(5, 2), -3.0, True], object),
        lambda values: torch.tensor(values, dtype=torch.bfloat16, requires_grad=True),
        lazily_negated,
        lambda values: pandas.Series(values, index=[5, 5, 1, 0], dtype="Float64"),
        lambda values: polars.Series(values),
        lambda values: pa.chunked_array([values[:2], values[2:]]),
    ],
    ids=["objects", "fractions", "bfloat16", "negated", "pandas", "polars", "arrow"],
)
def test_row_13_other_kinds_of_one_signal(made):
    ((row,), single) = check_signals(made([1.0, 2.5, -3.0, 1.0]))
    assert single
    assert row.dtype == np.float64
    assert row.tolist() == [1.0, 2.5, -3.0, 1.0]


@pytest.mark.parametrize(
    "tensor", [torch.ones(4).to_sparse(), torch.ones(4, device="meta")], ids=["sparse", "without values"]
)
def test_row_13_a_tensor_without_plain_values_is_refused_with_the_remedy(tensor):
    with pytest.raises(SignalTypeError, match=r"signal is a tensor whose values NumPy cannot take .*to_dense\(\)"):
        check_signals(tensor)


LISTS = [[1.0, 2.0, 3.0], [4.0, 5.0]]


@pytest.mark.parametrize(
    "made",
    [
        lambda: LISTS,
        lambda: pandas.Series([np.array(each) for each in LISTS], index=[3, 3]),
        lambda: polars.Series(LISTS),
        lambda: pa.array(LISTS),
        lambda: np.array([np.array(each) for each in LISTS], object),
        lambda: [torch.tensor(each, dtype=torch.bfloat16) for each in LISTS],
    ],
    ids=["lists", "pandas", "polars", "arrow", "objects", "bfloat16"],
)
def test_row_13_columns_of_signals_of_different_lengths(made):
    rows, single = check_signals(made())
    assert not single
    assert [row.tolist() for row in rows] == LISTS
    with pytest.raises(SignalTypeError, match=r"signal\[1\] is a NoneType"):
        check_signals(pandas.Series([np.ones(3), None]))
    with pytest.raises(SignalTypeError, match="several of different lengths are a list in which every item is one"):
        check_signals([1.0, np.ones(3)])


class Column:
    """What a pandas Series is to NumPy: something with `__array__`."""

    def __array__(self, dtype=None, copy=None):
        return np.arange(6, dtype=dtype)


@pytest.mark.parametrize(
    "signal",
    [
        np.arange(6, dtype=">f8"),
        np.arange(6, dtype=">i2"),
        np.arange(12.0)[::2] / 2,
        np.arange(6.0)[::-1][::-1],
        np.asfortranarray(np.arange(12.0).reshape(6, 2) // 2)[:, 0],
        range(6),
        Column(),
    ],
)
def test_row_14_layouts_read_alike(signal):
    ((row,), single) = check_signals(signal)
    assert single
    assert row.dtype == np.dtype("=f8")
    assert row.flags.c_contiguous
    assert row.tolist() == [0, 1, 2, 3, 4, 5]


def test_row_14_torch_tensors_read_alike():
    tensor = torch.arange(6, dtype=torch.float32, requires_grad=True)
    assert check_signals(tensor)[0][0].tolist() == [0, 1, 2, 3, 4, 5]
    rows, single = check_signals([tensor, tensor[:2]])
    assert (single, rows[1].tolist()) == (False, [0, 1])


def test_row_15_the_callers_array_is_never_changed():
    signal = np.array([0, NAN, 2, 3])
    ((row,), _) = check_signals(signal)
    filled, _ = fill_gaps(row, 1.0, "interpolate", 1.0)
    next(cut(filled, [(0, 6)]))[:] = 9
    np.testing.assert_array_equal(signal, [0, NAN, 2, 3])


def test_row_16_a_recording_of_1e8_samples_is_cut_in_bounded_memory():
    recording = np.broadcast_to(1.5, 10**8)  # one value in memory
    tracemalloc.start()
    spans = windows(recording.size, fs=1000, window=10)
    total = sum(part.size for part in cut(recording, spans))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(spans), total) == (10_000, 10**8)
    assert peak < 4e6  # bytes


def test_row_16_a_long_recording_is_checked_in_bounded_memory(rng):
    signal = rng.standard_normal(10**7).clip(-2, 2)
    signal[10**6 : 10**6 + 5] = NAN
    tracemalloc.start()
    filled, _ = fill_gaps(signal, 1000.0, "interpolate", 1.0)
    quality(filled)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * signal.nbytes  # one copy without gaps, and bytes where samples are compared


@given(seed=st.integers(0, 2**32 - 1), n_samples=st.integers(1, 60), share=st.floats(0, 0.9))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_row_01_gaps_are_bridged_as_numpy_does(seed, n_samples, share):
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal(n_samples)
    gaps = rng.random(n_samples) < share
    gaps[rng.integers(n_samples)] = False
    index = np.arange(n_samples)
    expected = np.where(gaps, np.interp(index, index[~gaps], signal[~gaps]), signal)
    filled, missing = fill_gaps(np.where(gaps, NAN, signal), 1.0, "interpolate", 1e9)
    assert filled.tobytes() == expected.tobytes()
    assert missing == gaps.mean()


def test_row_18_there_is_no_default_rate():
    with pytest.raises(SignalError, match="fs is missing: give the sampling rate in Hz"):
        check_fs(None)


@pytest.mark.parametrize(
    "fs",
    [0, -1, -0.0, NAN, np.inf, -np.inf, 10**400, Fraction(1, 10**400), True, np.True_, "100", 1j, [100]],
    ids=lambda fs: repr(fs)[:20],
)
def test_row_19_a_wrong_rate_is_named(fs):
    with pytest.raises(SignalError, match="fs=.*give the sampling rate"):
        check_fs(fs)


@pytest.mark.parametrize("fs", [4, 4.0, np.float32(4), np.int64(4), Fraction(4)], ids=repr)
def test_row_19_any_real_number_is_a_rate(fs):
    assert check_fs(fs) == 4.0
    assert type(check_fs(fs)) is float


def test_an_array_in_the_place_of_the_rate_is_shown_in_part():
    with pytest.raises(SignalError, match=r"fs=array.*\.\.\. is a ndarray: give the sampling rate") as error:
        check_fs(np.arange(900.0))
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"n_samples": 10, "fs": 2, "window": 2}, [(0, 4), (4, 8)]),
        ({"n_samples": 10, "fs": 2, "window": 2, "stride": 3}, [(0, 4), (6, 10)]),
        ({"n_samples": 4, "fs": 2, "window": 2}, [(0, 4)]),
        ({"n_samples": 5, "fs": 1, "window": 1, "stride": 1.5}, [(0, 1), (2, 3), (3, 4)]),  # starts 0, 1.5, 3
        ({"n_samples": 9, "fs": 0.1, "window": 30, "stride": 30}, [(0, 3), (3, 6), (6, 9)]),
    ],
)
def test_windows_by_hand(arguments, expected):
    assert list(windows(**arguments)) == expected


@given(
    n_samples=st.integers(1, 5000),
    fs=st.floats(0.5, 500),
    window=st.floats(2, 10),
    stride=st.floats(2, 10),
)
@settings(max_examples=100, derandomize=True, deadline=None)
def test_windows_lie_inside_the_recording_and_leave_less_than_a_stride(n_samples, fs, window, stride):
    spans = list(windows(n_samples, fs, window, stride, short="drop"))
    size = round(window * fs)
    assert all(start >= 0 and stop <= n_samples and stop - start == size for start, stop in spans)
    assert np.allclose(np.diff([start for start, _ in spans]), stride * fs, atol=1)
    if spans:
        assert n_samples - spans[-1][1] <= stride * fs + 1


@pytest.mark.parametrize("name", ["window", "stride"])
@pytest.mark.parametrize("value", [0, -1, NAN, np.inf, "10", True, 0.1])
def test_wrong_seconds_are_named(name, value):
    with pytest.raises(ConfigError, match=f"{name}=.*(positive number of seconds|less than one sample at 2 Hz)"):
        windows(100, fs=2, **{"window": 5, name: value})


def test_check_positive():
    assert check_positive(np.int64(3), "batch_size") == 3
    for wrong in (0, -1, 1.0, True, "2", None):
        with pytest.raises(ConfigError, match="batch_size=.* must be a whole number of at least 1"):
            check_positive(wrong, "batch_size")


def test_a_fraction_beyond_every_float_is_no_number():
    assert is_number(Fraction(1, 3))
    with pytest.raises(SignalError, match="is not a positive finite number"):
        check_fs(Fraction(10**400))
