"""What a run was asked for, whether its folder may go on with it, and what became of every input.

`manifest.json` is for readers: arguments, weights and the shards with their sha256. `inputs.parquet` has a row an
input, `failures.parquet` one for everything that was not embedded. `.run/plan.json` is the last start's.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..embedding import Embedder
from ..errors import ConfigError, need
from ..sealed_files import plain, plain_json, read_sealed, remove, sealed, write
from ..version import __version__
from .own_columns import typed
from .plan import File, Group
from .segments import Settings
from .shards import (
    FAILURES,
    FORMAT,
    INPUTS,
    MANIFEST,
    NAME_1,
    OLD,
    README,
    RUN,
    SHARDS,
    Notice,
    Record,
    chain,
    read_record,
)
from .study_table import Study

need("pyarrow", extra="batch", what="embedding folders")

import pyarrow as pa  # noqa: E402
from pyarrow import parquet  # noqa: E402

PLAN = "plan.json"
GUIDE = f"""---
configs:
- config_name: default
  data_files: {SHARDS}/*.parquet
---
Embeddings of physiological signals, a row a window. Give pandas, polars, DuckDB or Ray the folder `{SHARDS}`;
`datasets.load_dataset` takes this one. `{INPUTS}` says what became of every input, `{FAILURES}` why something
was not embedded, `{MANIFEST}` what made the vectors (`tiny-biomoe info`).
"""
NOTICES = pa.schema(
    [("source", pa.string()), ("channel", pa.string()), ("start", pa.float64()), ("stop", pa.float64())]
    + [("outcome", pa.string()), ("reason", pa.string())]
)


@dataclass(frozen=True)
class Summary:
    """What became of the inputs of a run; `inputs = embedded + failed + skipped` always holds."""

    inputs: int
    embedded: int  # inputs with one window at least
    failed: int
    skipped: int  # of no known modality, shorter than a window, or no recording at all
    in_part: int  # of those embedded: inputs of which a channel or window was not
    windows: int  # embedded
    windows_failed: int
    shards: int
    bytes: int  # of all shards
    warned: int = 0  # inputs that were embedded although something of them is doubtful

    @property
    def exit_code(self) -> int:
        """0 all embedded, 2 some failed, 1 nothing was embedded."""
        if not self.windows:
            return 1
        return 2 if self.failed or self.in_part else 0

    def table(self) -> str:
        """The summary as text for a terminal."""
        notes = [f"{self.in_part} of them in part"] if self.in_part else []
        notes += [f"{self.warned} with a warning"] if self.warned else []
        rows = [
            ("inputs", self.inputs, ""),
            ("  embedded", self.embedded, ", ".join(notes)),
            ("  failed", self.failed, ""),
            ("  skipped", self.skipped, ""),
            ("windows embedded", self.windows, ""),
            ("windows failed", self.windows_failed, ""),
            ("shards", self.shards, f"{self.bytes / 1e6:.1f} MB"),
        ]
        return "\n".join(f"{name:<18}{count:>12}  {note}".rstrip() for name, count, note in rows)


def fingerprint(
    model: Embedder, settings: Settings, further: Sequence[tuple[str, str]], threads: int
) -> dict[str, Any]:
    """All that decides the bytes of a run beside its inputs, as plain values."""
    weights = model.weights_facts()
    kept = ("weights", "weights_sha256", "tensors_sha256")  # not where they lie: a moved folder changes no byte
    numbers = {name: version(name) for name in ("numpy", "scipy", "pyarrow")}
    if model.backend.name == "torch":
        numbers["torch"] = version("torch")
    return {
        "library": {"tiny-biomoe": __version__, **numbers},
        "weights": {name: weights[name] for name in kept},
        "backend": model.backend.facts(),
        "recipe": asdict(model.recipe),
        "arguments": {**asdict(settings), "further": [name for name, _ in further]},
        "threads": None if model.backend.parallel else threads,  # an image is then computed by one thread
        "batches": model.backend.batches,  # of an accelerator, whose size changes the last digits
    }


def digest(content: Any) -> str:
    """sha256 of plain values."""
    return hashlib.sha256(plain_json(content)).hexdigest()


def run_digest(facts: dict[str, Any]) -> str:
    """sha256 of the part of a fingerprint that every start of a run shares."""
    return digest(_identity(plain(facts)))


def _identity(facts: dict[str, Any]) -> dict[str, Any]:
    """A fingerprint without what may change from one start to the next: columns carried along, batches of a CPU."""
    beside = {"further"} if facts["batches"] else {"further", "batch_size"}
    return {**facts, "arguments": {key: value for key, value in facts["arguments"].items() if key not in beside}}


def begin(out: Path, facts: dict[str, Any], files: Sequence[File]) -> list[Any]:
    """Begin a run in an empty folder, or go on with the one that is there: the records of its files, as they were.

    While no shard holds a row, other arguments begin it anew: nothing is lost.

    Raises
    ------
    ConfigError
        As `earlier_files` says.
    """
    facts = plain(facts)
    known = earlier_files(out, facts, {each.source for each in files})
    if known is None:
        for path in [out / MANIFEST, *(out / SHARDS).glob("shard-*"), *(out / RUN).glob("shard-*")]:
            remove(path)
    write(out / RUN / PLAN, sealed({"fingerprint": facts, "files": [each.record() for each in files]}))
    return known or []


def earlier_files(out: Path, facts: dict[str, Any], sources: Set[str]) -> list[Any] | None:
    """The records of the files of the run in a folder, which is only read; None where it is begun anew.

    Raises
    ------
    ConfigError
        The folder holds a run of other settings (the message says what differs), of other inputs altogether, of an
        earlier version, or something else.
    """
    facts = plain(facts)
    if any(NAME_1.fullmatch(path.name) for path in (out / SHARDS).glob("shard-*")):
        raise ConfigError(
            f"{str(out)!r} holds embeddings of an earlier version of tiny-biomoe, which are read as before and "
            "cannot be gone on with: choose another folder"
        )
    stored, manifest = read_sealed(out / RUN / PLAN), read_sealed(out / MANIFEST)
    earlier = (stored or manifest or {}).get("fingerprint")
    if earlier is not None and _identity(earlier) != _identity(facts):
        if _holds_rows(out):
            raise ConfigError(
                f"{str(out)!r} holds embeddings that were made with other arguments: "
                f"{_difference(_identity(earlier), _identity(facts))}: repeat them, or choose another folder"
            )
        return None
    if earlier is None and not _is_of(out, run_digest(facts)):
        raise ConfigError(f"{str(out)!r}: {MANIFEST} and {PLAN} are both damaged: delete the folder to begin anew")
    known: list[Any] = [] if stored is None else stored["files"]
    if known and _holds_rows(out) and not sources & {record[2][0][0] for record in known}:
        raise ConfigError(
            f"{str(out)!r} holds embeddings of other inputs ({known[0][2][0][0]} ...), none of which is asked for now: "
            "choose another folder, or delete this one to begin anew"
        )
    return known


def _is_of(out: Path, run: str) -> bool:
    """Whether all shards of a folder are known to be of a run."""
    found = (read_record(out, path.name) for path in (out / SHARDS).glob("shard-*.parquet"))
    return all(record is not None and record.run == run for record in found)


def _holds_rows(out: Path) -> bool:
    """Whether a shard, set aside or not, holds a row, or may hold one: it has no record."""
    places = ((out / SHARDS, RUN), (out / RUN / OLD, f"{RUN}/{OLD}"))
    found = (read_record(out, path.name, records) for at, records in places for path in at.glob("shard-*.parquet"))
    return any(record is None or record.rows for record in found)


def _count(files: Iterable[File]) -> int:
    return sum(len(each.inputs) for each in files)


def _difference(before: Any, now: Any, name: str = "") -> str:
    """Where two fingerprints differ, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        parts = [
            _difference(before.get(key), now.get(key), f"{name}.{key}" if name else key)
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        ]
        return "; ".join(parts)
    return f"{name} was {str(before)[:120]}, now {str(now)[:120]}"


class Ledger:
    """Adds up the records of a run, shard by shard, and writes what it comes to."""

    def __init__(self, files: Sequence[File], groups: Sequence[Group], study: Study) -> None:
        self._files, self._groups, self._study = files, groups, study
        self._places = {group.digest: place for place, group in enumerate(groups)}
        self._tally: dict[int, list[int]] = {}
        self._noticed: dict[int, set[str]] = {}
        self._shards: dict[tuple[int, ...], dict[str, Any]] = {}  # by place of the group, and where in it they begin
        self._provenance: dict[str, Any] = {}

    def add(self, record: Record) -> None:
        """Count a shard."""
        place = self._places[record.inputs]
        first = self._groups[place].first
        for number, counts in record.tally.items():
            held = self._tally.setdefault(first + int(number), [0, 0])
            held[:] = held[0] + counts[0], held[1] + counts[1]
        for notice in record.notices:
            self._noticed.setdefault(first + notice["input"], set()).add(notice["outcome"])
        self._provenance |= record.provenance
        facts = {key: getattr(record, key) for key in ("name", "sha256", "bytes", "rows")}
        self._shards[(place, *(record.begin or ()))] = facts

    def outcome(self, number: int) -> str:
        """What became of an input: "embedded", "in part", "failed" or "skipped"."""
        embedded, noticed = self._tally.get(number, [0, 0])[0], self._noticed.get(number, set())
        if embedded:
            return "in part" if "failed" in noticed else "embedded"
        return "failed" if "failed" in noticed else "skipped"

    def summary(self) -> Summary:
        """The counts of the whole run.

        Raises
        ------
        RuntimeError
            They do not add up, which is a fault of this library.
        """
        outcomes = [self.outcome(number) for number in range(_count(self._files))]
        in_part, beside = outcomes.count("in part"), len(self._study.skipped)
        found = Summary(
            inputs=len(outcomes) + beside,
            embedded=outcomes.count("embedded") + in_part,
            failed=outcomes.count("failed"),
            skipped=outcomes.count("skipped") + beside,
            in_part=in_part,
            windows=sum(counts[0] for counts in self._tally.values()),
            windows_failed=sum(counts[1] for counts in self._tally.values()),
            shards=len(self._shards),
            bytes=sum(each["bytes"] for each in self._shards.values()),
            warned=sum("warned" in outcomes for outcomes in self._noticed.values()),
        )
        rows = sum(each["rows"] for each in self._shards.values())
        if found.inputs != found.embedded + found.failed + found.skipped or rows != found.windows:
            raise RuntimeError(f"the counts do not add up, {found} with {rows} rows: please report this")
        return found

    def write(self, out: Path, facts: dict[str, Any]) -> Summary:
        """Write `inputs.parquet`, `failures.parquet`, `README.md` and, last, `manifest.json`: the run is complete."""
        summary = self.summary()
        write(out / INPUTS, self._inputs())
        write(out / FAILURES, _failures(self._notices(out, run_digest(facts))))
        began = [each.record() for each in self._files]
        counts = {"count": _count(self._files), "sha256": digest(began)}
        write(out / README, GUIDE.encode())
        manifest = {"format": FORMAT, "fingerprint": plain(facts), "inputs": counts, "summary": asdict(summary)}
        shards = [facts for _, facts in sorted(self._shards.items(), key=lambda each: each[0])]
        write(out / MANIFEST, sealed({**manifest, "provenance": plain(self._provenance), "shards": shards}))
        return summary

    def _inputs(self) -> bytes:
        unnamed = ("path", "further", "within")
        named = [field.name for field in fields(self._files[0].inputs[0]) if field.name not in unnamed]
        inputs = [(file, each) for file in self._files for each in file.inputs]
        numbers = {"fs": pa.float64(), "start": pa.float64(), "stop": pa.float64()}
        columns = {
            name: pa.array([getattr(each, name) for _, each in inputs], numbers.get(name, pa.string()))
            for name in named
        }
        for place, (name, kind) in enumerate(self._study.carried):
            columns[name] = typed([each.further[place] for _, each in inputs], kind)
        numbered = range(len(inputs))
        columns["sha256"] = pa.array([file.sha256 for file, _ in inputs], pa.string())
        columns["outcome"] = pa.array([self.outcome(number) for number in numbered], pa.string())
        columns["windows"] = pa.array([self._tally.get(number, [0, 0])[0] for number in numbered], pa.int64())
        return _parquet([pa.table(columns)])

    def _notices(self, out: Path, run: str) -> Iterator[Sequence[dict[str, Any]]]:
        yield [asdict(Notice(-1, each.source, "skipped", each.reason)) for each in self._study.skipped]
        for group in self._groups:
            for record in chain(out, group.digest, run):
                yield [dict(each) for each in record.notices]


def _failures(batches: Iterable[Sequence[dict[str, Any]]]) -> bytes:
    def tables() -> Iterator[pa.Table]:
        for rows in batches:
            yield pa.Table.from_pylist([{name: row[name] for name in NOTICES.names} for row in rows], NOTICES)

    return _parquet(tables(), NOTICES)


def _parquet(tables: Iterable[pa.Table], schema: pa.Schema | None = None) -> bytes:
    buffer, writer = io.BytesIO(), None
    for table in tables:
        writer = writer or parquet.ParquetWriter(buffer, schema or table.schema)
        if len(table):
            writer.write_table(table)
    if writer is not None:
        writer.close()
    return buffer.getvalue()
