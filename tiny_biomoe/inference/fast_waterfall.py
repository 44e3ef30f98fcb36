"""Encoder 2 for inference: `waterfall_encoder.py`, whose classes are named beside the ones that mirror them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..network.waterfall_encoder import (
    ConvNorm,
    PatchMerging,
    SpatialMixer,
    WaterfallAttention,
    WaterfallBlock,
    WaterfallEncoder,
)
from .packed import Conv, Dense, fold

SMALL_MAP = 4  # tokens a side, up to which converting to bfloat16 costs more than it saves


def dtype_of(side: int, dtype: torch.dtype) -> torch.dtype:
    """The dtype of a map of so many tokens a side."""
    return torch.float32 if side <= SMALL_MAP else dtype


class Mixer(nn.Module):
    """`SpatialMixer`: the residual of its depthwise convolution is one more in the middle of the kernel."""

    def __init__(self, mixer: SpatialMixer, dtype: torch.dtype, side: int):
        super().__init__()
        self.dtype = dtype
        weight, bias = fold(mixer.depthwise.conv, mixer.depthwise.norm)
        weight[:, :, 1, 1] += 1.0
        self.depthwise = Conv(weight, bias, dtype, side, groups=len(weight))
        self.expand = Dense(*fold(mixer.expand.conv, mixer.expand.norm), dtype, side**2, "relu")
        self.reduce = Dense(*fold(mixer.reduce.conv, mixer.reduce.norm), dtype, side**2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        x = self.depthwise(x)
        return self.reduce(self.expand(x), x)


class Waterfall(nn.Module):
    """`WaterfallBlock`, whose heads are computed in float32: they are too small for bfloat16 to gain anything."""

    def __init__(self, block: WaterfallBlock, dtype: torch.dtype, side: int):
        super().__init__()
        attention: WaterfallAttention = block.attention
        self.dtype, self.window = dtype, block.window
        self.key_dim, self.value_dim = attention.key_dim, attention.value_dim
        self.before, self.after = Mixer(block.before, dtype, side), Mixer(block.after, dtype, side)
        self.bias = attention.position_bias.detach()[:, attention.offsets]  # (heads, s*s, s*s)
        self.heads_qkv = nn.ModuleList()
        self.spread: list[tuple[Tensor, Tensor]] = []  # matrix and bias of each head's depthwise convolution
        for qkv, query in zip(attention.heads_qkv, attention.heads_query, strict=True):
            qkv, query = cast(ConvNorm, qkv), cast(ConvNorm, query)
            self.heads_qkv.append(Dense(*fold(qkv.conv, qkv.norm), torch.float32, side**2))
            weight, bias = fold(query.conv, query.norm)
            scale = self.key_dim**-0.5  # of the scores, put where it costs nothing
            self.spread.append((depthwise_matrices(weight * scale, self.window), (bias * scale)[:, None, None]))
        projection = attention.projection
        self.projection = Dense(*fold(projection.conv, projection.norm), dtype, side**2)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        """Mixing before, attention within windows, mixing after: (B, H, W, C)."""
        x = self.before(x)
        side, n = self.window, x.shape[1] // self.window
        if n == 1:
            return self.after(self.projection(self.attend(x.float()).to(self.dtype), x))
        windows = x.unflatten(2, (n, side)).unflatten(1, (n, side)).transpose(2, 3)  # (B, n, n, side, side, C)
        mixed = self.attend(windows.float().flatten(0, 2)).to(self.dtype).unflatten(0, (-1, n, n))
        return self.after(self.projection(mixed.transpose(2, 3).reshape(x.shape), x))

    def attend(self, x: Tensor) -> Tensor:  # (W, s, s, C), W windows
        """Waterfall attention within each window, head after head, up to its projection."""
        outputs: list[Tensor] = []
        for head, part in enumerate(x.flatten(1, 2).chunk(len(self.heads_qkv), dim=2)):  # (W, s*s, C/heads)
            part = part + outputs[-1] if outputs else part
            q, k, v = self.heads_qkv[head](part).split([self.key_dim, self.key_dim, self.value_dim], dim=2)
            matrices, bias = self.spread[head]
            q = torch.baddbmm(bias, q.permute(2, 0, 1), matrices).permute(1, 2, 0)  # (W, s*s, key_dim), already scaled
            scores = torch.baddbmm(self.bias[head], q, k.transpose(1, 2))
            outputs.append(scores.softmax(-1) @ v)
        return F.relu_(torch.cat(outputs, dim=2)).view(x.shape)


def depthwise_matrices(kernels: Tensor, side: int) -> Tensor:
    """A padded depthwise convolution of a small map as a matrix for each channel, which stands on its tokens' right.

    kernels : (C, 1, k, k); returned (C, side * side, side * side)
    """
    tokens = torch.eye(side * side).view(side * side, 1, side, side).to(kernels.device)
    spread = F.conv2d(
        tokens.expand(-1, len(kernels), -1, -1), kernels, padding=kernels.shape[2] // 2, groups=len(kernels)
    )
    return spread.flatten(2).transpose(0, 1).contiguous()


class Merging(nn.Module):
    """`PatchMerging`."""

    def __init__(self, merging: PatchMerging, dtype: torch.dtype, side: int):
        super().__init__()
        half = (side + 1) // 2
        self.before, self.after = Mixer(merging.before, dtype, side), Mixer(merging.after, dtype_of(half, dtype), half)
        self.expand = Dense(*fold(merging.expand.conv, merging.expand.norm), dtype, side**2, "relu")
        weight, bias = fold(merging.depthwise.conv, merging.depthwise.norm)
        self.depthwise = Conv(weight, bias, dtype, side, stride=2, groups=len(weight), activation="relu")
        squeeze, excite = merging.squeeze_excite.squeeze, merging.squeeze_excite.excite
        self.squeeze = Dense(squeeze.weight, squeeze.bias, torch.float32, 1, "relu")
        self.excite = Dense(excite.weight, excite.bias, torch.float32, 1, "sigmoid")
        self.reduce = Dense(*fold(merging.reduce.conv, merging.reduce.norm), dtype, half**2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H/2, W/2, C'), rounded up."""
        x = self.depthwise(self.expand(self.before(x)))
        share = self.excite(self.squeeze(x.mean((1, 2), dtype=torch.float32)))  # (B, 4C)
        return self.after(self.reduce(x.mul_(share[:, None, None])).to(self.after.dtype))


class FastWaterfallEncoder(nn.Module):
    """`WaterfallEncoder`."""

    def __init__(self, encoder: WaterfallEncoder, dtype: torch.dtype, image_size: int):
        super().__init__()
        self.steps = nn.Sequential()
        side, layers = image_size, list(encoder.patch_embedding)[::2]
        for layer in layers:
            last = "none" if layer is layers[-1] else "relu"
            layer = cast(ConvNorm, layer)
            self.steps.append(Conv(*fold(layer.conv, layer.norm), dtype, side, stride=2, activation=last))
            side //= 2
        for stage, block in enumerate(encoder.blocks):
            self.steps.append(Waterfall(cast(WaterfallBlock, block), dtype_of(side, dtype), side))
            if stage < len(encoder.merges):
                self.steps.append(Merging(cast(PatchMerging, encoder.merges[stage]), dtype, side))
                side = (side + 1) // 2

    def forward(self, image: Tensor) -> Tensor:
        """(B, 224, 224, 3) to (B, 96)."""
        return self.steps(image).float().mean((1, 2))  # (B, 96)
