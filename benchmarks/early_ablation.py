"""What takes rates from encoder 1, losses or the learning rate: a network learns from small pictures and is read.

`python benchmarks/early_ablation.py --data PACK --cache FOLDER --out FOLDER` trains every variant with every seed from
the network as it is built, and reads pulse and breathing rate of people held out from frequency rows of the stages and
from both halves (scalograms, plain and with features standardised per person). It writes ablation.md beside the
scores; a run that was killed goes on with the variant that it was at.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a file: its neighbours are pretraining.<name>

from pretraining.examples import Drawing, Examples, draw_examples
from pretraining.growth import shrink
from pretraining.late import Settings as LateSettings
from pretraining.late import batch_rows, wanted_of
from pretraining.precision import reproducible
from pretraining.readout import Readout, Weights
from pretraining.sources import Source, read_pack
from pretraining.validation import RATE_SOURCES, Trial, score, trials
from tiny_biomoe.config import Architecture, Config
from tiny_biomoe.inference.torch_backend import to_pixels
from tiny_biomoe.network.network import Network
from tiny_biomoe.train.schedules import cosine_with_warmup

SIZE = 112  # pixels a side
SHOWN = ("scalogram",)  # representation by which trials are scored
READ = ("encoder 1, stage 1", "encoder 1, stage 4", "encoder 1's half", "encoder 2's half")


@dataclass(frozen=True)
class Variant:
    """One way to train."""

    weights: Weights = Weights()
    spectral_rate: float = 1.0  # of the learning rate, for encoder 1
    trained: bool = True


VARIANTS = {
    "not trained": Variant(trained=False),
    "classes and facts": Variant(),
    "classes alone": Variant(Weights(descriptors=0, profile=0, picture=0, rows=0, spectrum=0)),
    "facts alone": Variant(Weights(classes=0)),
    "classes and facts, encoder 1 at a tenth of the rate": Variant(spectral_rate=0.1),
}


@dataclass(frozen=True)
class Setup:
    """What all runs share."""

    sources: Sequence[Source]
    examples: Examples
    held_out: Sequence[tuple[Trial, Tensor]]  # with small pictures, (n, size, size) uint8
    steps: int
    images: int = 16  # of a step
    learning_rate: float = 1e-3
    architecture: Architecture = Architecture()

    def run(self, variant: Variant, seed: int) -> dict[str, float]:
        """Train one variant, and score it."""
        with reproducible(1, seed):
            network = Network(Config(architecture=self.architecture), SIZE)
            if variant.trained:
                self._train(network, variant, seed)
        return scores(network.eval(), self.held_out)

    def _train(self, network: Network, variant: Variant, seed: int) -> None:
        with_classes = {index: source.name for index, source in enumerate(self.sources) if source.classes}
        model = Readout(network, [len(self.sources[index].classes) for index in with_classes], shared=True)
        model.standardise(torch.from_numpy(self.examples.targets))
        spectral = list(network.spectral_encoder.parameters())
        known = {id(parameter) for parameter in spectral}
        others = [parameter for parameter in model.parameters() if id(parameter) not in known]
        rates = [(others, self.learning_rate), (spectral, self.learning_rate * variant.spectral_rate)]
        optimizer = torch.optim.AdamW([{"params": part, "lr": rate} for part, rate in rates], weight_decay=0.05)
        scheduler = cosine_with_warmup(optimizer, self.steps)
        model.train()
        for step in tqdm(range(self.steps), mininterval=20):
            rows = batch_rows(len(self.examples.labels), self.images, seed, step)
            levels = shrink(torch.from_numpy(self.examples.levels[rows]), SIZE)
            wanted = wanted_of(self.examples, rows)
            loss = model.loss(network(to_pixels(levels, "cpu")), wanted, with_classes, variant.weights)[0]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()


def features(network: Network, levels: Tensor, at_once: int = 16) -> dict[str, NDArray[np.float32]]:
    """What is read of pictures: of two stages of encoder 1 each row's mean over its columns, and both halves."""
    kept: dict[int, Tensor] = {}
    blocks = network.spectral_encoder.blocks
    hooks = [
        blocks[index].register_forward_hook(lambda _, given, gave, index=index: kept.update({index: gave}))
        for index in (0, 3)
    ]
    found: list[tuple[Tensor, ...]] = []
    with torch.inference_mode():
        for part in levels.split(at_once):
            halves = network(to_pixels(part, "cpu")).chunk(2, dim=1)
            found.append((*(kept[index].mean(2).flatten(1) for index in (0, 3)), *halves))
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(parts).numpy() for name, parts in zip(READ, zip(*found, strict=True), strict=True)}


def scores(network: Network, held_out: Sequence[tuple[Trial, Tensor]]) -> dict[str, float]:
    """Balanced accuracy on every trial from every feature, plain and standardised per person."""
    found = {}
    for trial, levels in held_out:
        for name, vectors in features(network, levels).items():
            found[f"{name}: {trial.name}"] = score(vectors, trial)
            found[f"{name}: {trial.name}, per person"] = score(vectors, trial, per_person=True)
    return found


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="A pack.")
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), required=True, help="For examples.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--examples", "count", default=3000, show_default=True)
@click.option("--steps", default=400, show_default=True)
@click.option("--seed", "seeds", default=(1,), multiple=True, show_default=True)
def main(data: Path, cache: Path, out: Path, count: int, steps: int, seeds: tuple[int, ...]) -> None:
    """Train and score every variant with every seed."""
    sources = read_pack(data)
    examples = draw_examples(sources, Drawing(LateSettings.seed), count, cache / "examples")
    recipe = Config().recipe
    held_out = [
        (trial, shrink(torch.from_numpy(np.stack(list(trial.images(recipe, SHOWN)))), SIZE))
        for trial in trials(sources, recipe)
        if trial.name in RATE_SOURCES
    ]
    setup = Setup(sources, examples, held_out, steps)
    out = out / f"{steps}-steps-of-{count}"  # scores of others are not these
    out.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for number, variant in enumerate(VARIANTS.values()):
            path = out / f"{number}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(setup.run(variant, seed), indent=2) + "\n")
        (out / "ablation.md").write_text(table(out))
    click.echo((out / "ablation.md").read_text())


def table(out: Path) -> str:
    """Means over seeds, in Markdown: a line for each variant and feature, plain / standardised per person."""
    lines = [f"| variant | read from | seeds | {' | '.join(RATE_SOURCES)} |", "|---" * (3 + len(RATE_SOURCES)) + "|"]
    for number, variant in enumerate(VARIANTS):
        runs = [json.loads(path.read_text()) for path in sorted(out.glob(f"{number}-*.json"))]
        for name in READ if runs else ():
            keys = [(f"{name}: {trial}", f"{name}: {trial}, per person") for trial in RATE_SOURCES]
            cells = [" / ".join(f"{np.mean([run[key] for run in runs]):.3f}" for key in pair) for pair in keys]
            lines.append(f"| {variant} | {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
