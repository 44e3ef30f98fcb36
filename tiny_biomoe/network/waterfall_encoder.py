"""Encoder 2: convolutional mixing around waterfall attention, where each head hands its result to the next
(paper, section 3.1.2). Maps are (batch, channels, rows, columns).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import IMAGE_SIZE, Architecture
from ..weights.shapes import position_offsets


class ConvNorm(nn.Sequential):
    """A bias-free convolution and its BatchNorm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)


class SpatialMixer(nn.Module):
    """Residual depthwise convolution (Eq. 2), then a residual feed-forward network of ratio 2."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise = ConvNorm(width, width, kernel=3, groups=width)
        self.expand = ConvNorm(width, 2 * width)
        self.reduce = ConvNorm(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        x = x + self.depthwise(x)
        return x + self.reduce(F.relu(self.expand(x)))


class WaterfallAttention(nn.Module):
    """Attention within one window, head after head: head j reads its slice of the channels plus head j-1's output
    (Eqs. 3 and 4). The bias of a pair of tokens depends on their offset alone."""

    offsets: Tensor

    def __init__(self, width: int, heads: int, key_dim: int, kernels: tuple[int, ...], side: int):
        super().__init__()
        self.key_dim = key_dim
        self.value_dim = width // heads
        self.heads_qkv = nn.ModuleList(ConvNorm(self.value_dim, 2 * key_dim + self.value_dim) for _ in range(heads))
        self.heads_query = nn.ModuleList(ConvNorm(key_dim, key_dim, k, groups=key_dim) for k in kernels[:heads])
        self.projection = ConvNorm(width, width)
        self.position_bias = nn.Parameter(torch.zeros(heads, side * side))
        self.register_buffer("offsets", torch.from_numpy(position_offsets(side)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (W, C, s, s), W windows
        """Each head attends within its share of the channels, and hands its output on to the next: (W, C, s, s)."""
        bias = self.position_bias[:, self.offsets]  # (heads, s*s, s*s), read anew so that it is always the loaded one
        outputs: list[Tensor] = []
        for head, part in enumerate(x.chunk(len(self.heads_qkv), dim=1)):  # (W, C/heads, s, s)
            if outputs:
                part = part + outputs[-1]
            q, k, v = self.heads_qkv[head](part).split([self.key_dim, self.key_dim, self.value_dim], dim=1)
            q, k, v = (t.flatten(2).transpose(1, 2)[:, None] for t in (self.heads_query[head](q), k, v))
            # (W, 1, s*s, .): the one head, scaled by key_dim ** -0.5
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[head].to(q.dtype))[:, 0]
            outputs.append(mixed.transpose(1, 2).unflatten(2, part.shape[2:]))  # (W, C/heads, s, s)
        return self.projection(F.relu(torch.cat(outputs, dim=1)))


class WaterfallBlock(nn.Module):
    """Spatial mixer, residual waterfall attention in windows, spatial mixer."""

    def __init__(self, width: int, heads: int, key_dim: int, kernels: tuple[int, ...], window: int):
        super().__init__()
        self.window = window
        self.before = SpatialMixer(width)
        self.attention = WaterfallAttention(width, heads, key_dim, kernels, window)
        self.after = SpatialMixer(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        x = self.before(x)
        windows, per_image = self.attention(cut_windows(x, self.window)), x.shape[2] // self.window
        return self.after(x + join_windows(windows, per_image))


def cut_windows(x: Tensor, side: int) -> Tensor:
    """(B, C, n*side, n*side) to (B*n*n, C, side, side)."""
    rows = x.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, C, n, side, n, side)
    return rows.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def join_windows(windows: Tensor, n: int) -> Tensor:
    """(B*n*n, C, side, side) back to (B, C, n*side, n*side)."""
    rows = windows.unflatten(0, (-1, n, n)).permute(0, 3, 1, 4, 2, 5)  # (B, C, n, side, n, side)
    return rows.flatten(4, 5).flatten(2, 3)


class SqueezeExcite(nn.Module):
    """Weight each channel by what the whole map holds."""

    def __init__(self, width: int):
        super().__init__()
        self.squeeze = nn.Conv2d(width, width // 4, 1)
        self.excite = nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        summary = x.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(summary))))


class PatchMerging(nn.Module):
    """Halve the map between two stages, with a spatial mixer at the old and one at the new width."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        hidden = 4 * inputs
        self.before = SpatialMixer(inputs)
        self.expand = ConvNorm(inputs, hidden)
        self.depthwise = ConvNorm(hidden, hidden, kernel=3, stride=2, groups=hidden)
        self.squeeze_excite = SqueezeExcite(hidden)
        self.reduce = ConvNorm(hidden, outputs)
        self.after = SpatialMixer(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H/2, W/2), rounded up."""
        x = F.relu(self.depthwise(F.relu(self.expand(self.before(x)))))  # (B, 4C, H/2, W/2)
        return self.after(self.reduce(self.squeeze_excite(x)))  # (B, C', H/2, W/2)


class WaterfallEncoder(nn.Module):
    """Image to vector: a convolutional patch embedding, three waterfall blocks, global average pooling."""

    def __init__(self, architecture: Architecture, image_size: int = IMAGE_SIZE):
        super().__init__()
        widths = architecture.waterfall_widths
        steps = (3, widths[0] // 8, widths[0] // 4, widths[0] // 2, widths[0])
        embedding: list[nn.Module] = []
        for inputs, outputs in zip(steps, steps[1:], strict=False):
            embedding += [ConvNorm(inputs, outputs, kernel=3, stride=2), nn.ReLU()]
        self.patch_embedding = nn.Sequential(*embedding[:-1])
        side = image_size // 16
        self.blocks = nn.ModuleList()
        self.merges = nn.ModuleList(PatchMerging(a, b) for a, b in zip(widths, widths[1:], strict=False))
        for width, heads in zip(widths, architecture.waterfall_heads, strict=True):
            window = min(side, architecture.waterfall_window)
            self.blocks.append(
                WaterfallBlock(width, heads, architecture.waterfall_key_dim, architecture.waterfall_kernels, window)
            )
            side = (side + 1) // 2

    def forward(self, image: Tensor, rows: bool = False) -> Tensor | tuple[Tensor, Tensor]:  # (B, 3, 224, 224)
        """The normed image to z2 (paper, section 3.1.2), (B, 96); with `rows`, also the last map's mean over columns.

        These are (B, 4, 96), from the map's upper row to its lower one.
        """
        x = self.blocks[0](self.patch_embedding(image))  # (B, 192, 14, 14)
        for merge, block in zip(self.merges, self.blocks[1:], strict=True):
            x = block(merge(x))  # (B, 288, 7, 7), (B, 96, 4, 4)
        z = x.mean((2, 3))  # (B, 96)
        return (z, x.mean(3).transpose(1, 2)) if rows else z
