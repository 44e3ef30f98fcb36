"""`find`: the files below a folder that may be recordings, each recording once, and what was skipped."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConfigError, SignalError, printable, without_warnings
from ..signals.validation import Signal
from .channel import Options
from .formats import channels_of, parts_of
from .read import reading, source_name
from .text_files import read_unpacked

# Files that lie beside recordings and are none; they are reported as skipped, never passed over in silence.
NOTES = {"license", "licence", "copying", "readme", "authors", "changelog", "sources"}
NOTES |= {"records", "annotators", "sha256sums"}  # lists that PhysioNet adds
NOTE_ENDINGS = {".md", ".rst", ".pdf", ".html"}
BIDS_TABLES = ("participants", "scans", "sessions", "events", "physioevents", "channels", "electrodes", "samples")
SAME_RECORDING = (".h5", ".hdf5", ".edf")  # what OpenSignals writes beside its text
TABLES = (".csv", ".tsv", ".txt", ".parquet", ".npz", ".npy", ".h5", ".hdf5", ".mat")  # in which one table is exported
WFDB_ENDINGS = {".dat", ".atr", ".qrs", ".ari", ".ecg"}  # signals and annotations of the .hea of the same name
OPENSIGNALS = b"# OpenSignals"
E4_NOTES = re.compile(r"(tags|ibi)(_.*)?\.csv|info(_.*)?\.txt")  # event marks, beat intervals, a text of an E4


@dataclass(frozen=True)
class Skipped:
    """Something below a folder that was not opened, and why."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


@dataclass(frozen=True)
class Content:
    """What a table holds, in any order of its columns."""

    samples: object  # equal for tables of the same names, samples and times
    facts: tuple[object, ...]  # what is said of the channels beside; None where nothing is

    @property
    def known(self) -> int:
        """How much is said."""
        return sum(fact is not None for fact in self.facts)

    def adds_nothing_to(self, other: Content) -> bool:
        """Whether another one of the same samples says all that this one says."""
        return all(fact is None or fact == more for fact, more in zip(self.facts, other.facts, strict=True))


def find(
    root: str | os.PathLike[str], wanted: Callable[[Path], bool] = lambda path: True
) -> tuple[list[Path], list[Skipped]]:
    """The files below a folder that may be recordings, each recording once.

    Parameters
    ----------
    root
        A folder, or one file. Links below it are not followed, and nothing but plain files is ever opened.
    wanted
        Whether a file is to be read at all: one that is not is no reason to leave out its copy in another format.

    Returns
    -------
    paths : sorted by their path relative to `root`; what is not `wanted` is among them
    skipped : links, pipes, sockets, devices, unreadable folders, notes such as LICENSE, sidecars, the parts of a
        recording that is read through another file, and second exports of the same samples; sorted likewise

    Raises
    ------
    SignalError
        There is no such folder, or it holds no file to read.
    """
    root = Path(root)
    if root.is_file():
        return [root], []
    if not root.is_dir():
        raise SignalError(f"{printable(str(root))}: there is no such file or folder")
    files: list[Path] = []
    skipped: list[Skipped] = []
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            skipped.append(Skipped(source_name(folder, root), f"the folder cannot be opened ({error.strerror})"))
            continue
        names = {entry.name.lower() for entry in entries}
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif reason := _why_not(entry, names):
                skipped.append(Skipped(source_name(path, root), reason))
            else:
                files.append(path)
    owners = _owners(files, wanted)
    skipped += [Skipped(source_name(path, root), f"read through {printable(owners[path].name)}") for path in owners]
    files = [path for path in files if path not in owners]
    exported = _exported_twice([path for path in files if wanted(path)])
    reasons = {path: f"the same samples as {printable(first.name)}" for path, first in exported.items()}
    skipped += [Skipped(source_name(path, root), reason) for path, reason in reasons.items()]
    files = [path for path in files if path not in exported]
    if not files:
        listed = f"; skipped: {', '.join(map(str, skipped[:5]))}" if skipped else ""
        raise SignalError(f"{printable(str(root))}: the folder holds no files to read{listed}")
    return sorted(files, key=lambda path: path.relative_to(root).as_posix()), sorted(skipped, key=str)


def _owners(files: list[Path], wanted: Callable[[Path], bool]) -> dict[Path, Path]:
    """The files that are read through another one: its parts, and copies of a recording in another format."""
    known = set(files)
    owners: dict[Path, Path] = {}
    for path in sorted(files):
        if path in owners:
            continue
        for part in parts_of(path)[1:]:
            owner = owners.get(part)
            if part in known and part != path and (owner is None or owner == path):
                owners[part] = path
    for text in sorted(path for path in files if path.name.lower().endswith((".txt", ".txt.gz"))):
        copies = [other for ending in SAME_RECORDING if (other := text.with_name(stem_of(text) + ending)) in known]
        if copies and wanted(text) and read_unpacked(text, len(OPENSIGNALS)) == OPENSIGNALS:
            owners |= dict.fromkeys((copy for copy in copies if copy not in owners), text)
    for packed in (path for path in files if path.name.lower().endswith(".gz")):
        if (unpacked := packed.with_name(packed.name[:-3])) in known and wanted(unpacked):
            owners.setdefault(packed, unpacked)
    return owners


def _exported_twice(files: list[Path]) -> dict[Path, Path]:
    """Tables that another file of their folder and stem holds as well, sample by sample, and that file.

    Of several the first by name is kept that says most: what is known of a channel beside its samples, as its unit or
    the time it began, is not lost, and a table that contradicts another is no copy of it.
    """
    stems: dict[str, list[Path]] = {}
    for path in files:
        stem, ending = os.path.splitext(str(path))
        if ending.lower() == ".gz":
            stem, ending = os.path.splitext(stem)
        if ending.lower() in TABLES:
            stems.setdefault(stem, []).append(path)
    same: dict[Path, Path] = {}
    for alike in (each for each in stems.values() if len(each) > 1):
        kept: dict[object, list[tuple[Path, Content]]] = {}
        for path, found in sorted(_contents(alike), key=lambda each: (-each[1].known, each[0])):
            others = kept.setdefault(found.samples, [])
            if owner := next((other for other, more in others if found.adds_nothing_to(more)), None):
                same[path] = owner
            else:
                others.append((path, found))
    return same


def _contents(alike: list[Path]) -> Iterator[tuple[Path, Content]]:
    """What each of some tables holds; small ones first, so that notes beside one large table cost little."""
    found = 0
    for left, path in enumerate(sorted(alike, key=lambda path: (_size(path), path))):
        if not found and left == len(alike) - 1:
            return  # there is none to compare it with
        if (held := _content(path)) is not None:
            found += 1
            yield path, held


def _content(path: Path) -> Content | None:
    """Digests of a file's columns of numbers: names, samples, times; None where it cannot be read so."""
    try:
        with reading(path), without_warnings():
            channels = [each for each in channels_of(path, None, Options()) if each.samples.size]
    except (SignalError, ConfigError):  # which is met again, and reported, when the file is read
        return None
    if not channels:
        return None
    clocks = {id(each.clock): each.clock for each in channels if each.clock and each.clock.step is None}
    times = {key: (each.unit, _digest(each.times)) for key, each in clocks.items()}
    found = [((each.name, _digest(each.samples), each.fs or 0.0), each) for each in channels]
    found.sort(key=lambda each: each[0])
    return Content(
        tuple((key, times.get(id(each.clock))) for key, each in found),
        tuple(fact for _, each in found for fact in (each.kind, each.unit or None, each.start)),
    )


def _digest(values: Signal) -> bytes:
    """Equal for equal numbers; missing ones at the end, which fill up a table, do not count."""
    there = np.flatnonzero(~np.isnan(values))
    kept = values[: there[-1] + 1 if there.size else 0] + 0.0  # -0 is 0
    kept[np.isnan(kept)] = np.nan
    return hashlib.sha256(kept.tobytes()).digest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # which is met again when the file is read
        return 0


def stem_of(path: Path) -> str:
    """A file's name without its ending, .gz and the one before it."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return os.path.splitext(name)[0]


def _why_not(entry: os.DirEntry[str], beside: set[str]) -> str | None:
    """Why a directory entry is not to be read; None if it is."""
    if entry.is_symlink():
        return "a symbolic link, which is not followed"
    if not entry.is_file(follow_symlinks=False):
        return "a pipe, socket or device, which is not opened"
    name = entry.name.lower()
    stem, ending = os.path.splitext(name)
    if name.startswith((".", "~$")):
        return "hidden, or left by a program that had another file open"
    if stem in NOTES or ending in NOTE_ENDINGS or ending.removeprefix(".") in NOTES:
        return "a note by its name, not a recording"
    if ending in WFDB_ENDINGS and f"{stem}.hea" in beside:
        return f"read through {printable(os.path.splitext(entry.name)[0])}.hea"
    if ending == ".json":
        of = printable(os.path.splitext(entry.name)[0])
        return f"notes of {of}, not samples" if stem in beside else "notes beside recordings, not samples"
    if re.fullmatch(rf"(.*_)?({'|'.join(BIDS_TABLES)})\.tsv(\.gz)?", name):
        return "a table of the data set, not samples"
    if E4_NOTES.fullmatch(name) and beside & {"bvp.csv", "eda.csv"}:
        return "events or notes of an Empatica E4, not samples"
    return None
