"""A recording -> its windows: checked and filtered once, then cut and drawn one window at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError
from ..signals.filters import NOTHING_LEFT
from ..signals.quality import Quality, quality
from ..signals.request import Call, Limits
from ..signals.validation import Signal, cut, fill_gaps
from .rendering import draw_all

Pictures = NDArray[np.uint8]  # (n_representations, 224, 224), indices into the palette


@dataclass(frozen=True)
class FilteredRecording:
    """One recording, checked and filtered, ready to be cut anywhere."""

    call: Call
    raw: Signal  # (n_samples,), gaps filled
    filtered: Signal  # (n_samples,)
    gaps: NDArray[np.bool_]  # (n_samples,), whether the sample was missing
    limits: Limits | None  # what every image spans; None for each window's own range
    noise: float  # a window that spans no more than this, in the signal's units, is flat
    where: str  # what errors call the recording

    @classmethod
    def of(cls, signal: Signal, call: Call, where: str = "signal") -> FilteredRecording:
        """Fill the gaps of a recording, (n_samples,), and filter it.

        Raises
        ------
        SignalError
            It cannot be used as a whole; a single window may still turn out to be flat when it is drawn.
        """
        gaps = np.isnan(signal)
        raw, _ = fill_gaps(signal, call.fs, call.nan_policy, call.max_gap, where)
        filtered, _ = call.prepare(raw, where)
        return cls(
            call, raw, filtered, gaps, call.window_limits(filtered), NOTHING_LEFT * float(np.ptp(filtered)), where
        )

    def quality(self, span: tuple[int, int], end: int | None = None) -> Quality:
        """How good the samples of a window were before they were filtered; `end` as in `window`."""
        (raw,) = cut(self.raw[:end], [span])
        return quality(raw, float(self.gaps[:end][slice(*span)].mean()))

    def window(self, span: tuple[int, int], end: int | None = None) -> tuple[str, Signal]:
        """What errors call a window, and its filtered samples; those from sample `end` on are not looked at."""
        (part,) = cut(self.filtered[:end], [span])
        return f"{self.where}, {span[0] / self.call.fs:g}-{span[1] / self.call.fs:g} s,", part


def draw_windows(
    call: Call, limits: Limits | None, noise: float, windows: Sequence[tuple[str, Signal]]
) -> list[Pictures | str]:
    """Draw the representations of several windows of one recording, or say why one cannot be drawn.

    It takes and gives plain values, so that it can run in another process.
    """
    drawn: list[Pictures | str] = []
    for where, part in windows:
        try:
            drawn.append(np.stack(list(draw_all(part, call, limits, noise=noise, where=where))))
        except SignalError as error:
            drawn.append(str(error))
        except MemoryError:
            drawn.append(f"{where} not enough memory to draw it")
    return drawn
