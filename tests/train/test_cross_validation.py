"""Folds of people: each is scored once, by a classifier that had not seen them, and a stopped run goes on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from toy_training import QUICK, tiny, toy_samples

from tiny_biomoe import ConfigError, WeightsError
from tiny_biomoe.train import cross_validation
from tiny_biomoe.train.cross_validation import cross_validate
from tiny_biomoe.train.finetuning import finetune
from tiny_biomoe.train.vectors import VectorCache

HEAD = dataclasses.replace(QUICK, part="head", epochs=20, learning_rate=0.05, dropout=(0.0, 0.0))


@pytest.fixture(scope="module")
def samples():
    return toy_samples(5)


@pytest.fixture(scope="module")
def vectors(samples):
    return VectorCache(tiny())


def test_a_person_is_scored_by_a_classifier_that_had_not_seen_them(samples, vectors):
    found = cross_validate(tiny(), samples, "loso", settings=HEAD, vectors=vectors)
    assert sorted(fold["people"][0] for fold in found.folds) == ["P0", "P1", "P2", "P3", "P4"]
    fold = found.folds[0]
    mine = np.array([name in fold["people"] for name in samples.subjects])
    alone = finetune(tiny(), samples.take(~mine), settings=HEAD, vectors=vectors)
    assert np.allclose(alone.predict_proba(samples.take(mine)), fold["answers"], atol=1e-6)
    pairs = [pair for each in found.folds for pair in zip(each["answers"], each["labels"], strict=True)]
    hits = [np.argmax(answer) == label for answer, label in pairs]
    assert found.scores.accuracy == pytest.approx(np.mean(hits))
    assert len(found.scores.people) == 5
    assert set(found.scores.intervals) == {"accuracy", "precision", "f1"}
    assert [note for note in found.scores.notes if "may be chance" not in note] == []


def test_a_stopped_cross_validation_goes_on_with_the_folds_that_are_missing(samples, vectors, tmp_path, monkeypatch):
    whole = cross_validate(tiny(), samples, 3, settings=HEAD, vectors=vectors)
    calls = []

    def stop_in_second(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return finetune(*arguments, **options)

    monkeypatch.setattr(cross_validation, "finetune", stop_in_second)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(tiny(), samples, 3, settings=HEAD, out=tmp_path, vectors=vectors)
    resumed = cross_validate(tiny(), samples, 3, settings=HEAD, out=tmp_path, vectors=vectors)
    assert len(calls) == 4  # the first fold was kept
    assert resumed.folds == whole.folds
    with pytest.raises(WeightsError, match="holds a fold of another model, other samples, folds or settings"):
        cross_validate(tiny(), samples, 3, settings=dataclasses.replace(HEAD, seed=1), out=tmp_path, vectors=vectors)


def test_numbers_and_pooled_windows_have_folds_too(samples, vectors):
    numbers = dataclasses.replace(samples, labels=samples.labels * 2.0 + np.arange(10) / 100, classes=())
    found = cross_validate(tiny(), numbers, 2, settings=HEAD, vectors=vectors)
    assert found.scores.mae > 0
    assert len(found.scores.truth) == 10
    bagged = dataclasses.replace(samples, bags=tuple(f"R{i}" for i in range(10)))
    bagged = bagged.take([0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9])
    pooled = cross_validate(tiny(), bagged, 2, settings=dataclasses.replace(HEAD, level="recording"), vectors=vectors)
    assert pooled.scores.confusion.sum() == 10
    with pytest.raises(ConfigError, match="of 5 subjects, 2 to 5 folds"):
        cross_validate(tiny(), samples, 6, settings=HEAD, vectors=vectors)
