"""Encoder 1 for inference: `spectral_encoder.py`, whose classes are named beside the ones that mirror them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..network.spectral_encoder import (
    Block,
    ClassBlock,
    ConvMLP,
    Downsample,
    SelfAttention,
    SpectralEncoder,
    SpectralFilter,
)
from .matrix_filter import MatrixFilter
from .packed import Conv, Dense, Norm, fold, packs

SMALL_GRID = 28  # tokens a side, up to which products in float32 are quicker than a Fourier transform
SMALL_MAP = 7  # tokens a side, up to which converting to bfloat16 costs more than it saves


class Mlp(nn.Module):
    """`ConvMLP` with its residual sum."""

    def __init__(self, mlp: ConvMLP, dtype: torch.dtype, side: int):
        super().__init__()
        hidden = mlp.depthwise.weight.shape[0]
        self.expand = Dense(mlp.expand.weight, mlp.expand.bias, dtype, side**2)
        self.depthwise = Conv(mlp.depthwise.weight, mlp.depthwise.bias, dtype, side, groups=hidden, activation="gelu")
        self.reduce = Dense(mlp.reduce.weight, mlp.reduce.bias, dtype, side**2)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(B, H, W, C), and what is added to the result, to (B, H, W, C)."""
        return self.reduce(self.depthwise(self.expand(x)), residual)


class Attention(nn.Module):
    """`SelfAttention` with its residual sum; where that has fewer tokens, only so many of the first ones ask."""

    def __init__(self, attention: SelfAttention, dtype: torch.dtype, queries: int, tokens: int):
        super().__init__()
        self.heads = attention.heads
        self.scale = (attention.query.in_features // attention.heads) ** -0.5
        query, key_value = attention.query, attention.key_value
        weight, bias = torch.cat([query.weight, key_value.weight]), torch.cat([query.bias, key_value.bias])
        self.query_key_value = Dense(weight, bias, dtype, tokens)
        self.projection = Dense(attention.projection.weight, attention.projection.bias, dtype, queries)

    def forward(self, tokens: Tensor, residual: Tensor) -> Tensor:  # (B, N, C), (B, M, C)
        """The first M of N tokens gather from all N, and are added to `residual`: to (B, M, C)."""
        q, k, v = self.query_key_value(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q = q[:, :, : residual.shape[1]]  # (B, heads, M, C/heads)
        if q.shape[2] == 1 or (q.dtype == torch.bfloat16 and q.device.type == "cpu"):
            # The fused kernel would split the keys of a lone query by the number of threads, and is slow in bfloat16.
            mixed = (q * self.scale @ k.transpose(2, 3)).softmax(-1) @ v  # (B, heads, M, C/heads)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        return self.projection(mixed.transpose(1, 2).flatten(2), residual)


class FourierFilter(nn.Module):
    """`SpectralFilter`, in float32."""

    def __init__(self, spectral_filter: SpectralFilter):
        super().__init__()
        self.weight = torch.view_as_complex(spectral_filter.weight.detach().float().contiguous())

    def forward(self, grid: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        spectrum = torch.fft.rfft2(grid.float(), dim=(1, 2), norm="ortho") * self.weight
        return torch.fft.irfft2(spectrum, s=grid.shape[1:3], dim=(1, 2), norm="ortho").to(grid.dtype)


def fast_filter(spectral_filter: SpectralFilter, dtype: torch.dtype) -> nn.Module:
    """The quicker form: on a CPU products for a small grid and where oneDNN has bfloat16; else a Fourier transform."""
    device, side = spectral_filter.weight.device, spectral_filter.weight.shape[0]
    by_products = packs(device, dtype) and (dtype == torch.bfloat16 or side <= SMALL_GRID)
    return MatrixFilter(spectral_filter, dtype) if by_products else FourierFilter(spectral_filter)


class SpectralBlock(nn.Module):
    """`Block`, with the norm and downsampling or stem before it left to its owner."""

    def __init__(self, block: Block, dtype: torch.dtype, side: int):
        super().__init__()
        self.mixer_norm, self.mlp_norm = Norm(block.mixer_norm, dtype), Norm(block.mlp_norm, dtype)
        self.mixer = (
            fast_filter(block.mixer, dtype)
            if isinstance(block.mixer, SpectralFilter)
            else Attention(cast(SelfAttention, block.mixer), dtype, side**2, side**2)
        )
        self.mlp = Mlp(block.mlp, dtype, side)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        grid = self.mix(grid)
        return self.mlp(self.mlp_norm(grid), grid)

    def mix(self, grid: Tensor) -> Tensor:
        """The block's first half: `x + mixer(norm(x))`, the mixer attention or a spectral filter."""
        normed = self.mixer_norm(grid)
        if isinstance(self.mixer, Attention):
            return self.mixer(normed.flatten(1, 2), grid.flatten(1, 2)).reshape(grid.shape)
        return self.mixer(normed).add_(grid)


class ClassToken(nn.Module):
    """`ClassBlock` and the norm after it."""

    def __init__(self, block: ClassBlock, norm: nn.LayerNorm, dtype: torch.dtype, tokens: int):
        super().__init__()
        self.attention_norm, self.mlp_norm = Norm(block.attention_norm, dtype), Norm(block.mlp_norm, dtype)
        self.attention = Attention(block.attention, dtype, 1, tokens + 1)
        self.expand = Dense(block.expand.weight, block.expand.bias, dtype, 1, "gelu")
        self.reduce = Dense(block.reduce.weight, block.reduce.bias, dtype, 1)
        self.norm = Norm(norm, torch.float32)

    def forward(self, grid: Tensor) -> Tensor:  # (B, H, W, C)
        """The grid's mean asks every token of it, and becomes the encoder's output: (B, C)."""
        tokens = grid.flatten(1, 2)
        token = tokens.mean(1, keepdim=True)  # (B, 1, C)
        normed = self.attention_norm(torch.cat([token, tokens], dim=1))
        token = self.attention(normed, token)
        token = self.reduce(self.expand(self.mlp_norm(token)), token)
        return self.norm(token[:, 0])  # (B, C)


def grid_conv(layer: nn.Conv2d, dtype: torch.dtype, side: int) -> Conv:
    """A strided convolution with a bias, as stem and downsampling end in."""
    return Conv(layer.weight, layer.bias, dtype, side, stride=layer.stride[0])


class FastSpectralEncoder(nn.Module):
    """`SpectralEncoder`."""

    def __init__(self, encoder: SpectralEncoder, dtype: torch.dtype, image_size: int):
        super().__init__()
        side = image_size
        self.stem = nn.Sequential()
        convs = encoder.stem.convs
        for conv, norm in zip(list(convs)[0::3], list(convs)[1::3], strict=True):
            weight, bias = fold(cast(nn.Conv2d, conv), cast(nn.BatchNorm2d, norm))
            stride = cast(nn.Conv2d, conv).stride[0]
            self.stem.append(Conv(weight, bias, dtype, side, stride=stride, activation="relu"))
            side //= stride
        self.stem.append(grid_conv(encoder.stem.projection, dtype, side))
        self.stem.append(Norm(encoder.stem.norm, dtype))
        self.stages = nn.Sequential()
        for stage, block in enumerate(encoder.blocks):
            side = (side + 1) // 2
            dtype = torch.float32 if side <= SMALL_MAP else dtype
            if stage:
                self.stages.append(Norm(cast(Downsample, encoder.downsamples[stage - 1]).norm, dtype))
            self.stages.append(SpectralBlock(cast(Block, block), dtype, side))
            if stage < len(encoder.downsamples):
                self.stages.append(Norm(cast(nn.LayerNorm, encoder.stage_norms[stage]), dtype))
                self.stages.append(grid_conv(cast(Downsample, encoder.downsamples[stage]).projection, dtype, side))
        self.class_token = ClassToken(encoder.class_block, encoder.norm, dtype, side**2)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 224, 224, 3) to (B, 96)."""
        return self.class_token(self.stages(self.stem(image)))  # (B, 96)
