"""The windows of a study that are nearest to one, by exact cosine similarity."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..batch.own_columns import wanted
from ..errors import ConfigError, SignalError
from ..signals.validation import check_positive
from .folder import Coded, EmbeddingFolder, check_comparable, to_arrow, to_numpy
from .query import Query, query_of_vector, query_of_window

if TYPE_CHECKING:
    from .approximate_index import ApproximateIndex

SPARE = 64  # candidates beyond k whose similarity is computed once more, in float64
Where = Mapping[str, Any]


@dataclass(frozen=True)
class SearchableWindows:
    """The vectors of one representation of a folder in memory, ready for many searches.

    Memory is that of the vectors and some 30 bytes a window.
    """

    folder: EmbeddingFolder
    representation: str
    vectors: NDArray[np.float32]  # (n, 192)
    norms: NDArray[np.float32]  # (n,), 1 for a vector of zeros
    sources: Coded
    modalities: Coded

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str] | EmbeddingFolder, representation: str | None = None
    ) -> SearchableWindows:
        """Read the vectors of a folder.

        Raises
        ------
        ConfigError
            Not such a folder, damaged, or without the representation.
        """
        opened = EmbeddingFolder.open(folder)
        chosen = opened.representation(representation)
        sources, modalities = opened.coded("source"), opened.coded("modality")
        pa.default_memory_pool().release_unused()
        vectors = opened.vectors(chosen)
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        norms[norms == 0] = 1.0
        return cls(opened, chosen, vectors, norms, sources, modalities)

    def allowed(self, query: Query, where: Where, any_modality: bool, same_recording: bool) -> NDArray[np.bool_]:
        """Which windows may be found, (n,).

        Raises
        ------
        ConfigError
            `where` names a column that is not there, or leaves nothing.
        """
        mask = np.ones(len(self.vectors), bool)
        if not any_modality and "modality" not in where:
            mask &= self.modalities.among([query.modality])
        if query.sources and not same_recording:
            mask &= ~self.sources.among(query.sources)
        self.folder.check_columns(list(where))
        for column, given in where.items():
            values = list(given) if isinstance(given, list | tuple | set | frozenset) else [given]
            mask &= _among(self.folder.facts([column])[column], values, column)
        if not mask.any():
            asked = [] if any_modality or "modality" in where else [f"of {query.modality}"]
            asked += [f"with {name}={value!r}" for name, value in where.items()]
            asked += ["of another recording"] if query.sources and not same_recording else []
            raise ConfigError(
                f"{str(self.folder.path)!r} holds no window {' and '.join(asked)}: look at others with same_recording "
                "(--same-recording), any_modality (--any-modality) or another where (--where)"
            )
        return mask

    def nearest(
        self, vector: NDArray[np.float32], k: int, mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The k nearest of the windows in `mask`: their numbers and cosine similarities, the nearest first."""
        scores = self.vectors @ vector
        scores /= self.norms
        np.copyto(scores, -np.inf, where=~mask)
        count = min(k + SPARE, int(mask.sum()))
        lowest = np.partition(scores, len(scores) - count)[len(scores) - count]
        candidates = np.flatnonzero(scores >= lowest)
        return self.ranked(vector, candidates, k)

    def ranked(
        self, vector: NDArray[np.float32], candidates: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The k best of some windows, by similarity in float64; of equal ones the first in the folder."""
        rows = self.vectors[candidates].astype(np.float64)
        norms = np.linalg.norm(rows, axis=1)
        norms[norms == 0] = 1.0
        similarity = rows @ vector.astype(np.float64) / norms / np.linalg.norm(vector.astype(np.float64))
        best = np.lexsort((candidates, -similarity))[:k]
        return candidates[best], similarity[best]

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        where: Where | None = None,
        any_modality: bool = False,
        same_recording: bool = False,
        provenance: dict[str, Any] | None = None,
        index: ApproximateIndex | None = None,
    ) -> pa.Table:
        """The windows nearest to a query; see `search`."""
        k = check_positive(k, "k")
        asked = as_query(query, self.folder, self.representation, provenance)
        check_comparable(asked.provenance, self.folder)
        vector = _checked(asked, self.vectors.shape[1])
        mask = self.allowed(asked, where or {}, any_modality, same_recording)
        if index is None:
            rows, similarity = self.nearest(vector, k, mask)
        else:
            rows, similarity = index.nearest(self, vector, k, mask)
        table = self.folder.take(rows)
        return table.add_column(1, "similarity", to_arrow(similarity))


def search(
    query: Any,
    folder: str | os.PathLike[str] | EmbeddingFolder,
    k: int = 10,
    *,
    where: Where | None = None,
    representation: str | None = None,
    any_modality: bool = False,
    same_recording: bool = False,
    provenance: dict[str, Any] | None = None,
) -> pa.Table:
    """The windows of a folder nearest to a query, by exact cosine similarity.

    For many searches of one folder, `SearchableWindows.open(folder)` reads it once and has the same `search`.

    Parameters
    ----------
    query
        The id of a window of the folder; a `Query` that `query_recording` made; the `WindowEmbeddings` of one window;
        or a vector, (192,), with its `provenance`.
    folder
        What `embed_study` wrote.
    k
        Windows to find; fewer where there are not so many.
    where
        Columns and the value, or list of values, that a window has there: `{"label": ["stress", "rest"]}`.
    representation
        Column of vectors that is searched; that of the query otherwise.
    any_modality
        Look at windows of other modalities than the query's, too.
    same_recording
        Look at other windows of the query's own recording, too.
    provenance
        Of a vector: what `model.provenance(fs, modality, representation)` gives.

    Returns
    -------
    pyarrow.Table
        A row a window, the nearest first: id, similarity in [-1, 1], source, channel, modality, subject, label, start,
        stop and the further columns of the study.

    Raises
    ------
    ConfigError
        Other weights or another recipe made the query, and in what they differ; an id or column that is not there.
    SignalError
        The query is no finite vector of the right length.
    """
    opened = EmbeddingFolder.open(folder)
    asked = as_query(query, opened, representation, provenance)
    check_comparable(asked.provenance, opened)
    mapped = SearchableWindows.open(opened, representation or asked.representation)
    return mapped.search(asked, k, where=where, any_modality=any_modality, same_recording=same_recording)


def as_query(
    query: Any, folder: EmbeddingFolder, representation: str | None, provenance: dict[str, Any] | None
) -> Query:
    """Whatever a caller searches for, as a `Query`."""
    if isinstance(query, Query):
        return query
    if isinstance(query, str):
        return query_of_window(query, folder, representation)
    if hasattr(query, "provenance") and hasattr(query, "embeddings"):
        if len(query.embeddings) != 1:
            raise SignalError(f"the query holds {len(query.embeddings)} windows: search for one at a time")
        return query_of_vector(query.embeddings[0], query.provenance)
    return query_of_vector(query, provenance)


def _checked(query: Query, width: int) -> NDArray[np.float32]:
    """The vector of a query.

    Raises
    ------
    SignalError
        Of another length than the folder's, not finite, or all zeros.
    """
    vector = query.vector
    if vector.shape != (width,):
        raise SignalError(f"{query.name} has {vector.size} numbers, and the folder's vectors have {width}")
    if not np.isfinite(vector).all() or not vector.any():
        raise SignalError(f"{query.name} is zero or not finite, so it is similar to nothing")
    return vector


def _among(column: pa.ChunkedArray, values: list[Any], name: str) -> NDArray[np.bool_]:
    """Where a column holds one of some values; None stands for an empty cell."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    listed = wanted(values, kind, name)
    chunks = [pc.cast(pc.is_in(chunk, value_set=listed), pa.uint8()) for chunk in column.chunks]
    return np.concatenate([to_numpy(chunk) for chunk in chunks]).astype(bool)
