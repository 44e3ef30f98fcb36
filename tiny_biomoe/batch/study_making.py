"""A folder of recordings, the names of its files and its files of events -> a study table."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import ConfigError, SignalError, counted, excerpt, listed, printable
from ..readers.bids_files import looks_like_bids, start_time
from ..readers.text_files import read_lines
from ..signals.validation import is_number
from .labels import is_missing
from .study_table import TAKEN, cells_of, delimiter_of, fits, open_study

STARTS = ("start", "onset", "begin", "start_time", "onset_s", "start_s")
STOPS = ("stop", "end", "stop_time", "end_time", "offset", "stop_s", "end_s")
LENGTHS = ("duration", "length", "duration_s")
LABELS = ("label", "trial_type", "condition", "event", "stimulus", "class", "task", "phase", "marker")
LATEST = 1e8  # seconds; a start beyond it is a date, not a time in a recording
ABOVE = 6  # folders above a recording in which its events are looked for


@dataclass(frozen=True)
class StudyRows:
    """A study table, and what was left out of it."""

    columns: tuple[str, ...]
    rows: list[dict[str, str]]  # of text, as a study file has it
    notes: list[str] = field(default_factory=list)  # one line a kind, with a count and the first names

    def text(self, folder: Path | None = None) -> str:
        """The table as CSV, with paths relative to the folder that it will lie in."""
        lines: list[list[str]] = [list(self.columns)]
        for row in self.rows:
            path = Path(row["path"])
            named = path.as_posix() if folder is None else _relative(path, folder)
            lines.append([named, *(row[name] for name in self.columns[1:])])
        return "".join(_line(cells) for cells in lines)


def study_rows(
    folder: str | os.PathLike[str],
    subject: str | None = None,
    *,
    events: str | None = None,
    label: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> StudyRows:
    """List the recordings below a folder, whose they are, and where in them something happened.

    Parameters
    ----------
    folder
        It is searched as `embed_study` searches it.
    subject
        A regular expression that is searched in each path below the folder: its first group is the person, or the
        whole match where it has none. Named groups become columns: r"sub-(?P<subject>\\d+)_ses-(?P<session>\\d+)".
    events
        A pattern of the files of events, such as "*_events.csv" or "events.tsv". Such a file lists stretches of the
        recordings beside and below it whose names, or folders, begin with its own (`S01_events.csv`), or of all of
        them (`events.csv`): columns start (or onset) and stop (or duration), in seconds from the first sample, and a
        label. BIDS `events.tsv` is read as it is: onsets count from
        the scan, and the sidecar says when the recording began.
    label
        Column of the labels in the files of events; otherwise the first of label, trial_type, condition, event ...
    include, exclude
        Patterns of recordings, as in `embed_study`.

    Returns
    -------
    StudyRows
        `rows` is what `embed_study` takes, `pandas.DataFrame(found.rows)` as well; `notes` say what was left out.

    Raises
    ------
    ConfigError
        An expression that is none, or that is in no path; a file of events without the columns; no recording at all.
    SignalError
        The folder holds nothing to read, or a row of a file of events is damaged.
    """
    root = Path(folder)
    if not root.is_dir():
        raise SignalError(f"{printable(str(root))}: there is no such folder")
    pattern = _compiled(subject)
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()] if events else []
    marked = [path for path in sorted(files) if events and fits(path.relative_to(root).as_posix(), [events])]
    if events and not marked:
        raise ConfigError(f"events={events!r}: no file below {printable(str(root))} has such a name")
    study = open_study(root, include, exclude)
    known = set(marked)
    study = replace(study, inputs=[each for each in study.inputs if each.path not in known])
    if not study.inputs:
        raise SignalError(f"{printable(str(root))}: the folder holds no recordings beside its files of events")
    named = tuple(name for name in (pattern.groupindex if pattern else ()) if name != "subject")
    if taken := [name for name in named if name in TAKEN - {"label", "modality"}]:
        raise ConfigError(f"subject= (--subject): '{subject}': a group cannot be called {taken[0]!r}")
    if pattern is not None and not any(pattern.search(each.source) for each in study.inputs):
        shown = ", ".join([each.source for each in study.inputs[:3]])
        raise ConfigError(
            f"subject= (--subject): '{subject}' is in no path below {printable(str(root))}, such as {shown}: change "
            "the expression, or leave it out"
        )
    spans = {path: list(_events(path, label)) for path in marked}
    rows: list[dict[str, str]] = []
    nobody: list[str] = []
    silent: list[str] = []
    points = sum(1 for found in spans.values() for each in found if each is None)
    used: set[Path] = set()
    early = repeated = 0
    for each in study.inputs:
        about = {"path": str(each.path), **dict.fromkeys(("subject", *named), "")}
        if pattern is not None and (match := pattern.search(each.source)):
            about |= _groups(match)
        elif pattern is not None:
            nobody.append(each.source)
        if not events:
            rows.append(about)
            continue
        moved = _moved(each.path)
        own = _events_of(each.path, root, marked, events)
        used.update(own)
        found = [span for path in own for span in spans[path] if span]
        once = dict.fromkeys(found)
        if not found:
            silent.append(each.source)
        early += sum(span.stop <= moved for span in found)
        repeated += len(found) - len(once)
        rows += [{**about, **span.cells(moved)} for span in once if span.stop > moved]
    notes = [
        _note(nobody, f"kept without a person, for '{subject}' is not in the path"),
        _note(silent, "left out, for want of events"),
        _unused([path.name for path in marked if path not in used]) if silent else "",
        f"{counted(points, 'event')} left out, for want of a length" if points else "",
        f"{counted(early, 'event')} left out, ended before the recording began" if early else "",
        f"{counted(repeated, 'event')} listed twice, and taken once" if repeated else "",
        _unlabelled(marked) if rows and events and not any(row["label"] for row in rows) else "",
    ]
    if not rows:
        raise ConfigError("; ".join(note for note in notes if note) or "no event lies within a recording")
    columns = ["path", "subject", *named, *(("start", "stop") if events else ())]
    if events and "label" not in columns:
        columns.append("label")
    return StudyRows(tuple(columns), rows, [note for note in notes if note])


@dataclass(frozen=True)
class _Span:
    """One event, in seconds."""

    start: float
    stop: float
    label: str

    def cells(self, moved: float) -> dict[str, str]:
        """Its cells in a study; `moved` is when the recording began."""
        times = {"start": max(self.start - moved, 0.0), "stop": self.stop - moved}
        return {**{name: f"{value:.10g}" for name, value in times.items()}, "label": self.label}


def _groups(match: re.Match[str]) -> dict[str, str]:
    """The cells that an expression found in a path: those of its named groups, and the person."""
    found = {name: text or "" for name, text in match.groupdict().items()}
    unnamed = match.re.groups and 1 not in match.re.groupindex.values()
    return {"subject": match[1 if unnamed else 0], **found}


def _compiled(expression: str | None) -> re.Pattern[str] | None:
    try:
        return None if expression is None else re.compile(expression)
    except re.error as error:
        raise ConfigError(
            f"subject= (--subject): '{expression}' is no regular expression ({error}): e.g. 'sub-(\\d+)' finds 01 "
            "in sub-01_eda.csv"
        ) from error


def _events(path: Path, label: str | None) -> Iterator[_Span | None]:
    """The events of a file; None for each that has no length."""
    where = printable(str(path))
    try:
        names, rows, first = _table(path)
        start, stop, length = (_first(names, among) for among in (STARTS, STOPS, LENGTHS))
        labelled = _first(names, LABELS if label is None else (label.lower(),))
        if start is None or (stop is None and length is None):
            raise ConfigError(
                f"its columns are {', '.join(map(excerpt, names))}: start (or onset) and stop (or duration) are "
                "needed, in seconds from the first sample"
            )
        if labelled is None and label is not None:
            raise ConfigError(f"it has no column {label!r}: choose from {', '.join(map(excerpt, names))}")
        for number, cells in enumerate(rows, first):
            if len(cells) != len(names):
                raise SignalError(f"row {number}: {len(cells)} cells under {len(names)} names")
            row = dict(zip(names, cells, strict=True))
            text = row[labelled] if labelled is not None else ""
            yield _span(row, start, stop, length, "" if is_missing(text) else text, number)
    except (SignalError, ConfigError) as error:
        raise type(error)(f"{where}: {error}") from error
    except OSError as error:
        raise SignalError(f"{where}: the file of events cannot be read ({error.strerror})") from error


def _table(path: Path) -> tuple[list[str], Iterator[list[str]], int]:
    """Of a file of events: names of its columns in lower case, the cells of its rows, the number of the first row."""
    comments, body = read_lines(path)
    header, *lines = body.decode().split("\n")
    delimiter = delimiter_of(header)
    names = [name.lower() for name in cells_of(header, delimiter)]
    return names, (cells_of(line, delimiter) for line in lines), len(comments) + 2


def _span(
    row: Mapping[str, str], start: str, stop: str | None, length: str | None, label: str, number: int
) -> _Span | None:
    began = _seconds(row[start], start, number)
    ended = None if stop is None else _seconds(row[stop], stop, number)
    if ended is None and length is not None and began is not None:
        lasting = _seconds(row[length], length, number)
        ended = None if lasting is None else began + lasting
    if began is None or ended is None or ended == began:
        return None
    if ended < began:
        raise SignalError(f"row {number}: it stops at {ended:g} s, before it starts at {began:g} s")
    return _Span(began, ended, label)


def _seconds(cell: str, name: str, number: int) -> float | None:
    if is_missing(cell):
        return None
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not is_number(value) or abs(value) > LATEST:
        raise SignalError(
            f"row {number}: {name} {excerpt(cell)} is no number of seconds from the first sample of a recording: "
            "subtract the recording's start from dates and unix times"
        )
    return value


def _first(names: Sequence[str], among: Sequence[str]) -> str | None:
    return next((name for name in among if name in names), None)


def _events_of(path: Path, root: Path, marked: Sequence[Path], pattern: str) -> list[Path]:
    """The files of events that belong to a recording: the nearest that fit it, in its folder or above."""
    folders = [path.parent, *path.parent.parents][:ABOVE]
    parts = re.split(r"[_.]", path.name)
    above = path.relative_to(root).parent.parts
    suffix = pattern.rpartition("/")[2].rpartition("*")[2]
    for folder in folders:
        fitting: list[tuple[int, Path]] = []
        for each in marked:
            if each.parent != folder:
                continue
            stem = each.name.removesuffix(suffix).rstrip("_-. ")
            if stem == each.name or "*" not in pattern:
                stem = ""
            inherited = set(stem.split("_")) <= {*parts, *above}  # as in BIDS, or the name of a folder
            if not stem or inherited or re.match(rf"{re.escape(stem)}(?![a-zA-Z0-9])", path.name):
                fitting.append((len(stem), each))
        if fitting:
            most = max(length for length, _ in fitting)
            return [each for length, each in fitting if length == most]
        if folder == root:
            break
    return []


def _moved(path: Path) -> float:
    """When a BIDS recording began, in seconds of its events; 0 of any other."""
    return start_time(path) if looks_like_bids(path, b"") else 0.0


def _note(names: list[str], what: str) -> str:
    return f"{counted(len(names), 'recording')} {what} ({listed(names, 3)})" if names else ""


def _unlabelled(marked: Sequence[Path]) -> str:
    columns = ", ".join(map(excerpt, _table(marked[0])[0]))
    return f"no row has a label: {printable(marked[0].name)} has the columns {columns}, and label= (--label) names one"


def _unused(names: list[str]) -> str:
    if not names:
        return ""
    return (
        f"{counted(len(names), 'file')} of events without a recording of that name ({listed(names, 3)}): a name begins "
        "as the recording or its folder does, or says events alone, for all recordings beside and below"
    )


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _line(cells: Sequence[str]) -> str:
    """One line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
