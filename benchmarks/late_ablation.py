"""What each part of training the late stages is worth: short runs on the same kept maps that differ in one thing.

`python benchmarks/late_ablation.py --data PACK --cache FOLDER --from WEIGHTS --out FOLDER` trains every variant with
every seed, scores it on the trials of people held out (scalograms, plain and with features standardised per person),
and writes ablation.md beside the scores. A run that was killed goes on. Choices are made by this table, never by the
bench on other people.

The rule, fixed beforehand: the score is the mean of those numbers (trial and protocol) that count in
`pretraining.choice`. A part of everything is kept if the score without it lies below that of everything by more than
twice the standard error of the differences over seeds; what is added to everything is taken up if its score lies above
by as much. Else the simpler training is right. Beside it stands the interval over people, which is wider: seeds change
the order of the windows alone. Weights that are trained by what this says need other people for `pretraining.choice`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a file: its neighbours are pretraining.<name>

from pretraining.beginnings import RAMP, untrained_spectral_encoder
from pretraining.choice import which_count
from pretraining.examples import MADE, Drawing, Examples, draw_examples
from pretraining.late import (
    Kept,
    KeptMaps,
    Settings,
    begin_as_rows,
    early_digest,
    embed_maps,
    keep_maps,
    teach,
    train_late,
)
from pretraining.precision import on_threads
from pretraining.readout import Weights
from pretraining.sources import Source, read_pack, sources_digest
from pretraining.stages import late_parameters
from pretraining.validation import Trial, counts, gain, interval, trials
from tiny_biomoe.model import TinyBioMoE
from tiny_biomoe.sealed_files import write_whole
from tiny_biomoe.weights.loading import tensor_digest

SHOWN = ("scalogram",)  # representation by which trials are scored
FACTS = Weights(classes=0)


@dataclass(frozen=True)
class Variant:
    """One way to train."""

    weights: Weights = FACTS
    teachers: bool = True  # MiniRocket and the maps' rows
    made: bool = True  # windows that are made, a quarter of all; without them there are so many fewer
    ramp: bool = True  # place in the image norm's bias
    row_heads: bool = False  # whether heads of the class block begin as readers of rows
    muon: bool = False  # for matrices of the network: those of encoder 1 and the gate, not 1x1 convolutions
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

    def digest(self) -> str:
        """Eight digits of all that decides scores beside variant and seed."""
        told = [asdict(self.settings), tensor_digest(self.standing), sources_digest(self.sources)]
        told += [digest_of(self.examples.levels), [trial.digest() for trial, _ in self.held_out]]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]

    def run(self, variant: Variant, seed: int, out: Path) -> dict[str, Any]:
        """Train one variant; its counts (`validation.counts`) on every number."""
        network = untrained_spectral_encoder(self.standing, ramp=RAMP if variant.ramp else 0.0)
        place = self.cache / f"maps-{early_digest(network)}"
        kept = Kept(self.examples, keep_maps(network, self.examples.levels, place / digest_of(self.examples.levels)))
        if not variant.made:
            kept = some_of(kept, np.flatnonzero(self.examples.sources != MADE))
        if variant.row_heads:
            begin_as_rows(network, kept)
        if variant.trained:
            start = tensor_digest(network.state_dict())
            settings = replace(self.settings, start=start, seed=seed, weights=variant.weights)
            sources = [s if variant.weights.classes else replace(s, classes=()) for s in self.sources]
            taught = teach(network, [kept])[0] if variant.teachers else None
            matrices = [p for n, p in late_parameters(network) if p.ndim == 2 and "position_bias" not in n]
            optimizer = partial(MuonAndAdamW, matrices=matrices) if variant.muon else AdamW
            network = train_late(
                network, sources, kept.examples, kept.maps, out, settings, taught=taught, optimizer=optimizer
            )
        found = {}
        for trial, levels in self.held_out:
            vectors = embed_maps(network, keep_maps(network, levels, place / digest_of(levels))).numpy()
            for name, per_person in zip(names(trial), (False, True), strict=True):
                found[name] = counts(vectors, trial, per_person).tolist()
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
    taken = which_count(trials_held_out, cache / "vectors")
    numbers = [n for trial, which in zip(trials_held_out, taken, strict=True) for n in np.array(names(trial))[which]]
    settings = Settings(steps, "", learning_rate=learning_rate)
    setup = Setup(model.state_dict(), sources, examples, held_out, cache, settings)
    out = out / f"{steps}-steps-of-{count}-{setup.digest()}"  # scores of others are not these
    for seed in seeds:
        for name, variant in VARIANTS.items():
            folder = out / f"{name.replace(' ', '-')}-{seed}"
            if not (folder / "scores.json").exists():
                folder.mkdir(parents=True, exist_ok=True)
                found = setup.run(variant, seed, folder)
                write_whole(folder / "scores.json", json.dumps({number: found[number] for number in numbers}).encode())
        (out / "ablation.md").write_text(table(out, steps))
    click.echo((out / "ablation.md").read_text())


def names(trial: Trial) -> tuple[str, str]:
    """Of a trial's two numbers."""
    return trial.name, f"{trial.name}, per person"


def digest_of(levels: NDArray[np.uint8]) -> str:
    """Sixteen digits that tell images apart."""
    return hashlib.sha256(np.ascontiguousarray(levels).tobytes()).hexdigest()[:16]


Counts = dict[str, NDArray[np.float64]]  # by number, (people, classes, 2)


def table(out: Path, steps: int) -> str:
    """All scores so far, in Markdown: means over seeds, and each variant less everything, in points.

    With its standard error over seeds, and the interval of 95 % over people drawn anew.
    """
    found: dict[str, dict[str, Counts]] = {}  # by variant and seed
    for name in VARIANTS:
        for path in sorted(out.glob(f"{name.replace(' ', '-')}-*/scores.json")):
            kept = {number: np.array(value) for number, value in json.loads(path.read_text()).items()}
            found.setdefault(name, {})[path.parent.name.rsplit("-", 1)[1]] = kept
    whole = found["everything"]
    numbers = list(next(iter(whole.values())))
    head = [f"{steps} steps", "seeds", *numbers, "mean", "less everything, points", "over people"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, by_seed in found.items():
        scores = np.array([[interval(kept[number])[0] for number in numbers] for kept in by_seed.values()])
        pairs = [(kept, whole[seed]) for seed, kept in by_seed.items() if seed in whole]
        less = [_less([pair], numbers)[0] for pair in pairs]
        error = np.std(less, ddof=1) / len(less) ** 0.5 if len(less) > 1 else float("nan")
        _, low, high = _less(pairs, numbers)
        cells = " | ".join(f"{mean:.3f}" for mean in [*scores.mean(0), scores.mean()])
        lines.append(
            f"| {name} | {len(by_seed)} | {cells} | {np.mean(less):+.1f} +- {error:.1f} | [{low:+.1f}, {high:+.1f}] |"
        )
    return "\n".join(lines) + "\n"


def _less(pairs: Sequence[tuple[Counts, Counts]], numbers: Sequence[str]) -> tuple[float, float, float]:
    """Gain of the first of each pair (a seed) on the second, in points, with its interval over people."""
    by_trial: dict[str, list[str]] = {}  # both protocols of a trial, and all seeds, are of the same people
    for number in numbers:
        by_trial.setdefault(number.removesuffix(", per person"), []).append(number)
    first, second = (
        [np.stack([pair[side][number] for pair in pairs for number in each]) for each in by_trial.values()]
        for side in (0, 1)
    )
    value, low, high = gain(first, second)
    return 100 * value, 100 * low, 100 * high


if __name__ == "__main__":
    main()
