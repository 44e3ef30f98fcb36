"""A study that has changed: vectors of files that did not change are taken from its shards, none is embedded twice.

A group of files whose shards do not fit the study any more is put together anew. Its old shards wait in `.run/old`, out
of the sight of readers, until the run is complete; `keep` finds in their records what can be taken from them.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, need
from ..sealed_files import remove, sha256_of, sync_folder
from .shards import NAME, OLD, RUN, SHARDS, Notice, Record, Row, chain, read_record, shard_paths

need("pyarrow", extra="batch", what="embedding folders")

import pyarrow as pa  # noqa: E402
from pyarrow import parquet  # noqa: E402

TOGETHER = 256  # windows that are taken from a shard at a time


@dataclass(frozen=True)
class KeptPart:
    """What one shard holds of a file."""

    path: Path  # of the shard
    sha256: str
    row: int  # the first of its rows
    runs: Sequence[Sequence[int]]  # (input, number of windows) of successive windows; inputs counted within the file
    notices: Sequence[Notice]  # inputs likewise


@dataclass(frozen=True)
class Kept:
    """A file that was embedded before, to its end: where its windows lie."""

    parts: tuple[KeptPart, ...]

    @property
    def windows(self) -> int:
        """Embedded or failed."""
        return sum(count for part in self.parts for _, count in part.runs)


class Shelf:
    """Shards that were set aside, opened for reading; the last one stays in memory."""

    def __init__(self) -> None:
        self._digests: dict[Path, str | None] = {}
        self._last: tuple[Path, pa.Table] | None = None

    def holds(self, kept: Kept) -> bool:
        """Whether all shards of a file are there, undamaged."""
        return all(self._digest(part.path) == part.sha256 for part in kept.parts)

    def _digest(self, path: Path) -> str | None:
        if path not in self._digests:
            try:
                self._digests[path] = sha256_of(path)
            except OSError:
                self._digests[path] = None
        return self._digests[path]

    def rows(self, part: KeptPart, count: int) -> pa.Table:
        """The rows of a part."""
        if self._last is None or self._last[0] != part.path:
            self._last = None  # which frees it
            self._last = part.path, parquet.read_table(part.path)
        return self._last[1].slice(part.row, count)


@dataclass(frozen=True)
class KeptWindow:
    """A window that was embedded before, or failed."""

    file: int  # as in `segments.Chunk`
    before: int
    input_bytes: float
    number: int  # of its input in the group
    row: Row | None
    further: tuple[str, ...]
    vectors: NDArray[np.float32] | None  # (n_representations, width), of several readouts one behind the other
    notice: Notice | None  # in place of row and vectors


@dataclass(frozen=True)
class Seen:
    """A file as the records of its group tell of it."""

    kept: Kept
    notices: Sequence[Notice]  # of all parts; inputs counted within the file
    failed: frozenset[int]  # inputs within the file that gave no window, or fewer than with more memory: tried again


def seen_in(records: Iterable[Record], folder: Path) -> dict[str, Seen]:
    """The files that some successive shards of a group, from the first on, hold to their end, by `File.key`."""
    found: dict[str, Seen] = {}
    open_: dict[str, list[KeptPart]] = {}
    tally: dict[int, int] = {}  # embedded windows of an input of the group
    for record in records:
        for number, counts in record.tally.items():
            tally[int(number)] = tally.get(int(number), 0) + counts[0]
        firsts = [piece["first"] for piece in record.files]
        notices: list[list[Notice]] = [[] for _ in firsts]
        for each in record.notices:
            place = bisect_right(firsts, each["input"]) - 1
            notices[place].append(replace(Notice(**each), input=each["input"] - firsts[place]))
        row = 0
        for piece, own in zip(record.files, notices, strict=True):
            parts = open_.setdefault(piece["key"], [])
            parts.append(KeptPart(folder / record.name, record.sha256, row, piece["runs"], own))
            row += piece["rows"]
            if piece["ended"]:
                of_file = [each for part in parts for each in part.notices]
                found[piece["key"]] = Seen(Kept(tuple(parts)), of_file, _worth_trying(of_file, piece["first"], tally))
    return found


def _worth_trying(notices: Sequence[Notice], first: int, tally: Mapping[int, int]) -> frozenset[int]:
    return frozenset(
        each.input
        for each in notices
        if each.again or (each.outcome == "failed" and each.start is None and not tally.get(first + each.input))
    )


def kept_windows(
    shelf: Shelf, kept: Kept, file: Any, place: int, columns: Sequence[Sequence[str]]
) -> Iterator[KeptWindow | Notice]:
    """The windows and notices of a file in the order in which they were met, with `file` as it is asked for now.

    Parameters
    ----------
    file : the `plan.File`
    place : its place in the group
    columns : of each representation those that hold its vectors, one a readout
    """
    size = file.size / max(kept.windows, 1)
    window = 0
    for part in kept.parts:
        beside = deque(each for each in part.notices if each.start is None)
        failed = {each.window: each for each in part.notices if each.start is not None}
        rows = _rows(shelf.rows(part, sum(count for _, count in part.runs) - len(failed)), columns)
        for number, count in part.runs:
            for _ in range(count):
                yield from _up_to(beside, window, file)
                about = (place, window, size, file.first + number)
                if window in failed:
                    yield KeptWindow(*about, None, (), None, _now(failed[window], file))
                else:
                    facts, vectors = next(rows)
                    wanted = file.inputs[number]
                    row = Row(**{**facts, "subject": wanted.subject, "label": wanted.label})
                    yield KeptWindow(*about, row, wanted.further, vectors, None)
                window += 1
        yield from _up_to(beside, window, file)


def _up_to(notices: deque[Notice], window: int, file: Any) -> Iterator[Notice]:
    """The notices that stand before a window, which are taken from the list."""
    while notices and notices[0].window <= window:
        yield _now(notices.popleft(), file)


def _now(notice: Notice, file: Any) -> Notice:
    return replace(notice, input=file.first + notice.input)


def _rows(table: pa.Table, columns: Sequence[Sequence[str]]) -> Iterator[tuple[dict[str, Any], NDArray[np.float32]]]:
    """The rows of a table, some at a time, each with its vectors, (n_representations, width)."""
    for batch in table.to_batches(TOGETHER):
        parts = [[np.asarray(batch.column(name).flatten()).reshape(len(batch), -1) for name in own] for own in columns]
        vectors = [np.concatenate(own, axis=1) for own in parts]
        facts = batch.select(list(Row.__dataclass_fields__)).to_pylist()
        yield from zip(facts, np.stack(vectors, axis=1), strict=True)


def set_aside(out: Path, names: Iterable[str]) -> None:
    """Move shards and their records to where no reader looks.

    Raises
    ------
    ConfigError
        The disk refuses.
    """
    old = out / RUN / OLD
    try:
        old.mkdir(exist_ok=True)
        for name in names:
            for path in shard_paths(out, name):
                if path.exists():
                    os.replace(path, old / path.name)
        for folder in (old, out / SHARDS, out / RUN):
            sync_folder(folder)
    except OSError as error:
        raise ConfigError(
            f"{str(old)!r} cannot be written ({error.strerror}): make room and run the same command again; "
            "nothing is lost"
        ) from error


def seen_aside(out: Path, run: str) -> dict[str, Seen]:
    """What the shards that were set aside hold, by `File.key`."""
    groups: dict[str, None] = {}
    for path in (out / RUN / OLD).glob("shard-*-00000.json"):
        record = read_record(out, f"{path.stem}.parquet", f"{RUN}/{OLD}")
        if record is not None and record.run == run:
            groups[record.inputs] = None
    found: dict[str, Seen] = {}
    for group in groups:
        found |= seen_in(chain(out, group, run, f"{RUN}/{OLD}"), out / RUN / OLD)
    return found


def forget(out: Path) -> None:
    """Remove what was set aside: the run is complete without it."""
    for path in (out / RUN / OLD).glob("*"):
        remove(path)


def stale(out: Path, groups: Iterable[str]) -> list[str]:
    """The shards in a folder that belong to none of these groups, whose digests are given."""
    known = {group[:16] for group in groups}
    found = {path.stem for folder in (SHARDS, RUN) for path in (out / folder).glob("shard-*")}
    return sorted(
        f"{stem}.parquet"
        for stem in found
        if (match := NAME.fullmatch(f"{stem}.parquet")) is None or match[1] not in known
    )
