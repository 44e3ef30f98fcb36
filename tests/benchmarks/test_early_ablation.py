"""The ablation of encoder 1's early stages: what learns, what is read, and the table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_pretraining import toy_source
from toy_training import TINY

from benchmarks.early_ablation import READ, SIZE, VARIANTS, Setup, Variant, features, table
from pretraining.examples import Drawing, draw_examples
from pretraining.validation import RATE_SOURCES, trials
from tiny_biomoe import Config
from tiny_biomoe.inference.torch_backend import to_pixels
from tiny_biomoe.network.network import Network


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    source = replace(toy_source("resp", 8.0), name="ds000210-resp")
    source = replace(source, held_out=source.people >= 2)
    examples = draw_examples([source], Drawing(0), 8, tmp_path_factory.mktemp("examples"))
    (trial, *_) = trials([source], Config().recipe, 2)
    levels = torch.from_numpy(np.stack([image[::2, ::2] for image in trial.images(Config().recipe, ("scalogram",))]))
    return Setup([source], examples, [(trial, levels)], steps=2, images=4, architecture=TINY)


def test_a_run_is_a_function_of_its_seed_and_variant(setup):
    first, again, other = (setup.run(Variant(), seed) for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 2 * len(READ)
    assert all(0 <= value <= 1 for value in first.values())


def test_what_is_read_are_rows_of_stages_and_both_halves(setup):
    torch.manual_seed(0)
    network, (_, levels) = Network(Config(architecture=TINY), SIZE).eval(), setup.held_out[0]
    found = features(network, levels, at_once=3)
    assert [found[name].shape for name in READ] == [(len(levels), width) for width in (28 * 2, 4 * 8, 8, 8)]
    assert not network.spectral_encoder.blocks[0]._forward_hooks
    halves = np.concatenate([found[READ[2]], found[READ[3]]], axis=1)
    with torch.inference_mode():
        assert np.allclose(halves, network(to_pixels(levels, "cpu")).numpy(), atol=1e-5)


def test_encoder_1_learns_as_fast_as_it_is_told_and_nothing_where_nothing_is_trained(setup, monkeypatch):
    learnt = {}
    for name in ("classes and facts", "classes and facts, encoder 1 at a tenth of the rate", "not trained"):
        networks = []
        monkeypatch.setattr("benchmarks.early_ablation.scores", lambda network, _, kept=networks: kept.append(network))
        setup.run(VARIANTS[name], 1)
        learnt[name] = networks[0].spectral_encoder.stem.convs[0].weight.detach()
    begun, slow, fast = (learnt[name] for name in ("not trained", *list(learnt)[1::-1]))
    assert 0 < (slow - begun).abs().max() < 0.5 * (fast - begun).abs().max()


def test_the_table_holds_means_over_seeds(tmp_path):
    for seed, value in ((1, 0.5), (2, 0.7)):
        scores = {
            f"{name}: {trial}{way}": value for name in READ for trial in RATE_SOURCES for way in ("", ", per person")
        }
        (tmp_path / f"0-{seed}.json").write_text(json.dumps(scores))
    lines = table(tmp_path).splitlines()
    assert len(lines) == 2 + len(READ)
    assert lines[2] == "| not trained | encoder 1, stage 1 | 2 | 0.600 / 0.600 | 0.600 / 0.600 |"
