"""Classes of errors and warnings; their texts stand where they are raised. How names and lists are written in them."""

from __future__ import annotations

import difflib
import importlib.util
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

THROUGH = (__name__.partition(".")[0], "sklearn", "torch", "contextlib")
PLACES = 3  # that a warning names of many


class TinyBioMoEError(Exception):
    """Base of every error the library raises on purpose."""


class SignalError(TinyBioMoEError, ValueError):
    """A signal, its sampling rate, or the file it came from cannot be used."""


class WeightsError(TinyBioMoEError, ValueError):
    """Weights are missing, damaged, of another architecture, or unsafe to read."""


class ConfigError(TinyBioMoEError, ValueError):
    """An argument or a configuration value is not one the library knows."""


class SignalTypeError(SignalError, TypeError):
    """A signal is of a kind that has no real-valued samples (complex, text, object, masked)."""


def unknown(kind: str, value: object, choices: Iterable[str]) -> ConfigError:
    """The error for a name that is none of `choices`, with the nearest one suggested.

    >>> print(unknown("modality", "edaa", ["bvp", "eda"]))
    unknown modality 'edaa': choose from 'bvp', 'eda' (did you mean 'eda'?)
    """
    names = list(choices)
    near = difflib.get_close_matches(str(value).lower(), names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return ConfigError(f"unknown {kind} {value!r}: choose from {', '.join(map(repr, names))}{hint}")


def printable(text: str) -> str:
    r"""Text that a terminal only shows: control characters and undecodable bytes escaped, one to one.

    >>> print(printable("\x1b[2Ja.csv"))
    \x1b[2Ja.csv
    """
    return "".join(c if c.isprintable() and c != "\\" else repr(c)[1:-1] for c in text)


def excerpt(text: str) -> str:
    """A bounded piece of a file, for a message."""
    return repr(text if len(text) <= 40 else text[:40] + "...")


def brief(error: BaseException) -> str:
    """What another library says, bounded: some of them quote the whole file."""
    return printable(f"{type(error).__name__}: {error}"[:200])


def listed(texts: Iterable[str], most: int, more: str = " and {} more", joint: str = ", ") -> str:
    """Texts in a row, no more than `most`, and how many there are besides.

    >>> listed(["EDA", "BVP", "ECG"], 2)
    'EDA, BVP and 1 more'
    """
    every = list(texts)
    return joint.join(every[:most]) + (more.format(len(every) - most) if len(every) > most else "")


def counted(count: int, noun: str, nouns: str = "", width: int = 0) -> str:
    """A number, as wide as asked, with its noun, whose plural has an s more or is given.

    >>> counted(1, "recording"), counted(2, "recording"), counted(0, "person", "people")
    ('1 recording', '2 recordings', '0 people')
    """
    return f"{count:>{width}} {noun if count == 1 else nouns or noun + 's'}"


class SignalWarning(UserWarning):
    """A signal can be used, but part of it is doubtful (clipped, interpolated, flat)."""


def warn(message: str, where: str = "") -> None:
    """A `SignalWarning` that names the caller's line: the first outside this package and those that call it.

    where : what the message is about, by which `one_warning_a_kind` lists repeated ones
    """
    frame, level = sys._getframe(1), 2
    if (held := _HELD.get()) is not None:
        kind = held.setdefault((frame.f_code.co_filename, frame.f_lineno), _Repeated(message))
        kind.count += 1
        if where and len(kind.places) < PLACES:
            kind.places[where] = None
        return
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in THROUGH:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, SignalWarning, stacklevel=level)


@dataclass
class _Repeated:
    """A kind of warning, while it is counted."""

    message: str  # the first
    count: int = 0
    places: dict[str, None] = field(default_factory=dict)  # the first that differ


_HELD: ContextVar[dict[tuple[str, int], _Repeated] | None] = ContextVar("warnings", default=None)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Leave out the warnings of this library: what is done within is done again, and they come then."""
    token = _HELD.set({})
    try:
        yield
    finally:
        _HELD.reset(token)


@contextmanager
def one_warning_a_kind() -> Iterator[None]:
    """Let repeated warnings of one kind be one, with their number and the first places; it comes at the end."""
    if _HELD.get() is not None:
        yield
        return
    token = _HELD.set({})
    try:
        yield
    finally:
        held = _HELD.get() or {}
        _HELD.reset(token)
        for kind in held.values():
            others = list(kind.places)[1:]
            more = f"{': ' if others else ''}{', '.join(others)}{' ...' if others and kind.count > PLACES else ''}"
            warn(kind.message if kind.count == 1 else f"{kind.message} (and {kind.count - 1} more like this{more})")


class MissingExtra(ConfigError, ImportError):
    """A package of an extra, such as `[io]`, is not installed."""


class MissingReader(SignalError, MissingExtra):
    """A file cannot be read, for the package that reads it is not installed."""


def need(*packages: str, extra: str = "io", what: str = "reading files") -> None:
    """Refuse to go on where a package of an extra is missing; finding one costs less than importing it."""
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise MissingExtra(f'{what} needs {", ".join(missing)}: pip install "tiny-biomoe[{extra}]"')
