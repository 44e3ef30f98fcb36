"""Work in a process that is killed on the way."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path


def kill_at(checkpoint: str, folder: Path, work: Callable[..., object], *arguments: object, **options: object) -> None:
    """Begin `work` in a forked process, with all that is loaded here, and kill it once a file of that name is there."""
    process = get_context("fork").Process(target=work, args=arguments, kwargs=options)
    process.start()
    while process.is_alive() and not list(folder.glob(checkpoint)):
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL  # it had not finished
