"""Examples drawn once: of whom, how often, the same whoever draws them, and kept."""

from __future__ import annotations

import os

import numpy as np
import pytest
from toy_pretraining import toy_source

from pretraining import examples
from pretraining.batches import Augmentation
from pretraining.examples import MADE, PARTS, Drawer, Drawing, draw_examples
from pretraining.picture_targets import picture
from pretraining.sources import Source, sources_digest
from tiny_biomoe import Recipe

SOURCES = [toy_source(), toy_source("eda", 4.0, ())]
AS_RECORDED = Augmentation(noise_share=0, flip_share=0, drift_share=0, person_scale_share=0, made_share=0)


def test_shares_of_modalities_are_all_there_are():
    assert sum(PARTS.values()) == pytest.approx(1)


def test_an_example_is_a_pure_function_of_seed_and_index():
    first, again, other = (Drawer(SOURCES, Drawing(seed)).example(9) for seed in (1, 1, 2))
    assert first.levels.tobytes() == again.levels.tobytes()
    assert first.targets.tobytes() == again.targets.tobytes()
    assert first.levels.tobytes() != other.levels.tobytes()
    assert first.levels.shape == (224, 224)
    assert first.targets.shape == (32 + 88 + 1184,)
    assert first.spectra.sum() == pytest.approx(1, abs=1e-5)
    assert first.representations == 9 % 6
    assert (first.waves.shape, first.waves.dtype) == ((1024,), np.float16)
    assert (first.waves.mean(dtype=float), first.waves.std(dtype=float)) == pytest.approx((0, 1), abs=2e-3)


def test_held_out_people_are_never_drawn(monkeypatch):
    seen: set[int] = set()
    original = Source.cut
    monkeypatch.setattr(Source, "cut", lambda self, index, *place: (seen.add(index), original(self, index, *place))[1])
    drawer = Drawer(SOURCES, Drawing(0, AS_RECORDED))
    drawn = [drawer.example(6 * index + 5) for index in range(30)]
    assert seen == set(range(6))
    assert {int(row.sources) for row in drawn} == {0, 1}
    assert {int(row.labels) for row in drawn if row.sources == 0} == {0, 1}


def test_the_targets_are_those_of_the_window_that_is_shown(monkeypatch):
    shown = []
    original = examples.picture
    monkeypatch.setattr(examples, "picture", lambda *window: (shown.append(window), original(*window))[1])
    row = Drawer(SOURCES[:1], Drawing(3, AS_RECORDED)).example(4)
    assert np.array_equal(row.targets[120:], picture(*shown[0]))
    signal, fs, band, _ = shown[0]
    assert fs == 8.0
    assert 15 <= signal.size / fs <= 40
    assert band[1] == 0.5


def test_windows_that_are_made_need_no_recording_and_have_no_label(monkeypatch):
    monkeypatch.delattr(Source, "cut")
    row = Drawer(SOURCES, Drawing(0, Augmentation(made_share=1.0))).example(0)
    assert (row.sources, row.labels) == (MADE, -1)


def test_whatever_draws_them_and_however_often_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "BLOCK", 6)
    whole = draw_examples(SOURCES, Drawing(0), 12, tmp_path / "one")
    assert whole.levels.shape == (12, 224, 224)
    assert sorted(whole.representations.tolist()) == sorted([0, 1, 2, 3, 4, 5] * 2)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        draw_examples(SOURCES, Drawing(0), 12, tmp_path / "two")
    monkeypatch.undo()
    monkeypatch.setattr(examples, "BLOCK", 6)
    again = draw_examples(SOURCES, Drawing(0), 12, tmp_path / "two")
    assert all(getattr(whole, name).tobytes() == getattr(again, name).tobytes() for name in examples.COLUMNS)
    monkeypatch.delattr(Drawer, "example")  # they are kept
    assert draw_examples(SOURCES, Drawing(0), 12, tmp_path / "one").targets.tobytes() == whole.targets.tobytes()


def test_other_recordings_or_another_drawing_are_not_mistaken_for_these():
    assert sources_digest(SOURCES) != sources_digest(SOURCES[:1])
    assert len({Drawing(0).digest(), Drawing(1).digest(), Drawing(0, AS_RECORDED).digest()}) == 3
    assert Drawing(0).recipe == Recipe()
