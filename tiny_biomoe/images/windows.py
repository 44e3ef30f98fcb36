"""A recording -> its windows: filtered once, those that lack too many samples left out, drawn one at a time."""

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

NO_MEMORY = "not enough memory to draw it"
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
    max_missing: float = 1.0  # share of a window's samples; where more are missing, the window is refused

    @classmethod
    def of(cls, signal: Signal, call: Call, where: str = "signal", max_missing: float = 1.0) -> FilteredRecording:
        """Fill the gaps of a recording, (n_samples,), and filter it.

        Raises
        ------
        SignalError
            It cannot be used as a whole; a single window may still turn out to be flat when it is drawn.
        """
        gaps = np.isnan(signal)
        raw, _ = fill_gaps(signal, call.fs, call.nan_policy, call.max_gap, where)
        filtered, _ = call.prepare(raw, where)
        noise = NOTHING_LEFT * float(np.ptp(filtered))
        return cls(call, raw, filtered, gaps, call.window_limits(filtered), noise, where, max_missing)

    @classmethod
    def by_window(
        cls, signal: Signal, call: Call, where: str = "signal", max_missing: float = 1.0
    ) -> FilteredRecording:
        """The same, where a gap that cannot be filled costs the windows that it touches and no others.

        The runs between such gaps are filtered each on its own; what belongs to none of them is NaN.

        Raises
        ------
        SignalError
            No run can be used.
        """
        gaps = np.isnan(signal)
        lost = unfilled(gaps, call)
        if not lost.any():
            return cls.of(signal, call, where, max_missing)
        raw, filtered = signal.copy(), np.full(signal.size, np.nan)
        problems: list[SignalError] = []
        for begin, end in runs(~lost):
            try:
                raw[begin:end], _ = fill_gaps(signal[begin:end], call.fs, call.nan_policy, call.max_gap, where)
                filtered[begin:end], _ = call.prepare(raw[begin:end], where)
            except SignalError as error:  # too short, or flat: nothing that begins or ends here is a window
                problems.append(error)
        kept = filtered[np.isfinite(filtered)]
        if not kept.size:
            raise problems[0] if problems else SignalError(f"{where} has only missing samples (NaN)")
        noise = NOTHING_LEFT * float(np.ptp(kept))
        return cls(call, raw, filtered, gaps, call.window_limits(kept), noise, where, max_missing)

    def refused(self, spans: Sequence[tuple[int, int]], end: int | None = None) -> NDArray[np.bool_]:
        """Which windows lack too much, beyond the recording's end too; `end` as in `window`."""
        if not self.gaps.any() and self.max_missing >= 1:
            return np.zeros(len(spans), bool)
        stop = self.gaps.size if end is None else end
        sums = [np.append(0, np.cumsum(each[:stop])) for each in (np.isnan(self.filtered), self.gaps)]
        begins = np.array([span[0] for span in spans], np.int64)
        whole = np.array([span[1] for span in spans], np.int64)
        ends = np.minimum(whole, stop)
        lost, gaps = (total[ends] - total[begins] for total in sums)
        return (lost > 0) | ((gaps + whole - ends) / (whole - begins) > self.max_missing)

    def quality(self, span: tuple[int, int], end: int | None = None) -> Quality:
        """How good the samples of a window were before they were filtered; `end` as in `window`."""
        (raw,) = cut(self.raw[:end], [span])
        return quality(raw, self._missing(span, end))

    def window(self, span: tuple[int, int], end: int | None = None) -> tuple[str, Signal]:
        """What errors call a window, and its filtered samples; those from sample `end` on are not looked at.

        Of a window that is refused there are no samples, and in place of its name stands the reason.
        """
        name = f"{self.where}, {span[0] / self.call.fs:g}-{span[1] / self.call.fs:g} s,"
        (part,) = cut(self.filtered[:end], [span])
        if np.isnan(part).any() or self._missing(span, end) > self.max_missing:
            return f"{name} {self.why_refused()}", np.empty(0)
        return name, part

    def _missing(self, span: tuple[int, int], end: int | None) -> float:
        """Share of a window's samples that are not in the recording: filled, or padded."""
        gaps = self.gaps[:end][slice(*span)]
        size = span[1] - span[0]
        return float((np.count_nonzero(gaps) + size - gaps.size) / size)

    def why_refused(self) -> str:
        """What is wrong with a window that is refused."""
        long = "missing samples" if self.call.nan_policy == "error" else f"a gap longer than {self.call.max_gap:g} s"
        share, allowed = "", ""
        if self.max_missing < 1:
            share = f", or lacks more than {self.max_missing:.0%} of its samples"
            allowed = ", max_missing= how much may be"
        return f"lies in or beside {long}{share}: nan_policy= and max_gap= say what is filled{allowed}"


def runs(of: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where successive elements are true: (start, stop) of each run."""
    edges = np.flatnonzero(np.diff(of, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def unfilled(gaps: NDArray[np.bool_], call: Call) -> NDArray[np.bool_]:
    """Which missing samples are not filled: all under "error", else those of gaps longer than `max_gap`."""
    if call.nan_policy == "error" or not gaps.any():
        return gaps
    lost = np.zeros(gaps.size, bool)
    for begin, end in runs(gaps):
        lost[begin:end] = end - begin > call.max_gap * call.fs
    return lost


def draw_windows(
    call: Call, limits: Limits | None, noise: float, windows: Sequence[tuple[str, Signal]]
) -> list[Pictures | str]:
    """Draw the representations of several windows of one recording, or say why one cannot be drawn.

    It takes and gives plain values, so that it can run in another process.
    """
    drawn: list[Pictures | str] = []
    for where, part in windows:
        if not part.size:
            drawn.append(where)
            continue
        try:
            drawn.append(np.stack(list(draw_all(part, call, limits, noise=noise, where=where))))
        except SignalError as error:
            drawn.append(str(error))
        except MemoryError:
            drawn.append(f"{where} {NO_MEMORY}")
    return drawn
