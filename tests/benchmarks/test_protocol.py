"""The bench's protocol, on made-up features of made-up people."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from benchmarks import protocol as P

PERSONS = np.repeat([f"p{i:02d}" for i in range(15)], 20)
LABELS = np.tile(np.arange(4).repeat(5), 15).astype(np.int64)


@pytest.fixture
def folds():
    return P.folds_of(LABELS, PERSONS)


def score(features, labels=LABELS, persons=PERSONS) -> float:
    probed = P.probe(features, labels, persons, P.folds_of(labels, persons))
    assert sorted(probed.rows) == list(range(len(labels)))  # each window is tested once
    return float(P.balanced_accuracy(P.person_confusions(probed, labels, persons).sum(axis=0)))


def test_noise_is_at_chance_and_the_label_is_not(rng):
    noise = rng.standard_normal((300, 12))
    assert score(noise) == pytest.approx(0.25, abs=0.07)
    assert score(noise + 3 * np.eye(12)[LABELS]) > 0.9


def test_who_it_is_does_not_help_with_people_never_seen(rng):
    people = rng.standard_normal((15, 12)).repeat(20, axis=0)  # constant for a person
    labels = rng.permutation(LABELS)
    assert score(people + 0.1 * rng.standard_normal((300, 12)), labels) == pytest.approx(0.25, abs=0.08)


def test_shuffled_labels_are_at_chance(rng):
    x = rng.standard_normal((300, 6)) + 3 * np.eye(6)[LABELS]
    dealt = P.shuffled(LABELS, PERSONS, 0)
    assert sorted(dealt) == sorted(LABELS)
    assert np.mean([score(x, P.shuffled(LABELS, PERSONS, seed)) for seed in range(4)]) == pytest.approx(0.25, abs=0.05)


def test_shuffling_within_persons_keeps_what_each_has(rng):
    labels = (np.arange(300) // 20 % 4).astype(np.int64)  # one class a person
    assert (P.shuffled(labels, PERSONS, 0, within=True) == labels).all()
    dealt = P.shuffled(LABELS, PERSONS, 0, within=True)
    assert (dealt != LABELS).any()
    assert all(sorted(dealt[own]) == sorted(LABELS[own]) for own in (person == PERSONS for person in set(PERSONS)))


def test_nobody_is_on_both_sides_and_a_leak_is_refused(folds):
    assert len(folds) == 5
    for training, test in folds:
        assert not set(PERSONS[training]) & set(PERSONS[test])
    leak = [(np.arange(1, 300), np.array([0]))]
    with pytest.raises(ValueError, match="'p00' has windows both in training and in test"):
        P.probe(np.zeros((300, 2)), LABELS, PERSONS, leak)
    with pytest.raises(ValueError, match="split by person"):
        P.folds_of(LABELS, PERSONS, np.arange(300) > 290)


def test_given_halves_are_one_fold():
    held_out = PERSONS >= "p12"
    ((training, test),) = P.folds_of(LABELS, PERSONS, held_out)
    assert (training.tolist(), test.tolist()) == (list(range(240)), list(range(240, 300)))


def test_what_is_fitted_to_data_sees_training_rows_alone(folds, rng):
    x = rng.standard_normal((300, 4))
    seen = []
    P.probe(lambda training: (seen.append(training), x)[1], LABELS, PERSONS, folds)
    assert [rows.tolist() for rows in seen] == [training.tolist() for training, _ in folds]


def test_test_rows_change_nothing_that_is_fitted(folds, rng):
    x = rng.standard_normal((300, 5)) + 2 * np.eye(5)[LABELS]
    (training, test), *_ = folds
    whole = P.probe(x, LABELS, PERSONS, [(training, test)])
    disturbed = x.copy()
    disturbed[test[1:]] = 1e6
    again = P.probe(disturbed, LABELS, PERSONS, [(training, test)])
    assert again.predicted[0] == whole.predicted[0]
    assert again.inner == whole.inner


def test_more_features_than_windows_are_turned_without_loss(rng):
    x = rng.standard_normal((40, 100))
    turned, turned_test = P._scaled_and_turned(x[:30], x[30:])
    scaled = (x - x[:30].mean(axis=0)) / x[:30].std(axis=0)
    assert turned.shape == (30, 29)  # centred, so one dimension less
    np.testing.assert_allclose(turned @ turned.T, scaled[:30] @ scaled[:30].T, atol=1e-8)
    np.testing.assert_allclose(turned_test @ turned.T, scaled[30:] @ scaled[:30].T, atol=1e-8)


def test_features_that_say_nothing_are_still_probed():
    assert score(np.zeros((300, 500))) == 0.25


def test_per_person_removes_level_and_gain_of_each(rng):
    x = rng.standard_normal((300, 3))
    gain = rng.uniform(1, 9, (15, 3)).repeat(20, axis=0)
    level = rng.standard_normal((15, 3)).repeat(20, axis=0)
    np.testing.assert_allclose(P.per_person(level + gain * x, PERSONS), P.per_person(x, PERSONS), atol=1e-9)
    assert (P.per_person(np.full((300, 2), 0.1), PERSONS) == 0).all()


def test_the_clock_reads_an_order_of_phases():
    times = np.tile(np.arange(20) * 30.0, 15)  # 10 minutes, classes in order
    assert score(P.clock(times)) > 0.95
    np.testing.assert_allclose(P.clock(times).sum(axis=1), 1)


def test_metrics_are_scikit_learns(rng):
    predicted = rng.integers(0, 4, 300)
    counts = P.confusion(LABELS, predicted, 4)
    assert P.balanced_accuracy(counts) == pytest.approx(balanced_accuracy_score(LABELS, predicted))
    assert P.macro_f1(counts) == pytest.approx(f1_score(LABELS, predicted, average="macro"))


def test_an_interval_holds_its_value_and_narrows_with_persons(folds, rng):
    probed = P.probe(rng.standard_normal((300, 8)) + np.eye(8)[LABELS], LABELS, PERSONS, folds)
    by_person = P.person_confusions(probed, LABELS, PERSONS)
    few, many = P.estimate(by_person), P.estimate(np.concatenate([by_person] * 9))
    assert few.low < few.value < few.high
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(3, rel=0.2)


def test_paired_difference(folds, rng):
    good = P.probe(rng.standard_normal((300, 8)) + 2 * np.eye(8)[LABELS], LABELS, PERSONS, folds)
    poor = P.probe(rng.standard_normal((300, 8)), LABELS, PERSONS, folds)
    first, second = (P.person_confusions(probed, LABELS, PERSONS) for probed in (good, poor))
    assert P.paired_difference([first], [first]) == P.Estimate(0.0, 0.0, 0.0)
    gain, loss = P.paired_difference([first], [second]), P.paired_difference([second], [first])
    assert gain.low > 0.2
    assert (loss.value, loss.low, loss.high) == pytest.approx((-gain.value, -gain.high, -gain.low))
    assert P.paired_difference([first, second], [second, first]).value == pytest.approx(0)
    with pytest.raises(ValueError, match="same windows"):
        P.paired_difference([first], [second[1:]])


def test_the_best_is_chosen_by_its_inner_score_alone():
    rows, folds = np.arange(6), np.repeat([0, 1], 3)
    one = P.Probed(rows, np.zeros(6, np.int64), folds, np.array([0.9, 0.2]))
    two = P.Probed(rows, np.ones(6, np.int64), folds, np.array([0.5, 0.6]))
    assert P.choose([one, two], 2).tolist() == [[0, 1], [1, 0]]
    best = P.chosen([one, two])
    assert best.predicted.tolist() == [0, 0, 0, 1, 1, 1]
    assert best.inner.tolist() == [0.9, 0.6]
