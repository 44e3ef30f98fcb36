"""Samples that were held: a slow sensor exported at a fast one's rate, each of its values repeated in equal runs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..signals.validation import Signal

HEAD = 4096  # samples that are looked at first: few signals repeat theirs
REPEATED = 0.45  # share of samples equal to the one before, without which nothing is held
FEWEST = 16  # changes of value, fewer say nothing
ON_GRID = 0.98  # share of the changes that lie on one grid
ASTRAY = 0.1  # periods by which they may lie beside it; rounding to whole samples moves them by half a sample
SINGLE = 0.02  # share of values that last one sample


class Held(NamedTuple):
    """A signal whose values change on a grid coarser than its samples."""

    period: float  # samples that a value is held, 16 where 4 Hz is exported at 64 Hz; not always whole
    first: float  # sample, or place between two, at which a value begins

    def rate(self, fs: float) -> float:
        """The rate in Hz at which the values were taken, of a signal at `fs`."""
        rate = float(f"{fs / self.period:.6g}")
        return float(round(rate)) if abs(rate - round(rate)) <= 1e-4 * rate else rate


def held(signal: Signal) -> Held | None:
    """Whether each value is repeated in equal runs, which the steps of a coarse converter are not.

    Parameters
    ----------
    signal : (n_samples,); NaN where a sample is missing

    Examples
    --------
    >>> held(np.repeat(np.sin(np.arange(100.0)), 16))
    Held(period=16.0, first=16.0)
    >>> held(np.round(np.sin(np.arange(1600) / 16), 2)) is None
    True
    """
    head = signal[:HEAD]
    if signal.size < 2 * FEWEST or np.count_nonzero(head[1:] == head[:-1]) < REPEATED * (head.size - 1):
        return None
    steps = np.diff(signal)
    changes = np.flatnonzero(steps) + 1  # NaN steps, at missing samples, among them
    changes = changes[np.isfinite(steps[changes - 1])]
    if changes.size < FEWEST:
        return None
    runs = np.diff(changes)
    if np.mean(runs < 2) > SINGLE:
        return None
    shortest = float(np.quantile(runs, 0.05, method="nearest"))
    period = float(runs[np.abs(runs - shortest) <= max(1.0, 0.25 * shortest)].mean())
    for _ in range(3):  # each time over a longer way, for the number of periods between two changes is then surer
        index = np.append(0.0, np.cumsum(np.maximum(np.round(runs / period), 1.0)))
        period, first = np.polyfit(index, changes, 1).tolist()
    if period < 2 - 1e-9 or _is_staircase(np.abs(steps[changes - 1]), np.diff(index)):
        return None
    astray = np.abs(changes - first - period * index)
    if np.mean(astray <= max(0.51, ASTRAY * period)) < ON_GRID:
        return None
    beside = changes - period * index  # a change shows at the first sample behind it
    first = float(beside.min() if np.ptp(beside) <= 1.0 + 1e-6 else beside.mean())
    whole = round(period)
    if np.mean(np.abs(changes - changes[0] - whole * index) < 0.5) >= ON_GRID:
        period, first = float(whole), float(changes[0])
    return Held(period, first)


def _is_staircase(heights: NDArray[np.float64], lengths: NDArray[np.float64]) -> bool:
    """Whether every change is one step of a converter after the same time: a slope, as sampled, looks like that."""
    return bool(np.ptp(heights) <= 1e-6 * heights.max() and np.unique(lengths).size < 3)


def reduced(signal: Signal, found: Held) -> tuple[Signal, float]:
    """One sample of each run, from its middle, and the place in the signal at which the first of these runs began.

    A run of which next to nothing is there, at either end, is left out.
    """
    least = max(0.5, ASTRAY * found.period)  # samples of a run
    begin = np.ceil((least - found.first) / found.period - 1 - 1e-9)
    end = np.floor((signal.size - least - found.first) / found.period + 1e-9)
    begins = found.first + found.period * np.arange(begin, end + 1)
    middles = np.floor(begins + found.period / 2 - 1e-9)
    taken = signal[np.clip(middles, 0, signal.size - 1).astype(np.int64)]
    for run in np.flatnonzero(np.isnan(taken)):  # whose value may stand at another of its samples
        ends = begins[run] + np.array([0.0, found.period])
        first, stop = np.clip(np.ceil(ends - 1e-9), 0, signal.size).astype(np.int64)
        there = signal[first:stop][~np.isnan(signal[first:stop])]
        taken[run] = there[there.size // 2] if there.size else np.nan
    return taken, float(begins[0])
