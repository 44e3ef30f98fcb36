"""Empatica: the E4's text files, and the EmbracePlus's Avro files of about half an hour each -> the sensors of a day.

Fields of the EmbracePlus follow Empatica's description of its raw data. Names, serial numbers and enrolment are never
used.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError, excerpt, need, printable
from .channel import AGREEMENT, Channel, Clock, Options, choose
from .columns import kind_of
from .csv_files import open_table
from .damage import bounded, damage
from .timestamps import UNIX_SECONDS

MAX_FILE = 1 << 26  # bytes of one Avro file, unpacked; half an hour takes two million
FEW = 5  # samples; a shorter gap between two files is the rounding of their start times and rates
NAME = re.compile(r"(.+)_(\d{9,11})\.avro")  # participant and site, then the start in unix seconds
E4_RATES = (1.0, 4.0, 32.0, 64.0)  # Hz: HR, EDA and TEMP, ACC, BVP
DAY = 86_400  # seconds


class Sensor(NamedTuple):
    """Where a sensor stands in a record, and what it measures."""

    key: str
    axis: str | None
    kind: str
    unit: str | None


SENSORS: dict[str, Sensor] = {
    "eda": Sensor("eda", None, "eda", "uS"),
    "bvp": Sensor("bvp", None, "bvp", None),
    "temperature": Sensor("temperature", None, "temperature", "°C"),
    "steps": Sensor("steps", None, "steps", "count"),
    **{f"accelerometer_{axis}": Sensor("accelerometer", axis, "acceleration", "g") for axis in "xyz"},
    **{f"gyroscope_{axis}": Sensor("gyroscope", axis, "rotation", "dps") for axis in "xyz"},
}


@dataclass(frozen=True)
class Piece:
    """What one file holds of one sensor."""

    file: str
    start: float  # unix seconds
    fs: float  # Hz
    samples: NDArray[np.float64]  # (n_samples,), not empty

    @property
    def stop(self) -> float:
        """Unix seconds at which the next sample would follow."""
        return self.start + self.samples.size / self.fs


def following(path: Path) -> list[Path]:
    """The files that continue one: of the same folder, participant and day (UTC) by their names, and by what they hold
    of the same device, each begun after the one before. Files that another device recorded meanwhile are not joined.

    >>> following(Path("no such folder") / "1-1-A_1700000000.avro")
    []
    """
    own = NAME.fullmatch(path.name)
    if own is None or not path.parent.is_dir():
        return []
    stamped = ((NAME.fullmatch(other.name), other) for other in path.parent.iterdir())
    later = [
        (int(match[2]), other)
        for match, other in stamped
        if match and match[1] == own[1] and int(match[2]) > int(own[2]) and int(match[2]) // DAY == int(own[2]) // DAY
    ]
    if not later or (facts := _recorded_by(path)) is None:
        return []
    joined: list[Path] = []
    latest = facts[1] or int(own[2]) * 1_000_000  # the name tells where the first sensor was silent
    for stamp, other in sorted(later):
        if (found := _recorded_by(other)) is None or found[0] != facts[0]:
            continue
        if (start := found[1] or stamp * 1_000_000) > latest:
            latest = start
            joined.append(other)
    return joined


def _recorded_by(path: Path) -> tuple[str, int | None] | None:
    """The device of a file and the microsecond at which its first sensor began; None where it cannot be read."""
    try:
        with damage("Avro"):
            state = path.stat()
            return _beginning(path, state.st_size, state.st_mtime_ns)
    except SignalError:  # reading says it in words
        return None


@lru_cache(maxsize=4096)
def _beginning(path: Path, size: int, changed: int) -> tuple[str, int | None]:
    """Of a file as it was then. Only what stands in front of the first array is decoded."""
    import fastavro

    with path.open("rb") as file:
        reader = fastavro.reader(file)
        schema, codec = reader.writer_schema, reader.codec
        block = file.read(1 << 16)
    counts = re.match(rb"(?:[\x80-\xff]*[\x00-\x7f]){2}", block)  # of records and bytes
    data = block[counts.end() if counts else 0 :]
    if codec == "deflate":
        data = zlib.decompressobj(-15).decompress(data, 1 << 16)
    front, _ = _up_to_an_array(schema)
    record: Any = fastavro.schemaless_reader(io.BytesIO(data), fastavro.parse_schema(front), None)
    starts = [each["timestampStart"] for each in record["rawData"].values() if each and each.get("timestampStart")]
    return str(record.get("deviceSn", "")), int(starts[0]) if starts else None


def _up_to_an_array(schema: Any) -> tuple[Any, bool]:
    """A schema without its first array and all that follows it, and whether there was one."""
    if not isinstance(schema, dict) or schema.get("type") != "record":
        nested = isinstance(schema, dict) and schema.get("type") in ("array", "map")
        return schema, nested or isinstance(schema, list)
    kept: list[Any] = []
    for field in schema["fields"]:
        if isinstance(field["type"], dict) and field["type"].get("type") in ("array", "map"):
            return {**_bare(schema), "fields": kept}, True
        kind, ended = _up_to_an_array(field["type"])
        kept.append({**field, "type": kind})
        if ended:
            return {**_bare(schema), "fields": kept}, True
    return {**_bare(schema), "fields": kept}, False


def _bare(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if not key.startswith("__")}


def read_embraceplus(path: Path, options: Options) -> list[Channel]:
    """EmbracePlus: every sensor that recorded, in physical units, of this file and those that continue it.

    Times count from 1970 in UTC; the file's time zone changes nothing in them.
    """
    need("fastavro")
    files = [path, *(each for each in following(path) if each.is_file() and not each.is_symlink())]
    names = list(SENSORS)
    chosen = [names[index] for index in choose(names, options.column)]
    pieces: dict[str, list[Piece]] = {name: [] for name in chosen}
    for file in files:
        with damage(f"EmbracePlus ({printable(file.name)})"):
            for record in _records(file):
                for name in chosen:
                    if (piece := _piece(file.name, record, SENSORS[name])) is not None:
                        pieces[name].append(piece)
                        bounded(sum(each.samples.size for each in pieces[name]))
    channels = [_channel(name, pieces[name]) for name in chosen if pieces[name] or options.column is not None]
    if not channels:
        raise SignalError("no sensor recorded anything: the file holds start times and no samples")
    return channels


def _records(path: Path) -> Iterator[dict[str, Any]]:
    import fastavro

    if path.stat().st_size > MAX_FILE:
        raise SignalError(f"{printable(path.name)} holds more than {MAX_FILE} bytes: an EmbracePlus writes two million")
    with damage(f"Avro ({printable(path.name)})"), path.open("rb") as file:
        reader = fastavro.reader(file)
        if not _is_sessions(reader.writer_schema):
            raise SignalError(
                f"{printable(path.name)} is an Avro file, but not of an Empatica EmbracePlus (it has no rawData of "
                "sensors): save its signals as CSV"
            )
        _check_packed(path, reader.codec, file.tell())
        for record in reader:
            if isinstance(record, dict):
                yield record


def _is_sessions(schema: Any) -> bool:
    """Whether a record has sensors, and every array items that take room in the file."""
    fields = {field["name"]: field["type"] for field in schema["fields"]} if isinstance(schema, dict) else {}
    raw = fields.get("rawData")
    sensors = {field["name"] for field in raw["fields"]} if isinstance(raw, dict) and "fields" in raw else set()
    return bool(sensors & {"eda", "bvp", "accelerometer"}) and not _has_weightless(schema, 0)


def _has_weightless(schema: Any, depth: int) -> bool:
    """Whether arrays or maps have items of no bytes: such a file may claim any length."""
    if depth > 20:
        return True
    deeper: Callable[[Any], bool] = lambda each: _has_weightless(each, depth + 1)  # noqa: E731
    if isinstance(schema, list):
        return any(map(deeper, schema))
    if not isinstance(schema, dict):
        return False
    items = schema.get("items", schema.get("values"))
    if items is not None and items not in ("int", "long", "float", "double", "string", "boolean", "bytes"):
        return not (isinstance(items, dict) and items.get("fields")) or deeper(items)
    return any(deeper(field["type"]) for field in schema.get("fields", [])) or deeper(schema.get("type"))


def _check_packed(path: Path, codec: str, begin: int) -> None:
    """Refuse a small file that unpacks to a large one, before it is unpacked; its blocks begin after the header."""
    if codec not in ("null", "deflate"):
        raise SignalError(f"{printable(path.name)} is compressed with {excerpt(codec)}: write it again with deflate")
    if codec == "null":
        return
    data = path.read_bytes()
    for block in data[begin:].split(data[begin - 16 : begin]):  # 16 bytes part the blocks
        counts = re.match(rb"(?:[\x80-\xff]*[\x00-\x7f]){2}", block)  # of records and bytes
        unpack = zlib.decompressobj(-15)
        if counts and unpack.decompress(block[counts.end() :], MAX_FILE) and unpack.unconsumed_tail:
            raise SignalError(f"{printable(path.name)} unpacks to more than {MAX_FILE} bytes: it is damaged")


def _piece(file: str, record: dict[str, Any], sensor: Sensor) -> Piece | None:
    facts = record["rawData"].get(sensor.key)
    counts = facts and facts[sensor.axis or "values"]
    if not counts:  # a sensor that did not record has a start of 0, a rate of 0 and no samples
        return None
    samples = np.asarray(counts, np.float64)
    if sensor.axis is not None:
        scale = facts["imuParams"]
        samples *= (scale["physicalMax"] - scale["physicalMin"]) / (scale["digitalMax"] - scale["digitalMin"])
    start, fs = facts["timestampStart"] / 1e6, float(facts["samplingFrequency"])
    if not (start > 0 and 0 < fs < np.inf):
        raise SignalError(
            f"{printable(file)}: {sensor.key} has samples, but its start is {start:g} s and its rate {fs:g} Hz"
        )
    return Piece(file, start, fs, samples)


def _channel(name: str, pieces: list[Piece]) -> Channel:
    sensor = SENSORS[name]
    if not pieces:
        return Channel(name, np.empty(0), sensor.kind, unit=sensor.unit, problem="the sensor did not record")
    fs = sum(piece.samples.size for piece in pieces) / sum(piece.samples.size / piece.fs for piece in pieces)
    for piece in pieces:
        if abs(piece.fs / fs - 1) > AGREEMENT:
            problem = f"{printable(piece.file)} is sampled at {piece.fs:g} Hz, the files together at {fs:g} Hz"
            return Channel(name, np.empty(0), sensor.kind, unit=sensor.unit, problem=f"{problem}: read them apart")
    samples = np.concatenate([piece.samples for piece in pieces])
    clock = _clock(pieces, fs)
    return Channel(name, samples, sensor.kind, fs, pieces[0].start, clock, unit=sensor.unit)


def _clock(pieces: list[Piece], fs: float) -> Clock | None:
    """The times of samples where samples are missing between two files; None where each follows on the one before."""
    starts, late = [pieces[0].start], 0.0  # of the samples that follow on each other; seconds that later files lag
    counts = [0]
    for before, piece in zip(pieces, pieces[1:]):  # noqa: B905
        counts[-1] += before.samples.size
        late += piece.start - before.stop
        if late * fs < -FEW:
            raise SignalError(
                f"{printable(piece.file)} begins {-late:g} s before {printable(before.file)} ends: read them apart"
            )
        if late * fs > FEW:
            starts, counts, late = [*starts, piece.start], [*counts, 0], 0.0
    counts[-1] += pieces[-1].samples.size
    if len(starts) == 1:
        return None
    times = [start + np.arange(count) / fs for start, count in zip(starts, counts, strict=True)]
    return Clock("timestampStart", np.concatenate(times))


def looks_like_e4(head: bytes) -> bool:
    """Whether a file begins as an Empatica E4 export: a unix time, then one of the device's rates, in every column.

    >>> looks_like_e4(b"1644226061\\r\\n64\\r\\n0\\r\\n")
    True
    """
    try:
        start, rate = ({float(cell) for cell in row.split(b",")} for row in head.split(b"\n", 2)[:2])
    except ValueError:
        return False
    return len(start) == len(rate) == 1 and UNIX_SECONDS[0] <= min(start) < UNIX_SECONDS[1] and min(rate) in E4_RATES


def read_e4(path: Path, options: Options) -> list[Channel]:
    """Empatica E4: row 1 the start in unix seconds, row 2 the rate in Hz, then samples; the file name says of what."""
    table = open_table(path, Options(delimiter=",", decimal=".", header=False, encoding=options.encoding))
    columns = table.columns(list(range(len(table.names))))
    heads = {tuple(column[:2].tolist()) for column in columns}
    start, fs = heads.pop() if len(heads) == 1 and len(columns[0]) > 2 else (np.nan, np.nan)
    if not (np.isfinite(start) and np.isfinite(fs)):
        raise SignalError(
            "not an Empatica E4 file: row 1 must be the start and row 2 the rate, in every column the same, and then "
            "come samples; is it another format? format= (--format)"
        )
    name = path.name.partition(".")[0]
    axes = "xyz" if len(columns) == 3 else table.names
    names = [name] if len(columns) == 1 else [f"{name}_{axis}" for axis in axes]
    kind = next((kind for word in re.split(r"[^A-Za-z0-9]+", name) if (kind := kind_of(word))), None)
    return [Channel(names[index], columns[index][2:], kind, fs, start) for index in choose(names, options.column)]
