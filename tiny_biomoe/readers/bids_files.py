"""BIDS physiological recordings: a table without a header, and what its sidecars say of it.

Follows BIDS 1.11, "Physiological recordings" and "The inheritance principle" (Gorgolewski et al. 2016,
doi:10.1038/sdata.2016.44).
"""

from __future__ import annotations

import csv
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import SignalError, brief, excerpt, printable
from ..signals.validation import is_number
from .channel import Channel, Options, choose
from .columns import kind_of
from .csv_files import open_table
from .sidecars import MAX_SIDECAR
from .text_files import read_unpacked
from .timestamps import unix_time

LEVELS = 4  # a recording lies at most in dataset/subject/session/datatype
CARDIAC = {"ecg": re.compile(r"ecg|ekg|electrocardio"), "bvp": re.compile(r"pulse|pleth|ppg|oximet")}


def sidecars(path: Path) -> list[Path]:
    """The JSON files that describe a recording, those of the outermost folder first.

    A sidecar applies if all parts of its name are parts of the recording's name, in the recording's folder or in one
    above it within the dataset.
    """
    own = set(_parts(path))
    found: list[Path] = []
    for folder in [path.parent, *path.parent.parents][:LEVELS]:
        level = [
            each
            for each in sorted(folder.glob(f"*{_parts(path)[-1]}.json"))
            if each.is_file() and not each.is_symlink() and set(_parts(each)) <= own
        ]
        found = level + found
        if (folder / "dataset_description.json").is_file():
            break
    return found


def bids_parts(path: Path) -> list[Path]:
    """All that is read with a recording: its sidecars, and the tables of scans that date it."""
    return [*sidecars(path), *_scans(path)]


def looks_like_bids(path: Path, head: bytes) -> bool:
    """Whether a table has a sidecar of its name that gives a rate and columns, as BIDS has for `physio` tables."""
    if not path.name.lower().endswith((".tsv", ".tsv.gz")):
        return False
    sidecar = path.with_name(f"{path.name.partition('.')[0]}.json")
    if not sidecar.is_file():
        return False
    content = read_unpacked(sidecar, MAX_SIDECAR)
    return b'"Columns"' in content and b'"SamplingFrequency"' in content


def _parts(path: Path) -> list[str]:
    """The entities and the suffix of a name.

    >>> _parts(Path("sub-01_task-rest_physio.tsv.gz"))
    ['sub-01', 'task-rest', 'physio']
    """
    return path.name.partition(".")[0].split("_")


def read_bids(path: Path, options: Options) -> list[Channel]:
    """BIDS physio: every column that the sidecar names, at the sidecar's rate; `n/a` is a missing sample."""
    facts = _facts(path)
    names, fs = facts["Columns"], facts["SamplingFrequency"]
    table = open_table(path, Options(delimiter="\t", decimal=".", header=False, encoding=options.encoding))
    if len(table.names) != len(names):
        raise SignalError(f"the sidecar names {len(names)} columns, the rows have {len(table.names)}: mend the sidecar")
    chosen = choose(names, options.column)
    start = _start(path, facts.get("StartTime"))
    return [
        Channel(names[at], samples, _kind(names[at], about), fs, start, unit=about.get("Units"))
        for at, samples in zip(chosen, table.columns(chosen), strict=True)
        for about in [facts[names[at]] if isinstance(facts.get(names[at]), dict) else {}]
    ]


def _facts(path: Path) -> dict[str, Any]:
    """What the sidecars say, the nearer one counting more."""
    facts: dict[str, Any] = {}
    for sidecar in sidecars(path):
        try:
            content = json.loads(read_unpacked(sidecar, MAX_SIDECAR))
            facts |= content
        except (ValueError, TypeError, RecursionError) as error:
            raise SignalError(f"its sidecar {printable(sidecar.name)} cannot be read ({brief(error)})") from error
    names, fs, start = facts.get("Columns"), facts.get("SamplingFrequency"), facts.get("StartTime")
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)) or fs is None:
        raise SignalError(
            f"no sidecar says what it holds: BIDS wants Columns and SamplingFrequency in {_stem(path)}.json beside it, "
            "or in a JSON file of fewer words in a folder above"
        )
    if not is_number(fs) or fs <= 0 or (start is not None and not is_number(start)):
        raise SignalError(f"its sidecar gives SamplingFrequency {excerpt(str(fs))} and StartTime {excerpt(str(start))}")
    return facts


def start_time(path: Path) -> float:
    """When a recording began, in seconds of the scan's events: `StartTime` of its sidecar, else 0.

    Raises
    ------
    SignalError
        No sidecar says what the recording holds.
    """
    return float(_facts(path).get("StartTime") or 0.0)


def _stem(path: Path) -> str:
    return printable(path.name.partition(".")[0])


def _kind(name: str, about: dict[str, Any]) -> str | None:
    """What a column measures: `cardiac` is a pulse or an ECG, by its description."""
    if name != "cardiac":
        return "trigger" if name == "trigger" else kind_of(name)
    described = f"{about.get('Description', '')} {about.get('LongName', '')}".lower()
    found = [kind for kind, pattern in CARDIAC.items() if pattern.search(described)]
    return found[0] if len(found) == 1 else None


def _start(path: Path, start_time: float | None) -> float | None:
    """Unix seconds of the first sample, where the table of scans says when the run began."""
    run = {part for part in _parts(path)[:-1] if not part.startswith("recording-")}
    for table in _scans(path):
        lines = read_unpacked(table, MAX_SIDECAR).decode("utf-8", "replace").splitlines()
        for row in csv.DictReader(lines, delimiter="\t"):
            if set(_parts(Path(row.get("filename") or ""))[:-1]) == run and start_time is not None:
                return _moment(row.get("acq_time") or "", start_time)
    return None


def _scans(path: Path) -> list[Path]:
    """The tables of scans in a recording's folder and those above it, the nearest first."""
    folders = [path.parent, *path.parent.parents][: LEVELS - 1]
    return [table for folder in folders for table in sorted(folder.glob("*_scans.tsv"))]


def _moment(text: str, start_time: float) -> float | None:
    try:
        return unix_time(datetime.fromisoformat(text.removesuffix("Z"))) + start_time
    except ValueError:  # "n/a", or removed for privacy
        return None
