"""WFDB records by their specification, header(5) and signal(5); the wfdb package decodes the bytes of the samples.

The header is parsed here, since wfdb-python 4.3 reads some valid ones otherwise (rates and gains with exponents, units
with brackets, absent lengths and descriptions, skews in segments). It is then given each signal file with a header of
the plainest form, and the scales, skews, frames and segments are applied here.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path

import numpy as np

from ..errors import SignalError, excerpt, need
from ..signals.validation import Signal
from .channel import Channel, Options, choose
from .columns import LEAD, NoSignal
from .damage import bounded, damage
from .timestamps import unix_time

need("wfdb")

FLOAT = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RECORD = re.compile(
    rf"(?P<name>[^\s/]+)(?:/(?P<segments>\d+))?\s+(?P<signals>\d+)"
    rf"(?:\s+(?P<fs>{FLOAT})(?:/{FLOAT}(?:\({FLOAT}\))?)?(?:\s+(?P<length>\d+)(?:\s+(?P<time>\S+)(?:\s+(?P<date>\S+))?)?)?)?",
    re.ASCII,
)
SIGNAL = re.compile(
    rf"(?P<file>\S+)\s+(?P<format>\d+)(?:x(?P<frame>\d+))?(?::(?P<skew>\d+))?(?:\+(?P<offset>\d+))?"
    rf"(?:\s+(?P<gain>{FLOAT})(?:\((?P<baseline>[+-]?\d+)\))?(?:/(?P<unit>\S+))?"
    rf"(?:\s+(?P<bits>\d+)(?:\s+(?P<zero>[+-]?\d+)(?:\s+(?P<first>[+-]?\d+)(?:\s+(?P<sum>[+-]?\d+)"
    rf"(?:\s+(?P<block>\d+)(?:\s+(?P<name>\S.*))?)?)?)?)?)?)?",
    re.ASCII,
)
LINE_END = re.compile(r"\r\n|\r|\n")  # and none of what Python takes for one in Latin-1
DEFAULT_FS = 250.0  # Hz, and
DEFAULT_GAIN = 200.0  # units a mV: what header(5) says of a header without them
BITS = {8: 8, 16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 160: 16, 212: 12}  # of a sample
THIRDS = (310, 311)  # three samples in four bytes


@dataclass(frozen=True)
class SignalLine:
    """One signal of a header."""

    name: str
    file: str
    format: int
    frame: int  # samples a frame
    skew: int  # frames by which its samples stand too late
    offset: int  # bytes before the first sample
    gain: float  # steps a unit
    baseline: float  # step that stands for 0 units
    unit: str
    first: int  # initial value, from which format 8 counts

    @property
    def is_null(self) -> bool:
        """Whether the record names it and holds no samples of it."""
        return self.file == "~"


@dataclass(frozen=True)
class Header:
    """A header; a record of segments has their names and lengths in frames in place of signals."""

    fs: float  # frames a second
    length: int | None  # frames, where stated
    start: float | None  # unix seconds
    n_signals: int
    signals: tuple[SignalLine, ...] = ()
    segments: tuple[tuple[str, int], ...] = ()


def read_header(path: Path) -> Header:
    """A header, checked.

    Raises
    ------
    SignalError
        A line that is none of the specification's.
    """
    text = path.read_bytes()[: 1 << 24].decode("latin-1")
    numbered = [(row, line.strip()) for row, line in enumerate(LINE_END.split(text), 1) if line.strip()]
    lines = [(row, line) for row, line in numbered if not line.startswith("#")]
    first = RECORD.fullmatch(lines[0][1]) if lines else None
    if first is None:
        raise SignalError("not a whole WFDB header: its first line is not `record signals rate length ...`")
    fs, length = float(first["fs"] or DEFAULT_FS), int(first["length"] or 0) or None
    if not (0 < fs < 1e9):
        raise SignalError(f"the header gives its rate as {first['fs']}: correct it")
    n_signals, rest = int(first["signals"]), lines[1:]
    wanted = n_signals if first["segments"] is None else int(first["segments"])
    if len(rest) < wanted:
        raise SignalError(f"not a whole WFDB header: it announces {wanted} lines and {len(rest)} follow")
    head = (fs, length, _start(first["time"], first["date"]), n_signals)
    if first["segments"] is None:
        return Header(*head, tuple(_signal(row, line, at) for at, (row, line) in enumerate(rest[:wanted])))
    return Header(*head, segments=tuple(_segment(row, line) for row, line in rest[:wanted]))


def _signal(row: int, line: str, number: int) -> SignalLine:
    found = SIGNAL.fullmatch(line)
    if found is None:
        raise SignalError(f"row {row} of the header is no signal: {excerpt(line)} (invalid syntax); correct the header")
    zero = int(found["zero"] or 0)
    gain = float(found["gain"] or 0) or DEFAULT_GAIN
    return SignalLine(
        found["name"] or str(number),
        found["file"],
        int(found["format"]),
        int(found["frame"] or 1),
        int(found["skew"] or 0),
        int(found["offset"] or 0),
        gain,
        float(zero if found["baseline"] is None else found["baseline"]),
        found["unit"] or "mV",
        zero if found["first"] is None else int(found["first"]),
    )


def _segment(row: int, line: str) -> tuple[str, int]:
    found = re.fullmatch(r"([^\s/]+)\s+(\d+)", line)
    if found is None:
        raise SignalError(f"row {row} of the header is no segment: {excerpt(line)}; correct the header")
    return found[1], int(found[2])


def _start(time: str | None, date: str | None) -> float | None:
    """Unix seconds of a start time, where the date stands beside it."""
    for pattern in ("%H:%M:%S.%f", "%H:%M:%S", "%M:%S", "%S"):
        try:
            return unix_time(datetime.strptime(f"{date} {time}", f"%d/%m/%Y {pattern}"))
        except ValueError:
            continue
    return None


def wfdb_parts(path: Path) -> list[Path]:
    """The files that a header names: signal files, and headers of segments with theirs."""
    try:
        header = read_header(path)
    except (SignalError, OSError):
        return []
    named = dict.fromkeys(line.file for line in header.signals)
    for name, _ in header.segments:
        segment = f"{name}{path.suffix}"
        if _is_within(segment) and segment != path.name:
            named |= dict.fromkeys([segment])
            try:
                named |= dict.fromkeys(line.file for line in read_header(path.parent / segment).signals)
            except (SignalError, OSError):
                continue
    return [path.parent / name for name in named if _is_within(name)]


def _is_within(name: str) -> bool:
    """Whether a header may name a file so: one of its own folder, or of a folder in that."""
    return name != "~" and not Path(name).anchor and ".." not in Path(name).parts and "\0" not in name


def read_wfdb(path: Path, options: Options) -> list[Channel]:
    """Every signal of a record in physical units at its own rate, NaN where the record has a gap."""
    header = read_header(path)
    with damage("WFDB"):
        if header.segments:
            return _read_segments(path, header, options)
        signals = _check(path, header)
        names = [line.name for line in signals]
        chosen = choose(names, options.column)
        if options.column is None or options.column == "*":
            chosen = [index for index in chosen if not signals[index].is_null]
        return [
            _channel(line, samples, header)
            for line, samples in zip([signals[i] for i in chosen], _samples(path, header, chosen), strict=True)
        ]


def _channel(line: SignalLine, samples: Signal, header: Header) -> Channel:
    problem = "the record names it and holds no samples of it: choose another" if line.is_null else None
    lead = LEAD.fullmatch(line.name.rstrip(" ,"))
    fs = header.fs * line.frame
    return Channel(line.name, samples, "ecg" if lead else None, fs, header.start, unit=line.unit, problem=problem)


def _check(path: Path, header: Header) -> tuple[SignalLine, ...]:
    """The signals of a header, once it names plain files beside it and nothing else."""
    if not header.n_signals:
        raise SignalError("the record has annotations only, no signals")
    if all(line.is_null for line in header.signals):
        raise NoSignal("the header is a layout: it names signals and holds none; read the record that it belongs to")
    for name in dict.fromkeys(line.file for line in header.signals if not line.is_null):
        _check_part(path, name)
    return header.signals


def _check_part(path: Path, name: str) -> None:
    steps = [path.parent / name, *(path.parent / folder for folder in Path(name).parents if folder.name)]
    linked = any(each.is_symlink() for each in steps) and not path.is_symlink()  # a linked header's files are links too
    if not _is_within(name) or linked or not steps[0].is_file():
        raise SignalError(f"the record needs {excerpt(name)}, and no such file lies beside it: keep its files together")


def _samples(path: Path, header: Header, chosen: Sequence[int], padded: bool = False) -> Iterator[Signal]:
    """The samples of the chosen signals in physical units; what a skew leaves without samples is NaN, or cut off."""
    lines = [header.signals[index] for index in chosen]
    length = header.length
    digital: dict[int, Signal] = {}
    by_file = [
        (file, [index for index, _ in same])
        for file, same in groupby(enumerate(header.signals), key=lambda each: each[1].file)
        if file != "~"
    ]
    for file, members in by_file:
        if set(members) & set(chosen):
            group = [header.signals[index] for index in members]
            found = _decode(path.parent / file, group, length)
            digital |= {index: found[at] for at, index in enumerate(members) if index in set(chosen)}
    for index, line in zip(chosen, lines, strict=True):
        if line.is_null:
            yield np.full((length or 0) * line.frame if padded else 0, np.nan)
            continue
        counts = digital.pop(index)
        late = line.skew * line.frame
        values = (counts[late:] - line.baseline) / line.gain
        yield np.concatenate([values, np.full(min(late, counts.size), np.nan)]) if padded else values


def _decode(file: Path, group: list[SignalLine], length: int | None) -> list[Signal]:
    """The steps of one signal file, NaN where invalid, by the wfdb package from a header of the plainest form."""
    import wfdb

    per_frame = sum(line.frame for line in group)
    length = length or _frames(file, group)
    bounded(length * per_frame)
    with tempfile.TemporaryDirectory(prefix="tiny-biomoe-") as folder:
        os.symlink(file.absolute(), Path(folder) / "samples.dat")
        rows = [
            f"samples.dat {line.format}{f'x{line.frame}' if line.frame > 1 else ''}"
            f"{f'+{line.offset}' if line.offset else ''} 1(0)/NU 0 0 {line.first} 0 0 s{at}"
            for at, line in enumerate(group)
        ]
        Path(folder, "record.hea").write_text("\n".join([f"record {len(group)} 1 {length}", *rows]) + "\n")
        record = wfdb.rdrecord(str(Path(folder) / "record"), smooth_frames=False)
    return [np.asarray(each, np.float64) for each in record.e_p_signal]


def _frames(file: Path, group: list[SignalLine]) -> int:
    """Frames that a signal file holds, where no header says."""
    size, first = file.stat().st_size - group[0].offset, group[0].format
    if first in THIRDS:
        samples = size // 4 * 3 + (size % 4) // 2
    elif first in BITS:
        samples = size * 8 // BITS[first]
    else:
        raise SignalError(f"the header leaves out the length, which format {first} does not show: write it")
    return samples // sum(line.frame for line in group)


def _read_segments(path: Path, header: Header, options: Options) -> list[Channel]:
    """A record of segments: each signal from its segments one after another, NaN where a segment lacks it."""
    parts: list[tuple[Header | None, Path, int]] = []
    for name, length in header.segments:
        if name == "~":
            parts.append((None, path, length))
            continue
        _check_part(path, f"{name}{path.suffix}")
        part = read_header(path.parent / f"{name}{path.suffix}")
        if part.segments:
            raise SignalError(f"segment {excerpt(name)} has segments of its own, as no WFDB record has")
        if part.length and length and part.length != length:
            raise SignalError(f"segment {excerpt(name)} has {part.length} frames, not {length}: correct it")
        parts.append((part, path.parent / f"{name}{path.suffix}", length))
    layout = parts[0][0] if parts[0][2] == 0 and parts[0][0] is not None else None
    pieces = [each for each in parts if each[2] or each[0] is not layout]
    if header.length and sum(length for *_, length in pieces) != header.length:
        raise SignalError(f"the segments do not add up to the {header.length} frames of the record: correct it")
    bounded(sum(length for *_, length in pieces))
    template = layout or next((part for part, *_ in pieces if part is not None), None)
    if template is None or not template.signals:
        raise SignalError("the record has no segment with signals")
    if len(template.signals) != header.n_signals:
        raise SignalError(
            f"the header counts {header.n_signals} signals, its {'layout' if layout else 'first segment'} "
            f"{len(template.signals)}: correct it"
        )
    keys = _keys(template)
    chosen = choose([line.name for line in template.signals], options.column)
    return [_joined(template.signals[index], index, keys, pieces, header, layout is not None) for index in chosen]


def _keys(header: Header) -> list[tuple[str, int]]:
    """Each signal's name, and how many of that name come before it."""
    names = [line.name for line in header.signals]
    return [(name, names[:at].count(name)) for at, name in enumerate(names)]


def _joined(
    line: SignalLine,
    index: int,
    keys: list[tuple[str, int]],
    pieces: list[tuple[Header | None, Path, int]],
    header: Header,
    by_name: bool,
) -> Channel:
    """One signal from its segments; one whose unit or frame changes between them is a failure."""
    found: list[Signal] = []
    lines: list[SignalLine] = []
    for part, path, length in pieces:
        at = index
        if part is not None and by_name:
            own = _keys(part)
            at = own.index(keys[index]) if keys[index] in own else len(own)
        if part is None or at >= len(part.signals) or part.signals[at].is_null:
            found.append(np.full(length * line.frame, np.nan))
            continue
        _check(path, part)
        lines.append(part.signals[at])
        exact = Header(part.fs, length or part.length, part.start, part.n_signals, part.signals)
        found += _samples(path, exact, [at], padded=True)
    if not lines:
        return _channel(SignalLine(**{**vars(line), "file": "~"}), np.empty(0), header)
    units, frames = {each.unit for each in lines}, {each.frame for each in lines}
    if len(units) > 1 or len(frames) > 1:
        what = "unit" if len(units) > 1 else "samples a frame"
        listed = ", ".join(sorted(map(str, units if len(units) > 1 else frames)))
        problem = f"its {what} changes between the segments ({listed}): read the segments each on its own"
        return Channel(line.name, np.empty(0), unit=lines[0].unit, problem=problem)
    return _channel(SignalLine(**{**vars(lines[0]), "name": line.name}), np.concatenate(found), header)
