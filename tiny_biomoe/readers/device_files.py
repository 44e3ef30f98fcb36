"""Text files as devices and programs write them: Empatica E4, OpenSignals, BioSPPy."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError, brief
from .channel import Channel, Clock, Options, choose
from .columns import kind_of
from .csv_files import Table, open_table
from .timestamps import UNIX_SECONDS, unix_time, unwrapped

E4_RATES = (1.0, 4.0, 32.0, 64.0)  # Hz: HR, EDA and TEMP, ACC, BVP


def _plain_table(path: Path, options: Options, delimiter: str | None) -> Table:
    return open_table(path, Options(delimiter=delimiter, decimal=".", header=False, encoding=options.encoding))


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
    table = _plain_table(path, options, ",")
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


def read_biosppy(path: Path, options: Options) -> list[Channel]:
    """BioSPPy: comments `Sampling Rate (Hz):= 1000.00`, `Labels:= ECG`, `Date:= ...`, then one column a label."""
    table = _plain_table(path, options, options.delimiter)
    fields = dict(re.findall(r"^[#%]\s*(.+?)\s*:=\s*(.*)$", "\n".join(table.comments), re.MULTILINE))
    names = [label.strip() for label in re.split(r"[\t,]", fields["Labels"])] if "Labels" in fields else table.names
    if len(names) != len(table.names):
        raise SignalError(f"the header labels {len(names)} columns, the rows have {len(table.names)}: mend the header")
    try:
        fs = float(fields["Sampling Rate (Hz)"]) if "Sampling Rate (Hz)" in fields else None
        start = unix_time(_moment(fields["Date"])) if "Date" in fields else None
    except ValueError as error:
        raise SignalError(f"the header's rate or date cannot be read ({brief(error)}): mend the header") from error
    chosen = choose(names, options.column)
    columns = table.columns(chosen)
    return [Channel(names[i], each, fs=fs, start=start) for i, each in zip(chosen, columns, strict=True)]


def _moment(text: str) -> datetime:
    """A date by ISO 8601; Python 3.10 itself knows neither Z nor fractions of other than three or six digits."""
    padded = re.sub(r"\.\d+", lambda fraction: f"{fraction[0]:0<7}"[:7], text)
    return datetime.fromisoformat(re.sub(r"Z$", "+00:00", padded))


@dataclass(frozen=True)
class _Sensor:
    """One sensor of an OpenSignals header."""

    label: str
    measures: str
    column: int
    counter: int | None  # the column that counts the device's samples
    fs: float  # Hz
    start: float | None  # unix seconds


def read_opensignals(path: Path, options: Options) -> list[Channel]:
    """OpenSignals: a JSON header with each device's rate, sensors and columns, then the columns side by side."""
    table = _plain_table(path, options, "\t")
    try:
        sensors = _opensignals_header(json.loads(table.comments[1].lstrip("# ")))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SignalError(f"the OpenSignals header cannot be read ({brief(error)}): export the file again") from error
    if any(sensor.column >= len(table.names) for sensor in sensors):
        raise SignalError(
            f"the rows have {len(table.names)} columns, fewer than the header says: export the file again"
        )
    chosen = [sensors[index] for index in choose([sensor.label for sensor in sensors], options.column)]
    counters = sorted({sensor.counter for sensor in chosen if sensor.counter is not None})
    if options.time_column == "":
        counters = []
    columns = table.columns([*(sensor.column for sensor in chosen), *counters])
    counts: dict[int | None, NDArray[np.float64]] = dict(zip(counters, columns[len(chosen) :], strict=True))
    return [
        Channel(
            sensor.label,
            samples,
            sensor_kind(sensor.measures),
            sensor.fs,
            sensor.start,
            sample_counter(counts.get(sensor.counter), sensor.fs, table.first_row),
        )
        for sensor, samples in zip(chosen, columns, strict=False)
    ]


def _opensignals_header(devices: dict[str, Any]) -> list[_Sensor]:
    sensors, offset = [], 0
    for device, facts in devices.items():
        columns = facts["column"]
        counter = offset + columns.index("nSeq") if "nSeq" in columns else None
        for label, measures in zip(facts["label"], facts["sensor"], strict=True):
            name = label if len(devices) == 1 else f"{device} {label}"
            column = offset + columns.index(label)
            sensors.append(
                _Sensor(name, measures, column, counter, float(facts["sampling rate"]), opensignals_start(facts))
            )
        offset += len(columns)
    return sensors


def sensor_kind(measures: str) -> str | None:
    """What a sensor of OpenSignals measures; its oximeter gives light, not a saturation."""
    return "light of an oximeter" if "spo2" in measures.lower() else kind_of(measures)


def opensignals_start(facts: Any) -> float | None:
    """Start of a device's recording in unix seconds, from its `date` and `time`."""
    try:
        return unix_time(datetime.strptime(f"{facts['date']} {facts['time']}", "%Y-%m-%d %H:%M:%S.%f"))
    except (ValueError, LookupError):
        return None


def sample_counter(counts: NDArray[np.float64] | None, fs: float, first_row: int = 1) -> Clock | None:
    """The sample counter as a clock, which shows lost samples; one that starts anew within the file shows nothing."""
    counts = None if counts is None or not fs > 0 else unwrapped(counts)
    return None if counts is None else Clock("nSeq", counts / fs, first_row=first_row)
