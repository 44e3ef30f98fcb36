"""Layers for inference: norms folded in, weights laid out once as the processor wants them, what follows fused.

On a CPU the products go to oneDNN with weights that it has packed beforehand; PyTorch's own matrix product belongs to
another library, which on some processors runs at half that speed. Where oneDNN is missing, and on accelerators, the
same layers are ordinary functions. Maps are grids, (batch, rows, columns, channels), as in the spectral encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALL = 2**20  # multiplications, below which a product costs less than handing it over to oneDNN
ACTIVATIONS = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu, "sigmoid": torch.sigmoid}


def packs(device: torch.device, dtype: torch.dtype = torch.float32) -> bool:
    """Whether weights of this dtype on this device are packed for oneDNN."""
    return (
        device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)  # type: ignore[attr-defined]
        and all(hasattr(torch.ops.mkldnn, f"_{name}_pointwise") for name in ("linear", "convolution"))
        and takes(dtype)
    )


@lru_cache(maxsize=4)
def takes(dtype: torch.dtype) -> bool:
    """Whether oneDNN computes in this dtype on this processor, tried once: bfloat16 needs AVX-512 or AMX."""
    if dtype == torch.float32:
        return True
    ones = torch.ones(16, 16, dtype=dtype)
    grid = ones.view(1, 16, 4, 4).contiguous(memory_format=torch.channels_last)
    nothing: tuple[Any, ...] = (None, "none", [], "none")  # neither bias nor activation
    try:
        with torch.inference_mode():
            dense = torch.ops.mkldnn._reorder_linear_weight(ones, 16)
            torch.ops.mkldnn._linear_pointwise(ones, dense, *nothing)
            place = [0, 0], [1, 1], [1, 1], 1
            kernel = ones.view(16, 16, 1, 1).contiguous(memory_format=torch.channels_last)
            kernel = torch.ops.mkldnn._reorder_convolution_weight(kernel, *place, [1, 16, 4, 4])
            torch.ops.mkldnn._convolution_pointwise(grid, kernel, None, *place, *nothing[1:])
    except RuntimeError:
        return False
    return True


def pointwise(name: str) -> Callable[..., Tensor]:
    """oneDNN's product or convolution with an activation; where a graph is recorded, in a form it can hold."""
    recording = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return _scripted(name) if recording else _OPERATIONS[name]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: list[int],
    stride: list[int],
    groups: int,
    activation: str,
) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, stride, [1, 1], groups, activation, [], "none"
    )


_OPERATIONS: dict[str, Callable[..., Tensor]] = {"linear": _linear, "convolution": _convolution}


@cache
def _scripted(name: str) -> Callable[..., Tensor]:
    """The same operation in TorchScript: tracing cannot see their empty list of scalars for what it is."""
    return cast(Callable[..., Tensor], torch.jit.script(_OPERATIONS[name]))


def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that equals a bias-free one and its BatchNorm in eval mode."""
    mean, variance = (cast(Tensor, statistic).double() for statistic in (norm.running_mean, norm.running_var))
    gain = norm.weight.double() / torch.sqrt(variance + norm.eps)
    weight = conv.weight.double() * gain[:, None, None, None]
    return weight.float(), (norm.bias.double() - mean * gain).float()


class Dense(nn.Module):
    """`activation(x @ weight.T + bias)`, or that plus `residual`, on the last axis.

    Parameters
    ----------
    weight : (outputs, inputs), or the (outputs, inputs, 1, 1) of a 1 x 1 convolution
    bias : (outputs,)
    dtype : of the product; `bias` and `weight` are converted
    rows : how many rows `x` usually has: the packing suits that number, and any other still works
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, rows: int, activation: str = "none"):
        super().__init__()
        self.activation = activation
        self.weight: Tensor  # a buffer: a recorded graph (`recorded`) cannot hold a packed weight as a constant
        self.register_buffer("weight", weight.detach().flatten(1).to(dtype).contiguous())
        self.bias = None if bias is None else bias.detach().to(dtype).contiguous()
        self.packed = packs(weight.device, dtype) and rows * self.weight.numel() >= SMALL
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, rows)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """`activation(x @ weight.T + bias)`, or the same plus a residual: (..., C) to (..., C')."""
        if not self.packed:
            y = ACTIVATIONS[self.activation](F.linear(x, self.weight, self.bias))
            return y if residual is None else y + residual
        if residual is not None:  # the sum is part of the product's last step
            return torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        return pointwise("linear")(x, self.weight, self.bias, self.activation)


class Conv(nn.Module):
    """`activation(conv(x) + bias)` on a grid, padded by half the kernel.

    Parameters
    ----------
    weight : (outputs, inputs / groups, kernel, kernel)
    side : of the grid it usually reads; the packing suits that size
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        side: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: str = "none",
    ):
        super().__init__()
        self.activation, self.groups = activation, groups
        self.padding, self.stride = [weight.shape[2] // 2] * 2, [stride] * 2
        self.weight: Tensor
        self.register_buffer("weight", weight.detach().to(dtype).contiguous(memory_format=torch.channels_last))
        self.bias = None if bias is None else bias.detach().to(dtype).contiguous()
        self.packed = packs(weight.device, dtype)
        if self.packed:
            shape = [1, groups * weight.shape[1], side, side]
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, self.padding, self.stride, [1, 1], groups, shape
            )

    def forward(self, grid: Tensor) -> Tensor:  # (B, H, W, C)
        """The convolution and its activation: (B, H', W', C')."""
        x = grid.permute(0, 3, 1, 2)
        if self.packed:
            where = self.padding, self.stride, self.groups
            y = pointwise("convolution")(x, self.weight, self.bias, *where, self.activation)
        else:
            y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, 1, self.groups)
            y = ACTIVATIONS[self.activation](y)
        return y.permute(0, 2, 3, 1)


class Norm(nn.Module):
    """LayerNorm over the last axis, in its own dtype."""

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype):
        super().__init__()
        self.eps, self.shape = norm.eps, norm.normalized_shape
        self.weight: Tensor = norm.weight.detach().to(dtype)
        self.bias: Tensor = norm.bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C)."""
        return F.layer_norm(x.to(self.weight.dtype), self.shape, self.weight, self.bias, self.eps)
