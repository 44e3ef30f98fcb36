"""Delimited text: checked lines -> columns of float64. Nothing is guessed that would change a number."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, SignalError, excerpt, need
from .channel import Channel, Clock, Options, choose
from .columns import FEWEST, NoSignal, content
from .text_files import MAX_LINE, read_lines
from .timestamps import REMEDY, counter_clock, find_clock

need("pyarrow")

import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.csv as pa_csv  # noqa: E402

RISING = 8  # rows; of so many in turn a signal does not rise with each
MAX_COLUMNS = 20_000  # what has more is no table, or one that lies on its side
SNIFFED = 20  # lines from which delimiter and decimal mark are recognised
DELIMITERS = {"tab": "\t", r"\t": "\t", "space": " ", "comma": ",", "semicolon": ";"}  # as a shell can write them
MISSING = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "-"]

RESULT = ["source", "channel", "start", "stop", "fs", "modality", "missing"]  # how embeddings in a file are headed

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.ASCII | re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?", re.ASCII)
DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")  # how ISO 8601 begins
ZONE = re.compile(r"(Z|[+-]\d\d(:?\d\d)?)$")
EXAMPLE = "2024-01-31T10:00:00.250+02:00"
HEXADECIMAL = re.compile(r"[+-]?0[xX][0-9a-fA-F]+")
RATE = re.compile(  # a sampling rate among comments: "Sample Rate = 250.0 Hz", "'Sampling rate (Hz)': 1000", "fs: 4"
    r"(?:\b(?:sampl\w*[ _-]?(?:rate|freq\w*)|fs)\b)[\"']?\s*(?:[\[(]k?hz[\])][\"']?)?\s*[:=]+\s*[\"']?"
    r"([0-9]+(?:\.[0-9]*)?)\s*(k?hz)?(?![\w.])",
    re.IGNORECASE,
)
KILO = {"khz": 1000.0}
SWAPPED = str.maketrans(",.", ".,")
REMEDIES = [  # what a cell that is no number looks like, and what to do about it
    (
        re.compile(r"^\d{1,2}:\d\d|^\d{1,4}([./-])\d{1,2}\1\d{1,4}\b"),
        f"a time is a number, or a date like {EXAMPLE}; to read without times choose the other columns, column= "
        "(--column), and give fs= (--fs)",
    ),
    (re.compile(r"^[^|]+\|"), 'name the delimiter, delimiter="|" (--delimiter)'),
    (DATE, "it is a time: name its column, time_column= (--time-column)"),
    (re.compile(r"\d[,.' \u00a0\u202f]\d{3}([,.' \u00a0\u202f]|$)"), "write numbers without thousands separators"),
    (re.compile(r"[\u2212\u2013]\d"), "write the minus sign as '-'"),
    (HEXADECIMAL, "write decimal numbers, not hexadecimal ones"),
    (re.compile(r"^[+-]?\d+,\d+$"), 'is the comma the decimal mark? pass decimal="," (--decimal ,)'),
    (re.compile(r"^[+-]?\d+\.\d+$"), 'is the point the decimal mark? pass decimal="." (--decimal .)'),
    (re.compile(""), "mend the cell, or choose the columns of numbers, column= (--column); delete a row of units"),
]


def read_csv(path: Path, options: Options) -> list[Channel]:
    """Every column, or the chosen ones; a time column becomes their clock."""
    table = open_table(path, options)
    if table.names[: len(RESULT)] == RESULT:
        raise SignalError("the file holds embeddings that this library wrote, not a recording: move it elsewhere")
    clock_at, unit = find_clock(table.names, options.time_column)
    if clock_at is None and options.time_column is None:
        clock_at, unit = table.dated(), None
    everything = options.column is None or options.column == "*"
    if everything:
        _refuse_events(table)
    chosen = choose(table.names, options.column, but=clock_at)
    if everything:  # a column without a name in a table that has names holds row numbers or nothing
        chosen = [index for index in chosen if table.names[index]]
    if not chosen:
        return []
    if options.time_column == "":
        clock_at = None
    clock, columns = table.clocked(clock_at, unit, chosen)
    if clock is None and options.time_column is None and 0 not in chosen:
        clock = table.hidden_clock()
    if everything and not table.titled and _is_empty(columns[chosen[-1]]):
        chosen.pop()  # every row ends with a delimiter, and nothing stands behind it
    if not table.titled and everything and len(chosen) > 1 and clock is None:
        _refuse_times(table.names, chosen, columns)
    channels, counts = [], Counter(table.names)
    for index in chosen:
        found, name = columns[index], table.names[index] or str(index)
        samples, problem = (np.empty(0), found) if isinstance(found, str) else (found, None)
        if everything and counts[name] > 1:
            problem = f"several columns are called {excerpt(name)}: choose one by its number, counted from 0"
        channels.append(Channel(name, samples, clock=clock, fs=table.fs, problem=problem))
    return channels


def _refuse_events(table: Table) -> None:
    """A row of such a table is a stretch of time, not a sample."""
    names = [name.lower() for name in table.names]
    for begin, end in product(("onset", "start"), ("duration", "stop", "end")):
        if begin in names and end in names:
            raise NoSignal(
                f"a table of events by its columns {begin!r} and {end!r}, not a recording: `tiny-biomoe study` "
                "takes it as such; to read a column all the same name it, column= (--column)"
            )


def _is_empty(column: NDArray[np.float64] | str) -> bool:
    return not isinstance(column, str) and not column.size


def _refuse_times(names: list[str], chosen: list[int], columns: Mapping[int, NDArray[np.float64] | str]) -> None:
    """Columns without names are all signals, unless one rises with every row, as no signal does."""
    for index in chosen:
        column = columns[index]
        if not isinstance(column, str) and column.size >= RISING and (np.diff(column) > 0).all():
            raise SignalError(
                f"column {names[index]} rises with every row: if it holds times, name it and its unit, "
                f'time_column="{names[index]} [s]" (--time-column); else choose the columns to read, column= (--column)'
            )


@dataclass(frozen=True)
class Table:
    """A delimited file whose comments and header have been set apart; its rows are still text."""

    comments: list[str]
    names: list[str]  # one a column: of the header, stripped, or its number where there is no header
    titled: bool  # the names are the file's own
    first_row: int  # row of the file where `body` begins
    body: bytes
    delimiter: str
    decimal: str

    @property
    def fs(self) -> float | None:
        """The sampling rate in Hz that the comments give, such as `Sample Rate = 250.0 Hz`."""
        return stated_rate(self.comments)

    def columns(self, wanted: list[int]) -> list[NDArray[np.float64]]:
        """The wanted columns: NaN where a cell is missing, and without the empty cells that pad a column's end.

        Raises
        ------
        SignalError
            A row of another length, or a cell that is no number.
        """
        found: list[NDArray[np.float64]] = []
        for index, column in zip(wanted, self.attempt(wanted), strict=True):
            if isinstance(column, str):
                raise SignalError(f"column {excerpt(self.names[index])}, {column}")
            found.append(column)
        return found

    def attempt(self, wanted: list[int]) -> list[NDArray[np.float64] | str]:
        """The same, with the reason in place of a column that holds a cell that is no number.

        Raises
        ------
        SignalError
            A row of another length.
        """
        numbers: list[pa.ChunkedArray | str] = []
        try:
            numbers += self._parse(pa.float64(), wanted)
        except pa.ArrowInvalid:
            numbers = [self._convert(column) for column in self._parse(pa.string(), wanted)]
        whole = [column for column in numbers if not isinstance(column, str)]
        if all(column[-1].is_valid for column in whole):
            return [column if isinstance(column, str) else samples(column) for column in numbers]
        lengths = map(_filled, self._parse(pa.string(), wanted))
        return [
            column if isinstance(column, str) else samples(column)[:length]
            for column, length in zip(numbers, lengths, strict=True)
        ]

    def clocked(
        self, clock_at: int | None, unit: float | None, wanted: list[int]
    ) -> tuple[Clock | None, dict[int, NDArray[np.float64] | str]]:
        """A column of times, as numbers or dates, and the wanted ones as in `attempt`, from one pass where it can be.

        Raises
        ------
        SignalError
            A row of another length; a time that is none.
        """
        dated = clock_at is not None and self.is_dated(clock_at)
        together = list(dict.fromkeys(wanted if clock_at is None or dated else [*wanted, clock_at]))
        found = dict(zip(together, self.attempt(together), strict=True))
        if clock_at is None:
            return None, found
        times = self.dates(clock_at) if dated else found[clock_at]
        if isinstance(times, str):
            raise SignalError(f"column {excerpt(self.names[clock_at])}, {times}")
        return Clock(self.names[clock_at], times, 1.0 if dated else unit, self.first_row), found

    def dated(self) -> int | None:
        """The first column of dates, whatever its name."""
        cells = _cells(self.body.partition(b"\n")[0].decode(), self.delimiter)
        return next((index for index, cell in enumerate(cells[: len(self.names)]) if DATE.match(cell)), None)

    def hidden_clock(self) -> Clock | None:
        """The first column as a clock, where its first rows show that it is one."""
        head = [line.split(self.delimiter.encode(), 1)[0] for line in self.body.split(b"\n", FEWEST + 1)[: FEWEST + 1]]
        cells = [cell.decode().strip().strip('"') for cell in head]
        if not all(_is_number(cell, self.decimal) for cell in cells):
            return None
        values = np.array([float(cell.replace(self.decimal, ".")) for cell in cells])
        if content(values) != "clock":
            return None
        (found,) = self.attempt([0])
        return None if isinstance(found, str) else counter_clock(self.names[0], found, self.first_row)

    def is_dated(self, index: int) -> bool:
        """Whether a column begins with a date rather than a number."""
        cells = _cells(self.body.partition(b"\n")[0].decode(), self.delimiter)
        return index < len(cells) and bool(DATE.match(cells[index]))

    def dates(self, index: int) -> NDArray[np.float64]:
        """A column of ISO 8601 times in unix seconds; no time zone counts as UTC.

        Raises
        ------
        SignalError
            A cell that is no such time, or has a zone where the first has none.
        """
        column = self._parse(pa.string(), [index])[0]
        cells = pc.utf8_trim_whitespace(column.slice(0, _filled(column)))
        first = cells[0].as_py()
        kind = pa.timestamp("ns", "UTC" if ZONE.search(first) else None)
        try:
            return cells.cast(kind).cast(pa.int64()).to_numpy() / 1e9
        except pa.ArrowInvalid as error:
            at = next(at for at, cell in enumerate(cells.to_pylist()) if not _is_date(cell, kind))
            raise SignalError(
                f"column {excerpt(self.names[index])}, row {self.first_row + at}: {excerpt(cells[at].as_py())} is not "
                f"a time like {excerpt(first if at else EXAMPLE)}; {REMEDY}"
            ) from error

    def _parse(self, kind: pa.DataType, wanted: list[int]) -> list[pa.ChunkedArray]:
        keys = [str(index) for index in range(len(self.names))]
        ragged: list[pa_csv.InvalidRow] = []

        def refuse(row: pa_csv.InvalidRow) -> str:
            ragged.append(row)
            return "error"

        # One thread, so that rows can be counted; it is files that are read side by side.
        reading = pa_csv.ReadOptions(column_names=keys, use_threads=False, block_size=4 * MAX_LINE)
        parsing = pa_csv.ParseOptions(delimiter=self.delimiter, ignore_empty_lines=False, invalid_row_handler=refuse)
        converting = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(keys, kind),
            include_columns=[keys[index] for index in wanted],
            null_values=MISSING,
            decimal_point=self.decimal,
        )
        try:
            return list(pa_csv.read_csv(pa.py_buffer(self.body), reading, parsing, converting).columns)
        except pa.ArrowInvalid as error:
            if not ragged:
                raise
            raise SignalError(
                f"row {self.first_row + ragged[0].number - 1} has {ragged[0].actual_columns} cells, the first row has "
                f"{ragged[0].expected_columns}: mend the row, or name the delimiter, delimiter= (--delimiter)"
            ) from error

    def _convert(self, column: pa.ChunkedArray) -> pa.ChunkedArray | str:
        """Text to numbers where the quick way failed, for blanks or for a bad cell; then the reason."""
        cells = pc.utf8_trim_whitespace(column)
        cells = pc.if_else(pc.is_in(cells, pa.array(MISSING)), None, cells)
        plain = cells if self.decimal == "." else pc.replace_substring(cells, ".", "?")  # no number any more
        try:
            return pc.replace_substring(plain, self.decimal, ".").cast(pa.float64())
        except pa.ArrowInvalid:
            at, cell = next(
                (at, cell)
                for at, cell in enumerate(cells.to_pylist())
                if cell is not None and not _is_number(cell, self.decimal)
            )
        remedy = next(text for pattern, text in REMEDIES if pattern.search(cell))
        return f"row {self.first_row + at}: {excerpt(cell)} is not a number: {remedy}"


def stated_rate(comments: list[str]) -> float | None:
    """The sampling rate in Hz that comments above a table give, in any of the usual words.

    Raises
    ------
    SignalError
        They give two that differ.
    """
    rates = {float(found[1]) * KILO.get((found[2] or "").lower(), 1.0) for found in RATE.finditer("\n".join(comments))}
    if len(rates) > 1:
        raise SignalError(
            f"the comments give several sampling rates, {', '.join(f'{rate:g} Hz' for rate in sorted(rates))}: correct "
            "the comments, or read with format= (--format)"
        )
    return rates.pop() if rates else None


def samples(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """A column of numbers, nulls as NaN; pyarrow's `to_numpy` imports pandas where it is installed, half a second."""
    if column.null_count:
        column = pc.fill_null(column, np.nan)
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks] or [np.empty(0)])


def _filled(column: pa.ChunkedArray) -> int:
    """Length of a column of text up to its last cell that is not empty."""
    filled = np.flatnonzero(pc.not_equal(pc.utf8_trim_whitespace(column), "").to_numpy())
    return int(filled[-1]) + 1 if filled.size else 0


def open_table(path: Path, options: Options) -> Table:
    """A delimited file up to its first row of samples.

    Raises
    ------
    SignalError
        Damaged text, a delimiter, decimal mark or header that is not recognised, or no samples.
    ConfigError
        An option that no file can have.
    """
    given, decimal = DELIMITERS.get(options.delimiter or "", options.delimiter), options.decimal
    if decimal not in (None, ".", ",") or (given is not None and (len(given) != 1 or given == (decimal or "."))):
        raise ConfigError(
            f"delimiter={options.delimiter!r}, decimal={decimal!r}: the decimal mark is '.' or ',', the delimiter one "
            "other character"
        )
    comments, body = read_lines(path, options.encoding)
    lines = [line.decode() for line in body.split(b"\n", SNIFFED)[:SNIFFED]]
    delimiter = given or _delimiter(lines, decimal)
    decimal = decimal or _decimal(lines[1:] or lines, delimiter)
    if delimiter == " ":  # any run of blanks parts two cells
        body = re.sub(rb"(?m)^ | $", b"", re.sub(rb"[ \t]+", b" ", body))
    return _set_header_apart(comments, body, delimiter, decimal, options.header)


def _delimiter(lines: list[str], decimal: str | None) -> str:
    """The delimiter that the first lines leave no doubt of; for a single column one that parts nothing."""
    data = lines[1:] or lines
    if sure := next((mark for mark in "\t;" if any(mark in line for line in data)), None):
        return sure
    tokens = [token for line in data for token in line.split()]
    blank_or_none = " " if len(tokens) > len(data) else ";"
    if decimal == "," or not any("," in token for token in tokens):
        return blank_or_none
    if decimal == "." or not all(map(DECIMAL_COMMA.fullmatch, tokens)):
        return ","
    if blank_or_none == " ":
        return " "
    if lines is data or DECIMAL_COMMA.fullmatch(lines[0].strip()):
        raise SignalError(
            f"{excerpt(data[0])} may be two whole numbers or one with a decimal comma: say which, "
            'delimiter="," (--delimiter ,) or decimal="," (--decimal ,)'
        )
    return "," if "," in lines[0] else ";"


def _decimal(data: list[str], delimiter: str) -> str:
    if delimiter == "," or not any("," in line for line in data):
        return "."
    if any("." in line for line in data):
        raise SignalError(
            "the first rows hold both ',' and '.': write numbers without thousands separators, or name the decimal "
            'mark, decimal="," (--decimal ,)'
        )
    return ","


def _set_header_apart(comments: list[str], body: bytes, delimiter: str, decimal: str, header: bool | None) -> Table:
    first, _, rest = body.partition(b"\n")
    row = len(comments) + 1
    cells = _cells(first.decode(), delimiter)
    if len(cells) > MAX_COLUMNS:
        raise SignalError(
            f"row {row} has {len(cells)} cells, more than {MAX_COLUMNS}: a table has one time a row; is it transposed?"
        )
    if header is None:
        header = _is_header(cells, decimal, row)
    if header and not rest:
        raise SignalError(f"the file holds no samples: row {row} is a header and nothing follows it")
    if header:
        return Table(comments, cells, True, row + 1, rest, delimiter, decimal)
    above = _cells(comments[-1].lstrip("#% "), delimiter) if comments else []  # where numpy.savetxt puts the names
    titled = len(above) == len(cells) > 1
    names = above if titled else [str(index) for index in range(len(cells))]
    return Table(comments, names, titled, row, body, delimiter, decimal)


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error as error:
        raise SignalError(f"{excerpt(line)} cannot be parted into cells ({error}): is the file a table?") from error


def _is_header(cells: list[str], decimal: str, row: int) -> bool:
    filled = [cell for cell in cells if cell]
    numbers = [cell in MISSING or _is_number(cell, decimal) or bool(DATE.match(cell)) for cell in filled]
    names = [any(map(str.isalpha, cell)) and not HEXADECIMAL.fullmatch(cell) for cell in filled]
    counted = len(filled) > 2 and filled == list(map(str, range(len(filled))))  # how pandas heads nameless columns
    if counted or not (all(numbers) or (all(names) and not any(numbers))):
        raise SignalError(
            f"row {row} may be a header or samples ({excerpt(', '.join(filled))}): say which, header=True or "
            "header=False (--header, --no-header)"
        )
    return not all(numbers)


def _is_date(cell: str, kind: pa.DataType) -> bool:
    try:
        return bool(pa.scalar(cell).cast(kind).is_valid)
    except pa.ArrowInvalid:
        return False


def _is_number(cell: str, decimal: str) -> bool:
    return bool(NUMBER.fullmatch(cell if decimal == "." else cell.translate(SWAPPED)))
