"""Real files of devices, which lie beside the repository and not in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

DEVICES = ROOT.parent / "shared" / "data" / "devices"


def device(name: str) -> Path:
    """A real file; the test is skipped where there is none."""
    path = DEVICES / name
    if not path.exists():
        pytest.skip(f"no real file {path}")
    return path
