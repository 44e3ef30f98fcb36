"""A study -> stretches of signal with labels and people, ready to be drawn as samples.

Each recording is filtered whole and cut afterwards. A row is a sample, or as many as windows fit into it; of several
modalities, the rows of one person that share their label, start and stop (or a cell that `join` names) are one sample.
Their recordings are aligned by their clocks where all files hold one; otherwise they are taken to begin together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..batch.labels import check_people, is_missing
from ..batch.study_table import Input, Study
from ..config import Recipe
from ..errors import ConfigError, SignalError, excerpt, one_warning_a_kind, printable, unknown
from ..images.windows import FilteredRecording
from ..readers.read import Recording, check_reading, read
from ..readers.timestamps import LOSE
from ..signals.request import Call
from ..signals.validation import windows
from .drawing import Drawing, Window

FILES_KEPT = 16  # recordings that stay filtered in memory for the rows that follow


@dataclass(frozen=True)
class Cutting:
    """How recordings become windows; a classifier keeps it, so that what it is asked is cut as what it learnt from."""

    window: float | None = None  # seconds; the whole stretch from start to stop otherwise
    stride: float | None = None  # seconds; the window otherwise
    columns: Mapping[str, list[str]] = field(default_factory=dict)  # by modality: channels that were learnt from
    reading: Mapping[str, Any] = field(default_factory=dict)  # arguments of `recordings.read`

    def __post_init__(self) -> None:
        if self.stride is not None and self.window is None:
            raise ConfigError("stride (--stride) needs window (--window): both are seconds")
        check_reading(self.reading)

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
    recordings: list[str] = field(default_factory=list)  # the row of the study that each was cut from
    channels: dict[str, list[str]] = field(default_factory=dict)  # that were read, by modality
    notes: list[str] = field(default_factory=list)  # what was left out by option


class _Channel(NamedTuple):
    """One filtered recording of a file."""

    source: Recording  # without its samples
    recording: FilteredRecording


Held = dict[str, tuple[_Channel, Input]]  # of one sample, by modality


@dataclass(frozen=True)
class _Columns:
    """Which columns of a study hold what."""

    study: Study
    label: str
    group: str
    join: str | None
    labelled: bool

    def cell(self, row: Input, name: str, needed: bool) -> str | None:
        """A row's cell in a column; None where it is empty."""
        known = {"subject": row.subject, "label": row.label, "path": row.source, "modality": row.modality}
        if name not in known and name not in self.study.further and needed:
            raise unknown("column", name, ["subject", "label", *self.study.further])
        value = {**dict(zip(self.study.further, row.further, strict=True)), **known}.get(name)
        if is_missing(value) and needed:
            raise ConfigError(f"{row.source}: the row has no {excerpt(name)}: fill it, or name another column for it")
        return None if value is None or is_missing(value) else value.strip()


@one_warning_a_kind()
def cut_study(
    study: Study,
    modalities: Iterable[str] | None,
    recipe: Recipe,
    cutting: Cutting = Cutting(),
    drawing: Drawing = Drawing(),
    *,
    label: str = "label",
    group: str = "subject",
    join: str | None = None,
    labelled: bool = True,
    unlabelled: str = "error",
    missing: str = "error",
) -> tuple[Stretches, list[str]]:
    """Read, filter and cut the files of a study.

    Parameters
    ----------
    modalities : that are wanted; None for all that the files hold
    drawing : filter, scale, and what to do with missing samples
    label, group, join : columns of the study that hold the class, the person, and what the rows of one sample share
    labelled : whether each row must have a label and a person, as training demands
    unlabelled : "error", or "drop" rows without a label, with a line that counts them
    missing : "error", or "mask" the modality of a sample whose file cannot be used, where it has others

    Returns
    -------
    stretches, and a line for each file that could not be used

    Raises
    ------
    ConfigError
        A column is missing, a row lacks its label or person, or two rows of one sample are of one modality.
    """
    wanted = None if modalities is None else set(modalities)
    columns = _Columns(study, label, group, join, labelled)
    rows, notes = _labelled_rows(columns, wanted, unlabelled)
    on_hole = cutting.reading.get("on_hole", "error")
    filtered = lru_cache(maxsize=FILES_KEPT)(lambda key: _filtered(key, recipe, cutting, drawing))
    found, failures = Stretches(notes=notes), []
    for sample, subject in _grouped(columns, rows, wanted):
        name = sample[0].source
        held: Held = {}
        try:
            for row in sample:
                try:
                    channels = _wanted(
                        filtered((row.path, row.column, row.modality, row.fs, row.source)), row, wanted, on_hole
                    )
                except SignalError as error:
                    if missing == "error" or len(sample) == 1:
                        raise _at_fault(error, row, sample) from error
                    found.notes.append(f"{_named(error, row)} (the sample's other modalities are used)")
                    continue
                for modality, channel in channels.items():
                    if modality in held:
                        raise ConfigError(
                            f"{name}: two recordings of {modality} are of {printable(subject)} at the same time: name "
                            "the column whose cells rows of one sample share, join= (--join; path: each file alone), "
                            "or choose one channel by column"
                        )
                    held[modality] = channel, row
                    seen = found.channels.setdefault(modality, [])
                    seen += [channel.source.channel] if channel.source.channel not in seen else []
            if not held:
                raise SignalError(f"{name}: holds none of {sorted(wanted or [])}, or does not say what it measures")
            failures += _add(found, held, cutting, name, subject, columns.cell(sample[0], label, labelled))
        except SignalError as error:
            failures.append(str(error))
    return found, failures


def _named(error: SignalError, row: Input) -> str:
    """An error that names the row's file."""
    return str(error) if row.source in str(error) else f"{row.source}: {error}"


def _at_fault(error: SignalError, row: Input, sample: list[Input]) -> SignalError:
    """The error of one file of a sample, which costs the others as well."""
    if len(sample) == 1:
        return SignalError(_named(error, row))
    others = ", ".join(each.source for each in sample if each is not row)
    return SignalError(
        f"{_named(error, row)} (the sample is joined with {others}, which are used without it by "
        'missing="mask" (--missing mask))'
    )


def _labelled_rows(columns: _Columns, wanted: set[str] | None, unlabelled: str) -> tuple[list[Input], list[str]]:
    """The rows of the modalities that are wanted; where labels are needed, those that have one."""
    inputs = columns.study.inputs
    rows = [row for row in inputs if wanted is None or row.modality is None or row.modality in wanted]
    if not rows:
        held = sorted({str(row.modality) for row in inputs})
        raise ConfigError(f"the study has no recording of {sorted(wanted or [])}, only of {held}: choose among those")
    if not columns.labelled:
        return rows, []
    bare = []
    for row in rows:
        try:
            columns.cell(row, columns.label, True)
        except ConfigError:
            if columns.label not in ("subject", "label", "path", "modality", *columns.study.further):
                raise
            bare.append(row)
    if bare and (unlabelled == "error" or len(bare) == len(rows)):
        raise ConfigError(
            f"{bare[0].source}: the row has no {excerpt(columns.label)}, one of {len(bare)} of {len(rows)} rows: fill "
            "them, name another column, or leave them out (--unlabelled drop)"
        )
    lines = [f"{len(bare)} of {len(rows)} rows, which have no {excerpt(columns.label)}"] if bare else []
    left_out = set(map(id, bare))
    return [row for row in rows if id(row) not in left_out], lines


def _grouped(columns: _Columns, rows: list[Input], wanted: set[str] | None) -> list[tuple[list[Input], str]]:
    """The rows of each sample, and whose it is: of one modality each row, of several those that belong together."""
    named = [columns.cell(row, columns.group, columns.labelled) for row in rows]
    people = iter(check_people([name for name in named if name is not None], sum(name is not None for name in named)))
    subjects = [row.source if name is None else next(people) for row, name in zip(rows, named, strict=True)]
    stated = {row.modality for row in rows}
    one = len(wanted or stated) == 1 and None not in (wanted or stated)
    groups: dict[tuple[Any, ...], tuple[list[Input], str]] = {}
    for number, (row, subject, name) in enumerate(zip(rows, subjects, named, strict=True)):
        of_whom = None if name is None else subject, columns.cell(row, columns.label, columns.labelled)
        if columns.join is not None:
            key: tuple[Any, ...] = (*of_whom, columns.cell(row, columns.join, True))
        elif one:
            key = (number,)
        else:
            key = (*of_whom, row.start, row.stop)
        groups.setdefault(key, ([], subject))[0].append(row)
    return list(groups.values())


def _wanted(channels: Mapping[str, _Channel], row: Input, wanted: set[str] | None, on_hole: str) -> dict[str, _Channel]:
    """The channels of a file that a row asks for; a hole where the row lies is an error unless `on_hole` allows it."""
    found = {modality: each for modality, each in channels.items() if wanted is None or modality in wanted}
    if on_hole == "error":
        for each in found.values():
            each.source.check_whole(row.start or 0.0, math.inf if row.stop is None else row.stop, LOSE)
    return found


def _filtered(
    key: tuple[Path, str | None, str | None, float | None, str], recipe: Recipe, cutting: Cutting, drawing: Drawing
) -> Mapping[str, _Channel]:
    """The filtered recordings of a file, by modality; rows that are missing in it cost the windows that touch them."""
    path, column, modality, fs, name = key
    given = {k: v for k, v in (("column", column), ("modality", modality), ("fs", fs)) if v}
    reading = {**cutting.reading, **given, "on_hole": "nan"}
    kept: dict[str, list[Recording]] = {}
    for recording in read(path, **reading):
        if recording.modality is not None:
            kept.setdefault(recording.modality, []).append(recording)
    found: dict[str, _Channel] = {}
    for kind, several in kept.items():
        learnt = [each for each in several if each.channel in cutting.columns.get(kind, ())]
        chosen = learnt if len(several) > 1 and len(learnt) == 1 else several
        if len(chosen) > 1:
            names = ", ".join(printable(each.channel) for each in chosen)
            raise SignalError(f"{name}: holds several channels of {kind} ({names}): choose one, column (--column)")
        call = Call.check(
            recipe, chosen[0].fs, kind, band=drawing.band, scale=drawing.scale, nan_policy=drawing.nan_policy,
            max_gap=drawing.max_gap, windowed=True,
        )  # fmt: skip
        filtered = FilteredRecording.by_window(chosen[0].signal, call, name)  # a gap costs the windows that it touches
        found[kind] = _Channel(replace(chosen[0], signal=np.empty(0)), filtered)
    return found


def _add(found: Stretches, held: Held, cutting: Cutting, name: str, subject: str, label: str | None) -> list[str]:
    """The windows of one sample; those that all its modalities have, counted from the start of its stretch."""
    stretches = _aligned(held)
    spans = {m: _spans(held[m][0].recording, stretches[m], held[m][1].source, cutting) for m in held}
    first, row = next(iter(held.values()))
    rate = first.recording.call.fs
    stop = "end" if row.stop is None else f"{row.stop:g} s"
    stretch = f", {row.start or 0:g}-{stop}" if row.is_stretch else ""
    failures = []
    for places in zip(*spans.values(), strict=False):
        begin, end = places[0][0] / rate, places[0][1] / rate
        try:
            windows = {m: _window(held[m][0].recording, place) for m, place in zip(held, places, strict=True)}
        except SignalError as error:
            failures.append(str(error))
            continue
        found.windows.append(windows)
        found.labels.append(label)
        found.subjects.append(subject)
        found.files.append(name)
        found.sources.append(f"{name}, {begin:g}-{end:g} s")
        found.starts.append(begin)
        found.stops.append(end)
        found.recordings.append(f"{name}{stretch}")
    return failures


def _aligned(held: Held) -> dict[str, tuple[float, float]]:
    """The stretch of each modality, in seconds of its own recording: what all have at the same time by their clocks."""
    own = {}
    for modality, (channel, row) in held.items():
        length = channel.recording.filtered.size / channel.recording.call.fs
        begin, end = row.start or 0.0, length if row.stop is None else row.stop
        if begin >= end or round((end - length) * channel.recording.call.fs) > 0:
            raise SignalError(
                f"{row.source}: {begin:g} to {end:g} s do not lie in the recording, which lasts {length:g} s: correct "
                "the study's start and stop"
            )
        own[modality] = begin, end
    clocks = {
        modality: channel.source.start for modality, (channel, _) in held.items() if channel.source.start is not None
    }
    if len(clocks) < len(held) or len(held) == 1:
        return own
    begin = max(clocks[m] + own[m][0] for m in held)
    end = min(clocks[m] + own[m][1] for m in held)
    if begin >= end:
        names = ", ".join(row.source for _, row in held.values())
        raise SignalError(
            f"{names}: by their clocks they have no time in common: join others, or correct start and stop"
        )
    return {m: (begin - clocks[m], end - clocks[m]) for m in held}


def _spans(
    recording: FilteredRecording, stretch: tuple[float, float], name: str, cutting: Cutting
) -> list[tuple[int, int]]:
    """Where the windows of a stretch lie in its recording, in samples."""
    fs = recording.call.fs
    first, last = round(stretch[0] * fs), min(round(stretch[1] * fs), recording.filtered.size)
    length = max(1, last - first) / fs if cutting.window is None else cutting.window
    try:
        return [(first + a, first + b) for a, b in windows(last - first, fs, length, cutting.stride)]
    except SignalError as error:
        raise SignalError(f"{name}: {error}") from error


def _window(recording: FilteredRecording, span: tuple[int, int]) -> Window:
    name, part = recording.window(span)
    if not part.size:
        raise SignalError(name)
    share = recording.quality(span).missing
    return Window(part, recording.call.fs, recording.limits, True, recording.noise, share)


def restored(kept: Mapping[str, Any], drawing: Drawing | None) -> tuple[Cutting, Drawing]:
    """What a classifier's description says of cutting; before its format 2 that held the options of drawing too."""
    values = dict(kept)
    options = {name: values.pop(name) for name in ("band", "scale", "nan_policy", "max_gap") if name in values}
    return Cutting(**values), drawing or Drawing(**options)


def remembering(cutting: Cutting, stretches: Stretches) -> Cutting:
    """With the channels that were learnt from, by which a file of several is read in prediction."""
    return replace(cutting, columns=stretches.channels)
