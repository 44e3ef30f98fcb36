"""Name and shape of every tensor that weights of an architecture hold, in the order of the network's modules."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..config import IMAGE_SIZE, Architecture

Shapes = dict[str, tuple[int, ...]]
Shape = tuple[str, tuple[int, ...]]


@lru_cache(maxsize=8)
def tensor_shapes(architecture: Architecture, image_size: int = IMAGE_SIZE) -> Shapes:
    """Parameters and running statistics of the network, without BatchNorm's counters of batches.

    Examples
    --------
    >>> len(tensor_shapes(Architecture()))
    441
    """
    width = architecture.spectral_widths[-1]
    return dict(
        [
            *_norm("image_norm", 3, image_size, image_size),
            *_spectral_encoder(architecture, image_size // 4),
            *_waterfall_encoder(architecture, image_size // 16),
            *_norm("embedding_norm", width),
            *_affine("gate", width, width),
            *_norm("output_norm", 2 * width),
        ]
    )


def _affine(name: str, *shape: int) -> list[Shape]:
    """Weight and bias of a linear layer or a convolution."""
    return [(f"{name}.weight", shape), (f"{name}.bias", shape[:1])]


def _norm(name: str, *shape: int) -> list[Shape]:
    return [(f"{name}.weight", shape), (f"{name}.bias", shape)]


def _batch_norm(name: str, width: int) -> list[Shape]:
    return [*_norm(name, width), (f"{name}.running_mean", (width,)), (f"{name}.running_var", (width,))]


def _conv_norm(name: str, outputs: int, inputs: int, kernel: int = 1) -> list[Shape]:
    """A bias-free convolution and its BatchNorm."""
    return [(f"{name}.conv.weight", (outputs, inputs, kernel, kernel)), *_batch_norm(f"{name}.norm", outputs)]


def _attention(name: str, width: int) -> list[Shape]:
    parts = {"query": width, "key_value": 2 * width, "projection": width}
    return [shape for part, outputs in parts.items() for shape in _affine(f"{name}.{part}", outputs, width)]


def _spectral_encoder(architecture: Architecture, side: int) -> Iterator[Shape]:
    name, stem, widths = "spectral_encoder", architecture.stem_width, architecture.spectral_widths
    for place, (inputs, kernel) in enumerate(((3, 7), (stem, 3), (stem, 3))):
        yield f"{name}.stem.convs.{3 * place}.weight", (stem, inputs, kernel, kernel)
        yield from _batch_norm(f"{name}.stem.convs.{3 * place + 1}", stem)
    yield from _affine(f"{name}.stem.projection", widths[0], stem, 3, 3)
    yield from _norm(f"{name}.stem.norm", widths[0])
    for stage, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        yield from _affine(f"{name}.downsamples.{stage}.projection", outputs, inputs, 3, 3)
        yield from _norm(f"{name}.downsamples.{stage}.norm", outputs)
    stages = zip(widths, architecture.spectral_heads, architecture.spectral_mlp_ratios, strict=True)
    for stage, (width, heads, ratio) in enumerate(stages):
        block, hidden, grid = f"{name}.blocks.{stage}", ratio * width, side >> stage
        yield from _norm(f"{block}.mixer_norm", width)
        if heads:
            yield from _attention(f"{block}.mixer", width)
        else:
            yield f"{block}.mixer.weight", (grid, grid // 2 + 1, width, 2)
        yield from _norm(f"{block}.mlp_norm", width)
        yield from _affine(f"{block}.mlp.expand", hidden, width)
        yield from _affine(f"{block}.mlp.depthwise", hidden, 1, 3, 3)
        yield from _affine(f"{block}.mlp.reduce", width, hidden)
    for stage, width in enumerate(widths[:-1]):
        yield from _norm(f"{name}.stage_norms.{stage}", width)
    width, hidden = widths[-1], architecture.spectral_mlp_ratios[-1] * widths[-1]
    yield from _norm(f"{name}.class_block.attention_norm", width)
    yield from _attention(f"{name}.class_block.attention", width)
    yield from _norm(f"{name}.class_block.mlp_norm", width)
    yield from _affine(f"{name}.class_block.expand", hidden, width)
    yield from _affine(f"{name}.class_block.reduce", width, hidden)
    yield from _norm(f"{name}.norm", width)


def _mixer(name: str, width: int) -> list[Shape]:
    """A spatial mixer of encoder 2."""
    return [
        *_conv_norm(f"{name}.depthwise", width, 1, 3),
        *_conv_norm(f"{name}.expand", 2 * width, width),
        *_conv_norm(f"{name}.reduce", width, 2 * width),
    ]


def _waterfall_encoder(architecture: Architecture, side: int) -> Iterator[Shape]:
    name, widths, key = "waterfall_encoder", architecture.waterfall_widths, architecture.waterfall_key_dim
    steps = (3, *(widths[0] // share for share in (8, 4, 2, 1)))
    for place, (inputs, outputs) in enumerate(zip(steps, steps[1:], strict=False)):
        yield from _conv_norm(f"{name}.patch_embedding.{2 * place}", outputs, inputs, 3)
    for stage, (width, heads) in enumerate(zip(widths, architecture.waterfall_heads, strict=True)):
        block, value, window = f"{name}.blocks.{stage}", width // heads, min(side, architecture.waterfall_window)
        yield from _mixer(f"{block}.before", width)
        yield f"{block}.attention.position_bias", (heads, window * window)
        for head in range(heads):
            yield from _conv_norm(f"{block}.attention.heads_qkv.{head}", 2 * key + value, value)
        for head, kernel in enumerate(architecture.waterfall_kernels[:heads]):
            yield from _conv_norm(f"{block}.attention.heads_query.{head}", key, 1, kernel)
        yield from _conv_norm(f"{block}.attention.projection", width, width)
        yield from _mixer(f"{block}.after", width)
        side = (side + 1) // 2
    for stage, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        merge, hidden = f"{name}.merges.{stage}", 4 * inputs
        yield from _mixer(f"{merge}.before", inputs)
        yield from _conv_norm(f"{merge}.expand", hidden, inputs)
        yield from _conv_norm(f"{merge}.depthwise", hidden, 1, 3)
        yield from _affine(f"{merge}.squeeze_excite.squeeze", hidden // 4, hidden, 1, 1)
        yield from _affine(f"{merge}.squeeze_excite.excite", hidden, hidden // 4, 1, 1)
        yield from _conv_norm(f"{merge}.reduce", outputs, hidden)
        yield from _mixer(f"{merge}.after", outputs)


def position_offsets(side: int) -> NDArray[np.int64]:
    """Index |drow| * side + |dcol| of each pair of tokens in a window, row-major: (side**2, side**2).

    A head of encoder 2 has one bias for each of these offsets.
    """
    row, column = np.divmod(np.arange(side * side), side)
    return np.abs(row[:, None] - row) * side + np.abs(column[:, None] - column)
