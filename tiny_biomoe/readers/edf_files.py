"""EDF, BDF and their + forms; the edfio package decodes the samples, and what it passes over in silence is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError, brief, need
from .channel import Channel, Clock, Options, choose
from .damage import damage
from .timestamps import unix_time

need("edfio")


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
        width = 3 if format_name == "BDF" else 2
        head = _EuropeanHeader.of(path)
        if head.records == -1:  # a recorder that was not closed: counted from the size
            warnings.filterwarnings("ignore", message=r".*(header indicates -1 data records|Incomplete data record)")
        if head.duration == 0 and head.has_signals:
            raise SignalError("its data records last 0 s, so it holds no sampling rate: export it with a duration")
        file = load(path, header_encoding="latin-1")  # the standard says ASCII, the world writes µV
        parted = not (head.continuous and file.is_continuous) and options.time_column != ""
        onsets = head.onsets(path, width) if parted else None
        chosen = [file.signals[index] for index in choose([each.label for each in file.signals], options.column)]
        start = _european_start(file)
        return [_european_channel(each, start, onsets, head.duration) for each in chosen]


def _european_channel(signal: Any, start: float | None, onsets: NDArray[np.float64] | None, duration: float) -> Channel:
    """One signal in physical units; edfio gives digital values without a word where its limits say nothing."""
    problem, samples = None, np.empty(0)
    try:
        limits = [float(value) for value in (*signal.physical_range, *signal.digital_range)]
    except ValueError as error:
        problem = f"its physical or digital limits cannot be read ({brief(error)})"
    else:
        if not np.isfinite(limits).all() or limits[0] == limits[1] or limits[2] >= limits[3]:
            low, high, lowest, highest = limits
            problem = f"its limits are no scale: physical {low:g} to {high:g}, digital {lowest:g} to {highest:g}"
    if problem is None:
        samples = np.asarray(signal.data, np.float64)
    else:
        problem += "; export the file again with calibrated signals, or leave this one out"
    unit, fs, clock = signal.physical_dimension, signal.sampling_frequency, None
    if onsets is not None and samples.size:
        within = np.arange(samples.size // onsets.size) / fs
        clock = Clock("records", np.add.outer(onsets, within).ravel())
    return Channel(signal.label, samples, None, fs, start, clock, unit=unit, problem=problem)


@dataclass(frozen=True)
class _EuropeanHeader:
    """What the fixed fields of an EDF or BDF header say of its data records."""

    size: int  # bytes of the header
    records: int
    duration: float  # seconds
    continuous: bool  # says that it is: EDF+C, or plain EDF
    labels: list[str]
    lengths: list[int]  # samples a record

    @property
    def has_signals(self) -> bool:
        return any(not label.endswith("Annotations") for label in self.labels)

    @classmethod
    def of(cls, path: Path) -> _EuropeanHeader:
        """Read from the beginning of a file."""
        with path.open("rb") as file:
            head = file.read(256)
            n_signals = int(head[252:256])
            fields = file.read(256 * n_signals)
        labels = [fields[16 * index : 16 * index + 16].decode("latin-1").strip() for index in range(n_signals)]
        at = 216 * n_signals
        lengths = [int(fields[at + 8 * index : at + 8 * index + 8]) for index in range(n_signals)]
        continuous = b"+D" not in head[192:236]
        return cls(int(head[184:192]), int(head[236:244]), float(head[244:252]), continuous, labels, lengths)

    def onsets(self, path: Path, width: int) -> NDArray[np.float64] | None:
        """When each record of a file began, in seconds; None where they follow on each other but for rounding."""
        at = next((index for index, label in enumerate(self.labels) if label.endswith("Annotations")), None)
        if at is None:
            raise SignalError("it does not say when each of its records began (+D): export it as continuous, +C")
        whole = np.memmap(path, np.uint8, "r", self.size)
        record = sum(self.lengths) * width
        begin = sum(self.lengths[:at]) * width
        rows = whole[: whole.size // record * record].reshape(-1, record)[:, begin : begin + self.lengths[at] * width]
        onsets = np.array([float(bytes(row).split(b"\x14", 1)[0]) for row in rows])
        fastest = max(
            length for length, label in zip(self.lengths, self.labels, strict=True) if label != self.labels[at]
        )
        steps = onsets - onsets[0] - np.arange(onsets.size) * self.duration
        return None if np.abs(steps).max() < 0.5 * self.duration / max(fastest, 1) else onsets


def _european_start(file: Any) -> float | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two dates that differ: the one of EDF+ counts
        try:
            return unix_time(datetime.combine(file.startdate, file.starttime))
        except ValueError:  # no such day, or left out to protect the person
            return None
