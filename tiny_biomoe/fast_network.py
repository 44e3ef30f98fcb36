"""The network of `network.py`, for inference: the same function to rounding, from bytes to vectors, without gradients.

What differs: BatchNorms are folded into their convolutions, and residual sums into products and depthwise kernels;
1 x 1 convolutions are matrix products on a grid; every map is channels-last from the first to the last; the image is
coloured and normed in one step. The plain network stays the reference, and every class here names the one it mirrors.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .images import PALETTE
from .network import Network
from .packed import Conv, Dense, Norm, fold
from .spectral_encoder import Block, ClassBlock, ConvMLP, Downsample, SelfAttention, SpectralEncoder, SpectralFilter
from .waterfall_encoder import (
    ConvNorm,
    PatchMerging,
    SpatialMixer,
    WaterfallAttention,
    WaterfallBlock,
    WaterfallEncoder,
)


class Image(nn.Module):
    """Levels or RGB bytes to the normed image: colour, scale to [0, 1] and `Network.image_norm`."""

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype):
        super().__init__()
        self.dtype, self.eps = dtype, norm.eps
        device = norm.weight.device
        self.palette = torch.tensor(PALETTE, device=device).float() / 255  # (256, 3)
        self.weight = norm.weight.detach().permute(1, 2, 0).contiguous()  # (224, 224, 3)
        self.bias = norm.bias.detach().permute(1, 2, 0).contiguous()

    def forward(self, levels: Tensor) -> Tensor:  # (B, 224, 224) or (B, 224, 224, 3), uint8
        pixels = F.embedding(levels.int(), self.palette) if levels.ndim == 3 else levels.float() / 255
        return F.layer_norm(pixels, self.weight.shape, self.weight, self.bias, self.eps).to(self.dtype)


class Mlp(nn.Module):
    """`ConvMLP` with its residual sum."""

    def __init__(self, mlp: ConvMLP, dtype: torch.dtype, side: int):
        super().__init__()
        hidden = mlp.depthwise.weight.shape[0]
        self.expand = Dense(mlp.expand.weight, mlp.expand.bias, dtype, side**2)
        self.depthwise = Conv(mlp.depthwise.weight, mlp.depthwise.bias, dtype, side, groups=hidden, activation="gelu")
        self.reduce = Dense(mlp.reduce.weight, mlp.reduce.bias, dtype, side**2)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.reduce(self.depthwise(self.expand(x)), residual)


class Attention(nn.Module):
    """`SelfAttention`, whose queries may be fewer than its tokens."""

    def __init__(self, attention: SelfAttention, dtype: torch.dtype, queries: int, tokens: int):
        super().__init__()
        self.heads = attention.heads
        self.query = Dense(attention.query.weight, attention.query.bias, dtype, queries)
        self.key_value = Dense(attention.key_value.weight, attention.key_value.bias, dtype, tokens)
        self.projection = Dense(attention.projection.weight, attention.projection.bias, dtype, queries)

    def forward(self, queries: Tensor, tokens: Tensor, residual: Tensor) -> Tensor:  # (B, M, C), (B, N, C), (B, M, C)
        q = self.query(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if q.shape[2] == 1 or (q.dtype == torch.bfloat16 and q.device.type == "cpu"):
            # The fused kernel would split the keys of a lone query by the number of threads, and is slow in bfloat16.
            mixed = (q * q.shape[3] ** -0.5 @ k.transpose(2, 3)).softmax(-1) @ v  # (B, heads, M, C/heads)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        return self.projection(mixed.transpose(1, 2).flatten(2), residual)


class SpectralBlock(nn.Module):
    """`Block`, with the norm and downsampling or stem before it left to its owner."""

    def __init__(self, block: Block, dtype: torch.dtype, side: int):
        super().__init__()
        self.mixer_norm, self.mlp_norm = Norm(block.mixer_norm, dtype), Norm(block.mlp_norm, dtype)
        self.attention = None
        if isinstance(block.mixer, SpectralFilter):
            self.weight = torch.view_as_complex(block.mixer.weight.detach().float().contiguous())
        else:
            self.attention = Attention(cast(SelfAttention, block.mixer), dtype, side**2, side**2)
        self.mlp = Mlp(block.mlp, dtype, side)

    def forward(self, grid: Tensor) -> Tensor:  # (B, H, W, C)
        grid = self.mix(grid)
        return self.mlp(self.mlp_norm(grid), grid)

    def mix(self, grid: Tensor) -> Tensor:
        """The block's first half: `x + mixer(norm(x))`, the mixer attention or a spectral filter."""
        normed = self.mixer_norm(grid)
        if self.attention is not None:
            tokens = normed.flatten(1, 2)
            return self.attention(tokens, tokens, grid.flatten(1, 2)).reshape(grid.shape)
        spectrum = torch.fft.rfft2(normed.float(), dim=(1, 2), norm="ortho")
        spectrum = spectrum * self.weight
        filtered = torch.fft.irfft2(spectrum, s=grid.shape[1:3], dim=(1, 2), norm="ortho")
        return grid + filtered.to(grid.dtype)


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
        tokens = grid.flatten(1, 2)
        token = tokens.mean(1, keepdim=True)  # (B, 1, C)
        normed = self.attention_norm(torch.cat([token, tokens], dim=1))
        token = self.attention(normed[:, :1], normed, token)
        token = self.reduce(self.expand(self.mlp_norm(token)), token)
        return self.norm(token[:, 0].float())  # (B, C)


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
        self.steps = nn.Sequential()
        for stage, block in enumerate(encoder.blocks):
            side = (side + 1) // 2
            self.steps.append(SpectralBlock(cast(Block, block), dtype, side))
            if stage < len(encoder.downsamples):
                downsample = cast(Downsample, encoder.downsamples[stage])
                self.steps.append(Norm(cast(nn.LayerNorm, encoder.stage_norms[stage]), dtype))
                self.steps.append(grid_conv(downsample.projection, dtype, side))
                self.steps.append(Norm(downsample.norm, dtype))
        self.class_token = ClassToken(encoder.class_block, encoder.norm, dtype, side**2)

    def forward(self, image: Tensor) -> Tensor:  # (B, 224, 224, 3)
        return self.class_token(self.steps(self.stem(image)))  # (B, 96)


class Mixer(nn.Module):
    """`SpatialMixer`: the residual of its depthwise convolution is one more in the middle of the kernel."""

    def __init__(self, mixer: SpatialMixer, dtype: torch.dtype, side: int):
        super().__init__()
        weight, bias = fold(mixer.depthwise.conv, mixer.depthwise.norm)
        weight[:, :, 1, 1] += 1.0
        self.depthwise = Conv(weight, bias, dtype, side, groups=len(weight))
        self.expand = Dense(*fold(mixer.expand.conv, mixer.expand.norm), dtype, side**2, "relu")
        self.reduce = Dense(*fold(mixer.reduce.conv, mixer.reduce.norm), dtype, side**2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(x)
        return self.reduce(self.expand(x), x)


class Waterfall(nn.Module):
    """`WaterfallBlock`."""

    def __init__(self, block: WaterfallBlock, dtype: torch.dtype, side: int):
        super().__init__()
        attention: WaterfallAttention = block.attention
        self.window, self.key_dim, self.value_dim = block.window, attention.key_dim, attention.value_dim
        self.before, self.after = Mixer(block.before, dtype, side), Mixer(block.after, dtype, side)
        self.bias = attention.position_bias.detach()[:, attention.offsets].to(dtype)  # (heads, s*s, s*s)
        self.heads_qkv, self.heads_query = nn.ModuleList(), nn.ModuleList()
        for qkv, query in zip(attention.heads_qkv, attention.heads_query, strict=True):
            qkv, query = cast(ConvNorm, qkv), cast(ConvNorm, query)
            self.heads_qkv.append(Dense(*fold(qkv.conv, qkv.norm), dtype, side**2))
            weight, bias = fold(query.conv, query.norm)
            scale = self.key_dim**-0.5  # of the scores, put where it costs nothing
            self.heads_query.append(Conv(weight * scale, bias * scale, dtype, self.window, groups=self.key_dim))
        projection = attention.projection
        self.projection = Dense(*fold(projection.conv, projection.norm), dtype, side**2)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        x = self.before(x)
        side, n = self.window, x.shape[1] // self.window
        if n == 1:
            return self.after(self.attend(x))
        windows = x.unflatten(2, (n, side)).unflatten(1, (n, side)).transpose(2, 3)  # (B, n, n, side, side, C)
        windows = self.attend(windows.flatten(0, 2)).unflatten(0, (-1, n, n))
        return self.after(windows.transpose(2, 3).flatten(3, 4).flatten(1, 2))

    def attend(self, x: Tensor) -> Tensor:  # (W, s, s, C), W windows
        """Waterfall attention within each window, head after head, and its residual sum."""
        outputs: list[Tensor] = []
        for head, part in enumerate(x.chunk(len(self.heads_qkv), dim=3)):
            part = part + outputs[-1] if outputs else part.contiguous()
            q, k, v = self.heads_qkv[head](part).split([self.key_dim, self.key_dim, self.value_dim], dim=3)
            q = self.heads_query[head](q.contiguous()).flatten(1, 2)  # (W, s*s, key_dim), already scaled
            scores = torch.baddbmm(self.bias[head], q, k.flatten(1, 2).transpose(1, 2))
            outputs.append((scores.softmax(-1) @ v.flatten(1, 2)).view_as(part))
        return self.projection(F.relu(torch.cat(outputs, dim=3)), x)


class Merging(nn.Module):
    """`PatchMerging`."""

    def __init__(self, merging: PatchMerging, dtype: torch.dtype, side: int):
        super().__init__()
        half = (side + 1) // 2
        self.before, self.after = Mixer(merging.before, dtype, side), Mixer(merging.after, dtype, half)
        self.expand = Dense(*fold(merging.expand.conv, merging.expand.norm), dtype, side**2, "relu")
        weight, bias = fold(merging.depthwise.conv, merging.depthwise.norm)
        self.depthwise = Conv(weight, bias, dtype, side, stride=2, groups=len(weight), activation="relu")
        squeeze, excite = merging.squeeze_excite.squeeze, merging.squeeze_excite.excite
        self.squeeze = Dense(squeeze.weight, squeeze.bias, dtype, 1, "relu")
        self.excite = Dense(excite.weight, excite.bias, dtype, 1, "sigmoid")
        self.reduce = Dense(*fold(merging.reduce.conv, merging.reduce.norm), dtype, half**2)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, C)
        x = self.depthwise(self.expand(self.before(x)))
        share = self.excite(self.squeeze(x.mean((1, 2))))  # (B, 4C)
        return self.after(self.reduce(x * share[:, None, None]))


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
            self.steps.append(Waterfall(cast(WaterfallBlock, block), dtype, side))
            if stage < len(encoder.merges):
                self.steps.append(Merging(cast(PatchMerging, encoder.merges[stage]), dtype, side))
                side = (side + 1) // 2

    def forward(self, image: Tensor) -> Tensor:  # (B, 224, 224, 3)
        return self.steps(image).float().mean((1, 2))  # (B, 96)


class FastNetwork(nn.Module):
    """`Network` as it stands, in eval mode: bytes to embeddings, (B, 224, 224[, 3]) uint8 to (B, 192) float32.

    Later changes of the network's weights do not reach it.
    """

    def __init__(self, network: Network, dtype: torch.dtype = torch.float32):
        super().__init__()
        with torch.inference_mode():
            size = network.image_norm.weight.shape[-1]
            self.image = Image(network.image_norm, dtype)
            self.spectral_encoder = FastSpectralEncoder(network.spectral_encoder, dtype, size)
            self.waterfall_encoder = FastWaterfallEncoder(network.waterfall_encoder, dtype, size)
            self.embedding_norm = Norm(network.embedding_norm, torch.float32)
            self.output_norm = Norm(network.output_norm, torch.float32)
            self.weight, self.bias = network.gate.weight.detach().clone(), network.gate.bias.detach().clone()
        self.order = network.architecture.gate

    def forward(self, levels: Tensor) -> Tensor:
        image = self.image(levels)
        return self.join(self.spectral_encoder(image), self.waterfall_encoder(image))

    def join(self, z1: Tensor, z2: Tensor) -> Tensor:  # (B, 96) each
        """The fusion: both encoders' outputs to the embedding (Eqs. 5 to 7)."""
        z = torch.stack([z1, z2], dim=1)  # (B, 2, 96): both encoders share norm and gate
        logits = F.linear(z if self.order == "paper" else F.elu(z), self.weight, self.bias)
        gate = F.hardtanh(F.elu(logits) if self.order == "paper" else logits, 0.0, 1.0)
        return self.output_norm((gate * self.embedding_norm(z)).flatten(1))  # (B, 192)
