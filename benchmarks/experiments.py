"""The paper's Tables 3 to 6 on any data set with people: what pretraining gives, and what fusing images gives.

`python -m benchmarks.experiments --data SP3 --archives FOLDER --out RUN --budget 600` runs cell after cell, goes on
where it was stopped, and writes RUN/tables.md. A cell is one classifier, trained on some people and scored on others.
What a machine cannot do is reduced, for all cells alike, and the tables say by how much: by number (`Reduction`), or,
where the budget, in seconds a cell, does not hold what is left, by epochs and then samples.

Given other weights, a run goes on in the same folder: cells from scratch are kept, and the pretrained ones run anew.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from benchmarks.ai4pain import NAME, load_ai4pain
from benchmarks.datasets import DOWNSTREAM, Dataset, load
from benchmarks.experiment_cells import Cell, Plan, alone_cells, fusion_cells, plan, single_cells
from benchmarks.experiment_tables import by_person, tables
from tiny_biomoe import REPRESENTATIONS, TinyBioMoE
from tiny_biomoe.errors import ConfigError, SignalWarning
from tiny_biomoe.sealed_files import write_whole
from tiny_biomoe.signals.filters import NOTHING_LEFT
from tiny_biomoe.signals.request import Limits
from tiny_biomoe.signals.validation import Signal
from tiny_biomoe.train.augment import NONE
from tiny_biomoe.train.drawing import Window, draw_samples
from tiny_biomoe.train.evaluation import Evaluation
from tiny_biomoe.train.finetuning import finetune
from tiny_biomoe.train.samples import Samples, View
from tiny_biomoe.train.settings import Settings, plain
from tiny_biomoe.version import __version__
from tiny_biomoe.weights.loading import tensor_digest

LAYOUT = f"{NAME}-layout"  # what --data calls another tree of that layout


@dataclass(frozen=True)
class Reduction:
    """What is left out of the paper's experiments by number; the budget may take more."""

    epochs: int | None = None  # of cells that train more than a head; None: as many as the settings say
    windows: int | None = None  # to learn from, a person; None: all
    test_windows: int | None = None  # to score on, a person; None: all
    fusion_part: str = "whole"  # what fusions learn; "head": on frozen embeddings of images that are not varied
    folds: int = 4  # people are divided into; the first is the test part


class Experiments:
    """A run over one data set: its division into people, its budget, and the cells that are done."""

    def __init__(
        self,
        dataset: Dataset,
        pretrained: TinyBioMoE,
        out: Path,
        *,
        budget: float,
        reduction: Reduction = Reduction(),
        settings: Settings = Settings(missing="error"),
        representations: Iterable[str] = tuple(REPRESENTATIONS),
        scale: str = "window",
        device: str = "cpu",
    ):
        self.dataset, self.out, self.budget, self.scale, self.device = dataset, out, budget, scale, device
        self.settings, self.representations, self.reduction = settings, list(representations), reduction
        torch.manual_seed(settings.seed)
        scratch = TinyBioMoE(pretrained.architecture, pretrained.recipe, "scratch")
        self.models = {"scratch": scratch, "pretrained": pretrained}
        self.test = test_people(dataset, reduction.folds)
        sha256 = tensor_digest(pretrained.state_dict())
        self.folders = {"scratch": "scratch", "pretrained": f"pretrained-{sha256[:12]}"}
        for folder in self.folders.values():
            (out / "cells" / folder).mkdir(parents=True, exist_ok=True)
        facts = {
            "data": dataset.name, "classes": list(dataset.classes), "windows": len(dataset.windows), "scale": scale,
            "digests": {modality: dataset.digest(modality) for modality in dataset.modalities},
            "test_people": sorted(self.test), "budget": budget, "settings": plain(asdict(settings)),
            "reduction": asdict(reduction), "representations": self.representations,
            "recipe": plain(asdict(pretrained.recipe)), "scratch_sha256": tensor_digest(scratch.state_dict()),
            "threads": torch.get_num_threads(),
            "device": device, "versions": {
                "tiny-biomoe": __version__, "torch": str(torch.__version__), "numpy": np.__version__
            },
        }  # fmt: skip
        self.facts = self._same_run(facts) | {"weights": pretrained.config.name, "weights_sha256": sha256}
        self.drawn: tuple[Any, Samples, Samples] | None = None  # of the last cell: the next may share them

    def _same_run(self, facts: dict[str, Any]) -> dict[str, Any]:
        """The facts of the run in `out`, which must be this one; a new run measures what an image costs."""
        path = self.out / "run.json"
        if not path.exists():
            facts |= {"second_an_image": self._second_an_image()}
            write_whole(path, json.dumps(facts, indent=2).encode() + b"\n")
            return facts
        theirs: dict[str, Any] = json.loads(path.read_text())
        for key, value in facts.items():
            if theirs.get(key) != value:
                raise ConfigError(
                    f"{self.out} holds a run with {key}={theirs.get(key)!r}, not {value!r}: choose another"
                )
        return theirs

    def _second_an_image(self) -> float:
        """Seconds to learn from one image: the quicker of two epochs over one batch."""
        few = dataclasses.replace(self.dataset, windows=self.dataset.windows[: self.settings.batch_size], held_out=None)
        view = View(self.dataset.modalities[0], self.representations[0])
        samples = self._draw(few, (view,))
        once = dataclasses.replace(self.settings, epochs=1, patience=None)
        seconds = []
        for _ in range(2):
            begin = time.perf_counter()
            finetune(self.models["scratch"], samples, settings=once, device=self.device)
            seconds.append(time.perf_counter() - begin)
        return min(seconds) / len(samples)

    def _draw(self, dataset: Dataset, views: tuple[View, ...]) -> Samples:
        """Windows of a data set as samples; those that cannot be drawn (flat ones) are left out."""
        windows = [
            {m: self._window(s, dataset.fs[m], w.limits[m]) for m, s in w.signals.items()} for w in dataset.windows
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SignalWarning)
            return draw_samples(
                windows, [dataset.classes[w.label] for w in dataset.windows], [w.person for w in dataset.windows],
                views, self.models["scratch"].recipe, classes=dataset.classes, bad="drop",
            )  # fmt: skip

    def _window(self, signal: Signal, fs: float, limits: Limits | None) -> Window:
        """A window at the scale of the run, and what of it is noise beside the recording that it was cut from."""
        if limits is None:  # the recording rests on one value: it has no scale to draw by, and the filter no residue
            return Window(signal, fs, None, True, noise=math.inf if self.scale == "recording" else 0.0)
        noise = NOTHING_LEFT * (limits[1] - limits[0])
        return Window(signal, fs, limits if self.scale == "recording" else None, True, noise)

    def parts(self, cell: Cell) -> tuple[Samples, Samples, dict[str, Any]]:
        """What a cell learns from, what it is scored on, and what was reduced."""
        held_out = np.isin(self.dataset.persons, sorted(self.test))
        train, test = (subset(self.dataset, mask) for mask in (~held_out, held_out))
        kept, asked = (
            part if count is None else part.thin(count)
            for part, count in ((train, self.reduction.windows), (test, self.reduction.test_windows))
        )
        if self._part(cell) == "head":  # each image is embedded once, however many epochs follow
            reduced = Plan(self.settings.epochs, None)
        else:
            reduced = plan(
                len(kept.windows), len(asked.windows), len(set(train.persons)), len(cell.views),
                self.facts["second_an_image"], self.budget, self.reduction.epochs or self.settings.epochs,
            )  # fmt: skip
        if reduced.per_person is not None:
            kept = kept.thin(reduced.per_person)
        which = cell.views, reduced.per_person
        if self.drawn is None or self.drawn[0] != which:
            self.drawn = which, self._draw(kept, cell.views), self._draw(asked, cell.views)
        _, learnt, scored = self.drawn
        return learnt, scored, {
            "epochs": reduced.epochs, "epochs_of": self.settings.epochs, "samples": len(learnt),
            "samples_of": len(train.windows), "test_samples": len(scored), "test_samples_of": len(test.windows),
        }  # fmt: skip

    def _part(self, cell: Cell) -> str:
        """What of the network learns in a cell."""
        return self.settings.part if cell.table in (3, 4) else self.reduction.fusion_part

    def cell(self, cell: Cell) -> dict[str, Any]:
        """Run one cell, or read what it gave."""
        path = self.out / "cells" / self.folders[cell.start] / f"{cell.name}.json"
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text())
            return found
        begin = time.perf_counter()
        learnt, scored, reduced = self.parts(cell)
        part = self._part(cell)
        settings = dataclasses.replace(self.settings, epochs=reduced["epochs"], fusion=cell.fusion, part=part)
        if part == "head":
            settings = dataclasses.replace(settings, augmentation=NONE)
        checkpoints = self.out / "checkpoints" / self.folders[cell.start] / cell.name
        model = self.models[cell.start]
        classifier = finetune(
            model, learnt, settings=settings, out=None if part == "head" else checkpoints, device=self.device
        )
        predicted = classifier.predict_proba(scored).argmax(1)
        result = {
            "table": cell.table, "start": cell.start, "title": cell.title, "fusion": cell.fusion, "part": part,
            "views": [list(view) for view in cell.views],
            **Evaluation.of(scored.labels, predicted, scored.classes).to_dict(), "people": by_person(scored, predicted),
            "train_loss": [row["train_loss"] for row in classifier.history], "reduced": reduced,
            "seconds": time.perf_counter() - begin,
        }  # fmt: skip
        write_whole(path, json.dumps(result, indent=2).encode() + b"\n")
        shutil.rmtree(checkpoints, ignore_errors=True)  # 90 MB that nobody needs any more
        return result

    def run(self) -> str:
        """All cells, Table 3 and 4 side by side first; the tables as text, which is rewritten after each cell."""
        modalities = list(self.dataset.modalities)
        starts = [single_cells(start, modalities, self.representations) for start in ("scratch", "pretrained")]
        results = []
        scores: dict[View, float] = {}
        for cell in (cell for pair in zip(*starts, strict=True) for cell in pair):
            results.append(self.cell(cell))
            if cell.start == "pretrained":
                scores[cell.views[0]] = results[-1]["accuracy"]
            self._tell(cell, results)
        for cell in alone_cells(modalities, self.representations) if self.reduction.fusion_part != "whole" else ():
            results.append(self.cell(cell))
            scores[cell.views[0]] = results[-1]["accuracy"]
            self._tell(cell, results)
        for cell in fusion_cells(modalities, self.representations, scores):
            results.append(self.cell(cell))
            self._tell(cell, results)
        return tables(self.facts, results)

    def _tell(self, cell: Cell, results: list[dict[str, Any]]) -> None:
        write_whole(self.out / "tables.md", tables(self.facts, results).encode())
        click.echo(f"{cell.name}: accuracy {results[-1]['accuracy']:.3f}, {results[-1]['seconds']:.0f} s")


def test_people(dataset: Dataset, folds: int) -> set[str]:
    """Who is scored: those whom the data set holds out, or one of so many folds by person."""
    if dataset.held_out is not None:
        held = set(dataset.persons[dataset.held_out].tolist())
        if both := held & set(dataset.persons[~dataset.held_out].tolist()):
            raise ConfigError(f"{min(both)!r} is in both parts of {dataset.name}: a person is never divided")
        return held
    folds = min(folds, len(set(dataset.persons)))
    if folds < 2:
        raise ConfigError(f"{dataset.name} holds one person, who cannot be divided into two parts")
    _, test = next(GroupKFold(folds).split(dataset.labels, groups=dataset.persons))
    return set(dataset.persons[test].tolist())


def subset(dataset: Dataset, mask: NDArray[np.bool_]) -> Dataset:
    """Some windows of a data set."""
    return dataclasses.replace(
        dataset, windows=tuple(w for w, kept in zip(dataset.windows, mask, strict=True) if kept), held_out=None
    )


@click.command()
@click.option("--data", type=click.Choice([*DOWNSTREAM, NAME, LAYOUT]), required=True)
@click.option("--archives", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True,
              help="Folder of the archives; of AI4PAIN, the folder of train and validation.")  # fmt: skip
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path),
              help="Folder to unpack archives into, once.  [default: data, inside of --out]")  # fmt: skip
@click.option("--weights", help="Folder or Hub id; the bundled weights otherwise.")
@click.option("--budget", default=600.0, show_default=True, help="Seconds a cell.")
@click.option(
    "--epochs", type=click.IntRange(1), help="Of cells that train more than a head.  [default: the paper's 200]"
)
@click.option("--windows", type=click.IntRange(1), help="To learn from, a person.  [default: all]")
@click.option("--test-windows", type=click.IntRange(1), help="To score on, a person.  [default: all]")
@click.option("--fusion-part", type=click.Choice(["whole", "head"]), default="whole", show_default=True,
              help="What fusions learn; heads are also trained on each image alone, to compare with.")  # fmt: skip
@click.option("--folds", type=click.IntRange(2), default=4, show_default=True, help="Of people; one is scored.")
@click.option("--batch-size", type=click.IntRange(1), default=Settings.batch_size, show_default=True)
@click.option("--learning-rate", default=Settings.learning_rate, show_default=True)
@click.option("--scale", type=click.Choice(["window", "recording"]), default="window", show_default=True)
@click.option("--representation", "representations", multiple=True, default=list(REPRESENTATIONS), show_default=True)
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
def main(
    data: str, archives: Path, cache: Path | None, out: Path, weights: str | None, budget: float, precision: str,
    seed: int, batch_size: int, learning_rate: float, scale: str, representations: tuple[str, ...], device: str,
    **reduction: Any,
) -> None:  # fmt: skip
    """Run Tables 3 to 6 on one data set, or go on with a run that was stopped."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, CUDA's products are not deterministic
    if data in (NAME, LAYOUT):
        dataset = load_ai4pain(archives, claimed=data == NAME)
    else:
        dataset = load(data, archives, cache or out / "data")
    settings = Settings(precision=precision, seed=seed, batch_size=batch_size, learning_rate=learning_rate)
    run = Experiments(
        dataset, TinyBioMoE.from_pretrained(weights), out, budget=budget, reduction=Reduction(**reduction),
        settings=settings, representations=representations, scale=scale, device=device,
    )  # fmt: skip
    click.echo(run.run())


if __name__ == "__main__":
    main()
