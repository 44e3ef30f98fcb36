"""How much an embedding knows of the pretraining tasks: a linear probe on people who were held out.

Run it with `python -m pretraining.probe --archives FOLDER --cache FOLDER [--weights FOLDER | --untrained]`.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from pretraining.archives import Task, load_tasks
from pretraining.batches import draw_window, evaluation_windows
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.model import TinyBioMoE, embed_levels

STRENGTHS = [1e-4, 1e-3, 1e-2, 1e-1]  # of the inverse regularisation, chosen by cross-validation in training data


def probe(model: TinyBioMoE, task: Task, training: int, testing: int, seed: int = 0) -> dict[str, float]:
    """Balanced accuracy of a linear probe, for each representation alone and for all six side by side.

    Parameters
    ----------
    model : the frozen embedding model
    task : one of `archives.load_tasks`
    training, testing : windows of the training half that the probe is fitted on, and of the held-out half
    """
    x_train, y_train = _embed(model, task, evaluation_windows(task, False, training, seed))
    x_test, y_test = _embed(model, task, evaluation_windows(task, True, testing, seed))
    scores = {"chance": 1 / len(task.classes), "windows": float(len(y_test))}
    for index, name in enumerate([*REPRESENTATIONS, "all six"]):
        part = slice(index, index + 1) if index < len(REPRESENTATIONS) else slice(None)
        scores[name] = fitted_score(x_train[:, part], y_train, x_test[:, part], y_test)
    return scores


def fitted_score(
    x_train: NDArray[np.float32], y_train: NDArray[np.int64], x_test: NDArray[np.float32], y_test: NDArray[np.int64]
) -> float:
    """Balanced accuracy on the test windows of a linear probe whose strength is chosen within the training windows."""
    logistic = LogisticRegression(max_iter=500, class_weight="balanced")
    search = GridSearchCV(
        make_pipeline(StandardScaler(), logistic),
        {"logisticregression__C": STRENGTHS},
        scoring="balanced_accuracy",
        cv=3,
    )
    search.fit(x_train.reshape(len(x_train), -1), y_train)
    return float(balanced_accuracy_score(y_test, search.predict(x_test.reshape(len(x_test), -1))))


def _embed(
    model: TinyBioMoE, task: Task, windows: list[tuple[int, NDArray[np.float64]]]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings (n, 6, 192) and labels (n,) of windows."""
    images = (image for _, window in tqdm(windows, desc=task.name) for image in draw_window(window, task, model.recipe))
    vectors = embed_levels(model, images, batch_size=len(REPRESENTATIONS))
    return vectors.reshape(len(windows), len(REPRESENTATIONS), -1), task.labels[[index for index, _ in windows]]


@click.command()
@click.option("--archives", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--weights", help="Folder or Hub id; the bundled weights otherwise.")
@click.option("--untrained", is_flag=True, help="The network as it is built, for comparison.")
@click.option("--training", default=500, show_default=True, help="Windows a task to fit on.")
@click.option("--testing", default=300, show_default=True, help="Windows a task to score on.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
def main(
    archives: Path, cache: Path, weights: str | None, untrained: bool, training: int, testing: int, output: Path
) -> None:
    """Score weights on the held-out halves of the three pretraining tasks."""
    torch.manual_seed(0)
    model = TinyBioMoE() if untrained else TinyBioMoE.from_pretrained(weights)
    scores = {task.name: probe(model, task, training, testing) for task in load_tasks(archives, cache)}
    output.write_text(json.dumps({"weights": model.config.name, "scores": scores}, indent=2) + "\n")
    click.echo(output.read_text())


if __name__ == "__main__":
    main()
