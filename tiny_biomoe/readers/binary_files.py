"""Binary files: EDF, BDF, HDF5, Parquet, NumPy; the library that decodes one is imported when one is read."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError, need
from ..signals.validation import Signal, check_signals
from .columns import kind_of
from .damage import bounded, damage
from .device_files import opensignals_start
from .recording import Channel, Clock, Options, choose, excerpt
from .timestamps import find_clock, unix_time

need("edfio", "wfdb", "h5py", "pyarrow")


def read_edf(path: Path, options: Options) -> list[Channel]:
    """EDF and EDF+: every signal but the annotations, in physical units, each at its own rate."""
    from edfio import read_edf as load

    return _european("EDF", load, path, options)


def read_bdf(path: Path, options: Options) -> list[Channel]:
    """BDF, BioSemi's EDF of 24 bits."""
    from edfio import read_bdf as load

    return _european("BDF", load, path, options)


def _european(format_name: str, load: Callable[..., Any], path: Path, options: Options) -> list[Channel]:
    with damage(format_name):
        file = load(path, header_encoding="latin-1")  # the standard says ASCII, the world writes µV
        if not file.is_continuous:
            raise SignalError(f"there are holes between the records ({format_name}+D): export it as continuous, +C")
        chosen = [file.signals[index] for index in choose([each.label for each in file.signals], options.column)]
        start = _european_start(file)
        return [
            Channel(
                each.label,
                np.asarray(each.data, np.float64),
                fs=each.sampling_frequency,
                start=start,
                unit=each.physical_dimension,
            )
            for each in chosen
        ]


def _european_start(file: Any) -> float | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two dates that differ: the one of EDF+ counts
        try:
            return unix_time(datetime.combine(file.startdate, file.starttime))
        except ValueError:  # no such day, or left out to protect the person
            return None


def read_hdf5(path: Path, options: Options) -> list[Channel]:
    """HDF5: the sensors of an OpenSignals file, or the data sets that `column` names by their path in the file."""
    import h5py

    with damage("HDF5"), h5py.File(path, "r") as file:
        found: dict[str, Any] = {}

        def collect(name: str, node: Any) -> None:  # visits hard links only: nothing outside the file
            if isinstance(node, h5py.Dataset) and not node.is_virtual and node.external is None:
                found[name] = node

        file.visititems(collect)
        sensors = {name: node for name, node in found.items() if re.fullmatch(r"[^/]+/raw/channel_\d+", name)}
        if sensors:
            return _opensignals_hdf5(file, sensors, options)
        if options.column is None:
            listed = ", ".join(map(excerpt, list(found)[:50]))
            raise SignalError(f"HDF5 may hold anything: name the data sets to read, column= (--column), of {listed}")
        names = list(found)
        return [Channel(names[index], _flat(found[names[index]])) for index in choose(names, options.column)]


def _opensignals_hdf5(file: Any, sensors: dict[str, Any], options: Options) -> list[Channel]:
    devices = {path: file[path.partition("/")[0]].attrs for path in sensors}
    labels = [_text(node.attrs.get("label", path.rpartition("/")[2])) for path, node in sensors.items()]
    if len({path.partition("/")[0] for path in sensors}) > 1:
        labels = [f"{path.partition('/')[0]} {label}" for path, label in zip(sensors, labels, strict=True)]
    channels = []
    for index in choose(labels, options.column):
        path, node = list(sensors.items())[index]
        facts = {key: _text(devices[path][key]) for key in ("date", "time") if key in devices[path]}
        fs, kind = float(devices[path]["sampling rate"]), kind_of(_text(node.attrs.get("sensor", "")))
        channels.append(Channel(labels[index], _flat(node), kind, fs, opensignals_start(facts)))
    return channels


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _flat(node: Any) -> Signal:
    """A data set of one dimension, or of one column, as numbers."""
    if node.ndim not in (1, 2) or node.size != max(node.shape) or node.dtype.kind not in "iuf":
        raise SignalError(
            f"data set {excerpt(node.name)} is {node.dtype} of shape {node.shape}: one signal is (n_samples,)"
        )
    bounded(node.size)
    return np.asarray(node[()], np.float64).reshape(-1)


def read_parquet(path: Path, options: Options) -> list[Channel]:
    """Parquet: the columns that `column` names, and a time column where there is one."""
    from pyarrow import parquet

    with damage("Parquet"), parquet.ParquetFile(path) as file:
        keys = file.schema_arrow.names
        names = [key.strip() for key in keys]
        clock_at, unit = find_clock(names, options.time_column)
        chosen = choose(names, options.column, but=clock_at)
        if options.column is None and len(chosen) != 1:
            listed = ", ".join(map(excerpt, names[:50]))
            raise SignalError(f"Parquet may hold anything: name the columns to read, column= (--column), of {listed}")
        if options.time_column == "":
            clock_at = None
        bounded(file.metadata.num_rows * (len(chosen) + 1))
        table = file.read(columns=[keys[index] for index in {*chosen, clock_at} - {None}])
        clock = None if clock_at is None else _parquet_clock(names[clock_at], table.column(keys[clock_at]), unit)
        columns = [_numbers(names[index], table.column(keys[index])) for index in chosen]
        return [Channel(names[i], each, clock=clock) for i, each in zip(chosen, columns, strict=True)]


def _parquet_clock(name: str, column: Any, unit: float | None) -> Clock:
    import pyarrow as pa

    if not pa.types.is_timestamp(column.type):
        return Clock(name, _numbers(name, column), unit)
    counts = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    return Clock(name, counts.cast(pa.float64()).to_numpy() / 1e6)


def _numbers(name: str, column: Any) -> NDArray[np.float64]:
    import pyarrow as pa

    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise SignalError(
            f"column {excerpt(name)} holds {column.type}, not numbers: choose another, column= (--column)"
        )
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy())


def read_numpy(path: Path, options: Options) -> list[Channel]:
    """NumPy: an array (n_samples,) or (n_signals, n_samples), or an archive of such; it may hold its rate as `fs`."""
    with damage("NumPy"):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                bounded(sum(member.file_size for member in archive.infolist()) // 8)
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        else:  # mapped first, which finds a header that claims more than the file holds
            arrays = {"": np.array(np.load(path, mmap_mode="r", allow_pickle=False))}
        scalars = {name: array for name, array in arrays.items() if array.ndim == 0}
        fs = next((float(scalars[key]) for key in ("fs", "sampling_rate") if key in scalars), None)
        signals: dict[str, Signal] = {}
        row_of: dict[str, str] = {}
        for name, array in arrays.items():
            if array.ndim > 0 and array.dtype.kind not in "US":  # scalars and words describe the signals
                rows = _named(name, array)
                signals |= rows
                row_of |= dict.fromkeys(rows, name or "array") if len(rows) > 1 else {}
        names = list(signals)
        return [
            Channel(names[i], signals[names[i]], fs=fs, array=row_of.get(names[i]))
            for i in choose(names, options.column)
        ]


def _named(name: str, array: NDArray[Any]) -> dict[str, Signal]:
    rows, single = check_signals(array, f"array {excerpt(name)}" if name else "the array")
    if single:
        return {name or "0": rows[0]}
    return {f"{name}[{index}]" if name else str(index): row for index, row in enumerate(rows)}
