"""Embeddings of a task's windows by one network, kept on disk, so that a killed run goes on from there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.datasets import Dataset
from tiny_biomoe import TinyBioMoE
from tiny_biomoe.config import IMAGE_SIZE
from tiny_biomoe.errors import SignalError
from tiny_biomoe.images.rendering import Levels, draw
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.model import embed_levels
from tiny_biomoe.signals.filters import NOTHING_LEFT, passband
from tiny_biomoe.weights.loading import tensor_digest

BATCH = 16  # images at once; more no longer fit the cache of a CPU
SCALES = ("window", "recording")
READINGS = (
    "embedding",
    "encoder 1",
    "encoder 2",
    "rows",
)  # of one pass: the 192, their halves, rows of last maps
SCALE_FREE = ("angle", "phase")  # the same image whatever the signal's level and gain, so computed once
BLANK = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)  # of a flat window, which has no range of its own to be drawn in


@dataclasses.dataclass(frozen=True, eq=False)
class Embedded:
    """Vectors of all windows, and what one window costs: drawing and network, in seconds."""

    vectors: NDArray[np.float32]  # (n, 192) or of another reading, or several such side by side
    seconds: float  # a window


class Embedder:
    """One network's embeddings, by task, scale and representation.

    Parameters
    ----------
    model : in eval mode, on the device it shall run on
    cache : folder for the vectors
    """

    def __init__(self, model: TinyBioMoE, cache: Path) -> None:
        self.model, self.cache = model, cache / "embeddings"
        recipe = json.dumps(dataclasses.asdict(model.recipe), sort_keys=True)
        facts = tensor_digest(model.state_dict()) + recipe + json.dumps(model.frozen().backend.facts(), sort_keys=True)
        self.digest = hashlib.sha256(facts.encode()).hexdigest()

    def embed(self, dataset: Dataset, scale: str, representation: str, reading: str = "embedding") -> Embedded:
        """Vectors of all modalities side by side: (n, n_modalities * 192), or as many numbers as the reading has."""
        width = self.model.architecture.embedding_dim
        columns = {
            "embedding": slice(width), "encoder 1": slice(width // 2), "encoder 2": slice(width // 2, width),
            "rows": slice(width, None),
        }[reading]  # fmt: skip
        parts = [self._embed(dataset, modality, scale, representation) for modality in dataset.modalities]
        vectors = np.concatenate([part.vectors[:, columns] for part in parts], axis=1)
        return Embedded(vectors, sum(part.seconds for part in parts))

    def _embed(self, dataset: Dataset, modality: str, scale: str, representation: str) -> Embedded:
        """All readings of one modality: (n, 192 + 1056)."""
        scale = "window" if representation in SCALE_FREE else scale
        key = f"{self.digest} {dataset.digest(modality)} {scale} {representation} with rows"
        path = self.cache / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"
        if not path.exists():
            name = f"{self.model.config.name}: {dataset.name} {modality} {representation}, {scale}"
            images = tqdm(
                self._images(dataset, modality, scale, representation), name, len(dataset.windows), leave=False
            )
            begin = time.perf_counter()
            vectors = embed_levels(self.model, images, BATCH, rows=True)
            seconds = (time.perf_counter() - begin) / len(vectors)
            save(path, vectors=vectors, seconds=np.array(seconds))
        with np.load(path) as kept:
            return Embedded(kept["vectors"], float(kept["seconds"]))

    def _images(self, dataset: Dataset, modality: str, scale: str, representation: str) -> Iterator[Levels]:
        edges = passband(dataset.fs[modality], modality, self.model.recipe)
        for window in dataset.windows:
            signal, limits = window.signals[modality], window.limits[modality]
            noise = NOTHING_LEFT * (limits[1] - limits[0])
            shown = limits if scale == "recording" else None
            try:
                yield draw(
                    signal, dataset.fs[modality], edges, representation, self.model.recipe, shown,
                    noise=0.0 if shown else noise,
                )  # fmt: skip
            except SignalError:
                yield BLANK


def flat_windows(dataset: Dataset) -> int:
    """How many windows are flat in a modality, so that scale="window" shows a blank image."""
    flat = np.zeros(len(dataset.windows), bool)
    for modality in dataset.modalities:
        spans = [w.limits[modality][1] - w.limits[modality][0] for w in dataset.windows]
        flat |= np.ptp(dataset.matrix(modality), axis=1) <= NOTHING_LEFT * np.array(spans)
    return int(flat.sum())


def fuse(parts: list[Embedded], fusion: str) -> Embedded:
    """Several representations: side by side ("concat"), or summed, modality by modality ("add")."""
    stacked = [part.vectors for part in parts]
    vectors = np.concatenate(stacked, axis=1) if fusion == "concat" else np.sum(stacked, axis=0)
    return Embedded(vectors, sum(part.seconds for part in parts))


def all_embeddings(
    embedder: Embedder,
    dataset: Dataset,
    scales: Sequence[str],
    representations: Sequence[str] = tuple(REPRESENTATIONS),
    reading: str = "embedding",
) -> dict[tuple[str, str], Embedded]:
    """Every representation at every scale, by (representation, scale); what has no scale comes once, as "any"."""
    found = {}
    for scale in scales:
        for representation in representations:
            key = (representation, "any" if representation in SCALE_FREE else scale)
            if key not in found:
                found[key] = embedder.embed(dataset, scale, representation, reading)
    return found


def save(path: Path, **arrays: NDArray[np.generic]) -> None:
    """Write arrays whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    np.savez(partial, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
    os.replace(partial, path)
