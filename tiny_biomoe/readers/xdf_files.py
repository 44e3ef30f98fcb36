"""XDF (LabRecorder) through pyxdf: every channel of every stream of numbers, with the gaps that its times show."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import SignalError, excerpt, need
from .channel import AGREEMENT, Channel, Clock, Options, choose
from .columns import kind_of
from .damage import bounded, damage
from .packets import even_times
from .timestamps import unix_time

ITEM_BYTES = {"int8": 1, "int16": 2, "int32": 4, "int64": 8, "float32": 4, "double64": 8, "string": 1}
SAMPLES, FOOTER = 3, 6  # tags of chunks
MAX_CHANNELS = 4096
DATETIME = "%Y-%m-%dT%H:%M:%S%z"


def read_xdf(path: Path, options: Options) -> list[Channel]:
    """XDF: the channels of the streams that hold numbers.

    Times are synchronised between streams and evened out, except over gaps, which stay. Marker streams hold words and
    are no signals.
    """
    need("pyxdf")
    import pyxdf

    with damage("XDF"), _complaints():
        infos = _streams(path)
        columns = [(info, index) for info in infos for index in range(info.channels)]
        if not columns:
            raise SignalError("the file holds no stream of numbers with samples: markers only, or nothing was recorded")
        wanted = sorted({info.id for info in infos})
        streams, header = pyxdf.load_xdf(str(path), select_streams=wanted, dejitter_timestamps=False, verbose=None)
        loaded = {stream["info"]["stream_id"]: stream for stream in streams}
        begins = {key: float(stream["time_stamps"].min()) for key, stream in loaded.items()}
        origin = _recorded(header, min(begins.values()))
        names, kinds, units = _labels(infos, loaded)
        clocks = {info.id: _clock(info, loaded[info.id]["time_stamps"]) for info in infos}
        channels = []
        for at in choose(names, options.column):
            info, index = columns[at]
            samples = np.asarray(loaded[info.id]["time_series"][:, index], np.float64)
            start = None if origin is None else origin + float(loaded[info.id]["time_stamps"][0])
            fs, clock = (info.fs or None, None) if options.time_column == "" else clocks[info.id]
            channels.append(Channel(names[at], samples, kinds[at], fs, start, clock, units[at]))
        return channels


@dataclass(frozen=True)
class Stream:
    """What the header of a stream says of it."""

    id: int
    name: str
    type: str
    channels: int
    fs: float  # nominal, in Hz; 0 where sampling is irregular


@contextmanager
def _complaints() -> Iterator[None]:
    """Damage over which pyxdf goes on with no more than an error in its log is an error."""
    found: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    listener, log = Listener(logging.ERROR), logging.getLogger("pyxdf")
    log.addHandler(listener)
    try:
        yield
    finally:
        log.removeHandler(listener)
    if found:
        raise SignalError(f"not a whole XDF file ({excerpt(found[0])}): fetch it again")


def _streams(path: Path) -> list[Stream]:
    """The streams of numbers that hold samples, after making sure that no chunk claims more than it holds."""
    import pyxdf

    infos = {info["stream_id"]: info for info in pyxdf.resolve_streams(str(path))}
    for info in infos.values():
        if info["channel_format"] not in ITEM_BYTES or not 0 <= info["channel_count"] <= MAX_CHANNELS:
            raise SignalError(
                f"stream {excerpt(str(info['name']))} has {info['channel_count']} channels of "
                f"{excerpt(str(info['channel_format']))}: the file is damaged, fetch it again"
            )
    counts, ended = dict.fromkeys(infos, 0), set()
    with path.open("rb") as file:
        for tag, stream, content, length in _chunks(file):
            if tag == FOOTER:
                ended.add(stream)
            if tag == SAMPLES:
                if stream not in infos:
                    raise SignalError(f"samples of a stream {stream} without a header: the file is damaged")
                counts[stream] += _count(content, length, infos[stream])
                bounded(counts[stream] * infos[stream]["channel_count"])
    if missing := [excerpt(str(infos[key]["name"])) for key in counts if key not in ended and counts[key]]:
        raise SignalError(
            f"stream {missing[0]} has no end: the file was cut short, or recording broke off; fetch it again, or save "
            "what pyxdf reads of it as CSV"
        )
    return [
        Stream(key, str(info["name"] or key), str(info["type"] or ""), info["channel_count"], info["nominal_srate"])
        for key, info in infos.items()
        if info["channel_format"] != "string" and counts[key]
    ]


def _chunks(file: BinaryIO) -> Iterator[tuple[int, int, bytes, int]]:
    """Tag and stream of each chunk, its first bytes after them, and how many there are."""
    size = file.seek(0, 2)
    file.seek(4)  # "XDF:"
    while file.tell() < size:
        width = file.read(1)[0]
        length = int.from_bytes(file.read(width), "little") if width in (1, 4, 8) else 0
        begin = file.tell()
        if length < 2 or begin + length > size:
            raise SignalError(f"a chunk at byte {begin} is cut short or damaged: fetch the file again")
        head = file.read(min(length, 15))
        yield int.from_bytes(head[:2], "little"), int.from_bytes(head[2:6], "little"), head[6:], length - 6
        file.seek(begin + length)


def _count(content: bytes, length: int, info: dict[str, Any]) -> int:
    """Samples of a chunk, which take at least a byte for the time and the bytes of the values."""
    width = content[0] if content else 0
    count = int.from_bytes(content[1 : 1 + width], "little")
    if count * (1 + info["channel_count"] * ITEM_BYTES[info["channel_format"]]) > length - 1 - width:
        raise SignalError(f"a chunk claims {count} samples, more than it has bytes: fetch the file again")
    return count


def _recorded(header: Any, begin: float) -> float | None:
    """What to add to times of the recorder's clock for unix seconds: recording began when the first sample came."""
    try:
        return unix_time(datetime.strptime(header["info"]["datetime"][0], DATETIME)) - begin
    except (LookupError, TypeError, ValueError):  # no date, or in another form: the start stays unknown
        return None


def _labels(infos: list[Stream], loaded: dict[int, Any]) -> tuple[list[str], list[str | None], list[str | None]]:
    """Name, kind and unit of every channel: the stream's name, and what its description says of the channel."""
    names, kinds, units = [], [], []
    for info in infos:
        facts = _descriptions(loaded[info.id], info.channels)
        for index, fact in enumerate(facts):
            label = fact.get("label") or (None if info.channels == 1 else str(index))
            names.append(" ".join(filter(None, [info.name if len(infos) > 1 or not label else None, label])))
            kinds.append(kind_of(fact.get("type") or info.type))
            units.append(fact.get("unit"))
    return names, kinds, units


def _descriptions(stream: Any, count: int) -> list[dict[str, str]]:
    """What `desc/channels/channel` says of each channel; nothing where it is not there, as it may."""
    try:
        found = stream["info"]["desc"][0]["channels"][0]["channel"]
    except (LookupError, TypeError):
        found = []
    if len(found) != count:
        return [{} for _ in range(count)]
    keys = ("label", "type", "unit")
    return [
        {key: str(fact[key][0]).strip() for key in keys if fact and fact.get(key) and fact[key][0]} for fact in found
    ]


def _clock(info: Stream, stamps: Any) -> tuple[float | None, Clock]:
    """The rate of a stream, and its times: evened out where sampling is regular."""
    if not info.fs:
        return None, Clock(info.name, stamps)
    times = even_times(stamps, info.fs)
    measured = 1 / float(np.median(np.diff(times))) if times.size > 1 and (np.diff(times) > 0).all() else info.fs
    return info.fs if abs(measured / info.fs - 1) <= AGREEMENT else None, Clock(info.name, times)
