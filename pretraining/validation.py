"""What choices in pretraining are made by: rates, conditions and levels of people whom no run has seen.

`python -m pretraining.validation --data PACK [--weights FOLDER | --untrained] -o scores.json` scores weights.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretraining.rates import steady_rate
from pretraining.sources import Source, read_pack
from tiny_biomoe.config import Recipe
from tiny_biomoe.images.rendering import Levels, draw
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.signals.filters import apply_filter, passband
from tiny_biomoe.signals.request import Limits
from tiny_biomoe.signals.validation import Signal, is_flat

RATE_SOURCES = {
    "pulse rate": ("bvp", ("ds000210-bvp", "oximetry-bvp", "wise-bvp", "nurse-bvp")),
    "breathing rate": ("resp", ("ds000210-resp", "fantasia-resp")),
}
SHOWN = 0.95  # of the band's upper edge: pictures show no faster pulse
LEVEL_SOURCE = "oximetry-spo2"
STRENGTHS = tuple(10.0**power for power in range(-2, 5))  # of the regularisation


@dataclass(frozen=True)
class Trial:
    """Windows of people held out, each with a class that a linear probe is to read from its embedding."""

    name: str
    modality: str
    fs: float  # Hz
    classes: tuple[str, ...]
    windows: list[Signal]  # (n_samples,) each, raw
    labels: NDArray[np.int64]  # (n,)
    people: NDArray[np.int64]  # (n,), unique over data sets
    limits: list[Limits | None]  # what each window's images span; None for its own range

    def images(self, recipe: Recipe, representations: tuple[str, ...] = tuple(REPRESENTATIONS)) -> Iterator[Levels]:
        """Of each window in turn, each (224, 224)."""
        edges = passband(self.fs, self.modality, recipe)
        for window, limits in zip(self.windows, self.limits, strict=True):
            filtered = apply_filter(window, self.fs, edges, recipe)
            for name in representations:
                yield draw(filtered, self.fs, edges, name, recipe, limits)


Cut = tuple[Signal, int, int, Limits | None]  # window, label or NO_LABEL, person, limits


def trials(sources: list[Source], recipe: Recipe = Recipe(), most: int = 60, seed: int = 0) -> list[Trial]:
    """Every trial that a pack allows.

    Parameters
    ----------
    most : windows of one person and trial
    seed : of which windows are taken, where there are more
    """
    by_name = {source.name: source for source in sources}
    made = []
    for name, (modality, names) in RATE_SOURCES.items():
        if held := [by_name[each] for each in names if each in by_name]:
            made.append(_rates(name, modality, held, recipe, most, seed))
    for source in sources:
        if source.modality in ("eda", "bvp", "resp") and source.classes:
            cuts = _spread(_cuts(source, source.people), most, seed)
            made.append(_trial(f"{source.name} condition", source, source.classes, cuts))
    if LEVEL_SOURCE in by_name:
        made.append(_levels(by_name[LEVEL_SOURCE], recipe, most, seed))
    return made


def score(vectors: NDArray[np.floating], trial: Trial, per_person: bool = False) -> float:
    """Balanced accuracy of a ridge classifier, each person scored by one fitted on the others: (n, dim) to [0, 1].

    Its regularisation is chosen among `STRENGTHS` by leaving out one of these others after the other.

    Parameters
    ----------
    per_person : standardise each person's numbers by their own mean and spread first
    """
    x = np.asarray(vectors, np.float64).reshape(len(trial.labels), -1)
    if per_person:
        x = _standardised(x, trial.people)
    right = np.zeros((len(trial.classes), 2))  # windows that are read rightly, and all
    for person in np.unique(trial.people):
        others, theirs = trial.people != person, trial.people == person
        inner = (
            sum(
                _right(x, trial, others & (trial.people != left_out), trial.people == left_out)
                for left_out in np.unique(trial.people[others])
            )
            if np.unique(trial.people[others]).size > 1
            else np.zeros((len(STRENGTHS), len(trial.classes), 2))
        )
        best = int(_balanced(inner).argmax())
        right += _right(x, trial, others, theirs)[best]
    return float(_balanced(right))


def _right(
    x: NDArray[np.float64], trial: Trial, fitted: NDArray[np.bool_], scored: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Of each strength and class, windows that are read rightly and all of them: (n_strengths, n_classes, 2)."""
    mean, spread = x[fitted].mean(0), np.maximum(x[fitted].std(0), 1e-9)
    known, labels = (x[fitted] - mean) / spread, trial.labels[fitted]
    wanted = (labels[:, None] == np.arange(len(trial.classes))) * 2.0 - 1
    weights = 1 / np.sqrt(np.bincount(labels, minlength=len(trial.classes)))[labels]  # classes count alike
    known, wanted = np.column_stack([known, np.ones(len(known))]) * weights[:, None], wanted * weights[:, None]
    left, values, right = np.linalg.svd(known, full_matrices=False)
    asked = np.column_stack([(x[scored] - mean) / spread, np.ones(scored.sum())]) @ right.T
    found = np.zeros((len(STRENGTHS), len(trial.classes), 2))
    for index, strength in enumerate(STRENGTHS):
        predicted = ((asked * (values / (values**2 + strength))) @ (left.T @ wanted)).argmax(1)
        np.add.at(found[index], (trial.labels[scored], 0), predicted == trial.labels[scored])
        np.add.at(found[index], (trial.labels[scored], 1), 1)
    return found


def _balanced(found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over classes of the share that is read rightly: (..., n_classes, 2) to (...)."""
    present = found[..., 1] > 0
    shares = found[..., 0] / np.maximum(found[..., 1], 1)
    return np.asarray(shares.sum(-1) / np.maximum(present.sum(-1), 1))


def _standardised(x: NDArray[np.float64], people: NDArray[np.int64]) -> NDArray[np.float64]:
    x = x.copy()
    for person in np.unique(people):
        mine = people == person
        x[mine] = (x[mine] - x[mine].mean(0)) / np.maximum(x[mine].std(0), 1e-9)
    return x


def _cuts(source: Source, people: NDArray[np.int64], limits: dict[int, Limits] | None = None) -> Iterator[Cut]:
    """Windows side by side of everyone held out."""
    size = round(source.test_seconds * source.fs)
    for index in np.flatnonzero(source.held_out):
        recording, person = source.recording(int(index)), int(people[index])
        for start in range(0, recording.size - size + 1, size):
            window = recording[start : start + size]
            if not is_flat(window):
                yield window, int(source.labels[index]), person, limits[person] if limits else None


def _spread(cuts: Iterator[Cut], most: int, seed: int) -> list[Cut]:
    """At most so many windows of each person, drawn at random, in their order."""
    found = list(cuts)
    chosen = []
    for person in dict.fromkeys(cut[2] for cut in found):
        theirs = [index for index, cut in enumerate(found) if cut[2] == person]
        chosen += np.random.default_rng([seed, person]).permutation(theirs)[:most].tolist()
    return [found[index] for index in sorted(chosen)]


def _rates(name: str, modality: str, sources: list[Source], recipe: Recipe, most: int, seed: int) -> Trial:
    """Terciles of the rate, of windows in which it is certain and can be seen."""
    highest = SHOWN * recipe.modality(modality).high
    cuts, rates = [], {}
    for number, source in enumerate(sources):
        people = source.people + 1_000_000 * number  # two sets may count alike
        for cut in _cuts(source, people):
            rate = steady_rate(cut[0], source.fs, modality)
            if rate is not None and rate < highest:
                rates[id(cut[0])] = rate
                cuts.append(cut)
    kept = _spread(iter(cuts), most, seed)
    return _terciles(name, sources[0], kept, np.array([rates[id(cut[0])] for cut in kept]))


def _levels(source: Source, recipe: Recipe, most: int, seed: int) -> Trial:
    """Terciles of a window's mean, drawn against the range of the person's recordings."""
    limits = {}
    for person in np.unique(source.people[source.held_out]):
        parts = [source.recording(int(index)) for index in np.flatnonzero(source.people == person)]
        low, high = np.percentile(np.concatenate(parts), recipe.scale_percentiles)
        limits[int(person)] = (float(low), float(high))
    unfiltered = _spread(_cuts(source, source.people, limits), most, seed)
    return _terciles("SpO2 level", source, unfiltered, np.array([cut[0].mean() for cut in unfiltered]))


def _terciles(name: str, source: Source, cuts: list[Cut], values: NDArray[np.float64]) -> Trial:
    labels = np.digitize(values, np.quantile(values, (1 / 3, 2 / 3)))
    relabelled = [(window, int(label), *rest) for (window, _, *rest), label in zip(cuts, labels, strict=True)]
    return _trial(name, source, ("low", "middle", "high"), relabelled)  # type: ignore[arg-type]


def _trial(name: str, source: Source, classes: tuple[str, ...], cuts: list[Cut]) -> Trial:
    windows, labels, people, limits = zip(*cuts, strict=True)
    return Trial(
        name, source.modality, source.fs, classes, list(windows), np.array(labels), np.array(people), list(limits)
    )


def main(arguments: list[str] | None = None) -> None:
    """Score weights on people held out: balanced accuracy of linear probes, plain and standardised per person."""
    import torch

    from tiny_biomoe.inference.runtime import embed_levels
    from tiny_biomoe.model import TinyBioMoE

    parser = argparse.ArgumentParser(prog="python -m pretraining.validation", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that pretraining.pack wrote")
    parser.add_argument("--weights", help="folder or Hub id; the bundled weights otherwise")
    parser.add_argument("--untrained", action="store_true", help="the network as it is built, for comparison")
    parser.add_argument("--seed", type=int, default=0, help="of the untrained network")
    parser.add_argument("--representation", nargs="+", default=["scalogram"], choices=list(REPRESENTATIONS))
    parser.add_argument("--most", type=int, default=60, help="windows a person and trial")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a JSON file")
    given = parser.parse_args(arguments)
    torch.manual_seed(given.seed)
    model = TinyBioMoE() if given.untrained else TinyBioMoE.from_pretrained(given.weights)
    scores = {}
    for trial in trials(read_pack(given.data), model.recipe, given.most):
        vectors = embed_levels(model, trial.images(model.recipe, tuple(given.representation)), batch_size=16)
        scores[trial.name] = {
            "windows": len(trial.labels), "people": np.unique(trial.people).size, "chance": 1 / len(trial.classes),
            "plain": score(vectors, trial), "per person": score(vectors, trial, per_person=True),
        }  # fmt: skip
        print(f"{trial.name}: {scores[trial.name]}", flush=True)
    output = {"weights": model.config.name, "representations": given.representation, "scores": scores}
    given.output.write_text(json.dumps(output, indent=2) + "\n")


if __name__ == "__main__":
    main()
