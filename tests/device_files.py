"""Real files of devices, which lie beside the repository and not in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from tiny_biomoe.readers.formats import FORMATS, recognise
from tiny_biomoe.readers.recording import Channel, Options

DEVICES = ROOT.parent / "shared" / "data" / "devices"


def device(name: str) -> Path:
    """A real file; the test is skipped where there is none."""
    path = DEVICES / name
    if not path.exists():
        pytest.skip(f"no real file {path}")
    return path


def listed(path: Path, **options: object) -> list[Channel]:
    """All that a file's reader gives, before it is judged which channels are signals."""
    return FORMATS[recognise(path)].read(path, Options(**options))  # type: ignore[arg-type]


def channels(path: Path, **options: object) -> dict[str, Channel]:
    """The same by name."""
    return {each.name: each for each in listed(path, **options)}
