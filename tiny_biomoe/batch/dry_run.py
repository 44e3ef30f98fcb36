"""What a dry run reports, and every run before it begins: what becomes of each input, in one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import listed
from .plan import Group
from .shards import RUN, chain
from .study_changes import Seen, seen_in

SHOWN = 3  # inputs that went, by name


@dataclass(frozen=True)
class Outlook:
    """Numbers of inputs."""

    done: int = 0  # embedded or skipped before, and not to be done again
    interrupted: int = 0  # of an earlier start that did not come to them
    failed: int = 0  # before; they are tried again
    changed: int = 0
    new: int = 0
    skipped: int = 0  # no recordings
    gone: tuple[str, ...] = ()  # names of the inputs whose rows are removed

    @property
    def first(self) -> bool:
        """Whether nothing came before."""
        return not (self.done or self.interrupted or self.failed or self.changed or self.gone)

    def table(self) -> str:
        """The outlook as text for a terminal."""
        names = listed(self.gone, SHOWN, " ...")
        rows = [
            ("inputs", self.done + self.interrupted + self.failed + self.changed + self.new + self.skipped, ""),
            ("  done before", self.done, "embedded or skipped; their vectors are kept"),
            ("  interrupted", self.interrupted, "not reached before, embedded"),
            ("  failed before", self.failed, "tried again"),
            ("  changed", self.changed, "embedded anew"),
            ("  new", self.new, "embedded"),
            ("  no recording", self.skipped, "skipped"),
            ("  gone", len(self.gone), f"not counted; their rows are removed: {names}"),
        ]
        lines = [f"{name:<18}{count:>12}  {note}" for name, count, note in rows if count]
        return "\n".join(line.rstrip() for line in lines)


def look(
    out: Path, groups: Iterable[Group], skipped: int, run: str, earlier: Sequence[Any], aside: Mapping[str, Seen]
) -> Outlook:
    """What will become of the inputs of a study.

    Parameters
    ----------
    groups
        Of the study as it is now.
    skipped
        Inputs of it that belong to none, for they are no recordings.
    run
        Digest of the run's settings.
    earlier
        Records of the files (`plan.File.record`) with which the run in the folder began; none in a new one.
    aside
        What shards of groups hold that are none any more.
    """
    hashes: dict[tuple[Any, ...], Any] = {}
    for _, sha256, inputs in earlier:
        for facts in inputs:
            hashes[tuple(facts[:6])] = sha256
    counts: Counter[str] = Counter()
    now: set[tuple[Any, ...]] = set()
    for group in groups:
        seen = {**aside, **seen_in(chain(out, group.digest, run), out / RUN)}
        for file in group.files:
            for place, each in enumerate(file.inputs):
                asked = each.reading()
                now.add(asked)
                if file.key in seen:
                    counts["failed" if place in seen[file.key].failed else "done"] += 1
                elif asked not in hashes:
                    counts["new"] += 1
                else:
                    counts["interrupted" if hashes[asked] == file.sha256 else "changed"] += 1
    gone = dict.fromkeys(str(asked[0]) for asked in hashes if asked not in now)
    return Outlook(**counts, skipped=skipped, gone=tuple(gone))
