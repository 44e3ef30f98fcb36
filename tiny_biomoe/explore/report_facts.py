"""What a report says of a study, as numbers: hours, quality over time, labels, outliers, subjects that lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .folder import EmbeddingFolder
from .projection import BLOCK, to_unit

NO_SUBJECT, NO_LABEL = "no subject", "no label"
BINS = 24  # of time within the recording
OUTLIERS = 12  # windows that a report shows at most; of a small study one in twenty, but three
PER_MODALITY = 4000  # windows that are compared with each other; more are sampled
APART = 0.25  # silhouette from which a subject's windows count as a cluster of their own (Kaufman & Rousseeuw 1990)
FEWEST = 5  # windows of a subject for that
QUALITY = ("missing", "flat", "clipped")


@dataclass(frozen=True)
class QualityOverTime:
    """Mean shares of samples that are missing, flat or clipped, along the recordings of a modality."""

    modality: str
    minutes: NDArray[np.float64]  # (b,), middles of the bins
    shares: dict[str, NDArray[np.float64]]  # (b,) each, NaN where no window lies
    means: dict[str, float]  # over all windows


@dataclass(frozen=True)
class Outlier:
    """A window that lies far from every other one of its modality."""

    row: int  # in the folder
    modality: str
    distance: float  # cosine distance to the nearest other window, in [0, 2]
    times: float  # so many times the median of its modality


@dataclass(frozen=True)
class Apart:
    """How far a subject's windows lie from those of others."""

    modality: str
    subject: str
    windows: int  # looked at
    silhouette: float  # in [-1, 1]: 1 apart from all others, 0 among them


def seconds_covered(table: pa.Table) -> NDArray[np.float64]:
    """Seconds of signal that each window adds to those before it in its channel, (n,): overlaps count once."""
    joined = pc.binary_join_element_wise(
        pc.cast(table["source"], pa.string()), pc.cast(table["channel"], pa.string()), "\x1f"
    )
    group = pc.dictionary_encode(joined).combine_chunks().indices.to_numpy()
    start, stop = table["start"].to_numpy(), table["stop"].to_numpy()
    order = np.lexsort((start, group))
    offset = group[order] * (stop.max() + 1.0)
    begins, ends = start[order] + offset, stop[order] + offset
    before = np.concatenate([[-np.inf], np.maximum.accumulate(ends)[:-1]])
    covered = np.empty(len(start))
    covered[order] = np.clip(ends - np.maximum(begins, before), 0.0, None)
    return covered


def sums(rows: Sequence[str], columns: Sequence[str], values: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Sums of values by row and column, both sorted.

    >>> sums(["a", "a", "b"], ["x", "y", "x"], np.array([1.0, 2.0, 3.0]))
    {'a': {'x': 1.0, 'y': 2.0}, 'b': {'x': 3.0}}
    """
    names, row_codes = np.unique(np.array(rows, object), return_inverse=True)
    others, column_codes = np.unique(np.array(columns, object), return_inverse=True)
    totals = np.zeros((len(names), len(others)))
    np.add.at(totals, (row_codes, column_codes), values)
    there = np.zeros(totals.shape, bool)
    there[row_codes, column_codes] = True
    return {
        str(name): {str(other): float(totals[i, j]) for j, other in enumerate(others) if there[i, j]}
        for i, name in enumerate(names)
    }


def cells(table: pa.Table, name: str, empty: str) -> list[str]:
    """A column as text, with a word for empty cells."""
    return [empty if value is None else str(value) for value in table[name].to_pylist()]


def quality_over_time(table: pa.Table) -> list[QualityOverTime]:
    """Of each modality, along the time within its recordings."""
    modality, start = np.array(table["modality"].to_pylist(), object), table["start"].to_numpy()
    found = []
    for name in sorted(set(modality)):
        mine = modality == name
        times = start[mine] / 60
        edges = np.linspace(times.min(), max(times.max(), times.min() + 1e-9), min(BINS, len(np.unique(times))) + 1)
        place = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, len(edges) - 2)
        counts = np.bincount(place, minlength=len(edges) - 1)
        shares, means = {}, {}
        for each in QUALITY:
            values = table[each].to_numpy()[mine]
            total = np.bincount(place, values, minlength=len(edges) - 1)
            shares[each] = np.divide(total, counts, out=np.full(len(total), np.nan), where=counts > 0)
            means[each] = float(values.mean())
        found.append(QualityOverTime(str(name), (edges[:-1] + edges[1:]) / 2, shares, means))
    return found


def samples_by_modality(table: pa.Table, seed: int) -> dict[str, NDArray[np.int64]]:
    """Rising numbers of the windows of each modality, at most `PER_MODALITY` at random."""
    modality = np.array(table["modality"].to_pylist(), object)
    random, found = np.random.default_rng(seed), {}
    for name in sorted(set(modality)):
        rows = np.flatnonzero(modality == name)
        if len(rows) > PER_MODALITY:
            rows = np.sort(random.choice(rows, PER_MODALITY, replace=False))
        found[str(name)] = rows.astype(np.int64)
    return found


def compare_windows(
    folder: EmbeddingFolder, table: pa.Table, representation: str, seed: int
) -> tuple[list[Outlier], list[Apart]]:
    """The windows that lie farthest from all others, and how far each subject's lie from those of the others."""
    outliers: list[Outlier] = []
    apart: list[Apart] = []
    subjects = np.array(cells(table, "subject", ""), object)
    for modality, rows in samples_by_modality(table, seed).items():
        unit = to_unit(folder.vectors(representation, rows))
        distances = nearest_distances(unit)
        usual = float(np.median(distances)) if len(rows) > 2 else 0.0
        if usual > 0:
            outliers += [
                Outlier(int(row), modality, float(distance), float(distance) / usual)
                for row, distance in zip(rows, distances, strict=True)
            ]
        apart += subjects_apart(unit, subjects[rows], modality)
    outliers.sort(key=lambda each: (-each.times, each.row))
    few = min(OUTLIERS, max(3, len(outliers) // 20))
    return outliers[:few], sorted(apart, key=lambda each: (-each.silhouette, each.modality, each.subject))


def nearest_distances(unit: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine distance of each vector of length 1, (n, 192), to the nearest other one, (n,)."""
    nearest = np.full(len(unit), 2.0)
    for start in range(0, len(unit), BLOCK):
        similarity = unit[start : start + BLOCK] @ unit.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -1.0
        nearest[start : start + BLOCK] = 1.0 - similarity.max(axis=1)
    return np.clip(nearest, 0.0, 2.0)


def subjects_apart(unit: NDArray[np.float32], subjects: NDArray[np.object_], modality: str) -> list[Apart]:
    """Mean silhouette of each subject's windows by cosine distance; nothing where there is one subject alone."""
    names, codes = np.unique(subjects, return_inverse=True)
    counts = np.bincount(codes)
    if len(names) < 2:
        return []
    belongs = np.zeros((len(unit), len(names)), np.float32)
    belongs[np.arange(len(unit)), codes] = 1.0
    similarity = unit.astype(np.float64) @ (unit.astype(np.float64).T @ belongs)  # sums over each subject's windows
    own = np.arange(len(unit)), codes
    within = 1.0 - (similarity[own] - 1.0) / np.maximum(counts[codes] - 1, 1)
    distances = 1.0 - similarity / counts
    distances[own] = np.inf
    beyond = distances.min(axis=1)
    scores = (beyond - within) / np.maximum(np.maximum(beyond, within), 1e-12)
    return [
        Apart(modality, str(name), int(counts[code]), float(scores[codes == code].mean()))
        for code, name in enumerate(names)
        if name and counts[code] >= FEWEST
    ]
