"""The network as a C++ program, `cpp/network.cpp`, compiled once for this processor: `compile=True` on a CPU.

It computes what `fast_network.py` computes, without PyTorch: norms are folded, wide maps stay in the cache from one
layer to the next, and products use the processor's widest vectors or its matrix tiles. The bytes of an image's vector
depend on neither threads nor neighbours.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import cast
from weakref import finalize

import numpy as np
import torch
from huggingface_hub import constants
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from .config import Architecture
from .durable import write_whole
from .errors import ConfigError
from .images import PALETTE
from .network import Network
from .packed import fold
from .spectral_encoder import Block, ClassBlock, Downsample, SelfAttention, SpectralEncoder, SpectralFilter
from .threads import callers_threads
from .waterfall_encoder import ConvNorm, PatchMerging, SpatialMixer, WaterfallBlock, WaterfallEncoder

SOURCE = Path(__file__).parent / "cpp"
FLAGS = ["-std=c++17", "-O2", "-fno-math-errno", "-shared", "-fPIC", "-pthread"]
COLOURS = 4  # channels of the image as the program reads it: three and a zero


def native_network(network: Network, precision: str) -> Callable[[NDArray[np.uint8], int], NDArray[np.float32]]:
    """A function of one picture, (224, 224) levels or (224, 224, 3) RGB, and a number of threads: (embedding_dim,).

    Raises
    ------
    ConfigError
        No compiler, or a network whose widths the program does not fill vectors with.
    """
    architecture, (library, _) = network.architecture, program()
    if not fits(architecture):
        raise ConfigError(
            f"compile=True on a CPU needs widths that are multiples of 32, not {architecture}: leave compile alone"
        )
    numbers = np.array([network.image_norm.weight.shape[-1], *flat(architecture)], np.int32)
    weights = np.concatenate([tensor.detach().float().cpu().numpy().ravel() for tensor in tensors(network)])
    message = ctypes.create_string_buffer(200)
    made = library.build(
        numbers.ctypes.data, weights.ctypes.data, weights.size, precision == "bfloat16", message, len(message)
    )
    if not made:
        raise ConfigError(f"compile=True: {message.value.decode()}")
    outputs = architecture.embedding_dim

    def run(picture: NDArray[np.uint8], threads: int) -> NDArray[np.float32]:
        picture, out = np.ascontiguousarray(picture), np.empty(outputs, np.float32)
        if library.run(made, picture.ctypes.data, 3 if picture.ndim == 3 else 1, threads, out.ctypes.data):
            raise MemoryError("no memory for the maps of one image")
        return out

    finalize(run, library.destroy, made).atexit = False
    return run


def sums(words: Tensor) -> Tensor:
    """Whole numbers of 64 bits, (parts, rows, columns), summed over their rows, by the threads of the program.

    PyTorch's own would go on looking for work for a while, and be in the way of the image that comes next.
    """
    library, _ = program()
    parts, rows, columns = words.shape
    out = torch.empty(parts, columns, dtype=torch.int64)
    library.sums(words.data_ptr(), parts, rows, columns, callers_threads(), out.data_ptr())
    return out


def fits(architecture: Architecture) -> bool:
    """Whether vectors of up to 32 numbers fill the channels that are computed side by side."""
    filtered = [
        w for w, heads in zip(architecture.spectral_widths, architecture.spectral_heads, strict=True) if not heads
    ]
    hidden = [w * r for w, r in zip(architecture.spectral_widths, architecture.spectral_mlp_ratios, strict=True)]
    return not any(width % 32 for width in (*filtered, *hidden, *architecture.waterfall_widths)) and (
        architecture.waterfall_key_dim % 16 == 0
    )


def flat(architecture: Architecture) -> Iterator[int]:
    """`Numbers` of network.cpp behind the image's size."""
    yield architecture.stem_width
    yield from (*architecture.spectral_widths, *architecture.spectral_mlp_ratios, *architecture.spectral_heads)
    yield from (*architecture.waterfall_widths, *architecture.waterfall_heads)
    yield from (architecture.waterfall_key_dim, architecture.waterfall_window, architecture.gate == "paper")
    yield from (*architecture.waterfall_kernels, *[0] * 16)[:16]


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
    yield from (layer.weight, layer.bias, torch.tensor([layer.eps]))


def conv(weight: Tensor, bias: Tensor | None) -> Iterator[Tensor]:
    """(outputs, inputs, k, k) as (outputs, k, k, inputs); an image's three channels are filled up to `COLOURS`."""
    if weight.shape[1] == 3:
        weight = F.pad(weight, (0, 0, 0, 0, 0, COLOURS - 3))
    yield weight.permute(0, 2, 3, 1)
    yield torch.zeros(len(weight)) if bias is None else bias


def conv_norm(layer: ConvNorm) -> Iterator[Tensor]:
    yield from conv(*fold(layer.conv, layer.norm))


def depthwise(weight: Tensor, bias: Tensor) -> Iterator[Tensor]:
    """(channels, 1, k, k) as (k, k, channels)."""
    yield from (weight[:, 0].permute(1, 2, 0), bias)


def attention(before: nn.LayerNorm, layer: SelfAttention) -> Iterator[Tensor]:
    yield from norm(before)
    yield from (layer.query.weight, layer.key_value.weight, layer.query.bias, layer.key_value.bias)
    yield from (layer.projection.weight, layer.projection.bias)


def spectral(encoder: SpectralEncoder) -> Iterator[Tensor]:
    convs = encoder.stem.convs
    for layer, batch_norm in zip(list(convs)[0::3], list(convs)[1::3], strict=True):
        yield from conv(*fold(cast(nn.Conv2d, layer), cast(nn.BatchNorm2d, batch_norm)))
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
    weight, bias = fold(layer.depthwise.conv, layer.depthwise.norm)
    weight[:, :, 1, 1] += 1.0  # the residual sum
    yield from depthwise(weight, bias)
    yield from (*conv_norm(layer.expand), *conv_norm(layer.reduce))


def waterfall(encoder: WaterfallEncoder) -> Iterator[Tensor]:
    for layer in list(encoder.patch_embedding)[::2]:
        yield from conv_norm(cast(ConvNorm, layer))
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


@lru_cache(maxsize=1)
def program() -> tuple[ctypes.CDLL, str]:
    """The program, compiled for this processor or as it was kept when it was, and the sha256 of its file.

    A kept file's name ends in that sha256; where they disagree the program is compiled again.

    Raises
    ------
    ConfigError
        There is no C++ compiler, or it does not understand the program.
    """
    command = compiler()
    key = hashlib.sha256("\0".join(command).encode() + taken_for_granted(command))
    for source in sorted(SOURCE.iterdir()):
        key.update(hashlib.sha256(source.read_bytes()).digest())
    folder, stem = Path(constants.HF_HOME) / "tiny-biomoe", f"native-{key.hexdigest()[:32]}"
    for kept in sorted(folder.glob(f"{stem}-*.so")):
        digest = hashlib.sha256(kept.read_bytes()).hexdigest()
        if kept.name == f"{stem}-{digest}.so":
            return opened(kept), digest
    with tempfile.TemporaryDirectory() as place:
        built = Path(place) / "native.so"
        done = subprocess.run([*command, str(SOURCE / "network.cpp"), "-o", str(built)], capture_output=True, text=True)
        if done.returncode:
            raise ConfigError(f"compile=True: {command[0]} failed: {done.stderr.strip()[-500:]}")
        data = built.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        kept = folder / f"{stem}-{digest}.so"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(kept, data)
        except OSError as error:
            warnings.warn(f"the compiled program could not be kept for the next time ({error})", stacklevel=2)
            kept = built
        return opened(kept), digest


def compiler() -> list[str]:
    """The command that compiles, but for its input and output; `CXX` may name it, with options of its own."""
    words = shlex.split(os.environ.get("CXX", "")) or [c for c in ("c++", "g++", "clang++") if shutil.which(c)][:1]
    if not words or shutil.which(words[0]) is None:
        raise ConfigError("compile=True needs a C++ compiler on a CPU: c++, g++, clang++, or what CXX names")
    processor = "-march=native" if platform.machine().lower() in ("x86_64", "amd64") else "-mcpu=native"
    return [words[0], *FLAGS, processor, *words[1:]]


def taken_for_granted(command: list[str]) -> bytes:
    """Every macro that the compiler defines by itself: its version, and the abilities of the processor."""
    return subprocess.run([*command, "-E", "-dM", "-x", "c++", os.devnull], capture_output=True).stdout


def opened(path: Path) -> ctypes.CDLL:
    """The program's functions, with the types of what they take."""
    library, pointer = ctypes.CDLL(str(path)), ctypes.c_void_p
    library.build.restype = pointer
    library.build.argtypes = [pointer, pointer, ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_long]
    library.run.argtypes = [pointer, pointer, ctypes.c_int, ctypes.c_int, pointer]
    library.sums.argtypes = [pointer, ctypes.c_int, ctypes.c_long, ctypes.c_long, ctypes.c_int, pointer]
    library.destroy.argtypes = [pointer]
    library.sums.restype = library.destroy.restype = None
    return library
