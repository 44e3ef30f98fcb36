"""How good a classifier is: macro scores, the confusion matrix, and the pictures of it and of the learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from ..errors import ConfigError

Progress = dict[str, float]  # one epoch: its number, and loss and accuracy in training and, where scored, validation


@dataclass(frozen=True)
class Evaluation:
    """Scores in [0, 1], each the mean over the classes that occur (the paper's macro average)."""

    classes: tuple[str, ...]
    accuracy: float  # mean of the classes' recalls
    precision: float  # a class that is never told has precision 0
    f1: float
    confusion: NDArray[np.int64] = field(repr=False)  # (k, k), row: the true class, column: the class told

    @classmethod
    def of(cls, truth: NDArray[np.int64], told: NDArray[np.int64], classes: Sequence[str]) -> Evaluation:
        """From the numbers of true and told classes, (n,) each.

        >>> scores = Evaluation.of(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ["rest", "stress"])
        >>> scores.accuracy, scores.confusion.tolist()
        (0.75, [[1, 1], [0, 2]])
        """
        if not len(truth) or len(truth) != len(told):
            raise ConfigError(f"{len(truth)} true and {len(told)} told classes: at least one pair is needed")
        occurring = np.unique(truth)
        precision, recall, f1, _ = precision_recall_fscore_support(
            truth, told, labels=occurring, average="macro", zero_division=0
        )
        matrix = confusion_matrix(truth, told, labels=range(len(classes)))
        return cls(tuple(classes), float(recall), float(precision), float(f1), matrix)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        scores = {"accuracy": self.accuracy, "precision": self.precision, "f1": self.f1}
        return {**scores, "classes": list(self.classes), "confusion": self.confusion.tolist()}

    def picture(self, path: Path) -> None:
        """The confusion matrix, coloured by share of the true class and labelled by number."""
        from matplotlib.figure import Figure

        side = 2.5 + 0.6 * len(self.classes)
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        shares = self.confusion / np.maximum(self.confusion.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="viridis", vmin=0, vmax=1)
        ticks = range(len(self.classes))
        axes.set(xticks=ticks, yticks=ticks, xlabel="told", ylabel="true", title=f"macro accuracy {self.accuracy:.3f}")
        axes.set_xticklabels(self.classes, rotation=45, ha="right")
        axes.set_yticklabels(self.classes)
        for (row, column), share in np.ndenumerate(shares):
            colour = "black" if share > 0.6 else "white"
            axes.text(column, row, str(self.confusion[row, column]), ha="center", va="center", color=colour)
        figure.savefig(path, dpi=110)


def draw_learning_curve(history: Sequence[Progress], path: Path) -> None:
    """Loss and accuracy over the epochs, in training and validation, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part in ("train", "validation"):
            if history and f"{part}_{kind}" in history[0]:
                values = [row[f"{part}_{kind}"] for row in history]
                axes.plot([row["epoch"] + 1 for row in history], values, marker=".", label=part)
        axes.set(xlabel="epoch", ylabel=kind)
        axes.legend()
    figure.savefig(path, dpi=110)
