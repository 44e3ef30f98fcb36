"""Trials on people held out: whose windows they hold, what their labels say, and how vectors are scored."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pretraining import validation
from pretraining.sources import Row, gather, write_pack
from pretraining.validation import Trial, counts, gain, main, score, trials
from tiny_biomoe import Recipe


def source(name, modality, fs, rates, classes=(), seconds=300, held_out=(1, 2)):
    """Recordings of people 0, 1, ...: the person's rates in turn, one recording each."""
    t = np.arange(round(seconds * fs)) / fs
    rows = [
        Row(np.sin(2 * np.pi * rate * t) + 0.02 * np.cos(t), person, index % max(1, len(classes)), person in held_out)
        for person, theirs in enumerate(rates)
        for index, rate in enumerate(theirs)
    ]
    return gather(name, modality, fs, classes, (15.0, 40.0), 30.0, rows, 256.0)


def toy_trial(people=4, n=30, classes=2, rng=None):
    labels = np.tile(np.arange(n) % classes, people)
    names = tuple("abc"[:classes])
    return Trial(
        "toy",
        "bvp",
        16.0,
        names,
        [np.zeros(3)] * labels.size,
        labels,
        np.repeat(np.arange(people), n),
        [None] * labels.size,
    )


def test_rates_of_people_held_out_are_cut_into_terciles():
    (trial,) = trials([source("ds000210-bvp", "bvp", 16.0, [(2.0,), (0.9, 1.2, 1.5), (0.95, 1.25, 1.55)])], most=60)
    assert (trial.name, trial.modality, trial.fs, trial.classes) == (
        "pulse rate",
        "bvp",
        16.0,
        ("low", "middle", "high"),
    )
    assert np.bincount(trial.labels).tolist() == [20, 20, 20]
    assert set(trial.people) == {1, 2}
    peaks = [np.abs(np.fft.rfft(window - window.mean())).argmax() / 30 for window in trial.windows]
    assert np.array_equal(np.digitize(peaks, [1.05, 1.4]), trial.labels)


def test_a_pulse_that_no_picture_shows_is_left_out():
    (trial,) = trials([source("ds000210-bvp", "bvp", 16.0, [(1.0,), (1.0, 1.3), (2.2, 1.1)])], most=60)
    assert len(trial.windows) == 30  # of four recordings with ten windows, one is too fast


def test_conditions_are_those_of_the_recordings_and_people_are_capped():
    made = [
        source("wise-bvp", "bvp", 16.0, [(1.0, 1.1)] * 3, ("rest", "task")),
        source("x-ecg", "ecg", 50.0, [(1.0, 2.0)] * 3, ("a", "b")),
    ]
    rates, condition = trials(made, most=8)
    assert (rates.name, condition.name, condition.classes) == ("pulse rate", "wise-bvp condition", ("rest", "task"))
    assert np.bincount(condition.people).tolist() == [0, 8, 8]
    assert np.array_equal(trials(made, most=8)[1].labels, condition.labels)  # the same windows every time
    assert len(next(condition.images(Recipe(), ("waveform",)))) == 224


def test_levels_are_drawn_against_the_persons_range():
    t = np.arange(600)
    rows = [Row(np.interp(t, (0, 599), (97, 70)) + 0.3 * np.sin(t / 3), person, held_out=True) for person in (1, 2)]
    (trial,) = trials([gather("oximetry-spo2", "spo2", 1.0, (), (15.0, 90.0), 60.0, rows, 256.0)])
    assert all(np.diff(labels).max() <= 0 for labels in (trial.labels[:10], trial.labels[10:]))  # it falls all along
    assert np.bincount(trial.labels).tolist() == [6, 6, 8]
    assert all(70 < low < 71 and 96 < high < 97.5 for low, high in trial.limits)
    assert trial.labels[0] == 2
    assert trial.labels[9] == 0


def test_vectors_that_hold_the_class_score_one_and_those_that_do_not_score_chance(rng):
    trial = toy_trial()
    holding = np.eye(2)[trial.labels] + 0.1 * rng.standard_normal((120, 2))
    assert score(holding, trial) == 1.0
    assert score(rng.standard_normal((120, 5)), trial) == pytest.approx(0.5, abs=0.15)


def test_a_person_is_never_fitted_on():
    trial = toy_trial(people=2, n=40)
    contrary = np.where(trial.people == 0, trial.labels, 1 - trial.labels)[:, None] * 2.0  # opposite in the two people
    assert score(contrary, trial) == 0.0


def test_what_differs_between_people_goes_when_each_is_standardised(rng):
    trial = toy_trial(people=6)
    vectors = trial.labels[:, None] + 50.0 * rng.standard_normal(6)[trial.people][:, None]
    assert score(vectors, trial) < 0.75
    assert score(vectors, trial, per_person=True) == 1.0


def test_classes_count_alike(rng):
    trial = toy_trial(n=30)
    labels = np.where(np.arange(120) % 10 == 0, 1, 0)
    rare = Trial(**{**vars(trial), "labels": labels})
    assert score(np.zeros((120, 3)), rare) == pytest.approx(0.5)


def test_counts_are_of_each_person_and_the_score_their_sum():
    trial = toy_trial(people=3, n=8)
    vectors = np.where(trial.people == 2, 1 - trial.labels, trial.labels)[:, None].astype(float)
    found = counts(vectors, trial)
    assert found[..., 1].tolist() == [[4, 4]] * 3
    assert found[2, :, 0].tolist() == [0, 0]  # read by what the others' labels mean, which is the contrary
    assert score(vectors, trial) == pytest.approx(found[..., 0].sum() / 24)


def test_gain_is_paired_over_people():
    all_right = np.array([[[4.0, 4], [4, 4]]] * 5)
    half = np.array([[[4.0, 4], [0, 4]]] * 5)
    assert gain([all_right], [half]) == (0.5, 0.5, 0.5)  # people are alike, so that no draw differs
    assert gain([all_right, half], [half, half]) == (0.25, 0.25, 0.25)
    mixed = np.array([[[4.0, 4], [4, 4]]] * 4 + [[[0.0, 4], [0, 4]]])
    value, low, high = gain([mixed], [half])
    assert (value, low, high) == (pytest.approx(0.3), pytest.approx(-0.1), pytest.approx(0.5))
    assert gain([mixed, all_right], [mixed, all_right]) == (0, 0, 0)


def test_both_protocols_of_a_trial_are_drawn_together(rng):
    one, other = (rng.integers(0, 5, (6, 2, 2)).clip(0, 4).astype(float) for _ in range(2))
    one[..., 1] = other[..., 1] = 4
    alone = gain([one], [other])
    assert gain([np.stack([one, one])], [np.stack([other, other])]) == pytest.approx(alone)
    narrow = gain([np.stack([one, other])], [np.stack([other, one])])  # what one gains the other loses
    assert narrow == pytest.approx((0, 0, 0), abs=1e-12)
    wide = gain([one], [other], percent=99.0)
    assert wide[0] == alone[0]
    assert wide[1] <= alone[1]
    assert wide[2] >= alone[2]


def test_more_than_eight_people_are_scored_in_folds_and_counted_each(rng, monkeypatch):
    trial = toy_trial(people=10, n=6)
    vectors = np.column_stack([trial.labels, rng.standard_normal(trial.labels.size)])
    fits = []
    original = validation._right
    monkeypatch.setattr(validation, "_right", lambda *of: (fits.append(of[3]), original(*of))[1])
    found = counts(vectors, trial)
    assert found.shape == (10, 2, 2)
    assert np.array_equal(found, np.full((10, 2, 2), 3.0))  # all are read rightly
    scored = [people for people in fits if np.array_equal(np.unique(trial.people[people]), [0, 8])]
    assert len(scored) == 8  # eight folds: once by all others, and once for each of them that is left out


def test_of_an_ecg_the_middle_of_each_recording_is_taken():
    t = np.arange(750) / 50
    rows = [Row(np.sin(2 * np.pi * 5 * t) + number * (t > 5), number, number % 2, number > 1) for number in range(8)]
    source = gather("ecg", "ecg", 50.0, ("a", "b"), (5.0, 15.0), 10.0, rows, 256.0)
    (trial,) = trials([source])
    assert (trial.name, trial.classes) == ("ecg class", ("a", "b"))
    assert sorted(trial.people) == [2, 3, 4, 5, 6, 7]
    assert [len(window) for window in trial.windows] == [500] * 6
    steps = [window[200:].mean() - window[:100].mean() for window in trial.windows]  # it rises at 5 s of 2.5 to 12.5
    assert steps == pytest.approx(trial.people.astype(float), abs=0.2)


def test_the_command_scores_every_trial_of_a_pack(tmp_path, capsys):
    rates = [(1.0,), (0.9, 1.2, 1.5), (0.95, 1.25, 1.55)]
    write_pack(tmp_path / "pack", [source("ds000210-bvp", "bvp", 16.0, rates)], {})
    main(["--data", str(tmp_path / "pack"), "--most", "3", "-o", str(tmp_path / "scores.json")])
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["scores"]["pulse rate"] | {"plain": 0, "per person": 0} == {
        "windows": 6, "people": 2, "chance": 1 / 3, "plain": 0, "per person": 0,
    }  # fmt: skip
    assert 0 <= written["scores"]["pulse rate"]["plain"] <= 1
    assert "pulse rate" in capsys.readouterr().out
