"""Windows of signals to samples: every view drawn once, so that a bad signal is met before training begins."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import IMAGE_SIZE, Recipe
from ..errors import ConfigError, SignalError, SignalWarning, unknown
from ..images.rendering import draw
from ..signals.filters import MODALITY_BAND, modality_name
from ..signals.request import Call, Limits, representation_name
from ..signals.validation import check_signals
from .samples import MISSING, Samples, View, name_of


@dataclass(frozen=True)
class Window:
    """One stretch of one signal."""

    signal: Any  # (n_samples,)
    fs: float  # Hz
    limits: Limits | None = None  # what its images span, in the signal's units; None for its own range
    filtered: bool = False  # whether it was cut from a recording that was filtered as a whole
    noise: float = 0.0  # a window that spans no more than this, in its units, is flat


def draw_samples(
    windows: Sequence[Mapping[str, Window]],
    labels: Sequence[Any | None] | None,
    subjects: Sequence[Any],
    views: Sequence[tuple[str, str]],
    recipe: Recipe = Recipe(),
    *,
    classes: Sequence[str] | None = None,
    missing: str = "error",
    bad: str = "error",
    band: Any = MODALITY_BAND,
    sources: Sequence[str] = (),
) -> Samples:
    """Draw every view of every sample, so that a bad signal is met before training begins.

    Parameters
    ----------
    windows : for each sample, its stretch of each modality
    labels : for each sample, None where it is not known; or None for all
    subjects : for each sample, whom it was recorded from
    views : (modality, representation) pairs, in the order in which they are joined
    recipe : of the model that will look at them
    classes : in the order of the classifier's outputs; the sorted labels otherwise
    missing : "error", or "mask" a view whose modality a sample does not have
    bad : "error", or "drop" a sample that cannot be drawn, which is warned of
    band : as in `TinyBioMoE.embed`
    sources : for each sample, where it came from

    Raises
    ------
    SignalError
        A signal cannot be drawn, or a modality is missing, of the sample named; or of all samples, where bad ones are
        dropped.
    ConfigError
        An argument is not one of its choices, or a label is none of the classes.

    Notes
    -----
    Images are kept as bytes, 50 kB a view.
    """
    if missing not in MISSING:
        raise unknown("missing", missing, MISSING)
    if bad not in ("error", "drop"):
        raise unknown("bad", bad, ["error", "drop"])
    for name, given in (("labels", labels), ("subjects", subjects), ("sources", sources or None)):
        if given is not None and len(given) != len(windows):
            raise ConfigError(f"there are {len(windows)} samples and {len(given)} {name}: give one for each")
    chosen = tuple(View(modality_name(modality), representation_name(name)) for modality, name in views)
    named = (
        tuple(map(str, classes))
        if classes is not None
        else tuple(sorted({str(x) for x in labels or () if x is not None}))
    )
    levels = np.zeros((len(windows), len(chosen), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    present = np.zeros(levels.shape[:2], bool)
    whole = np.ones(len(windows), bool)
    for row, held in enumerate(windows):
        try:
            _draw_row(levels[row], present[row], held, chosen, missing, recipe, band, name_of(sources, row))
        except SignalError as error:
            if bad == "error":
                raise
            whole[row] = False
            warnings.warn(f"left out: {error}", SignalWarning, stacklevel=2)
    if not whole.any():
        raise SignalError("no sample can be drawn; the warnings say why of each")
    codes = np.array([-1 if label is None else _code(label, named) for label in labels or [None] * len(windows)])
    kept = np.flatnonzero(whole).tolist()
    return Samples(
        levels[kept], present[kept], codes[kept].astype(np.int64), tuple(str(subjects[i]) for i in kept), chosen, named,
        tuple(sources[i] for i in kept) if sources else (),
    )  # fmt: skip


def _draw_row(
    levels: NDArray[np.uint8],
    present: NDArray[np.bool_],
    held: Mapping[str, Window],
    views: Sequence[View],
    missing: str,
    recipe: Recipe,
    band: Any,
    where: str,
) -> None:
    """The views of one sample, into its rows of the arrays."""
    own = {modality_name(name): window for name, window in held.items()}
    for column, view in enumerate(views):
        if view.modality in own:
            levels[column] = _draw(own[view.modality], view, recipe, band, f"{where}, {view.modality},")
            present[column] = True
        elif missing == "error":
            raise SignalError(
                f'{where} has no {view.modality}, only {sorted(own)}: leave it out, or pass missing="mask" '
                "(--missing mask) to learn from what there is"
            )
    if not present.any():
        raise SignalError(f"{where} has no image at all: none of its modalities is looked at")


def _draw(window: Window, view: View, recipe: Recipe, band: Any, where: str) -> NDArray[np.uint8]:
    call = Call.check(recipe, window.fs, view.modality, view.representation, band=band, scale=window.limits or "window")
    (signal,), _ = check_signals([window.signal], where)
    if not window.filtered:
        signal, _ = call.prepare(signal, where)
    return draw(signal, call.fs, call.edges, view.representation, recipe, call.limits, noise=window.noise, where=where)


def _code(label: Any, classes: tuple[str, ...]) -> int:
    if str(label) not in classes:
        raise unknown("label", label, classes)
    return classes.index(str(label))
