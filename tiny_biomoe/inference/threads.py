"""How many threads the network may use, and images that are computed by several of them at once."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHOSEN: ContextVar[int | None] = ContextVar("threads", default=None)
_LOCK = Lock()
_pool: tuple[int, ThreadPoolExecutor] | None = None  # of the process, shared by all calls


def processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count() -> int:
    """How many threads the network may use: what `use_threads` says, else PyTorch's number where it is imported, else
    `OMP_NUM_THREADS`, else one a processor.
    """
    if (chosen := _CHOSEN.get()) is not None:
        return chosen
    if (torch := sys.modules.get("torch")) is not None:
        return int(torch.get_num_threads())
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return int(limit) if limit.isdecimal() and int(limit) else processors()


@contextmanager
def use_threads(n: int | None) -> Iterator[int]:
    """Let the network use `n` threads within, or as many as before where that is None; gives the number."""
    token = _CHOSEN.set(thread_count() if n is None else n)
    try:
        yield thread_count()
    finally:
        _CHOSEN.reset(token)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], n: int, ahead: int) -> Iterator[Result]:
    """`map(function, items)`, in order, up to `n` items at a time, each computed by one thread from end to end.

    Parameters
    ----------
    items : taken in the caller's thread while others compute, so that drawing and network overlap
    n : items in work at once; simultaneous calls share one pool of the process, as large as the last of them asked for
    ahead : items taken but not yet given back, at most
    """
    waiting: deque[Future[Result]] = deque()
    pool = _shared_pool(n)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            while len(waiting) >= ahead or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        for future in waiting:
            if not future.cancelled():
                future.exception()  # wait: what is computed reads the caller's arrays


def _shared_pool(n: int) -> ThreadPoolExecutor:
    global _pool
    with _LOCK:
        if _pool is None or _pool[0] != n:
            _pool = n, ThreadPoolExecutor(n, "tiny-biomoe")  # the threads of one that nobody holds any more end
        return _pool[1]


def _without_threads() -> None:
    """A forked process has none of its parent's threads, and nobody there releases a lock that another thread held."""
    global _pool, _LOCK
    _pool, _LOCK = None, Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_without_threads)
