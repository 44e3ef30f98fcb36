"""Sources of recordings, and the folder that holds them all: what every form of pretraining draws its windows from.

A source is one modality of one published data set at one rate. A pack is a folder of sources; it is read with NumPy
alone. Samples are kept as int16 steps of each recording's own size, as differences whose low and high bytes lie apart,
under bzip2: about 6 bits a sample.
"""

from __future__ import annotations

import bz2
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PACK = "pack.json"  # written last: its presence says that the folder is whole
FORMAT = "tiny-biomoe-pack/1"
NO_LABEL = -1
SIZE_LIMIT = 55 * 2**20  # bytes of a pack
PIECE = 2**20  # samples compressed at a time, so that they can be read side by side
COLUMNS = ("offsets", "steps", "levels", "labels", "people", "held_out")


@dataclass(frozen=True)
class Source:
    """Recordings of one modality from one data set.

    Recording i is `samples[offsets[i]:offsets[i + 1]] * steps[i] + levels[i]`, in the source's own units.
    """

    name: str  # such as "wise-eda"; unique in a pack
    modality: str  # canonical name
    fs: float  # Hz
    classes: tuple[str, ...]  # of its supervised task; empty where it has none
    seconds: tuple[float, float]  # windows drawn in training last between these
    test_seconds: float  # and in evaluation this
    samples: NDArray[np.int16]
    offsets: NDArray[np.int64]  # (n + 1,)
    steps: NDArray[np.float64]  # (n,)
    levels: NDArray[np.float64]  # (n,)
    labels: NDArray[np.int64]  # (n,), class, or NO_LABEL
    people: NDArray[np.int64]  # (n,), or the recording's number where persons are not known
    held_out: NDArray[np.bool_]  # (n,), people kept for validation

    def __len__(self) -> int:
        return self.labels.size

    @property
    def durations(self) -> NDArray[np.float64]:
        """Of each recording, seconds: (n,)."""
        return np.diff(self.offsets) / self.fs

    def recording(self, index: int) -> NDArray[np.float64]:
        """Samples of one recording: (n_samples,)."""
        return self.cut(index, 0, int(self.offsets[index + 1] - self.offsets[index]))

    def cut(self, index: int, start: int, size: int) -> NDArray[np.float64]:
        """`size` samples of one recording from sample `start` on: (size,)."""
        first = int(self.offsets[index]) + start
        return self.samples[first : first + size].astype(np.float64) * self.steps[index] + self.levels[index]

    def odds(self) -> NDArray[np.float64]:
        """Odds of drawing each recording in training: (n,), 0 for people held out.

        Within a person by duration, between people and between classes by the square root of theirs, so that nobody
        and no class fills a source.
        """
        weights = np.where(self.held_out, 0.0, self.durations)
        for column in (self.people, self.labels):
            _, codes = np.unique(column, return_inverse=True)
            seconds = np.bincount(codes, np.where(self.held_out, 0.0, self.durations))
            weights = weights / np.sqrt(np.maximum(seconds, 1e-9))[codes]
        return weights / weights.sum()


@dataclass(frozen=True)
class Row:
    """One recording on its way into a source."""

    samples: NDArray[np.floating[Any] | np.integer[Any]]  # (n_samples,)
    person: int
    label: int = NO_LABEL
    held_out: bool = False


def gather(
    name: str,
    modality: str,
    fs: float,
    classes: tuple[str, ...],
    seconds: tuple[float, float],
    test_seconds: float,
    rows: Iterable[Row],
    resolution: float,
) -> Source:
    """A source of rows, in steps of their spread within a second or two divided by `resolution`.

    The spread is the median over pieces of 256 samples, so that one artefact does not coarsen a recording.
    """
    kept = list(rows)
    steps, levels, samples = zip(*(quantise(row.samples, resolution) for row in kept), strict=True)
    return Source(
        name, modality, fs, classes, seconds, test_seconds,
        samples=np.concatenate(samples),
        offsets=np.concatenate([[0], np.cumsum([part.size for part in samples])]).astype(np.int64),
        steps=np.array(steps), levels=np.array(levels),
        labels=np.array([row.label for row in kept], np.int64),
        people=np.array([row.person for row in kept], np.int64),
        held_out=np.array([row.held_out for row in kept], bool),
    )  # fmt: skip


def quantise(samples: NDArray[Any], resolution: float) -> tuple[float, float, NDArray[np.int16]]:
    """Step, level and int16 samples that give (n_samples,) back to half a step.

    >>> step, level, steps = quantise(np.sin(np.arange(1000) / 9) + 40, 128)
    >>> float(np.abs(steps * step + level - np.sin(np.arange(1000) / 9) - 40).max() <= step / 2), steps.dtype.name
    (1.0, 'int16')
    """
    x = np.asarray(samples, np.float64)
    level = float((x.max() + x.min()) / 2)
    pieces = [piece.std() for piece in np.array_split(x, max(1, x.size // 256))]
    largest = float(np.abs(x - level).max())
    step = max(float(np.median(pieces)) / resolution, largest / 32000) or 1.0
    return step, level, np.rint((x - level) / step).astype(np.int16)


def write_pack(folder: Path, sources: Iterable[Source], about: dict[str, Any]) -> int:
    """Write sources into an empty folder; its size in bytes.

    Parameters
    ----------
    about : facts for whoever finds the folder, such as licences by data set

    Raises
    ------
    ValueError
        The folder holds a pack already, or this one is larger than `SIZE_LIMIT`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / PACK).exists():
        raise ValueError(f"{folder} holds a pack already: remove it first, or choose another folder")
    described = []
    for source in sources:
        order = _order(source.samples)
        pieces = [bz2.compress(piece) for piece in _planes(source.samples, order)]
        data = b"".join(pieces)
        (folder / f"{source.name}.samples.bz2").write_bytes(data)
        np.savez_compressed(folder / f"{source.name}.npz", **{key: getattr(source, key) for key in COLUMNS})
        described.append(
            {
                "name": source.name, "modality": source.modality, "fs": source.fs, "classes": source.classes,
                "seconds": source.seconds, "test_seconds": source.test_seconds,
                "order": order, "pieces": [len(piece) for piece in pieces], "sha256": hashlib.sha256(data).hexdigest(),
            }
        )  # fmt: skip
    text = json.dumps({"format": FORMAT, "sources": described, "about": about}, indent=1) + "\n"
    size = sum(path.stat().st_size for path in folder.iterdir()) + len(text.encode())
    if size > SIZE_LIMIT:
        raise ValueError(f"the pack in {folder} has {size / 2**20:.1f} MiB, over {SIZE_LIMIT / 2**20:.0f} MiB")
    (folder / PACK).write_text(text)
    return size


def read_pack(folder: Path) -> list[Source]:
    """The sources of a pack, their samples in memory.

    Raises
    ------
    FileNotFoundError
        The folder holds no whole pack.
    ValueError
        A file is damaged, or of another format.
    """
    if not (folder / PACK).exists():
        raise FileNotFoundError(f"{folder} holds no {PACK}: make a pack with python -m pretraining.pack")
    pack = json.loads((folder / PACK).read_text())
    if pack.get("format") != FORMAT:
        raise ValueError(f"{folder / PACK}: format is {pack.get('format')!r}, expected {FORMAT!r}: make the pack anew")
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # bzip2 works outside Python's lock
        return [_read(folder, described, pool) for described in pack["sources"]]


def sources_digest(sources: Iterable[Source]) -> str:
    """sha256 that tells recordings apart: over names, rates, samples, labels and who is held out."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source.name} {source.modality} {source.fs} {source.classes}".encode())
        for column in (source.samples, *(getattr(source, key) for key in COLUMNS)):
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _read(folder: Path, described: dict[str, Any], pool: Executor) -> Source:
    path = folder / f"{described['name']}.samples.bz2"
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != described["sha256"]:
        raise ValueError(f"{path} is damaged (its sha256 differs): make the pack anew")
    with np.load(folder / f"{described['name']}.npz") as columns:
        held = {key: columns[key] for key in COLUMNS}
    fields = {key: described[key] for key in ("name", "modality", "fs", "test_seconds")}
    ends = np.cumsum(described["pieces"])
    parts = [data[end - size : end] for end, size in zip(ends, described["pieces"], strict=True)]
    unfold = partial(_unfolded, order=described["order"])
    pairs = {"classes": tuple(described["classes"]), "seconds": tuple(described["seconds"])}
    return Source(**fields, **pairs, samples=np.concatenate(list(pool.map(unfold, parts))), **held)


def _order(samples: NDArray[np.int16]) -> int:
    """0 or 1: whether samples or their differences need fewer bits."""
    entropies = []
    for order in (0, 1):
        counts = np.bincount(_folded(samples[:PIECE], order))
        shares = counts[counts > 0] / counts.sum()
        entropies.append(-(shares * np.log2(shares)).sum())
    return int(np.argmin(entropies))


def _planes(samples: NDArray[np.int16], order: int) -> Iterator[bytes]:
    """Low bytes and then high bytes, piece by piece."""
    for start in range(0, samples.size, PIECE):
        yield _folded(samples[start : start + PIECE], order).view(np.uint8).reshape(-1, 2).T.tobytes()


def _folded(piece: NDArray[np.int16], order: int) -> NDArray[np.uint16]:
    """Samples, or their differences as int16 wraps round, with the sign in the lowest bit."""
    x = piece.astype(np.int32)
    if order:
        x = np.diff(x, prepend=0).astype(np.int16).astype(np.int32)
    return ((x << 1) ^ (x >> 15)).astype("<u2")


def _unfolded(data: bytes, order: int) -> NDArray[np.int16]:
    """One piece of samples."""
    folded = np.frombuffer(bz2.decompress(data), np.uint8).reshape(2, -1).T.copy().view("<u2")[:, 0].astype(np.int32)
    x = (folded >> 1) ^ -(folded & 1)
    return (np.cumsum(x, dtype=np.int32) if order else x).astype(np.int16)
