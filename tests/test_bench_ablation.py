"""The ablation's windows in another guise: of the right people, as other modalities, drawn once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_train import toy_task

from benchmarks import ablation
from tiny_biomoe import Config
from tiny_biomoe.network import Network
from tiny_biomoe.train.archives import Task


@pytest.fixture
def drawn_from(monkeypatch) -> set[int]:
    """Numbers of the recordings that are read."""
    monkeypatch.setattr(ablation, "GUISES", {False: 4, True: 2})
    seen: set[int] = set()
    original = Task.recording
    monkeypatch.setattr(Task, "recording", lambda self, index: (seen.add(index), original(self, index))[1])
    return seen


@pytest.mark.parametrize("held_out", [False, True])
def test_each_half_is_drawn_from_its_own_people_and_once(tmp_path, drawn_from, held_out):
    tasks = [toy_task("ecg"), toy_task("eeg", 125.0)]
    torch.manual_seed(0)
    network = Network(Config(), ablation.SIZE).eval()
    vectors, shown, peaks = ablation.in_guise(network, tasks, held_out, tmp_path)
    drawn = 18 * ablation.GUISES[held_out]
    assert vectors.shape == (len(peaks), 192)
    assert drawn / 2 < len(peaks) <= drawn  # these tasks are rhythms, most of which show in their guise
    assert {tasks[0].held_out[index] for index in drawn_from} == {held_out}
    assert len(shown) == len(peaks)
    assert np.bincount(shown).max() <= drawn / 6
    assert len(set(peaks.tolist())) > 3
    drawn_from.clear()
    again = ablation.in_guise(network, tasks, held_out, tmp_path)
    assert again[0].tobytes() == vectors.tobytes()
    assert not drawn_from


def test_what_is_read_of_a_rate_is_a_perfect_score_or_chance(tmp_path, drawn_from, monkeypatch):
    monkeypatch.setattr(ablation, "GUISES", {False: 10, True: 6})
    tasks = [toy_task("ecg"), toy_task("eeg", 125.0)]
    for vectors_of, least, most in ((lambda peaks: peaks, 0.85, 1.0), (lambda peaks: 0 * peaks, 0.3, 0.4)):
        in_guise = ablation.in_guise

        def told(network, tasks, held_out, cache, vectors_of=vectors_of, in_guise=in_guise):
            """What the network would give whose every number is the rate, or none."""
            monkeypatch.setattr(ablation, "embed", lambda network, images: np.zeros((len(images), 192), np.float32))
            vectors, shown, peaks = in_guise(network, tasks, held_out, cache)
            return vectors + vectors_of(peaks)[:, None], shown, peaks

        network = Network(Config(), ablation.SIZE).eval()
        fit, test = (told(network, tasks, held_out, tmp_path) for held_out in (False, True))
        assert least <= ablation.rate_score(fit, test) <= most


def test_variants_add_one_thing_at_a_time():
    settings = list(ablation.VARIANTS.values())
    for before, after in zip(settings, settings[1:], strict=False):
        changed = [
            (part, name)
            for part in ("objectives", "augmentation")
            for name, value in vars(getattr(after, part)).items()
            if vars(getattr(before, part))[name] != value
        ]
        assert changed
        assert len({part for part, _ in changed}) == 1
        assert replace(before, objectives=after.objectives, augmentation=after.augmentation) == after
    assert settings[-1].objectives == ablation.Settings().objectives
    assert settings[-1].augmentation == ablation.Settings().augmentation
