"""What choices in pretraining are made by: rates, conditions and levels of people whom no run has seen.

`python -m pretraining.validation --data PACK [--weights FOLDER | --untrained] -o scores.json` scores weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
TERCILES = ("low", "middle", "high")  # of all windows of a trial
STRENGTHS = tuple(10.0**power for power in range(-2, 5))  # of the regularisation
FOLDS = 8  # of people, where there are more
CONDITIONS = ("eda", "bvp", "resp", "eeg")  # modalities whose classes are read of everyone held out
ALONE = {"ecg": 300}  # sources whose recordings name no person: one window each, of so many recordings


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

    def digest(self) -> str:
        """Sixteen digits of its windows and their classes: another pack, or other settings, give others."""
        digest = hashlib.sha256(self.labels.tobytes() + self.people.tobytes())
        for window, limits in zip(self.windows, self.limits, strict=True):
            digest.update(np.ascontiguousarray(window).tobytes() + repr(limits).encode())
        return digest.hexdigest()[:16]

    def images(self, recipe: Recipe, representations: tuple[str, ...] = tuple(REPRESENTATIONS)) -> Iterator[Levels]:
        """Of each window in turn, each (224, 224)."""
        edges = passband(self.fs, self.modality, recipe)
        for window, limits in zip(self.windows, self.limits, strict=True):
            filtered = apply_filter(window, self.fs, edges, recipe)
            for name in representations:
                yield draw(filtered, self.fs, edges, name, recipe, limits)


class Cut(NamedTuple):
    """A window of somebody held out."""

    window: Signal
    person: int
    value: float  # what its class is made of: the recording's class, a rate in Hz, a level
    limits: Limits | None = None


def trials(sources: list[Source], recipe: Recipe = Recipe(), most: int = 20, seed: int = 0) -> list[Trial]:
    """Every trial that a pack allows: of two people held out at least.

    Parameters
    ----------
    most : windows of one person and trial
    seed : of which windows are taken, where there are more
    """
    by_name = {source.name: source for source in sources}
    found: list[tuple[str, Source, tuple[str, ...], list[Cut]]] = []
    for name, (modality, names) in RATE_SOURCES.items():
        if held := [by_name[each] for each in names if each in by_name]:
            found.append((name, held[0], TERCILES, _rates(held, SHOWN * recipe.modality(modality).high)))
    for source in sources:
        if source.modality in CONDITIONS and source.classes:
            found.append((f"{source.name} condition", source, source.classes, list(_cuts(source))))
        if source.name in ALONE:
            found.append((f"{source.name} class", source, source.classes, _middles(source, ALONE[source.name], seed)))
    if LEVEL_SOURCE in by_name:
        source = by_name[LEVEL_SOURCE]
        found.append(("SpO2 level", source, TERCILES, _levels(source, recipe)))
    kept = [(name, source, classes, _spread(cuts, most, seed)) for name, source, classes, cuts in found]
    return [_trial(*each) for each in kept if len({cut.person for cut in each[3]}) > 1]


def score(vectors: NDArray[np.floating], trial: Trial, per_person: bool = False) -> float:
    """Balanced accuracy of a ridge classifier, each person scored by one fitted on others: (n, dim) to [0, 1].

    More than eight people are scored in eight folds. The regularisation is chosen among `STRENGTHS` by leaving out one
    of the folds that are fitted on after the other.

    Parameters
    ----------
    per_person : standardise each person's numbers by their own mean and spread first
    """
    return float(_balanced(counts(vectors, trial, per_person).sum(0)))


def counts(vectors: NDArray[np.floating], trial: Trial, per_person: bool = False) -> NDArray[np.float64]:
    """Windows of each person and class that are read rightly, and all, which `score` sums: (n_people, n_classes, 2)."""
    x = np.asarray(vectors, np.float64).reshape(len(trial.labels), -1)
    if per_person:
        x = _standardised(x, trial.people)
    people, who = np.unique(trial.people, return_inverse=True)
    folds = who % FOLDS
    found = np.zeros((len(people), len(trial.classes), 2))
    for fold in np.unique(folds):
        others = folds != fold
        inner = np.zeros((len(STRENGTHS), len(trial.classes), 2))
        for left_out in np.unique(folds[others]):
            if (fitted := others & (folds != left_out)).any():
                inner += _right(x, trial, fitted, folds == left_out).sum(1)
        right = _right(x, trial, others, ~others)[int(_balanced(inner).argmax())]
        found[np.unique(who[~others])] = right
    return found


def gain(
    first: Sequence[NDArray[np.float64]],
    second: Sequence[NDArray[np.float64]],
    draws: int = 2000,
    seed: int = 0,
    percent: float = 95.0,
) -> tuple[float, float, float]:
    """Mean score of one kind of vectors less that of another, and its interval over people drawn anew in each trial.

    Parameters
    ----------
    first, second : `counts` of the same trials, in the same order; those of both protocols, stacked in front, are two
        numbers of one trial, for which the same people are drawn
    percent : of the draws, that lie in the interval
    """
    rng = np.random.default_rng(seed)
    drawn, value, numbers = np.zeros(draws), 0.0, 0
    for mine, other in zip(first, second, strict=True):
        people = mine.shape[-3]
        times = rng.multinomial(people, np.full(people, 1 / people), draws).astype(float)
        for sign, part in ((1, mine), (-1, other)):
            part = part.reshape(-1, *part.shape[-3:])  # (numbers, people, classes, 2)
            drawn += sign * _balanced(np.einsum("dp,npck->ndck", times, part)).sum(0)
            value += sign * float(_balanced(part.sum(1)).sum())
        numbers += len(part)
    low, high = np.percentile(drawn / numbers, [50 - percent / 2, 50 + percent / 2])
    return value / numbers, float(low), float(high)


def interval(found: NDArray[np.float64], draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """Balanced accuracy of some `counts`, and its 95 % interval over people drawn anew."""
    people = len(found)
    times = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), draws).astype(float)
    low, high = np.percentile(_balanced(np.einsum("dp,pck->dck", times, found)), [2.5, 97.5])
    return float(_balanced(found.sum(0))), float(low), float(high)


def _right(
    x: NDArray[np.float64], trial: Trial, fitted: NDArray[np.bool_], scored: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Windows that are read rightly and all of them: (n_strengths, n_people that are scored, n_classes, 2)."""
    mean, spread = x[fitted].mean(0), np.maximum(x[fitted].std(0), 1e-9)
    known, labels = (x[fitted] - mean) / spread, trial.labels[fitted]
    wanted = (labels[:, None] == np.arange(len(trial.classes))) * 2.0 - 1
    weights = 1 / np.sqrt(np.bincount(labels, minlength=len(trial.classes)))[labels]  # classes count alike
    known, wanted = np.column_stack([known, np.ones(len(known))]) * weights[:, None], wanted * weights[:, None]
    asked = np.column_stack([(x[scored] - mean) / spread, np.ones(scored.sum())])
    if len(known) < known.shape[1]:
        values, vectors = np.linalg.eigh(known @ known.T)
        asked, told = asked @ known.T @ vectors, vectors.T @ wanted
    else:
        values, vectors = np.linalg.eigh(known.T @ known)
        asked, told = asked @ vectors, vectors.T @ (known.T @ wanted)
    values = np.maximum(values, 0.0)
    people, who = np.unique(trial.people[scored], return_inverse=True)
    found = np.zeros((len(STRENGTHS), len(people), len(trial.classes), 2))
    for index, strength in enumerate(STRENGTHS):
        predicted = ((asked / (values + strength)) @ told).argmax(1)
        np.add.at(found[index], (who, trial.labels[scored], 0), predicted == trial.labels[scored])
        np.add.at(found[index], (who, trial.labels[scored], 1), 1)
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


def _cuts(source: Source) -> Iterator[Cut]:
    """Windows side by side of everyone held out, each with its recording's class."""
    size = round(source.test_seconds * source.fs)
    for index in np.flatnonzero(source.held_out).tolist():
        recording = source.recording(index)
        for start in range(0, recording.size - size + 1, size):
            window = recording[start : start + size]
            if not is_flat(window):
                yield Cut(window, int(source.people[index]), int(source.labels[index]))


def _middles(source: Source, count: int, seed: int) -> list[Cut]:
    """The middle of `count` recordings held out, drawn at random, whose people are not known: each its own."""
    size, found = round(source.test_seconds * source.fs), []
    for index in np.random.default_rng(seed).permutation(np.flatnonzero(source.held_out)).tolist():
        start = (int(source.offsets[index + 1] - source.offsets[index]) - size) // 2
        if start < 0 or is_flat(window := source.cut(index, start, size)):
            continue
        found.append(Cut(window, int(source.people[index]), int(source.labels[index])))
        if len(found) == count:
            break
    return found


def _spread(cuts: list[Cut], most: int, seed: int) -> list[Cut]:
    """At most so many windows of each person, drawn at random, in their order."""
    chosen: list[int] = []
    for person in dict.fromkeys(cut.person for cut in cuts):
        theirs = [index for index, cut in enumerate(cuts) if cut.person == person]
        chosen += np.random.default_rng([seed, person]).permutation(theirs)[:most].tolist()
    return [cuts[index] for index in sorted(chosen)]


def _rates(sources: list[Source], highest: float) -> list[Cut]:
    """Windows whose rate is certain and can be seen, with that rate."""
    found = []
    for number, source in enumerate(sources):
        for cut in _cuts(source):
            rate = steady_rate(cut.window, source.fs, source.modality)
            if rate is not None and rate < highest:  # two sets may count their people alike
                found.append(cut._replace(person=cut.person + 1_000_000 * number, value=rate))
    return found


def _levels(source: Source, recipe: Recipe) -> list[Cut]:
    """Windows with their mean, to be drawn against the range of the person's recordings."""
    limits = {}
    for person in np.unique(source.people[source.held_out]).tolist():
        parts = [source.recording(index) for index in np.flatnonzero(source.people == person).tolist()]
        low, high = np.percentile(np.concatenate(parts), recipe.scale_percentiles)
        limits[person] = (float(low), float(high))
    return [cut._replace(value=float(cut.window.mean()), limits=limits[cut.person]) for cut in _cuts(source)]


def _trial(name: str, source: Source, classes: tuple[str, ...], cuts: list[Cut]) -> Trial:
    windows, people, values, limits = (list(column) for column in zip(*cuts, strict=True))
    labels = np.digitize(values, np.quantile(values, (1 / 3, 2 / 3))) if classes == TERCILES else np.array(values)
    return Trial(
        name, source.modality, source.fs, classes, windows, labels.astype(np.int64), np.array(people, np.int64), limits
    )


def main(arguments: list[str] | None = None) -> None:
    """Score weights on people held out: balanced accuracy of linear probes, plain and standardised per person."""
    import torch

    from tiny_biomoe.model import TinyBioMoE, embed_levels

    parser = argparse.ArgumentParser(prog="python -m pretraining.validation", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that pretraining.pack wrote")
    parser.add_argument("--weights", help="folder or Hub id; the bundled weights otherwise")
    parser.add_argument("--untrained", action="store_true", help="the network as it is built, for comparison")
    parser.add_argument("--seed", type=int, default=0, help="of the untrained network")
    parser.add_argument("--representation", nargs="+", default=["scalogram"], choices=list(REPRESENTATIONS))
    parser.add_argument("--most", type=int, default=20, help="windows a person and trial")
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
