"""The native backend: the network as a C++ program (`cpp/network.cpp`), for one image at a time on a CPU.

BatchNorm is folded into the layer before it, wide maps stay in the cache from one layer to the next, and products use
the processor's widest vectors or its matrix tiles. The bytes of an image's vector depend neither on the number of
threads nor on other images.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from ..config import IMAGE_SIZE, Architecture
from ..errors import ConfigError
from ..images.rendering import PALETTE
from ..weights.shapes import position_offsets
from ..weights.tensor_files import Tensors
from .native_program import Program

HEADS = 16  # of a waterfall block, at most: the program has room for as many kernels
COLOURS = 4  # channels of the image as the program reads it: three and a zero
SPARE = (
    1 << 17
)  # numbers that the program reads beside the tensors: palette, eps, zeros, a bias for each pair of tokens
NORM_EPS, BLOCK_EPS = 1e-5, 1e-6  # of LayerNorms and BatchNorms; of the LayerNorms of encoder 1's blocks and stages

Array = NDArray[np.float32]


class NativeNetwork:
    """The program with one set of weights; several threads may call it at once.

    Parameters
    ----------
    tensors : our names, float32; emptied as they are taken, so that they are not in memory twice
    precision : "float32" or "bfloat16"

    Raises
    ------
    ConfigError
        The program cannot hold this architecture (see `fits`).
    """

    def __init__(self, tensors: Tensors, architecture: Architecture, precision: str, program: Program):
        if not fits(architecture):
            raise ConfigError(
                'backend="native" needs widths that are multiples of 32, a waterfall_key_dim of 16, 32, ... and at '
                f'most {HEADS} waterfall heads, not {architecture}: use backend="torch"'
            )
        self.outputs, self.rows = architecture.embedding_dim, architecture.rows_dim
        self._library = program.library
        numbers = np.array([IMAGE_SIZE, *flat(architecture)], np.int32)
        weights = joined(Layers(tensors, architecture).all(), sum(tensor.size for tensor in tensors.values()) + SPARE)
        message = ctypes.create_string_buffer(200)
        self._made = self._library.build(
            numbers.ctypes.data, weights.ctypes.data, weights.size, precision == "bfloat16", message, len(message)
        )
        if not self._made:
            raise ConfigError(f'the native program refuses the weights ({message.value.decode()}): use backend="torch"')
        finalize(self, self._library.destroy, self._made).atexit = False

    def __call__(self, picture: NDArray[np.uint8], threads: int, rows: bool = False) -> Array:
        """One picture, (224, 224) levels or (224, 224, 3) RGB, to its vector, (embedding_dim,), and rows behind it."""
        side = IMAGE_SIZE
        if picture.dtype != np.uint8 or picture.shape not in ((side, side), (side, side, 3)):
            raise ValueError(f"a picture is ({side}, {side}) or ({side}, {side}, 3) bytes, not {picture.shape}")
        picture, out = np.ascontiguousarray(picture), np.empty(self.outputs + rows * self.rows, np.float32)
        channels, behind = 3 if picture.ndim == 3 else 1, out[self.outputs :].ctypes.data if rows else None
        if self._library.embed(self._made, picture.ctypes.data, channels, threads, out.ctypes.data, behind):
            raise MemoryError("not enough memory for the maps of one image")
        return out


def fits(architecture: Architecture) -> bool:
    """Whether the program can hold an architecture: its vectors of up to 32 numbers are filled with channels."""
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


def joined(parts: Iterator[Array], room: int) -> Array:
    """The numbers of all parts, one after another, in one array; each part is freed once it was copied."""
    numbers, end = np.empty(room, np.float32), 0
    for part in parts:
        begin, end = end, end + part.size
        numbers[begin:end] = part.ravel()
    return numbers[:end]


def fold(weight: Array, norm: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
    """Weight and bias of the one convolution that equals a bias-free one and its BatchNorm in eval mode.

    norm : weight, bias, running mean and running variance
    """
    gain, shift, mean, variance = (part.astype(np.float64) for part in norm)
    gain = gain / np.sqrt(variance + NORM_EPS)
    folded = (weight.astype(np.float64) * gain[:, None, None, None]).astype(np.float32)
    return folded, (shift - mean * gain).astype(np.float32)


class Layers:
    """The tensors of a network, BatchNorm folded, in the order in which network.cpp builds its layers."""

    def __init__(self, tensors: Tensors, architecture: Architecture):
        self._tensors, self._architecture = tensors, architecture

    def all(self) -> Iterator[Array]:
        """Every array that the program reads."""
        yield (PALETTE / np.float32(255)).astype(np.float32)
        yield from (self._pop("image_norm.weight").transpose(1, 2, 0), self._pop("image_norm.bias").transpose(1, 2, 0))
        yield np.array([NORM_EPS], np.float32)
        yield from self._spectral_encoder("spectral_encoder")
        yield from self._waterfall_encoder("waterfall_encoder")
        yield from self._norm("embedding_norm")
        yield from self._affine("gate")
        yield from self._norm("output_norm")

    def _pop(self, name: str) -> Array:
        return self._tensors.pop(name)

    def _affine(self, name: str) -> tuple[Array, Array]:
        return self._pop(f"{name}.weight"), self._pop(f"{name}.bias")

    def _norm(self, name: str, eps: float = NORM_EPS) -> tuple[Array, Array, Array]:
        """Of `Norm` in layers.h."""
        return (*self._affine(name), np.array([eps], np.float32))

    def _conv(self, weight: Array, bias: Array, *, of_image: bool = False) -> tuple[Array, Array]:
        """(outputs, inputs, k, k) as (outputs, k, k, inputs); an image's three channels are filled up to `COLOURS`."""
        if of_image:
            weight = np.pad(weight, ((0, 0), (0, COLOURS - 3), (0, 0), (0, 0)))
        return weight.transpose(0, 2, 3, 1), bias

    def _fold(self, conv: str, norm: str) -> tuple[Array, Array]:
        parts = ("weight", "bias", "running_mean", "running_var")
        gain, shift, mean, variance = (self._pop(f"{norm}.{part}") for part in parts)
        return fold(self._pop(f"{conv}.weight"), (gain, shift, mean, variance))

    def _conv_norm(self, name: str, *, of_image: bool = False) -> tuple[Array, Array]:
        """Of `Conv` in layers.h, or of `Product` in product.h where the kernel is 1 x 1."""
        return self._conv(*self._fold(f"{name}.conv", f"{name}.norm"), of_image=of_image)

    @staticmethod
    def _depthwise(weight: Array, bias: Array) -> tuple[Array, Array]:
        """(channels, 1, k, k) as (k, k, channels)."""
        return weight[:, 0].transpose(1, 2, 0), bias

    def _attention(self, before: str, name: str) -> Iterator[Array]:
        """Of `SelfAttention` in spectral_encoder.h; query, key and value are one product."""
        yield from self._norm(before, BLOCK_EPS)
        query, key_value = self._affine(f"{name}.query"), self._affine(f"{name}.key_value")
        yield from (query[0], key_value[0], query[1], key_value[1])
        yield from self._affine(f"{name}.projection")

    def _spectral_encoder(self, name: str) -> Iterator[Array]:
        """Of `SpectralEncoder` in spectral_encoder.h."""
        for place in range(3):
            folded = self._fold(f"{name}.stem.convs.{3 * place}", f"{name}.stem.convs.{3 * place + 1}")
            yield from self._conv(*folded, of_image=place == 0)
        yield from self._conv(*self._affine(f"{name}.stem.projection"))
        yield from self._norm(f"{name}.stem.norm")
        for stage, heads in enumerate(self._architecture.spectral_heads):
            block = f"{name}.blocks.{stage}"
            if heads:
                yield from self._attention(f"{block}.mixer_norm", f"{block}.mixer")
            else:
                yield from (*self._norm(f"{block}.mixer_norm", BLOCK_EPS), self._pop(f"{block}.mixer.weight"))
            yield from self._norm(f"{block}.mlp_norm", BLOCK_EPS)
            yield from self._affine(f"{block}.mlp.expand")
            yield from self._depthwise(*self._affine(f"{block}.mlp.depthwise"))
            yield from self._affine(f"{block}.mlp.reduce")
            if stage < 3:
                yield from self._norm(f"{name}.stage_norms.{stage}", BLOCK_EPS)
                yield from self._conv(*self._affine(f"{name}.downsamples.{stage}.projection"))
                yield from self._norm(f"{name}.downsamples.{stage}.norm")
        last = f"{name}.class_block"
        yield from self._attention(f"{last}.attention_norm", f"{last}.attention")
        yield from self._norm(f"{last}.mlp_norm", BLOCK_EPS)
        yield from (*self._affine(f"{last}.expand"), *self._affine(f"{last}.reduce"))
        yield from self._norm(f"{name}.norm", BLOCK_EPS)

    def _mixer(self, name: str) -> Iterator[Array]:
        """Of `Mixer` in waterfall_encoder.h."""
        weight, bias = self._fold(f"{name}.depthwise.conv", f"{name}.depthwise.norm")
        weight[:, :, 1, 1] += 1.0  # the residual sum
        yield from self._depthwise(weight, bias)
        yield from (*self._conv_norm(f"{name}.expand"), *self._conv_norm(f"{name}.reduce"))

    def _waterfall_encoder(self, name: str) -> Iterator[Array]:
        """Of `WaterfallEncoder` in waterfall_encoder.h."""
        for place in range(4):
            yield from self._conv_norm(f"{name}.patch_embedding.{2 * place}", of_image=place == 0)
        for stage in range(3):
            block = f"{name}.blocks.{stage}"
            yield from (*self._mixer(f"{block}.before"), *self._mixer(f"{block}.after"))
            yield from self._waterfall(f"{block}.attention", self._architecture.waterfall_heads[stage])
            if stage < 2:
                merge = f"{name}.merges.{stage}"
                yield from (*self._mixer(f"{merge}.before"), *self._conv_norm(f"{merge}.expand"))
                yield from self._depthwise(*self._fold(f"{merge}.depthwise.conv", f"{merge}.depthwise.norm"))
                yield from self._conv(*self._affine(f"{merge}.squeeze_excite.squeeze"))
                yield from self._conv(*self._affine(f"{merge}.squeeze_excite.excite"))
                yield from (*self._conv_norm(f"{merge}.reduce"), *self._mixer(f"{merge}.after"))

    def _waterfall(self, name: str, heads: int) -> Iterator[Array]:
        """The attention of one block; the scale of its scores is folded into the queries."""
        position_bias = self._pop(f"{name}.position_bias")  # (heads, side * side)
        bias = position_bias[:, position_offsets(round(position_bias.shape[1] ** 0.5))]  # (heads, s*s, s*s)
        scale = np.float32(self._architecture.waterfall_key_dim**-0.5)
        for head in range(heads):
            yield from self._conv_norm(f"{name}.heads_qkv.{head}")
            kernel, shift = self._fold(f"{name}.heads_query.{head}.conv", f"{name}.heads_query.{head}.norm")
            yield from (*self._depthwise(kernel * scale, shift * scale), bias[head])
        yield from self._conv_norm(f"{name}.projection")
