"""Real files of devices, which lie beside the repository and not in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from tiny_biomoe.errors import TinyBioMoEError
from tiny_biomoe.readers.channel import Channel, Options
from tiny_biomoe.readers.formats import FORMATS, recognise
from tiny_biomoe.readers.read import read

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


def faults_of_damage(path: Path, rng: np.random.Generator, count: int = 40) -> list[object]:
    """Damage a file in many ways: what is neither a signal nor a short error of ours that names it."""
    whole, name, faults = path.read_bytes(), recognise(path), []
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            at, length = int(rng.integers(max(len(data), 1))), int(rng.integers(1, 20))
            change = [rng.bytes(1), b"", rng.bytes(length), bytes(length), b"9", b"-"][rng.integers(6)]
            data[at : at + [1, length][rng.integers(2)]] = change
        path.write_bytes(data or b"x")
        try:
            found = read(path, format=name, on_hole="split", on_jitter="resample")
        except TinyBioMoEError as error:
            faults += [text for text in [str(error)] if path.name not in text or len(text) > 1500]
        else:
            faults += [each for each in found if each.signal.dtype != np.float64 or not 0 < each.fs < np.inf]
    path.write_bytes(whole)
    return faults
