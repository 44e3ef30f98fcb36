"""What each part of training the late stages is worth: short runs on the same kept maps that differ in one thing.

`python benchmarks/late_ablation.py --data PACK --cache FOLDER --from WEIGHTS --out FOLDER` trains every variant with
every seed, scores it on the trials of people held out (scalograms, plain and with features standardised per person),
and writes ablation.md beside the scores. A run that was killed goes on. Choices are made by this table, never by the
bench on other people.

The rule, fixed beforehand: the score is the mean of those numbers (trial and protocol) that count in
`pretraining.choice`. A part of everything is kept if the score without it lies below that of everything by more than
twice the standard error of the differences over seeds; what is added to everything is taken up if its score lies above
by as much. Else the simpler training is right.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a file: its neighbours are pretraining.<name>

from pretraining.beginnings import RAMP, untrained_spectral_encoder
from pretraining.choice import counted
from pretraining.examples import MADE, Drawing, Examples, draw_examples
from pretraining.late import (
    FARTHEST,
    FIRST,
    Kept,
    KeptMaps,
    Settings,
    early_digest,
    embed_maps,
    keep_maps,
    teach,
    train_late,
)
from pretraining.precision import on_threads
from pretraining.readout import Weights
from pretraining.row_heads import read_rows
from pretraining.sources import Source, read_pack
from pretraining.stages import late_parameters
from pretraining.validation import Trial, score, trials
from tiny_biomoe.model import TinyBioMoE
from tiny_biomoe.weights.loading import tensor_digest

SHOWN = ("scalogram",)  # representation by which trials are scored
FACTS = Weights(classes=0)


@dataclass(frozen=True)
class Variant:
    """One way to train."""

    weights: Weights = FACTS
    teachers: bool = True  # MiniRocket and the maps' rows
    made: bool = True  # windows that are made, a quarter of all
    ramp: bool = True  # place in the image norm's bias
    row_heads: bool = False  # whether heads of the class block begin as readers of rows
    muon: bool = False  # for matrices of the network
    trained: bool = True


VARIANTS = {
    "everything": Variant(),
    "without the picture and its fine rows": Variant(replace(FACTS, picture=0, rows=0)),
    "without teachers": Variant(teachers=False),
    "without losses on halves": Variant(replace(FACTS, halves=0)),
    "without made windows": Variant(made=False),
    "without the ramp": Variant(ramp=False),
    "with classes": Variant(replace(FACTS, classes=0.1, smoothing=0.1)),
    "with heads that read rows": Variant(row_heads=True),
    "with Muon": Variant(muon=True),
    "not trained": Variant(trained=False),
}


class MuonAndAdamW(Optimizer):
    """Muon (Jordan et al. 2024) for some matrices, in steps as long as AdamW's, and AdamW for all else."""

    def __init__(self, groups: Sequence[dict[str, Any]], lr: float, matrices: Sequence[nn.Parameter]):
        known = {id(matrix) for matrix in matrices}
        shared = [
            [{**group, "params": [p for p in group["params"] if (id(p) in known) is mine]} for group in groups]
            for mine in (True, False)
        ]
        by_muon, by_adam = ([group for group in part if group["params"]] for part in shared)
        super().__init__([*by_muon, *by_adam], {"lr": lr})
        self.parts = [Muon(by_muon, lr=lr, adjust_lr_fn="match_rms_adamw"), AdamW(by_adam, lr=lr)]
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Of both."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Of both."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


@dataclass(frozen=True)
class Setup:
    """What all runs share."""

    standing: dict[str, Tensor]  # weights that encoder 2 begins with
    sources: list[Source]
    examples: Examples
    held_out: list[tuple[Trial, NDArray[np.uint8]]]  # with images, (n, 224, 224)
    cache: Path
    settings: Settings  # but for start, seed and weights

    def run(self, variant: Variant, seed: int, out: Path) -> dict[str, float]:
        """Train one variant, and score it."""
        network = untrained_spectral_encoder(self.standing, ramp=RAMP if variant.ramp else 0.0)
        place = self.cache / f"maps-{early_digest(network)}"
        kept = Kept(self.examples, keep_maps(network, self.examples.levels, place / f"{len(self.examples.labels)}"))
        if not variant.made:
            kept = some_of(kept, np.flatnonzero(self.examples.sources != MADE))
        if variant.row_heads:
            targets = (kept.examples.targets - kept.examples.targets.mean(0)) / kept.examples.targets.std(0).clip(1e-3)
            some = torch.from_numpy(kept.maps.grids[:FIRST]).float()
            read_rows(network, some, targets[:FIRST].clip(-FARTHEST, FARTHEST))
        if variant.trained:
            start = tensor_digest(network.state_dict())
            settings = replace(self.settings, start=start, seed=seed, weights=variant.weights)
            sources = [s if variant.weights.classes else replace(s, classes=()) for s in self.sources]
            taught = teach(network, [kept])[0] if variant.teachers else None
            matrices = [p for _, p in late_parameters(network) if p.ndim == 2]
            optimizer = partial(MuonAndAdamW, matrices=matrices) if variant.muon else AdamW
            network = train_late(
                network, sources, kept.examples, kept.maps, out, settings, taught=taught, optimizer=optimizer
            )
        found = {}
        for trial, levels in self.held_out:
            maps = keep_maps(network, levels, place / trial.name.replace(" ", "-"))
            vectors = embed_maps(network, maps).numpy()
            found[trial.name] = score(vectors, trial)
            found[f"{trial.name}, per person"] = score(vectors, trial, per_person=True)
        return found


def some_of(kept: Kept, rows: NDArray[np.intp]) -> Kept:
    """Some of the examples, with their maps."""
    examples = Examples(**{field.name: getattr(kept.examples, field.name)[rows] for field in fields(Examples)})
    return Kept(examples, KeptMaps(kept.maps.grids[rows], kept.maps.maps[rows]))


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="A pack.")
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), required=True, help="For examples and maps.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--from", "standing", help="Weights whose encoder 2 is kept; the bundled ones otherwise.")
@click.option("--examples", "count", default=10_000, show_default=True)
@click.option("--steps", default=2000, show_default=True)
@click.option("--learning-rate", default=5e-4, show_default=True)
@click.option("--seed", "seeds", default=(1, 2, 3), multiple=True, show_default=True)
@click.option("--workers", default=1, show_default=True, help="Processes that draw images.")
def main(
    data: Path, cache: Path, out: Path, standing: str | None, count: int, steps: int, learning_rate: float,
    seeds: tuple[int, ...], workers: int,
) -> None:  # fmt: skip
    """Train and score every variant with every seed."""
    click.get_current_context().with_resource(on_threads(1))
    sources, model = read_pack(data), TinyBioMoE.from_pretrained(standing)
    examples = draw_examples(sources, Drawing(Settings.seed), count, cache / "examples", workers)
    trials_held_out = trials(sources, model.recipe)
    held_out = [(trial, np.stack(list(trial.images(model.recipe, SHOWN)))) for trial in trials_held_out]
    taken = counted(trials_held_out, cache / "vectors")
    numbers = [name for (trial, _), which in zip(held_out, taken, strict=True) for name in names(trial, which)]
    settings = Settings(steps, "", learning_rate=learning_rate)
    setup = Setup(model.state_dict(), sources, examples, held_out, cache, settings)
    out = out / f"{steps}-steps-of-{count}"  # scores of others are not these
    for seed in seeds:
        for name, variant in VARIANTS.items():
            folder = out / f"{name.replace(' ', '-')}-{seed}"
            if not (folder / "scores.json").exists():
                folder.mkdir(parents=True, exist_ok=True)
                found = setup.run(variant, seed, folder)
                (folder / "scores.json").write_text(
                    json.dumps({name: found[name] for name in numbers}, indent=2) + "\n"
                )
        (out / "ablation.md").write_text(table(out, steps))
    click.echo((out / "ablation.md").read_text())


def names(trial: Trial, taken: NDArray[np.bool_]) -> list[str]:
    """Of a trial's two numbers, those that count."""
    return [name for name, counts in zip((trial.name, f"{trial.name}, per person"), taken, strict=True) if counts]


def table(out: Path, steps: int) -> str:
    """All scores so far, in Markdown: means over seeds, and what each variant lacks to everything, with its error."""
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name in VARIANTS:
        for path in sorted(out.glob(f"{name.replace(' ', '-')}-*/scores.json")):
            seed = path.parent.name.rsplit("-", 1)[1]
            found.setdefault(name, {})[seed] = np.array(list(json.loads(path.read_text()).values()))
    columns = list(json.loads(next(out.glob("everything-*/scores.json")).read_text()))
    head = [f"{steps} steps", "seeds", *columns, "mean", "less everything"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, by_seed in found.items():
        means = np.mean(list(by_seed.values()), axis=0)
        differences = 100 * np.array([s.mean() - found["everything"][seed].mean() for seed, s in by_seed.items()])
        error = differences.std(ddof=1) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")
        cells = " | ".join(f"{mean:.3f}" for mean in [*means, means.mean()])
        lines.append(f"| {name} | {len(by_seed)} | {cells} | {differences.mean():+.1f} +- {error:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
