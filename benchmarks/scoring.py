"""The rows of the bench: what is probed for a task, what is chosen inside the folds, what is compared."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from benchmarks import baselines, protocol
from benchmarks.baselines import BASELINES, FITTED, TOGETHER, minirocket
from benchmarks.datasets import Dataset
from benchmarks.embedding_cache import Embedded, fuse, save
from benchmarks.protocol import Estimate, Features, Fitted, Probed
from tiny_biomoe.images.representations import REPRESENTATIONS

PROTOCOLS = ("plain", "per person")
SHUFFLES = 5  # of the labels, whose mean score is shown
OTHER_READINGS = (", rows", ", encoder 1", ", encoder 2")  # ends of names of rows that are not of the 192 numbers
FEWEST_UNITS = 5  # persons; where fewer are tested, windows are drawn anew for the intervals instead


@dataclass(frozen=True, eq=False)
class Row:
    """One row of a task's table."""

    group: str  # "ours", "untrained", "baseline"
    name: str
    dims: int | None  # features a window; None where it differs between folds
    seconds: float  # for 1000 windows
    probed: dict[str, Probed]  # by protocol
    picked: dict[str, list[str]] = field(default_factory=dict)  # by protocol, what each fold chose

    @property
    def label(self) -> str:
        """Group and name, as tables show them."""
        return self.name if self.group == "baseline" else f"{self.group}: {self.name}"


def source(module: ModuleType) -> str:
    """sha256 of a module's text: what it computed before it was changed is not taken from the cache."""
    return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()


class Scorer:
    """Probes features of one task, remembering on disk what it has probed."""

    def __init__(self, dataset: Dataset, cache: Path) -> None:
        self.dataset, self.cache = dataset, cache
        self.labels, self.persons = dataset.labels, dataset.persons
        self.folds = protocol.folds_of(self.labels, self.persons, dataset.held_out)
        self.protocols = PROTOCOLS if dataset.held_out is None else PROTOCOLS[:1]  # an ECG is one window of one person
        tested = np.concatenate([test for _, test in self.folds])
        self.by_person = np.unique(self.persons[tested]).size >= FEWEST_UNITS
        self.units: NDArray[np.generic] = self.persons if self.by_person else np.arange(self.labels.size)
        self.digest = hashlib.sha256(
            "".join(dataset.digest(m) for m in dataset.modalities).encode() + self.labels.tobytes()
        ).hexdigest()

    def row(self, group: str, name: str, features: Features | Fitted, dims: int, seconds: float) -> Row:
        """Probe features in every protocol."""
        return Row(group, name, dims, seconds, {p: self.probe(features, p, name) for p in self.protocols})

    def probe(self, features: Features | Fitted, kind: str, name: str, folds: Sequence[int] | None = None) -> Probed:
        """What a probe of the features says, from disk where it was asked before."""
        content = name.encode() if callable(features) else np.ascontiguousarray(features).tobytes()
        key = hashlib.sha256(f"{self.digest} {source(protocol)} {kind} {folds}".encode() + content).hexdigest()
        path = self.cache / "probes" / f"{key}.npz"
        if not path.exists():
            standardised = protocol.per_person(features, self.persons) if kind == "per person" else features
            asked = self.folds if folds is None else [self.folds[i] for i in folds]
            save(path, **vars(protocol.probe(standardised, self.labels, self.persons, asked)))
        with np.load(path) as kept:
            return Probed(**{key: kept[key] for key in kept.files})

    def confusions(self, row: Row, kind: str) -> NDArray[np.int64]:
        """(n_units, k, k)."""
        return protocol.person_confusions(row.probed[kind], self.labels, self.units)

    def timed(self, name: str, extract: Callable[[Dataset], Features | Fitted]) -> tuple[Features | Fitted, int, float]:
        """A baseline's features, their number, and the seconds they cost for 1000 windows."""
        path = self.cache / "baselines" / f"{name} {source(baselines)[:8]} {self.digest}.npz"
        thousands = self.labels.size / 1000
        if name in FITTED:
            fitted = extract(self.dataset)
            assert callable(fitted)
            dims = fitted(self.folds[0][0]).shape[1]  # the first call compiles
            begin = time.perf_counter()
            again = extract(self.dataset)  # some of it may be computed here
            assert callable(again)
            again(self.folds[0][0])
            return fitted, dims, (time.perf_counter() - begin) / thousands
        if not path.exists():
            begin = time.perf_counter()
            features = extract(self.dataset)
            assert not callable(features)
            save(path, features=features, seconds=np.array((time.perf_counter() - begin) / thousands))
        with np.load(path) as kept:
            return kept["features"], kept["features"].shape[1], float(kept["seconds"])

    def baselines(self, names: Sequence[str] = tuple(BASELINES)) -> list[Row]:
        """Rows of what one would use instead."""
        found = {name: self.timed(name, BASELINES[name]) for name in names}
        if set(TOGETHER) <= set(names):
            parts = [found[name] for name in TOGETHER]
            together = np.concatenate([part[0] for part in parts], axis=1)  # type: ignore[arg-type]
            found["+".join(TOGETHER)] = (together, together.shape[1], sum(part[2] for part in parts))
        return [self.row("baseline", name, *facts) for name, facts in found.items()]

    def network(self, group: str, embedded: dict[tuple[str, str], Embedded]) -> list[Row]:
        """Rows of one network: each representation, all six by concat and by add, the best two, and the best of these
        rows; both choices are made inside each fold's training rows."""

        def of(name: str, part: Embedded) -> Row:
            return self.row(group, name, part.vectors, part.vectors.shape[1], 1000 * part.seconds)

        singles = [of(f"{name}, {scale}", part) for (name, scale), part in embedded.items()]
        six = []
        several = len({name for name, _ in embedded}) == len(REPRESENTATIONS)
        for scale in dict.fromkeys(scale for _, scale in embedded if scale != "any" and several):
            parts = [part for (_, other), part in embedded.items() if other in (scale, "any")]
            six += [of(f"all six by {fusion}, {scale}", fuse(parts, fusion)) for fusion in ("concat", "add")]
        rows = [*singles, *six]
        if len(singles) > 1:
            rows.append(self._best_two(group, singles, list(embedded.values())))
        return [*rows, self._chosen(group, rows)]

    def readings(self, group: str, reading: str, embedded: dict[tuple[str, str], Embedded]) -> list[Row]:
        """Rows of another reading of the same passes: each representation, and the best of them inside the folds."""
        rows = [
            self.row(group, f"{name}, {scale}, {reading}", part.vectors, part.vectors.shape[1], 1000 * part.seconds)
            for (name, scale), part in embedded.items()
        ]
        return [*rows, self._chosen(group, rows, f", {reading}")] if len(rows) > 1 else rows

    def joined(self, group: str, name: str, part: Embedded) -> Row:
        """A vector beside MiniRocket's features, repeated until both have as many numbers: what it adds to them.

        A probe with an L2 penalty would all but overlook 192 numbers among 9 996.
        """
        extract, vectors = minirocket(self.dataset), part.vectors

        def fitted(training: NDArray[np.intp]) -> Features:
            others = extract(training)
            return np.concatenate([others, np.tile(vectors, max(1, others.shape[1] // vectors.shape[1]))], axis=1)

        digest = hashlib.sha256(np.ascontiguousarray(vectors).tobytes()).hexdigest()
        probed = {kind: self.probe(fitted, kind, f"MiniRocket and {digest}") for kind in self.protocols}
        return Row(group, f"{name} + MiniRocket", None, 1000 * part.seconds, probed)

    def _best_two(self, group: str, singles: list[Row], parts: list[Embedded]) -> Row:
        probed, picked, seconds = {}, {}, []
        for kind in self.protocols:
            pairs = protocol.choose([row.probed[kind] for row in singles], 2)
            found = []
            for fold, pair in enumerate(pairs):
                both = fuse([parts[i] for i in sorted(pair)], "concat")
                found.append(self.probe(both.vectors, kind, "best two", [fold]))
                seconds.append(1000 * both.seconds)
            probed[kind] = Probed(
                np.concatenate([one.rows for one in found]),
                np.concatenate([one.predicted for one in found]),
                np.repeat(np.arange(len(found)), [one.rows.size for one in found]),
                np.concatenate([one.inner for one in found]),
            )
            picked[kind] = [" + ".join(singles[i].name for i in sorted(pair)) for pair in pairs]
        return Row(group, "best two by concat", 2 * parts[0].vectors.shape[1], float(np.mean(seconds)), probed, picked)

    def _chosen(self, group: str, rows: list[Row], reading: str = "") -> Row:
        picks = {kind: protocol.choose([row.probed[kind] for row in rows])[:, 0] for kind in self.protocols}
        seconds = [rows[i].seconds for pick in picks.values() for i in pick]
        return Row(
            group,
            f"chosen inside the folds{reading}",
            None,
            float(np.mean(seconds)),
            {kind: protocol.chosen([row.probed[kind] for row in rows]) for kind in self.protocols},
            {kind: [rows[i].name for i in pick] for kind, pick in picks.items()},
        )

    def controls(self, features: Features) -> dict[str, dict[str, list[float]]]:
        """Balanced accuracy, by protocol, of what must be at chance and of what knows the time alone."""
        found: dict[str, dict[str, list[float]]] = {}
        for kind in self.protocols:
            x = protocol.per_person(features, self.persons) if kind == "per person" else features
            assert not callable(x)
            found[kind] = {"labels shuffled": self._shuffled(x, within=False)}
            if self.dataset.held_out is None:
                found[kind]["labels shuffled within each person"] = self._shuffled(x, within=True)
                times = self.dataset.times
                for name, knots in (("clock", times[:, None]), ("clock, by the minute", protocol.clock(times))):
                    row = self.row("control", name, knots, knots.shape[1], 0.0)
                    found[kind][name] = list(vars(self.estimate(row, kind)).values())
        return found

    def _shuffled(self, x: Features, within: bool) -> list[float]:
        scores = []
        for seed in range(SHUFFLES):
            labels = protocol.shuffled(self.labels, self.persons, seed, within)
            probed = protocol.probe(x, labels, self.persons, self.folds)
            classes = len(self.dataset.classes)
            counts = protocol.confusion(labels[probed.rows], probed.predicted, classes)
            scores.append(float(protocol.balanced_accuracy(counts)))
        return [float(np.mean(scores)), min(scores), max(scores)]

    def estimate(self, row: Row, kind: str, metric: Callable[..., NDArray[np.float64]] | None = None) -> Estimate:
        """Score of a row with its interval."""
        return protocol.estimate(self.confusions(row, kind), metric or protocol.balanced_accuracy)

    def differences(self, rows: list[Row]) -> list[dict[str, object]]:
        """Paired differences: ours as chosen inside the folds, by either reading, and ours as it came out best (which
        flatters it: that choice has seen the scores), against each baseline and the untrained networks; both joined
        with MiniRocket against MiniRocket; rows against the 192 numbers; the mean gain over like rows."""
        ours = {row.name: row for row in rows if row.group == "ours"}
        untrained = [row for row in rows if row.group.startswith("untrained")]
        found: list[dict[str, object]] = []
        for kind in self.protocols if ours else ():

            def of(row: Row, kind: str = kind) -> NDArray[np.int64]:
                return self.confusions(row, kind)

            def note(first: str, second: str, difference: Estimate, kind: str = kind) -> None:
                found.append({"protocol": kind, "first": first, "second": second, **vars(difference)})

            best = max(ours.values(), key=lambda row: protocol.balanced_accuracy(of(row).sum(axis=0)))
            others = [row for row in rows if row.group == "baseline"]
            if untrained:
                others += [row for row in untrained if row.name == "chosen inside the folds"]
                alike = [row for row in untrained if row.name in ours and not row.name.endswith(OTHER_READINGS)]
                mine = [of(ours[name]) for name in dict.fromkeys(row.name for row in alike)]
                gain = protocol.paired_difference(mine, [of(row) for row in alike])
                note(f"ours, mean of {len(mine)} rows", "untrained, the same rows", gain)
                halves = [row for row in untrained if row.name in ours and row.name.endswith(OTHER_READINGS[1:])]
                pairs = [(ours[row.name], row) for row in halves]
            else:
                pairs = []
            firsts = [(ours["chosen inside the folds"], "")]
            if (by_rows := self._of_rows(ours)) is not None:
                firsts.append((by_rows, ""))
                pairs.append((by_rows, ours["chosen inside the folds"]))
            pairs += [(ours[f"{name}, rows"], ours[name]) for name in ours if f"{name}, rows" in ours]
            mini = [row for row in others if row.name == "MiniRocket"]
            pairs += [(row, other) for row in ours.values() if row.name.endswith(" + MiniRocket") for other in mini]
            pairs += [(first, other) for first, _ in firsts for other in others]
            for first, second in dict.fromkeys(pairs):
                note(first.label, second.label, protocol.paired_difference([of(first)], [of(second)]))
            for other in others:
                difference = protocol.paired_difference([of(best)], [of(other)])
                note(f"{best.label} (best in the table)", other.label, difference)
        return found

    @staticmethod
    def _of_rows(ours: dict[str, Row]) -> Row | None:
        """Readout "rows" as chosen inside the folds, or the one row that there is of it."""
        found = [row for name, row in ours.items() if name.endswith(", rows")]
        return ours.get("chosen inside the folds, rows", found[0] if len(found) == 1 else None)
