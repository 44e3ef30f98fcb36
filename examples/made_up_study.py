"""Make up a study to try things on: skin conductance of eight people at rest and during a task.

    python examples/made_up_study.py recordings      # and how many people, if not eight

Every person gets a folder with `EDA.csv`, as an Empatica E4 writes it (4 Hz), and `events.csv` (onset and duration in
seconds, label). People differ in level and in how often their skin responds; during the task it responds more often.
No number in it was measured on anybody.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

RATE = 4  # Hz
PART = 120  # seconds at rest, and as many of the task
BEGAN = 1_700_000_000  # unix seconds


def skin_conductance(level: float, responses: list[float]) -> np.ndarray:
    """Microsiemens: a level that drifts, and a response that rises in a second and decays in five at each instant."""
    t = np.arange(2 * PART * RATE) / RATE
    signal = level + 0.2 * np.sin(2 * np.pi * t / 200)
    for instant in responses:
        since = np.clip(t - instant, 0, None)
        signal += 0.4 * (np.exp(-since / 5) - np.exp(-since / 1))
    return signal


def write(folder: Path, people: int = 8, seed: int = 0) -> None:
    """Write the recordings and events of so many people."""
    rng = np.random.default_rng(seed)
    for person in range(1, people + 1):
        place = folder / f"S{person:02d}"
        place.mkdir(parents=True, exist_ok=True)
        pause = rng.uniform(14, 22)  # seconds from one response to the next, at rest
        responses, now = [], 0.0
        while (now := now + rng.uniform(0.7, 1.3) * (pause if now < PART else pause / 2)) < 2 * PART:
            responses.append(now)
        signal = skin_conductance(rng.uniform(2, 9), responses) + 0.005 * rng.standard_normal(2 * PART * RATE)
        samples = "".join(f"{value:.6f}\n" for value in signal)
        (place / "EDA.csv").write_text(f"{BEGAN + 3600 * person:.2f}\n{RATE:.6f}\n{samples}")
        (place / "events.csv").write_text(f"onset,duration,label\n0,{PART},rest\n{PART},{PART},task\n")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "recordings"), *map(int, sys.argv[2:3]))
