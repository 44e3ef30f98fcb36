"""A file of many columns, each asked for on its own -> their recordings, from few passes over the file.

A study that lists every column of a wide table (a channel each, or a trial) would parse it as many times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any

from ..errors import SignalError
from .channel import Options
from .formats import channels_of
from .read import Recordings, Statements, check_reading, read, reading

TOGETHER = 64  # columns that are parsed in one pass, which takes 8 bytes a cell

Result = Recordings | SignalError | MemoryError  # what `read` gives, or what it raises


def read_each(path: Path, requests: Sequence[Mapping[str, Any]], **common: Any) -> Iterator[Result]:
    """What `read` gives or raises for each of several requests, while a file of many columns is parsed but once.

    Parameters
    ----------
    requests
        Each with its own column, modality, fs, or some of them.
    common
        Arguments of `read` that all share, where a request gives nothing else.

    Raises
    ------
    ConfigError
        An unknown argument, or one that is none of its choices.

    Notes
    -----
    Up to `TOGETHER` columns are parsed at a time, which bounds memory. Where one of them is damaged, the halves are
    parsed each on its own, and so on, so that no column fails for another's sake.
    """
    asked = [{**common, **request} for request in requests]
    for each in asked:
        check_reading({name: value for name, value in each.items() if name != "root"})
    for named, some in groupby(asked, key=lambda each: isinstance(each.get("column"), str | int)):
        left = list(some)
        while left:
            yield from _together(path, left[: TOGETHER if named else 1])
            left = left[TOGETHER if named else 1 :]


def _together(path: Path, asked: list[dict[str, Any]]) -> list[Result]:
    try:
        return [read(path, **asked[0])] if len(asked) == 1 else _in_one_pass(path, asked)
    except (SignalError, MemoryError) as error:
        if len(asked) == 1:
            return [error]
    half = len(asked) // 2
    return [*_together(path, asked[:half]), *_together(path, asked[half:])]


def _in_one_pass(path: Path, asked: list[dict[str, Any]]) -> list[Result]:
    columns = list(dict.fromkeys(each["column"] for each in asked))
    options = {**asked[0], "column": columns}
    known = [field.name for field in fields(Options)]
    with reading(path):
        layout = Options(**{name: options[name] for name in known if name in options})
        channels = channels_of(path, options.get("format"), layout)
        if len(channels) != len(columns):
            raise SignalError("two names stand for one column")
    by_column = dict(zip(columns, channels, strict=True))
    found: list[Result] = []
    for each in asked:
        given = map(each.get, ("root", "fs", "modality", "on_hole", "on_jitter", "on_held"))
        stated = Statements.of(path, *given)
        try:
            with reading(path):
                found.append(stated.all_recordings([by_column[each["column"]]], Options(each["column"])))
        except SignalError as error:
            found.append(error)
    return found
