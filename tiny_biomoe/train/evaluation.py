"""How good a classifier or a regression is: scores with intervals over people, tables, and pictures of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from ..batch.labels import Label
from ..errors import ConfigError, counted

Progress = dict[str, float]  # one epoch: its number, and loss and score in training and, where scored, validation
Interval = tuple[float, float]
RESAMPLES = 2000  # of the people, for an interval
FEW_PEOPLE = 5  # below so many, an interval over people says little
UNSHOWN = "nothing is shown to have been learnt"


@dataclass(frozen=True)
class Evaluation:
    """Scores in [0, 1], each the mean over all classes, as scikit-learn's `labels=` counts them: a class that does not
    occur among the scored samples, or is never predicted, counts 0."""

    classes: tuple[Label, ...]
    accuracy: float  # mean of the classes' recalls
    precision: float
    f1: float
    confusion: NDArray[np.int64] = field(repr=False)  # (k, k), row: the true class, column: the class predicted
    chance: float = 0.0  # accuracy that is expected of a guess with equal odds, counted alike
    intervals: dict[str, Interval] = field(default_factory=dict, repr=False)  # 95 %, resampling people
    people: dict[str, float] = field(default_factory=dict, repr=False)  # accuracy of each, over the person's classes
    notes: tuple[str, ...] = field(default=(), repr=False)  # what limits the scores

    @classmethod
    def of(
        cls,
        truth: NDArray[np.int64],
        predicted: NDArray[np.int64],
        classes: Sequence[Label],
        people: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> Evaluation:
        """From the places of true and predicted classes, (n,) each, and whom each sample is of.

        >>> scores = Evaluation.of(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ["rest", "stress"])
        >>> scores.accuracy, scores.confusion.tolist()
        (0.75, [[1, 1], [0, 2]])
        """
        _check_pairs(truth, predicted, people)
        k = len(classes)
        names, belongs = np.unique(np.asarray(people, str), return_inverse=True)
        matrix = confusion_matrix(truth, predicted, labels=range(k))
        each = np.zeros((len(names), k, k), np.int64)
        if len(names):
            np.add.at(each, (belongs, truth, predicted), 1)
        occurring = matrix.sum(1) > 0
        accuracy, precision, f1 = _macro(matrix[None], occurring)[:, 0]
        absent = [str(name) for name, there in zip(classes, occurring, strict=True) if not there]
        extra = [f"of {', '.join(absent)} no sample was scored: counted as 0 in each mean"] if absent else []
        intervals = _intervals(
            len(names), lambda rows: _macro(each[rows].sum(1), occurring), ("accuracy", "precision", "f1")
        )
        own = [_macro(one[None], one.sum(1) > 0)[0, 0] * k / max(1, (one.sum(1) > 0).sum()) for one in each]
        chance = float(occurring.sum()) / k**2
        if intervals.get("accuracy", (accuracy, 1.0))[0] <= chance:
            extra.append(f"the accuracy, by its interval, may be chance ({chance:.3f}): {UNSHOWN}")
        return cls(
            tuple(classes), float(accuracy), float(precision), float(f1), matrix, chance,
            intervals, dict(zip(map(str, names), map(float, own), strict=True)),
            (*notes, *extra, *_few(len(names))),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        scores = {"accuracy": self.accuracy, "precision": self.precision, "f1": self.f1, "chance": self.chance}
        return {
            **scores, "classes": list(self.classes), "confusion": self.confusion.tolist(),
            "intervals": {name: list(pair) for name, pair in self.intervals.items()}, "people": self.people,
            "notes": list(self.notes),
        }  # fmt: skip

    def summary(self) -> str:
        """The scores in one line, with their intervals."""
        scores = {"accuracy": self.accuracy, "precision": self.precision, "f1": self.f1}
        return f"macro {_line(scores, self.intervals)} (chance {self.chance:.3f}){_spread(self.people)}"

    def table(self) -> str:
        """The confusion matrix in Markdown."""
        names = [_cell(name) for name in self.classes]
        rows = [f"| {n} | {' | '.join(map(str, r))} |" for n, r in zip(names, self.confusion.tolist(), strict=True)]
        head = f"| true \\ predicted | {' | '.join(names)} |"
        return "\n".join([head, "|---" * (len(names) + 1) + "|", *rows])

    def picture(self, path: Path) -> None:
        """The confusion matrix, coloured by share of the true class and labelled by number."""
        from matplotlib.figure import Figure

        side = 2.5 + 0.6 * len(self.classes)
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        shares = self.confusion / np.maximum(self.confusion.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="viridis", vmin=0, vmax=1)
        ticks, names = range(len(self.classes)), list(map(str, self.classes))
        title = f"macro accuracy {self.accuracy:.3f}"
        axes.set(xticks=ticks, yticks=ticks, xlabel="predicted", ylabel="true", title=title)
        axes.set_xticklabels(names, rotation=45, ha="right")
        axes.set_yticklabels(names)
        for (row, column), share in np.ndenumerate(shares):
            colour = "black" if share > 0.6 else "white"
            axes.text(column, row, str(self.confusion[row, column]), ha="center", va="center", color=colour)
        figure.savefig(path, dpi=110)


@dataclass(frozen=True)
class RegressionEvaluation:
    """Errors in the target's unit, and how predicted and true numbers go together."""

    mae: float  # mean absolute error
    rmse: float  # root of the mean squared error
    pearson: float  # correlation; NaN where all true or all predicted numbers are one
    concordance: float  # Lin's coefficient (Biometrics 45, 1989): 1 where every prediction is right
    baseline: float  # mean absolute error of predicting the mean of what was learnt from
    truth: NDArray[np.float64] = field(repr=False)  # (n,)
    predicted: NDArray[np.float64] = field(repr=False)  # (n,)
    intervals: dict[str, Interval] = field(default_factory=dict, repr=False)  # 95 %, resampling people
    people: dict[str, float] = field(default_factory=dict, repr=False)  # mean absolute error of each
    notes: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(
        cls,
        truth: NDArray[np.float64],
        predicted: NDArray[np.float64],
        people: Sequence[str] = (),
        mean: float | None = None,
        notes: Sequence[str] = (),
    ) -> RegressionEvaluation:
        """From true and predicted numbers, (n,) each, whom each is of, and the mean of what was learnt from.

        >>> scores = RegressionEvaluation.of(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0]))
        >>> scores.mae, round(scores.pearson, 6), round(scores.concordance, 3)
        (1.0, 1.0, 0.571)
        """
        _check_pairs(truth, predicted, people)
        pairs = np.stack([np.asarray(truth, np.float64), np.asarray(predicted, np.float64)], 1)
        centred = pairs - pairs[:, 0].mean()  # which changes no score, and keeps the digits of large numbers
        names, belongs = np.unique(np.asarray(people, str), return_inverse=True)
        each = np.stack([_sums(centred[belongs == i]) for i in range(len(names))]) if len(names) else np.zeros((0, 7))
        mae, rmse, pearson, concordance = _agreement(_sums(centred)[None])[:, 0]
        intervals = _intervals(len(names), lambda rows: _agreement(each[rows].sum(1)), tuple(_AGREEMENT))
        middle = float(pairs[:, 0].mean()) if mean is None else mean
        own = dict(zip(map(str, names), map(float, each[:, 6] / np.maximum(each[:, 0], 1)), strict=True))
        baseline, extra = float(np.abs(pairs[:, 0] - middle).mean()), []
        if intervals.get("mae", (0.0, mae))[1] >= baseline:
            extra.append(f"the mae, by its interval, may be that of guessing the mean ({baseline:.3f}): {UNSHOWN}")
        return cls(
            float(mae), float(rmse), float(pearson), float(concordance), baseline,
            pairs[:, 0], pairs[:, 1], intervals, own, (*notes, *extra, *_few(len(names))),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        scores = {name: _plain(getattr(self, name)) for name in (*_AGREEMENT, "baseline")}
        intervals = {name: [_plain(edge) for edge in pair] for name, pair in self.intervals.items()}
        return {**scores, "intervals": intervals, "people": self.people, "notes": list(self.notes)}

    def summary(self) -> str:
        """The scores in one line, with their intervals."""
        scores = {name: float(getattr(self, name)) for name in _AGREEMENT}
        return f"{_line(scores, self.intervals)} (baseline mae {self.baseline:.3f}){_spread(self.people)}"

    def table(self) -> str:
        """The scores in Markdown."""
        rows = [
            f"| {name} | {getattr(self, name):.3f} | {_span(self.intervals.get(name)) or '-'} |" for name in _AGREEMENT
        ]
        return "\n".join(["| | | 95 % |", "|---|---|---|", *rows])

    def picture(self, path: Path) -> None:
        """Predicted over true numbers, one point a sample."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4, 4), layout="constrained")
        axes = figure.subplots()
        axes.scatter(self.truth, self.predicted, s=12, alpha=0.6)
        ends = [min(self.truth.min(), self.predicted.min()), max(self.truth.max(), self.predicted.max())]
        axes.plot(ends, ends, color="black", linewidth=0.8)
        axes.set(xlabel="true", ylabel="predicted", title=f"mean absolute error {self.mae:.3f}")
        figure.savefig(path, dpi=110)


Scores = Evaluation | RegressionEvaluation
_AGREEMENT = ("mae", "rmse", "pearson", "concordance")


def _check_pairs(truth: NDArray[Any], predicted: NDArray[Any], people: Sequence[str]) -> None:
    if not len(truth) or len(truth) != len(predicted):
        raise ConfigError(f"{len(truth)} true and {len(predicted)} predicted labels: at least one pair is needed")
    if len(people) not in (0, len(truth)):
        raise ConfigError(f"{len(truth)} labels and {len(people)} people: give one for each, or none")


def _macro(matrices: NDArray[np.int64], occurring: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Macro recall, precision and F1 of confusion matrices: (m, k, k) to (3, m).

    A class that does not occur at all counts 0; one that is missing from a resample alone is left out of its mean.
    """
    hits = np.diagonal(matrices, axis1=1, axis2=2).astype(np.float64)
    true, predicted = matrices.sum(2), matrices.sum(1)
    scores = np.stack([
        hits / np.maximum(true, 1), hits / np.maximum(predicted, 1), 2 * hits / np.maximum(true + predicted, 1)
    ])  # fmt: skip
    counted = (true > 0) | ~occurring  # (m, k)
    return (scores * counted).sum(2) / np.maximum(counted.sum(1), 1)


def _sums(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the agreement of some pairs follows from, which adds up over people: (n, 2) to (7,)."""
    t, p = pairs.T
    return np.array([len(t), t.sum(), p.sum(), (t * t).sum(), (p * p).sum(), (t * p).sum(), np.abs(t - p).sum()])


def _agreement(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean absolute error, root mean squared error, Pearson's and Lin's coefficients: (m, 7) to (4, m)."""
    n, t, p, tt, pp, tp, absolute = sums.T
    mt, mp = t / n, p / n
    vt, vp, cov = np.maximum(tt / n - mt**2, 0), np.maximum(pp / n - mp**2, 0), tp / n - mt * mp
    squared = np.maximum(tt - 2 * tp + pp, 0) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        pearson = np.where((vt > 0) & (vp > 0), cov / np.sqrt(vt * vp), np.nan)
        lin = 2 * cov / (vt + vp + (mt - mp) ** 2)
    return np.stack([absolute / n, np.sqrt(squared), pearson, lin])


def _intervals(
    people: int, scores: Callable[[NDArray[np.int64]], NDArray[np.float64]], names: Sequence[str]
) -> dict[str, Interval]:
    """95 % of what the scores are where the people are drawn anew, with replacement; none of fewer than two people."""
    if people < 2:
        return {}
    rows = np.random.default_rng(0).integers(people, size=(RESAMPLES, people))
    edges = np.nanpercentile(scores(rows), [2.5, 97.5], axis=1)
    return {name: (float(low), float(high)) for name, low, high in zip(names, *edges, strict=True)}


def _few(people: int) -> list[str]:
    if not 0 < people < FEW_PEOPLE:
        return []
    return [f"scored on {counted(people, 'person', 'people')}: fewer than {FEW_PEOPLE} say little of others"]


def _line(scores: dict[str, float], intervals: dict[str, Interval]) -> str:
    parts = [f"{name} {value:.3f} {_span(intervals.get(name))}".rstrip() for name, value in scores.items()]
    return ", ".join(parts)


def _span(pair: Interval | None) -> str:
    return f"[{pair[0]:.3f}, {pair[1]:.3f}]" if pair else ""


def _spread(people: dict[str, float]) -> str:
    if len(people) < 2:
        return ""
    each = np.array(list(people.values()))
    return f"; of {len(each)} people each {each.mean():.3f} +- {each.std(ddof=1):.3f}"


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|")


def draw_learning_curve(history: Sequence[Progress], path: Path) -> None:
    """Loss, and accuracy or mean absolute error, over the epochs, in training and validation, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    kinds = ("loss", "mae" if history and "train_mae" in history[0] else "accuracy")
    for axes, kind in zip(figure.subplots(1, 2), kinds, strict=True):
        for part in ("train", "validation"):
            if history and f"{part}_{kind}" in history[0]:
                values = [row[f"{part}_{kind}"] for row in history]
                axes.plot([row["epoch"] + 1 for row in history], values, marker=".", label=part)
        axes.set(xlabel="epoch", ylabel=kind)
        axes.legend()
    figure.savefig(path, dpi=110)
