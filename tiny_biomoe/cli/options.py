"""What several commands ask for: how files are read, and what an image spans."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..signals.filters import MODALITIES
from ..signals.validation import NAN_POLICIES

if TYPE_CHECKING:
    from ..readers.read import Recordings


class Scale(click.ParamType):  # type: ignore[type-arg]
    """`window`, `recording`, or LOW,HIGH in the signal's units."""

    name = "window|recording|LOW,HIGH"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value in ("window", "recording"):
            return value
        return _pair(self, value, param, ctx)


class Band(click.ParamType):  # type: ignore[type-arg]
    """`modality`, `none`, or LOW,HIGH in Hz."""

    name = "modality|none|LOW,HIGH"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value in ("modality", "none", None):
            return None if value == "none" else value
        return _pair(self, value, param, ctx)


def _pair(kind: Any, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
    try:
        low, high = map(float, value.split(","))
    except ValueError:
        kind.fail(f"{value!r} is none of {kind.name}", param, ctx)
    return low, high


CHOICES = ", ".join(MODALITIES)
Command = TypeVar("Command", bound=Callable[..., Any])


def once(ctx: Any, param: Any, values: tuple[str, ...]) -> str | None:
    """The value of an option that may be given once: of two, none may be dropped in silence."""
    if len(values) > 1:
        raise click.BadParameter(f"given {len(values)} times, and one is meant", ctx, param)
    return values[0] if values else None


def one_or_list(ctx: Any, param: Any, values: tuple[str, ...]) -> str | list[str] | None:
    """The value of an option that may be repeated: None, the one, or a list."""
    return values[0] if len(values) == 1 else list(values) or None


READING_OPTIONS = [
    click.option("--fs", type=float, help="Sampling rate in Hz, where the files do not hold it."),
    click.option(
        "--modality",
        multiple=True,
        callback=once,
        help=f"One of {CHOICES}, where no file says it; where some do, a study table has a column of it.",
    ),
    click.option(
        "--column",
        multiple=True,
        callback=one_or_list,
        help="Name or 0-based number of the column to read, repeatable; all of them otherwise.",
    ),
    click.option("--format", help="Layout of the files, where their content does not show it."),
    click.option("--delimiter", help="What stands between two cells, where the content leaves a doubt."),
    click.option("--decimal", type=click.Choice([".", ","]), help="Decimal mark, where the content leaves a doubt."),
    click.option("--encoding", default="utf-8", show_default=True, help="Of text files."),
    click.option("--header/--no-header", default=None, help="Whether the first row holds names."),
    click.option("--time-column", help='Name or number of the column of times; "" reads without times.'),
    click.option(
        "--on-hole",
        type=click.Choice(["error", "split", "nan"]),
        default="error",
        help="Rows missing in time: nan loses the windows that they touch.",
    ),
    click.option("--on-jitter", type=click.Choice(["error", "resample"]), default="error", help="Uneven times."),
    click.option(
        "--on-held",
        type=click.Choice(["warn", "reduce"]),
        default="warn",
        help="A slow sensor exported at a higher rate, each value repeated: reduce reads it at its own.",
    ),
]
READING = [
    "fs",
    "modality",
    "column",
    "format",
    "delimiter",
    "decimal",
    "encoding",
    "header",
    "time_column",
    "on_hole",
    "on_jitter",
    "on_held",
]
IMAGE_OPTIONS = [
    click.option("--band", type=Band(), default="modality", show_default=True, help="Filter, in Hz."),
    click.option("--scale", type=Scale(), default="window", show_default=True, help="What an image spans."),
]
MISSING_OPTIONS = [
    click.option("--nan-policy", type=click.Choice(NAN_POLICIES), default="error", help="What to do with empty cells."),
    click.option("--max-gap", type=float, default=1.0, show_default=True, help="Longest gap to fill, in seconds."),
    click.option(
        "--max-missing", type=float, default=1.0, show_default=True,
        help="Share of a window that may be missing, 0 to 1.",
    ),
]  # fmt: skip
PATTERN_OPTIONS = [
    click.option("--include", multiple=True, help="Pattern of the inputs to take, e.g. '*_EDA.csv'; repeatable."),
    click.option("--exclude", multiple=True, help="Pattern of the inputs to leave out; repeatable."),
]
PATTERNS = ("include", "exclude")


def options(*groups: list[Any]) -> Callable[[Command], Command]:
    """Give a command the options of several groups."""

    def decorate(command: Command) -> Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def read_file(path: Path, root: Path, reading: dict[str, Any]) -> Recordings:
    """The recordings of a file; the packages that read files are imported when they are first needed."""
    from ..readers.read import read

    return read(path, root=root, **reading)
