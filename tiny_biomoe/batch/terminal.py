"""A run on the terminal: one line while files are hashed, one while windows are embedded, with rate and time left.

Where the output is no terminal but a log, a plain line now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from tqdm import tqdm

from ..errors import counted
from .dry_run import Outlook
from .plan import File
from .worker import Observer

PAUSE = 30.0  # seconds between two lines in a log


class Bar(Observer):
    """How many windows there are shows only when the files are read: until then it is estimated from their bytes."""

    def __init__(self) -> None:
        self._quiet = quiet = not sys.stderr.isatty()
        self._hashing = tqdm(unit="B", unit_scale=True, desc="hashing", leave=False, disable=quiet)
        self._windows = tqdm(unit="window", desc="embedding", disable=quiet, delay=1)
        self._total = self._done = self._before = 0.0  # bytes; those of an earlier start
        self._count = 0  # windows
        self._started = self._said = time.monotonic()

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hashing.close()
        self._windows.close()

    def hashed(self, size: int) -> None:
        """Move the first line on."""
        self._hashing.update(size)

    def planned(self, files: Sequence[File], outlook: Outlook) -> None:
        """Say what becomes of the inputs where a run goes on, and change to the second line."""
        self._hashing.close()
        if not outlook.first:
            print(outlook.table(), file=sys.stderr)
        self._total = sum(file.size for file in files if file.problem is None)
        self._started = self._said = time.monotonic()
        if not self._quiet:
            self._windows.reset()

    def found(self, windows: int, input_bytes: float) -> None:
        """Windows of an earlier start count as done, and not for the rate."""
        self._before += input_bytes
        if not self._quiet:
            self._windows.initial += windows
            self._windows.n += windows
        self._move(0, input_bytes)
        self._count += windows

    def embedded(self, windows: int, input_bytes: float) -> None:
        """Move the second line on, or write one to the log."""
        self._move(windows, input_bytes)
        self._count += windows
        if self._quiet and time.monotonic() - self._said >= PAUSE:
            self._said = time.monotonic()
            share = min(self._done / self._total, 1.0) if self._total else 1.0
            pace = (self._said - self._started) / max(self._done - self._before, 1.0)
            left = max(self._total - self._done, 0.0) * pace
            print(
                f"embedding: {counted(self._count, 'window')}, {share:.0%}, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    def stopping(self) -> None:
        """Say what the run waits for; a signal may come while something else is written, and then it stays unsaid."""
        with suppress(RuntimeError):
            tqdm.write("stopping when the shard at hand is written; Ctrl-C once more stops at once", file=sys.stderr)

    def _move(self, windows: int, input_bytes: float) -> None:
        self._done += input_bytes
        if self._quiet:
            return
        if self._done > 0:
            self._windows.total = round((self._windows.n + windows) * max(self._total / self._done, 1.0))
        self._windows.update(windows)
