"""Which classifiers the paper's Tables 3 to 6 need, and how each is made to fit a budget of time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tiny_biomoe.signals.request import FUSIONS
from tiny_biomoe.train.samples import View

FEWEST_EPOCHS = 10  # before samples are left out
SCORING = 1 / 3  # cost of an image that is only looked at, as a share of one that is learnt from
SCALOGRAM = "scalogram"


@dataclass(frozen=True)
class Cell:
    """One classifier of one table."""

    table: int
    start: str  # "scratch" or "pretrained"
    views: tuple[View, ...]
    fusion: str = "concat"
    title: str = ""  # of a fusion: which images and why

    @property
    def name(self) -> str:
        """Of its files."""
        shown = self.title or "_".join(f"{view.modality}-{view.representation}" for view in self.views)
        return f"{self.table}_{shown}_{self.fusion if len(self.views) > 1 else self.start}".replace(" ", "-")


@dataclass(frozen=True)
class Plan:
    """What a cell may cost, and what was left out to keep to it."""

    epochs: int
    per_person: int | None  # windows to learn from; None: all


def plan(
    n_train: int, n_test: int, people: int, views: int, second_an_image: float, budget: float, epochs: int
) -> Plan:
    """Epochs, and windows a person, that fit into `budget` seconds.

    >>> plan(100, 30, 10, 1, 0.1, 1e6, 200)
    Plan(epochs=200, per_person=None)
    >>> plan(100, 30, 10, 1, 0.1, 201, 200), plan(100, 30, 10, 1, 0.1, 51, 200)
    (Plan(epochs=20, per_person=None), Plan(epochs=10, per_person=5))
    """
    cost = views * second_an_image
    left = max(budget - SCORING * n_test * cost, 0.2 * budget)
    seen = left / cost  # samples, over all epochs
    affordable = min(epochs, math.floor(seen / n_train))
    if affordable >= min(epochs, FEWEST_EPOCHS):
        return Plan(affordable, None)
    fewest = min(epochs, FEWEST_EPOCHS)
    return Plan(fewest, max(1, math.floor(seen / fewest / people)))


def single_cells(start: str, modalities: Iterable[str], representations: Iterable[str]) -> list[Cell]:
    """Tables 3 (from scratch) and 4 (pretrained): each representation of each modality, so that a run which is stopped
    has seen all modalities."""
    table = 3 if start == "scratch" else 4
    return [Cell(table, start, (View(m, r),)) for r in representations for m in modalities]


def alone_cells(modalities: Iterable[str], representations: Iterable[str]) -> list[Cell]:
    """What fusions are to be compared with where they learn another part of the network than Table 4 does."""
    views = [View(m, r) for m in modalities for r in representations]
    return [Cell(5, "pretrained", (view,), title=f"{view.modality} {view.representation} alone") for view in views]


def fusion_cells(modalities: list[str], representations: list[str], scores: dict[View, float]) -> list[Cell]:
    """Tables 5 and 6: fusion of representations, and of modalities; "best" is what the scores of one view say: those of
    Table 4, as in the paper, or of `alone_cells`."""
    ranked = {m: sorted(representations, key=lambda r: -scores[View(m, r)]) for m in modalities}
    wanted: list[tuple[int, str, tuple[View, ...]]] = []
    for m in modalities:
        if len(representations) > 2:
            wanted.append((5, f"{m} all", tuple(View(m, r) for r in representations)))
        if len(representations) > 1:
            wanted.append((5, f"{m} best two", tuple(View(m, r) for r in ranked[m][:2])))
    if len(modalities) > 1:
        wanted.append((6, "best of each", tuple(View(m, ranked[m][0]) for m in modalities)))
        if SCALOGRAM in representations:
            wanted.append((6, "scalogram of each", tuple(View(m, SCALOGRAM) for m in modalities)))
    return [Cell(table, "pretrained", views, fusion, title) for table, title, views in wanted for fusion in FUSIONS]
