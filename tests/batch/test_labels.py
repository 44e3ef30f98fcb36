"""Labels, people and numbers to predict: what is missing, what is one, and in which order they stand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from toy_training import beats, toy_samples

from tiny_biomoe import ConfigError, SignalWarning
from tiny_biomoe.batch.labels import check_labels, check_people, check_targets, classes_of, is_missing
from tiny_biomoe.train.drawing import draw_samples
from tiny_biomoe.train.samples import check_apart, split_subjects

WINDOWS = [{"bvp": beats(bool(i % 2), i)} for i in range(4)]
VIEWS = [("bvp", "waveform")]


def drawn(labels, subjects=("A", "A", "B", "B"), **options):
    return draw_samples(WINDOWS, labels, subjects, VIEWS, **options)


@pytest.mark.parametrize("value", [None, np.nan, pd.NA, pd.NaT, "", "  ", "n/a", "NA", "nan", "NULL", "<NA>", "None"])
def test_row_129_a_missing_label_is_no_class(value):
    assert is_missing(value)
    samples = drawn(["calm", value, "stress", "calm"])
    assert (samples.classes, samples.labels.tolist()) == (("calm", "stress"), [0, -1, 1, 0])
    with pytest.warns(SignalWarning, match="1 of 4 samples have no label and are left out, sample 1 the first"):
        assert len(drawn(["calm", value, "stress", "calm"], unlabelled="drop")) == 3
    with pytest.raises(ConfigError, match="1 of 4 samples have no label, sample 1 the first"):
        drawn(["calm", value, "stress", "calm"], unlabelled="error")


def test_row_129_a_class_may_be_called_none():
    assert drawn(["none", "pain", "none", "pain"]).classes == ("none", "pain")


def test_row_129_what_has_no_label_is_counted_where_one_is_needed():
    samples = drawn(["calm", None, None, "stress"])
    with pytest.raises(ConfigError, match=r"sample 1 has no label, one of 2 of 4 samples.*samples.labelled\(\)"):
        split_subjects(samples, 0.5)
    assert samples.labelled().labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "classes", "kind"),
    [
        ([1, 0, 1.0, 0.0], (0, 1), int),
        ([10, 9, 2, 9], (2, 9, 10), int),
        ([0.5, 0.0, 0.5, 2.0], (0.0, 0.5, 2.0), float),
        (np.array([True, False, True, False]), (False, True), bool),
        (np.array([3, 1, 3, 1], np.int8), (1, 3), int),
        (["10", "9", "9", "10"], ("9", "10"), str),
        (np.array(["b", "a", "b", "a"]), ("a", "b"), str),
        (["calm ", "calm", " stress", "calm"], ("calm", "stress"), str),
    ],
)
def test_row_130_labels_keep_their_type_and_classes_a_stated_order(labels, classes, kind):
    found = drawn(labels).classes
    assert found == classes
    assert {type(label) for label in found} == {kind}


def test_row_130_an_ordered_categorical_and_given_classes_state_their_own_order():
    ordered = pd.Series(pd.Categorical(["low", "high", "low", "high"], ["low", "middle", "high"], ordered=True))
    assert drawn(ordered).classes == ("low", "high")
    assert drawn(["a", "b", "a", "b"], classes=["b", "a"]).labels.tolist() == [1, 0, 1, 0]
    with pytest.raises(ConfigError, match="named twice"):
        drawn(["a", "b", "a", "b"], classes=["a", "a"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, "1", 0, 0], r"several kinds, 1 \(number\), '1' \(text\)"),
        ([True, 1, 0, 0], r"several kinds, True \(bool\), 1 \(number\)"),
        (["calm", "Calm", "x", "x"], "'calm' and 'Calm' differ in spelling alone"),
        (["1", "1.0", "2", "2"], "'1' and '1.0' differ in spelling alone"),
        ([np.inf, 1, 0, 0], "label inf of sample 0"),
        ([(1,), 1, 0, 0], "label .* of sample 0 is a tuple"),
        ("calm", "give a sequence"),
    ],
)
def test_row_130_labels_that_are_no_classes_are_refused(labels, message):
    with pytest.raises(ConfigError, match=message):
        drawn(labels)


@pytest.mark.parametrize("people", [[1, 1.0, "1", "1.0"], ["1.0", " 1 ", np.int64(1), "1.00"]])
def test_row_131_numbers_and_their_text_are_one_person(people, recwarn):
    assert set(check_people(people, 4)) == {"1"}
    assert not recwarn


def test_row_131_spellings_of_one_person_are_one_and_shown():
    with pytest.warns(SignalWarning, match="'s01' as 'S01'"):
        assert check_people(["S01", "S01", "s01 ", "S02"], 4) == ("S01", "S01", "S01", "S02")
    with pytest.warns(SignalWarning, match="'01' as '1'"):
        assert check_people([1, "01"], 2) == ("1", "1")
    with pytest.raises(ConfigError, match=r"subject of sample 1 is missing \(nan\)"):
        check_people(["A", np.nan], 2)


def test_row_131_a_person_is_never_on_both_sides_however_spelt():
    samples = toy_samples(4)
    names = [name.lower() + " " if i % 2 else name for i, name in enumerate(samples.subjects)]
    with pytest.warns(SignalWarning, match="taken for one person each"):
        spelt = dataclasses.replace(samples, subjects=tuple(names))
    train, test = split_subjects(spelt, 0.5)
    assert not {name.casefold() for name in train.subjects} & {name.casefold() for name in test.subjects}
    lower = dataclasses.replace(samples, subjects=tuple(name.lower() for name in samples.subjects))
    with pytest.raises(ConfigError, match="'P0' is in both parts"):
        check_apart(samples, lower)


def test_row_132_sequences_of_pandas_are_taken_by_position():
    frame = pd.DataFrame({"label": ["a", "b", "a", "b"], "who": ["P", "Q", "R", "S"]})
    turned = frame.iloc[[2, 0, 3, 1]]
    samples = draw_samples(WINDOWS, turned["label"], turned["who"], VIEWS)
    assert samples.subjects == ("R", "P", "S", "Q")
    assert samples.labels.tolist() == [0, 0, 1, 1]
    filtered = draw_samples(WINDOWS[:2], frame["label"][2:], frame["who"][2:], VIEWS)
    assert filtered.subjects == ("R", "S")


def test_targets_are_numbers_and_missing_ones_are_nan():
    assert check_targets(["1.5", 2, None, "n/a"], 4) == pytest.approx([1.5, 2, np.nan, np.nan], nan_ok=True)
    with pytest.raises(ConfigError, match="target 'much' of sample 1"):
        check_targets([1, "much"], 2)
    assert drawn([1.0, 2.0, None, 4.0], task="regression").known.tolist() == [True, True, False, True]


def test_nullable_integers_of_pandas_keep_being_integers():
    labels = pd.Series([1, None, 3, 1], dtype="Int64")
    assert classes_of(check_labels(labels, 4)) == (1, 3)
