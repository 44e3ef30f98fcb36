"""Labelled samples: the images that a classifier looks at, and whose they are.

A view is a modality and a representation. A sample may hold several, as in the fusion of the paper's Tables 5 and 6.
Samples of one person stay together wherever they are divided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..batch.labels import Label, check_people, person_key
from ..config import IMAGE_SIZE
from ..errors import ConfigError, unknown

if TYPE_CHECKING:
    from .drawing import Drawing

MISSING = ("error", "mask")
TASKS = ("classification", "regression")


class View(NamedTuple):
    """What one image of a sample shows."""

    modality: str
    representation: str

    def __str__(self) -> str:
        return f"{self.modality}/{self.representation}"


@dataclass(frozen=True)
class Samples:
    """Images of samples, with what is known of each.

    Labels are places among `classes`, -1 where none is known; or, where there are no classes, numbers to predict, NaN
    where none is known. Spellings of one person become one.

    Raises
    ------
    ConfigError
        Columns of different lengths, a label that is none of the classes, a person that is missing, a bag of several
        people or labels, or a sample without any image.
    """

    levels: NDArray[np.uint8] = field(repr=False)  # (n, views, 224, 224); zeros where a view is missing
    present: NDArray[np.bool_] = field(repr=False)  # (n, views)
    labels: NDArray[Any] = field(repr=False)  # (n,) int64 places, or float64 numbers
    subjects: tuple[str, ...] = field(repr=False)  # (n,)
    views: tuple[View, ...]
    classes: tuple[Label, ...]
    sources: tuple[str, ...] = field(default=(), repr=False)  # (n,), where each came from; empty if not known
    drawing: Drawing | None = field(default=None, repr=False)  # how the images were made, where that is known
    bags: tuple[str, ...] = field(default=(), repr=False)  # (n,), the recording or person whose label it shares

    def __post_init__(self) -> None:
        n, views = len(self.levels), len(self.views)
        shapes = {
            "levels": (self.levels.shape, (n, views, IMAGE_SIZE, IMAGE_SIZE)),
            "present": (self.present.shape, (n, views)),
            "labels": (self.labels.shape, (n,)),
            "subjects": ((len(self.subjects),), (n,)),
            "sources": ((len(self.sources),), (n if self.sources else 0,)),
            "bags": ((len(self.bags),), (n if self.bags else 0,)),
        }
        for name, (shape, expected) in shapes.items():
            if shape != expected:
                raise ConfigError(f"samples: {name} has shape {shape}, expected {expected}")
        if n == 0 or views == 0:
            raise ConfigError("samples: there are none; give at least one sample and one view of it")
        object.__setattr__(self, "subjects", check_people(self.subjects, n))
        if len(set(self.views)) != views or len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"samples: a view or a class is named twice, {list(map(str, self.views))} {self.classes}")
        if self.task == "classification" and (self.labels.min() < -1 or self.labels.max() >= len(self.classes)):
            raise ConfigError(f"samples: labels count from 0 to {len(self.classes) - 1}, or are -1 where none is known")
        if not self.present.any(1).all():
            raise ConfigError(f"samples: {self.name(int((~self.present.any(1)).argmax()))} has no image at all")
        self._check_bags()

    def _check_bags(self) -> None:
        shared: dict[str, tuple[str, float]] = {}
        for at, bag in enumerate(self.bags):
            mine = self.subjects[at], float(np.nan_to_num(self.labels[at], nan=np.inf))
            if shared.setdefault(bag, mine) != mine:
                raise ConfigError(
                    f"samples: {self.name(at)} and others of {bag!r} are of two people or labels, and a bag has one of "
                    "each: choose another level (--level)"
                )

    @property
    def task(self) -> str:
        """`classification`, or `regression` where labels are numbers to predict."""
        return "regression" if self.labels.dtype.kind == "f" else "classification"

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which samples have a label, (n,)."""
        return ~np.isnan(self.labels) if self.task == "regression" else self.labels >= 0

    def __len__(self) -> int:
        return len(self.levels)

    def take(self, index: Any) -> Samples:
        """Some of the samples, by a boolean mask or by their numbers, in that order."""
        rows = np.arange(len(self))[index]
        if not rows.size:
            raise ConfigError("samples: none is left after the choice")
        return replace(
            self, levels=self.levels[rows], present=self.present[rows], labels=self.labels[rows],
            subjects=_at(self.subjects, rows), sources=_at(self.sources, rows), bags=_at(self.bags, rows),
        )  # fmt: skip

    def labelled(self) -> Samples:
        """Those whose label is known."""
        return self if self.known.all() else self.take(self.known)

    def at_level(self, level: str) -> Samples:
        """The same, with the bags of a level: the "window" alone, its "recording", or its "subject".

        Raises
        ------
        ConfigError
            The recordings are not given, or a bag is of several people or labels.
        """
        if level == "recording" and not self.bags:
            raise ConfigError('level="recording" needs bags=, the recording of each sample: give it to draw_samples')
        return self if level == "recording" else replace(self, bags=self.subjects if level == "subject" else ())

    def units(self) -> list[NDArray[np.int64]]:
        """The samples that share one label: those of each bag, in the order of their first; each alone without bags."""
        members: dict[Any, list[int]] = {}
        for row in range(len(self)):
            members.setdefault(self.bags[row] if self.bags else row, []).append(row)
        return [np.array(rows) for rows in members.values()]

    def columns(self, views: Sequence[View]) -> list[int]:
        """Where some of the views are among those of the samples."""
        if strangers := [view for view in views if view not in self.views]:
            raise unknown("view", str(strangers[0]), map(str, self.views))
        return [self.views.index(view) for view in views]

    def look(self, views: Sequence[View]) -> Samples:
        """The same samples seen through some of their views; those that have none of these are left out."""
        columns = self.columns(views)
        kept = np.flatnonzero(self.present[:, columns].any(1))
        rest = self.take(kept)
        return replace(rest, levels=rest.levels[:, columns], present=rest.present[:, columns], views=tuple(views))

    def name(self, index: int) -> str:
        """What errors and tables call a sample."""
        return name_of(self.sources, index)

    @cached_property
    def sha256(self) -> str:
        """Of everything that training on these samples depends on."""
        facts = (self.views, self.classes, self.subjects, *([self.bags] if self.bags else []))
        digest = hashlib.sha256(repr(facts).encode())
        for column in (self.levels, self.present, self.labels):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


def _at(values: tuple[str, ...], rows: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(values[i] for i in rows) if values else ()


def name_of(sources: Sequence[str], row: int) -> str:
    """What errors and tables call a sample."""
    return sources[row] if sources else f"sample {row}"


def concatenate(parts: Sequence[Samples]) -> Samples:
    """Samples of the same views and classes one after another."""
    subjects, sources, bags = (
        tuple(chain.from_iterable(getattr(part, name) for part in parts)) for name in ("subjects", "sources", "bags")
    )
    levels, present, labels = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("levels", "present", "labels")
    )
    return replace(
        parts[0], levels=levels, present=present, labels=labels, subjects=subjects, sources=sources, bags=bags
    )


def split_subjects(samples: Samples, share: float, seed: int = 0) -> tuple[Samples, Samples]:
    """Divide samples by person: about `share` of the people into the second part, and nobody into both.

    Of a hundred random divisions that leave every class in both parts, the one is taken in which the classes' shares
    are most alike; of numbers to predict, in which their means are.

    Raises
    ------
    ConfigError
        There is one subject, or no division leaves every class in both parts.
    """
    check_labelled(samples)
    people = sorted(set(samples.subjects))
    if not 0 < share < 1:
        raise ConfigError(f"share={share!r} of the subjects must lie between 0 and 1")
    if len(people) < 2:
        raise ConfigError(f"all samples are of one subject, {people[0]!r}, and a subject is never divided")
    count = min(len(people) - 1, max(1, round(share * len(people))))
    belongs = np.array([people.index(subject) for subject in samples.subjects])
    rng = np.random.default_rng(seed)
    drawn = (np.isin(belongs, rng.permutation(len(people))[:count]) for _ in range(100))
    fitting = [(_unlike(samples, mask), number, mask) for number, mask in enumerate(drawn)]
    distance, _, mask = min(fitting, key=lambda item: item[:2])
    if not np.isfinite(distance):
        raise ConfigError(
            f"no division of {len(people)} subjects leaves every class of {samples.classes} in both parts: "
            "record more people, or give the validation samples yourself"
        )
    return samples.take(~mask), samples.take(mask)


def _unlike(samples: Samples, mask: NDArray[np.bool_]) -> float:
    """How differently two parts are made up; infinite where one lacks a class."""
    if samples.task == "regression":
        return float(abs(samples.labels[mask].mean() - samples.labels[~mask].mean()))
    counts = [np.bincount(samples.labels[part], minlength=len(samples.classes)) for part in (~mask, mask)]
    if any(not count.all() for count in counts):
        return float("inf")
    return float(np.abs(counts[0] / counts[0].sum() - counts[1] / counts[1].sum()).sum())


def fold_subjects(samples: Samples, folds: int | str) -> Iterator[tuple[Samples, Samples]]:
    """Cross-validation by person (scikit-learn's GroupKFold): training and test samples of each fold.

    Parameters
    ----------
    folds : how many, or "loso" to leave one person out at a time

    Raises
    ------
    ConfigError
        Fewer subjects than folds.
    """
    from sklearn.model_selection import GroupKFold

    people = len(set(samples.subjects))
    count = people if folds == "loso" else folds
    if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= people:
        raise ConfigError(f'folds={folds!r}: of {people} subjects, 2 to {people} folds can be made, or "loso"')
    for train, test in GroupKFold(count).split(samples.labels, groups=samples.subjects):
        yield samples.take(train), samples.take(test)


def check_labelled(samples: Samples) -> None:
    """Refuse samples of which one has no label."""
    if not samples.known.all():
        count, first = int((~samples.known).sum()), samples.name(int((~samples.known).argmax()))
        raise ConfigError(
            f"{first} has no label, one of {count} of {len(samples)} samples: label them, or leave them out by "
            "samples.labelled()"
        )


def check_apart(train: Samples, test: Samples) -> None:
    """Refuse two sets of samples that share a person, or do not look alike."""
    theirs = {person_key(name) for name in test.subjects}
    if both := sorted(name for name in set(train.subjects) if person_key(name) in theirs):
        raise ConfigError(
            f"subject {both[0]!r} is in both parts, so the score would be of people already seen: divide by subject "
            "with samples.split_subjects or fold_subjects"
        )
    if (train.views, train.classes) != (test.views, test.classes):
        raise ConfigError(f"the parts differ: {train.views} {train.classes}, and {test.views} {test.classes}")
