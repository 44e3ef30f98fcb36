"""A study -> its inputs: a folder of recordings, or a table that says what each file holds and of whom.

A study file is delimited text with a header. Only the column `path` is required; `modality`, `fs`, `column`,
`subject`, `label`, `start` and `stop` are known, and any further column is carried into the output as text.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, SignalError
from ..images.representations import REPRESENTATIONS
from ..readers.discovery import Skipped, source_name
from ..readers.formats import find
from ..readers.recording import excerpt, printable
from ..readers.text_files import read_lines
from ..signals.filters import modality_name
from ..signals.validation import is_number

KNOWN = ("path", "modality", "fs", "column", "subject", "label", "start", "stop")
FACTS = ("id", "source", "channel", "modality", "fs", "start", "stop", "unix_start", "missing", "flat", "clipped")
TAKEN = {*KNOWN, *FACTS, *REPRESENTATIONS}  # names that a further column cannot have


@dataclass(frozen=True)
class Input:
    """A file, or what is wanted of it; None where nothing is given."""

    source: str  # path relative to the study, forward slashes, printable
    path: Path
    column: str | None = None
    modality: str | None = None  # canonical
    fs: float | None = None  # Hz
    start: float | None = None  # seconds from the recording's first sample; windows are cut from here ...
    stop: float | None = None  # ... to here; the recording is filtered whole
    subject: str | None = None
    label: str | None = None
    further: tuple[str, ...] = ()  # cells of `Study.further`

    def facts(self) -> tuple[Any, ...]:
        """All that is given about the input, its path as the study knows it: equal facts are one input."""
        return (*self.reading(), self.subject, self.label, *self.further)

    def reading(self) -> tuple[Any, ...]:
        """What decides its windows and vectors: all of `facts` that is not merely carried along."""
        return self.source, self.column, self.modality, self.fs, self.start, self.stop

    def order(self) -> tuple[Any, ...]:
        """Where the input stands among others: by path, then by what is read of it, then by time."""
        facts = (self.source, self.column or "", self.modality or "", self.fs or 0.0, self.start or 0.0)
        return (
            *facts,
            math.inf if self.stop is None else self.stop,
            *(str(each) for each in (self.subject, self.label, *self.further)),
        )


@dataclass(frozen=True)
class Study:
    """The inputs of a run, sorted, and what lies beside them."""

    inputs: Sequence[Input]
    skipped: Sequence[Skipped] = ()
    further: tuple[str, ...] = ()  # names of the columns that are carried into the output


def open_study(path: str | os.PathLike[str]) -> Study:
    """A folder, a study file, or a single recording as a study.

    Raises
    ------
    SignalError
        There is no such file or folder, it holds nothing to read, or a row of the study file cannot be used.
    """
    path = Path(path)
    if path.is_file() and is_study_file(path):
        return read_study(path)
    paths, skipped = find(path)
    root = path.parent if path.is_file() else path
    tables = [each for each in paths if each.suffix.lower() in (".csv", ".tsv", ".txt") and is_study_file(each)]
    skipped += [Skipped(source_name(each, root), "a study file, which is embedded by its own name") for each in tables]
    return Study([Input(source_name(each, root), each) for each in paths if each not in tables], skipped)


def outside(study: Study, folder: Path) -> Study:
    """The study without what lies in a folder: an output within it is no input of the next run.

    Raises
    ------
    SignalError
        Nothing is left.
    """
    kept = [each for each in study.inputs if not _absolute(each.path).is_relative_to(_absolute(folder))]
    if not kept:
        raise SignalError(f"nothing to embed: all files lie in the output, {printable(str(folder))}")
    roots = {each.path.as_posix().removesuffix(each.source) for each in study.inputs[:1]}
    skipped = [
        each
        for each in study.skipped
        if not any(_absolute(Path(root) / each.source).is_relative_to(_absolute(folder)) for root in roots)
    ]
    return replace(study, inputs=kept, skipped=skipped)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def is_study_file(path: Path) -> bool:
    """Whether a file is a table with a column `path`, by its first row."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = next((line for line in iter(lambda: file.readline(1 << 16), "") if not line.startswith("#")), "")
        return "path" in [name.lower() for name in _cells(line.rstrip("\r\n"), _delimiter(line))]
    except (OSError, UnicodeDecodeError, SignalError):
        return False


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error as error:
        raise SignalError(f"{excerpt(line)} cannot be parted into cells ({error})") from error


def read_study(path: str | os.PathLike[str], encoding: str = "utf-8") -> Study:
    """Read a study file; paths in it are relative to its folder, and a folder stands for the files below it.

    Raises
    ------
    SignalError
        A row that cannot be used: which, and why. That a file exists is not asked here.
    ConfigError
        A header without `path`, or with a name that is twice there or is that of a column of the output.
    """
    path = Path(path)
    where = printable(str(path))
    try:
        comments, body = read_lines(path, encoding)
    except SignalError as error:
        raise SignalError(f"{where}: {error}") from error
    except OSError as error:
        raise SignalError(f"{where}: the study file cannot be read ({error.strerror})") from error
    folder = _absolute(path.parent)
    header, *lines = body.decode().split("\n")
    delimiter = _delimiter(header)
    names = [name.lower() if name.lower() in KNOWN else name for name in _cells(header, delimiter)]
    further = _check_header(names, where)
    inputs: dict[tuple[Any, ...], Input] = {}
    skipped: list[Skipped] = []
    for row, line in enumerate(lines, len(comments) + 2):
        try:
            cells = _cells(line, delimiter)
            if len(cells) != len(names):
                raise SignalError(f"{len(cells)} cells under {len(names)} names")
            found, passed = _inputs(dict(zip(names, cells, strict=True)), further, folder)
            for each in found:
                if each.facts() in inputs:
                    raise SignalError(f"{each.source} is asked for a second time: leave one row out")
                inputs[each.facts()] = each
        except (SignalError, ConfigError) as error:
            raise type(error)(f"{where}, row {row}: {error}") from error
        skipped += passed
    if not inputs:
        raise SignalError(f"{where}: the study has no rows")
    return Study(sorted(inputs.values(), key=Input.order), list(dict.fromkeys(skipped)), further)


def _check_header(names: list[str], where: str) -> tuple[str, ...]:
    if "path" not in names:
        raise ConfigError(f"{where}: a study file has a column 'path'; this one has {', '.join(map(excerpt, names))}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{where}: two columns are called {excerpt(twice[0])}: rename one")
    further = tuple(name for name in names if name not in KNOWN)
    if taken := [name for name in further if not name or name in TAKEN]:
        raise ConfigError(f"{where}: a column called {excerpt(taken[0])} cannot be carried along: rename it")
    return further


def _inputs(row: Mapping[str, str], further: tuple[str, ...], folder: Path) -> tuple[list[Input], list[Skipped]]:
    """The inputs of a row: its file, or every file below its folder."""
    if not row["path"]:
        raise SignalError("the path is empty")
    numbers = {name: _number(row.get(name, ""), name) for name in ("fs", "start", "stop")}
    fs, start, stop = numbers.values()
    if fs is not None and fs <= 0:
        raise SignalError(f"fs={fs:g}: a sampling rate is positive")
    if (start or 0.0) < 0 or (stop is not None and stop <= (start or 0.0)):
        raise SignalError(f"start={start}, stop={stop}: seconds from the recording's first sample, stop after start")
    modality = modality_name(row["modality"]) if row.get("modality") else None
    path = Path(os.path.normpath(folder / row["path"]))
    paths, skipped = find(path) if path.is_dir() else ([path], [])
    root = folder if path.is_relative_to(folder) else None
    given = (row.get("column") or None, modality, fs, start, stop, row.get("subject") or None, row.get("label") or None)
    cells = tuple(row[name] for name in further)
    named = source_name(path, root)
    found = [Input(source_name(each, root), each, *given, cells) for each in paths]
    return found, [Skipped(f"{named}/{each.source}", each.reason) for each in skipped]


def _number(cell: str, name: str) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell) if cell.isascii() and "_" not in cell else math.nan
    except ValueError:
        value = math.nan
    if not is_number(value):
        raise SignalError(f"{name}={excerpt(cell)} is not a number; the decimal mark is a point")
    return value
