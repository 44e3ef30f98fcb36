"""What a run will compute, settled before it begins: files with their hashes, in groups, and the order within.

A run must give the same bytes however often it is killed, and 10^7 windows must not need more memory than 10^4. So:

- The inputs are sorted, and those of one file stand together, so that it is read once (see `segments`).
- Successive files form a group, closed after `GROUP_FILES` files or `GROUP_BYTES` bytes. A group is the piece of work
  that one process does from front to back, and what a cluster spreads. It depends on names and sizes alone.
- The windows of a group, in order, are cut into shards of `shard_windows` windows: shard g-p holds the windows from
  p * shard_windows on, less those that cannot be drawn. How many shards a group has shows when it is read.
- A shard records where the next one begins (file, and number of windows of it before), so a resumed run reads only the
  files that it still needs.
- Whether a file is still the one that the run began with is decided by its hash, taken for all files at every start.
  One that has changed counts as failed, and its group is computed anew without it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..readers.formats import parts_of
from ..sealed_files import plain_json, sha256_of
from .study_table import Input, Study

GROUP_FILES = 1024
GROUP_BYTES = 1 << 26
HASHERS = 4  # threads; hashing waits for the disk more than it computes


@dataclass(frozen=True)
class File:
    """One file and what is wanted of it."""

    inputs: tuple[Input, ...]
    first: int  # number of the first of them among all inputs
    size: int  # bytes when the run began; 0 where it was missing
    sha256: str | None  # of its content when the run began
    problem: str | None = None  # why it is not read at all
    state: tuple[Any, ...] = field(default=(), compare=False)  # of the file when it was hashed by this process

    @property
    def path(self) -> Path:
        """Where the file lies."""
        return self.inputs[0].path

    @property
    def source(self) -> str:
        """What the file is called in every result."""
        return self.inputs[0].source

    def record(self) -> list[Any]:
        """The file as plain values, as a plan stores it."""
        return [self.size, self.sha256, [list(each.facts()) for each in self.inputs]]


@dataclass(frozen=True)
class Group:
    """Successive files that one process turns into shards."""

    number: int
    files: tuple[File, ...]

    def digest(self) -> str:
        """What the group's shards are made from."""
        return hashlib.sha256(plain_json([[each.record(), each.problem] for each in self.files])).hexdigest()


def state_of(path: Path) -> tuple[Any, ...]:
    """Sizes and times of the last change of an input, as a quick sign that it is still the same."""
    facts = [part.stat() for part in parts_of(path)]
    return tuple((each.st_size, each.st_mtime_ns) for each in facts)


def scan(study: Study, seen: Callable[[int], None] = lambda size: None) -> list[File]:
    """The files of a study, each hashed; `seen` is called with the size of each in turn."""
    by_path = [tuple(inputs) for _, inputs in groupby(study.inputs, key=lambda each: each.path)]
    files, first = [], 0
    with ThreadPoolExecutor(HASHERS) as pool:
        found = pool.map(_look, (inputs[0].path for inputs in by_path))
        for inputs, (size, digest, problem, state) in zip(by_path, found, strict=True):
            files.append(File(inputs, first, size, digest, problem, state))
            first += len(inputs)
            seen(size)
    return files


def _look(path: Path) -> tuple[int, str | None, str | None, tuple[Any, ...]]:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return 0, None, "not a plain file, which alone is opened", ()
        parts, state = parts_of(path), state_of(path)
        return sum(part[0] for part in state), sha256_of(*parts), None, state
    except FileNotFoundError:
        return 0, None, "there is no such file", ()
    except OSError as error:
        return 0, None, f"the file cannot be read ({error.strerror})", ()


def continued(files: Sequence[File], stored: Sequence[Any]) -> list[File]:
    """The files of a plan that was stored when the run began, as they are now.

    A file that has changed since, or is gone, has a problem that says so. It keeps its place.

    Raises
    ------
    ConfigError
        Something is asked for that the run did not begin with, or no longer asked for although it is there.
    """
    now = {str(each.record()[2]): each for each in files}
    known = {str(record[2]) for record in stored}
    if more := [each for key, each in now.items() if key not in known]:
        raise ConfigError(
            f"{len(more)} inputs are not those that the run in this folder began with, the first {more[0].source}: "
            "embed them into another folder, or delete this one to begin anew"
        )
    root = root_of(files)
    missing = [facts[0][0] for _, _, facts in stored if str(facts) not in now]
    if left := [source for source in missing if (root / source).exists()]:
        raise ConfigError(
            f"{len(left)} inputs of the run in this folder are not asked for any more although they are there, the "
            f"first {left[0]}: ask for all of them again, or choose another folder"
        )
    plan, first = [], 0
    for size, digest, facts in stored:
        found = now.get(str(facts))
        if found is None:
            inputs = tuple(_restored(each) for each in facts)
            file = File(inputs, first, size, digest, "the file was removed since the run began")
        elif found.sha256 != digest:
            problem = found.problem or "the file changed"
            file = replace(found, first=first, size=size, sha256=digest, problem=f"{problem} since the run began")
        else:
            file = replace(found, first=first, size=size)
        plan.append(file)
        first += len(facts)
    return plan


def root_of(files: Sequence[File]) -> Path:
    """The folder that the names of a study are relative to, from the first file whose path shows it."""
    paths = ((each.path.as_posix(), each.source) for each in files)
    return next((Path(path.removesuffix(name)) for path, name in paths if path.endswith(f"/{name}")), Path())


def _restored(facts: list[Any]) -> Input:
    source, column, modality, fs, start, stop, subject, label, *further = facts
    return Input(source, Path(source), column, modality, fs, start, stop, subject, label, tuple(further))


def groups(files: Sequence[File]) -> Iterator[Group]:
    """Successive files in groups of bounded number and size."""
    held: list[File] = []
    number, size = 0, 0
    for file in files:
        if held and (len(held) >= GROUP_FILES or size + file.size > GROUP_BYTES):
            yield Group(number, tuple(held))
            number, held, size = number + 1, [], 0
        held.append(file)
        size += file.size
    if held:
        yield Group(number, tuple(held))
