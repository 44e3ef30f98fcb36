"""Shards: rows of windows as Parquet files, each with a record by which a run that was killed knows what is finished.

`embeddings/shard-4a1c2b3d4e5f6071-00001.parquet` is shard 1 of the group whose digest begins with those digits.
`.run/shard-4a1c2b3d4e5f6071-00001.json` records its sha256, what became of each input, and where the next shard begins;
it is written after the shard, so a shard without one is computed anew.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import need
from ..sealed_files import plain_json, read_sealed, sealed, sha256_of, write
from .own_columns import typed

need("pyarrow", "filelock", extra="batch", what="embedding folders")

import pyarrow as pa  # noqa: E402
from pyarrow import parquet  # noqa: E402

FORMAT = "tiny-biomoe-embeddings/2"
READ = (FORMAT, "tiny-biomoe-embeddings/1")  # formats that are read; runs go on in the first alone
MANIFEST = "manifest.json"
FAILURES, INPUTS = "failures.parquet", "inputs.parquet"
README = "README.md"  # for people, and for `datasets`, which reads in it where the shards lie
SHARDS, RUN = "embeddings", ".run"  # folders of an output: what readers read, and what only a run needs
ROOT = "root"  # file of `RUN`: the folder that the inputs' names are relative to, for whoever draws their windows again
OLD = "old"  # folder of `RUN`: shards of a study that has changed since, while a run takes from them what it can
NAME = re.compile(r"shard-([0-9a-f]{16})-(\d{5,})\.parquet")
NAME_1 = re.compile(r"shard-(\d{5,})-(\d{5,})\.parquet")  # of format 1
METADATA = b"tiny_biomoe"  # key of the schema's metadata that holds provenance


@dataclass(frozen=True)
class Cursor:
    """A window of a group: the file that holds it, and how many windows of that file come before."""

    file: int
    window: int


@dataclass(frozen=True)
class Notice:
    """Something that was not embedded, or is doubtful: an input, one of its channels, or one window."""

    input: int  # number among the inputs of its group
    source: str
    outcome: str  # "failed" or "skipped"; "warned" of what was embedded all the same
    reason: str
    channel: str | None = None
    start: float | None = None  # seconds
    stop: float | None = None
    window: int = 0  # windows of its file before it
    again: bool = False  # another try may end otherwise, though nothing in the file changes: for want of memory


@dataclass
class Piece:
    """What a shard holds of one file, in the order of its windows."""

    key: str  # `plan.File.key`
    first: int  # number of the file's first input in the group
    runs: list[list[int]] = field(default_factory=list)  # (input within the file, number of windows) of successive ones
    rows: int = 0  # windows embedded
    ended: bool = True  # no further window or notice of the file follows in the next shard


@dataclass(frozen=True)
class Row:
    """All but the vectors of one window, in the order of the columns."""

    id: str
    source: str
    channel: str
    modality: str
    subject: str | None
    label: str | None
    start: float  # seconds from the recording's first sample
    stop: float
    fs: float  # Hz
    unix_start: float | None  # unix seconds, where the file holds its start
    missing: float  # shares of samples, see signals.Quality
    flat: float
    clipped: float


def row_id(source: str, channel: str, start: float) -> str:
    """The id of a window: no two windows of a run have the same.

    >>> row_id("S01/EDA.csv", "EDA", 12.5)
    'S01/EDA.csv#EDA@12.5'
    """
    escaped = source.replace("%", "%25").replace("#", "%23")  # the first '#' ends the path, the last '@' the channel
    return f"{escaped}#{channel}@{np.format_float_positional(start, trim='-')}"


@dataclass
class Shard:
    """What a shard holds, while it is put together."""

    name: str
    begin: Cursor | None = None  # its first window; None for the first shard of a group
    next: Cursor | None = None  # that of the shard behind it, once this one is full; None after the last of a group
    rows: list[Row] = field(default_factory=list)
    further: list[tuple[str, ...]] = field(default_factory=list)  # a row's further cells
    kept: dict[int, NDArray[np.float32]] = field(default_factory=dict)  # vectors of rows that were embedded before
    files: list[Piece] = field(default_factory=list)
    tally: dict[int, list[int]] = field(default_factory=dict)  # windows embedded and failed, a number of an input
    notices: list[Notice] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)  # of each modality and rate met
    windows: int = 0  # embedded or failed
    input_bytes: float = 0.0  # of the files, that these windows stand for

    def count(self, number: int, embedded: bool, input_bytes: float) -> None:
        """One more window of an input of the last of `files`."""
        self.input_bytes += input_bytes
        self.tally.setdefault(number, [0, 0])[0 if embedded else 1] += 1
        self.windows += 1
        piece = self.files[-1]
        piece.rows += embedded
        if piece.runs and piece.runs[-1][0] == number - piece.first:
            piece.runs[-1][1] += 1
        else:
            piece.runs.append([number - piece.first, 1])

    def meet(self, key: str, first: int) -> None:
        """What follows is of this file."""
        if not self.files or self.files[-1].first != first:
            self.files.append(Piece(key, first))


@dataclass(frozen=True)
class Record:
    """What is known of a shard that is written."""

    name: str
    sha256: str
    bytes: int
    run: str  # digest of the fingerprint of the run
    inputs: str  # digest of the group that it was made from
    rows: int
    windows: int
    input_bytes: int
    tally: Mapping[str, Sequence[int]]
    notices: Sequence[Mapping[str, Any]]
    files: Sequence[Mapping[str, Any]]  # a `Piece` each
    provenance: Mapping[str, Any]  # of each modality and rate met
    begin: Sequence[int] | None  # (file, window) with which this shard begins; None for the first of a group
    next: Sequence[int] | None  # (file, window) with which the next shard of the group begins; None after the last

    @property
    def cursor(self) -> Cursor | None:
        """Where the next shard begins."""
        return None if self.next is None else Cursor(*self.next)


def shard_name(group: str, part: int) -> str:
    """The file name of a shard, from the digest of its group.

    >>> shard_name("4a1c2b3d4e5f60718293", 1)
    'shard-4a1c2b3d4e5f6071-00001.parquet'
    """
    return f"shard-{group[:16]}-{part:05d}.parquet"


def shard_paths(out: Path, name: str) -> tuple[Path, Path]:
    """Where a shard lies, and where its record."""
    return out / SHARDS / name, out / RUN / name.replace(".parquet", ".json")


def parts(out: Path, group: str) -> set[int]:
    """The numbers of a group's shards of which the shard or the record is there."""
    found = [path for folder in (SHARDS, RUN) for path in (out / folder).glob(f"shard-{group[:16]}-*")]
    return {int(match[2]) for path in found if (match := NAME.fullmatch(f"{path.stem}.parquet"))}


def columns(vectors: Mapping[str, int], further: Sequence[tuple[str, str]]) -> pa.Schema:
    """The schema of every shard of a run.

    Parameters
    ----------
    vectors : the columns of vectors, and how long each vector is
    further : the columns carried along, and their types
    """
    text = {"id", "source", "channel", "modality", "subject", "label"}
    facts = [pa.field(name, pa.string() if name in text else pa.float64()) for name in Row.__dataclass_fields__]
    lists = [pa.field(name, pa.list_(pa.float32(), width)) for name, width in vectors.items()]
    return pa.schema([*facts, *(pa.field(name, pa.type_for_alias(kind)) for name, kind in further), *lists])


def to_parquet(shard: Shard, vectors: Mapping[str, NDArray[np.float32]], schema: pa.Schema) -> bytes:
    """A shard as the bytes of a Parquet file: the same rows give the same bytes.

    Parameters
    ----------
    vectors : (n_rows, width) of each column of vectors, in the schema's order
    """
    facts = [pa.array([getattr(row, name) for row in shard.rows], schema.field(name).type) for name in vars_of(Row)]
    kinds = [field.type for field in schema][len(facts) : len(schema) - len(vectors)]
    carried = zip(*shard.further, strict=True) if shard.further else [()] * len(kinds)
    further = [typed(column, kind) for column, kind in zip(carried, kinds, strict=True)]
    arrays = [
        pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(each).reshape(-1)), each.shape[1])
        for each in vectors.values()
    ]
    metadata = {METADATA: plain_json(shard.provenance)}
    table = pa.Table.from_arrays([*facts, *further, *arrays], schema=schema.with_metadata(metadata))
    buffer = io.BytesIO()
    texts = [field.name for field in schema if pa.types.is_string(field.type) and field.name != "id"]
    parquet.write_table(table, buffer, use_dictionary=texts, row_group_size=1 << 20)
    return buffer.getvalue()


def vars_of(kind: Any) -> list[str]:
    """The names of a dataclass's fields."""
    return list(kind.__dataclass_fields__)


def commit(out: Path, shard: Shard, data: bytes, run: str, inputs: str) -> Record:
    """Write a shard, then its record; killed in between, the shard counts as not written.

    Parameters
    ----------
    data
        What `to_parquet` made of it.
    run, inputs
        Digests of the run's fingerprint and of the group.

    Raises
    ------
    ConfigError
        The disk is full or refuses.
    """
    record = Record(
        shard.name, hashlib.sha256(data).hexdigest(), len(data), run, inputs, len(shard.rows), shard.windows,
        round(shard.input_bytes),
        {str(number): counts for number, counts in sorted(shard.tally.items())},
        [vars(notice) for notice in shard.notices],
        [vars(piece) for piece in shard.files],
        shard.provenance,
        _plain(shard.begin),
        _plain(shard.next),
    )  # fmt: skip
    path, record_path = shard_paths(out, shard.name)
    write(path, data)
    write(record_path, sealed(vars(record), indent=None))
    return record


def _plain(cursor: Cursor | None) -> list[int] | None:
    return None if cursor is None else [cursor.file, cursor.window]


def read_record(out: Path, name: str, folder: str = RUN) -> Record | None:
    """The record of a shard, or None where there is none or it is damaged."""
    content = read_sealed(out / folder / name.replace(".parquet", ".json"))
    return Record(**content) if content is not None and set(content) == set(vars_of(Record)) else None


def whole(out: Path, name: str, run: str, inputs: str, since: Cursor | None) -> Record | None:
    """The record of a shard of this run that is there, undamaged, and begins where it is to; None of any other."""
    record = read_record(out, name)
    asked = (name, run, inputs, _plain(since))
    if record is None or (record.name, record.run, record.inputs, record.begin) != asked:
        return None
    try:
        return record if sha256_of(shard_paths(out, name)[0]) == record.sha256 else None
    except OSError:
        return None


def chain(out: Path, group: str, run: str, folder: str = RUN) -> Iterator[Record]:
    """The records of a group's shards, from the first on, as far as each begins where the one before it ends."""
    since, part = None, 0
    while (record := read_record(out, shard_name(group, part), folder)) is not None:
        if (record.run, record.inputs, record.begin) != (run, group, since):
            return
        yield record
        if record.next is None:
            return
        since, part = record.next, part + 1
