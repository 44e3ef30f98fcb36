"""Windows to the images of samples: the options of drawing, which a classifier remembers, and `draw_samples`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
from ..errors import ConfigError, SignalError, listed, one_warning_a_kind, unknown, warn
from ..images.rendering import draw
from ..signals.filters import MODALITY_BAND, modality_name
from ..signals.request import Call, Limits, check_scale, representation_name
from ..signals.validation import check_signals, is_number
from .samples import MISSING, TASKS, Samples, View, name_of

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
