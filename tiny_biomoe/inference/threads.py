"""Threads for one call, and the caller's own again afterwards."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock, local
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


_LOCK = Lock()
_OWN = local()  # how deep this thread is within `threads`
_within: list[int] = []  # for each thread that is within: what the first of them found


def _without_openmp() -> None:
    """A forked process has none of OpenMP's threads but its own, and would wait for the others for ever."""
    _within[:] = [1] if getattr(_OWN, "depth", 0) else []  # only the thread that forked is there
    torch.set_num_threads(1)
    _LOCK.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_without_openmp)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """PyTorch computes with `n` threads within; calls from several threads leave the number that the first one found.

    A number set in one thread is what a new thread starts with, so another call's would be taken for the caller's.
    """
    depth = getattr(_OWN, "depth", 0)
    with _LOCK:
        before = torch.get_num_threads() if depth or not _within else _within[0]
        if not depth:
            _within.append(before)
        torch.set_num_threads(n)
    _OWN.depth = depth + 1
    try:
        yield
    finally:
        _OWN.depth = depth
        with _LOCK:
            if not depth:
                _within.pop()
            torch.set_num_threads(before)


def callers_threads() -> int:
    """How many threads the caller lets PyTorch have, whatever another call computes with at the moment."""
    with _LOCK:
        return torch.get_num_threads() if getattr(_OWN, "depth", 0) or not _within else _within[0]


def in_streams(function: Callable[[Item], Result], items: Iterable[Item], streams: int, ahead: int) -> Iterator[Result]:
    """`map(function, items)`, in order, several items at a time, each computed by one thread from end to end.

    Parameters
    ----------
    items : taken in the caller's thread while the streams compute, so that drawing and network overlap
    streams : items in work at once
    ahead : items taken but not yet given back, at most
    """
    waiting: deque[Future[Result]] = deque()
    with threads(callers_threads()):  # a stream's setting reaches beyond its own thread: undo it at the end
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
