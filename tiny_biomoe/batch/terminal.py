"""A run on the terminal: one line while files are hashed, one while windows are embedded, with rate and time left."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm

from .dry_run import Outlook
from .plan import File
from .worker import Observer


class Bar(Observer):
    """How many windows there are shows only when the files are read: until then it is estimated from their bytes."""

    def __init__(self) -> None:
        self._quiet = quiet = not sys.stderr.isatty()
        self._hashing = tqdm(unit="B", unit_scale=True, desc="hashing", leave=False, disable=quiet)
        self._windows = tqdm(unit="window", desc="embedding", disable=quiet, delay=1)
        self._total = self._done = 0.0  # bytes

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
        if not self._quiet:
            self._windows.reset()

    def found(self, windows: int, input_bytes: float) -> None:
        """Windows of an earlier start count as done, and not for the rate."""
        if not self._quiet:
            self._windows.initial += windows
            self._windows.n += windows
            self._move(0, input_bytes)

    def embedded(self, windows: int, input_bytes: float) -> None:
        """Move the second line on."""
        if not self._quiet:
            self._move(windows, input_bytes)

    def _move(self, windows: int, input_bytes: float) -> None:
        self._done += input_bytes
        if self._done > 0:
            self._windows.total = round((self._windows.n + windows) * max(self._total / self._done, 1.0))
        self._windows.update(windows)
