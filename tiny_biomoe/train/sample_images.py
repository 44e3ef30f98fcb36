"""Windows of signals to samples: every view drawn once, so that a bad signal is met before training begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..batch.labels import (
    UNLABELLED,
    by_position,
    check_classes,
    check_labels,
    check_people,
    check_targets,
    classes_of,
    codes_of,
)
from ..config import IMAGE_SIZE, Recipe
from ..errors import ConfigError, SignalError, one_warning_a_kind, unknown, warn
from ..signals.filters import MODALITY_BAND, modality_name
from ..signals.request import representation_name
from .drawing import Drawing, Window
from .samples import MISSING, TASKS, Samples, View, name_of

__all__ = ["Window", "draw_samples"]


@one_warning_a_kind()
def draw_samples(
    windows: Sequence[Mapping[str, Window]],
    labels: Sequence[Any] | None,
    subjects: Sequence[Any],
    views: Sequence[tuple[str, str]],
    recipe: Recipe = Recipe(),
    *,
    task: str = "classification",
    classes: Sequence[Any] | None = None,
    unlabelled: str = "keep",
    missing: str = "error",
    bad: str = "error",
    band: Any = MODALITY_BAND,
    scale: Any = "window",
    nan_policy: str = "error",
    max_gap: float = 1.0,
    max_missing: float = 1.0,
    sources: Sequence[str] = (),
    bags: Sequence[Any] = (),
    learnt: Drawing | None = None,
) -> Samples:
    """Draw every view of every sample, so that a bad signal is met before training begins.

    Parameters
    ----------
    windows : for each sample, its stretch of each modality
    labels : for each sample its class, text or number; or under "regression" its number. None, NaN, NA, "" and "n/a"
        are none. None for all: nothing is known
    subjects : for each sample, whom it was recorded from; 1, 1.0 and "1" are one person, S01 and "s01 " as well
    views : (modality, representation) pairs, in the order in which they are joined
    recipe : of the model that will look at them
    task : "classification" or "regression"
    classes : in the order of the classifier's outputs; otherwise numbers by size, text by the alphabet
    unlabelled : "keep" samples without a label, "drop" them with a warning that counts them, or "error"
    missing : "error", or "mask" a view whose modality a sample does not have
    bad : "error", or "drop" a sample that cannot be drawn, which is warned of
    band, nan_policy, max_gap : as in `TinyBioMoE.embed`
    scale : what an image spans where a window has no `limits`: "window" or (low, high); "recording" says that all have
    max_missing : largest share of a window's samples that may be interpolated
    sources : for each sample, where it came from
    bags : for each sample, the name of the recording or person whose one label it shares with others
    learnt : how others were drawn; a window of another rate or length is refused, and its options replace those above

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
    for name, value, choices in (("missing", missing, MISSING), ("bad", bad, ("error", "drop")),
                                 ("unlabelled", unlabelled, UNLABELLED), ("task", task, TASKS)):  # fmt: skip
        if value not in choices:
            raise unknown(name, value, choices)
    n = len(windows)
    windows = list(windows)
    held = [{modality_name(name): window for name, window in each.items()} for each in windows]
    truth, named = _truth(labels, n, task, classes)
    named_sources = tuple(map(str, by_position(sources, n, "sources"))) if len(sources) else ()
    named_bags = tuple(map(str, by_position(bags, n, "bags"))) if len(bags) else ()
    whose = check_people(subjects, n)
    chosen = tuple(View(modality_name(modality), representation_name(name)) for modality, name in views)
    if scale == "recording" and any(window.limits is None for each in held for window in each.values()):
        raise ConfigError('scale="recording" needs the recording: give each Window its limits')
    options = learnt or Drawing(band, scale, nan_policy, max_gap, max_missing)
    kept = _labelled(truth, unlabelled, named_sources)
    levels, present, whole = _draw_all([held[i] for i in kept], chosen, missing, bad, recipe, options,
                                       [name_of(named_sources, i) for i in kept], learnt is not None)  # fmt: skip
    rows = [i for i, good in zip(kept, whole, strict=True) if good]
    return Samples(
        levels[whole], present[whole], truth[rows], tuple(whose[i] for i in rows), chosen, named,
        tuple(named_sources[i] for i in rows) if named_sources else (),
        learnt or options.learnt_from([held[i] for i in rows]),
        tuple(named_bags[i] for i in rows) if named_bags else (),
    )  # fmt: skip


def _truth(labels: Any, n: int, task: str, classes: Sequence[Any] | None) -> tuple[NDArray[Any], tuple[Any, ...]]:
    """What is known of each sample, as numbers, and the names of the classes."""
    if task == "regression":
        return np.full(n, np.nan) if labels is None else check_targets(labels, n), ()
    plain = check_labels([None] * n if labels is None else labels, n)
    named = check_classes(classes) if classes is not None else classes_of(plain, labels)
    return codes_of(plain, named), named


def _labelled(truth: NDArray[Any], unlabelled: str, sources: Sequence[str]) -> list[int]:
    """The samples to draw: all, or those whose label is known."""
    known = truth == truth if truth.dtype.kind == "f" else truth >= 0
    if known.all() or unlabelled == "keep":
        return list(range(len(truth)))
    count, first = int((~known).sum()), name_of(sources, int((~known).argmax()))
    if unlabelled == "error" or not known.any():
        raise ConfigError(
            f"{count} of {len(truth)} samples have no label, {first} the first: label them, or leave them out by "
            'unlabelled="drop" (--unlabelled drop)'
        )
    warn(f"{count} of {len(truth)} samples have no label and are left out, {first} the first")
    return np.flatnonzero(known).tolist()


def _draw_all(
    windows: Sequence[Mapping[str, Window]],
    views: Sequence[View],
    missing: str,
    bad: str,
    recipe: Recipe,
    options: Drawing,
    names: Sequence[str],
    check: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """The images of all samples, which views each has, and which samples could be drawn."""
    levels = np.zeros((len(windows), len(views), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    present = np.zeros(levels.shape[:2], bool)
    whole = np.ones(len(windows), bool)
    reasons: list[str] = []
    for row, (held, where) in enumerate(zip(windows, names, strict=True)):
        try:
            _draw_row(levels[row], present[row], held, views, missing, recipe, options, where, check)
        except SignalError as error:
            if bad == "error":
                raise
            whole[row] = False
            reasons.append(str(error))
    if reasons:
        warn(f"{len(reasons)} of {len(windows)} samples left out: {'; '.join(reasons[:3])}")
    if not whole.any():
        raise SignalError(f"no sample can be drawn: {'; '.join(reasons[:3]) or 'there is none'}")
    return levels, present, whole


def _draw_row(
    levels: NDArray[np.uint8],
    present: NDArray[np.bool_],
    held: Mapping[str, Window],
    views: Sequence[View],
    missing: str,
    recipe: Recipe,
    options: Drawing,
    where: str,
    check: bool,
) -> None:
    """The views of one sample, into its rows of the arrays."""
    for column, view in enumerate(views):
        name = f"{where}, {view.modality},"
        if view.modality in held:
            if check:
                options.check(held[view.modality], view.modality, name)
            levels[column] = options.draw(held[view.modality], view.modality, view.representation, recipe, name)
            present[column] = True
        elif missing == "error":
            raise SignalError(
                f'{where} has no {view.modality}, only {sorted(held)}: leave it out, or pass missing="mask" '
                "(--missing mask) to learn from what there is"
            )
    if not present.any():
        raise SignalError(f"{where} has no image at all: none of its modalities is looked at")
