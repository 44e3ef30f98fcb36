"""Cells of the columns that a study carries along: text in its table, values of one type in its embeddings."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..signals.filters import modality_name
from .labels import is_missing

if TYPE_CHECKING:
    import pyarrow as pa

EXACT = 2**53  # up to which float64 holds every whole number
WHOLE = re.compile(r"0|-?[1-9]\d*", re.ASCII)  # 007 is a name
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


def _is_whole(cell: str) -> bool:
    return bool(WHOLE.fullmatch(cell)) and len(cell) < 21 and -(2**63) <= int(cell) < 2**63


def _is_double(cell: str) -> bool:
    """Whether a number is one of float64: finite, and no digit of a whole one is lost."""
    if not NUMBER.fullmatch(cell) or not math.isfinite(float(cell)):
        return False
    return not WHOLE.fullmatch(cell) or (len(cell) < 18 and abs(int(cell)) <= EXACT)


TYPES: dict[str, Callable[[str], bool]] = {  # the first that holds all filled cells as they are
    "int64": _is_whole,
    "double": _is_double,
    "bool": lambda cell: cell.lower() in ("true", "false"),
    "string": lambda cell: True,
}


def type_of(cells: Iterable[str]) -> str:
    """The type of a column by its cells: whole numbers, numbers, true or false, or text.

    >>> type_of(["31", "n/a", "29"]), type_of(["31", "29.5"]), type_of(["007", "31"]), type_of(["", ""])
    ('int64', 'double', 'string', 'string')
    >>> type_of(["18446744073709551615"]), type_of(["9007199254740993", "0.5"])  # which no number here holds
    ('string', 'string')
    """
    filled = {cell for cell in cells if not is_missing(cell)}
    return next((name for name, holds in TYPES.items() if filled and all(map(holds, filled))), "string")


def text_of(value: Any) -> str:
    """A value as a study file has it: empty where it is missing, whole numbers without a point.

    >>> text_of(31.0), text_of(1e20), text_of(None), text_of(True)
    ('31', '1e+20', '', 'True')
    """
    if value is None or is_missing(value):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return str(int(value))
    return str(value).strip()


def typed(texts: Sequence[str], kind: str) -> pa.Array:
    """Cells of a column as values of its type, null where they are missing."""
    import pyarrow as pa

    return pa.array([None if is_missing(text) else text for text in texts], pa.string()).cast(kind)


def wanted(values: Iterable[Any], kind: pa.DataType, name: str) -> pa.Array:
    """The values that are asked for of a column, as one of its type holds them; None and NaN are an empty cell.

    Text stands for the number that it spells. A number that the type cannot hold is in no cell, and left out.

    Raises
    ------
    ConfigError
        A value that is none of the type, as "soon" of numbers.
    """
    import pyarrow as pa

    found: list[str | None] = []
    for value in values:
        if value is None or (not isinstance(value, str) and is_missing(value)):
            found.append(None)
        elif name == "modality":
            found.append(modality_name(value))
        elif pa.types.is_string(kind):
            found.append(value if isinstance(value, str) else text_of(value))
        else:
            found += _spelt(text_of(value), str(kind), f"{name}={value!r}: the column holds {kind}")
    return pa.array(found, pa.string()).cast(kind)


def _spelt(cell: str, kind: str, wrong: str) -> list[str]:
    """How a column of a type spells a cell; nothing where it cannot hold it, though it is a number as well."""
    if TYPES[kind](cell):
        return [cell]
    if kind == "bool" or not NUMBER.fullmatch(cell):
        raise ConfigError(wrong)
    whole = kind == "int64" and _is_double(cell) and float(cell).is_integer()  # 31.0, as text
    return [str(int(float(cell)))] if whole and abs(float(cell)) < 2**63 else []
