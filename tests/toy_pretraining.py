"""What the tests of pretraining share: recordings of two classes that differ in pitch, and a short run's settings."""

from __future__ import annotations

import numpy as np
from toy_training import TINY

from pretraining.archives import Task
from pretraining.late import KeptMaps
from pretraining.multitask import Settings
from pretraining.sources import Row, Source, gather

QUICK = Settings(steps=4, images=6, image_size=112, threads=1, precision="float32", architecture=TINY)


def toy_task(name: str = "ecg", fs: float = 100.0) -> Task:
    """Twelve recordings of two classes that differ in pitch, three held out."""
    t = np.arange(600) / fs
    rng = np.random.default_rng(0)
    rows = [np.sin(2 * np.pi * (2 + 6 * (i % 2)) * t + i) + 0.1 * rng.standard_normal(t.size) for i in range(12)]
    return Task(
        name, fs, ("slow", "fast"), (2.0, 5.0), 4.0, np.concatenate(rows).astype(np.float32),
        np.arange(13) * t.size, np.arange(12) % 2, np.arange(12) // 2, np.arange(12) >= 9,
    )  # fmt: skip


def toy_source(modality: str = "resp", fs: float = 8.0, classes: tuple[str, ...] = ("slow", "fast")) -> Source:
    """Eight recordings of two classes that differ in rate, of four people, the last one held out."""
    t = np.arange(round(120 * fs)) / fs
    rng = np.random.default_rng(0)
    rows = [
        Row(
            np.sin(2 * np.pi * (0.15 + 0.15 * (i % 2)) * t + i) + 0.1 * rng.standard_normal(t.size),
            i // 2,
            i % 2,
            i >= 6,
        )
        for i in range(8)
    ]
    return gather(f"toy-{modality}", modality, fs, classes, (15.0, 40.0), 32.0, rows, 128.0)


def toy_maps(count: int = 24) -> KeptMaps:
    """Kept maps of noise."""
    rng = np.random.default_rng(1)
    grids, maps = (rng.standard_normal((count, *shape)) for shape in ((7, 7, 96), (96, 4, 4)))
    return KeptMaps(grids.astype(np.float16), maps.astype(np.float16))
