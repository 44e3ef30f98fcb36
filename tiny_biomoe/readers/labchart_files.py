"""LabChart (ADInstruments) text exports: blocks, each below a header of its own, with comments behind the samples."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError, excerpt
from .channel import Channel, Clock, Options, choose
from .csv_files import Table
from .text_files import read_lines
from .timestamps import TIME_UNITS
from .wearable_files import squared

EXCEL_EPOCH = 25_569  # days from 1899-12-30, where Excel counts from, to 1970-01-01
DAY = 86_400  # seconds
FIELD = re.compile(rb"(\w+)=(?:\t([^\n]*))?\n?")


@dataclass(frozen=True)
class Block:
    """One block of a file: recording went on without a pause."""

    fields: dict[str, list[str]]
    table: Table

    @property
    def titles(self) -> list[str]:
        return [title.strip() for title in self.fields.get("ChannelTitle", [])]

    @property
    def interval(self) -> float:
        """Seconds between two samples."""
        match = re.fullmatch(r"\s*(\S+)\s*([a-zµ]*)\s*", self.fields["Interval"][0])
        try:
            seconds = float(match[1]) * TIME_UNITS[match[2] or "s"] if match else np.nan
        except (ValueError, LookupError):
            seconds = np.nan
        if not 0 < seconds < np.inf:
            raise SignalError(
                f"the header gives its Interval as {excerpt(self.fields['Interval'][0])}: mend the header"
            )
        return seconds

    @property
    def start(self) -> float | None:
        """Unix seconds at which the block began, by the clock of the computer, which names no time zone."""
        try:
            return (float(self.fields["ExcelDateTime"][0]) - EXCEL_EPOCH) * DAY
        except (ValueError, LookupError):  # left out of the export
            return None


def read_labchart(path: Path, options: Options) -> list[Channel]:
    """LabChart text: every channel at the rate of its header; a pause between two blocks is a hole."""
    blocks = _blocks(path, options)
    first = blocks[0]
    for number, block in enumerate(blocks[1:], 2):
        if block.titles != first.titles or block.interval != first.interval:
            raise SignalError(f"block {number} has other channels or another rate than block 1: export each on its own")
    units = _units(first)
    chosen = choose(first.titles, options.column)
    columns = [block.table.columns([0, *(at + 1 for at in chosen)]) for block in blocks]
    fs = float(f"{1 / first.interval:.9g}")
    times, start = _clock(blocks, [column[0] for column in columns])
    clock = None if options.time_column == "" else times
    channels = []
    for place, at in enumerate(chosen, 1):
        samples = np.concatenate([_as_long(column[place], column[0].size) for column in columns])
        channels.append(Channel(first.titles[at], samples, None, fs, start, clock, units[at]))
    return channels


def _blocks(path: Path, options: Options) -> list[Block]:
    _, body = read_lines(path, options.encoding)
    blocks, row = [], 1
    for part in re.split(rb"(?m)^(?=Interval=)", body):
        if not part:
            continue
        fields: dict[str, list[str]] = {}
        begin, n_fields = 0, 0
        while match := FIELD.match(part, begin):
            fields[match[1].decode()] = (match[2] or b"").decode().rstrip("\t").split("\t")
            begin, n_fields = match.end(), n_fields + 1
        rows = re.sub(rb"\t+#[^\n]*", b"", part[begin:]).rstrip(b"\n")  # comments stand in a last cell
        titles = fields.get("ChannelTitle", [])
        if not titles or not rows:
            raise SignalError(f"the block at row {row} has no ChannelTitle or no samples: export the file again")
        names = ["Time", *titles]
        table = Table([], names, True, row + n_fields, squared(rows, len(names), "\t"), "\t", options.decimal or ".")
        blocks.append(Block(fields, table))
        row += part.count(b"\n")
    return blocks


def _units(block: Block) -> list[str | None]:
    """The unit of each channel: `UnitName`, or that of the amplifier's range where there is a star."""
    given, ranges = block.fields.get("UnitName", []), block.fields.get("Range", [])
    units: list[str | None] = []
    for at in range(len(block.titles)):
        name = given[at].strip() if at < len(given) else "*"
        span = ranges[at].split() if at < len(ranges) else []
        units.append((span[-1] if name == "*" and len(span) > 1 else name.strip("*")) or None)
    return units


def _as_long(column: NDArray[np.float64], n_rows: int) -> NDArray[np.float64]:
    return np.append(column, np.full(n_rows - column.size, np.nan))


def _clock(blocks: list[Block], times: list[NDArray[np.float64]]) -> tuple[Clock, float | None]:
    """The times of all samples, and the start: times count from the start of each block, or from that of the file."""
    starts = [block.start for block in blocks]
    if blocks[0].fields.get("TimeFormat", [""])[0] == "StartOfBlock":
        if None in starts and len(blocks) > 1:
            raise SignalError(
                "the blocks say no ExcelDateTime, so how long they lie apart is unknown: export it as well"
            )
        moments = [column + ((start or 0.0) - (starts[0] or 0.0)) for column, start in zip(times, starts, strict=True)]
    else:
        moments = times
    start = None if starts[0] is None else starts[0] + float(moments[0][0])
    rows = [block.table.first_row + np.arange(column.size) for block, column in zip(blocks, times, strict=True)]
    return Clock("Time", np.concatenate(moments), 1.0, rows=np.concatenate(rows)), start
