"""Embeddings as a file: CSV, NumPy archive or Parquet, each with the provenance of its rows."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..sealed_files import write

RUN = tuple("=+-@\t\r")  # how text begins that a spreadsheet runs ...
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)  # ... unless it is one


@dataclass
class Table:
    """Rows of a run, in order; a row is one window, or one whole recording."""

    sources: list[str] = field(default_factory=list)  # path of the file, relative to the folder that was read
    channels: list[str] = field(default_factory=list)  # name of the column or sensor
    starts: list[float] = field(default_factory=list)  # seconds from the recording's first sample
    stops: list[float] = field(default_factory=list)
    fs: list[float] = field(default_factory=list)  # Hz
    modality: list[str] = field(default_factory=list)
    missing: list[float] = field(default_factory=list)  # share of samples that were interpolated or padded
    flat: list[float] = field(default_factory=list)  # share of samples equal to the one before
    clipped: list[float] = field(default_factory=list)  # share of samples on the window's extremes
    embeddings: list[Any] = field(default_factory=list)  # (192,) float32 each, or of readout "rows" (1056,)
    provenance: dict[str, Any] = field(default_factory=dict)  # of each modality and rate met
    readout: str = "embedding"  # what `embeddings` are, and what their column is called

    def add(self, other: Table) -> None:
        """Append another table's rows."""
        for name, column in vars(other).items():
            if name == "provenance":
                self.provenance |= column
            elif name != "readout":
                getattr(self, name).extend(column)

    def facts(self) -> dict[str, list[Any]]:
        """The columns in front of the embedding."""
        return {
            "source": self.sources,
            "channel": self.channels,
            "start": self.starts,
            "stop": self.stops,
            "fs": self.fs,
            "modality": self.modality,
            "missing": self.missing,
            "flat": self.flat,
            "clipped": self.clipped,
        }


def write_csv(table: Table, path: Path) -> None:
    """One column a number, and provenance beside it in `<path>.json`; text that a spreadsheet would run is quoted.

    The columns are e0, e1, ..., or of readout "rows" r0, r1, ...
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    width = len(table.embeddings[0]) if table.embeddings else 0
    writer.writerow([*table.facts(), *(f"{table.readout[0]}{index}" for index in range(width))])
    for facts, vector in zip(zip(*table.facts().values(), strict=True), table.embeddings, strict=True):
        writer.writerow([neutral(facts[0]), neutral(facts[1]), *facts[2:], *map(np.format_float_positional, vector)])
    write(beside(path), (json.dumps(table.provenance, indent=2) + "\n").encode(), "")
    write(path, text.getvalue().encode("utf-8", "surrogateescape"), "")


def neutral(text: str) -> str:
    """Text that a spreadsheet shows and never runs.

    >>> neutral("=HYPERLINK(1)")
    "'=HYPERLINK(1)"
    >>> neutral("-1")
    '-1'
    """
    return "'" + text if text.startswith(RUN) and not NUMBER.fullmatch(text) else text


def write_npz(table: Table, path: Path) -> None:
    """Arrays `source`, `start`, ..., `embedding` (n, 192) or `rows` (n, 1056), and `provenance`, a JSON text."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        provenance=np.array(json.dumps(table.provenance)),
        **{table.readout: np.array(table.embeddings, np.float32)},  # type: ignore[arg-type]
        **{name: np.array(column) for name, column in table.facts().items()},  # type: ignore[arg-type]
    )
    write(path, buffer.getvalue(), "")


def write_parquet(table: Table, path: Path) -> None:
    """One fixed-size list of float32 a row; provenance under the key `tiny_biomoe` of the schema's metadata."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError('Parquet needs pyarrow: pip install "tiny-biomoe[io]"') from error
    vectors = np.array(table.embeddings, np.float32)
    flat = pa.array(vectors.reshape(-1))
    columns = {name: pa.array(column) for name, column in table.facts().items()}
    columns[table.readout] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[-1])
    buffer = io.BytesIO()
    metadata = {"tiny_biomoe": json.dumps(table.provenance)}
    parquet.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer)
    write(path, buffer.getvalue(), "")


WRITERS: dict[str, Callable[[Table, Path], None]] = {".csv": write_csv, ".npz": write_npz, ".parquet": write_parquet}


def check_output(path: Path, endings: Iterable[str] = WRITERS) -> str:
    """The ending of a file, after making sure that it is one of `endings` and that the file can be written.

    Raises
    ------
    ConfigError
        Another ending, or a folder that is missing or cannot be written to.
    """
    if path.suffix.lower() not in endings:
        raise ConfigError(f"{str(path)!r}: the output ends in one of {', '.join(endings)}")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"the folder {str(folder)!r} does not exist: create it first")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"the folder {str(folder)!r} cannot be written to: choose another output")
    return path.suffix.lower()


def check_spares(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that would replace one of the inputs: a recording may be there only once.

    Raises
    ------
    ConfigError
        Which of them.
    """
    written = [path for path in (output, beside(output)) if path.exists()]
    for path in inputs if written else ():
        if path.exists() and any(map(path.samefile, written)):
            raise ConfigError(f"{str(output)!r} would replace an input, {str(path)!r}: choose another output")


def beside(path: Path) -> Path:
    """The file that holds the provenance of a CSV file of embeddings."""
    return path.with_name(path.name + ".json")
