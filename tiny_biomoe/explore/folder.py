"""A folder that `embed_study` wrote: facts, vectors, inputs, provenance; each shard is verified when it is opened."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet
from tqdm import tqdm

from ..batch.compatibility import differences, facts_of, facts_of_vector
from ..batch.loading import read_manifest, verified_shard
from ..batch.shards import FAILURES, INPUTS, METADATA, ROOT, RUN, Row
from ..config import Config, Recipe
from ..errors import ConfigError
from ..signals.request import representation_name

FACTS = tuple(Row.__dataclass_fields__)  # id, source, channel ...: the columns that every folder has
ROWS_AT_ONCE = 256
TEXTS = ("source", "channel", "modality", "subject", "label")


@dataclass(frozen=True)
class Coded:
    """A column of text: its different values, and the place of each window's among them."""

    values: tuple[Any, ...]
    codes: NDArray[np.unsignedinteger[Any]]  # (n,)

    def among(self, wanted: Collection[Any]) -> NDArray[np.bool_]:
        """Where the value is one of some, (n,)."""
        return np.asarray(np.array([value in wanted for value in self.values])[self.codes])


@dataclass(frozen=True)
class EmbeddingFolder:
    """A complete run, opened for reading."""

    path: Path
    manifest: dict[str, Any]
    shards: tuple[Path, ...]  # verified

    @classmethod
    def open(cls, folder: str | os.PathLike[str] | EmbeddingFolder) -> EmbeddingFolder:
        """Open a folder and verify the sha256 of every shard.

        Raises
        ------
        ConfigError
            Not such a folder, a run that is not complete, one without a window, or a damaged file: what to do.
        """
        if isinstance(folder, EmbeddingFolder):
            return folder
        path = Path(folder)
        manifest = read_manifest(path)
        listed = tqdm(manifest["shards"], "verifying", unit="shard", delay=2, leave=False, disable=quiet())
        found = cls(path, manifest, tuple(verified_shard(path, facts) for facts in listed))
        if not found.n:
            raise ConfigError(f"{str(path)!r} holds no window: see {str(path / FAILURES)!r} for why")
        return found

    @property
    def n(self) -> int:
        """Windows in the folder."""
        return sum(int(facts["rows"]) for facts in self.manifest["shards"])

    @property
    def arguments(self) -> dict[str, Any]:
        """What the run was asked for: representations, window, stride, image, reading ..."""
        return dict(self.manifest["fingerprint"]["arguments"])

    @property
    def representations(self) -> tuple[str, ...]:
        """Those that the folder has a column of vectors for."""
        return tuple(self.arguments["representations"])

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns but those of the vectors."""
        return (*FACTS, *self.further)

    @property
    def further(self) -> tuple[str, ...]:
        """Names of the columns that the study carried along."""
        return tuple(self.arguments["further"])

    @cached_property
    def recipe(self) -> Recipe:
        """How the images were drawn."""
        text = {**json.loads(Config().to_json()), "recipe": self.manifest["fingerprint"]["recipe"]}
        return Config.from_json(json.dumps(text), str(self.path))[0].recipe

    @cached_property
    def provenance(self) -> dict[str, dict[str, Any]]:
        """Of each modality and rate in the folder, such as "ecg 360 Hz"."""
        if "provenance" in self.manifest:
            return dict(self.manifest["provenance"])
        found: dict[str, dict[str, Any]] = {}
        for shard in self.shards:  # of a folder of format 1
            found |= json.loads((parquet.read_schema(shard).metadata or {}).get(METADATA, b"{}"))
        return found

    @cached_property
    def inputs(self) -> pa.Table:
        """A row an input: source, column, modality, fs, start, stop, subject, label, sha256, outcome, windows ..."""
        return self._table(INPUTS)

    @cached_property
    def failures(self) -> pa.Table:
        """A row for everything that was not embedded: source, channel, start, stop, outcome, reason."""
        return self._table(FAILURES)

    def _table(self, name: str) -> pa.Table:
        try:
            return parquet.read_table(self.path / name)
        except (OSError, pa.ArrowInvalid) as error:
            raise ConfigError(
                f"{str(self.path / name)!r} cannot be read ({error}): run the command that made the folder again"
            ) from error

    def representation(self, name: str | None) -> str:
        """The canonical name of one of `representations`, the first where none is named.

        Raises
        ------
        ConfigError
            The folder has no such column.
        """
        chosen = self.representations[0] if name is None else representation_name(name)
        if chosen not in self.representations:
            held = ", ".join(self.representations)
            raise ConfigError(f"{str(self.path)!r} holds {held}, no {chosen}: embed the study again for it")
        return chosen

    def facts(self, columns: list[str] | None = None) -> pa.Table:
        """Columns of all windows, in the order of the vectors; text but for the ids is dictionary-encoded.

        Raises
        ------
        ConfigError
            A column that the folder does not have.
        """
        names = list(self.columns if columns is None else columns)
        self.check_columns(names)
        texts = [name for name in names if name in (*TEXTS, *self.further)]
        parts = [_read(each, names, texts) for each in self.shards]
        table = pa.concat_tables([part.replace_schema_metadata(None) for part in parts])
        return table.unify_dictionaries().select(names)

    def coded(self, name: str) -> Coded:
        """A column of text of all windows, in little memory."""
        places: dict[Any, int] = {}
        parts = []
        for shard in self.shards:
            for chunk in _read(shard, [name], [name]).column(0).chunks:
                values = [*chunk.dictionary.to_pylist(), None]
                known = np.array([places.setdefault(value, len(places)) for value in values], np.uint32)
                kind = np.min_scalar_type(len(places))
                codes = np.full(len(chunk), known[-1], kind)
                codes[to_numpy(pc.cast(pc.is_valid(chunk.indices), pa.uint8())).astype(bool)] = known[
                    to_numpy(chunk.indices.drop_null())
                ]
                parts.append(codes)
        return Coded(tuple(places), np.concatenate(parts))

    def check_columns(self, names: list[str]) -> None:
        """Refuse a column that is not there.

        Raises
        ------
        ConfigError
            Which, and which there are.
        """
        if missing := [name for name in names if name not in self.columns]:
            raise ConfigError(f"{str(self.path)!r} has no column {missing[0]!r}: choose from {', '.join(self.columns)}")

    def vectors(self, representation: str, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """The vectors of all windows, or of `rows` (rising), (n, 192); memory is theirs and one shard's."""
        width = parquet.read_schema(self.shards[0]).field(representation).type.list_size
        matrix = np.empty((self.n if rows is None else len(rows), width), np.float32)
        places = self._offsets if rows is None else np.searchsorted(rows, self._offsets)
        listed = list(zip(self.shards, self._offsets, places, places[1:], strict=False))
        for shard, offset, first, last in tqdm(listed, "reading", unit="shard", delay=2, leave=False, disable=quiet()):
            for some in _batches(shard, representation) if first < last else ():
                end = offset + len(some)
                until = end if rows is None else np.searchsorted(rows, end)
                matrix[first:until] = some if rows is None else some[rows[first:until] - offset]
                first, offset = until, end
        return matrix

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """All columns but the vectors, of some windows in any order; reads only the shards that hold them."""
        order = np.argsort(rows, kind="stable")
        shard_of = np.searchsorted(self._offsets, rows[order], side="right") - 1
        parts = [
            _read(self.shards[number], self.columns).take(
                to_arrow(rows[order][shard_of == number] - self._offsets[number])
            )
            for number in np.unique(shard_of)
        ]
        if not parts:
            return parquet.read_schema(self.shards[0]).empty_table().select(list(self.columns))
        table = pa.concat_tables([part.replace_schema_metadata(None) for part in parts])
        return table.take(to_arrow(np.argsort(order, kind="stable")))

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        """Number of the first window of each shard, and one more for the end."""
        return np.array([0, *accumulate(int(facts["rows"]) for facts in self.manifest["shards"])], np.int64)

    def root(self, recordings: str | os.PathLike[str] | None = None) -> Path | None:
        """The folder that the names of the sources are relative to; None where the run did not note it.

        Raises
        ------
        ConfigError
            `recordings` is given and is no folder or file.
        """
        if recordings is not None:
            given = Path(recordings)
            if not given.exists():
                raise ConfigError(f"{str(given)!r}: there is no such folder: name the one that was embedded")
            return given if given.is_dir() else given.parent
        try:
            return Path(os.fsdecode((self.path / RUN / ROOT).read_bytes()))
        except OSError:
            return None

    def row_of(self, id: str) -> int:
        """The number of the window with an id.

        Raises
        ------
        ConfigError
            There is none.
        """
        before = 0
        for shard in self.shards:
            column = _read(shard, ["id"]).column(0)
            place = pc.index(column, id).as_py()
            if place >= 0:
                return before + place
            before += len(column)
        raise ConfigError(f"{str(self.path)!r} holds no window {id!r}: an id is path#channel@start, see the column id")


def _read(shard: Path, columns: Sequence[str], texts: Sequence[str] = ()) -> pa.Table:
    """Columns of a shard, those of `texts` dictionary-encoded, in little memory."""
    with parquet.ParquetFile(shard, pre_buffer=False, read_dictionary=texts) as file:
        return file.read(list(columns), use_threads=False)


def _batches(shard: Path, column: str) -> Iterator[NDArray[np.float32]]:
    """A column of vectors, piece by piece, (rows, 192), in little memory."""
    with parquet.ParquetFile(shard, pre_buffer=False, buffer_size=1 << 16) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=[column], use_threads=False):
            yield to_numpy(batch.column(0).flatten()).reshape(len(batch), -1)


def to_numpy(array: pa.Array) -> NDArray[Any]:
    """Numbers without nulls; pyarrow's own `to_numpy` imports pandas, where it is installed (30 MB, half a second)."""
    return np.from_dlpack(array)


def to_arrow(numbers: NDArray[Any]) -> pa.Array:
    """The way back, for `pyarrow.array` imports pandas as well."""
    kind, buffer = pa.from_numpy_dtype(numbers.dtype), pa.py_buffer(np.ascontiguousarray(numbers))
    return pa.Array.from_buffers(kind, len(numbers), [None, buffer])


def quiet() -> bool:
    """Whether progress is shown to nobody."""
    return not sys.stderr.isatty()


def check_comparable(provenance: dict[str, Any], folder: EmbeddingFolder) -> None:
    """Refuse vectors that other weights, another recipe or another scale made.

    Parameters
    ----------
    provenance
        Of the query, as `TinyBioMoE.provenance` and `WindowEmbeddings.provenance` give it.

    Raises
    ------
    ConfigError
        They differ; the message lists in what. Or the provenance does not say.
    """
    if provenance.get("readout") == "rows":
        raise ConfigError('the query holds rows, and embeddings are compared: embed it with readout="embedding"')
    found = differences(facts_of_vector(provenance), facts_of(folder.manifest), ("weights", "recipe", "scale"))
    if found:
        listed = "; ".join("{}: {} here, {} in the folder".format(each.name, *each.texts) for each in found)
        raise ConfigError(f"the query cannot be compared with {str(folder.path)!r}: {listed}: embed one of them again")
