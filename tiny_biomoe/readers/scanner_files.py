"""Logs of Siemens MR scanners: the physiological monitoring unit (PMU), and those of CMRR's sequences."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

import numpy as np

from ..errors import SignalError, excerpt
from .channel import MAX_BYTES, Channel, Clock, Options, choose
from .columns import kind_of
from .text_files import read_unpacked
from .timestamps import unix_time

PMU_KINDS = {".puls": "bvp", ".resp": "resp", ".ext": "trigger"}
N_FACTS = 4  # numbers before the samples
MARKS = 5000  # numbers from here on are triggers and other marks, which take no time
MESSAGE = re.compile(rb"(?<!\S)(?:5002(?!\S)|[A-Za-z])(.*?)(?<!\S)6002(?!\S)", re.DOTALL)
END = re.compile(rb"(?<!\S)5003(?!\S)")
RATE = re.compile(rb"SAMPLES_PER_SECOND\s*=\s*(\d+)")
RATES = (50.0, 100.0, 200.0, 400.0)  # Hz, of the logs of all software versions
NEAR = 0.03  # share by which a log's own duration may differ from its samples' at one of these rates
DIGITS = re.compile(r"[0-9]{1,15}")
TICK = 0.0025  # seconds in a tick of CMRR's logs, which count from midnight
CMRR_KINDS = {"PULS": "bvp", "RESP": "resp", "EXT": "trigger"}


def looks_like_pmu(path: Path, head: bytes) -> bool:
    """Whether a file is a PMU log by its ending and its first numbers.

    >>> looks_like_pmu(Path("run1.puls"), b"1 2 40 280 5002 LOGVERSION_PULS   1 6002 1703 1706")
    True
    """
    ending = os.path.splitext(path.name.lower().removesuffix(".gz"))[1]
    return ending in (*PMU_KINDS, ".ecg") and bool(re.match(rb"\s*(\d+\s+){4}", head))


def read_pmu(path: Path, options: Options) -> list[Channel]:
    """Siemens PMU: one signal, its triggers left out; the rate stands in a message, or follows from the log's times."""
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    if ending not in PMU_KINDS:
        raise SignalError(
            "the leads of an ECG log of the scanner are interleaved, which is not read: export it as BIDS"
        )
    data = read_unpacked(path, MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise SignalError(f"the file holds more than {MAX_BYTES} bytes: split it")
    messages = MESSAGE.findall(data)
    numbers, *rest = END.split(MESSAGE.sub(b" ", data), maxsplit=1)
    if not rest:
        raise SignalError("the log has no end (5003): it was cut short, fetch it again")
    cells = numbers.split()
    try:
        values = np.array(cells, dtype="S").astype(np.int64) if cells else np.empty(0, np.int64)
    except (ValueError, OverflowError) as error:
        wrong = next((cell for cell in cells if not re.fullmatch(rb"-?\d{1,9}", cell)), b"")
        raise SignalError(f"{excerpt(wrong.decode('latin-1'))} is not a number: the log is damaged") from error
    samples = values[N_FACTS:][values[N_FACTS:] < MARKS].astype(np.float64)
    name = ending.lstrip(".").upper()
    fs = _pmu_rate(messages, rest[0], samples.size)
    choose([name], options.column)
    return [Channel(name, samples, PMU_KINDS[ending], fs)]


def _pmu_rate(messages: list[bytes], footer: bytes, n_samples: int) -> float | None:
    """The rate of a log in Hz; None where neither a message nor the log's duration says which."""
    if stated := next((match for message in messages if (match := RATE.search(message))), None):
        return float(stated[1])
    times = dict(re.findall(rb"Log(Start|Stop)MDHTime:\s*(\d+)", footer))
    seconds = (int(times[b"Stop"]) - int(times[b"Start"])) / 1e3 if len(times) == 2 else 0.0
    if seconds <= 0:
        return None
    return next((rate for rate in RATES if abs(n_samples / seconds / rate - 1) <= NEAR), None)


def read_cmrr(path: Path, options: Options) -> list[Channel]:
    """CMRR's `_PULS.log` and the like: a header, then ticks of 2.5 ms, a channel's name and its value in each row."""
    data = read_unpacked(path, MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise SignalError(f"the file holds more than {MAX_BYTES} bytes: split it")
    lines = data.decode("latin-1").replace("\r\n", "\n").split("\n")
    facts = dict(re.findall(r"^(\w+)\s*=\s*(\S+)\s*$", "\n".join(lines[:50]), re.MULTILINE))
    if facts.get("LogDataType") == "ACQUISITION_INFO":
        raise SignalError("the log holds the times of slices, no signal: read its PULS, RESP or ECG log")
    rows: dict[str, list[tuple[float, float, int]]] = {}
    for number, line in enumerate(lines, 1):
        cells = line.split()
        if cells and DIGITS.fullmatch(cells[0]):
            if len(cells) < 3 or not DIGITS.fullmatch(cells[2]):
                raise SignalError(f"row {number} is not ticks, a channel and a value: the log was cut short or damaged")
            rows.setdefault(cells[1], []).append((float(cells[0]), float(cells[2]), number))
    step = facts.get("SampleTime", "")
    if not rows or not DIGITS.fullmatch(step) or int(step) == 0:
        raise SignalError("the log holds no samples, or its header no SampleTime: fetch it again")
    names, fs, day = list(rows), 1 / (int(step) * TICK), _midnight(facts.get("ScanDate", ""))
    channels = []
    for at in choose(names, options.column):
        ticks, samples, numbers = np.array(rows[names[at]]).T
        passed = np.maximum(np.ceil(np.diff(ticks) / int(step) - 0.5), 1)  # in samples; ticks are rounded
        times = np.append(0.0, np.cumsum(passed)) / fs
        clock = None if options.time_column == "" else Clock("ACQ_TIME_TICS", times, rows=numbers.astype(np.int64))
        start = None if day is None else day + float(ticks[0]) * TICK
        kind = CMRR_KINDS.get(names[at]) or kind_of(names[at].rstrip("0123456789"))
        channels.append(Channel(names[at], samples, kind, fs, start, clock))
    return channels


def _midnight(date: str) -> float | None:
    """Unix seconds at which the day of a scan began, by the scanner's clock, which names no time zone."""
    try:
        return unix_time(datetime.strptime(date.partition("_")[0], "%Y%m%d"))
    except ValueError:
        return None
