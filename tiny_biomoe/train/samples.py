"""Labelled samples: the images that a classifier looks at, and whose they are.

A view is a modality and a representation. A sample may hold several, as in the fusion of the paper's Tables 5 and 6.
Samples of one person stay together wherever they are divided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config import IMAGE_SIZE
from ..errors import ConfigError, unknown

MISSING = ("error", "mask")


class View(NamedTuple):
    """What one image of a sample shows."""

    modality: str
    representation: str

    def __str__(self) -> str:
        return f"{self.modality}/{self.representation}"


@dataclass(frozen=True)
class Samples:
    """Images of samples, with what is known of each.

    Raises
    ------
    ConfigError
        Columns of different lengths, a label that is none of the classes, or a sample without any image.
    """

    levels: NDArray[np.uint8] = field(repr=False)  # (n, views, 224, 224); zeros where a view is missing
    present: NDArray[np.bool_] = field(repr=False)  # (n, views)
    labels: NDArray[np.int64] = field(repr=False)  # (n,), index of the class; -1 where it is not known
    subjects: tuple[str, ...] = field(repr=False)  # (n,)
    views: tuple[View, ...]
    classes: tuple[str, ...]
    sources: tuple[str, ...] = field(default=(), repr=False)  # (n,), where each came from; empty where nobody said

    def __post_init__(self) -> None:
        n, views = len(self.levels), len(self.views)
        shapes = {
            "levels": (self.levels.shape, (n, views, IMAGE_SIZE, IMAGE_SIZE)),
            "present": (self.present.shape, (n, views)),
            "labels": (self.labels.shape, (n,)),
            "subjects": ((len(self.subjects),), (n,)),
            "sources": ((len(self.sources),), (n if self.sources else 0,)),
        }
        for name, (shape, wanted) in shapes.items():
            if shape != wanted:
                raise ConfigError(f"samples: {name} has shape {shape}, expected {wanted}")
        if n == 0 or views == 0:
            raise ConfigError("samples: there are none; give at least one sample and one view of it")
        if len(set(self.views)) != views or len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"samples: a view or a class is named twice, {list(map(str, self.views))} {self.classes}")
        if self.labels.min() < -1 or self.labels.max() >= len(self.classes):
            raise ConfigError(f"samples: labels count from 0 to {len(self.classes) - 1}, or are -1 where none is known")
        if not self.present.any(1).all():
            raise ConfigError(f"samples: {self.name(int((~self.present.any(1)).argmax()))} has no image at all")

    def __len__(self) -> int:
        return len(self.levels)

    def take(self, index: Any) -> Samples:
        """Some of the samples, by a boolean mask or by their numbers, in that order."""
        rows = np.arange(len(self))[index]
        if not rows.size:
            raise ConfigError("samples: none is left after the choice")
        return Samples(
            self.levels[rows], self.present[rows], self.labels[rows], tuple(self.subjects[i] for i in rows),
            self.views, self.classes, tuple(self.sources[i] for i in rows) if self.sources else (),
        )  # fmt: skip

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
        return Samples(
            rest.levels[:, columns], rest.present[:, columns], rest.labels, rest.subjects, tuple(views), self.classes,
            rest.sources,
        )  # fmt: skip

    def name(self, index: int) -> str:
        """What errors and tables call a sample."""
        return name_of(self.sources, index)

    @cached_property
    def sha256(self) -> str:
        """Of everything that training on these samples depends on."""
        digest = hashlib.sha256(repr((self.views, self.classes, self.subjects)).encode())
        for column in (self.levels, self.present, self.labels):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


def name_of(sources: Sequence[str], row: int) -> str:
    """What errors and tables call a sample."""
    return sources[row] if sources else f"sample {row}"


def split_subjects(samples: Samples, share: float, seed: int = 0) -> tuple[Samples, Samples]:
    """Divide samples by person: about `share` of the people into the second part, and nobody into both.

    Of a hundred random divisions that leave every class in both parts, the one is taken in which the classes' shares
    are most alike.

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
    counts = [np.bincount(samples.labels[part], minlength=len(samples.classes)) for part in (~mask, mask)]
    if any(not count.all() for count in counts):
        return float("inf")
    return float(np.abs(counts[0] / counts[0].sum() - counts[1] / counts[1].sum()).sum())


def fold_subjects(samples: Samples, folds: int) -> Iterator[tuple[Samples, Samples]]:
    """Cross-validation by person (scikit-learn's GroupKFold): training and test samples of each fold.

    Raises
    ------
    ConfigError
        Fewer subjects than folds.
    """
    from sklearn.model_selection import GroupKFold

    people = len(set(samples.subjects))
    if not 2 <= folds <= people:
        raise ConfigError(f"folds={folds!r}: of {people} subjects, 2 to {people} folds can be made")
    for train, test in GroupKFold(folds).split(samples.labels, groups=samples.subjects):
        yield samples.take(train), samples.take(test)


def check_labelled(samples: Samples) -> None:
    """Refuse samples of which one has no label."""
    if (samples.labels < 0).any():
        raise ConfigError(f"{samples.name(int((samples.labels < 0).argmax()))} has no label: leave it out, or label it")


def check_apart(train: Samples, test: Samples) -> None:
    """Refuse two sets of samples that share a person, or do not look alike."""
    if both := sorted(set(train.subjects) & set(test.subjects)):
        raise ConfigError(
            f"subject {both[0]!r} is in both parts, so the score would be of people already seen: divide by subject "
            "with samples.split_subjects or fold_subjects"
        )
    if (train.views, train.classes) != (test.views, test.classes):
        raise ConfigError(f"the parts differ: {train.views} {train.classes}, and {test.views} {test.classes}")
