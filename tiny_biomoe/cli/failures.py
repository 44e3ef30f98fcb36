"""What was not embedded, for a terminal: failures that are alike are one line, with their number and where they lie."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

VARIES = re.compile(r"'[^']*'|[-+]?\d[\d.,]*(?:[eE][-+]?\d+)?")  # what differs between two reasons that are one
SPAN = re.compile(r"(\d[\d.]*(?:e[-+]\d+)?)-(\d[\d.]*(?:e[-+]\d+)?) s,? ")  # how the reason of a window begins


@dataclass(frozen=True)
class Failure:
    """Something that has no vector, or a doubtful one: a file, a channel or a window."""

    source: str
    reason: str
    outcome: str = "failed"  # or "skipped", or "warned"
    channel: str | None = None
    start: float | None = None  # seconds
    stop: float | None = None

    def placed(self) -> Failure:
        """The same without the times that its reason begins with."""
        span = SPAN.match(self.reason)
        if span is None:
            return self
        start = float(span[1]) if self.start is None else self.start
        return replace(self, reason=self.reason[span.end() :], start=start, stop=float(span[2]))


def alike(failures: Iterable[Failure], by_file: bool = False) -> list[tuple[Failure, str, str]]:
    """Groups of failures that differ in numbers and quoted names alone, in the order of their first.

    Parameters
    ----------
    by_file : whether those of two files are never one group

    Returns
    -------
    list of the first of a group, the files that it stands for, and the channels and times: "32 channels, EMG0 to
    EMG31", "12 windows, 100-220 s"; empty where there is nothing to say

    Examples
    --------
    >>> windows = [Failure("a.csv", f"is flat: all 40 samples are {n}", "failed", "EDA", n, n + 10) for n in (0, 10)]
    >>> [(files, where) for _, files, where in alike(windows)]
    [('a.csv', 'EDA, 2 windows, 0-20 s')]
    """
    groups: dict[tuple[str, ...], list[Failure]] = {}
    for each in map(Failure.placed, failures):
        windowed = "window" if each.start is not None else ""
        key = (each.outcome, VARIES.sub("#", each.reason), windowed, each.source if by_file else "")
        groups.setdefault(key, []).append(each)
    return [(_first(group), *_where(group)) for group in groups.values()]


def _first(group: list[Failure]) -> Failure:
    """The first of a group, whose reason says so where the numbers of the others differ."""
    same = all(each.reason == group[0].reason for each in group)
    return group[0] if same else replace(group[0], reason=f"{group[0].reason} (so the first; others alike)")


def _where(group: list[Failure]) -> tuple[str, str]:
    files = list(dict.fromkeys(each.source for each in group))
    channels = list(dict.fromkeys(each.channel for each in group if each.channel))
    spans = [(each.start, each.stop) for each in group if each.start is not None and each.stop is not None]
    named = [channels[0]] if len(channels) == 1 else _range(channels, "channels") if len(files) == 1 else []
    if len(files) == 1 and spans and len(group) > 1:
        named.append(f"{len(group)} windows, {min(start for start, _ in spans):g}-{max(stop for _, stop in spans):g} s")
    elif len(group) == 1:
        named += [f"{start:g}-{stop:g} s" for start, stop in spans]
    elif spans:
        named.append(f"{len(group)} windows")
    return ", ".join([files[0]] if len(files) == 1 else _range(files, "files")), ", ".join(named)


def _range(names: list[str], what: str) -> list[str]:
    return [f"{len(names)} {what}, {names[0]} to {names[-1]}"] if names else []


def lines(failures: Iterable[Failure]) -> list[str]:
    """One line a group.

    >>> lines([Failure(f"s{n}.csv", "the file is empty") for n in range(37)])
    ['37 files, s0.csv to s36.csv: the file is empty']
    """
    found: list[str] = []
    for first, files, where in alike(failures):
        embedded = "embedded, but " if first.outcome == "warned" else ""
        found.append(f"{', '.join(filter(None, [files, where]))}: {embedded}{first.reason}")
    return found
