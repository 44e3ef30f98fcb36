"""The validated arguments of one call: rate, modality, representations, filter, scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..config import Recipe
from ..errors import ConfigError, SignalError, unknown, warn
from .filters import (
    MODALITY_BAND,
    Passband,
    apply_filter,
    minimum_duration,
    modality_name,
    passband,
    warn_if_outside,
    warn_if_slow,
)
from .quality import Quality, quality, warn_if_clipped
from .validation import NAN_POLICIES, Signal, check_fs, fill_gaps, is_number, is_shorter

Limits = tuple[float, float]  # what an image spans, in the signal's units
FUSIONS = ("concat", "add")
READOUTS = ("embedding", "rows")  # of an image: the paper's 192 numbers, or 1056 of both encoders' last maps
REPRESENTATION_NAMES = ("angle", "phase", "psd", "recurrence", "scalogram", "waveform")  # drawn by `images`
ALIASES = {"spectrogram-angle": "angle", "spectrogram-phase": "phase", "spectrogram-psd": "psd"}


@dataclass(frozen=True)
class Call:
    """The checked arguments that decide the numbers of an embedding, beside the weights."""

    recipe: Recipe
    fs: float  # Hz
    modality: str
    representations: tuple[str, ...]
    fusion: str  # of the representations' embeddings: "concat" or "add"
    edges: Passband
    scale: str | Limits
    nan_policy: str
    max_gap: float  # seconds
    readout: str = "embedding"  # what is read from the network

    @classmethod
    def check(
        cls,
        recipe: Recipe,
        fs: Any,
        modality: Any,
        representation: Any = "scalogram",
        *,
        fusion: Any = "concat",
        band: Any = MODALITY_BAND,
        scale: Any = "window",
        nan_policy: Any = "error",
        max_gap: Any = 1.0,
        readout: Any = "embedding",
        windowed: bool = False,
    ) -> Call:
        """Check every argument; see `TinyBioMoE.embed` for what each may be.

        Raises
        ------
        SignalError
            The rate, or a band that lies above Nyquist.
        ConfigError
            Anything else that is not one of its choices.
        """
        names = [representation] if isinstance(representation, str) else representation
        if not isinstance(names, list | tuple) or not names:
            raise ConfigError(f"representation={representation!r}: expected a name or a list of names")
        if nan_policy not in NAN_POLICIES:
            raise unknown("nan_policy", nan_policy, NAN_POLICIES)
        if fusion not in FUSIONS:
            raise unknown("fusion", fusion, FUSIONS)
        check_readout(readout)
        if not is_number(max_gap) or max_gap < 0:
            raise ConfigError(f"max_gap={max_gap!r} must be a number of seconds, 0 or more")
        canonical = tuple(representation_name(name) for name in names)
        if len(set(canonical)) != len(canonical):
            raise ConfigError(f"representation={representation!r} names one representation twice")
        fs, modality = check_fs(fs), modality_name(modality)
        edges = passband(fs, modality, recipe, band)
        scale = check_scale(scale, windowed)
        if isinstance(scale, tuple) and edges.low is not None and not scale[0] < 0 < scale[1]:
            note = f"low cut-off {edges.low:g} Hz would remove the level that scale={scale} shows"
            edges = replace(edges, low=None, dropped=(*edges.dropped, note))
        return cls(recipe, fs, modality, canonical, fusion, edges, scale, nan_policy, float(max_gap), readout)

    @property
    def limits(self) -> Limits | None:
        """What every image spans, where the caller gave it."""
        return self.scale if isinstance(self.scale, tuple) else None

    def prepare(self, signal: Signal, where: str = "signal") -> tuple[Signal, Quality]:
        """Check and filter one signal: (n_samples,) to (n_samples,), finite, and how good it was.

        Raises
        ------
        SignalError
            Missing or infinite samples, too short, nothing in the band; the message says which.

        Warns
        -----
        SignalWarning
            Clipped; sampled too slowly for its modality; next to nothing of it lies in the band that is shown; or most
            of it lies outside `scale`.
        """
        filled, missing = fill_gaps(signal, self.fs, self.nan_policy, self.max_gap, where)
        measured = quality(filled, missing)
        warn_if_clipped(measured, where)
        warn_if_slow(self.fs, self.modality, self.edges, self.recipe, where)
        filtered = apply_filter(filled, self.fs, self.edges, self.recipe, where)
        warn_if_outside(filled, self.fs, self.edges, where)
        if self.limits is not None:
            _warn_if_beyond(filtered, self.limits, where)
        return filtered, measured

    def check_window(self, n_samples: int, where: str = "") -> None:
        """Refuse windows too short for an image of the band, however long the recording they are cut from.

        Raises
        ------
        SignalError
            Shorter than `filters.minimum_duration`; the message says how long a window must be.
        """
        minimum = minimum_duration(self.fs, self.edges, self.recipe)
        if is_shorter(n_samples, self.fs, minimum):
            raise SignalError(
                f"{where and f'{where}: '}a window of {n_samples / self.fs:g} s ({n_samples} samples) is too short "
                f"for an image of {self.modality} at {self.fs:g} Hz: at least {minimum:g} s are needed; "
                "window is in seconds"
            )

    def window_limits(self, recording: Signal) -> Limits | None:
        """What the images of a filtered recording's windows span."""
        return recording_limits(recording, self.recipe) if self.scale == "recording" else self.limits

    def describe(self) -> dict[str, Any]:
        """The call as plain values, for provenance."""
        shown = (self.edges.shown_low, self.edges.shown_high)
        return {
            "fs": self.fs,
            "modality": self.modality,
            "representation": list(self.representations),
            "fusion": self.fusion if len(self.representations) > 1 else None,
            "readout": self.readout,
            "filter": {"low": self.edges.low, "high": self.edges.high, "order": self.recipe.filter_order},
            "filter_dropped": list(self.edges.dropped),
            "shown_band": list(shown),
            "scale": list(self.scale) if isinstance(self.scale, tuple) else self.scale,
            "nan_policy": self.nan_policy,
            "max_gap": self.max_gap if self.nan_policy == "interpolate" else None,
        }


def _warn_if_beyond(filtered: Signal, limits: Limits, where: str) -> None:
    """Warn of a signal that lies, more than half of the time, beyond the range that its image spans."""
    beyond = float(np.mean((filtered < limits[0]) | (filtered > limits[1])))
    if beyond > 0.5:
        warn(
            f"{where}: {beyond:.0%} of the filtered samples lie outside scale={limits}, where an image shows only its "
            "border; give the range in the signal's own units",
            where,
        )


def column_of(representation: str, readout: str = "embedding") -> str:
    """The name of the column that holds a representation's vectors of a readout.

    >>> column_of("scalogram"), column_of("scalogram", "rows")
    ('scalogram', 'scalogram_rows')
    """
    return representation if readout == "embedding" else f"{representation}_{readout}"


def check_readout(readout: Any) -> None:
    """Refuse what is not one of `READOUTS`.

    Raises
    ------
    ConfigError
    """
    if readout not in READOUTS:
        raise unknown("readout", readout, READOUTS)


def check_scale(scale: Any, from_recording: bool = False) -> str | Limits:
    """The `scale` argument: "window", "recording" (where windows are cut from one), or (low, high).

    Raises
    ------
    ConfigError
        None of those.
    """
    if isinstance(scale, str) and (scale == "window" or (scale == "recording" and from_recording)):
        return scale
    if isinstance(scale, str) and scale == "recording":
        raise ConfigError('scale="recording" needs windows cut from a recording: pass window= in seconds')
    if (
        isinstance(scale, tuple | list | np.ndarray)
        and len(scale) == 2
        and all(map(is_number, scale))
        and scale[0] < scale[1]
    ):
        return float(scale[0]), float(scale[1])
    raise ConfigError(
        f'scale={scale!r}: expected "window", "recording" or (low, high) in the signal\'s units, low < high'
    )


def recording_limits(filtered: Signal, recipe: Recipe) -> Limits:
    """What images of a recording's windows span under scale="recording": its 1st to 99th percentile.

    Raises
    ------
    SignalError
        Both are one value: most of the recording is flat.
    """
    low, high = np.percentile(filtered, recipe.scale_percentiles)
    if not low < high:
        raise SignalError(
            f'the recording rests on {low:g} nearly all the time, so scale="recording" has no range: pass (low, high)'
        )
    return float(low), float(high)


def representation_name(name: object) -> str:
    """The canonical name of a representation, from its name or alias in any case.

    >>> representation_name("Spectrogram-PSD")
    'psd'
    """
    lowered = name.lower() if isinstance(name, str) else name
    if isinstance(lowered, str) and (canonical := ALIASES.get(lowered, lowered)) in REPRESENTATION_NAMES:
        return canonical
    raise unknown("representation", name, [*REPRESENTATION_NAMES, *ALIASES])
