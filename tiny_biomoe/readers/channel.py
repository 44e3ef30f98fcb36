"""What a file says of one signal, and what the caller says of the file."""

from __future__ import annotations

import difflib
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError, excerpt, listed
from ..signals.validation import Signal, is_number

AGREEMENT = 0.01  # share by which two statements of one rate may differ
RATES = {"fs", "srate", "samplerate", "samplingrate", "samplingfrequency", "samplefrequency", "sfreq"}
NO_MODALITY = "of no known modality: name it, column= with modality= (--column with --modality)"
MAX_BYTES = 1 << 30  # of one file: its text, unpacked, or its samples; a day of one channel at 1 kHz


@dataclass(frozen=True)
class Options:
    """How the caller says that a file is laid out; None where the file is to tell. See `recordings.read`."""

    column: str | int | Sequence[str | int] | None = None
    delimiter: str | None = None
    decimal: str | None = None
    encoding: str = "utf-8"
    header: bool | None = None
    time_column: str | int | None = None


@dataclass(frozen=True)
class Clock:
    """The time column of a file."""

    name: str
    times: NDArray[np.float64]  # (n,), in `unit`
    unit: float | None = 1.0  # seconds; None where neither the name nor the caller says
    first_row: int = 1  # row of the file that holds times[0]
    step: float | None = None  # usual step of a column that only its content shows to be a clock or counter
    rows: NDArray[np.int64] | None = None  # of the file, that hold the times; None where they follow on each other

    def row(self, index: int) -> int:
        """The row of the file that holds a time."""
        return self.first_row + int(index) if self.rows is None else int(self.rows[index])


@dataclass(frozen=True)
class Channel:
    """One signal as its file gives it; None where the file does not say."""

    name: str
    samples: Signal  # (n_samples,), NaN where the file says that a sample is missing
    kind: str | None = None  # what the format itself says is measured; otherwise name and unit decide
    fs: float | None = None  # Hz
    start: float | None = None  # unix seconds
    clock: Clock | None = None  # as long as the samples, or longer where those end early
    unit: str | None = None  # as the file writes it
    array: str | None = None  # the array (n_signals, n_samples) that it is a row of, as trials or channels of one kind
    problem: str | None = None  # why this channel cannot be read, while others of its file can


def names_rate(name: str) -> bool:
    """Whether an attribute, a variable or a key is called as sampling rates are.

    >>> names_rate("SamplingFrequency"), names_rate("sampling rate"), names_rate("heart_rate")
    (True, True, False)
    """
    return name.lower().replace("_", "").replace(" ", "") in RATES


def rate_of(name: str, scalars: Mapping[str, float]) -> float | None:
    """The rate in Hz of an array among the numbers beside it, the nearest by name; None where there is none, or two.

    >>> rates = {"fs": 100.0, "eda_fs": 4.0, "fs_ppg": 64.0, "eda_scale": 0.1}
    >>> rate_of("EDA", rates), rate_of("left_eda", rates), rate_of("ppg", rates), rate_of("ecg", rates)
    (4.0, 4.0, 64.0, 100.0)
    """
    found: dict[int, set[float]] = {}
    for key, value in scalars.items():
        words = key.lower().split("_")
        for at in range(len(words)):
            for rate, of in ((words[at:], words[:at]), (words[:at], words[at:])):
                if names_rate("_".join(rate)) and (not of or f"_{'_'.join(of)}_" in f"_{name.lower()}_"):
                    found.setdefault(len(of), set()).add(value)
    nearest = found[max(found)] if found else set()
    return nearest.pop() if len(nearest) == 1 else None


def choose(names: list[str], column: Any, but: int | None = None) -> list[int]:
    """Positions of the channels to read: those asked for, or all but the clock.

    Raises
    ------
    SignalError
        A name or number that is not there, or a name that several bear.
    """
    if column is None or column == "*":
        return [index for index in range(len(names)) if index != but]
    picked = [position(names, item) for item in (column if isinstance(column, list | tuple) else [column])]
    if len(set(picked)) < len(picked):
        raise SignalError(f"one column is chosen twice, of {excerpt(names[picked[0]])}: name each once")
    return picked


def position(names: list[str], item: str | int) -> int:
    """Where a column stands that is given by its name or, counted from 0, its number."""
    if isinstance(item, str) and names.count(item.strip()) > 1:
        raise SignalError(f"several columns are called {excerpt(item)}: choose one by its number, counted from 0")
    if isinstance(item, str) and item.strip() in names:
        return names.index(item.strip())
    if isinstance(item, str) and (several := re.fullmatch(r"(.*) #(\d{1,6})", item.strip())):  # of one name
        number = int(several[2])
        if number < len(names) and names[number] == several[1]:
            return number
    digits = isinstance(item, str) and item.isascii() and item.isdigit()
    number = int(item) if digits or isinstance(item, numbers.Integral) else -1
    if 0 <= number < len(names):
        return number
    known = listed(map(excerpt, names), 50, ", ...")
    near = [] if number >= 0 else difflib.get_close_matches(str(item).strip().lower(), [n.lower() for n in names], n=1)
    hint = f" (did you mean {excerpt(next(name for name in names if name.lower() == near[0]))}?)" if near else ""
    raise SignalError(
        f"there is no column {item!r}: choose by name or number (from 0), column= (--column), of {known}{hint}"
    )


def agree(stated: float | None, fs: float | None) -> float | None:
    """The rate of a channel in Hz: the caller's `fs`, which must not contradict what the file states.

    Raises
    ------
    SignalError
        The file's rate is no rate, or differs from `fs` by more than 1 %.
    """
    if stated is None:
        return fs
    if not is_number(stated) or stated <= 0:
        raise SignalError(f"the file gives its sampling rate as {stated!r}: it is damaged, or of another format")
    if fs is not None and abs(stated / fs - 1) > AGREEMENT:
        raise SignalError(f"the file is sampled at {stated:g} Hz, not at fs={fs:g}: leave fs out, or correct it")
    return float(stated) if fs is None else fs
