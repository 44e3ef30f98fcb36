"""Reading, drawing and the network at the same time, in an order that no timing can change.

A thread reads and filters, worker processes draw, and whoever asks for the drawn windows runs the network meanwhile.
What waits between two stages is bounded, so memory does not grow with the number of windows.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from ..errors import TinyBioMoEError
from ..images.windows import Pictures, draw_windows
from .segments import Chunk
from .shards import Notice
from .study_changes import KeptWindow

AHEAD = 4  # chunks, a worker, that wait to be embedded
TRIES = 3  # times that a chunk is drawn before its workers' deaths count as its own doing


class Drawers:
    """Those who draw: `workers` processes, or a thread of this one where that is 0.

    A process that is killed, by the system for want of memory or by hand, is replaced and its work done again.
    """

    def __init__(self, workers: int) -> None:
        self.depth = AHEAD * max(workers, 1)
        self._workers = workers
        self._lock = threading.Lock()
        self._executor = self._start()

    def _start(self) -> Executor:
        if not self._workers:
            return ThreadPoolExecutor(1)
        return ProcessPoolExecutor(self._workers, multiprocessing.get_context("spawn"), _leave_with_parent)

    def submit(self, chunk: Chunk) -> Future[list[Pictures | str]]:
        """Begin to draw a chunk."""
        with self._lock:
            try:
                return self._executor.submit(draw_windows, *chunk.job())
            except BrokenExecutor:
                self._executor = self._start()
                return self._executor.submit(draw_windows, *chunk.job())

    def result(self, chunk: Chunk, future: Future[list[Pictures | str]]) -> list[Pictures | str]:
        """What was drawn, by another worker where one died.

        Raises
        ------
        TinyBioMoEError
            Workers died over this chunk again and again.
        """
        for _ in range(TRIES - 1):
            try:
                return future.result()
            except BrokenExecutor:
                future = self.submit(chunk)
        try:
            return future.result()
        except BrokenExecutor as error:
            raise TinyBioMoEError(
                f"{chunk.segment.filtered.where}: a worker died {TRIES} times over it, perhaps for want of memory: "
                "free some, or draw within this process, workers=0 (--workers 0)"
            ) from error

    def close(self) -> None:
        """Let the workers go."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _leave_with_parent() -> None:
    """Of a worker: leave Ctrl-C to the parent, and leave when the parent is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Pipeline:
    """`stream`, with reading and drawing ahead of whoever iterates: chunks with what was drawn, and all else."""

    def __init__(self, source: Iterator[Chunk | KeptWindow | Notice], drawers: Drawers) -> None:
        self._drawers = drawers
        self._source = source
        self._queue: queue.Queue[tuple[Any, Any]] = queue.Queue(drawers.depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=copy_context().run, args=(self._read,), daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for each in self._source:
                future = self._drawers.submit(each) if isinstance(each, Chunk) else None
                if not self._put((each, future)):
                    return
            self._put((None, None))
        except BaseException as error:  # whatever it is, it is raised where the results are read, by `__iter__`
            self._put((error, None))

    def _put(self, item: tuple[Any, Any]) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[KeptWindow | Notice | tuple[Chunk, list[Pictures | str]]]:
        while True:
            item, future = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item if future is None else (item, self._drawers.result(item, future))

    def close(self) -> None:
        """Stop reading ahead."""
        self._closed.set()
        self._thread.join()
