"""A study file -> stretches of signal with labels and people, ready to be drawn as samples.

Each recording is filtered whole and cut afterwards. A row is a sample, or as many as windows fit into it; of several
modalities, the rows of one person that share their label, start and stop (or a cell that `join` names) are one sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..batch.study_table import Input, Study
from ..config import Recipe
from ..errors import ConfigError, SignalError, unknown
from ..readers.formats import read
from ..readers.recording import excerpt, printable
from ..signals.filters import MODALITY_BAND, NOTHING_LEFT
from ..signals.request import Call
from ..signals.validation import Signal, cut, windows
from .sample_images import Window

SCALES = ("window", "recording")
FILES_KEPT = 16  # recordings that stay filtered in memory for the rows that follow


@dataclass(frozen=True)
class Cutting:
    """How recordings become windows; a classifier keeps it, so that what it is asked is cut as what it learnt from."""

    window: float | None = None  # seconds; the whole stretch from start to stop otherwise
    stride: float | None = None  # seconds; the window otherwise
    scale: str = "window"  # what an image spans: the "window" itself, or the "recording" (1st to 99th percentile)
    band: Any = MODALITY_BAND
    nan_policy: str = "error"
    max_gap: float = 1.0  # seconds

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise unknown("scale", self.scale, SCALES)
        if self.stride is not None and self.window is None:
            raise ConfigError("stride (--stride) needs window (--window): both are seconds")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `Cutting(**values)` reads them."""
        return asdict(self)


@dataclass
class Stretches:
    """What `cut_study` gives, one item a sample."""

    windows: list[dict[str, Window]] = field(default_factory=list)  # by modality
    labels: list[str | None] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)  # the first, of several modalities
    sources: list[str] = field(default_factory=list)  # the file and its seconds, as errors name a sample
    starts: list[float] = field(default_factory=list)  # seconds from the recording's first sample
    stops: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class _Channel:
    filtered: Signal
    fs: float  # Hz
    limits: tuple[float, float] | None
    noise: float


def cut_study(
    study: Study,
    modalities: Iterable[str] | None,
    recipe: Recipe,
    cutting: Cutting = Cutting(),
    *,
    label: str = "label",
    group: str = "subject",
    join: str | None = None,
    labelled: bool = True,
) -> tuple[Stretches, list[str]]:
    """Read, filter and cut the files of a study.

    Parameters
    ----------
    modalities : that are wanted; None for all that the files hold
    label, group, join : columns of the study that hold the class, the person, and what the rows of one sample share
    labelled : whether each row must have a label and a person, as training demands

    Returns
    -------
    stretches, and a line for each file that could not be used

    Raises
    ------
    ConfigError
        A column is missing, a row lacks its label or person, or two rows of one sample are of one modality.
    """
    wanted = None if modalities is None else set(modalities)
    channels = lru_cache(maxsize=FILES_KEPT)(lambda key: _channels(key, recipe, cutting))
    found, failures = Stretches(), []
    for rows in _grouped(study, wanted, label, group, join, labelled):
        name, subject = rows[0].source, _cell(study, rows[0], group, labelled) or rows[0].source
        try:
            held: dict[str, tuple[_Channel, Input]] = {}
            for row in rows:
                for modality, channel in channels((row.path, row.column, row.modality, row.fs, row.source)).items():
                    if modality in held:
                        raise ConfigError(
                            f"{name}: two recordings of {modality} are of {printable(subject)} at the same time: name "
                            "the column whose cells rows of one sample share, join= (--join; path: each file alone), "
                            "or choose one channel by column"
                        )
                    if wanted is None or modality in wanted:
                        held[modality] = channel, row
            if not held:
                raise SignalError(f"{name}: holds none of {sorted(wanted or [])}, or does not say what it measures")
            _add(found, held, cutting, name, subject, _cell(study, rows[0], label, labelled))
        except SignalError as error:
            failures.append(str(error))
    return found, failures


def _grouped(
    study: Study, wanted: set[str] | None, label: str, group: str, join: str | None, labelled: bool
) -> list[list[Input]]:
    """The rows of each sample: of one modality each row is one, of several those that belong together."""
    rows = [row for row in study.inputs if wanted is None or row.modality is None or row.modality in wanted]
    if not rows:
        held = sorted({str(row.modality) for row in study.inputs})
        raise ConfigError(f"the study has no recording of {sorted(wanted or [])}, only of {held}: choose among those")
    told = {row.modality for row in rows}
    one = len(wanted or told) == 1 and None not in (wanted or told)
    groups: dict[tuple[Any, ...], list[Input]] = {}
    for number, row in enumerate(rows):
        of_whom = _cell(study, row, group, labelled), _cell(study, row, label, labelled)
        if join is not None:
            key: tuple[Any, ...] = (*of_whom, _cell(study, row, join, True))
        elif one:
            key = (number,)
        else:
            key = (*of_whom, row.start, row.stop)
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _cell(study: Study, row: Input, name: str, needed: bool) -> str | None:
    """What a row of the study says in a column."""
    known = {"subject": row.subject, "label": row.label, "path": row.source, "modality": row.modality}
    if name not in known and name not in study.further and needed:
        raise unknown("column", name, ["subject", "label", *study.further])
    value = {**dict(zip(study.further, row.further, strict=True)), **known}.get(name)
    if not value and needed:
        raise ConfigError(f"{row.source}: the row has no {excerpt(name)}: fill it, or name another column for it")
    return value or None


def _channels(
    key: tuple[Path, str | None, str | None, float | None, str], recipe: Recipe, cutting: Cutting
) -> Mapping[str, _Channel]:
    """The filtered recordings of a file, by modality."""
    path, column, modality, fs, name = key
    found: dict[str, _Channel] = {}
    for recording in read(path, fs=fs, modality=modality, column=column):
        if recording.modality is None:
            continue
        if recording.modality in found:
            raise SignalError(f"{name}: holds several channels of {recording.modality}: choose one, column (--column)")
        call = Call.check(
            recipe, recording.fs, recording.modality, band=cutting.band, scale=cutting.scale,
            nan_policy=cutting.nan_policy, max_gap=cutting.max_gap, windowed=True,
        )  # fmt: skip
        filtered, _ = call.prepare(recording.signal, name)
        noise = NOTHING_LEFT * float(filtered.max() - filtered.min())
        found[recording.modality] = _Channel(filtered, call.fs, call.window_limits(filtered), noise)
    return found


def _add(
    found: Stretches,
    held: dict[str, tuple[_Channel, Input]],
    cutting: Cutting,
    name: str,
    subject: str,
    label: str | None,
) -> None:
    """The windows of one sample; those that all its modalities have, counted from the start of its stretch."""
    columns: dict[str, list[Window]] = {}
    spans: list[tuple[float, float]] = []
    for modality, (channel, row) in held.items():
        start = row.start or 0.0
        stop = channel.filtered.size / channel.fs if row.stop is None else row.stop
        first, last = round(start * channel.fs), round(stop * channel.fs)
        if first >= last or last > channel.filtered.size:
            raise SignalError(
                f"{row.source}: {start:g} to {stop:g} s do not lie in the recording, which lasts "
                f"{channel.filtered.size / channel.fs:g} s: correct the study's start and stop"
            )
        part = channel.filtered[first:last]
        length = part.size / channel.fs if cutting.window is None else cutting.window
        try:
            places = windows(part.size, channel.fs, length, cutting.stride)
        except SignalError as error:
            raise SignalError(f"{row.source}: {error}") from error
        pieces = cut(part, places)
        columns[modality] = [Window(p, channel.fs, channel.limits, True, channel.noise) for p in pieces]
        spans = spans or [(start + a / channel.fs, start + b / channel.fs) for a, b in places]
    for index in range(min(map(len, columns.values()))):
        begin, end = spans[index]
        found.windows.append({modality: column[index] for modality, column in columns.items()})
        found.labels.append(label)
        found.subjects.append(subject)
        found.files.append(name)
        found.sources.append(f"{name}, {begin:g}-{end:g} s")
        found.starts.append(begin)
        found.stops.append(end)
