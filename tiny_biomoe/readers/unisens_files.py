"""Unisens 2 (movisens and others): `unisens.xml` describes the binary or CSV files of signals beside it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError, excerpt, printable
from .channel import Channel, Options, choose
from .columns import kind_of
from .csv_files import open_table
from .damage import bounded, damage
from .timestamps import unix_time

MAX_XML = 1 << 24  # bytes
TYPES = {
    **{f"{sign}int{bits}": f"{sign[:1]}i{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float": "f4",
    "double": "f8",
}
DTYPES = {name: code.replace("ui", "u") for name, code in TYPES.items()}


@dataclass(frozen=True)
class Entry:
    """A signal entry: one file with one or more channels at one rate."""

    file: str
    names: list[str]
    attributes: dict[str, str]
    form: str  # "bin", "csv" or another
    details: dict[str, str]

    def number(self, name: str, default: float) -> float:
        """An attribute as a number; SignalError where it is none."""
        try:
            return float(self.attributes.get(name) or default)
        except ValueError as error:
            raise SignalError(f"{self.file}: {name} is {excerpt(self.attributes[name])}, not a number") from error


def unisens_parts(path: Path) -> list[Path]:
    """The files that a `unisens.xml` describes; none where it cannot be read."""
    try:
        return [path.parent / name for each in _root(path) if Path(name := each.get("id", "")).name == name and name]
    except SignalError:
        return []


def _root(path: Path) -> ET.Element:
    with damage("Unisens"):
        if path.stat().st_size > MAX_XML:
            raise SignalError(f"unisens.xml is larger than {MAX_XML} bytes")
        return ET.parse(path).getroot()


def read_unisens(path: Path, options: Options) -> list[Channel]:
    """Unisens: every channel of every signal entry in its unit, (sample - baseline) * lsbValue.

    Events and values at irregular times are no signals.
    """
    root = _root(path)
    entries = [_entry(each) for each in root if each.tag.rpartition("}")[2] == "signalEntry"]
    if not entries:
        raise SignalError("unisens.xml describes no signalEntry: events and values only")
    try:
        start = unix_time(datetime.fromisoformat(root.get("timestampStart", "")))
    except ValueError:
        start = None
    places = [(entry, index) for entry in entries for index in range(len(entry.names))]
    chosen = [places[at] for at in choose([entry.names[index] for entry, index in places], options.column)]
    read_entries: dict[str, NDArray[np.float64] | str] = {}
    channels = []
    for entry, index in chosen:
        if entry.file not in read_entries:
            read_entries[entry.file] = _read_entry(path.parent, entry, options)
        samples = read_entries[entry.file]
        kind, unit = kind_of(entry.attributes.get("contentClass", "")), entry.attributes.get("unit")
        fs = entry.number("sampleRate", 0.0)
        if isinstance(samples, str):
            channels.append(Channel(entry.names[index], np.empty(0), kind, fs, start, unit=unit, problem=samples))
            continue
        physical = (samples[:, index] - entry.number("baseline", 0.0)) * entry.number("lsbValue", 1.0)
        channels.append(Channel(entry.names[index], physical, kind, fs, start, unit=unit))
    return channels


def _entry(node: ET.Element) -> Entry:
    children = {child.tag.rpartition("}")[2]: child for child in node}
    form = next((name.removesuffix("FileFormat") for name in children if name.endswith("FileFormat")), "")
    names = [each.get("name", "") for each in node if each.tag.rpartition("}")[2] == "channel"]
    details = dict(children[f"{form}FileFormat"].attrib) if form else {}
    file = node.get("id", "")
    stem = file.rpartition(".")[0]
    return Entry(file, [name or stem for name in names] or [stem], dict(node.attrib), form, details)


def _read_entry(folder: Path, entry: Entry, options: Options) -> NDArray[np.float64] | str:
    """The samples of an entry as they are stored, (n_samples, n_channels), or why they cannot be read."""
    path = folder / entry.file
    if not entry.file or Path(entry.file).name != entry.file or path.is_symlink() or not path.is_file():
        return f"its file {excerpt(entry.file)} does not lie beside unisens.xml: keep the files together"
    if entry.form == "csv":
        marks = entry.details.get("separator", ";"), entry.details.get("decimalSeparator", ".")
        if len(marks[0]) != 1 or marks[1] not in (".", ",") or marks[0] == marks[1]:
            return f"unisens.xml gives its separators as {excerpt(marks[0])} and {excerpt(marks[1])}: mend it"
        table = open_table(path, Options(None, marks[0], marks[1], options.encoding, header=False))
        if len(table.names) < len(entry.names):
            return f"its file {excerpt(entry.file)} has {len(table.names)} columns for {len(entry.names)} channels"
        return np.stack(table.columns(list(range(len(entry.names)))), 1)
    code = DTYPES.get(entry.attributes.get("dataType", ""))
    if entry.form != "bin" or code is None:
        kind = printable(f"{entry.attributes.get('dataType')} in {entry.form or 'unknown'} format")
        return f"its file {excerpt(entry.file)} holds {kind}, which is not read: convert it to binary"
    order = {"LITTLE": "<", "BIG": ">"}.get(entry.details.get("endianess", "LITTLE"), "<")
    dtype, size = np.dtype(f"{order}{code}"), path.stat().st_size
    if size % (dtype.itemsize * len(entry.names)):
        return f"its file {excerpt(entry.file)} ends within a sample: it was cut short, fetch it again"
    bounded(size // dtype.itemsize)
    return np.fromfile(path, dtype).reshape(-1, len(entry.names)).astype(np.float64)
