"""The spectral filter as matrix products."""

from __future__ import annotations

import pytest
import torch

from tiny_biomoe.network.spectral_encoder import SpectralFilter
from tiny_biomoe.network.spectral_matrices import MatrixFilter


@pytest.mark.parametrize("side", [56, 28, 7])
def test_matrices_are_the_fourier_transform(side):
    plain = SpectralFilter(5, side)
    grid = torch.randn(2, side, side, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(MatrixFilter(plain)(grid), plain(grid), rtol=0, atol=1e-6)


def test_bfloat16_rounds_and_no_more():
    plain = SpectralFilter(5, 28)
    grid = torch.randn(1, 28, 28, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = MatrixFilter(plain, torch.bfloat16)(grid.bfloat16()), plain(grid)
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().max() < 0.02 * expected.abs().max()
