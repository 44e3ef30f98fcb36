"""How windows become images: the options of drawing, which a classifier remembers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Recipe
from ..errors import ConfigError, SignalError, listed
from ..images.rendering import draw
from ..signals.filters import MODALITY_BAND
from ..signals.request import Call, Limits, check_scale
from ..signals.validation import check_signals, is_number

SLACK = 0.01  # rates and lengths that differ by no more than this share are the same


@dataclass(frozen=True)
class Window:
    """One stretch of one signal."""

    signal: Any  # (n_samples,)
    fs: float  # Hz
    limits: Limits | None = None  # what its images span, in the signal's units; None for its own range
    filtered: bool = False  # whether it was cut from a recording that was filtered as a whole
    noise: float = 0.0  # a window that spans no more than this, in its units, is flat
    missing: float = 0.0  # share of its samples that were interpolated or padded, of a window that was filtered


@dataclass(frozen=True)
class Drawing:
    """The options of drawing, and the rates and lengths that were drawn.

    Raises
    ------
    ConfigError
        An option is not one of its choices.
    """

    band: Any = MODALITY_BAND  # as in `TinyBioMoE.embed`, and so the next three
    scale: Any = "window"  # or "recording", or (low, high)
    nan_policy: str = "error"
    max_gap: float = 1.0  # seconds
    max_missing: float = 1.0  # largest share of a window's samples that may be interpolated
    fs: Mapping[str, Sequence[float]] = field(default_factory=dict)  # Hz, by modality: those that occurred
    seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)  # by modality: shortest and longest window

    def __post_init__(self) -> None:
        if not is_number(self.max_missing) or not 0 <= self.max_missing <= 1:
            raise ConfigError(f"max_missing={self.max_missing!r} must be a share between 0 and 1")
        object.__setattr__(self, "scale", check_scale(self.scale, True))
        object.__setattr__(self, "band", tuple(self.band) if isinstance(self.band, list) else self.band)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `Drawing(**values)` reads them."""
        return asdict(self)

    def options(self) -> dict[str, Any]:
        """The options, without what was drawn by them."""
        return {name: value for name, value in vars(self).items() if name not in ("fs", "seconds")}

    def learnt_from(self, windows: Sequence[Mapping[str, Window]]) -> Drawing:
        """The same with the scale, the rates and the lengths of windows, by canonical modality."""
        rates: dict[str, set[float]] = {}
        lengths: dict[str, list[float]] = {}
        limits: set[Limits | None] = set()
        for held in windows:
            for modality, window in held.items():
                rates.setdefault(modality, set()).add(float(window.fs))
                lengths.setdefault(modality, []).append(np.size(window.signal) / float(window.fs))
                limits.add(window.limits)
        return replace(
            self,
            scale=self.scale if limits <= {None} or self.scale != "window" else _spanned(limits),
            fs={modality: sorted(found) for modality, found in rates.items()},
            seconds={modality: [min(found), max(found)] for modality, found in lengths.items()},
        )

    def check(self, window: Window, modality: str, where: str) -> None:
        """Refuse a window unlike those that were learnt from.

        Raises
        ------
        SignalError
            Its rate, its length or what its image spans is another.
        """
        rates, lengths = self.fs.get(modality), self.seconds.get(modality)
        if rates and not any(abs(window.fs - rate) <= SLACK * rate for rate in rates):
            known = listed((f"{rate:g}" for rate in rates), 5, ", ...")
            raise SignalError(
                f"{where} is sampled at {window.fs:g} Hz, and what was learnt from at {known} Hz: resample it"
            )
        seconds = np.size(window.signal) / window.fs
        if lengths and not lengths[0] * (1 - SLACK) <= seconds <= lengths[1] * (1 + SLACK):
            span = f"{lengths[0]:g}" if lengths[0] == lengths[1] else f"{lengths[0]:g} to {lengths[1]:g}"
            raise SignalError(f"{where} lasts {seconds:g} s, and what was learnt from {span} s: cut windows of that")
        spans = "window" if window.limits is None else window.limits
        wanted = self.scale if self.scale != "recording" or spans == "window" else spans
        if spans != wanted and not (isinstance(wanted, tuple) and spans == "window"):
            raise SignalError(
                f"{where} is to be drawn over {spans}, and what was learnt from spans {self.scale!r}: give its limits "
                "likewise"
            )

    def draw(self, window: Window, modality: str, representation: str, recipe: Recipe, where: str) -> NDArray[np.uint8]:
        """One image of a window: (224, 224) levels."""
        scale = window.limits or (self.scale if isinstance(self.scale, tuple) else "window")
        call = Call.check(
            recipe, window.fs, modality, representation, band=self.band, scale=scale, nan_policy=self.nan_policy,
            max_gap=self.max_gap,
        )  # fmt: skip
        (signal, *others), _ = check_signals([window.signal], where)
        if others:
            raise SignalError(f"{where} holds several signals: a window is one, (n_samples,)")
        missing = window.missing
        if not window.filtered:
            signal, quality = call.prepare(signal, where)
            missing = quality.missing
        if missing > self.max_missing:
            raise SignalError(
                f"{where}: {missing:.0%} of the samples are missing, more than max_missing={self.max_missing:g} "
                "(--max-missing): leave it out, or raise that"
            )
        return draw(signal, call.fs, call.edges, representation, recipe, call.limits, noise=window.noise, where=where)


def _spanned(limits: set[Limits | None]) -> Any:
    """What windows with limits of their own span: one range for all, or each its recording's."""
    return next(iter(limits)) if len(limits) == 1 else "recording"
