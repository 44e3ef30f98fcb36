"""What the tests of pretraining share: recordings of two classes that differ in pitch, and a short run's settings."""

from __future__ import annotations

import numpy as np

from pretraining.archives import Task
from pretraining.multitask import Settings

QUICK = Settings(steps=4, images=6, threads=1, precision="float32")


def toy_task(name: str = "ecg", fs: float = 100.0) -> Task:
    """Twelve recordings of two classes that differ in pitch, three held out."""
    t = np.arange(600) / fs
    rng = np.random.default_rng(0)
    rows = [np.sin(2 * np.pi * (2 + 6 * (i % 2)) * t + i) + 0.1 * rng.standard_normal(t.size) for i in range(12)]
    return Task(
        name, fs, ("slow", "fast"), (2.0, 5.0), 4.0, np.concatenate(rows).astype(np.float32),
        np.arange(13) * t.size, np.arange(12) % 2, np.arange(12) // 2, np.arange(12) >= 9,
    )  # fmt: skip
