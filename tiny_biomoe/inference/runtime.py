"""The network over many images: colour on the device, and batches that do not change a byte of the result."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain, islice
from threading import RLock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import ConfigError, SignalError
from ..images.rendering import PALETTE, Levels
from ..signals.quality import Quality
from .engine import Engine, FastCopy, current_copy, exactly, fast_copy, kept_copy
from .fast_threads import Run
from .threads import callers_threads, in_streams, threads


@dataclass(frozen=True)
class WindowEmbeddings:
    """What `TinyBioMoE.embed_windows` gives: row i belongs to the window from `starts[i]` to `stops[i]`."""

    embeddings: NDArray[np.float32]  # (n, 192)
    starts: NDArray[np.float64]  # (n,), seconds from the recording's first sample
    stops: NDArray[np.float64]  # (n,), seconds
    missing: NDArray[np.float64]  # (n,), share of samples that were interpolated
    flat: NDArray[np.float64]  # (n,), share of samples equal to the one before
    clipped: NDArray[np.float64]  # (n,), share of samples resting on the window's extremes
    provenance: dict[str, Any]

    @classmethod
    def of(
        cls,
        vectors: NDArray[np.float32],
        spans: list[tuple[int, int]],
        fs: float,
        qualities: list[Quality],
        provenance: dict[str, Any],
    ) -> WindowEmbeddings:
        """From spans in samples and one quality a window."""
        times = np.array(spans, np.float64).reshape(-1, 2) / fs
        shares = np.array([(q.missing, q.flat, q.clipped) for q in qualities], np.float64).reshape(-1, 3)
        return cls(vectors, times[:, 0], times[:, 1], shares[:, 0], shares[:, 1], shares[:, 2], provenance)


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
        return (levels.to(device).float() / 255).permute(0, 3, 1, 2)
    palette = torch.tensor(PALETTE, device=device).float() / 255  # (256, 3)
    return palette[levels.to(device).int()].permute(0, 3, 1, 2)


def embed_levels(network: nn.Module, images: Iterable[Levels], batch_size: int) -> NDArray[np.float32]:
    """Run a network over images, in eval mode and without gradients: (n, embedding_dim).

    Parameters
    ----------
    images : each (224, 224) levels or (224, 224, 3) RGB, uint8; taken as they are needed
    batch_size : images on the device, or drawn and waiting for it, at once

    Notes
    -----
    The bytes of one image's vector depend neither on its neighbours nor on its place. On the CPU a matrix product of
    several images rounds by their number and place, so each image runs alone, from end to end on one thread, and as
    many at a time as there are threads. A single image is given more threads, where they do not change its bytes.
    Elsewhere every batch is filled up to `batch_size`.

    Raises
    ------
    ConfigError
        An engine is asked for that the network, not being the usual one, cannot have; or weights are not of 32 bits.
    SignalError
        A vector is not finite.
    """
    (vectors,) = embed_in_turn(network, [images], batch_size)
    return vectors


def embed_in_turn(
    network: nn.Module, parts: Iterable[Iterable[Levels]], batch_size: int
) -> Generator[NDArray[np.float32]]:
    """`embed_levels` for one set of images after another, in one stream: an array (n, embedding_dim) for each.

    On the CPU the first images of a set are taken while the last ones of that before it are still computed, so no
    thread waits where two sets meet. Elsewhere a batch holds images of one set alone, so that each set has its own.
    Two such generators open in one thread must be closed in the opposite order.
    """
    weight = next(network.parameters())
    device = weight.device
    if weight.dtype != torch.float32:
        raise ConfigError(
            f"the model's weights are {weight.dtype}, and embedding takes torch.float32: model.float() gives them; "
            'precision="bfloat16" of from_pretrained is for speed'
        )
    if device.type != "cpu":
        fast = _fast_or_plain(network)
        run = fast.run if fast else _as_it_is(network, device)
        yield from (_joined(list(_by_batches(run, iter(part), batch_size))) for part in parts)
        return
    sizes: deque[int] = deque()  # of the sets that were taken whole and are not given back yet
    rows: list[NDArray[np.float32]] = []
    for row in _one_by_one(network, _taken(parts, sizes), batch_size):
        rows.append(row)
        yield from _complete(rows, sizes)
    yield from _complete(rows, sizes)  # of no images


def _taken(parts: Iterable[Iterable[Levels]], sizes: deque[int]) -> Iterator[Levels]:
    """The images of all sets, one after another; a set's number of images is noted once it ends."""
    for part in parts:
        size = 0
        for levels in part:
            size += 1
            yield levels[None]
        sizes.append(size)


def _complete(rows: list[NDArray[np.float32]], sizes: deque[int]) -> Iterator[NDArray[np.float32]]:
    """The sets of which every row is there, taken from the rows."""
    while sizes and sizes[0] <= len(rows):
        size = sizes.popleft()
        yield _joined(rows[:size])
        del rows[:size]


def _fast_or_plain(network: nn.Module) -> FastCopy | None:
    """The network's fast copy; None where it is to be run as it is, and no engine asks for more."""
    fast, engine = fast_copy(network), getattr(network, "engine", Engine())
    if fast is None and engine.needs_copy:
        raise ConfigError(
            f"{engine} cannot run this network, which has a hook, another layer, an own forward or another dtype: "
            "take that away, or set model.engine = Engine() (from tiny_biomoe.inference.engine) to run it as it is"
        )
    return fast


def _one_by_one(network: nn.Module, images: Iterator[Levels], batch_size: int) -> Iterator[NDArray[np.float32]]:
    first = list(islice(images, 2))
    if len(first) == 1:
        yield _alone(network, first[0])
    elif fast := _fast_or_plain(network):
        streams = callers_threads()
        yield from in_streams(fast.run, chain(first, images), streams, max(batch_size, 2 * streams))
    else:
        yield from map(_as_it_is(network, torch.device("cpu")), chain(first, images))


def _alone(network: nn.Module, image: Levels) -> NDArray[np.float32]:
    """One image's vector. Where that is possible helpers begin with it while it is looked whether a weight changed."""
    kept = kept_copy(network)
    with kept.begin(image) if kept else nullcontext() as vector:
        if vector and current_copy(network) is kept:
            return vector()
    fast = _fast_or_plain(network)
    if fast is None:
        return _as_it_is(network, torch.device("cpu"))(image)
    with threads(fast.threads_for_one()):
        return fast.run(image)


def _joined(rows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    vectors = np.concatenate(rows) if rows else np.empty((0, 0), np.float32)
    if not np.isfinite(vectors).all():
        raise SignalError(
            "the network gave a vector that is not finite: check the weights with `tiny-biomoe weights verify`"
        )
    return vectors


def _by_batches(run: Run, images: Iterator[Levels], batch_size: int) -> Iterator[NDArray[np.float32]]:
    """Every batch filled up to `batch_size`, so that one shape is computed, and its own rows given back."""
    while batch := list(islice(images, batch_size)):
        yield run(np.stack([*batch, *[batch[-1]] * (batch_size - len(batch))]))[: len(batch)]


_MODES = RLock()  # of modules, which two calls must not switch at once


def _as_it_is(network: nn.Module, device: torch.device) -> Run:
    """The plain network, in eval mode, without gradients."""

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with _MODES, evaluating(network), exactly(device):
            return network(to_pixels(torch.from_numpy(images), device)).cpu().numpy()

    return run


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
