"""A small study of made-up recordings, and a network that takes no time: what runs are tested with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from tiny_biomoe import Config
from tiny_biomoe.embedding import Embedder
from tiny_biomoe.images.rendering import colour
from tiny_biomoe.inference.backends import Backend

START = 1_600_000_000  # unix seconds of every recording
MATRIX = np.random.RandomState(1).standard_normal((192, 3 * 7 * 7)).astype(np.float32)


class Stub(Embedder):
    """A picture's means over 7 x 7 fields times a fixed matrix: different pictures have different vectors."""

    def __init__(self, weights: str = "stub", source: str = "here", precision: str = "float32") -> None:
        super().__init__(Config(weights), Backend("torch", precision, self._run), source, weights, weights)
        self.seen = 0  # pictures

    def _run(self, images: np.ndarray, threads: int, rows: bool = False) -> np.ndarray:
        self.seen += len(images)
        coloured = images if images.ndim == 4 else colour(images)  # pictures, or levels
        fields = coloured.reshape(len(images), 7, 32, 7, 32, 3).mean(axis=(2, 4), dtype=np.float64) / 255
        vectors = (fields.reshape(len(images), -1).astype(np.float32)[:, None] * MATRIX).sum(axis=2)
        return np.concatenate([vectors, *[vectors + 1] * 5, vectors[:, :96] + 2], axis=1) if rows else vectors

    def __reduce__(self) -> tuple[Any, ...]:
        return Stub, (self.config.name, self.source, self.backend.precision)


def pulse(seconds: float, fs: float, pitch: float = 1.2) -> np.ndarray:
    """A periodic signal that drifts a little, so that no two windows are alike."""
    t = np.arange(round(seconds * fs)) / fs
    return np.sin(2 * np.pi * (pitch + 0.002 * t) * t) + 0.01 * t


def e4(path: Path, signal: np.ndarray, fs: float) -> Path:
    """Write an Empatica E4 export, whose name says what it holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([f"{START}.0", f"{fs:.1f}", *(f"{value:.5f}" for value in signal)]) + "\n")
    return path


def make_study(folder: Path) -> Path:
    """Two people with two sensors each: 24 windows of 10 s, of which one is flat; a file that is none; a note."""
    for person, name in enumerate(("S01", "S02")):
        eda = 2 + pulse(60, 4, 0.05 + person / 50)
        if name == "S02":
            eda[4 * 20 : 4 * 30] = 2.5
        e4(folder / name / "BVP.csv", pulse(60, 64, 1.2 + person / 10), 64)
        e4(folder / name / "EDA.csv", eda, 4)
    (folder / "bad.csv").write_text("1\n2\nthree\n")
    (folder / "README.md").write_text("a note\n")
    return folder


def digests(out: Path) -> dict[str, str]:
    """sha256 of every file of a complete run that readers see, and of the records behind the shards."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name not in ("pid", "lock", "root")]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}
