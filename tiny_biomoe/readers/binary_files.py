"""Binary files: HDF5, Parquet, NumPy; the library that decodes one is imported when one is read."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError, excerpt, need
from ..signals.filters import MODALITIES
from ..signals.validation import Signal, check_signals
from .channel import Channel, Clock, Options, choose, names_rate, rate_of
from .columns import kind_of
from .damage import bounded, damage
from .opensignals_files import opensignals_start, sample_counter, sensor_kind
from .timestamps import counter_clock, find_clock

need("h5py", "pyarrow")

OBJECTS = (
    "holds Python objects, which are not read: save numbers, an array (n_signals, n_samples), or in a .npz one a signal"
)


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
        names = list(found)
        plain = {name for name, node in found.items() if _is_flat(node)}
        kinds = {name: kind_of(name.rpartition("/")[2]) for name in names}
        if options.column is None and not any(kinds[name] in MODALITIES for name in plain):
            listed = ", ".join(map(excerpt, names[:50]))
            raise SignalError(f"HDF5 may hold anything: name the data sets to read, column= (--column), of {listed}")
        chosen = choose(names, options.column)
        if options.column is None or options.column == "*":
            chosen = [index for index in chosen if names[index] in plain]
        return [
            Channel(names[at], _flat(found[names[at]]), kinds[names[at]], _stated_fs(found[names[at]], found))
            for at in chosen
        ]


def _stated_fs(node: Any, found: Mapping[str, Any]) -> float | None:
    """The rate in Hz among the attributes of a data set, beside it in its group, or among those of its groups."""
    if (rate := _rate_among(node.attrs)) is not None:
        return rate
    folder, _, name = node.name[1:].rpartition("/")
    beside = {key.rpartition("/")[2]: each for key, each in found.items() if key.rpartition("/")[0] == folder}
    scalars = {key: float(np.ravel(each[()])[0]) for key, each in beside.items() if each.size == 1 and _is_real(each)}
    if (rate := rate_of(name, scalars)) is not None:
        return rate
    while node.name != "/":
        node = node.parent
        if (rate := _rate_among(node.attrs)) is not None:
            return rate
    return None


def _rate_among(attributes: Any) -> float | None:
    """The first rate in Hz, a number or a text such as "4 Hz"."""
    for key, value in attributes.items():
        if names_rate(key) and np.size(value) == 1:
            found = re.fullmatch(r"\s*([-+.\w]+?)\s*(Hz)?\s*", _text(np.ravel(value)[0]), re.IGNORECASE)
            try:
                return float(found[1] if found else "")
            except ValueError:
                continue
    return None


def _is_real(node: Any) -> bool:
    return node.dtype.kind in "iuf"


def _is_flat(node: Any) -> bool:
    return node.ndim in (1, 2) and node.size == max(node.shape) and node.size > 1 and _is_real(node)


def _opensignals_hdf5(file: Any, sensors: dict[str, Any], options: Options) -> list[Channel]:
    devices = {path: file[path.partition("/")[0]].attrs for path in sensors}
    labels = [_text(node.attrs.get("label", path.rpartition("/")[2])) for path, node in sensors.items()]
    if len({path.partition("/")[0] for path in sensors}) > 1:
        labels = [f"{path.partition('/')[0]} {label}" for path, label in zip(sensors, labels, strict=True)]
    channels = []
    for index in choose(labels, options.column):
        path, node = list(sensors.items())[index]
        facts = {key: _text(devices[path][key]) for key in ("date", "time") if key in devices[path]}
        fs, kind = float(devices[path]["sampling rate"]), sensor_kind(_text(node.attrs.get("sensor", "")))
        counts = file.get(f"{path.rpartition('/')[0]}/nSeq")  # the device's samples, counted
        clock = None
        if counts is not None and counts.size == node.size and options.time_column != "":
            clock = sample_counter(_flat(counts), fs)
        channels.append(Channel(labels[index], _flat(node), kind, fs, opensignals_start(facts), clock))
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
    """Parquet: every column of numbers, or the chosen ones; a time column or pandas' index is their clock."""
    from pyarrow import parquet

    with damage("Parquet"), parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        keys = schema.names
        names = [key.strip() for key in keys]
        clock_at, unit = find_clock(names, options.time_column)
        if clock_at is None and options.time_column is None:
            clock_at = _dated_or_index(schema)
        chosen = choose(names, options.column, but=clock_at)
        if options.time_column == "":
            clock_at = None
        if options.column is None or options.column == "*":
            chosen = [
                index for index in chosen if _is_number(schema.types[index]) or kind_of(names[index]) in MODALITIES
            ]
            if not chosen:
                raise SignalError(f"the file holds no column of numbers, of {', '.join(map(excerpt, names[:50]))}")
        bounded(file.metadata.num_rows * (len(chosen) + 1))
        table = file.read(columns=[keys[index] for index in {*chosen, clock_at} - {None}])
        clock = None if clock_at is None else _parquet_clock(names[clock_at], table.column(keys[clock_at]), unit)
        return [_parquet_channel(names[index], table.column(keys[index]), clock) for index in chosen]


def _dated_or_index(schema: Any) -> int | None:
    """The first column of dates and times or of durations, or else pandas' index where its name says nothing."""
    import pyarrow as pa

    dated = [at for at, kind in enumerate(schema.types) if pa.types.is_timestamp(kind)]
    dated += [at for at, kind in enumerate(schema.types) if pa.types.is_duration(kind)]
    index = [at for at, name in enumerate(schema.names) if name == "__index_level_0__"]
    return next(iter(dated + index), None)


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _parquet_channel(name: str, column: Any, clock: Clock | None) -> Channel:
    if _is_number(column.type):
        return Channel(name, _numbers(name, column), clock=clock)
    problem = f"it holds {column.type}, not numbers: choose another, column= (--column)"
    return Channel(name, np.empty(0), clock=clock, problem=problem)


def _parquet_clock(name: str, column: Any, unit: float | None) -> Clock | None:
    import pyarrow as pa

    if pa.types.is_duration(column.type):
        counts = column.cast(pa.duration("us"), safe=False).cast(pa.int64())
        return Clock(name, counts.cast(pa.float64()).to_numpy() / 1e6)
    if name == "__index_level_0__" and not pa.types.is_timestamp(column.type):
        return counter_clock(name, _numbers(name, column)) if _is_number(column.type) else None
    if not pa.types.is_timestamp(column.type):
        return Clock(name, _numbers(name, column), unit)
    counts = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    return Clock(name, counts.cast(pa.float64()).to_numpy() / 1e6)


def _numbers(name: str, column: Any) -> NDArray[np.float64]:
    import pyarrow as pa

    if not _is_number(column.type):
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
                loaded = {name: _plain(file, name) for name in file.files}
            arrays = {name: array for name, array in loaded.items() if not isinstance(array, str)}
            problems = {name: problem for name, problem in loaded.items() if isinstance(problem, str)}
        else:  # mapped first, which finds a header that claims more than the file holds
            try:
                arrays, problems = {"": np.array(np.load(path, mmap_mode="r", allow_pickle=False))}, {}
            except ValueError as error:
                if "object" in str(error).lower():
                    raise SignalError(f"the array {OBJECTS}") from error
                raise
    scalars = {
        name: float(array.ravel()[0])
        for name, array in arrays.items()
        if name and array.size == 1 and array.dtype.kind in "iuf"
    }
    signals: dict[str, Signal] = {}
    row_of: dict[str, str] = {}
    for name, array in arrays.items():
        described = name and array.size == 1  # scalars and words describe the signals
        if array.ndim > 0 and not described and array.dtype.kind not in "US":
            try:
                rows = _named(name, array)
            except SignalError as error:
                if not name:
                    raise
                problems[name] = str(error)
                continue
            signals |= rows
            row_of |= dict.fromkeys(rows, name or "array") if len(rows) > 1 else {}
    channels = [
        Channel(name, samples, fs=rate_of(row_of.get(name, name), scalars), array=row_of.get(name))
        for name, samples in signals.items()
    ]
    channels += [Channel(name, np.empty(0), problem=problem) for name, problem in problems.items()]
    return [channels[at] for at in choose([each.name for each in channels], options.column)]


def _plain(archive: Any, name: str) -> NDArray[Any] | str:
    """An array of an archive, or why it cannot be read: one of Python objects could hold anything."""
    try:
        found = archive[name]
    except ValueError as error:
        if "object" in str(error).lower():
            return OBJECTS
        raise
    if not isinstance(found, np.ndarray):
        raise ValueError(f"{name} is no array")
    return found


def _named(name: str, array: NDArray[Any]) -> dict[str, Signal]:
    rows, single = check_signals(array, f"array {excerpt(name)}" if name else "the array")
    if single:
        return {name or "0": rows[0]}
    return {f"{name}[{index}]" if name else str(index): row for index, row in enumerate(rows)}
