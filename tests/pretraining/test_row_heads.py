"""A class block that begins as a reader of rows: its keys know them, and its values tell what is wanted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretraining.row_heads import read_rows, regress
from tiny_biomoe import Config
from tiny_biomoe.network.network import Network


def test_ridge_regression_finds_a_linear_law_and_its_intercept():
    x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    law = torch.arange(12.0, dtype=torch.float64).reshape(6, 2)
    weights, level = regress(x, x @ law + 3, 1e-9)
    assert torch.allclose(weights, law, atol=1e-6)
    assert torch.allclose(level, torch.full((2,), 3.0, dtype=torch.float64), atol=1e-6)
    assert regress(x, x @ law + 3, 1e3)[0].abs().max() < 0.02


@pytest.fixture(scope="module")
def made() -> tuple[Network, torch.Tensor, np.ndarray]:
    """Maps in which one place of four rows is lit, each row by a channel of its own, and which row that is."""
    torch.manual_seed(0)
    network = Network(Config()).eval()
    n, rng = 240, np.random.default_rng(0)
    grids = 0.3 * torch.randn(n, 7, 7, 96)
    grids[:, :, :, :7] += torch.eye(7)[None, :, None] * 4  # every row carries its own mark
    row = rng.integers(0, 7, n)
    grids[torch.arange(n), torch.from_numpy(row), :, 40:60] += 3
    return network, grids, row


def targets_of(row: np.ndarray) -> np.ndarray:
    """Thirty numbers that depend on the row: (n, 30)."""
    return np.random.default_rng(1).standard_normal((7, 30)).astype(np.float32)[row]


def held_out_score(network: Network, grids: torch.Tensor, row: np.ndarray) -> float:
    """Share of the variance of the lit row that encoder 1's vector tells, linearly, of the last 80 maps."""
    spectral = network.spectral_encoder
    with torch.inference_mode():
        grid = spectral.blocks[3](grids)
        z = spectral.norm(spectral.class_block(grid)).double()
    wanted = torch.from_numpy(row).double()[:, None]
    weights, level = regress(z[:160], wanted[:160], 0.1)
    missed = (z[160:] @ weights + level - wanted[160:]).square().mean()
    return 1 - (missed / wanted[160:].var()).item()


def test_the_vector_tells_which_row_is_lit_much_better_than_before(made):
    network, grids, row = made
    before = held_out_score(network, grids, row)
    targets = targets_of(row)
    read_rows(network, grids[:160], targets[:160])
    after = held_out_score(network, grids, row)
    assert after > 0.6
    assert after > before + 0.1
    for name, parameter in network.named_parameters():
        assert parameter.isfinite().all(), name
