"""Scores against scikit-learn's, what absent classes count, and intervals over people."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, precision_recall_fscore_support, root_mean_squared_error

from tiny_biomoe import ConfigError
from tiny_biomoe.train.evaluation import Evaluation, RegressionEvaluation

PEOPLE = [f"P{i // 10}" for i in range(60)]


def test_row_135_scores_are_scikit_learns_over_all_classes(rng):
    truth, predicted = rng.integers(0, 2, 60), rng.integers(0, 3, 60)
    scores = Evaluation.of(truth, predicted, ["rest", "stress", "pain"], PEOPLE)
    expected = precision_recall_fscore_support(truth, predicted, labels=[0, 1, 2], average="macro", zero_division=0)
    assert (scores.precision, scores.accuracy, scores.f1) == pytest.approx(expected[:3])
    assert scores.chance == pytest.approx(2 / 9)  # recalls of 1/3, 1/3 and 0
    assert "of pain no sample was scored: counted as 0 in each mean" in scores.notes


def test_row_135_false_alarms_of_an_absent_class_are_no_perfect_score():
    scores = Evaluation.of(np.array([0] * 10), np.array([0] * 7 + [1] * 3), ["rest", "stress", "pain"])
    assert scores.accuracy == pytest.approx(0.7 / 3)
    assert scores.precision == pytest.approx(1 / 3)
    assert scores.chance == pytest.approx(1 / 9)


def test_row_135_the_interval_is_of_people_and_not_of_samples(rng):
    right = np.repeat(rng.random(30) < 0.7, 20)  # each person is right always or never
    truth = np.tile([0, 1], 300)
    people = np.repeat([f"P{i:02}" for i in range(30)], 20)
    scores = Evaluation.of(truth, np.where(right, truth, 1 - truth), ["a", "b"], people)
    low, high = scores.intervals["accuracy"]
    share = right[::20].mean()
    expected = 1.96 * np.sqrt(share * (1 - share) / 30)
    assert (high - low) / 2 == pytest.approx(expected, rel=0.15)
    assert scores.accuracy == pytest.approx(share)
    assert low < share < high
    assert scores.people == {name: float(right[20 * i]) for i, name in enumerate(sorted(set(people)))}
    assert Evaluation.of(truth, truth, ["a", "b"], ["P"] * 600).intervals == {}


def test_row_135_fewer_than_five_people_are_warned_of_beside_the_score():
    truth = np.array([0, 1] * 8)
    few = Evaluation.of(truth, truth, ["a", "b"], np.repeat(list("PQRS"), 4))
    assert few.notes == ("scored on 4 people: fewer than 5 say little of others",)
    more = np.array([0, 1] * 10)
    assert Evaluation.of(more, more, ["a", "b"], np.repeat(list("PQRST"), 4)).notes == ()
    with pytest.raises(ConfigError, match="0 true and 0 predicted"):
        Evaluation.of(truth[:0], truth[:0], ["a", "b"])
    with pytest.raises(ConfigError, match="16 labels and 3 people"):
        Evaluation.of(truth, truth, ["a", "b"], ["P"] * 3)


def test_scores_that_may_be_chance_say_so(rng):
    truth = np.tile([0, 1], 30)
    told = "the accuracy, by its interval, may be chance (0.500): nothing is shown to have been learnt"
    for wrong in (0, 12, 30):
        predicted = np.where(rng.permutation(60) < wrong, 1 - truth, truth)
        scores = Evaluation.of(truth, predicted, ["a", "b"], PEOPLE)
        assert (scores.notes == (told,)) == (scores.intervals["accuracy"][0] <= 0.5) == (wrong == 30)
        assert (told in Evaluation.of(truth, predicted, ["a", "b"]).notes) == (scores.accuracy <= 0.5)
    numbers = rng.normal(5, 2, 60)
    guessed = RegressionEvaluation.of(numbers, np.full(60, numbers.mean()), PEOPLE)
    assert "may be that of guessing the mean" in guessed.notes[0]
    assert RegressionEvaluation.of(numbers, numbers + 0.1, PEOPLE).notes == ()


def test_numbers_are_scored_as_scikit_learn_and_lin_do(rng):
    truth = rng.normal(5, 2, 60)
    predicted = 0.6 * truth + rng.normal(1, 1, 60)
    scores = RegressionEvaluation.of(truth, predicted, PEOPLE, mean=4.0)
    assert scores.mae == pytest.approx(mean_absolute_error(truth, predicted))
    assert scores.rmse == pytest.approx(root_mean_squared_error(truth, predicted))
    assert scores.pearson == pytest.approx(pearsonr(truth, predicted).statistic)
    covariance = np.cov(truth, predicted, ddof=0)
    lin = 2 * covariance[0, 1] / (np.trace(covariance) + (truth.mean() - predicted.mean()) ** 2)
    assert scores.concordance == pytest.approx(lin)
    assert scores.baseline == pytest.approx(np.abs(truth - 4).mean())
    for name in ("mae", "rmse", "pearson", "concordance"):
        low, high = scores.intervals[name]
        assert low < getattr(scores, name) < high
    assert scores.people["P0"] == pytest.approx(np.abs(truth - predicted)[:10].mean())


def test_predictions_that_are_all_one_have_no_correlation_and_json_says_null():
    scores = RegressionEvaluation.of(np.array([1.0, 2.0]), np.array([1.5, 1.5]))
    assert np.isnan(scores.pearson)
    assert json.loads(json.dumps(scores.to_dict()))["pearson"] is None
    assert scores.concordance == 0.0
