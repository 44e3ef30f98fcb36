"""What a run will compute, settled before it begins: files with their hashes, in groups, and the order within.

What is on the disk in the end depends on the inputs and the settings alone, not on how the run came there, and 10^7
windows must not need more memory than 10^4. So:

- The inputs are sorted, and those of one file stand together, so that it is read once (see `segments`).
- Successive files form a group, the piece of work that one process does from front to back, and what a cluster spreads.
  Where a group ends is decided by the name and size of its last file (`_ends`), or by `GROUP_FILES` and `GROUP_BYTES`:
  an input that comes, changes or goes moves no border but those beside it.
- A group is called by the digest of its files, their hashes included. One whose files are still the same is found under
  its name; any other is put together anew, and takes the windows of files that did not change from the shards before it
  (see `study_changes`).
- The windows of a group, in order, are cut into shards of `shard_windows` windows: shard g-p holds the windows from
  p * shard_windows on, less those that cannot be drawn. How many shards a group has shows when it is read.
- A shard records where the next one begins (file, and number of windows of it before), so a resumed run reads only the
  files that it still needs.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from ..readers.formats import parts_of
from ..readers.read import state_of
from ..sealed_files import plain_json, sha256_of
from .study_changes import Kept
from .study_table import Input, Study

GROUP_FILES = 2048  # at most; half as many on average, and half the bytes
GROUP_BYTES = 1 << 26
HASHERS = 4  # threads; hashing waits for the disk more than it computes


@dataclass(frozen=True)
class File:
    """One file and what is wanted of it."""

    inputs: tuple[Input, ...]
    first: int  # number of the first of them among all inputs of its group, or of the study where it has none
    size: int  # bytes; 0 where it is missing
    sha256: str | None  # of its content
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

    @cached_property
    def key(self) -> str:
        """A digest of all that its windows and vectors depend on: content, and what is read of it."""
        asked = [[*each.reading(), each.within] for each in self.inputs]
        return _digest([self.size, self.sha256, self.problem, asked])[:32]

    def record(self) -> list[Any]:
        """The file as plain values, as a plan stores it."""
        return [self.size, self.sha256, [list(each.facts()) for each in self.inputs]]


@dataclass(frozen=True)
class Group:
    """Successive files that one process turns into shards."""

    digest: str  # of the files, their content, and the columns that are carried along
    first: int  # number of its first input among all inputs of the study
    files: tuple[File, ...]
    kept: Mapping[str, Kept] = field(default_factory=dict, compare=False)  # windows of earlier shards, by `File.key`


def _digest(value: Any) -> str:
    return hashlib.sha256(plain_json(value)).hexdigest()


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
        parts = parts_of(path)
        state = state_of(parts)
        return sum(part[0] for part in state), sha256_of(*parts), None, state
    except FileNotFoundError:
        return 0, None, "there is no such file", ()
    except OSError as error:
        return 0, None, f"the file cannot be read ({error.strerror})", ()


def root_of(files: Sequence[File]) -> Path:
    """The folder that the names of a study are relative to, from the first file whose path shows it."""
    paths = ((each.path.as_posix(), each.source) for each in files)
    return next((Path(path.removesuffix(name)) for path, name in paths if path.endswith(f"/{name}")), Path())


def groups(files: Sequence[File], further: Sequence[tuple[str, str]] = ()) -> Iterator[Group]:
    """Successive files in groups of bounded number and size; `further` are the columns carried along, with types."""
    held: list[File] = []
    size = 0
    for file in files:
        if held and (len(held) >= GROUP_FILES or size + file.size > GROUP_BYTES):
            yield _group(held, further)
            held, size = [], 0
        held.append(file)
        size += file.size
        if _ends(file):
            yield _group(held, further)
            held, size = [], 0
    if held:
        yield _group(held, further)


def _ends(file: File) -> bool:
    """Whether a group ends with a file: by a hash of its name, and the more likely the larger it is."""
    drawn = int.from_bytes(hashlib.sha256(file.source.encode()).digest()[:8], "little") / 2**64  # in [0, 1)
    return drawn < 2 / GROUP_FILES + file.size / (GROUP_BYTES / 2)


def _group(files: Sequence[File], further: Sequence[tuple[str, str]]) -> Group:
    first = files[0].first
    known = [[*each.record(), each.problem, [asked.within for asked in each.inputs]] for each in files]
    digest = _digest([list(further), known])
    return Group(digest, first, tuple(replace(each, first=each.first - first) for each in files))
