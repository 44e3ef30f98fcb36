"""What a training run logs: one row a step in a CSV file, and a picture of it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np


def log_row(path: Path, row: dict[str, float]) -> None:
    """Append one step; the first row is preceded by the names of the columns."""
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" for key, value in row.items()})


def forget_after(path: Path, step: int) -> None:
    """Forget the rows that a killed run logged after its last checkpoint."""
    if path.exists():
        path.write_text("".join(path.read_text().splitlines(keepends=True)[: step + 1]))


def draw_metrics(source: Path, picture: Path) -> None:
    """Loss and accuracy of each task over the steps, smoothed over those that have one, as a picture."""
    from matplotlib.figure import Figure

    with open(source) as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name in (key for key in rows[0] if key.endswith(kind)):
            values = np.array([float(row[name]) for row in rows])
            width = max(1, len(values) // 50)
            known = np.convolve(~np.isnan(values), np.ones(width), "valid")
            smooth = np.convolve(np.nan_to_num(values), np.ones(width), "valid") / np.where(known, known, np.nan)
            axes.plot(np.arange(smooth.size) + width, smooth, label=name.removesuffix(f"_{kind}"))
        axes.set(xlabel="step", ylabel=kind)
        if axes.lines:
            axes.legend()
    figure.savefig(picture, dpi=110)
