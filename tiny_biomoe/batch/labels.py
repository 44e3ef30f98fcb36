"""What a label is, who a person is, and in which order classes stand: the one place that decides it.

Everything here reads sequences by position, so a pandas Series is taken as it stands whatever its index is.
"""

from __future__ import annotations

import math
import numbers
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, listed, unknown, warn

Label = str | int | float | bool
UNLABELLED = ("keep", "drop", "error")  # what becomes of samples without a label
MISSING_TEXT = {"", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null"}  # in any case; and "None", as Python writes it


def by_position(given: Iterable[Any], n: int, name: str) -> list[Any]:
    """The items of a sequence in the order in which they stand, NumPy's numbers as Python's own.

    Raises
    ------
    ConfigError
        There are not `n` of them, or a text was given where one item a sample is meant.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigError(f"{name}={given!r}: give a sequence with one item for each of the {n} samples")
    items = [item.item() if isinstance(item, np.generic) else item for item in given]
    if len(items) != n:
        raise ConfigError(f"there are {n} samples and {len(items)} {name}: give one for each")
    return items


def is_missing(value: Any) -> bool:
    """Whether a label or a person is not known: None, NaN, NA, NaT, or a text that stands for one of them.

    >>> [is_missing(value) for value in (None, float("nan"), " n/a", "NA", "none", 0)]
    [True, True, True, True, False, False]
    """
    if isinstance(value, str):
        return value.strip().casefold() in MISSING_TEXT or value.strip() == "None"
    if isinstance(value, numbers.Real):
        return bool(value != value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def check_labels(given: Iterable[Any], n: int) -> list[Label | None]:
    """Labels as plain values of one kind, None where one is missing; text without the space around it.

    Raises
    ------
    ConfigError
        Labels of different kinds (1 and "1"), of a kind that is none, or text that differs in spelling
        alone, as "Calm" and "calm" or "1" and "1.0" do.
    """
    labels: list[Label | None] = [_label(value, at) for at, value in enumerate(by_position(given, n, "labels"))]
    kinds: dict[str, Label] = {}
    for label in labels:
        if label is not None:
            kinds.setdefault(_kind(label), label)
    if len(kinds) > 1:
        shown = ", ".join(f"{label!r} ({kind})" for kind, label in kinds.items())
        raise ConfigError(f"labels are of several kinds, {shown}: give all as text or all as numbers")
    spelling: dict[str, str] = {}
    for label in labels:
        if isinstance(label, str) and spelling.setdefault(_one_spelling(label), label) != label:
            raise ConfigError(
                f"labels {spelling[_one_spelling(label)]!r} and {label!r} differ in spelling alone: spell one class "
                "one way"
            )
    return labels


def _label(value: Any, at: int) -> Label | None:
    if is_missing(value):
        return None
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | int | float) and (isinstance(value, bool) or math.isfinite(value)):
        return value
    raise ConfigError(f"label {value!r} of sample {at} is a {type(value).__name__}: a class is text or a finite number")


def _one_spelling(label: str) -> str:
    """What "Calm" and "calm" share, and "1" and "1.0"."""
    text, number, _ = _order(label)
    return label.casefold() if text else repr(number)


def _kind(label: Label) -> str:
    return "text" if isinstance(label, str) else "bool" if isinstance(label, bool) else "number"


def classes_of(labels: Sequence[Label | None], given: Any = None) -> tuple[Label, ...]:
    """The classes in their order: an ordered categorical's own, else numbers by size and text by the alphabet.

    Text that is a number is ordered as one. 1 and 1.0 are one class, an int where one of them is.

    >>> classes_of([10, 9, 1.0, 1, None])
    (1, 9, 10)
    >>> classes_of(["10", "9", "b", "a"])
    ('9', '10', 'a', 'b')
    """
    occurring: dict[Label, Label] = {}
    for label in labels:
        if label is not None and (label not in occurring or isinstance(label, int)):
            occurring[label] = label
    dtype = getattr(given, "dtype", None)
    if getattr(dtype, "ordered", False):
        return tuple(x for x in check_labels(dtype.categories, len(dtype.categories)) if x in occurring)  # type: ignore[union-attr, misc]
    return tuple(sorted(occurring.values(), key=_order))


def _order(label: Label) -> tuple[int, float, str]:
    if not isinstance(label, str):
        return 0, float(label), ""
    try:
        number = float(label) if label.isascii() and "_" not in label else math.nan
    except ValueError:
        number = math.nan
    return (0, number, label) if math.isfinite(number) else (1, 0.0, label)


def check_classes(given: Iterable[Any]) -> tuple[Label, ...]:
    """Classes in an order of the caller's own.

    Raises
    ------
    ConfigError
        One is missing, of another kind than the others, or there twice.
    """
    listed = list(given) if not isinstance(given, str) else given
    classes = check_labels(listed, len(listed))
    if None in classes or len(set(classes)) != len(classes):
        raise ConfigError(f"classes={listed!r}: a class is missing, or is named twice")
    return tuple(label for label in classes if label is not None)


def codes_of(labels: Sequence[Label | None], classes: Sequence[Label]) -> NDArray[np.int64]:
    """The place of each label among the classes, (n,); -1 where it is missing.

    Raises
    ------
    ConfigError
        A label is none of the classes.
    """
    places = {label: place for place, label in enumerate(classes)}
    for label in labels:
        if label is not None and (label not in places or _kind(label) != _kind(classes[places[label]])):
            raise unknown("label", label, map(str, classes))
    return np.array([-1 if label is None else places[label] for label in labels], np.int64)


def as_classes(labels: Sequence[Label | None], classes: Sequence[Label]) -> list[Label | None]:
    """Labels in the type of the classes that they name: a table gives text where numbers were learnt.

    >>> as_classes(["1", "rest", None], [0, 1])
    [1, 'rest', None]
    """
    kinds, names = {_kind(each) for each in classes}, {str(each): each for each in classes}
    return [x if x is None or _kind(x) in kinds else names.get(str(x), x) for x in labels]


def check_targets(given: Iterable[Any], n: int) -> NDArray[np.float64]:
    """Numbers to predict, (n,); NaN where one is missing. Text that is a number is read as one.

    Raises
    ------
    ConfigError
        A value is not a finite number; the message says which.
    """
    found = np.full(n, np.nan)
    for at, value in enumerate(by_position(given, n, "targets")):
        if is_missing(value):
            continue
        try:
            found[at] = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            found[at] = math.nan
        if not math.isfinite(found[at]):
            raise ConfigError(f"target {value!r} of sample {at} is not a finite number; the decimal mark is a point")
    return found


def person_key(person: str) -> str:
    """What two spellings of one person share: 1, 1.0, "01"; S01, "s01 ".

    >>> [person_key(name) for name in ("1.0", "01", "S01", "s01 ")]
    ['1', '1', 's01', 's01']
    """
    text = unicodedata.normalize("NFKC", person).strip().casefold()
    whole, point, rest = text.partition(".")
    if whole.isascii() and whole.isdecimal() and not rest.strip("0") and (not point or rest):
        return whole.lstrip("0") or "0"
    return text


def check_people(given: Iterable[Any], n: int) -> tuple[str, ...]:
    """People by name; spellings that cannot be separated safely are one person, under the first spelling.

    Numbers and their text are one person without a word (1, 1.0, "1"); other spellings are one with a warning.

    Raises
    ------
    ConfigError
        A person is missing: which sample's.
    """
    first: dict[str, str] = {}
    merged: dict[str, str] = {}
    names = []
    for at, value in enumerate(by_position(given, n, "subjects")):
        if is_missing(value):
            raise ConfigError(f"subject of sample {at} is missing ({value!r}): say whose it is, or leave it out")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        name = str(value).strip()
        key = person_key(name)
        if key.isdecimal() and name.partition(".")[0] == key:
            name = key
        if first.setdefault(key, name) != name:
            merged.setdefault(name, first[key])
        names.append(first[key])
    if merged:
        shown = listed((f"{name!r} as {kept!r}" for name, kept in merged.items()), 3)
        warn(f"people spelt in several ways are taken for one person each: {shown}; spell each one way")
    return tuple(names)
