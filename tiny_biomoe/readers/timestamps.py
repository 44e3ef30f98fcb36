"""A file's time column -> its sampling rate, and the runs of samples between two holes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError, excerpt
from .channel import AGREEMENT, Clock, position

HOLE = 1.5  # a step of the clock longer than so many sample periods means that samples are missing
UNEVEN_HOLE = 2.0  # the same where the caller accepts uneven times
JITTER = 0.1  # rms of the steps' errors, in periods; a tenth of one turns Nyquist's frequency by 18 degrees
SURELY_SECONDS = 4.0  # Hz; a clock of unknown unit and this rate would, in milliseconds, tell of 4 kHz: too fast
UNIX_SECONDS = 1e8, 1e11  # s; between March 1973 and the year 5138 a clock counts from 1970, below from its own start

TIME_NAMES = {  # in lower case, blanks between the words
    *(
        "time",
        "t",
        "timestamp",
        "timestamps",
        "time stamp",
        "elapsed",
        "elapsed time",
        "time elapsed",
        "unix",
        "unix time",
    ),
    *("unix timestamp", "datetime", "date time", "utc", "local time", "localtime", "local timestamp", "system time"),
    *("clock", "timer", "epoch", "epoch time", "recording time", "relative time", "seconds", "secs", "milliseconds"),
    *("zeit", "uhrzeit", "zeitstempel", "tiempo", "temps", "tempo", "czas", "tid", "tijd", "hora", "phone timestamp"),
}
COUNTER_NAMES = {
    *(
        "index",
        "idx",
        "sample",
        "samples",
        "sample index",
        "sample number",
        "frame",
        "frames",
        "nseq",
        "seq",
        "counter",
    ),
    *("packet", "packet number", "row", "unnamed: 0", "index level 0"),
}
KNOWN_COUNTERS = (16, 256, 4096, 32768, 65536)  # values of the counters that devices have
EQUAL = 0.9  # share of equal steps that makes a counter
TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
}

LOSE = 'lose the windows beside them, on_hole="nan" (--on-hole nan)'
SPLIT = f'split the recording there, on_hole="split" (--on-hole split), or {LOSE}'
REMEDY = 'repair the times, or read without them, time_column="" (--time-column "")'


def unix_time(moment: datetime) -> float:
    """Seconds since 1970; a clock that names no time zone is read as UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def find_clock(names: list[str], time_column: str | int | None) -> tuple[int | None, float | None]:
    """Position and unit (seconds) of the time column: the one asked for, or one whose name says so.

    >>> find_clock(["Time [ms]", "ECG"], None)
    (0, 0.001)
    """
    split = [_split_unit(name) for name in names]
    if time_column in (None, ""):
        found = next((index for index, (base, _) in enumerate(split) if _spelled(base) in TIME_NAMES), None)
        return found, None if found is None else split[found][1]
    if not isinstance(time_column, str) or time_column.strip() in names:
        index = position(names, time_column)  # type: ignore[arg-type]
        return index, split[index][1]
    base, unit = _split_unit(time_column)  # the caller's unit counts, not the file's
    index = position([name for name, _ in split], base)
    return index, unit or split[index][1]


@lru_cache(maxsize=4096)  # the files of a study name their columns alike
def _split_unit(name: str) -> tuple[str, float | None]:
    match = re.fullmatch(r"(.*?)(?:[\s_]+|\s*[\[(])([a-zµμ]+)[\])]?", name.strip(), re.IGNORECASE)
    if match and match[2].lower() in TIME_UNITS:
        return match[1].strip(), TIME_UNITS[match[2].lower()]
    return name.strip(), None


def _spelled(base: str) -> str:
    """A name in lower case with blanks between its words."""
    return re.sub(r"[\s_-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", base)).strip().lower()


def names_time(name: str) -> bool:
    """Whether a name says that a column holds times or counts rows."""
    spelled = _spelled(_split_unit(name)[0])
    return spelled in TIME_NAMES or spelled in COUNTER_NAMES or "timestamp" in spelled


def counter_clock(name: str, values: NDArray[np.float64], first_row: int = 1) -> Clock | None:
    """A column that its content shows to be a clock or counter, as a clock whose unit the rate will settle."""
    counts = unwrapped(values)
    if counts is None or counts.size < 2 or not np.isfinite(counts).all():
        return None
    step = float(np.median(np.diff(counts)))
    return Clock(name, counts, None, first_row, step) if step > 0 else None


def unwrapped(counts: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """A counter without its wraps, such as 14, 15, 0, 1; None of one that starts anew, which shows nothing.

    >>> unwrapped(np.array([14.0, 15, 0, 1, 2])).tolist()
    [14.0, 15.0, 16.0, 17.0, 18.0]
    """
    steps = np.diff(counts)
    still = int(np.argmax(np.append(steps[::-1] != 0, True)))  # steps of 0 at the end
    stopped = bool(still) and counts[-1] + 1 in KNOWN_COUNTERS  # it counts no further
    if stopped:
        steps[steps.size - still :] = 1.0
    back = np.flatnonzero(steps < 0)
    if not back.size:
        return np.append(counts[:1], counts[0] + np.cumsum(steps)) if stopped else counts
    largest, smallest = float(counts.max()), float(counts.min())
    before, after = counts[back], counts[back + 1]
    size: float = next((size for size in KNOWN_COUNTERS if size > largest), 0)
    if not size or smallest < 0 or (size > 16 and ((before < 0.75 * size).any() or (after > 0.25 * size).any())):
        size = largest - smallest + 1 if (before == largest).all() and (after == smallest).all() else 0
    whole = bool((counts == np.round(counts)).all())
    if not size or not whole or np.mean(steps % size == 1) < EQUAL:
        return None
    return np.append(counts[:1], counts[0] + np.cumsum(np.where(steps > 0, steps, steps % size)))


def settle_unit(clock: Clock, fs: float | None) -> Clock | None:
    """A clock that only its content shows, in seconds: by the rate, if it fits in a unit of time, or as a counter.

    None where neither it nor anybody else says the rate.

    Raises
    ------
    SignalError
        It is called a time, and no unit of time makes its steps those of `fs`.
    """
    if clock.step is None:
        return clock
    if fs is None:
        return None if clock.step == round(clock.step) == 1 else replace(clock, step=None)
    mean = (clock.times[-1] - clock.times[0]) / (clock.times.size - 1)  # of times that are rounded
    fits = [
        unit
        for unit in (1.0, 1e-3, 1e-6, 1e-9, 60.0, 3600.0, 86400.0)  # the last are MATLAB's days
        if clock.step != 1 and any(abs(step * unit * fs - 1) <= AGREEMENT for step in (clock.step, mean))
    ]
    if fits and fits[0] <= 1:
        return replace(clock, unit=fits[0], step=None)
    if clock.step != 1 and not fits and find_clock([clock.name], None)[0] is not None:
        raise SignalError(
            f"{excerpt(clock.name)} advances by {clock.step:g} a row, which is {fs:g} Hz in no unit of time: correct "
            f"fs= (--fs), or what the file says of its rate; {REMEDY}"
        )
    return replace(clock, times=(clock.times - clock.times[0]) / (clock.step * fs), unit=1.0, step=None)


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
        Times that are missing, stand still or go back; another rate than `fs`; an unknown unit; holes
        and uneven steps, where they are not allowed.
    """
    times, name = clock.times[:n_samples], excerpt(clock.name)
    if times.size < max(n_samples, 2):
        raise SignalError(f"time column {name} holds {times.size} times for {n_samples} samples; {REMEDY}")
    if (wrong := np.flatnonzero(~np.isfinite(times))).size:
        raise SignalError(f"time column {name}, row {clock.row(wrong[0])}: no time; {REMEDY}")
    edges, even = [0, times.size], True
    period = _grid_period(times)
    if period is None:
        period, edges = _steps(clock, times, UNEVEN_HOLE if jitter else HOLE)
        even = all(_is_even(times[start:stop], period) for start, stop in zip(edges[:-1], edges[1:], strict=True))
    unit = _unit(clock, period, fs)
    if not even and not jitter:
        raise SignalError(
            f"time column {name}: the times are uneven, their steps deviate by more than {JITTER:.0%} of the sample "
            'period: interpolate to an even rate, on_jitter="resample" (--on-jitter resample)'
        )
    if len(edges) > 2 and not holes:
        length = (times[edges[1]] - times[edges[1] - 1]) * unit
        raise SignalError(
            f"time column {name}, row {clock.row(edges[1])}: samples are missing for {length:g} s, the first of "
            f"{len(edges) - 2} holes: {SPLIT}"
        )
    rate = fs if fs is not None else float(f"{1 / (period * unit):.6g}")  # further digits are rounding of the times
    return Timing(rate, times * unit, list(zip(edges[:-1], edges[1:], strict=True)), even)


def _grid_period(times: NDArray[np.float64]) -> float | None:
    """The period of times that lie on an even grid, to the digits that they are written with; None of others.

    Such times may repeat: 125 Hz written with five digits counts 100.00, 100.01, 100.02, 100.02, 100.03 s.
    """
    index = np.arange(times.size) - (times.size - 1) / 2
    period = float(index @ (times - times.mean()) / (index @ index))  # least squares
    largest = times[times >= 10.0 ** np.floor(np.log10(times[-1]))] if times[-1] > 0 else times  # fewest decimals
    decimals = next(
        (d for d in range(10) if np.abs(largest * 10.0**d - np.round(largest * 10.0**d)).max() < 1e-3), None
    )
    if decimals is None or not 10.0**-decimals < 2 * period:
        return None
    return period if np.abs(times - times.mean() - index * period).max() <= 0.6 * 10.0**-decimals else None


def _steps(clock: Clock, times: NDArray[np.float64], hole: float) -> tuple[float, list[int]]:
    """Mean step of times that do advance, and where the runs between holes begin and end."""
    steps = np.diff(times)
    if (wrong := np.flatnonzero(steps <= 0)).size:
        at = int(wrong[0]) + 1
        what = "repeats the time before" if steps[at - 1] == 0 else "goes back in time"
        raise SignalError(f"time column {excerpt(clock.name)}, row {clock.row(at)}: {times[at]:.12g} {what}; {REMEDY}")
    whole = steps < hole * np.median(steps)
    return float(steps[whole].mean()), [0, *(np.flatnonzero(~whole) + 1).tolist(), times.size]


def _is_even(times: NDArray[np.float64], period: float) -> bool:
    if times.size < 3 or abs((_grid_period(times) or 0.0) / period - 1) <= JITTER:
        return True
    return float(np.sqrt(np.mean((np.diff(times) / period - 1) ** 2))) <= JITTER


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
    found = f"time column {excerpt(clock.name)} advances by {period:g} a row, which is {rate:.6g} Hz, not fs={fs:g}"
    if abs(1000 * rate / fs - 1) <= AGREEMENT:
        raise SignalError(f"{found}: it counts milliseconds, not seconds; {say_unit}")
    raise SignalError(f"{found}, as fs= (--fs), the file or the JSON file beside it says: correct that; {REMEDY}")
