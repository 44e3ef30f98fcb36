"""Validation: what a signal and a sampling rate must be, and where windows are cut."""

from __future__ import annotations

import math
import numbers
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, SignalError, SignalTypeError, unknown, warn

Signal = NDArray[np.float64]  # (n_samples,), finite once checked

FLOAT_MAX = sys.float_info.max
MOST_PADDING = 10  # times the length of a recording that padding may make it
NAN_POLICIES = ("error", "interpolate")
TRANSPOSED = 4  # times as many signals as samples: the array may be a recording with a column a channel


def check_fs(fs: Any) -> float:
    """The sampling rate as a float, in Hz.

    Raises
    ------
    SignalError
        Missing, not a number, or not a positive finite one. There is never a default rate.
    """
    if fs is None:
        raise SignalError("fs is missing: give the sampling rate in Hz, e.g. fs=100; there is no default")
    if isinstance(fs, bool | np.bool_) or not isinstance(fs, numbers.Real):
        shown = " ".join(repr(fs).split())  # of an array, numpy writes many lines
        shown = shown if len(shown) <= 60 else f"{shown[:60]}..."
        raise SignalError(f"fs={shown} is a {type(fs).__name__}: give the sampling rate as a number in Hz, e.g. fs=100")
    if not is_number(fs) or float(fs) <= 0:
        raise SignalError(f"fs={fs!r} is not a positive finite number: give the sampling rate in Hz, e.g. fs=100")
    return float(fs)


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number, which a bool is not meant as."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    exact = isinstance(value, numbers.Rational)  # such a number may be beyond every float
    return real and bool(abs(value if exact else float(value)) <= FLOAT_MAX)


def check_signals(signals: Any, where: str = "signal") -> tuple[list[Signal], bool]:
    """Read what a caller passed as one signal or several.

    Parameters
    ----------
    signals
        One signal, (n_samples,), or several: an array (n_signals, n_samples), or a list or a column (of pandas, polars
        or Arrow) whose items may differ in length. Any real dtype, bfloat16 as well, and objects that are all numbers.
        Nothing is written to.

    Returns
    -------
    signals : list of (n_samples,) float64 arrays, copies where the input was of another dtype or layout
    single : whether the caller passed one signal rather than a batch

    Raises
    ------
    SignalError
        Empty, or of a shape that is neither of those.
    SignalTypeError
        Complex, text, object or masked samples.

    Warns
    -----
    SignalWarning
        An array of many more signals than samples that is smoother from signal to signal than from sample to
        sample, as a transposed one is. It is read as it stands: the axis is never guessed.
    """
    signals = _rows(signals)
    if isinstance(signals, list | tuple) and signals and not np.isscalar(signals[0]) and np.ndim(signals[0]) > 0:
        rows = [_real_array(item, f"{where}[{index}]") for index, item in enumerate(signals)]
        for index, row in enumerate(rows):
            if row.ndim != 1:
                raise SignalError(f"{where}[{index}] has shape {row.shape}: each item of a list must be (n_samples,)")
        single = False
    else:
        array = _real_array(signals, where)
        if array.ndim not in (1, 2):
            raise SignalError(
                f"{where} has shape {array.shape}: one signal is (n_samples,), several are (n_signals, n_samples)"
            )
        single = array.ndim == 1
        rows = [array] if single else list(array)
        if not single and array.shape[1] == 1 < len(array):
            raise SignalError(
                f"{where} has shape {array.shape}, {len(array)} signals of one sample each: one signal of "
                f"{len(array)} samples is its only column, [:, 0]"
            )
        if not single and array.size:
            _warn_if_transposed(array, where)
    empty = [index for index, row in enumerate(rows) if not row.size]
    if empty or not rows:
        which = f"{where}[{empty[0]}]" if len(rows) > 1 else where
        raise SignalError(f"{which} is empty: at least one signal with samples is needed")
    return rows, single


def _rows(signals: Any) -> Any:
    """The items of a column of signals as a list; anything else as it is."""
    if isinstance(signals, list | tuple | str) or hasattr(signals, "detach") or not hasattr(signals, "__len__"):
        return signals
    try:
        array = np.asarray(signals)
    except (ValueError, TypeError):
        return signals
    nested = array.dtype == object and array.ndim == 1 and any(_is_nested(each) for each in array)
    return list(array) if nested else signals


def _is_nested(item: Any) -> bool:
    return not isinstance(item, str | bytes) and hasattr(item, "__len__")


def _warn_if_transposed(array: NDArray[np.float64], where: str) -> None:
    n_signals, n_samples = array.shape
    head = array[:4096]
    if n_signals < TRANSPOSED * n_samples or not np.isfinite(head).all():
        return
    if np.abs(np.diff(head, axis=0)).mean() < np.abs(np.diff(head, axis=1)).mean():
        warn(
            f"{where} has shape {array.shape} and is read as {n_signals} signals of {n_samples} samples each, yet it "
            f"changes less from row to row than along a row: for {n_samples} channels of {n_signals} samples pass its "
            "transpose, (n_signals, n_samples); otherwise give a list of signals where rows are meant",
        )


def without_torch(values: Any, where: str) -> Any:
    """What a torch tensor holds as an array, with a gradient, on a device or as a lazy view; anything else as it is."""
    if not hasattr(values, "detach"):
        return values
    try:
        values = values.detach().cpu().resolve_conj().resolve_neg()
        small = values.dtype.is_floating_point and values.dtype.itemsize < 4  # NumPy knows no bfloat16 nor smaller
        return (values.float() if small else values).numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantized, without values
        raise SignalTypeError(
            f"{where} is a tensor whose values NumPy cannot take ({values.layout}, {values.dtype}, {values.device}): "
            "pass a plain one, such as tensor.to_dense() or tensor.dequantize()"
        ) from error


def _real_array(values: Any, where: str) -> NDArray[np.float64]:
    values = without_torch(values, where)
    if isinstance(values, np.ma.MaskedArray):
        raise SignalTypeError(f"{where} is a masked array: fill its gaps with NaN first, values.filled(numpy.nan)")
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise SignalTypeError(
            f"{where} cannot be read as an array of numbers ({error}): one signal is (n_samples,); several of "
            "different lengths are a list in which every item is one"
        ) from error
    objects = array.dtype.kind == "O" and array.ndim and all(isinstance(each, numbers.Real) for each in array.flat)
    if objects or array.dtype.name.startswith(("bfloat16", "float8")):  # of ml_dtypes
        return array.astype(np.float64)
    if array.dtype.kind not in "biuf":
        raise SignalTypeError(f"{where} {_what_is_wrong(values, array)}")
    return np.asarray(array, dtype=np.float64, order="C")


def _what_is_wrong(values: Any, array: NDArray[Any]) -> str:
    """Of what is no array of real numbers: what it is, and how to come by one."""
    if hasattr(values, "signal") and hasattr(values, "fs"):
        return f"is a {type(values).__name__}: pass its samples and its rate, .signal and .fs"
    if isinstance(values, str | os.PathLike):
        return "is text: to embed a file, read it first, tiny_biomoe.recordings.read(path)"
    if array.dtype.kind in "OSU" and not array.ndim:
        return f"is a {type(values).__name__}: one signal is an array of real numbers, (n_samples,)"
    for at, value in np.ndenumerate(np.asarray(values, object) if array.dtype.kind in "OUS" else []):
        if not isinstance(value, numbers.Real):
            index = ", ".join(map(str, at))
            return (
                f"holds {str(value)[:40]!r} ({type(value).__name__}) at index {index}: samples must be real numbers; "
                'text becomes one by float(), and a missing sample is float("nan")'
            )
    return f"has dtype {array.dtype}: samples must be real numbers (bool, integer or floating point), not objects"


def fill_gaps(
    signal: Signal, fs: float, nan_policy: str, max_gap: float, where: str = "signal"
) -> tuple[Signal, float]:
    """Refuse missing samples, or interpolate them linearly where the caller asks for it.

    Parameters
    ----------
    nan_policy : "error" or "interpolate"
    max_gap : longest run of missing samples to interpolate, in seconds

    Returns
    -------
    signal : (n_samples,), finite
    missing : share of samples that were missing

    Raises
    ------
    SignalError
        NaN under "error"; infinite samples; a gap longer than `max_gap`; nothing but NaN.
    """
    if nan_policy not in NAN_POLICIES:
        raise unknown("nan_policy", nan_policy, NAN_POLICIES)
    if infinite := int(np.isinf(signal).sum()):
        first = int(np.flatnonzero(np.isinf(signal))[0])
        raise SignalError(
            f"{where} has {infinite} infinite samples, the first at index {first}: repair or cut them out"
        )
    gaps = np.isnan(signal)
    if not gaps.any():
        return signal, 0.0
    count, first = int(gaps.sum()), int(np.flatnonzero(gaps)[0])
    if gaps.all():
        raise SignalError(f"{where} has only missing samples (NaN): there is nothing to embed")
    if nan_policy == "error":
        raise SignalError(
            f"{where} has {count} missing samples (NaN), the first at index {first}: cut them out, or pass "
            'nan_policy="interpolate" (--nan-policy interpolate) with max_gap= (--max-gap) in seconds'
        )
    edges = np.flatnonzero(np.diff(np.concatenate([[False], gaps, [False]]).astype(np.int8)))
    begins, lengths = edges[::2], np.diff(edges)[::2]
    longest = int(lengths.argmax())
    if lengths[longest] > max_gap * fs:
        raise SignalError(
            f"{where} has a gap of {lengths[longest] / fs:g} s at index {begins[longest]}, longer than "
            f"max_gap={max_gap:g} s: cut the signal there into recordings of their own, or raise max_gap (--max-gap)"
        )
    borders = edges - np.tile([1, 0], begins.size)  # the last sample before each gap and the first after it
    borders = borders[(borders >= 0) & (borders < signal.size)]
    filled = signal.copy()
    filled[gaps] = np.interp(np.flatnonzero(gaps), borders, signal[borders])
    return filled, count / signal.size


def check_length(signal: Signal, fs: float, minimum: float, what: str, where: str = "signal") -> None:
    """Refuse a signal shorter than `minimum` seconds."""
    if is_shorter(signal.size, fs, minimum):
        raise SignalError(
            f"{where} has {signal.size} samples ({signal.size / fs:g} s), too short for {what} at {fs:g} Hz: at least "
            f"{minimum:g} s ({math.ceil(minimum * fs - 1e-9)} samples) are needed; arrays are (n_samples,) or "
            "(n_signals, n_samples)"
        )


def is_shorter(n_samples: int, fs: float, minimum: float) -> bool:
    """Whether so many samples last less than `minimum` seconds, rounding apart."""
    return n_samples < minimum * fs - 1e-9


def check_share(value: Any, name: str) -> float:
    """A share, from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise ConfigError(f"{name}={value!r} must be a share of the samples, from 0 to 1")
    return float(value)


def check_missing(signal: Signal, max_missing: float, where: str = "signal") -> None:
    """Refuse a signal of whose samples a larger share is missing."""
    share = float(np.isnan(signal).mean()) if max_missing < 1 else 0.0
    if share > max_missing:
        raise SignalError(
            f"{where} lacks {share:.0%} of its samples, more than max_missing={max_missing:g} (--max-missing) allows"
        )


def is_flat(signal: Signal) -> bool:
    """Whether all samples are one value."""
    return bool((signal == signal[0]).all())


@dataclass(frozen=True)
class Grid(Sequence[tuple[int, int]]):
    """Where a recording is cut: the (start, stop) of each window in samples, worked out when asked for."""

    n: int  # windows
    size: int  # samples a window
    step: float  # seconds between the starts of two windows
    fs: float  # Hz
    offset: int = 0  # sample at which the first window starts

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(self.n))]
        if not -self.n <= index < self.n:
            raise IndexError(f"window {index} of {self.n}")
        start = self.offset + round(index % self.n * self.step * self.fs)
        return start, start + self.size


def windows(
    n_samples: int,
    fs: float,
    window: float,
    stride: float | None = None,
    short: str = "error",
    offset: int = 0,
    where: str = "the recording",
) -> Grid:
    """Where a recording is cut: (start, stop) in samples, a window of `window` seconds every `stride` seconds.

    Samples after the last whole window are left out. A recording shorter than one window is an error, or
    gives none (`short="drop"`), or one window to be lengthened by its last value (`short="pad"`, up to tenfold), in
    which case its stop lies beyond the recording. `offset` is added to every start and stop.

    >>> list(windows(10, fs=2, window=2, stride=1))
    [(0, 4), (2, 6), (4, 8), (6, 10)]
    """
    length = _seconds(window, "window", fs)
    step = _seconds(window if stride is None else stride, "stride", fs)
    if short not in ("error", "drop", "pad"):
        raise unknown("short", short, ["error", "drop", "pad"])
    size = round(length * fs)
    if n_samples < size:
        if short == "error":
            raise SignalError(
                f"{where} lasts {n_samples / fs:g} s, less than one window of {length:g} s: choose a shorter "
                'window, or short="drop" or "pad" (--short)'
            )
        if short == "pad" and size > MOST_PADDING * n_samples:
            raise SignalError(
                f"{where} lasts {n_samples / fs:g} s, and padding it to {length:g} s would make it more than "
                f"{MOST_PADDING} times as long: choose a shorter window"
            )
        return Grid(int(short == "pad"), size, step, fs, offset)
    return Grid(math.floor((n_samples - size) / (step * fs) + 1e-9) + 1, size, step, fs, offset)


def cut(signal: Signal, spans: Iterable[tuple[int, int]]) -> Iterator[Signal]:
    """The windows themselves, one at a time; a stop beyond the signal repeats its last value."""
    for start, stop in spans:
        part = signal[start:stop]
        yield part if part.size == stop - start else np.pad(part, (0, stop - start - part.size), mode="edge")


def _seconds(value: Any, name: str, fs: float) -> float:
    if not is_number(value) or value <= 0:
        raise ConfigError(f"{name}={value!r} must be a positive number of seconds")
    seconds = float(value)
    if round(seconds * fs) < 1:
        raise ConfigError(f"{name}={value!r} s is less than one sample at {fs:g} Hz")
    return seconds


def check_positive(value: Any, name: str) -> int:
    """A positive whole number, such as a batch size."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ConfigError(f"{name}={value!r} must be a whole number of at least 1")
    return int(value)
