"""Text that wearable devices and their apps write: Polar, Muse, OpenBCI, Shimmer, EmotiBit, ScientISST, Movesense.

Rows may be shorter than the header, end with a delimiter, or hold an event instead of samples. Times are those at which
packets arrived; they are spread over the samples of each packet, and lost samples stay holes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError
from .channel import AGREEMENT, Channel, Clock, Options, choose
from .columns import kind_of
from .csv_files import DATE, MISSING, NUMBER, Table
from .packets import even_times
from .text_files import read_lines
from .timestamps import UNIX_SECONDS, find_clock, unwrapped

Numbers = NDArray[np.float64]

COUNTER = 256  # values of OpenBCI's sample index
REGULAR = 0.9  # share of equal steps without which a sample index counts something else
POLAR_EPOCH = 946_684_800  # 2000-01-01 in unix seconds
MUSE_RATE = 256.0  # Hz, of all models
EMOTIBIT_KINDS = {"EA": "eda", "EL": "eda", "ER": "eda", "PI": "bvp", "PR": "bvp", "PG": "bvp", "T1": "temperature"}
SHIMMER = re.compile(rb'(?:"?sep=.?"?\s+)?Shimmer_\w+_(?:CAL|RAW|UNCAL)\b', re.ASCII)
SCIENTISST = re.compile(rb"#\{[^\n]*'Sampling rate \(Hz\)'[^\n]*\n#\s*NSeq\b")
LOOKED_AT = 64  # rows in which a column must hold a number to be one of numbers


@dataclass(frozen=True)
class Sheet:
    """A table of a device, its rows all of one length."""

    table: Table
    n_rows: int
    kept: NDArray[np.bool_] | None = None  # rows of samples; None where all are
    units: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return self.table.names

    @property
    def rows(self) -> NDArray[np.int64] | None:
        """Rows of the file that hold samples, where others lie between them."""
        return None if self.kept is None else np.flatnonzero(self.kept) + self.table.first_row

    def columns(self, wanted: list[int]) -> list[Numbers]:
        """Columns of numbers, as long as the table: NaN where a cell is empty."""
        return [self._whole(column) for column in self.table.columns(wanted)] if wanted else []

    def unix_times(self, index: int) -> Numbers:
        """A column of dates in unix seconds, the device's local time counting as UTC where it names no zone."""
        return self._whole(self.table.dates(index))

    def _whole(self, column: Numbers) -> Numbers:
        padded = np.append(column, np.full(self.n_rows - column.size, np.nan))
        return padded if self.kept is None else padded[self.kept]


def _sheet(path: Path, options: Options, delimiter: str, n_titles: int = 1, names: list[str] | None = None) -> Sheet:
    """A table below its comments and `n_titles` rows of titles, of which the first names the columns."""
    comments, body = read_lines(path, options.encoding)
    titles: list[list[str]] = []
    for _ in range(n_titles):
        title, _, body = body.partition(b"\n")
        titles.append([cell.strip() for cell in title.decode().rstrip(delimiter + " ").split(delimiter)])
    if not body:
        raise SignalError(f"the file holds no samples: nothing follows the {n_titles} rows of names and units")
    names = names or titles[0]
    body = squared(body, len(names), delimiter)
    table = Table(comments, names, True, len(comments) + n_titles + 1, body, delimiter, ".")
    return Sheet(table, body.count(b"\n") + 1)


def squared(body: bytes, n_cells: int, delimiter: str) -> bytes:
    """Rows without a delimiter at their end, and the short ones filled with empty cells."""
    mark = delimiter.encode()
    ends = np.append(np.flatnonzero(np.frombuffer(body, np.uint8) == ord("\n")), len(body))
    marks = np.flatnonzero(np.frombuffer(body, np.uint8) == mark[0])
    counts = np.bincount(np.searchsorted(ends, marks), minlength=ends.size)
    if (counts == n_cells - 1).all():
        return body
    rows = body.split(b"\n")
    for at in np.flatnonzero(counts != n_cells - 1).tolist():
        row = rows[at].rstrip(b" ")
        if counts[at] == n_cells and row.endswith(mark):
            rows[at] = row[:-1]
        elif counts[at] < n_cells - 1:
            rows[at] += mark * (n_cells - 1 - int(counts[at]))
    return b"\n".join(rows)


@dataclass(frozen=True)
class Timing:
    """What a device's file says of time."""

    fs: float | None = None  # Hz
    start: float | None = None  # unix seconds
    clock: Clock | None = None
    columns: tuple[int, ...] = ()  # of times and counters, which are no signals


def _channels(
    sheet: Sheet, options: Options, timing: Timing, kinds: Callable[[str], str | None] = kind_of
) -> list[Channel]:
    """The columns of numbers, or the chosen ones."""
    chosen = choose(sheet.names, options.column)
    if options.column is None:
        chosen = [at for at in chosen if at not in timing.columns and _holds_numbers(sheet, at)]
    fs, clock = timing.fs, timing.clock
    if options.time_column == "":
        clock = None
    elif options.time_column is not None:
        at, unit = find_clock(sheet.names, options.time_column)
        clock = Clock(sheet.names[at], sheet.columns([at])[0], unit, sheet.table.first_row) if at is not None else None
    return [
        Channel(
            sheet.names[at], samples, kinds(sheet.names[at]), fs, timing.start, clock, sheet.units.get(sheet.names[at])
        )
        for at, samples in zip(chosen, sheet.columns(chosen), strict=True)
    ]


def _holds_numbers(sheet: Sheet, at: int) -> bool:
    """Whether the first rows of a column hold numbers or nothing, and not only nothing."""
    rows = sheet.table.body.split(b"\n", LOOKED_AT)[:LOOKED_AT]
    cells = [cell.decode().strip() for row in rows for cell in [row.split(sheet.table.delimiter.encode())[at]]]
    filled = [cell for cell in cells if cell not in MISSING]
    return bool(filled) and all(NUMBER.fullmatch(cell) for cell in filled)


def _arrived(name: str, stamps: Numbers, sheet: Sheet, fs: float | None = None, *columns: int) -> Timing:
    """The times of samples whose packets arrived at `stamps`, in seconds."""
    times = even_times(stamps, fs)
    start = float(times[0]) if UNIX_SECONDS[0] <= times[0] < UNIX_SECONDS[1] else None
    return Timing(None, start, Clock(name, times, 1.0, sheet.table.first_row, rows=sheet.rows), columns)


def read_polar(path: Path, options: Options) -> list[Channel]:
    """Polar Sensor Logger: times of the sensor in nanoseconds since 2000; ECG, or three channels of PPG and ambient."""
    sheet = _sheet(path, options, ";")
    names = sheet.names
    dates = next((at for at, name in enumerate(names) if name.lower() == "phone timestamp"), 0)
    others = tuple(at for at, name in enumerate(names) if "timestamp" in name.lower())
    if "sensor timestamp [ns]" in names:
        (nanoseconds,) = sheet.columns([names.index("sensor timestamp [ns]")])
        timing = _arrived("sensor timestamp [ns]", nanoseconds / 1e9 + POLAR_EPOCH, sheet, None, *others)
    else:
        timing = _arrived(names[dates], sheet.unix_times(dates), sheet, None, *others)
    optical = "ambient" in names

    def kind(name: str) -> str | None:
        if optical and name.startswith("channel"):
            return "bvp"
        return "ambient light" if name == "ambient" else kind_of(name)

    return _channels(sheet, options, timing, kind)


def read_mind_monitor(path: Path, options: Options) -> list[Channel]:
    """Mind Monitor (Muse): raw EEG in microvolts beside band powers; rows of events hold no samples."""
    sheet = _sheet(path, options, ",")
    names = sheet.names
    raw = [at for at, name in enumerate(names) if name.startswith("RAW_")]
    if not raw:
        raise SignalError("the file holds band powers and no raw EEG: record with all values, and export it again")
    units = {names[at]: "uV" for at in raw}
    kept = np.isfinite(sheet.columns(raw[:1])[0])
    sheet = Sheet(sheet.table, sheet.n_rows, kept, units)
    timing = _arrived(names[0], sheet.unix_times(0), sheet, None, 0)
    if timing.clock is not None and timing.clock.times.size > 1:
        step = float(np.median(np.diff(timing.clock.times)))
        if step > 0 and abs(1 / step / MUSE_RATE - 1) <= AGREEMENT:
            timing = Timing(MUSE_RATE, timing.start, timing.clock, timing.columns)
    bands = ("Delta_", "Theta_", "Alpha_", "Beta_", "Gamma_")

    def kind(name: str) -> str | None:
        return "eeg" if name in units else "band power" if name.startswith(bands) else kind_of(name)

    return _channels(sheet, options, timing, kind)


def read_openbci(path: Path, options: Options) -> list[Channel]:
    """OpenBCI GUI: its rate stands in the comments, its sample index shows lost samples, units are microvolts."""
    comments, body = read_lines(path, options.encoding)
    facts = dict(re.findall(r"^%\s*(.+?)\s*=\s*(.*?)\s*$", "\n".join(comments), re.MULTILINE))
    rate = re.match(r"\d+(\.\d+)?", facts.get("Sample Rate", ""))
    count = re.match(r"\d+", facts.get("Number of channels", ""))
    if rate is None or count is None or not float(rate[0]) > 0:
        raise SignalError("the comments give no %Sample Rate and %Number of channels: export the file again")
    first = [cell.decode().strip() for cell in body.partition(b"\n")[0].split(b",")]
    titled, names = not NUMBER.fullmatch(first[0]), None
    if not titled:
        names = ["Sample Index", *(f"EXG Channel {at}" for at in range(min(int(count[0]), len(first) - 1)))]
        names += [f"Other Channel {at}" for at in range(len(first) - len(names))]
    return _openbci_channels(_sheet(path, options, ",", int(titled), names), options, float(rate[0]))


def _openbci_channels(sheet: Sheet, options: Options, fs: float) -> list[Channel]:
    names, table = sheet.names, sheet.table
    units = {name: "uV" for name in names if name.startswith("EXG Channel")}
    cells = [cell.decode().strip() for cell in table.body.rpartition(b"\n")[2].split(b",")]
    since_1970 = [NUMBER.fullmatch(cell) and UNIX_SECONDS[0] <= float(cell) < 1e3 * UNIX_SECONDS[1] for cell in cells]
    if not any(since_1970):
        counts = _counted(sheet.columns([0])[0])
        clock = None if counts is None else Clock(names[0], counts / fs, 1.0, table.first_row)
        return _channels(Sheet(table, sheet.n_rows, None, units), options, Timing(fs, None, clock, (0,)))
    stamp = since_1970.index(next(filter(None, since_1970)))
    counter, stamps = sheet.columns([0, stamp])
    kept = stamps > 0  # a first row of zeros that the GUI adds is no sample
    counter, stamps = counter[kept], stamps[kept]
    stamps = stamps / (1e3 if stamps[0] >= UNIX_SECONDS[1] else 1)
    times, counts = even_times(stamps, fs), _counted(counter)
    if counts is not None:
        times = stamps[0] + _with_long_losses(counts, times, fs) / fs
    sheet = Sheet(table, sheet.n_rows, kept, units)
    clock = Clock(names[0], times, 1.0, table.first_row, rows=sheet.rows)
    columns = tuple(at for at, name in enumerate(names) if "timestamp" in name.lower() or at in (0, stamp))
    return _channels(sheet, options, Timing(fs, float(stamps[0]), clock, columns))


def _counted(index: Numbers) -> Numbers | None:
    """Samples from the first one on by the sample index, which goes round; None where it counts otherwise."""
    if index.size and index.max() < 0.9 * COUNTER:  # of boards that go round earlier
        counts = unwrapped(index)
        return None if counts is None else counts - counts[0]
    steps = np.diff(index) % COUNTER
    usual = float(np.median(steps)) if steps.size else 0.0
    if not usual > 0 or np.mean(steps == usual) < REGULAR:
        return None
    return np.append(0.0, np.cumsum(steps / usual))


def _with_long_losses(counts: Numbers, times: Numbers, fs: float) -> Numbers:
    """Samples counted from the first, where a counter of 8 bits went round unseen during a loss that the times show."""
    steps, passed = np.diff(counts), np.diff(times)
    if (passed > 0).all():
        steps = steps + COUNTER * np.maximum(np.round((passed * fs - steps) / COUNTER), 0)
    return np.append(0.0, np.cumsum(steps))


def read_shimmer(path: Path, options: Options) -> list[Channel]:
    """Shimmer Consensys: a row of names and one of units; times in unix milliseconds."""
    _, body = read_lines(path, options.encoding)
    delimiter = next(mark for mark in ";\t," if mark.encode() in body.partition(b"\n")[0] or mark == ",")
    rows = body.split(b"\n", 6)[:6]
    titles = next(
        (at for at, row in enumerate(rows) if NUMBER.fullmatch(row.decode().partition(delimiter)[0].strip())), len(rows)
    )
    sheet = _sheet(path, options, delimiter, titles)
    names = sheet.names
    cells = [cell.strip() for cell in rows[titles - 1].decode().split(delimiter)]
    units = dict(zip(names, cells, strict=False)) if titles > 1 else {}
    sheet = Sheet(sheet.table, sheet.n_rows, None, units)
    at = next((at for at, name in enumerate(names) if "timestamp" in name.lower()), None)
    timing = Timing()
    if at is not None:
        unit = 1e-3 if units.get(names[at], "ms") == "ms" else 1.0
        timing = _arrived(names[at], sheet.columns([at])[0] * unit, sheet, None, at)
    return _channels(sheet, options, timing, lambda name: kind_of(re.sub(r"^Shimmer_\w+?_", "", name), units.get(name)))


def read_emotibit(path: Path, options: Options) -> list[Channel]:
    """EmotiBit DataParser: one file a sensor, its samples in the last column, its sensor in `TypeTag`."""
    sheet = _sheet(path, options, ",")
    names = sheet.names
    last = len(names) - 1
    timing = _arrived(names[0], sheet.columns([0])[0], sheet, None, *range(last))
    tag = names[last]
    return _channels(sheet, options, timing, lambda name: EMOTIBIT_KINDS.get(name) if name == tag else None)


def read_scientisst(path: Path, options: Options) -> list[Channel]:
    """ScientISST: a comment of facts with the rate and the start, the columns' names, a counter of 4 bits."""
    comments, body = read_lines(path, options.encoding)
    facts = comments[0]
    rate, began = re.search(r"'Sampling rate \(Hz\)': ([\d.]+)", facts), re.search(r"'Timestamp': ([\d.]+)", facts)
    names = [name.strip() for name in comments[-1].lstrip("# ").split("\t")]
    if rate is None or len(names) != len(body.partition(b"\n")[0].split(b"\t")) or not float(rate[1]) > 0:
        raise SignalError("the comments do not give the rate, or not a name for each column: export the file again")
    sheet = _sheet(path, options, "\t", 0, names)
    fs = float(rate[1])
    counts = unwrapped(sheet.columns([0])[0])
    clock = None if counts is None else Clock(names[0], (counts - counts[0]) / fs, 1.0, sheet.table.first_row)
    units = {name: "mV" for name in names if name.lower().endswith("_mv")}
    sheet = Sheet(sheet.table, sheet.n_rows, None, units)
    digital = tuple(at for at, name in enumerate(names) if re.fullmatch(r"NSeq|[IO]\d", name))
    return _channels(sheet, options, Timing(fs, float(began[1]) if began else None, clock, digital))


def read_movesense(path: Path, options: Options) -> list[Channel]:
    """Movesense: a first line that belongs to no table, then names, milliseconds and microvolts."""
    _, body = read_lines(path, options.encoding)
    rows = body.split(b"\n", 3)
    if len(rows) < 3:
        raise SignalError("there is no row of samples behind the names of the columns: export the recording again")
    delimiter = ";" if b";" in rows[1] else ","
    sheet = _sheet(path, options, delimiter, 2, [cell.strip() for cell in rows[1].decode().split(delimiter)])
    names = sheet.names
    at, unit = find_clock(names, options.time_column or None)
    timing = Timing()
    if at is not None:
        dated = bool(DATE.match(sheet.table.body.split(delimiter.encode(), at + 1)[at].decode().strip()))
        stamps = sheet.unix_times(at) if dated else sheet.columns([at])[0] * (unit or 1e-3)
        timing = _arrived(names[at], stamps, sheet, None, at)
    sheet = Sheet(sheet.table, sheet.n_rows, None, {name: "uV" for name in names if kind_of(name) == "ecg"})
    return _channels(sheet, options, timing)
