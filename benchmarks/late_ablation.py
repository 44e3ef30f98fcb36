"""What each part of training the late stages is worth: short runs on the same kept maps that differ in one thing.

`python benchmarks/late_ablation.py --data PACK --cache FOLDER --out FOLDER` trains every variant with every seed,
scores it on the trials of people held out (scalograms, plain and with features standardised per person), and writes
ablation.md beside the scores. A run that was killed goes on. Choices are made by this table, never by the bench on
other people.

The rule, fixed beforehand: a part is kept if the mean score without it lies below that of everything by more than twice
the standard error of the differences over seeds; else the simpler training is kept.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a file: its neighbours are pretraining.<name>

from pretraining.beginnings import untrained_spectral_encoder
from pretraining.examples import Drawing, Examples, draw_examples
from pretraining.late import FARTHEST, FIRST, KeptMaps, Settings, embed_maps, keep_maps, train_late
from pretraining.readout import Weights
from pretraining.row_heads import read_rows
from pretraining.sources import Source, read_pack
from pretraining.validation import Trial, score, trials
from tiny_biomoe.model import TinyBioMoE
from tiny_biomoe.network.network import Network
from tiny_biomoe.weights.loading import tensor_digest

SHOWN = ("scalogram",)  # representation by which trials are scored


@dataclass(frozen=True)
class Variant:
    """One way to train."""

    weights: Weights = Weights()
    row_heads: bool = True  # whether heads of the class block begin as readers of rows
    trained: bool = True


VARIANTS = {
    "everything": Variant(),
    "without the picture": Variant(Weights(picture=0)),
    "without fine rows": Variant(Weights(rows=0)),
    "without picture and rows": Variant(Weights(picture=0, rows=0)),
    "without losses on halves": Variant(Weights(halves=0)),
    "without descriptors": Variant(Weights(descriptors=0)),
    "without profile and shares": Variant(Weights(profile=0, spectrum=0)),
    "class block as built": Variant(row_heads=False),
    "not trained": Variant(trained=False),
}


@dataclass(frozen=True)
class Setup:
    """What all runs share."""

    trained: dict[str, torch.Tensor]  # weights that encoder 2 begins with
    sources: list[Source]
    examples: Examples
    maps: KeptMaps
    held_out: list[tuple[Trial, KeptMaps]]
    steps: int

    def run(self, variant: Variant, seed: int, out: Path) -> dict[str, float]:
        """Train one variant, and score it."""
        network = untrained_spectral_encoder(self.trained)
        if variant.row_heads:
            targets = (self.examples.targets - self.examples.targets.mean(0)) / self.examples.targets.std(0).clip(1e-3)
            some = torch.from_numpy(self.maps.grids[:FIRST]).float()
            read_rows(network, some, targets[:FIRST].clip(-FARTHEST, FARTHEST))
        if variant.trained:
            start = tensor_digest(network.state_dict())
            settings = Settings(self.steps, start, seed=seed, weights=variant.weights)
            network = train_late(network, self.sources, self.examples, self.maps, out, settings)
        return scores(network, self.held_out)


def scores(network: Network, held_out: list[tuple[Trial, KeptMaps]]) -> dict[str, float]:
    """Balanced accuracy on every trial, plain and standardised per person."""
    found = {}
    for trial, maps in held_out:
        vectors = embed_maps(network, maps).numpy()
        found[trial.name] = score(vectors, trial)
        found[f"{trial.name}, per person"] = score(vectors, trial, per_person=True)
    return found


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="A pack.")
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), required=True, help="For examples and maps.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--from", "start", help="Weights whose encoder 2 is kept; the bundled ones otherwise.")
@click.option("--examples", "count", default=3000, show_default=True)
@click.option("--steps", default=1000, show_default=True)
@click.option("--seed", "seeds", default=(1, 2, 3), multiple=True, show_default=True)
def main(data: Path, cache: Path, out: Path, start: str | None, count: int, steps: int, seeds: tuple[int, ...]) -> None:
    """Train and score every variant with every seed."""
    sources = read_pack(data)
    trained = TinyBioMoE.from_pretrained(start).state_dict()
    examples = draw_examples(sources, Drawing(Settings.seed), count, cache / "examples")
    network = untrained_spectral_encoder(trained)
    place = cache / f"maps-{tensor_digest(network.state_dict())[:16]}"
    held_out = []
    for trial in trials(sources, network.recipe):
        levels = np.stack(list(trial.images(network.recipe, SHOWN)))
        held_out.append((trial, keep_maps(network, levels, place / trial.name.replace(" ", "-"))))
    maps = keep_maps(network, examples.levels, place / f"examples-{count}")
    setup = Setup(trained, sources, examples, maps, held_out, steps)
    out = out / f"{steps}-steps-of-{count}"  # scores of others are not these
    for seed in seeds:
        for name, variant in VARIANTS.items():
            folder = out / f"{name.replace(' ', '-')}-{seed}"
            if not (folder / "scores.json").exists():
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "scores.json").write_text(json.dumps(setup.run(variant, seed, folder), indent=2) + "\n")
        (out / "ablation.md").write_text(table(out, steps))
    click.echo((out / "ablation.md").read_text())


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
