"""The PyTorch backend: the plain network, on a CPU or an accelerator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import lru_cache
from threading import RLock
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config import IMAGE_SIZE, Architecture, Config
from ..errors import ConfigError
from ..images.rendering import PALETTE
from ..network.network import Network, Uninitialised
from ..weights.tensor_files import Tensors

_MODES = RLock()  # training or eval, of modules, which two calls must not switch at once


if hasattr(os, "register_at_fork"):  # not on Windows
    # a forked process has none of OpenMP's threads but its own, and would wait for the others for ever
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


class TorchNetwork:
    """A module that maps pixels to vectors, run in eval mode and without gradients.

    Parameters
    ----------
    module : (B, 3, 224, 224) pixels in [0, 1] to (B, embedding_dim)
    precision : "bfloat16" runs its products and convolutions under autocast

    Raises
    ------
    ConfigError
        Its weights are not float32.
    """

    def __init__(self, module: nn.Module, precision: str = "float32"):
        require_float32(module)
        self.module, self.half = module, precision == "bfloat16"
        self.device = next(module.parameters()).device
        self.batches = self.device.type != "cpu"

    def __call__(self, images: NDArray[np.uint8], threads: int, rows: bool = False) -> NDArray[np.float32]:
        """Levels, (B, 224, 224), or RGB bytes, (B, 224, 224, 3), to (B, embedding_dim), and rows behind each.

        By PyTorch's threads.

        Raises
        ------
        ConfigError
            Rows are wanted, and the module is not run as the network is.
        """
        network = require_network(self.module) if rows else None
        with _MODES, evaluating(self.module), exactly(self.device, self.half):
            pixels = to_pixels(torch.from_numpy(images), self.device)
            vectors = self.module(pixels) if network is None else vectors_and_rows(network, pixels)
            return vectors.float().cpu().numpy()


def vectors_and_rows(network: Network, pixels: Tensor) -> Tensor:
    """Pixels, (B, 3, 224, 224), to embeddings with the rows behind them, (B, embedding_dim + rows_dim)."""
    parts = network.encode(pixels, rows=True)
    return torch.cat([parts["embedding"].float(), parts["rows"].float()], dim=1)


def require_network(module: nn.Module) -> Network:
    """Refuse a module that is not run as the network is, so that the maps behind its vectors are not known.

    Raises
    ------
    ConfigError
    """
    if not runs_as_network(module):
        raise ConfigError(
            'readout="rows" reads the maps of the network itself, and this module has its own forward or a hook: '
            'remove the hook, or use readout="embedding"'
        )
    return module


def runs_as_network(module: nn.Module) -> TypeGuard[Network]:
    """Whether what a module gives is what `Network.encode` calls its embedding."""
    if not isinstance(module, Network) or not {"forward", "encode"}.isdisjoint(vars(module)):
        return False
    own = (type(module).forward, type(module).encode) != (Network.forward, Network.encode)
    return not (own or module._forward_hooks or module._forward_pre_hooks)


def require_float32(module: nn.Module) -> None:
    """Refuse a module whose weights are of another dtype.

    Raises
    ------
    ConfigError
    """
    if (dtype := next(module.parameters()).dtype) != torch.float32:
        raise ConfigError(
            f"the model's weights are {dtype}, and embedding takes torch.float32: model.float() gives them; "
            'precision="bfloat16" of from_pretrained is for speed'
        )


def built(tensors: Tensors, config: Config) -> Network:
    """The plain network with these weights, frozen."""
    with usual_defaults(), Uninitialised():
        network = Network(config)
        network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, strict=False)
    return network.requires_grad_(False).eval()


@contextmanager
def usual_defaults() -> Iterator[None]:
    """Float32 on the CPU within, outside inference mode and autocast, whatever the caller has set for new tensors."""
    with _MODES, training_defaults(), torch.no_grad(), torch.autocast("cpu", enabled=False):
        yield


@contextmanager
def training_defaults() -> Iterator[None]:
    """The same with gradients, and for long: other threads may embed meanwhile."""
    usual = torch.get_default_device().type == "cpu"  # a device that is named is looked at in every call
    with torch.inference_mode(False), torch.enable_grad(), nullcontext() if usual else torch.device("cpu"):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def check_device(device: str | torch.device) -> torch.device:
    """A device that this machine has; there is no silent fall back to the CPU.

    Raises
    ------
    ConfigError
        Not a device's name, or not available here.
    """
    try:
        checked = torch.device(device)
        torch.empty(1, device=checked)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"device={str(device)!r} cannot be used on this machine ({str(error).splitlines()[0]})"
        ) from error
    return checked


def to_pixels(levels: Tensor, device: str | torch.device) -> Tensor:
    """What the network takes: (B, 224, 224) levels, or (B, 224, 224, 3) RGB bytes, to (B, 3, 224, 224) in [0, 1].

    Levels are coloured on the device, so only bytes travel to it. The result is channels-last in memory.
    """
    if levels.ndim == 4:
        return (levels.to(device).to(torch.float32) / 255).permute(0, 3, 1, 2)
    palette = torch.tensor(PALETTE, device=device).to(torch.float32) / 255  # (256, 3)
    return palette[levels.to(device).int()].permute(0, 3, 1, 2)


@contextmanager
def exactly(device: torch.device, half: bool = False) -> Iterator[None]:
    """No gradients, no autocast but our own, and on CUDA no TF32 in float32 convolutions."""
    cudnn = torch.backends.cudnn
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast(device.type, torch.bfloat16, enabled=half))
        if device.type == "cuda":
            kept = cudnn.enabled, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic
            stack.enter_context(cudnn.flags(*kept, allow_tf32=False))
        yield


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode within, and each module's own mode again afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def is_plain(module: nn.Module) -> bool:
    """Whether a module computes what `Network` does: no hook, no other layer, no own forward; float32, on a CPU."""
    if not runs_as_network(module):
        return False
    weight = module.image_norm.weight
    if weight.dtype != torch.float32 or weight.device.type != "cpu" or weight.shape[-1] != IMAGE_SIZE:
        return False
    parts = list(module.named_modules())
    if any(
        part._forward_hooks or part._forward_pre_hooks or not {"forward", "encode"}.isdisjoint(vars(part))
        for _, part in parts
    ):
        return False
    return [(name, type(part)) for name, part in parts][1:] == _modules(module.architecture)


@lru_cache(maxsize=8)
def _modules(architecture: Architecture) -> list[tuple[str, type]]:
    """Name and type of every module of the plain network."""
    with torch.device("meta"), Uninitialised():
        return [(name, type(part)) for name, part in Network(Config(architecture=architecture)).named_modules()][1:]
