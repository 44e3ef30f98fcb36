"""How frozen features are scored: a linear probe on people it was not fitted on, and intervals over people.

Features (n, d) and labels (n,) of all windows; a fold is (training rows, test rows) and no person has rows in both.
Within the training rows alone, the features are scaled and the strength of the regularisation is chosen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

FOLDS, INNER_FOLDS = 5, 3
STRENGTHS = (
    1e-4,
    1e-3,
    1e-2,
    1e-1,
    1.0,
)  # of the inverse regularisation, C; rising, so that each fit begins at the last
ITERATIONS = 200  # of the solver, at most
RESAMPLES = 2000  # of the persons, for an interval
MINUTE = 60.0  # seconds between the knots of the clock

Features = NDArray[np.floating]  # (n, d)
Labels = NDArray[np.int64]  # (n,)
Persons = NDArray[np.str_]  # (n,)
Fold = tuple[NDArray[np.intp], NDArray[np.intp]]
Fitted = Callable[[NDArray[np.intp]], Features]  # training rows to features of all rows, for what is fitted to data


@dataclass(frozen=True, eq=False)
class Probed:
    """What a probe said of every test row."""

    rows: NDArray[np.intp]  # (m,), the test rows of all folds
    predicted: Labels  # (m,)
    folds: NDArray[np.intp]  # (m,), in which fold
    inner: NDArray[np.float64]  # (n_folds,), balanced accuracy by cross-validation inside each fold's training rows


def folds_of(labels: Labels, persons: Persons, held_out: NDArray[np.bool_] | None = None, seed: int = 0) -> list[Fold]:
    """Five folds by person, of classes as alike as can be; or the one where the test persons are given.

    Raises
    ------
    ValueError
        A person would be on both sides.
    """
    if held_out is None:
        splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        folds = list(splitter.split(labels, labels, persons))
    else:
        folds = [(np.flatnonzero(~held_out), np.flatnonzero(held_out))]
    for training, test in folds:
        refuse_leak(persons, training, test)
    return folds


def refuse_leak(persons: Persons, training: NDArray[np.intp], test: NDArray[np.intp]) -> None:
    """Nobody may be on both sides."""
    if both := set(persons[training].tolist()) & set(persons[test].tolist()):
        raise ValueError(f"{sorted(both)[0]!r} has windows both in training and in test: split by person")


def probe(features: Features | Fitted, labels: Labels, persons: Persons, folds: Sequence[Fold]) -> Probed:
    """Fit and test a linear probe in every fold."""
    predicted, inner = [], []
    for training, test in folds:
        refuse_leak(persons, training, test)
        x = features(training) if callable(features) else features
        found, score = _fit_and_predict(x[training], labels[training], persons[training], x[test])
        predicted.append(found)
        inner.append(score)
    sizes = [test.size for _, test in folds]
    which = np.repeat(np.arange(len(sizes)), sizes)
    return Probed(np.concatenate([test for _, test in folds]), np.concatenate(predicted), which, np.array(inner))


def choose(candidates: Sequence[Probed], count: int = 1) -> NDArray[np.intp]:
    """In each fold, the candidates that did best inside its training rows, best first: (n_folds, count)."""
    return np.argsort(-np.stack([candidate.inner for candidate in candidates], axis=1), axis=1, kind="stable")[
        :, :count
    ]


def chosen(candidates: Sequence[Probed]) -> Probed:
    """In each fold, what its best candidate said: a choice that has seen no test person."""
    (best,) = choose(candidates).T
    first = candidates[0]
    predicted = np.choose(best[first.folds], [candidate.predicted for candidate in candidates])
    inner = np.array([candidates[b].inner[fold] for fold, b in enumerate(best)])
    return Probed(first.rows, predicted, first.folds, inner)


def _fit_and_predict(x: Features, labels: Labels, persons: Persons, x_test: Features) -> tuple[Labels, float]:
    """Predictions for the test rows, and the balanced accuracy of the chosen strength inside the training rows."""
    x, x_test = _scaled_and_turned(x, x_test)
    guesses = np.zeros((len(STRENGTHS), len(x)), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer members than folds
        inner = list(StratifiedGroupKFold(INNER_FOLDS, shuffle=True, random_state=0).split(x, labels, persons))
    for training, test in inner:
        refuse_leak(persons, training, test)
        guesses[:, test] = _path(x[training], labels[training], x[test], STRENGTHS)
    classes = int(labels.max()) + 1
    scores = [balanced_accuracy(confusion(labels, guess, classes)) for guess in guesses]
    best = int(np.argmax(scores))
    return _path(x, labels, x_test, STRENGTHS[: best + 1])[-1], float(scores[best])


def _path(x: Features, labels: Labels, x_test: Features, strengths: Sequence[float]) -> NDArray[np.int64]:
    """Predictions at each strength in turn: (n_strengths, n_test)."""
    model = LogisticRegression(class_weight="balanced", max_iter=ITERATIONS, warm_start=True)
    predicted = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 steps are part of the protocol, alike for every row
        for strength in strengths:
            predicted.append(model.set_params(C=strength).fit(x, labels).predict(x_test))
    return np.stack(predicted)


def _scaled_and_turned(x: Features, x_test: Features) -> tuple[Features, Features]:
    """Scale by the training rows. Where features outnumber these, turn both into the space that the training rows
    span: a probe with an L2 penalty has no weights outside it, so nothing is lost, and a fit is many times cheaper."""
    scaler = StandardScaler().fit(x)
    x, x_test = scaler.transform(x), scaler.transform(x_test)
    if x.shape[1] > x.shape[0]:
        values, vectors = np.linalg.eigh((x @ x.T).astype(np.float64))
        kept = values > 1e-9 * values[-1]
        if not kept.any():  # every feature is constant
            return x[:, :1].astype(np.float64), x_test[:, :1].astype(np.float64)
        basis = vectors[:, kept] / np.sqrt(values[kept])  # (n, k): x.T @ basis is orthonormal
        x, x_test = x @ (x.T @ basis), x_test @ (x.T @ basis)
    return x.astype(np.float64), x_test.astype(np.float64)


def per_person(features: Features | Fitted, persons: Persons) -> Features | Fitted:
    """Each feature relative to its mean and deviation in the person's own windows, for which no label is needed."""
    if callable(features):
        return lambda training: _per_person(features(training), persons)
    return _per_person(features, persons)


def _per_person(x: Features, persons: Persons) -> Features:
    out = np.empty(x.shape, np.float64)
    for person in np.unique(persons):
        own = persons == person
        centred = x[own] - x[own].mean(axis=0)
        spread = centred.std(axis=0)
        out[own] = centred / np.where(spread > 1e-9 * np.abs(x[own]).max(axis=0, initial=0), spread, np.inf)
    return out


def clock(times: NDArray[np.float64]) -> Features:
    """Time within the recording and nothing else, as hats a minute apart, so that a linear probe can read any order of
    phases; seconds themselves, as one feature, show it only what comes earlier and what later."""
    knots = np.arange(np.ceil(times.max() / MINUTE) + 1)
    return np.maximum(0.0, 1.0 - np.abs(times[:, None] / MINUTE - knots))


def shuffled(labels: Labels, persons: Persons, seed: int, within: bool = False) -> Labels:
    """Labels dealt out anew, among all windows or among each person's own."""
    rng = np.random.default_rng(seed)
    if not within:
        return rng.permutation(labels)
    out = labels.copy()
    for person in np.unique(persons):
        own = np.flatnonzero(persons == person)
        out[own] = labels[rng.permutation(own)]
    return out


def confusion(labels: Labels, predicted: Labels, classes: int) -> NDArray[np.int64]:
    """How often a class (row) was taken for another (column): (classes, classes)."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def balanced_accuracy(counts: NDArray[np.number]) -> NDArray[np.float64]:
    """Mean recall of the classes that occur, of one confusion or of many: (..., k, k) to (...)."""
    size = counts.sum(axis=-1)
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    return np.nanmean(np.where(size > 0, right / np.maximum(size, 1), np.nan), axis=-1)


def macro_f1(counts: NDArray[np.number]) -> NDArray[np.float64]:
    """Mean F1 of the classes that occur or were predicted."""
    both = counts.sum(axis=-1) + counts.sum(axis=-2)
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    return np.nanmean(np.where(both > 0, 2 * right / np.maximum(both, 1), np.nan), axis=-1)


def person_confusions(probed: Probed, labels: Labels, units: NDArray[np.generic]) -> NDArray[np.int64]:
    """One confusion a person, or whatever else is drawn anew for an interval: (n_units, k, k)."""
    classes = int(labels.max()) + 1
    truth, own = labels[probed.rows], units[probed.rows]
    return np.stack([confusion(truth[own == u], probed.predicted[own == u], classes) for u in np.unique(own)])


@dataclass(frozen=True)
class Estimate:
    """A score, or a difference of two, and its 95 % interval."""

    value: float
    low: float
    high: float


def resampled(confusions: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """Confusions of persons drawn anew, with replacement: (n_persons, k, k) to (2000, k, k)."""
    n = len(confusions)
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    return np.einsum("bp,pij->bij", draws, confusions)


def estimate(
    confusions: NDArray[np.int64], metric: Callable[[NDArray[np.int64]], NDArray[np.float64]] = balanced_accuracy
) -> Estimate:
    """A metric of the pooled predictions, with an interval over persons."""
    low, high = np.percentile(metric(resampled(confusions)), [2.5, 97.5])
    return Estimate(float(metric(confusions.sum(axis=0))), float(low), float(high))


def paired_difference(first: Sequence[NDArray[np.int64]], second: Sequence[NDArray[np.int64]]) -> Estimate:
    """Mean balanced accuracy of the first rows minus that of the second, over the same draws of the same persons.

    Raises
    ------
    ValueError
        The rows are not of the same windows of the same persons.
    """
    truths = [row.sum(axis=2) for row in (*first, *second)]
    if any(truth.shape != truths[0].shape or (truth != truths[0]).any() for truth in truths):
        raise ValueError("a paired difference needs rows of the same windows of the same persons")
    drawn = [np.mean([balanced_accuracy(resampled(row)) for row in rows], axis=0) for rows in (first, second)]
    value = [np.mean([balanced_accuracy(row.sum(axis=0)) for row in rows]) for rows in (first, second)]
    low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
    return Estimate(float(value[0] - value[1]), float(low), float(high))
