"""What each objective of pretraining is worth: short runs that differ in one thing, on small images, by linear probe.

`python benchmarks/ablation.py --archives FOLDER --out FOLDER` trains every variant with every seed for the same number
of steps, probes it on the held-out halves of the three pretraining tasks, and writes OUT/ablation.md. A run that was
killed goes on; runs of other seeds may go on beside it, into the same folder.
Choices are made by this table and never by the bench on other people's recordings.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a file: its neighbours are pretraining.<name>

from pretraining.archives import Task, load_tasks
from pretraining.batches import Augmentation, TrainingBatches, draw_window, evaluation_windows
from pretraining.growth import shrink
from pretraining.multitask import Settings, train
from pretraining.objectives import Objectives
from pretraining.precision import quick_precision
from pretraining.probe import fitted_score
from pretraining.profiles import BANDS
from tiny_biomoe.config import Config
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.inference.torch_backend import to_pixels
from tiny_biomoe.network.network import Network

SIZE = 112
AS_RECORDED = Augmentation(
    noise_share=0, flip_share=0, drift_share=0, person_scale_share=0, made_share=0, disguise_share=0
)
EVERYTHING = Settings(image_size=SIZE, learning_rate=1e-3, threads=1, augmentation=Augmentation(disguise_share=0.5))
VARIANTS = {
    "everything": EVERYTHING,
    "without the fine profile": replace(EVERYTHING, objectives=Objectives(profile=0)),
    "without the shares of bands": replace(EVERYTHING, objectives=Objectives(spectrum=0)),
    "without other guises": replace(EVERYTHING, augmentation=Augmentation()),
    "without made windows": replace(EVERYTHING, augmentation=replace(EVERYTHING.augmentation, made_share=0)),
    "without descriptors": replace(EVERYTHING, objectives=Objectives(descriptors=0)),
    "without noise, drift, flips, the person's scale": replace(
        EVERYTHING, augmentation=replace(AS_RECORDED, made_share=0.25, disguise_share=0.5)
    ),
    "labels alone": replace(EVERYTHING, objectives=Objectives(0, 0, 0), augmentation=AS_RECORDED),
}
GUISES = {False: 120, True: 80}  # batches of 18 windows of training and of held-out people, shown as any modality
PEAK = 0.6  # log10 of power over its neighbourhood's, from which a window has a rhythm
WINDOWS = {"ecg": (300, 400), "emg": (440, 440), "eeg": (300, 266)}  # to fit on, to score on
BATCH = 24  # images at once
Guises = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]  # vectors, representations, peaks


@click.command()
@click.option("--archives", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--steps", default=600, show_default=True)
@click.option(
    "--seed", "seeds", default=(1, 2, 3), show_default=True, multiple=True, help="May be given several times."
)
def main(archives: Path, out: Path, steps: int, seeds: tuple[int, ...]) -> None:
    """Train and probe every variant with every seed, and the untrained network beside them."""
    tasks = load_tasks(archives, out / "data")
    for name, settings in VARIANTS.items():
        for seed in seeds:
            torch.manual_seed(seed)
            score_once(out / f"scores-{steps}" / f"untrained-{seed}.json", tasks, Network(Config(), SIZE).eval)
            folder = f"{name}-{seed}".replace(" ", "-").replace(",", "").replace("'", "")
            wanted = replace(settings, steps=steps, seed=seed)
            score_once(out / f"scores-{steps}" / f"{folder}.json", tasks, partial(train, tasks, out / folder, wanted))
            report(out, steps)


def score_once(path: Path, tasks: list[Task], network: Callable[[], Network]) -> None:
    """What `probe` gives, kept in `path`; a run beside this one may have left it there already."""
    if path.exists():
        return
    path.parent.mkdir(exist_ok=True)
    scores = probe(network(), tasks, path.parents[1])
    whole = path.with_suffix(f".{os.getpid()}")
    whole.write_text(json.dumps(scores, indent=2) + "\n")
    whole.replace(path)  # a run beside this one reads every score that is there


def probe(network: Network, tasks: list[Task], cache: Path) -> dict[str, float]:
    """Balanced accuracy on held-out people: of the labels, the mean over the six representations and all six side by
    side; and of the rate (terciles) of rhythmic windows in another guise, the mean over representations."""
    scores = {}
    for task in tasks:
        (x_fit, y_fit), (x_test, y_test) = (embedded(network, task, held_out, cache) for held_out in (False, True))
        columns = [slice(index, index + 1) for index in range(len(REPRESENTATIONS))] + [slice(None)]
        found = [fitted_score(x_fit[:, part], y_fit, x_test[:, part], y_test) for part in columns]
        scores[f"{task.name}, mean of one"], scores[f"{task.name}, all six"] = float(np.mean(found[:-1])), found[-1]
    fit, test = (in_guise(network, tasks, held_out, cache) for held_out in (False, True))
    return scores | {"rate in another guise": rate_score(fit, test)}


def rate_score(fit: Guises, test: Guises) -> float:
    """Balanced accuracy of terciles of the peak's band, the mean over representations."""
    found = []
    for index in range(len(REPRESENTATIONS)):
        (x_fit, peaks), (x_test, peaks_test) = ((x[shown == index], p[shown == index]) for x, shown, p in (fit, test))
        cuts = np.quantile(peaks, [1 / 3, 2 / 3])
        found.append(fitted_score(x_fit, np.digitize(peaks, cuts), x_test, np.digitize(peaks_test, cuts)))
    return float(np.mean(found))


def in_guise(network: Network, tasks: list[Task], held_out: bool, cache: Path) -> Guises:
    """Windows of one part of the people, all shown as a modality drawn at random, those with a rhythm: embeddings
    (n, 192), representations (n,) and the band of each that stands out most from its neighbours (n,)."""
    path = cache / f"guise-{held_out}-{GUISES[held_out]}.npz"
    if not path.exists():
        of_half = [replace(task, held_out=task.held_out != held_out) for task in tasks]
        batches = TrainingBatches(of_half, network.recipe, 18, 1, replace(AS_RECORDED, disguise_share=1))
        drawn = [batches[step] for step in tqdm(range(GUISES[held_out]), desc="drawing guises")]
        levels = torch.from_numpy(np.concatenate([batch.levels for batch in drawn]))
        shown = np.concatenate([batch.representations for batch in drawn])
        peaks = np.concatenate([batch.profiles[:, :BANDS] for batch in drawn])
        kept = peaks.max(1) > PEAK
        np.savez(path, images=shrink(levels, SIZE).numpy()[kept], shown=shown[kept], peaks=peaks[kept].argmax(1))
    found = np.load(path)
    return embed(network, found["images"]), found["shown"], found["peaks"]


def embedded(
    network: Network, task: Task, held_out: bool, cache: Path
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings (n, 6, 192) and labels (n,) of windows whose small images are drawn once."""
    windows = evaluation_windows(task, held_out, WINDOWS[task.name][held_out], seed=0)
    path = cache / f"{task.name}-{held_out}-{len(windows)}.npy"
    if not path.exists():
        drawn = [
            shrink(torch.from_numpy(draw_window(window, task, network.recipe)), SIZE).numpy()
            for _, window in tqdm(windows, desc=f"drawing {task.name}")
        ]
        np.save(path, np.concatenate(drawn))
    vectors = embed(network, np.load(path))
    return vectors.reshape(len(windows), len(REPRESENTATIONS), 192), task.labels[[index for index, _ in windows]]


def embed(network: Network, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embeddings (n, 192) of small images (n, 112, 112)."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=quick_precision() == "bfloat16"):
        rows = [network(to_pixels(batch, "cpu")).float() for batch in torch.from_numpy(images).split(BATCH)]
    return torch.cat(rows).numpy()


def report(out: Path, steps: int) -> None:
    """The table so far, in Markdown: means over seeds, and how far each variant lies from everything, seed by seed."""
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for path in sorted((out / f"scores-{steps}").glob("*.json")):
        name, seed = path.stem.rsplit("-", 1)
        rows.setdefault(name.replace("-", " "), {})[seed] = json.loads(path.read_text())
    whole = rows["everything"]
    columns = list(next(iter(whole.values())))
    lines = [
        f"| {steps} steps of 18 small images | seeds | " + " | ".join(columns) + " | mean | less everything, by seed |",
        "|---" * (len(columns) + 4) + "|",
    ]
    for name, by_seed in rows.items():
        means = [float(np.mean([scores[column] for scores in by_seed.values()])) for column in columns]
        differences = [_mean(by_seed[seed]) - _mean(whole[seed]) for seed in by_seed if seed in whole]
        cells = [f"{mean:.3f}" for mean in [*means, float(np.mean(means))]]
        said = ", ".join(f"{100 * difference:+.1f}" for difference in differences)
        lines.append(f"| {name} | {len(by_seed)} | " + " | ".join(cells) + f" | {said} |")
    (out / "ablation.md").write_text("\n".join(lines) + "\n")
    click.echo((out / "ablation.md").read_text())


def _mean(scores: dict[str, float]) -> float:
    return float(np.mean(list(scores.values())))


if __name__ == "__main__":
    main()
