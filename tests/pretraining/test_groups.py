"""Groups of windows: whose they are, what they have in common, and that a group is always the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_pretraining import toy_source

from pretraining.batches import Augmentation
from pretraining.descriptors import describe
from pretraining.groups import MADE, Groups
from pretraining.profiles import profile, spectrum_shares
from pretraining.sources import NO_LABEL, Row, gather
from tiny_biomoe.errors import SignalError
from tiny_biomoe.signals.filters import passband

PLAIN = Augmentation(0.0, flip_share=0.0, drift_share=0.0, person_scale_share=0.0, made_share=0.0)


def groups(sources=None, augmentation=PLAIN, windows=4, seed=0):
    return Groups(sources or [toy_source(), toy_source("bvp", 16.0, ())], windows, seed, augmentation)


def test_a_group_is_a_pure_function_of_seed_and_index():
    first, again, other = groups()[7], groups()[7], groups(seed=1)[7]
    assert np.array_equal(first.filtered, again.filtered)
    assert np.array_equal(first.facts, again.facts)
    assert first.filtered.shape != other.filtered.shape or not np.array_equal(first.filtered, other.filtered)


def test_windows_come_from_people_in_training_with_their_labels_and_facts():
    some = groups()
    for index in range(12):
        group = some[index]
        source = some.sources[group.sources[0]]
        assert group.filtered.shape[0] == 4
        assert (group.modality, group.fs) == (source.modality, source.fs)
        assert source.seconds[0] <= group.filtered.shape[1] / group.fs <= source.seconds[1]
        assert np.isnan(group.limits).all()
        band = passband(group.fs, group.modality, some.recipe).shown(group.filtered.shape[1] / group.fs)
        for x, label, facts, spectrum in zip(group.filtered, group.labels, group.facts, group.spectra, strict=True):
            peak = np.abs(np.fft.rfft(x * np.hanning(x.size), 4096)).argmax() * group.fs / 4096
            assert label == (round((peak - 0.15) / 0.15) if source.modality == "resp" else label)
            assert np.array_equal(spectrum, spectrum_shares(x, group.fs, band))
            assert np.array_equal(facts[:32], describe(x, group.fs, band))
            assert np.array_equal(facts[32:], profile(x, group.fs, band, spectrum))


def test_people_held_out_are_not_drawn():
    t = np.arange(800) / 8
    rows = [Row(np.sin(2 * np.pi * (0.15, 0.4)[held] * t), int(held), held_out=bool(held)) for held in (0, 1)]
    some = groups([gather("s", "resp", 8.0, (), (20.0, 40.0), 32.0, rows, 128.0)])
    for index in range(8):
        for x in some[index].filtered:
            assert np.abs(np.fft.rfft(x, 4096)).argmax() * 8 / 4096 == pytest.approx(0.15, abs=0.03)


def test_made_windows_have_no_source_and_no_label():
    group = groups(augmentation=replace(PLAIN, made_share=1.0))[3]
    assert group.sources.tolist() == [MADE] * 4
    assert group.labels.tolist() == [NO_LABEL] * 4
    assert np.isfinite(group.facts).all()


def test_some_windows_are_drawn_against_a_wider_range():
    group = groups(augmentation=replace(PLAIN, person_scale_share=1.0))[0]
    assert np.isfinite(group.limits).all()
    assert (group.limits[:, 1] > group.limits[:, 0]).all()


@pytest.mark.parametrize(("modality", "turned"), [("bvp", True), ("eda", False)])
def test_a_pulse_is_shown_either_way_up_and_skin_conductance_is_not(modality, turned):
    rows = [Row(np.tile(np.r_[np.zeros(29), 1.0, 0.5, 0.2], 60), person) for person in (0, 1)]
    source = gather("s", modality, 16.0, (), (20.0, 40.0), 30.0, rows, 128.0)
    some = groups([source], replace(PLAIN, flip_share=1.0), windows=1)
    skew = np.mean([np.mean(((x := some[index].filtered[0]) - x.mean()) ** 3) for index in range(4)])
    assert (skew < 0) == turned


def test_recordings_shorter_than_a_window_are_left_alone():
    short = [Row(np.sin(np.arange(n) / 9.0), number) for number, n in enumerate((80, 80, 300))]
    some = groups([gather("s", "resp", 8.0, (), (15.0, 60.0), 32.0, short, 128.0)])
    assert {some[index].filtered.shape[1] <= 300 for index in range(10)} == {True}


def test_nothing_but_flat_windows_says_what_may_be_wrong():
    flat = [Row(np.r_[np.zeros(799), 1e-9], 0)]
    source = gather("s", "resp", 8.0, (), (20.0, 30.0), 32.0, flat, 128.0)
    with pytest.raises(SignalError, match="resp: 20 windows in a row"):
        Groups([replace(source, samples=source.samples * 0)], 2, 0, PLAIN)[0]
