"""The windows of a folder that a map shows: all of them, or a sample, with their facts and projections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import ConfigError
from ..signals.filters import modality_name
from ..signals.validation import check_positive
from .folder import EmbeddingFolder
from .projection import Projection, project


@dataclass(frozen=True)
class Sample:
    """Some windows of a folder."""

    folder: EmbeddingFolder
    rows: NDArray[np.int64]  # (n,), rising numbers of windows of the folder
    facts: pa.Table  # (n,), all columns but the vectors
    representations: tuple[str, ...]
    projections: tuple[Projection, ...]  # of each representation

    @property
    def ids(self) -> list[str]:
        """Of the windows."""
        return list(self.facts["id"].to_pylist())

    @property
    def sources(self) -> list[str]:
        """Of the windows."""
        return list(self.facts["source"].to_pylist())

    @property
    def methods(self) -> str:
        """How they were projected, for people."""
        return " and ".join(dict.fromkeys(each.method for each in self.projections))

    @property
    def remarks(self) -> list[str]:
        """What a person should know of the projections."""
        return [f"Projected by principal components: {text}." for text in dict.fromkeys(
            each.remark for each in self.projections
        ) if text]  # fmt: skip


def choose_rows(folder: EmbeddingFolder, size: int, seed: int = 0, modality: str | None = None) -> NDArray[np.int64]:
    """Numbers of `size` windows at random, rising, or of all where there are not more; the same for the same seed.

    Raises
    ------
    ConfigError
        The folder holds no window of the modality.
    """
    check_positive(size, "sample")
    rows = np.arange(folder.n)
    if modality is not None:
        name = modality_name(modality)
        rows = rows[np.array(folder.facts(["modality"])["modality"].to_pylist()) == name]
        if not len(rows):
            raise ConfigError(f"{str(folder.path)!r} holds no window of {name}")
    if len(rows) > size:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))
    return rows.astype(np.int64)


def take_sample(
    folder: EmbeddingFolder,
    rows: NDArray[np.int64],
    representations: Sequence[str] | None = None,
    *,
    seed: int = 0,
    method: str = "auto",
    neighbours: bool = False,
) -> Sample:
    """Read and project windows.

    Parameters
    ----------
    representations
        Of the folder's; all of them otherwise.
    """
    names = tuple(folder.representation(name) for name in representations or folder.representations)
    found = [project(folder.vectors(name, rows), seed, method, neighbours=neighbours) for name in names]
    return Sample(folder, rows, folder.take(rows), names, tuple(found))
