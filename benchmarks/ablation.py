"""What each objective of pretraining is worth: short runs that differ in one thing, on small images, by linear probe.

`python benchmarks/ablation.py --archives FOLDER --out FOLDER` trains every variant for the same number of steps (a run
that was killed goes on), probes it on the held-out halves of the three pretraining tasks, and writes OUT/ablation.md.
Choices are made by this table and never by the bench on other people's recordings.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from tiny_biomoe.config import Config
from tiny_biomoe.network import Network
from tiny_biomoe.representations import REPRESENTATIONS
from tiny_biomoe.runtime import to_pixels
from tiny_biomoe.train.archives import Task, load_tasks
from tiny_biomoe.train.draws import Augmentation, draw_window, evaluation_windows
from tiny_biomoe.train.growth import shrink
from tiny_biomoe.train.multitask import Settings, train
from tiny_biomoe.train.probe import fitted_score
from tiny_biomoe.train.reading import Objectives

SIZE = 112
AS_RECORDED = Augmentation(noise_share=0, flip_share=0, drift_share=0, person_scale_share=0, disguise_share=0)
LABELS_ALONE = Settings(
    image_size=SIZE, learning_rate=1e-3, threads=1, objectives=Objectives(0, 0, 0), augmentation=AS_RECORDED
)
VARIANTS = {
    "labels alone": LABELS_ALONE,
    "+ 32 descriptors": replace(LABELS_ALONE, objectives=Objectives(shares=0, encoders=0)),
    "+ 126 shares of patterns": replace(LABELS_ALONE, objectives=Objectives(encoders=0)),
    "+ both encoders read by themselves": replace(LABELS_ALONE, objectives=Objectives()),
    "+ noise, drift, flips, the person's scale": replace(
        LABELS_ALONE, objectives=Objectives(), augmentation=Augmentation(disguise_share=0)
    ),
    "+ half the windows as another modality": replace(
        LABELS_ALONE, objectives=Objectives(), augmentation=Augmentation()
    ),
}
WINDOWS = {"ecg": (300, 400), "emg": (440, 440), "eeg": (300, 266)}  # to fit on, to score on
BATCH = 24  # images at once


@click.command()
@click.option("--archives", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--steps", default=1200, show_default=True)
def main(archives: Path, out: Path, steps: int) -> None:
    """Train and probe every variant, and the untrained network beside them."""
    tasks = load_tasks(archives, out / "data")
    torch.manual_seed(0)
    scores = {"untrained": probe(Network(Config(), SIZE).eval(), tasks, out)}
    for number, (name, settings) in enumerate(VARIANTS.items()):
        network = train(tasks, out / f"variant{number}", replace(settings, steps=steps))
        scores[name] = probe(network, tasks, out)
        report(scores, steps, out / "ablation.md")


def probe(network: Network, tasks: list[Task], cache: Path) -> dict[str, float]:
    """Balanced accuracy on held-out people, the mean over the six representations and all six side by side."""
    scores = {}
    for task in tasks:
        (x_fit, y_fit), (x_test, y_test) = (embedded(network, task, held_out, cache) for held_out in (False, True))
        columns = [slice(index, index + 1) for index in range(len(REPRESENTATIONS))] + [slice(None)]
        found = [fitted_score(x_fit[:, part], y_fit, x_test[:, part], y_test) for part in columns]
        scores[f"{task.name}, mean of one"], scores[f"{task.name}, all six"] = float(np.mean(found[:-1])), found[-1]
    return scores


def embedded(
    network: Network, task: Task, held_out: bool, cache: Path
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings (n, 6, 192) and labels (n,) of windows whose small images are drawn once."""
    windows = evaluation_windows(task, held_out, WINDOWS[task.name][held_out], seed=0)
    path = cache / f"{task.name}-{held_out}.npy"
    if not path.exists():
        drawn = [
            shrink(torch.from_numpy(draw_window(window, task, network.recipe)), SIZE).numpy()
            for _, window in tqdm(windows, desc=f"drawing {task.name}")
        ]
        np.save(path, np.concatenate(drawn))
    images, rows = torch.from_numpy(np.load(path)), []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for batch in images.split(BATCH):
            rows.append(network(to_pixels(batch, "cpu")).float())
    vectors = torch.cat(rows).numpy()
    return vectors.reshape(len(windows), len(REPRESENTATIONS), -1), task.labels[[index for index, _ in windows]]


def report(scores: dict[str, dict[str, float]], steps: int, path: Path) -> None:
    """The table so far, in Markdown, and as JSON beside it."""
    columns = list(next(iter(scores.values())))
    lines = [f"| {steps} steps of 18 small images | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in scores.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in columns) + " |")
    path.write_text("\n".join(lines) + "\n")
    path.with_suffix(".json").write_text(json.dumps(scores, indent=2) + "\n")
    click.echo(path.read_text())


if __name__ == "__main__":
    main()
