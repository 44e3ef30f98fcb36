"""The ablation of the late stages: variants differ in one thing, and the table says by how much."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import torch

from benchmarks.late_ablation import VARIANTS, MuonAndAdamW, Variant, digest_of, names, table
from pretraining.validation import Trial


def test_every_variant_differs_in_one_thing():
    whole = asdict(VARIANTS["everything"])
    assert VARIANTS["everything"] == Variant()
    together = {"picture": "picture and rows", "rows": "picture and rows", "classes": "classes", "smoothing": "classes"}
    for name, variant in VARIANTS.items():
        own = asdict(variant)
        changed = {key for key, value in own["weights"].items() if value != whole["weights"][key]}
        flags = {key for key in own if key != "weights" and own[key] != whole[key]}
        assert len({together.get(key, key) for key in changed} | flags) == (name != "everything")


def test_muon_turns_matrices_it_is_given_and_goes_on_from_its_state():
    torch.manual_seed(0)
    goal = torch.randn(6, 4)

    def learnt(steps, state=None, begin=None):
        weight, bias = (torch.nn.Parameter(torch.zeros(6, 4)), torch.nn.Parameter(torch.zeros(6)))
        if begin is not None:
            weight.data.copy_(begin[0]), bias.data.copy_(begin[1])
        groups = [{"params": [weight], "weight_decay": 0.0}, {"params": [bias], "weight_decay": 0.0}]
        optimizer = MuonAndAdamW(groups, 0.05, [weight])
        if state is not None:
            optimizer.load_state_dict(state)
        for _ in range(steps):
            optimizer.zero_grad()
            ((weight + bias[:, None] - goal) ** 2).sum().backward()
            optimizer.step()
        return weight.data, bias.data, optimizer

    weight, bias, optimizer = learnt(1)
    singular = torch.linalg.svdvals(weight)
    assert singular.max() < 2 * singular.min()  # a step of Muon goes along all directions alike
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.05]
    whole = learnt(60)
    half = learnt(30)
    rest = learnt(30, half[2].state_dict(), half[:2])
    assert torch.equal(rest[0], whole[0])
    assert torch.equal(rest[1], whole[1])
    assert ((whole[0] + whole[1][:, None] - goal) ** 2).sum() < 0.2 * (goal**2).sum()


def test_images_are_told_apart_and_so_are_a_trials_windows():
    levels = np.zeros((2, 4, 4), np.uint8)
    assert digest_of(levels) == digest_of(levels.copy())
    assert digest_of(levels) != digest_of(levels + np.uint8(1))
    window = np.arange(8.0)
    trials = [
        Trial("pulse rate", "bvp", 64.0, ("low", "high"), [x], np.zeros(1, int), np.zeros(1, int), [None])
        for x in (window, window.copy(), window + 1)
    ]
    assert trials[0].digest() == trials[1].digest() != trials[2].digest()
    assert names(trials[0]) == ("pulse rate", "pulse rate, per person")


def test_the_table_says_what_each_lacks_and_how_sure_that_is(tmp_path):
    def counted(share):
        """Four people who read such a share of ten windows of each of two classes."""
        return np.full((4, 2, 2), (10 * share, 10.0)).tolist()

    for name, scores in {"everything": (0.8, 0.9), "without-teachers": (0.7, 0.78)}.items():
        for seed, value in enumerate(scores):
            (tmp_path / f"{name}-{seed}").mkdir()
            kept = {"a": counted(value), "a, per person": counted(value)}
            (tmp_path / f"{name}-{seed}" / "scores.json").write_text(json.dumps(kept))
    lines = table(tmp_path, 10).splitlines()
    assert lines[0].split("|")[3:5] == [" a ", " a, per person "]
    assert lines[2] == "| everything | 2 | 0.850 | 0.850 | 0.850 | +0.0 +- 0.0 | [+0.0, +0.0] |"
    assert lines[3] == "| without teachers | 2 | 0.740 | 0.740 | 0.740 | -11.0 +- 1.0 | [-11.0, -11.0] |"
