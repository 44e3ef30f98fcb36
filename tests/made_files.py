"""Files of devices, laid out as their specifications say: for tests, and for the mutants of benchmarks/fuzz_readers."""

from __future__ import annotations

import struct
import zlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from bioread import headers as bh


def write(path: Path, text: str = "1\n2\n") -> Path:
    """A text file, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# AcqKnowledge, with the headers of bioread

REVISION = 132  # AcqKnowledge 5.0.1
ACQ_START = datetime(2024, 5, 6, 7, 8, 9, 500_000, timezone.utc)


def laid_out(kind: type, tail: bytes = b"", length: str | None = None, **fields: object) -> bytes:
    """A header of bioread with the given fields, the others 0; `length` names the field that holds its own length."""
    empty = kind.for_revision(REVISION, "<")
    facts = empty._struct_class()
    for name, value in {**fields, **({length: len(bytes(facts)) + len(tail)} if length else {})}.items():
        setattr(facts, name, value)
    return bytes(facts) + tail


ACQ_CHANNELS = [  # name, unit, divider, format, scale, offset
    (b"EKG - ERS100C", b"mV", 1, "<i2", 0.001, 0.5),
    (b"EDA", b"microsiemens", 4, "<f8", 1.0, 0.0),
    (b"EDA", b"microsiemens", 4, "<f8", 1.0, 0.0),
]


def acqknowledge(path: Path, rng, marks: list[tuple[int, str, datetime | None]] = (), packed: bool = False) -> list:
    """A file of 400 ms at 1 kHz; gives its raw samples."""
    raw = [
        rng.integers(-2000, 2000, 400).astype("<i2"),
        *(rng.standard_normal(100).astype("<f8") for _ in range(2)),
    ]
    channels = b"".join(
        laid_out(
            bh.ChannelHeader,
            length="lChanHeaderLen",
            szCommentText=name,
            szUnitsText=unit,
            lBufLength=samples.size,
            dAmplScale=scale,
            dAmplOffset=offset,
            nVarSampleDivider=divider,
        )
        for (name, unit, divider, _, scale, offset), samples in zip(ACQ_CHANNELS, raw, strict=True)
    )
    graph = laid_out(
        bh.GraphHeader, length="lExtItemHeaderLen", lVersion=REVISION, nChannels=3, dSampleTime=1.0, bCompressed=packed
    )
    types = b"".join(
        laid_out(bh.ChannelDTypeHeader, nSize=samples.itemsize, nType={"f": 1, "i": 2}[samples.dtype.kind])
        for samples in raw
    )
    items = [
        laid_out(
            bh.MarkerItemHeader,
            text.encode() + b"\0",
            lSample=at,
            nChannel=-1,
            sMarkerStyle=b"apnd",
            llDateCreated=round(date.timestamp() * 1000) if date else 2**63,
            nTextLength=len(text) + 1,
        )
        for at, text, date in marks
    ]
    markers = laid_out(bh.MarkerHeader, lMarkersExtra=len(items) + 1) + b"".join(items)
    journal = laid_out(bh.JournalLengthHeader, lJournalDataLen=4)
    interleaved = b"".join(
        raw[0][4 * n : 4 * n + 1].tobytes()
        + raw[1][n : n + 1].tobytes()
        + raw[2][n : n + 1].tobytes()
        + raw[0][4 * n + 1 : 4 * n + 4].tobytes()
        for n in range(100)
    )
    body = interleaved + markers + journal
    if packed:
        blocks = [zlib.compress(samples.tobytes()) for samples in raw]
        body = markers + journal + laid_out(bh.MainCompressionHeader)
        for samples, block in zip(raw, blocks, strict=True):
            body += laid_out(
                bh.ChannelCompressionHeader, block, lUncompressedLen=samples.nbytes, lCompressedLen=len(block)
            )
    path.write_bytes(graph + channels + laid_out(bh.ForeignHeader, length="lLength") + types + body)
    return raw


# XDF

RECORDED = "2025-01-31T00:21:17+0000"
UNIX = 1738282877
TYPES = {"float32": "<f4", "int16": "<i2", "double64": "<f8"}


def xdf_chunk(tag: int, content: bytes, stream: int | None = None) -> bytes:
    content = struct.pack("<H", tag) + (b"" if stream is None else struct.pack("<I", stream)) + content
    return b"\x04" + struct.pack("<I", len(content)) + content


def xdf_stream(
    number: int,
    name: str,
    kind: str,
    fs: float,
    stamps,
    values,
    channels: str = "",
    form: str = "float32",
    clocks=(100.0, 105.0, 110.0),
):
    """Header, samples by forties, clock offsets and footer of one stream."""
    values = [] if len(values) == 0 else np.atleast_2d(np.asarray(values, TYPES.get(form, object)).T).T
    n_channels = 1 if len(values) == 0 else values.shape[1]
    yield xdf_chunk(
        2,
        f"<info><name>{name}</name><type>{kind}</type><channel_count>{n_channels}</channel_count>"
        f"<nominal_srate>{fs}</nominal_srate><channel_format>{form}</channel_format><source_id/>"
        f"<desc>{channels}</desc></info>".encode(),
        number,
    )
    for begin in range(0, len(values), 40):
        rows = list(zip(stamps[begin : begin + 40], values[begin : begin + 40], strict=True))
        content = b"\x04" + struct.pack("<I", len(rows))
        for stamp, row in rows:
            data = row.tobytes() if form != "string" else b"\x01" + bytes([len(row[0])]) + row[0].encode()
            content += b"\x08" + struct.pack("<d", stamp) + data
        yield xdf_chunk(3, content, number)
    for at in clocks:
        yield xdf_chunk(4, struct.pack("<dd", at, 0.25), number)
    yield xdf_chunk(6, f"<info><sample_count>{len(values)}</sample_count></info>".encode(), number)


def xdf(path: Path, *streams, head: str = f"<datetime>{RECORDED}</datetime>") -> Path:
    header = xdf_chunk(1, f"<info><version>1.0</version>{head}</info>".encode())
    path.write_bytes(b"XDF:" + header + b"".join(part for each in streams for part in each))
    return path


# Empatica EmbracePlus

SERIES = [("timestampStart", "long"), ("samplingFrequency", "float")]
START = 1_700_000_000  # unix seconds
RATES = {"eda": 3.99996, "bvp": 64.0, "temperature": 1.000002, "steps": 0.2}
IMU = {"physicalMin": -16, "physicalMax": 16, "digitalMin": -32768, "digitalMax": 32767}


def record_type(name: str, fields: list[tuple[str, object]]) -> dict:
    return {"type": "record", "name": name, "fields": [{"name": key, "type": kind} for key, kind in fields]}


def array(kind: object) -> dict:
    return {"type": "array", "items": kind}


SENSORS = [
    *((key, record_type(key, [*SERIES, ("values", array("float"))])) for key in RATES),
    (
        "accelerometer",
        record_type(
            "accelerometer",
            [
                *SERIES,
                ("imuParams", record_type("imu", [(key, "int") for key in IMU])),
                *((axis, array("int")) for axis in "xyz"),
            ],
        ),
    ),
]
SCHEMA = record_type(
    "Session",
    [("timezone", "int"), ("deviceSn", "string"), ("enrollment", "string"), ("rawData", record_type("raw", SENSORS))],
)


def avro_session(start: float, seconds: float, rng: np.random.Generator, **changes: object) -> dict:
    """One record, its sensors of noise; `changes` replace whole sensors."""
    raw: dict[str, object] = {}
    for key, fs in RATES.items():
        values = rng.standard_normal(round(seconds * fs)).astype(np.float32).tolist()
        raw[key] = {"timestampStart": round(start * 1e6), "samplingFrequency": fs, "values": values}
    axes = {axis: rng.integers(-2048, 2048, round(seconds * 64)).tolist() for axis in "xyz"}
    raw["accelerometer"] = {**raw["bvp"], "imuParams": IMU, **axes}  # type: ignore[dict-item]
    return {"timezone": 7200, "deviceSn": "3YK-SECRET", "enrollment": "Jane Doe", "rawData": {**raw, **changes}}


def avro(path: Path, records: list[dict], codec: str = "null", schema: dict = SCHEMA) -> Path:
    with path.open("wb") as file:
        fastavro.writer(file, schema, records, codec=codec, sync_marker=bytes(range(16)))
    return path


def avro_path(folder: Path, start: int) -> Path:
    return folder / f"1-1-P01_{start}.avro"


# EDF

FIELDS = (
    *(("label", 16), ("t", 80), ("dim", 8), ("pmin", 8), ("pmax", 8)),
    *(("dmin", 8), ("dmax", 8), ("p", 80), ("spr", 8)),
)


def edf_signal(label: str, data: Any, **changes: Any) -> dict[str, Any]:
    """Eight samples a record, a tenth of a microsiemens a step."""
    fields = {"dim": "uS", "pmin": -3276.8, "pmax": 3276.7, "dmin": -32768, "dmax": 32767, "spr": 8}
    return {"label": label, "data": list(data), **fields, **changes}


def edf(path: Path, signals: list[dict[str, Any]], records: Any = 2, duration: Any = 1, reserved: str = "") -> Path:
    """Write a file of two records."""

    def field(value: Any, size: int) -> bytes:
        return (value if isinstance(value, bytes) else str(value).encode("latin-1")).ljust(size)

    size = 256 * (len(signals) + 1)
    head = field(0, 8) + field("X X X X", 80) + field("Startdate 01-JAN-2020 X X X", 80) + field("01.01.2010.00.00", 16)
    head += field(size, 8) + field(reserved, 44) + field(records, 8) + field(duration, 8) + field(len(signals), 4)
    for name, width in FIELDS:
        head += b"".join(field(each.get(name, ""), width) for each in signals)
    head += b" " * 32 * len(signals)
    for record in range(2):
        for each in signals:
            data, count = each["data"], each["spr"]
            if isinstance(data[0], bytes):
                head += data[record].ljust(2 * count, b"\0")
            else:
                head += np.asarray(data[record * count : (record + 1) * count], "<i2").tobytes()
    path.write_bytes(head)
    return path


# GDF 2.20 (Schloegl 2006, arXiv:cs/0608052) and Neuroscan CNT (its SETUP, ELECTLOC and TEEG structures)

GDF_TYPES = {"<i2": 3, "<i4": 5, "<f4": 16}
DAYS = 719_529  # from the year 0, from which GDF counts, to 1970


def gdf(path: Path, names: list[str], units: list[int], data: np.ndarray, scale: float, kind: str = "<i2") -> Path:
    """Channels (n_channels, n_samples) of 50 samples a record, at 100 Hz from 2024-05-06 07:08:09 UTC on."""
    n, per_record = len(names), 50

    def each(value: Any) -> bytes:
        return np.full(n, value).tobytes()

    began = datetime(2024, 5, 6, 7, 8, 9, tzinfo=timezone.utc).timestamp() / 86_400 + DAYS
    head = b"GDF 2.20" + b"X X".ljust(66) + bytes(10) + bytes(4) + b"made".ljust(64) + bytes(16)
    head += struct.pack("<QQH", round(began * 2**32), 0, n + 1) + bytes(6 + 8 + 6 + 6 + 12 + 12)
    head += struct.pack("<qIIHH", data.shape[1] // per_record, 1, 2, n, 0)
    head += b"".join(name.encode().ljust(16) for name in names) + bytes(86 * n) + np.array(units, "<u2").tobytes()
    head += each(-1000 * scale) + each(1000 * scale) + each(-1000.0) + each(1000.0) + bytes((68 + 12) * n)
    head += each(np.int32(per_record)) + each(np.int32(GDF_TYPES[kind])) + bytes((12 + 20) * n)
    records = data.reshape(n, -1, per_record).transpose(1, 0, 2).astype(kind).tobytes()
    path.write_bytes(head + records + b"\x01" + bytes(3) + struct.pack("<f", 100.0))
    return path


def cnt(path: Path, names: list[str], data: np.ndarray, microvolts: float, kind: str = "<i2") -> Path:
    """Channels (n_channels, n_samples) at 250 Hz, a step of so many microvolts, from 2024-05-06 07:08:09 on."""
    n = len(names)
    head = bytearray(900)
    head[:10] = b"Version 3."
    head[225:235], head[235:247] = b"05/06/24\0\0", b"07:08:09\0\0\0\0"
    struct.pack_into("<H", head, 370, n)
    struct.pack_into("<H", head, 376, 250)
    struct.pack_into("<i", head, 864, data.shape[1])
    body = data.T.astype(kind).tobytes()
    struct.pack_into("<i", head, 886, 900 + 75 * n + len(body))
    for at, name in enumerate(names):
        place = bytearray(75)
        place[: len(name)] = name.encode()
        struct.pack_into("<ff", place, 19, 100.0 + at, 50.0)
        struct.pack_into("<h", place, 47, 5)  # the baseline, in steps
        struct.pack_into("<f", place, 59, 204.8 * microvolts)
        struct.pack_into("<f", place, 71, 1.0)
        head += place
    path.write_bytes(bytes(head) + body + struct.pack("<Bll", 1, 0, 0))
    return path
