"""What a file says of one signal, what the caller says of the file, and the rate that a time column tells."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, SignalError
from .filters import MODALITIES
from .signals import Signal, is_number

HOLE = 1.5  # a step of the clock longer than so many sample periods means that samples are missing
JITTER = 0.25  # rms of the steps' errors, in periods; a 400 Hz clock written in whole milliseconds stays below
AGREEMENT = 0.01  # share by which two statements of one rate may differ
MAX_BYTES = 1 << 30  # of one file: its text, unpacked, or its samples; a day of one channel at 1 kHz
SURELY_SECONDS = 4.0  # Hz; a clock of unknown unit and this rate would, in milliseconds, tell of 4 kHz: too fast
UNIX_SECONDS = 1e8, 1e11  # s; between March 1973 and the year 5138 a clock counts from 1970, below from its own start

TIME_NAMES = {"time", "t", "timestamp", "timestamps", "time stamp", "elapsed", "elapsed time", "unix", "unix time"}
TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
}

# What a channel measures, by the first word of its name: a modality, or something that is surely none.
KINDS = {
    **{name: modality for modality, row in MODALITIES.items() for name in (modality, *row.aliases)},
    **dict.fromkeys(("ekg", "electrocardiogram"), "ecg"),
    **dict.fromkeys(("pleth", "plethysmogram", "photoplethysmogram"), "bvp"),
    **dict.fromkeys(("respiration", "respiratory", "rip", "pzt"), "resp"),
    **dict.fromkeys(("sao2",), "spo2"),
    **dict.fromkeys(("acc", "accelerometer"), "acceleration"),
    **dict.fromkeys(("temp", "temperature"), "temperature"),
    **dict.fromkeys(("hr",), "heart rate"),
}


class MissingExtra(ConfigError, ImportError):
    """A package of the extra `[io]` is not installed."""


def need(*packages: str) -> None:
    """Refuse to go on where a package of the extra is missing; finding one costs less than importing it."""
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise MissingExtra(f'reading files needs {", ".join(missing)}: pip install "tiny-biomoe[io]"')


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


@dataclass(frozen=True)
class Channel:
    """One signal as its file tells it; None where the file does not say."""

    name: str
    samples: Signal  # (n_samples,), NaN where the file says that a sample is missing
    kind: str | None = None  # a modality's canonical name, or another word for what is measured
    fs: float | None = None  # Hz
    start: float | None = None  # unix seconds
    clock: Clock | None = None  # as long as the samples, or longer where those end early


def printable(text: str) -> str:
    r"""Text that a terminal only shows: control characters and undecodable bytes escaped, one to one.

    >>> print(printable("\x1b[2Ja.csv"))
    \x1b[2Ja.csv
    """
    return "".join(c if c.isprintable() and c != "\\" else repr(c)[1:-1] for c in text)


def excerpt(text: str) -> str:
    """A bounded piece of a file, for a message."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def kind_of(name: str) -> str | None:
    """What a channel of this name measures, where its first word says so.

    >>> kind_of("EEG Fp1"), kind_of("RESP"), kind_of("CH1")
    ('eeg', 'resp', None)
    """
    words = re.findall(r"[a-z0-9]+", name.lower())
    return KINDS.get(words[0]) if words else None


def choose(names: list[str], column: Any, but: int | None = None) -> list[int]:
    """Positions of the channels to read: those asked for, or all that have a name, but for the clock.

    Raises
    ------
    SignalError
        A name or number that is not there, or a name that several bear.
    """
    if column is None:
        picked = [index for index, name in enumerate(names) if name and index != but]
    else:
        picked = [_position(names, item) for item in (column if isinstance(column, list | tuple) else [column])]
    taken = [names[index] for index in picked if names[index]]
    if twice := [name for name in dict.fromkeys(taken) if taken.count(name) > 1]:
        raise SignalError(f"several columns are called {excerpt(twice[0])}: choose one by its number, counted from 0")
    return picked


def _position(names: list[str], item: str | int) -> int:
    if isinstance(item, str) and names.count(item.strip()) > 1:
        raise SignalError(f"several columns are called {excerpt(item)}: choose one by its number, counted from 0")
    if isinstance(item, str) and item.strip() in names:
        return names.index(item.strip())
    number = int(item) if isinstance(item, int) or (item.isascii() and item.isdigit()) else -1
    if 0 <= number < len(names):
        return number
    listed = ", ".join(map(excerpt, names[:50])) + (", ..." if len(names) > 50 else "")
    raise SignalError(
        f"there is no column {item!r}: choose by name or number (from 0), column= (--column), of {listed}"
    )


def find_clock(names: list[str], time_column: str | int | None) -> tuple[int | None, float | None]:
    """Position and unit (seconds) of the time column: the one asked for, or one whose name says so.

    >>> find_clock(["Time [ms]", "ECG"], None)
    (0, 0.001)
    """
    if time_column == "":
        return None, None
    if time_column is None:
        clocks = [index for index, name in enumerate(names) if _split_unit(name)[0].lower() in TIME_NAMES]
        return (clocks[0], _split_unit(names[clocks[0]])[1]) if clocks else (None, None)
    base, unit = _split_unit(time_column) if isinstance(time_column, str) else ("", None)
    exact = isinstance(time_column, int) or time_column.strip() in names
    index = _position(names, time_column if exact else base)
    return index, unit or _split_unit(names[index])[1]


def _split_unit(name: str) -> tuple[str, float | None]:
    match = re.fullmatch(r"(.*?)(?:[\s_]+|\s*[\[(])([a-zµμ]+)[\])]?", name.strip(), re.IGNORECASE)
    if match and match[2].lower() in TIME_UNITS:
        return match[1].strip(), TIME_UNITS[match[2].lower()]
    return name.strip(), None


@dataclass(frozen=True)
class Timing:
    """What a clock tells, once checked."""

    fs: float  # Hz
    seconds: NDArray[np.float64]  # (n_samples,), time of each sample
    runs: list[tuple[int, int]]  # (start, stop) of the samples between two holes
    even: bool  # every run can be taken as evenly sampled

    def start(self, index: int, recorded: float | None) -> float | None:
        """Unix seconds of a sample, from the clock if it counts from 1970, else from the start that the file states."""
        if UNIX_SECONDS[0] <= self.seconds[0] < UNIX_SECONDS[1]:
            return float(self.seconds[index])
        return None if recorded is None else recorded + float(self.seconds[index] - self.seconds[0])


def read_clock(clock: Clock, n_samples: int, fs: float | None, holes: bool = False, jitter: bool = False) -> Timing:
    """The rate and the runs that the times of `n_samples` samples tell.

    Parameters
    ----------
    fs : rate in Hz that the caller or the file's header states, if any
    holes, jitter : whether samples may be missing in time, and whether times may be uneven

    Raises
    ------
    SignalError
        Times that are missing, stand still or go back; another rate than `fs`; a unit that cannot be told; holes
        and uneven steps, where they are not allowed.
    """
    times, name = clock.times[:n_samples], excerpt(clock.name)
    steps = np.diff(times)
    if times.size < max(n_samples, 2):
        raise SignalError(f"time column {name} holds {times.size} times for {n_samples} samples; {_WITHOUT}")
    if (wrong := np.flatnonzero(~np.isfinite(times))).size:
        raise SignalError(f"time column {name}, row {clock.first_row + wrong[0]}: no time; {_WITHOUT}")
    if (wrong := np.flatnonzero(steps <= 0)).size:
        at = int(wrong[0]) + 1
        what = "repeats the time before" if steps[at - 1] == 0 else "goes back in time"
        raise SignalError(f"time column {name}, row {clock.first_row + at}: {times[at]:.12g} {what}; {_WITHOUT}")
    whole = steps < HOLE * np.median(steps)
    period = float(steps[whole].mean())
    unit = _unit(clock, period, fs)
    edges = [0, *(np.flatnonzero(~whole) + 1).tolist(), times.size]
    if len(edges) > 2 and not holes:
        raise SignalError(
            f"time column {name}, row {clock.first_row + edges[1]}: samples are missing for "
            f"{steps[edges[1] - 1] * unit:g} s, the first of {len(edges) - 2} holes: split the recording there, "
            'on_hole="split" (--on-hole split)'
        )
    even = float(np.sqrt(np.mean((steps[whole] / period - 1) ** 2))) <= JITTER
    if not even and not jitter:
        raise SignalError(
            f"time column {name}: the times are uneven, their steps deviate by more than {JITTER:.0%} of the sample "
            'period: interpolate to an even rate, on_jitter="resample" (--on-jitter resample)'
        )
    rate = fs if fs is not None else float(f"{1 / (period * unit):.6g}")  # further digits are rounding of the times
    return Timing(rate, times * unit, list(zip(edges[:-1], edges[1:], strict=True)), even)


_WITHOUT = 'repair the times, or read without them, time_column="" (--time-column "")'


def _unit(clock: Clock, period: float, fs: float | None) -> float:
    """Seconds in one unit of the clock, after making sure that it agrees with `fs`."""
    base, rate = _split_unit(clock.name)[0], 1 / (period * (clock.unit or 1.0))
    say_unit = f'name the unit, time_column="{base} [ms]" or "{base} [s]" (--time-column)'
    if fs is None:
        if clock.unit is None and (rate < SURELY_SECONDS or clock.times[0] >= UNIX_SECONDS[1]):
            raise SignalError(
                f"time column {excerpt(clock.name)} advances by {period:g} a row and does not say whether that is in "
                f"seconds or milliseconds: {say_unit}"
            )
        return clock.unit or 1.0
    if abs(rate / fs - 1) <= AGREEMENT:
        return clock.unit or 1.0
    told = f"time column {excerpt(clock.name)} advances by {period:g} a row, which is {rate:.6g} Hz, not fs={fs:g}"
    if abs(1000 * rate / fs - 1) <= AGREEMENT:
        raise SignalError(f"{told}: it counts milliseconds, not seconds; {say_unit}")
    raise SignalError(f"{told}: correct fs (--fs), or leave it out to take the file's; {_WITHOUT}")


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
