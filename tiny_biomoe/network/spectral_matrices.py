"""A spectral filter without a Fourier transform: small matrix products, for bfloat16, small grids, other runtimes."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from .spectral_encoder import SpectralFilter


class MatrixFilter(nn.Module):
    """`SpectralFilter` as real matrix products: runtimes have no fast Fourier transform of 56 points.

    The real transform of a row of n tokens, its m = n/2 + 1 real parts above its m imaginary ones, is a (2m, n) matrix.
    The complex transform of a column is a (2n, 2n) matrix, where real and imaginary parts take turns. Both stand on the
    left of a grid that is only reshaped, so nothing is ever transposed. The inverses are built likewise.

    Its grids are of the given dtype.
    """

    def __init__(self, spectral_filter: SpectralFilter, dtype: torch.dtype = torch.float32):
        super().__init__()
        weight = spectral_filter.weight.detach()  # (n, m, C, 2)
        n, m, self.width, _ = weight.shape
        self.n, self.m = n, m
        turn = 2 * np.pi / n * np.outer(np.arange(n), np.arange(n)) % (2 * np.pi)
        cosine, sine = np.cos(turn) / np.sqrt(n), np.sin(turn) / np.sqrt(n)
        twice = np.full(m, 2.0)  # the bins of negative frequency, which a real transform leaves out
        twice[0] = 1.0
        if n % 2 == 0:
            twice[-1] = 1.0
        forward = np.kron(cosine, np.eye(2)) + np.kron(sine, [[0.0, 1.0], [-1.0, 0.0]])  # exp(-i turn)
        matrices = {
            "row": np.concatenate([cosine[:m], -sine[:m]]),  # (2m, n)
            "column": forward,  # (2n, 2n)
            "column_back": forward.T,
            "row_back": np.concatenate([cosine[:, :m] * twice, -sine[:, :m] * twice], axis=1),  # (n, 2m)
        }
        for name, matrix in matrices.items():
            self.register_buffer(name, torch.from_numpy(matrix).to(dtype))
        self.register_buffer("real", weight[..., 0].to(dtype).contiguous())
        self.register_buffer("imaginary", weight[..., 1].to(dtype).contiguous())

    def forward(self, grid: Tensor) -> Tensor:  # (B, n, n, C)
        """To the spectrum, times the filter, and back: (B, n, n, C)."""
        n, m, parts = self.n, self.m, cast(dict[str, Tensor], self._buffers)
        rows = parts["row"] @ grid  # (B, n, 2m, C)
        spectrum = parts["column"] @ rows.reshape(-1, 2 * n, m * self.width)
        a, b = spectrum.reshape(-1, n, 2, m, self.width).unbind(2)  # real and imaginary, (B, n, m, C)
        real, imaginary = parts["real"], parts["imaginary"]
        spectrum = torch.stack([a * real - b * imaginary, a * imaginary + b * real], dim=2)
        rows = parts["column_back"] @ spectrum.reshape(-1, 2 * n, m * self.width)
        return parts["row_back"] @ rows.reshape(-1, n, 2 * m, self.width)
