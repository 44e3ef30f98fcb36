"""The ablation's windows in another guise: of the right people, as other modalities, drawn once."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_pretraining import toy_task

from benchmarks import ablation
from pretraining.archives import Task
from tiny_biomoe import Config
from tiny_biomoe.network.network import Network


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


def test_a_rate_is_told_from_vectors_that_hold_it_and_not_from_others():
    rng = np.random.default_rng(0)

    def guises(n: int, told: float) -> ablation.Guises:
        """Vectors of noise, and `told` more in the number of the peak's band."""
        peaks = rng.integers(0, 40, n)
        vectors = rng.standard_normal((n, 192)).astype(np.float32)
        vectors[np.arange(n), peaks] += told
        return vectors, np.arange(n) % 6, peaks

    assert ablation.rate_score(guises(1200, 10.0), guises(600, 10.0)) > 0.65
    assert ablation.rate_score(guises(1200, 0.0), guises(600, 0.0)) == pytest.approx(1 / 3, abs=0.08)


def test_every_variant_lacks_one_thing_of_all_that_was_tried():
    whole, shipped = ablation.VARIANTS["everything"], ablation.VARIANTS["without other guises"]
    assert shipped == replace(ablation.Settings(), image_size=112, learning_rate=1e-3, threads=1)
    for name, settings in ablation.VARIANTS.items():
        changed = [
            (part, key)
            for part in ("objectives", "augmentation")
            for key, value in vars(getattr(whole, part)).items()
            if vars(getattr(settings, part))[key] != value
        ]
        if name.startswith("without noise"):
            assert {part for part, _ in changed} == {"augmentation"}
            assert not {"made_share", "disguise_share"} & {key for _, key in changed}
        elif name.startswith("without"):
            assert len(changed) == 1
            part, key = changed[0]
            assert vars(getattr(settings, part))[key] == 0
        assert replace(whole, objectives=settings.objectives, augmentation=settings.augmentation) == settings
    alone = ablation.VARIANTS["labels alone"]
    assert set(vars(alone.objectives).values()) == {0}
    assert alone.augmentation == ablation.AS_RECORDED


def test_the_table_has_means_over_seeds_and_differences_seed_by_seed(tmp_path):
    (tmp_path / "scores-7").mkdir()
    for name, score in (("everything-1", 0.5), ("everything-2", 0.6), ("labels-alone-2", 0.45)):
        scores = {"ecg": score, "emg": score + 0.1}
        (tmp_path / "scores-7" / f"{name}.json").write_text(json.dumps(scores))
    ablation.report(tmp_path, 7)
    rows = (tmp_path / "ablation.md").read_text().splitlines()
    assert rows[2] == "| everything | 2 | 0.550 | 0.650 | 0.600 | +0.0, +0.0 |"
    assert rows[3] == "| labels alone | 1 | 0.450 | 0.550 | 0.500 | -15.0 |"


def test_a_score_that_is_there_is_not_computed_again(tmp_path):
    path = tmp_path / "scores-7" / "everything-1.json"
    path.parent.mkdir()
    path.write_text("{}")
    ablation.score_once(path, [], lambda: pytest.fail("trained again"))
    assert path.read_text() == "{}"
