"""What other features say of a window, as targets: principal components of those that probes read best.

MiniRocket's features and the frequency rows of the last maps are read by linear probes better than the 192 numbers are;
what makes up most of them can be asked of these numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pretraining.readout import COMPONENTS
from tiny_biomoe.network.network import Network

Matrix = NDArray[np.float32]
KERNELS = 10_000  # of MiniRocket
FITTED = 4000  # windows, at most, that components are taken from


def components(features: Matrix) -> Callable[[Matrix], Matrix]:
    """A function that gives the principal components of features like these: (n, p) to (n, 256), of length 1.

    Features are standardised. Each component keeps the root of its spread, so that the first ones count most and the
    last ones still count; with fewer than 256 of them the others are 0.
    """
    some = features[:FITTED].astype(np.float64)
    mean, spread = some.mean(0), np.maximum(some.std(0), 1e-6)
    some = (some - mean) / spread
    values, vectors = np.linalg.eigh(some @ some.T if len(some) < some.shape[1] else some.T @ some)
    kept = np.flatnonzero(values > 1e-9 * values[-1])[::-1][:COMPONENTS]
    values, vectors = values[kept], vectors[:, kept]
    directions = some.T @ vectors / np.sqrt(values) if len(some) < some.shape[1] else vectors
    directions = directions * (values / len(some)) ** -0.25

    def project(asked: Matrix) -> Matrix:
        parts = [((part - mean) / spread) @ directions for part in np.array_split(asked, -(-len(asked) // 500))]
        found = np.concatenate(parts)
        found = np.pad(found, ((0, 0), (0, COMPONENTS - found.shape[1])))
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9), np.float32)

    return project


def rows_of_maps(network: Network, grids: NDArray[np.float16], maps: NDArray[np.float16]) -> Matrix:
    """The frequency rows of the last maps, (n, 1056), from kept maps (`stages.early_maps`)."""
    network.eval()
    found = []
    with torch.no_grad():
        for part in np.array_split(np.arange(len(grids)), -(-len(grids) // 64)):
            grid = network.spectral_encoder.blocks[3](torch.from_numpy(grids[part]).float())
            last = network.waterfall_encoder.blocks[2](torch.from_numpy(maps[part]).float())
            found.append(torch.cat([grid.mean(2).flatten(1), last.mean(3).transpose(1, 2).flatten(1)], 1))
    return torch.cat(found).numpy()


def minirocket(fitted: NDArray[np.float16]) -> Callable[[NDArray[np.float16]], Matrix]:
    """MiniRocket (Dempster et al. 2021), its thresholds taken from windows (n, 1024): such windows to (n, 9996).

    Raises
    ------
    ModuleNotFoundError
        aeon is not installed: it comes with the extra "bench".
    """
    from aeon.transformations.collection.convolution_based import MiniRocket

    rocket = MiniRocket(n_kernels=KERNELS, random_state=0, n_jobs=1).fit(fitted[:FITTED, None].astype(np.float32))
    return lambda waves: np.asarray(rocket.transform(waves[:, None].astype(np.float32)), np.float32)
