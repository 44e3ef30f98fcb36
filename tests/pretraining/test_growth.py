"""A network grown from small images does to a larger picture what the smaller one did to the smaller picture."""

from __future__ import annotations

import pytest
import torch

from pretraining.growth import grow, shrink
from tiny_biomoe.config import Config
from tiny_biomoe.network.network import Network
from tiny_biomoe.network.spectral_encoder import SpectralFilter
from tiny_biomoe.weights.shapes import position_offsets


def wave(side: int, rows: int, columns: int) -> torch.Tensor:
    """A grid that holds one spatial frequency, alike on every grid but for its number of points."""
    y, x = (torch.arange(side) / side)[:, None], torch.arange(side) / side
    return torch.cos(2 * torch.pi * (rows * y + columns * x) + 0.7)[None, :, :, None]


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (1, 2), (-3, 1), (2, 0)])
def test_a_filter_treats_low_frequencies_as_before(rows, columns):
    small, large = SpectralFilter(1, 8), SpectralFilter(1, 16)
    large.load_state_dict(grow(small.state_dict(), large.state_dict()))
    coarse, fine = small(wave(8, rows, columns)), large(wave(16, rows, columns))
    torch.testing.assert_close(fine[:, ::2, ::2], coarse)


def test_a_bias_keeps_its_offset():
    bias = torch.arange(9.0)[None]
    grown = grow({"position_bias": bias}, {"position_bias": torch.zeros(1, 16)})["position_bias"][0]
    small, large = bias[0][position_offsets(3)], grown[position_offsets(4)]
    near = [row * 4 + column for row in range(3) for column in range(3)]
    assert torch.equal(large[near][:, near], small)


def test_the_whole_network_grows_and_what_knows_no_size_is_unchanged():
    small, large = Network(Config(), 112), Network(Config())
    grown = grow(small.state_dict(), large.state_dict())
    large.load_state_dict(grown)  # every name and shape fits
    assert torch.equal(large.gate.weight, small.gate.weight)
    assert {name for name in grown if grown[name].shape != small.state_dict()[name].shape} == {
        "image_norm.weight", "image_norm.bias", "spectral_encoder.blocks.0.mixer.weight",
        "spectral_encoder.blocks.1.mixer.weight", "waterfall_encoder.blocks.1.attention.position_bias",
        "waterfall_encoder.blocks.2.attention.position_bias",
    }  # fmt: skip


def test_pixels_are_stretched():
    ramp = torch.linspace(0, 1, 4).expand(3, 4, 4).contiguous()
    grown = grow({"weight": ramp}, {"weight": torch.zeros(3, 8, 8)})["weight"]
    assert grown[0, 0].tolist() == sorted(grown[0, 0].tolist())
    assert grown.mean() == pytest.approx(ramp.mean().item())


def test_shrinking_averages_and_leaves_whole_images_alone():
    levels = torch.arange(16, dtype=torch.uint8).reshape(1, 4, 4)
    assert shrink(levels, 2).tolist() == [[[2, 4], [10, 12]]]
    assert shrink(levels, 4) is levels
