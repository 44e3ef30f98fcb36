"""The network as a C++ program, `cpp/network.cpp`, brought by the package or compiled here: what a CPU runs.

It computes what `fast_network.py` computes, without PyTorch: norms are folded, wide maps stay in the cache from one
layer to the next, and products use the processor's widest vectors or its matrix tiles. The bytes of an image's vector
depend on neither threads nor neighbours.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from ctypes import CDLL
from typing import cast
from weakref import finalize

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import IMAGE_SIZE, Architecture
from ..errors import ConfigError
from ..images.rendering import PALETTE
from ..network.network import Network
from ..network.spectral_encoder import Block, ClassBlock, Downsample, SelfAttention, SpectralEncoder, SpectralFilter
from ..network.waterfall_encoder import ConvNorm, PatchMerging, SpatialMixer, WaterfallBlock, WaterfallEncoder
from .packed import fold

HEADS = 16  # of a waterfall block, at most: as many kernels does the program have room for
COLOURS = 4  # channels of the image as the program reads it: three and a zero


class NativeNetwork:
    """The program with a network's weights; safe to call from several Python threads at once.

    Raises
    ------
    ConfigError
        A network whose widths the program does not fill vectors with.
    """

    def __init__(self, network: Network, precision: str, library: CDLL):
        architecture = network.architecture
        if not fits(architecture):
            raise ConfigError(
                "compile=True on a CPU needs widths that are multiples of 32, a waterfall_key_dim of 16, 32, ... and "
                f"at most {HEADS} waterfall heads, not {architecture}: leave compile alone"
            )
        self.side, self.outputs = network.image_norm.weight.shape[-1], architecture.embedding_dim
        self.library = library
        numbers = np.array([self.side, *flat(architecture)], np.int32)
        weights = np.concatenate([tensor.detach().float().cpu().numpy().ravel() for tensor in tensors(network)])
        message = ctypes.create_string_buffer(200)
        self.made = self.library.build(
            numbers.ctypes.data, weights.ctypes.data, weights.size, precision == "bfloat16", message, len(message)
        )
        if not self.made:
            said = message.value.decode()
            raise ConfigError(f"the network's program cannot be made ({said}): compile=False leaves it to PyTorch")
        finalize(self, self.library.destroy, self.made).atexit = False

    def __call__(self, picture: NDArray[np.uint8], threads: int) -> NDArray[np.float32]:
        """One picture, (224, 224) levels or (224, 224, 3) RGB, to its vector, (embedding_dim,)."""
        return NativeImage(self, picture, threads)()


class NativeImage:
    """A picture on its way through a `NativeNetwork`: helpers begin at once, the one call joins them."""

    def __init__(self, network: NativeNetwork, picture: NDArray[np.uint8], threads: int):
        side = network.side
        if picture.dtype != np.uint8 or picture.shape not in ((side, side), (side, side, 3)):
            raise ValueError(f"a picture is ({side}, {side}) or ({side}, {side}, 3) bytes, not {picture.shape}")
        self._network, self._begun, picture = network, ctypes.c_void_p(), np.ascontiguousarray(picture)
        self.close = finalize(self, _drop, network, picture, self._begun)  # both outlive what helpers do with them
        self.close.atexit = False
        channels = 3 if picture.ndim == 3 else 1
        if network.library.begin(network.made, picture.ctypes.data, channels, threads, ctypes.byref(self._begun)):
            raise MemoryError("no memory for the maps of one image")

    def __call__(self) -> NDArray[np.float32]:
        """The picture's vector, (embedding_dim,)."""
        if not self._begun:
            raise ValueError("the picture's vector was given already, or the picture closed")
        out = np.empty(self._network.outputs, np.float32)
        if self._network.library.finish(ctypes.byref(self._begun), out.ctypes.data):
            raise MemoryError("no memory for the maps of one image")
        return out


def _drop(network: NativeNetwork, picture: NDArray[np.uint8], begun: ctypes.c_void_p) -> None:
    """Wait for what helpers do with a picture at the moment, and let the rest be; nothing if it was finished."""
    network.library.drop(ctypes.byref(begun))


def fits(architecture: Architecture) -> bool:
    """Whether vectors of up to 32 numbers fill the channels that are computed side by side."""
    widths = (*architecture.spectral_widths, *architecture.waterfall_widths)
    return (
        not any(width % 32 for width in widths)
        and architecture.waterfall_key_dim % 16 == 0
        and max(architecture.waterfall_heads) <= HEADS
    )


def flat(architecture: Architecture) -> Iterator[int]:
    """`Numbers` of network.cpp behind the image's size."""
    yield architecture.stem_width
    yield from (*architecture.spectral_widths, *architecture.spectral_mlp_ratios, *architecture.spectral_heads)
    yield from (*architecture.waterfall_widths, *architecture.waterfall_heads)
    yield from (architecture.waterfall_key_dim, min(architecture.waterfall_window, IMAGE_SIZE))
    yield architecture.gate == "paper"
    yield from (*architecture.waterfall_kernels, *[0] * HEADS)[:HEADS]


def tensors(network: Network) -> Iterator[Tensor]:
    """All weights, norms folded, in the order in which network.cpp builds its layers."""
    yield torch.tensor(PALETTE).float() / 255
    yield from (network.image_norm.weight.permute(1, 2, 0), network.image_norm.bias.permute(1, 2, 0))
    yield torch.tensor([network.image_norm.eps])
    yield from spectral(network.spectral_encoder)
    yield from waterfall(network.waterfall_encoder)
    yield from norm(network.embedding_norm)
    yield from (network.gate.weight, network.gate.bias)
    yield from norm(network.output_norm)


def norm(layer: nn.LayerNorm) -> Iterator[Tensor]:
    """Of `Norm` in layers.h."""
    yield from (layer.weight, layer.bias, torch.tensor([layer.eps]))


def conv(weight: Tensor, bias: Tensor | None, *, of_image: bool = False) -> Iterator[Tensor]:
    """(outputs, inputs, k, k) as (outputs, k, k, inputs); an image's three channels are filled up to `COLOURS`."""
    if of_image:
        weight = F.pad(weight, (0, 0, 0, 0, 0, COLOURS - 3))
    yield weight.permute(0, 2, 3, 1)
    yield torch.zeros(len(weight)) if bias is None else bias


def conv_norm(layer: ConvNorm, *, of_image: bool = False) -> Iterator[Tensor]:
    """Of `Conv` in layers.h, or of `Product` in product.h where the kernel is 1 x 1."""
    yield from conv(*fold(layer.conv, layer.norm), of_image=of_image)


def depthwise(weight: Tensor, bias: Tensor) -> Iterator[Tensor]:
    """(channels, 1, k, k) as (k, k, channels)."""
    yield from (weight[:, 0].permute(1, 2, 0), bias)


def attention(before: nn.LayerNorm, layer: SelfAttention) -> Iterator[Tensor]:
    """Of `SelfAttention` in spectral.h; query, key and value are one product."""
    yield from norm(before)
    yield from (layer.query.weight, layer.key_value.weight, layer.query.bias, layer.key_value.bias)
    yield from (layer.projection.weight, layer.projection.bias)


def spectral(encoder: SpectralEncoder) -> Iterator[Tensor]:
    """Of `SpectralEncoder` in spectral.h."""
    convs = encoder.stem.convs
    for layer, batch_norm in zip(list(convs)[0::3], list(convs)[1::3], strict=True):
        folded = fold(cast(nn.Conv2d, layer), cast(nn.BatchNorm2d, batch_norm))
        yield from conv(*folded, of_image=layer is convs[0])
    yield from conv(encoder.stem.projection.weight, encoder.stem.projection.bias)
    yield from norm(encoder.stem.norm)
    for stage, each in enumerate(encoder.blocks):
        block = cast(Block, each)
        if isinstance(block.mixer, SpectralFilter):
            yield from (*norm(block.mixer_norm), block.mixer.weight)
        else:
            yield from attention(block.mixer_norm, cast(SelfAttention, block.mixer))
        yield from norm(block.mlp_norm)
        yield from (block.mlp.expand.weight, cast(Tensor, block.mlp.expand.bias))
        yield from depthwise(block.mlp.depthwise.weight, cast(Tensor, block.mlp.depthwise.bias))
        yield from (block.mlp.reduce.weight, cast(Tensor, block.mlp.reduce.bias))
        if stage < len(encoder.downsamples):
            downsample = cast(Downsample, encoder.downsamples[stage])
            yield from norm(cast(nn.LayerNorm, encoder.stage_norms[stage]))
            yield from conv(downsample.projection.weight, downsample.projection.bias)
            yield from norm(downsample.norm)
    last: ClassBlock = encoder.class_block
    yield from attention(last.attention_norm, last.attention)
    yield from norm(last.mlp_norm)
    yield from (last.expand.weight, last.expand.bias, last.reduce.weight, last.reduce.bias)
    yield from norm(encoder.norm)


def mixer(layer: SpatialMixer) -> Iterator[Tensor]:
    """Of `Mixer` in waterfall.h."""
    weight, bias = fold(layer.depthwise.conv, layer.depthwise.norm)
    weight[:, :, 1, 1] += 1.0  # the residual sum
    yield from depthwise(weight, bias)
    yield from (*conv_norm(layer.expand), *conv_norm(layer.reduce))


def waterfall(encoder: WaterfallEncoder) -> Iterator[Tensor]:
    """Of `WaterfallEncoder` in waterfall.h."""
    for place, layer in enumerate(list(encoder.patch_embedding)[::2]):
        yield from conv_norm(cast(ConvNorm, layer), of_image=place == 0)
    for stage, each in enumerate(encoder.blocks):
        block = cast(WaterfallBlock, each)
        yield from (*mixer(block.before), *mixer(block.after))
        layer, scale = block.attention, block.attention.key_dim**-0.5
        bias = layer.position_bias[:, layer.offsets]  # (heads, s*s, s*s)
        for head, (qkv, query) in enumerate(zip(layer.heads_qkv, layer.heads_query, strict=True)):
            yield from conv_norm(cast(ConvNorm, qkv))
            kernel, shift = fold(cast(ConvNorm, query).conv, cast(ConvNorm, query).norm)
            yield from (*depthwise(kernel * scale, shift * scale), bias[head])  # of the scores, put where it is free
        yield from conv_norm(layer.projection)
        if stage < len(encoder.merges):
            merging = cast(PatchMerging, encoder.merges[stage])
            yield from (*mixer(merging.before), *conv_norm(merging.expand))
            yield from depthwise(*fold(merging.depthwise.conv, merging.depthwise.norm))
            yield from conv(merging.squeeze_excite.squeeze.weight, merging.squeeze_excite.squeeze.bias)
            yield from conv(merging.squeeze_excite.excite.weight, merging.squeeze_excite.excite.bias)
            yield from (*conv_norm(merging.reduce), *mixer(merging.after))
