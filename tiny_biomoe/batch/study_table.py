"""A study -> its inputs: a folder of recordings, paths, or a table, whose columns are checked here.

A table is a study file, which is delimited text with a header, or a DataFrame. Only the column `path` is required;
`modality`, `fs`, `column`, `subject`, `label`, `start` and `stop` are known, and any further column is carried into the
output, with the type that its cells have.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..errors import ConfigError, SignalError, excerpt, need, printable, warn
from ..images.representations import REPRESENTATIONS
from ..readers.discovery import Skipped, find
from ..readers.read import source_name
from ..readers.text_files import read_lines
from ..signals.filters import modality_name
from ..signals.request import READOUTS, column_of
from ..signals.validation import is_number
from .labels import check_people, is_missing
from .own_columns import text_of, type_of

KNOWN = ("path", "modality", "fs", "column", "subject", "label", "start", "stop")
PEOPLE = {"subject", "label", "modality"}  # of which a table without `path` that is a study has one
NEAR = 0.75  # how alike a misspelt name is to the one that was meant
FACTS = ("id", "source", "channel", "modality", "fs", "start", "stop", "unix_start", "missing", "flat", "clipped")
FILES = {"file", "files", "filename", "file_name", "filepath", "file_path", "recording", "paths"}  # in place of `path`
VECTORS = {column_of(name, readout) for name in REPRESENTATIONS for readout in READOUTS}
ADDED = {"sha256", "outcome", "windows", "folder", "similarity"}  # by `inputs.parquet`, loading and searching
TAKEN = {*KNOWN, *FACTS, *VECTORS, *ADDED}  # names that a further column cannot have


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
    within: bool = False  # a folder whose modality the study names: a file of another one is skipped, not failed

    @property
    def is_stretch(self) -> bool:
        """Whether a part of the recording is asked for, rather than the whole."""
        return self.start is not None or self.stop is not None

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
    types: tuple[str, ...] = ()  # of these, each of `cells.TYPES`

    @property
    def carried(self) -> tuple[tuple[str, str], ...]:
        """Name and type of each column that is carried into the output."""
        return tuple(zip(self.further, self.types, strict=True))


def open_study(source: Any, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Study:
    """A study from a folder, a study file, a single recording, a list of paths, or a DataFrame.

    Parameters
    ----------
    source
        A path; several in a list; or a table with a column `path`: of pandas, polars or Arrow, or a dictionary of
        columns. Rows are taken by position. Relative paths in lists and tables count from the current folder.
    include, exclude
        Patterns (`*`, `?`, `[...]`) of the names of the inputs to take, and to leave out. One with a slash is compared
        with the path in the study, any other with the file's name.

    Raises
    ------
    SignalError
        There is no such file or folder, it holds nothing to read, or a row of the study cannot be used.
    ConfigError
        A table without `path`, or with a column that cannot be carried along; no input fits the patterns.
    """
    if isinstance(source, Study):
        return chosen(source, include, exclude)
    fitting = _fitting(include, exclude)
    if isinstance(source, str | os.PathLike):
        return chosen(_of_path(Path(source), fitting), include, exclude)
    if isinstance(source, Mapping) or hasattr(source, "columns") or hasattr(source, "__arrow_c_stream__"):
        return chosen(_of_table(source, fitting), include, exclude)
    if isinstance(source, Iterable):
        paths = list(source)
        if paths and all(isinstance(each, Mapping) for each in paths):  # rows, as `StudyRows` has them
            names = dict.fromkeys(name for row in paths for name in row)
            as_file = all(isinstance(cell, str) for row in paths for cell in row.values())
            columns = {name: [row.get(name) for row in paths] for name in names}
            return chosen(_of_table(columns, fitting, as_file), include, exclude)
        if wrong := [each for each in paths if not isinstance(each, str | os.PathLike)]:
            raise ConfigError(f"{wrong[0]!r} is no path: a study is a path, a list of paths, or a table with 'path'")
        rows = ((at, {"path": os.fspath(path)}) for at, path in enumerate(paths))
        return chosen(_collected(rows, (), Path.cwd(), "the list", fitting, "item"), include, exclude)
    raise ConfigError(f"{type(source).__name__} is no study: pass a path, a list of paths, or a table with 'path'")


def _fitting(include: Sequence[str], exclude: Sequence[str]) -> Callable[[str], bool]:
    """Whether the name of an input fits one pattern of `include`, where there are any, and none of `exclude`."""
    if text := next((each for each in (include, exclude) if isinstance(each, str)), None):
        raise ConfigError(f"include= and exclude= are lists of patterns: [{text!r}]")
    return lambda name: (not include or fits(name, include)) and not fits(name, exclude)


def _of_path(path: Path, fitting: Callable[[str], bool]) -> Study:
    if path.is_file() and is_study_file(path):
        return read_study(path, fitting=fitting)
    if path.is_file() and (names := _study_without_path(path)):
        raise ConfigError(
            f"{printable(str(path))} looks like a study table, with {', '.join(map(excerpt, names))}, and has no "
            "column 'path': call the column of the files so"
        )
    root = path.parent if path.is_file() else path
    paths, skipped = find(path, lambda each: fitting(source_name(each, root)))
    tables = [each for each in paths if each.suffix.lower() in (".csv", ".tsv", ".txt") and is_study_file(each)]
    skipped += [Skipped(source_name(each, root), "a study file, which is embedded by its own name") for each in tables]
    return Study([Input(source_name(each, root), each) for each in paths if each not in tables], skipped)


def _of_table(table: Any, fitting: Callable[[str], bool], as_file: bool = False) -> Study:
    """A DataFrame, an Arrow table or a dictionary of columns as a study; text in it is text, unless it is `as_file`."""
    need("pyarrow", extra="batch", what="a table as a study")
    import pyarrow as pa

    where = "the table"
    try:
        by_position = hasattr(table, "reset_index")  # pandas, whose index is no column
        rows = pa.Table.from_pandas(table, preserve_index=False) if by_position else pa.table(table)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"the table cannot be read ({error}): a column of a study holds text or numbers, not both"
        ) from error
    names = [name.lower() if name.lower() in KNOWN else name for name in rows.column_names]
    further = _check_header(names, where)
    cells = [[text_of(value) for value in column.to_pylist()] for column in rows.columns]
    listed = (dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True))
    plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    texts = [
        name
        for name, field in zip(names, rows.schema, strict=True)
        if not as_file and not any(fits(field.type) for fits in plain)
    ]
    return _collected(enumerate(listed), further, Path.cwd(), where, fitting, texts=texts)


def chosen(study: Study, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Study:
    """The inputs of a study whose names fit one pattern of `include`, where there are any, and none of `exclude`.

    Raises
    ------
    ConfigError
        No input is left.
    """
    if not include and not exclude:
        return study
    fitting = _fitting(include, exclude)
    kept = [each for each in study.inputs if fitting(each.source)]
    if study.inputs and not kept:
        raise ConfigError(
            f"no input fits: include {list(include)} and exclude {list(exclude)} leave none of {len(study.inputs)}, "
            f"the first of which is {study.inputs[0].source}; a pattern without a slash concerns the file's name"
        )
    return replace(study, inputs=kept)


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Whether a path fits one of several patterns; one without a slash is compared with the last part.

    >>> fits("S01/rest/EDA.csv", ["EDA*"]), fits("S01/rest/EDA.csv", ["S01/*"]), fits("S01/rest/EDA.csv", ["rest"])
    (True, True, False)
    """
    return any(fnmatchcase(name if "/" in each else name.rpartition("/")[2], each) for each in patterns)


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
    return "path" in _header(path)


def _study_without_path(path: Path) -> list[str]:
    """The header of a study file whose column `path` is missing or has another name; empty of any other file."""
    names = _header(path)
    known = {*KNOWN, *FILES}
    if PEOPLE & set(names) and any(get_close_matches(name, ["path"], cutoff=NEAR) for name in names):
        return names
    if FILES & set(names) or (len(names) > 1 and set(names) <= known and {"subject", "modality"} & set(names)):
        return names
    return []


def _header(path: Path) -> list[str]:
    """The names in the first row of a text, in lower case."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = next((line for line in iter(lambda: file.readline(1 << 16), "") if not line.startswith("#")), "")
        return [name.lower() for name in cells_of(line.rstrip("\r\n"), delimiter_of(line))]
    except (OSError, UnicodeDecodeError, SignalError):
        return []


def delimiter_of(header: str) -> str:
    """What stands between the cells of a table, by its first row."""
    return max(",;\t", key=header.count)


def cells_of(line: str, delimiter: str) -> list[str]:
    """The cells of a row, without the space around them."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error as error:
        raise SignalError(f"{excerpt(line)} cannot be parted into cells ({error})") from error


def read_study(
    path: str | os.PathLike[str], encoding: str = "utf-8", fitting: Callable[[str], bool] = lambda name: True
) -> Study:
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
    delimiter = delimiter_of(header)
    names = [name.lower() if name.lower() in KNOWN else name for name in cells_of(header, delimiter)]
    further = _check_header(names, where)
    first = len(comments) + 2
    rows = ((row, _row(line, names, delimiter)) for row, line in enumerate(lines, first))
    return _collected(rows, further, folder, where, fitting)


def _row(line: str, names: Sequence[str], delimiter: str) -> dict[str, str] | SignalError:
    try:
        cells = cells_of(line, delimiter)
    except SignalError as error:
        return error
    if len(cells) != len(names):
        return SignalError(f"{len(cells)} cells under {len(names)} names")
    return dict(zip(names, cells, strict=True))


def _collected(
    rows: Iterable[tuple[int, Mapping[str, str] | SignalError]],
    further: tuple[str, ...],
    folder: Path,
    where: str,
    fitting: Callable[[str], bool],
    kind: str = "row",
    texts: Sequence[str] = (),
) -> Study:
    """The study of some rows, sorted, once every one is found to be possible; `texts` are columns of text."""
    inputs: dict[tuple[Any, ...], Input] = {}
    skipped: list[Skipped] = []
    for at, row in rows:
        try:
            if isinstance(row, SignalError):
                raise row
            found, passed = _inputs(row, further, folder, fitting)
            for each in found:
                if each.facts() in inputs:
                    raise SignalError(f"{each.source} is asked for a second time: leave one row out")
                inputs[each.facts()] = each
        except (SignalError, ConfigError) as error:
            raise type(error)(f"{where}, {kind} {at}: {error}") from error
        skipped += passed
    if not inputs:
        raise SignalError(f"{where}: the study has no rows")
    named = [each for each in inputs.values() if each.subject is not None]
    people = dict(zip(map(id, named), check_people([each.subject for each in named], len(named)), strict=True))
    listed = [replace(each, subject=people.get(id(each))) for each in inputs.values()]
    cells = [[each.further[place] for each in listed] for place in range(len(further))]
    types = ("string" if name in texts else type_of(column) for name, column in zip(further, cells, strict=True))
    return Study(sorted(listed, key=Input.order), list(dict.fromkeys(skipped)), further, tuple(types))


def _check_header(names: list[str], where: str) -> tuple[str, ...]:
    if "path" not in names:
        raise ConfigError(f"{where}: a study file has a column 'path'; this one has {', '.join(map(excerpt, names))}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{where}: two columns are called {excerpt(twice[0])}: rename one")
    further = tuple(name for name in names if name not in KNOWN)
    if taken := [name for name in further if not name or name in TAKEN]:
        raise ConfigError(f"{where}: a column called {excerpt(taken[0])} cannot be carried along: rename it")
    missing = [name for name in KNOWN if name not in names]
    for name in further:
        for meant in get_close_matches(name.lower(), missing, 1, NEAR):
            warn(f"{where}: the column {excerpt(name)} is carried along as one of your own: did you mean {meant!r}?")
    return further


def _inputs(
    row: Mapping[str, str], further: tuple[str, ...], folder: Path, fitting: Callable[[str], bool]
) -> tuple[list[Input], list[Skipped]]:
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
    subject, label = (None if is_missing(row.get(name)) else row[name] for name in ("subject", "label"))
    path = Path(os.path.normpath(folder / row["path"]))
    root = folder if path.is_relative_to(folder) else None
    is_folder = path.is_dir()
    paths, skipped = find(path, lambda each: fitting(source_name(each, root))) if is_folder else ([path], [])
    given = (row.get("column") or None, modality, fs, start, stop, subject, label)
    cells = tuple(row[name] for name in further)
    named = source_name(path, root)
    found = [Input(source_name(each, root), each, *given, cells, modality is not None and is_folder) for each in paths]
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
