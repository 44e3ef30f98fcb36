"""Samples: each view drawn once, bad ones met early and by name, and people never divided."""

from __future__ import annotations

import numpy as np
import pytest
from toy_training import beats, sweat, toy_samples

from tiny_biomoe import ConfigError, SignalError, SignalTypeError, SignalWarning, render
from tiny_biomoe.images.rendering import colour
from tiny_biomoe.train.drawing import Window, draw_samples
from tiny_biomoe.train.samples import (
    View,
    check_apart,
    fold_subjects,
    split_subjects,
)

VIEWS = (("eda", "scalogram"), ("bvp", "waveform"), ("ppg", "psd"))


def test_a_view_is_the_image_that_embed_sees():
    samples = toy_samples(2, VIEWS)
    assert samples.views == (View("eda", "scalogram"), View("bvp", "waveform"), View("bvp", "psd"))
    assert samples.classes == ("calm", "stress")
    assert samples.labels.tolist() == [0, 1, 0, 1]
    assert samples.present.all()
    window = beats(True, 1)
    assert np.array_equal(colour(samples.levels[1, 2]), render(window.signal, window.fs, "bvp", "psd"))


def test_limits_show_the_level_and_a_filtered_window_is_not_filtered_again():
    t = np.arange(512) / 64
    tone = np.sin(2 * np.pi * 8 * t)  # far above the band of the pulse
    views = [("bvp", "waveform")]
    passed = draw_samples([{"bvp": Window(tone, 64.0, filtered=True)}], None, ["A"], views).levels[0, 0]
    small, large = (
        draw_samples([{"bvp": Window(tone, 64.0, limits, filtered=True)}], None, ["A"], views).levels[0, 0]
        for limits in ((-4.0, 4.0), (-1.0, 1.0))
    )
    assert np.array_equal(passed, large) or np.abs(passed.astype(int) - large).mean() < 2
    reach = [int((levels.max(1) > 0).sum()) for levels in (small, large)]
    assert reach[0] < 0.3 * reach[1]


def test_a_missing_modality_is_an_error_by_default_and_masked_by_option():
    windows = [{"bvp": beats(False, 0), "eda": sweat(False, 0)}, {"bvp": beats(True, 1)}]
    arguments = (windows, ["calm", "stress"], ["A", "B"], [("eda", "psd"), ("bvp", "psd")])
    with pytest.raises(SignalError, match=r"S2 has no eda, only \['bvp'\]: leave it out, or pass missing=\"mask\""):
        draw_samples(*arguments, sources=["S1", "S2"])
    masked = draw_samples(*arguments, missing="mask")
    assert masked.present.tolist() == [[True, True], [False, True]]
    assert not masked.levels[1, 0].any()
    with pytest.raises(SignalError, match="sample 1 has no image at all"):
        draw_samples(windows, None, ["A", "B"], [("eda", "psd")], missing="mask")


@pytest.mark.parametrize(
    ("window", "error", "message"),
    [
        (Window(np.full(512, 3.0), 64.0), SignalError, "flat"),
        (Window(np.full(512, 3.0), 64.0, filtered=True), SignalError, "flat"),
        (Window(np.full(512, np.nan), 64.0), SignalError, "missing samples"),
        (Window(["a"] * 9, 64.0), SignalTypeError, "holds 'a'"),
        (Window(np.arange(512.0), 0.0), SignalError, "fs=0.0"),
    ],
)
def test_a_bad_window_is_met_before_training_and_by_name(window, error, message):
    with pytest.raises(error, match=message):
        draw_samples([{"bvp": window}], None, ["A"], [("bvp", "psd")], sources=["a.csv, 0-8 s"])


def test_a_label_that_is_no_class_and_columns_of_other_lengths_are_refused():
    windows = [{"bvp": beats(False, 0)}]
    with pytest.raises(ConfigError, match="unknown label 'clam'.*did you mean 'calm'"):
        draw_samples(windows, ["clam"], ["A"], [("bvp", "psd")], classes=["calm", "stress"])
    with pytest.raises(ConfigError, match="1 samples and 2 labels"):
        draw_samples(windows, ["calm", "stress"], ["A"], [("bvp", "psd")])
    with pytest.raises(ConfigError, match="1 samples and 2 subjects"):
        draw_samples(windows, ["calm"], ["A", "B"], [("bvp", "psd")])
    with pytest.raises(ConfigError, match="named twice"):
        draw_samples(windows, ["calm"], ["A"], [("bvp", "psd"), ("ppg", "psd")])


def test_looking_through_some_views_leaves_out_samples_that_have_none_of_them():
    windows = [{"bvp": beats(False, 0), "eda": sweat(False, 0)}, {"bvp": beats(True, 1)}]
    masked = draw_samples(
        windows, ["calm", "stress"], ["A", "B"], [("eda", "psd"), ("bvp", "psd")], missing="mask", sources=["x", "y"]
    )
    eda = masked.look([View("eda", "psd")])
    assert (len(eda), eda.sources, eda.labels.tolist()) == (1, ("x",), [0])
    assert masked.look([View("bvp", "psd")]).levels.shape == (2, 1, 224, 224)
    with pytest.raises(ConfigError, match="unknown view 'bvp/angle'"):
        masked.look([View("bvp", "angle")])


def test_a_split_divides_people_and_keeps_classes_in_both_parts():
    samples = toy_samples(10)
    train, test = split_subjects(samples, 0.3, seed=4)
    assert not set(train.subjects) & set(test.subjects)
    assert len(set(test.subjects)) == 3
    assert len(train) + len(test) == 20
    assert set(test.labels) == set(train.labels) == {0, 1}
    assert split_subjects(samples, 0.3, seed=4)[1].subjects == test.subjects


def test_a_split_that_would_divide_a_person_is_refused():
    samples = toy_samples(3)
    with pytest.raises(ConfigError, match="all samples are of one subject, 'P0', and a subject is never divided"):
        split_subjects(samples.take([0, 1]), 0.5)
    with pytest.raises(ConfigError, match="no division of 3 subjects leaves every class"):
        split_subjects(samples.take([0, 2, 5]), 0.3)
    with pytest.raises(ConfigError, match="share=1.0"):
        split_subjects(samples, 1.0)
    with pytest.raises(ConfigError, match="subject 'P1' is in both parts"):
        check_apart(samples, samples.take([2]))


def test_folds_test_every_person_once():
    samples = toy_samples(5)
    tested = []
    for train, test in fold_subjects(samples, 3):
        assert not set(train.subjects) & set(test.subjects)
        tested += test.subjects
    assert sorted(tested) == sorted(samples.subjects)
    with pytest.raises(ConfigError, match="folds=6: of 5 subjects, 2 to 5 folds"):
        next(fold_subjects(samples, 6))


def test_the_digest_knows_images_labels_and_people():
    samples = toy_samples(2)
    assert samples.sha256 == toy_samples(2).sha256
    others = [samples.take([1, 0, 2, 3]), samples.take([0, 1])]
    assert len({samples.sha256, *(other.sha256 for other in others)}) == 3


def test_bad_samples_are_left_out_on_request_and_named():
    windows = [{"bvp": beats(False, 0)}, {"bvp": Window(np.zeros(512), 64.0)}, {"bvp": beats(True, 2)}]
    arguments = (["calm", "calm", "stress"], ["A", "B", "C"], [("bvp", "psd")])
    with pytest.warns(SignalWarning, match=r"left out: y, bvp, .*flat"):
        kept = draw_samples(windows, *arguments, bad="drop", sources=["x", "y", "z"])
    assert (kept.sources, kept.subjects, kept.labels.tolist()) == (("x", "z"), ("A", "C"), [0, 1])
    with pytest.warns(SignalWarning), pytest.raises(SignalError, match="no sample can be drawn"):
        draw_samples(windows[1:2], None, ["B"], [("bvp", "psd")], bad="drop")
