"""The network over many images: the bytes of one image's vector depend neither on its neighbours nor on its place."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError
from ..images.rendering import Levels
from .backends import Backend
from .threads import in_threads, thread_count

Vectors = NDArray[np.float32]


def embed_levels(backend: Backend, images: Iterable[Levels], batch_size: int, rows: bool = False) -> Vectors:
    """Run a network over images: (n, embedding_dim), or with `rows` (n, embedding_dim + rows_dim).

    Parameters
    ----------
    images : each (224, 224) levels or (224, 224, 3) RGB, uint8; taken as they are needed
    batch_size : images on the device, or drawn and waiting for it, at once
    rows : whether the vectors of readout "rows" are computed as well, and stand behind the embeddings

    Notes
    -----
    On the CPU a matrix product of several images rounds by their number and place, so each image runs alone, from end
    to end on one thread, and as many at a time as there are threads. A single image is given all threads, where they do
    not change its bytes. An accelerator's batches are filled up to `batch_size`.

    Raises
    ------
    SignalError
        A vector is not finite.
    """
    (vectors,) = embed_in_turn(backend, [images], batch_size, rows)
    return vectors


def embed_in_turn(
    backend: Backend, parts: Iterable[Iterable[Levels]], batch_size: int, rows: bool = False
) -> Generator[Vectors]:
    """`embed_levels` for one set of images after another, in one stream: an array (n, embedding_dim) for each.

    On the CPU the first images of a set are taken while the last ones of that before it are still computed, so no
    thread waits where two sets meet. An accelerator's batch holds images of one set alone.
    """
    if backend.batches:
        yield from (_joined(list(_by_batches(backend, iter(part), batch_size, rows))) for part in parts)
        return
    sizes: deque[int] = deque()  # of the sets that were taken whole and are not given back yet
    vectors: list[Vectors] = []
    for vector in _one_by_one(backend, _taken(parts, sizes), batch_size, rows):
        vectors.append(vector)
        yield from _complete(vectors, sizes)
    yield from _complete(vectors, sizes)  # of no images


def _taken(parts: Iterable[Iterable[Levels]], sizes: deque[int]) -> Iterator[Levels]:
    """The images of all sets, one after another; a set's number of images is noted once it ends."""
    for part in parts:
        size = 0
        for levels in part:
            size += 1
            yield levels[None]
        sizes.append(size)


def _complete(vectors: list[Vectors], sizes: deque[int]) -> Iterator[Vectors]:
    """The sets of which every vector is there, taken from the list."""
    while sizes and sizes[0] <= len(vectors):
        size = sizes.popleft()
        yield _joined(vectors[:size])
        del vectors[:size]


def _one_by_one(backend: Backend, images: Iterator[Levels], batch_size: int, rows: bool) -> Iterator[Vectors]:
    """The vectors of images, each (1, 224, 224[, 3]), in order."""
    first, threads = list(islice(images, 2)), thread_count()
    if len(first) == 1:
        yield backend.run(first[0], threads, rows)
    elif backend.parallel and threads > 1:
        alone = partial(_alone, backend, rows)
        yield from in_threads(alone, chain(first, images), threads, max(batch_size, 2 * threads))
    else:
        yield from map(partial(_alone, backend, rows), chain(first, images))


def _alone(backend: Backend, rows: bool, image: Levels) -> Vectors:
    return backend.run(image, 1, rows)


def _joined(parts: list[Vectors]) -> Vectors:
    vectors = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
    if not np.isfinite(vectors).all():
        raise SignalError(
            "the network gave a vector that is not finite: check the weights with `tiny-biomoe weights verify`"
        )
    return vectors


def _by_batches(backend: Backend, images: Iterator[Levels], batch_size: int, rows: bool) -> Iterator[Vectors]:
    """Every batch filled up to `batch_size`, so that one shape is computed, and its own rows given back."""
    while batch := list(islice(images, batch_size)):
        yield backend.run(np.stack([*batch, *[batch[-1]] * (batch_size - len(batch))]), 1, rows)[: len(batch)]
