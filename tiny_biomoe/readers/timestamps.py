"""A file's time column -> its sampling rate, and the runs of samples between two holes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError
from .recording import AGREEMENT, Clock, excerpt, position

HOLE = 1.5  # a step of the clock longer than so many sample periods means that samples are missing
UNEVEN_HOLE = 2.0  # the same where the caller accepts uneven times
JITTER = 0.1  # rms of the steps' errors, in periods; a tenth of one turns Nyquist's frequency by 18 degrees
SURELY_SECONDS = 4.0  # Hz; a clock of unknown unit and this rate would, in milliseconds, tell of 4 kHz: too fast
UNIX_SECONDS = 1e8, 1e11  # s; between March 1973 and the year 5138 a clock counts from 1970, below from its own start

TIME_NAMES = {
    "time",
    "t",
    "timestamp",
    "timestamps",
    "time stamp",
    "elapsed",
    "elapsed time",
    "unix",
    "unix time",
    "datetime",
    "date time",
    "utc",
}
TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
}

REMEDY = 'repair the times, or read without them, time_column="" (--time-column "")'


def find_clock(names: list[str], time_column: str | int | None) -> tuple[int | None, float | None]:
    """Position and unit (seconds) of the time column: the one asked for, or one whose name says so.

    >>> find_clock(["Time [ms]", "ECG"], None)
    (0, 0.001)
    """
    told = [_split_unit(name) for name in names]
    if time_column in (None, ""):
        found = next((index for index, (base, _) in enumerate(told) if base.lower() in TIME_NAMES), None)
        return found, None if found is None else told[found][1]
    if not isinstance(time_column, str) or time_column.strip() in names:
        index = position(names, time_column)  # type: ignore[arg-type]
        return index, told[index][1]
    base, unit = _split_unit(time_column)  # the caller's unit counts, not the file's
    index = position([name for name, _ in told], base)
    return index, unit or told[index][1]


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
    if times.size < max(n_samples, 2):
        raise SignalError(f"time column {name} holds {times.size} times for {n_samples} samples; {REMEDY}")
    if (wrong := np.flatnonzero(~np.isfinite(times))).size:
        raise SignalError(f"time column {name}, row {clock.first_row + wrong[0]}: no time; {REMEDY}")
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
            f"time column {name}, row {clock.first_row + edges[1]}: samples are missing for {length:g} s, the first of "
            f'{len(edges) - 2} holes: split the recording there, on_hole="split" (--on-hole split)'
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
        raise SignalError(
            f"time column {excerpt(clock.name)}, row {clock.first_row + at}: {times[at]:.12g} {what}; {REMEDY}"
        )
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
    told = f"time column {excerpt(clock.name)} advances by {period:g} a row, which is {rate:.6g} Hz, not fs={fs:g}"
    if abs(1000 * rate / fs - 1) <= AGREEMENT:
        raise SignalError(f"{told}: it counts milliseconds, not seconds; {say_unit}")
    raise SignalError(f"{told}: correct fs (--fs), or leave it out to take the file's; {REMEDY}")
