"""The network in two halves gives what it gives whole, and only the late half learns."""

from __future__ import annotations

import pytest
import torch

from pretraining.stages import EARLY, early_maps, late_parameters, late_vectors, set_training
from tiny_biomoe import Config
from tiny_biomoe.inference.torch_backend import to_pixels
from tiny_biomoe.network.network import Network


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network(Config()).eval()


def test_both_halves_one_after_the_other_are_the_network(network):
    levels = torch.randint(0, 256, (2, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        grid, maps = early_maps(network, levels)
        whole = network(to_pixels(levels, "cpu"))
        halves = late_vectors(network, grid, maps)
    assert grid.shape == (2, 7, 7, 96)
    assert maps.shape == (2, 96, 4, 4)
    assert torch.equal(halves, whole)


def test_every_parameter_is_early_or_late(network):
    late = {name for name, _ in late_parameters(network)}
    early = {name for name, _ in network.named_parameters()} - late
    assert {part for part in EARLY if any(name.startswith(f"{part}.") for name in early)} == set(EARLY)
    assert {name.split(".")[0] for name in late} == {
        "spectral_encoder", "waterfall_encoder", "embedding_norm", "gate", "output_norm",
    }  # fmt: skip


def test_only_late_norms_gather_statistics_and_only_late_weights_learn(network):
    set_training(network, 0.5)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    grid, maps = torch.randn(3, 7, 7, 96), torch.randn(3, 96, 4, 4)
    late_vectors(network, grid, maps).square().mean().backward()
    learnt = {name for name, p in network.named_parameters() if p.grad is not None}
    assert learnt <= {name for name, _ in late_parameters(network)}
    assert {p.requires_grad for name, p in network.named_parameters() if name.startswith("image_norm")} == {False}
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("waterfall_encoder.blocks.2") for name in changed)
    network.eval().requires_grad_(True)
