"""Threads for one call, and the caller's own again afterwards."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def threads(n: int) -> Iterator[None]:
    """PyTorch computes with `n` threads within."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_streams(function: Callable[[Item], Result], items: Iterable[Item], streams: int, ahead: int) -> Iterator[Result]:
    """`map(function, items)`, in order, several items at a time, each computed by one thread from end to end.

    Parameters
    ----------
    items : taken in the caller's thread while the streams compute, so that drawing and network overlap
    streams : items in work at once
    ahead : items taken but not yet given back, at most
    """
    waiting: deque[Future[Result]] = deque()
    with threads(torch.get_num_threads()):  # a stream's setting reaches beyond its own thread: undo it at the end
        pool = ThreadPoolExecutor(streams, "tiny-biomoe", torch.set_num_threads, (1,))
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                while len(waiting) >= ahead or (waiting and waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
