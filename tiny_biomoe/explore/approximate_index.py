"""An index for studies that are searched again and again: usearch (Apache-2.0), with its recall measured."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, need
from ..sealed_files import plain_json, read_sealed, sealed, write_whole
from .neighbours import SearchableWindows

QUERIES = 200  # windows of the folder by which the recall is measured
SEED = 0


@dataclass(frozen=True)
class ApproximateIndex:
    """A usearch index over the vectors of a folder."""

    index: Any
    recall: float  # share of the true 10 nearest that it finds, in [0, 1]

    @classmethod
    def open(cls, path: str | os.PathLike[str], windows: SearchableWindows) -> ApproximateIndex:
        """Read an index from a file, or build it and write it there, with a note of what it was built from.

        Raises
        ------
        ConfigError
            The file belongs to other vectors, or cannot be written.
        MissingExtra
            usearch is not installed.
        """
        need("usearch", extra="index", what="an index (--index)")
        from usearch.index import Index

        path = Path(path)
        note = path.with_name(path.name + ".json")
        shards = hashlib.sha256(plain_json(windows.folder.manifest["shards"])).hexdigest()
        built_from = {"shards": shards, "representation": windows.representation}
        if path.exists():
            facts = read_sealed(note)
            if facts is None or facts["built_from"] != built_from:
                raise ConfigError(f"{str(path)!r} is no index of these vectors: delete it, or name another file")
            return cls(Index.restore(str(path), view=True), float(facts["recall"]))
        made = cls._build(windows)
        try:
            made.index.save(str(path))
            write_whole(note, sealed({"built_from": built_from, "recall": made.recall}))
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"{str(path)!r} cannot be written ({error}): choose another file") from error
        return made

    @classmethod
    def _build(cls, windows: SearchableWindows) -> ApproximateIndex:
        from usearch.index import Index

        n, width = windows.vectors.shape
        index = Index(ndim=width, metric="cos", dtype="f32")
        index.add(np.arange(n, dtype=np.uint64), windows.vectors, log=sys.stderr.isatty())
        chosen = np.random.default_rng(SEED).permutation(n)[:QUERIES]
        k, everything = min(10, n), np.ones(n, bool)
        found = [np.asarray(index.search(windows.vectors[row], k).keys, np.int64) for row in chosen]
        true = [windows.nearest(windows.vectors[row], k, everything)[0] for row in chosen]
        shares = [len(np.intersect1d(some, other)) / k for some, other in zip(found, true, strict=True)]
        return cls(index, float(np.mean(shares)))

    def nearest(
        self, windows: SearchableWindows, vector: NDArray[np.float32], k: int, mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The k nearest of the windows in `mask` that the index knows of; exact where few are allowed."""
        wanted = 4 * k
        while wanted < len(mask) // 16:
            keys = np.asarray(self.index.search(vector, wanted).keys, np.int64)
            kept = keys[mask[keys]]
            if len(kept) >= k:
                return windows.ranked(vector, kept, k)
            wanted *= 4
        return windows.nearest(vector, k, mask)
