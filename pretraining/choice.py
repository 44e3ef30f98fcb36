"""Whether weights replace others: gains on the trials of people held out that can be read at all.

`python -m pretraining.choice --data PACK --candidate A=FOLDER [--candidate B=FOLDER] --out OUT` follows the rule of
benchmarks/NOTES.md: a number (trial and protocol) counts if the frequency rows of the untrained network read it above
chance; a candidate passes if its mean gain on the weights that stand lies above 0 beyond an interval as wide as the
number of candidates asks, and no trial is lost. Vectors are kept in OUT, so that a run that was killed goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from pretraining.sources import read_pack
from pretraining.validation import Trial, counts, gain, interval, trials
from tiny_biomoe.model import TinyBioMoE, embed_levels
from tiny_biomoe.weights.loading import tensor_digest

SHOWN = ("scalogram",)  # representation by which trials are scored
WITHIN = 95.0  # percent of the draws, of an interval alone

Counts = NDArray[np.float64]  # (protocols, people, classes, 2)


@dataclass(frozen=True)
class Verdict:
    """What the rule says of one candidate."""

    scores: list[list[float]]  # of each trial, plain and standardised per person
    mean: float  # over the numbers that count
    gain: tuple[float, float, float]  # on the weights that stand, with its interval
    trials: list[tuple[float, float, float] | None]  # gains on each, with intervals of 95 %; None where none counts

    @property
    def passes(self) -> bool:
        """Whether it lies above beyond the interval, and loses no trial."""
        return self.gain[1] > 0 and not any(found is not None and found[2] < 0 for found in self.trials)


def both(vectors: NDArray[np.floating], trial: Trial) -> Counts:
    """Counts plain and standardised per person."""
    return np.stack([counts(vectors, trial, per_person) for per_person in (False, True)])


def countable(found: Sequence[Counts]) -> list[NDArray[np.bool_]]:
    """Of each trial, which protocols are read above chance, by the lower end of the interval over people: (2,)."""
    return [np.array([interval(part)[1] > 1 / part.shape[1] for part in both_of]) for both_of in found]


def verdict(
    mine: Sequence[Counts], standing: Sequence[Counts], taken: Sequence[NDArray[np.bool_]], candidates: int
) -> Verdict:
    """What the rule says.

    Parameters
    ----------
    mine, standing : of each trial, counts of the candidate's vectors and of those of the weights that stand
    taken : of each trial, which protocols count
    candidates : how many there are: with more of them the interval is wider
    """
    kept = [index for index, which in enumerate(taken) if which.any()]
    first = [mine[index][taken[index]] for index in kept]
    second = [standing[index][taken[index]] for index in kept]
    alone: list[tuple[float, float, float] | None] = [None] * len(taken)
    for index, one, other in zip(kept, first, second, strict=True):
        alone[index] = gain([one], [other], percent=WITHIN)
    scores = [[interval(part)[0] for part in both_of] for both_of in mine]
    mean = float(np.mean([scores[i][p] for i in kept for p in np.flatnonzero(taken[i])]))
    return Verdict(scores, mean, gain(first, second, percent=100 - (100 - WITHIN) / candidates), alone)


def table(names: Sequence[str], taken: Sequence[NDArray[np.bool_]], found: Mapping[str, Verdict]) -> str:
    """All scores in Markdown; in brackets what does not count."""
    lines = [f"| 192 numbers, plain / per person | {' | '.join(names)} | mean | gain, points | passes |"]
    lines.append("|---" * (len(names) + 4) + "|")
    for name, one in found.items():
        cells = [
            " / ".join(f"{s:.3f}" if counted else f"({s:.3f})" for s, counted in zip(scores, which, strict=True))
            for scores, which in zip(one.scores, taken, strict=True)
        ]
        value, low, high = (100 * part for part in one.gain)
        lines.append(
            f"| {name} | {' | '.join(cells)} | {one.mean:.3f} | {value:+.1f} [{low:+.1f}, {high:+.1f}] | "
            f"{'yes' if one.passes else 'no'} |"
        )
    return "\n".join(lines) + "\n"


def which_count(held_out: Sequence[Trial], folder: Path) -> list[NDArray[np.bool_]]:
    """Of each trial, which protocols the frequency rows of the untrained network (seed 0) read above chance: (2,)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        untrained = TinyBioMoE()
    rows = _vectors(untrained, held_out, folder, rows=True)
    return countable([both(vectors, trial) for vectors, trial in zip(rows, held_out, strict=True)])


def _vectors(
    model: TinyBioMoE, held_out: Sequence[Trial], folder: Path, rows: bool = False
) -> list[NDArray[np.float32]]:
    """Embeddings of each trial's windows, or rows; computed where the folder does not hold them yet."""
    place = folder / f"{tensor_digest(model.state_dict())[:16]}{'-rows' if rows else ''}"
    place.mkdir(parents=True, exist_ok=True)
    found = []
    for trial in held_out:
        path = place / f"{trial.name.replace(' ', '-')}-{trial.digest()}.npy"
        if not path.exists():
            vectors = embed_levels(model, trial.images(model.recipe, SHOWN), 16, rows)
            whole = path.with_suffix(".partial.npy")
            np.save(whole, vectors[:, model.architecture.embedding_dim :] if rows else vectors)
            whole.replace(path)
        found.append(np.load(path))
    return found


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="A pack.")
@click.option("--candidate", "candidates", multiple=True, required=True, help="NAME=FOLDER of weights.")
@click.option("--standing", help="Weights that are to be replaced; the bundled ones otherwise.")
@click.option("--most", default=20, show_default=True, help="Windows a person and trial.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(data: Path, candidates: tuple[str, ...], standing: str | None, most: int, out: Path) -> None:
    """Score candidates and the weights that stand by the rule, and write OUT/choice.md."""
    folders = dict(candidate.partition("=")[::2] for candidate in candidates)
    if "" in folders.values():
        raise click.BadParameter(f"{candidates}: each is NAME=FOLDER", param_hint="--candidate")
    held_out = trials(read_pack(data), TinyBioMoE.from_pretrained(standing).recipe, most)
    taken = which_count(held_out, out / "vectors")
    found = {}
    for name, folder in {"the weights that stand": standing, **folders}.items():
        vectors = _vectors(TinyBioMoE.from_pretrained(folder), held_out, out / "vectors")
        found[name] = [both(part, trial) for part, trial in zip(vectors, held_out, strict=True)]
    base = found["the weights that stand"]
    verdicts = {name: verdict(mine, base, taken, len(folders)) for name, mine in found.items()}
    (out / "choice.md").write_text(table([trial.name for trial in held_out], taken, verdicts))
    click.echo((out / "choice.md").read_text())


if __name__ == "__main__":
    main()
