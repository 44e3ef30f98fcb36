"""Encoder 1: spectral filters in the wide early stages, self-attention in the late ones (paper, section 3.1.1).

The map of tokens is kept as a grid, (batch, rows, columns, channels): linear layers and norms work on its
last axis as it lies, and permuting it gives convolutions their channels-last layout without a copy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import IMAGE_SIZE, Architecture

BLOCK_EPS = 1e-6  # LayerNorms of blocks, stages, class block and output; those of stem and downsampling keep 1e-5


class GridConv(nn.Conv2d):
    """A convolution on a grid (batch, rows, columns, channels), padded by half its kernel."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H', W', C')."""
        return super().forward(grid.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Stem(nn.Module):
    """Image to the first grid, at a quarter of its resolution."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, kernel, stride in ((3, 7, 2), (width, 3, 1), (width, 3, 1)):
            layers += [
                nn.Conv2d(inputs, width, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.convs = nn.Sequential(*layers)
        self.projection = GridConv(width, outputs, stride=2)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, 224, 224) to (B, 56, 56, C)."""
        return self.norm(self.projection(self.convs(image).permute(0, 2, 3, 1)))  # (B, 56, 56, C)


class Downsample(nn.Module):
    """Halve the grid between two stages."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.projection = GridConv(inputs, outputs, stride=2)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H/2, W/2, C'), rounded up."""
        return self.norm(self.projection(grid))  # (B, H/2, W/2, C')


class SpectralFilter(nn.Module):
    """Mix tokens by a learnt complex weight on each spatial frequency: irfft2(K * rfft2(x))."""

    def __init__(self, width: int, side: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(side, side // 2 + 1, width, 2))  # (real, imaginary)
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, grid: Tensor) -> Tensor:  # (B, H, W, C)
        """Each frequency of each channel is weighted by a learnt complex number: (B, H, W, C)."""
        with torch.autocast(grid.device.type, enabled=False):  # there is no Fourier transform in bfloat16
            spectrum = torch.fft.rfft2(grid.float(), dim=(1, 2), norm="ortho")  # (B, H, W/2 + 1, C)
            spectrum = spectrum * torch.view_as_complex(self.weight.contiguous())
            filtered = torch.fft.irfft2(spectrum, s=grid.shape[1:3], dim=(1, 2), norm="ortho")
        return filtered.to(grid.dtype)  # (B, H, W, C)


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens of the grid (Eq. 1)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)  # keys of all heads, then values of all heads
        self.projection = nn.Linear(width, width)

    def attend(self, queries: Tensor, tokens: Tensor) -> Tensor:  # (B, M, C), (B, N, C)
        """Each query gathers from all tokens; the class block asks with one alone."""
        q = self.query(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, M, C/heads)
        k, v = self.key_value(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, N, .)
        mixed = F.scaled_dot_product_attention(q, k, v)  # scaled by head_dim ** -0.5
        return self.projection(mixed.transpose(1, 2).flatten(2))  # (B, M, C)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        tokens = grid.flatten(1, 2)  # (B, H*W, C)
        return self.attend(tokens, tokens).reshape(grid.shape)


class ConvMLP(nn.Module):
    """Linear, depthwise convolution among neighbours, GELU, linear."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.depthwise = GridConv(hidden, hidden, groups=hidden)
        self.reduce = nn.Linear(hidden, width)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        return self.reduce(F.gelu(self.depthwise(self.expand(grid))))


class Block(nn.Module):
    """`x += mixer(norm(x)); x += mlp(norm(x))`."""

    def __init__(self, width: int, mixer: nn.Module, mlp_ratio: int):
        super().__init__()
        self.mixer_norm = nn.LayerNorm(width, BLOCK_EPS)
        self.mixer = mixer
        self.mlp_norm = nn.LayerNorm(width, BLOCK_EPS)
        self.mlp = ConvMLP(width, mlp_ratio * width)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        grid = grid + self.mixer(self.mixer_norm(grid))
        return grid + self.mlp(self.mlp_norm(grid))


class ClassBlock(nn.Module):
    """Gather the grid into one class token, which alone asks and is alone updated."""

    def __init__(self, width: int, heads: int, mlp_ratio: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, BLOCK_EPS)
        self.attention = SelfAttention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, BLOCK_EPS)
        self.expand = nn.Linear(width, mlp_ratio * width)
        self.reduce = nn.Linear(mlp_ratio * width, width)

    def forward(self, grid: Tensor) -> Tensor:  # (B, H, W, C)
        """The grid's mean asks every token of it: (B, C)."""
        tokens = grid.flatten(1, 2)  # (B, N, C)
        token = tokens.mean(1, keepdim=True)  # (B, 1, C), of the tokens before any norm
        normed = self.attention_norm(torch.cat([token, tokens], dim=1))  # (B, 1 + N, C)
        token = token + self.attention.attend(normed[:, :1], normed)
        token = token + self.reduce(F.gelu(self.expand(self.mlp_norm(token))))
        return token[:, 0]  # (B, C)


class SpectralEncoder(nn.Module):
    """Image to vector: four stages of one block each, then the class block."""

    def __init__(self, architecture: Architecture, image_size: int = IMAGE_SIZE):
        super().__init__()
        widths = architecture.spectral_widths
        side = image_size // 4
        self.stem = Stem(architecture.stem_width, widths[0])
        self.downsamples = nn.ModuleList(Downsample(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.blocks = nn.ModuleList()
        for stage, (width, heads, ratio) in enumerate(
            zip(widths, architecture.spectral_heads, architecture.spectral_mlp_ratios, strict=True)
        ):
            mixer = SelfAttention(width, heads) if heads else SpectralFilter(width, side >> stage)
            self.blocks.append(Block(width, mixer, ratio))
        self.stage_norms = nn.ModuleList(nn.LayerNorm(width, BLOCK_EPS) for width in widths[:-1])
        self.class_block = ClassBlock(widths[-1], architecture.spectral_heads[-1], architecture.spectral_mlp_ratios[-1])
        self.norm = nn.LayerNorm(widths[-1], BLOCK_EPS)

    def forward(self, image: Tensor, rows: bool = False) -> Tensor | tuple[Tensor, Tensor]:  # (B, 3, 224, 224)
        """The normed image to z1 (paper, section 3.1.1), (B, 96); with `rows`, also the last map's mean over columns.

        These are (B, 7, 96), from the map's upper row to its lower one.
        """
        grid = self.blocks[0](self.stem(image))  # (B, 56, 56, 64)
        for norm, downsample, block in zip(self.stage_norms, self.downsamples, self.blocks[1:], strict=True):
            grid = block(downsample(norm(grid)))  # (B, 28, 28, 128), (B, 14, 14, 320), (B, 7, 7, 96)
        z = self.norm(self.class_block(grid))  # (B, 96)
        return (z, grid.mean(2)) if rows else z
