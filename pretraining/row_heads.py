"""A class block whose heads begin as readers of rows: where training is short, attention would not find them itself.

Encoder 1 ends in one token that asks all others. As it is built every head asks at random, so that the vector begins as
little more than the mean of the map, and a mean does not say where a peak lies. Here each head is given, in closed
form, a key that knows one row of the last map, and values that tell most of that row's content, so that the vector
begins as what the frequency rows hold, and learns from there.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tiny_biomoe.network.network import Network

SHARPNESS = 14.0  # of attention, in units of a row's regression on the tokens
RIDGE = 0.1  # of the variance, in both regressions
LEFT = 0.3  # standard deviations of the mean token that are kept beside unit values of the heads
COMPONENTS = 64  # principal components of the targets, that values shall tell


def read_rows(network: Network, grids: Tensor, targets: NDArray[np.float32]) -> None:
    """Let each head of the class block attend to one row of the last map, and tell what the targets need of it.

    Parameters
    ----------
    network : changed in place
    grids : (n, 7, 7, 96), kept maps of some hundred examples
    targets : (n, m), standardised, that the rows shall tell
    """
    spectral = network.spectral_encoder
    block = spectral.class_block
    heads = block.attention.heads
    with torch.no_grad():
        grid = torch.cat([spectral.blocks[3](part) for part in grids.split(64)])  # (n, 7, 7, 96)
        n, side, _, width = grid.shape
        tokens = grid.flatten(1, 2)
        normed = block.attention_norm(torch.cat([tokens.mean(1, keepdim=True), tokens], 1)).double()  # (n, 50, 96)
        of_row = torch.arange(side).repeat_interleave(side)  # (49,)
        key, key_bias = regress(
            normed[:, 1:].flatten(0, 1), F.one_hot(of_row).repeat(n, 1).double(), RIDGE
        )  # (96, 7), (7,)
        wanted = _components(torch.from_numpy(targets).double())
        rows = [head % side for head in range(heads)]
        per_head = width // heads
        for parameter in (block.attention.query.weight, block.attention.query.bias):
            parameter.mul_(0.1)
        for head, row in enumerate(rows):
            first = head * per_head
            block.attention.query.bias[first] = SHARPNESS * per_head**0.5
            block.attention.key_value.weight[first] = key[:, row].float()
            block.attention.key_value.bias[first] = key_bias[row].float()
            attention = (SHARPNESS * (normed @ key[:, row] + key_bias[row])).softmax(1)  # (n, 50)
            content = torch.einsum("nt,ntc->nc", attention, normed)
            taken = rows[:head].count(row) * per_head
            values, bias = _predictive(content, wanted, taken, per_head)
            place = slice(width + first, width + first + per_head)
            block.attention.key_value.weight[place] = values.float()
            block.attention.key_value.bias[place] = bias.float()
        spread = tokens.mean(1).std(0).mean()
        block.attention.projection.weight.copy_(torch.eye(width) * spread / LEFT)
        block.attention.projection.bias.zero_()


def regress(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Ridge regression on (n, p) of (n, q): coefficients (p, q) and intercepts (q,).

    `ridge` is in units of the mean variance of the p numbers.
    """
    mean, level = x.mean(0), y.mean(0)
    covariance = (x - mean).T @ (x - mean)
    covariance += ridge * covariance.diagonal().mean() * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(covariance, (x - mean).T @ (y - level))
    return weights, level - mean @ weights


def _components(targets: Tensor) -> Tensor:
    """The first principal components of (n, m) targets, whose spreads are kept: (n, up to 64)."""
    centred = targets - targets.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    return centred @ directions[:COMPONENTS].T


def _predictive(x: Tensor, wanted: Tensor, first: int, count: int) -> tuple[Tensor, Tensor]:
    """Directions `first` and following of (n, p) that predict most of what is wanted, scaled to a spread of 1.

    Those of reduced-rank regression: weights (count, p), and intercepts that bring their means to 0.
    """
    weights, _ = regress(x, wanted, RIDGE)
    explained = (x - x.mean(0)) @ weights
    _, _, directions = torch.linalg.svd(explained, full_matrices=explained.shape[0] < explained.shape[1])
    found = (weights @ directions[first : first + count].T).T  # (count, p)
    found = found / ((x - x.mean(0)) @ found.T).std(0).clamp_min(1e-12)[:, None]
    return found, -found @ x.mean(0)
