"""Text of OpenSignals (BITalino, biosignalsplux) and of BioSPPy: a header with rate, sensors and date, then columns."""

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
from .timestamps import unix_time, unwrapped


def _plain_table(path: Path, options: Options, delimiter: str | None) -> Table:
    return open_table(path, Options(delimiter=delimiter, decimal=".", header=False, encoding=options.encoding))


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
