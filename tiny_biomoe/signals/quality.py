"""How good a signal is: what is missing, flat or clipped in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import warn
from .validation import Signal

CLIPPED_SHARE = 0.05  # of samples resting on the signal's own extremes; more is warned of
COARSE = 16  # distinct values; a signal of fewer rests on its extremes without being clipped (SpO2 in whole percent)
CLIPPED_RUN = 3  # successive equal samples at an extreme that count as resting on a rail


@dataclass(frozen=True)
class Quality:
    """Shares of a signal's samples, each in [0, 1], that carry less than they seem to."""

    missing: float  # were NaN and have been interpolated, or lie beyond the end of a window that is padded
    flat: float  # equal to the sample before
    clipped: float  # rest on the signal's minimum or maximum for three samples or more; 0 for coarse signals


def quality(signal: Signal, missing: float = 0.0) -> Quality:
    """Measure a finite signal.

    >>> quality(np.minimum(np.arange(40.0), 29))
    Quality(missing=0.0, flat=0.25, clipped=0.275)
    """
    equal = signal[1:] == signal[:-1]
    flat = float(np.count_nonzero(equal) / signal.size)
    if np.count_nonzero(equal) < CLIPPED_RUN - 1:
        return Quality(missing, flat, 0.0)
    same = np.concatenate([[False], equal])
    resting = same & ((signal == signal.min()) | (signal == signal.max()))
    edges = np.flatnonzero(np.diff(resting, prepend=False, append=False))
    runs = edges[1::2] - edges[::2] + 1  # with the first sample of each, which equals none before it
    clipped = float(runs[runs >= CLIPPED_RUN].sum() / signal.size)
    if clipped and _is_coarse(signal):
        clipped = 0.0
    return Quality(missing, flat, clipped)


def _is_coarse(signal: Signal) -> bool:
    """Whether fewer than `COARSE` values occur; a fine signal shows that in its first thousands of samples."""
    values: set[float] = set()
    for start in range(0, signal.size, 4096):
        values.update(np.unique(signal[start : start + 4096]).tolist())
        if len(values) >= COARSE:
            return False
    return True


def warn_if_clipped(measured: Quality, where: str = "signal") -> None:
    """Warn of a signal that spends more than `CLIPPED_SHARE` of its time on a rail."""
    if CLIPPED_SHARE < measured.clipped < 1.0:
        warn(
            f"{where}: {measured.clipped:.0%} of the samples rest on the lowest or highest value: the sensor may have "
            "been saturated, and the embedding shows the clipped signal",
            where,
        )
