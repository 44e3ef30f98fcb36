"""Times of samples that came in packets -> even times within runs, and the holes between them.

A radio or a network delivers several samples together, late by a little and often with one time. Such times jitter by
more than a sample period although the sensor sampled evenly. A delay is made up for by the samples that follow; lost
samples are not, and shift all that follow. That tells the two apart.
"""

from __future__ import annotations

from bisect import bisect

import numpy as np
from numpy.typing import NDArray

from .timestamps import HOLE

Times = NDArray[np.float64]

EVEN = 0.1  # rms of the steps' errors in periods, up to which times need no mending
WINDOW = 2.0  # seconds on either side of a step over which a lasting shift shows
FEWEST = 16  # packets in such a window
SHIFT = 0.75  # sample periods; a lasting shift by more is a hole
SPREAD = 4.0  # median deviations of the times around their line; likewise
LATEST = 1.0  # seconds by which a time may lie beside its line; what strays further did not come evenly


def even_times(stamps: Times, fs: float | None = None) -> Times:
    """Times of the sensor's samples from the times at which they arrived.

    Parameters
    ----------
    stamps : (n_samples,) in seconds
    fs : nominal rate in Hz, if known; otherwise the times tell it

    Returns
    -------
    (n_samples,) in seconds: even within each run, with a longer step where samples are missing; `stamps` as they are
    where they need no mending or did not come from an even sensor

    Examples
    --------
    >>> even_times(np.repeat([0.03, 0.07, 0.11, 0.15], 4)).round(3)[:6]
    array([0.  , 0.01, 0.02, 0.03, 0.04, 0.05])
    """
    if stamps.size < 4 or not np.isfinite(stamps).all():
        return stamps
    usual = float(np.median(np.diff(stamps)))
    if usual > 0 and _is_even(stamps, usual):
        return stamps
    period = 1 / fs if fs else _period(stamps)
    if not period > 0:
        return stamps
    spread = _over_packets(stamps, period)
    packet = stamps.size / (1 + np.count_nonzero(np.diff(stamps)))
    edges = [0, *_holes(spread, period, packet), stamps.size]
    runs = list(zip(edges[:-1], edges[1:], strict=True))
    moments = [_moments(spread[start:stop]) for start, stop in runs]
    weight = sum(moment[1] for moment in moments)
    slope = sum(moment[0] for moment in moments) / weight if weight else period
    times = np.empty_like(stamps)
    for start, stop in runs:
        index = np.arange(stop - start) - (stop - start - 1) / 2
        times[start:stop] = spread[start:stop].mean() + slope * index
    return times if slope > 0 and np.abs(times - spread).max() <= max(LATEST, 2 * slope) else stamps


def _period(stamps: Times) -> float:
    """Sample period by the time that many samples take, which holes and packets hardly move."""
    width = min(max(stamps.size // 4, 1), 512)
    return float(np.median(stamps[width:] - stamps[:-width])) / width


def _is_even(stamps: Times, period: float) -> bool:
    steps = np.diff(stamps)
    whole = steps[steps < HOLE * period]
    return bool((steps > 0).all()) and bool(np.sqrt(np.mean((whole / period - 1) ** 2)) <= EVEN if whole.size else True)


def _over_packets(stamps: Times, period: float) -> Times:
    """Samples that share a time are those of one packet: its last one was sampled when it was sent."""
    begins = np.flatnonzero(np.diff(stamps, prepend=np.nan) != 0)
    lengths = np.diff(begins, append=stamps.size)
    from_last = np.repeat(begins + lengths - 1, lengths) - np.arange(stamps.size)
    return stamps - from_last * period


def _holes(times: Times, period: float, packet: float) -> list[int]:
    """Samples in front of which others are missing, the clearest found first."""
    late = times - period * np.arange(times.size)
    width = min(max(round(WINDOW / period), round(FEWEST * packet)), times.size)
    blocks = late[: times.size // width * width].reshape(-1, width)
    usual = float(np.median(np.abs(blocks - np.median(blocks, axis=1, keepdims=True))))
    least = max(SHIFT * period, SPREAD * usual)
    steps = np.diff(times) - period
    doubtful = np.flatnonzero(steps > least / 2)
    edges = [0, times.size]
    for at in (doubtful[np.argsort(-steps[doubtful], kind="stable")] + 1).tolist():
        place = bisect(edges, at)
        before, after = late[max(at - width, edges[place - 1]) : at], late[at : min(at + width, edges[place])]
        few = min(before.size, after.size) < FEWEST  # too near another hole for its middle to mean anything
        if (steps[at - 1] if few else np.median(after) - np.median(before)) > (2 * least if few else least):
            edges.insert(place, at)
    return edges[1:-1]


def _moments(times: Times) -> tuple[float, float]:
    """Numerator and denominator of the least-squares slope of a run."""
    index = np.arange(times.size) - (times.size - 1) / 2
    return float(index @ (times - times.mean())), float(index @ index)
