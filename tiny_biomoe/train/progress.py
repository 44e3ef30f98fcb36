"""How far a long computation is: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

PAUSE = 10.0  # seconds between two lines in a log


class Progress:
    """Of `total` steps; shown on standard error where `shown`.

    Parameters
    ----------
    what, unit : what is done, and what it is counted in
    begin : steps that were done before, by a run that this one resumes
    """

    def __init__(self, what: str, unit: str, total: int, shown: bool, begin: int = 0):
        self.what, self.unit, self.total, self.begin = what, unit, total, begin
        self.lines = shown and not sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=begin, desc=what, unit=unit, disable=not shown or self.lines)
        self.started = time.monotonic()
        self.last = -PAUSE + self.started

    def __enter__(self) -> Progress:
        if self.lines:
            at = f" from {self.unit} {self.begin + 1}" if self.begin else ""
            self._line(f"{self.total} {self.unit}s{at}")
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.close()

    def to(self, done: int, values: Mapping[str, float] | None = None) -> None:
        """So many steps are done; `values` are shown beside them."""
        shown = {name: f"{value:.3f}" for name, value in (values or {}).items()}
        self.bar.set_postfix(shown)
        self.bar.update(done - self.bar.n if not self.bar.disable else 0)
        now = time.monotonic()
        if self.lines and (done == self.total or now - self.last >= PAUSE):
            self.last = now
            left = (now - self.started) / max(1, done - self.begin) * (self.total - done)
            facts = ", ".join([f"{name} {value}" for name, value in shown.items()] + [f"{left:.0f} s left"])
            self._line(f"{self.unit} {done} of {self.total}: {facts}")

    def _line(self, text: str) -> None:
        print(f"{self.what}: {text}", file=sys.stderr, flush=True)
