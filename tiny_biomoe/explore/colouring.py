"""Columns of a study as classes with colours: text by value, quality by share, other numbers by range."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..images.rendering import PALETTE

# Ten colours that stand apart on white and on black; further classes take hues between them.
CLASSES = ("#4c78c8", "#f08535", "#3fa45b", "#d64f55", "#8d6bc1", "#a97953", "#e07bb9", "#2aa8b5", "#b3a72b", "#7f8a99")
NOTHING = "#9aa0a6"  # of an empty cell, and of what is left over
MOST = 40  # classes with an entry of their own
RANGES = 6  # of a number
QUALITY = {"missing": "missing samples", "flat": "flat samples", "clipped": "clipped samples"}
SHARES = ((0.0, "none"), (0.01, "up to 1 %"), (0.05, "up to 5 %"), (0.2, "up to 20 %"), (1.0, "over 20 %"))
SHARE_COLOURS = ("#3fa45b", "#9bbf3f", "#e3b52e", "#f08535", "#d64f55")
TITLES = {**QUALITY, "start": "time within the recording", "fs": "sampling rate", "source": "recording"}


@dataclass(frozen=True)
class Classes:
    """A column whose cells are sorted into classes."""

    name: str  # of the column
    title: str
    labels: tuple[str, ...]
    colours: tuple[str, ...]  # of each class, #rrggbb
    codes: NDArray[np.uint8]  # (n,), class of each window


def classes_of(table: pa.Table, name: str) -> Classes:
    """The classes of a column."""
    title, values = TITLES.get(name, name), table[name].to_pylist()
    if name in QUALITY:
        bounds = [bound for bound, _ in SHARES[:-1]]
        codes = np.searchsorted(bounds, np.array(values, np.float64)).astype(np.uint8)
        return Classes(name, title, tuple(label for _, label in SHARES), SHARE_COLOURS, codes)
    numbers = _as_numbers(values)
    if numbers is not None and len(np.unique(numbers[np.isfinite(numbers)])) > RANGES:
        return _ranges(name, title, numbers)
    return _values(name, title, ["" if value is None else shown(value) for value in values])


def shown(value: Any) -> str:
    """A cell as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _as_numbers(values: Sequence[Any]) -> NDArray[np.float64] | None:
    """A column as numbers, NaN where it is empty; None where a cell is text."""
    try:
        return np.array([np.nan if value in (None, "") else float(value) for value in values])
    except ValueError:
        return None


def _ranges(name: str, title: str, numbers: NDArray[np.float64]) -> Classes:
    finite = numbers[np.isfinite(numbers)]
    edges = np.linspace(finite.min(), finite.max(), RANGES + 1)
    labels = [f"{low:.4g} to {high:.4g}" for low, high in zip(edges, edges[1:], strict=False)]
    steps = np.linspace(20, 235, RANGES).round().astype(int)  # of viridis, but for its ends
    colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in PALETTE[steps]]
    codes = np.searchsorted(edges[1:-1], np.nan_to_num(numbers, nan=edges[0]), side="right").astype(np.uint8)
    if finite.size < numbers.size:
        labels, colours = [*labels, f"no {title}"], [*colours, NOTHING]
        codes[~np.isfinite(numbers)] = RANGES
    return Classes(name, title, tuple(labels), tuple(colours), codes)


def _values(name: str, title: str, texts: Sequence[str]) -> Classes:
    counts = Counter(texts)
    empty = counts.pop("", 0)
    by_size = sorted(counts, key=lambda text: (-counts[text], text))
    kept = sorted(by_size[:MOST])
    labels, colours = list(kept), [class_colour(place) for place in range(len(kept))]
    if len(by_size) > MOST:
        labels, colours = [*labels, f"{len(by_size) - MOST} others"], [*colours, NOTHING]
    if empty:
        labels, colours = [*labels, f"no {title}"], [*colours, NOTHING]
    place = {text: number for number, text in enumerate(kept)}
    codes = [len(labels) - 1 if text == "" else place.get(text, len(kept)) for text in texts]
    return Classes(name, title, tuple(labels), tuple(colours), np.array(codes, np.uint8))


def class_colour(place: int) -> str:
    """The colour of a class: one of ten, and behind them the same ones lighter or darker.

    >>> class_colour(0), class_colour(10)
    ('#4c78c8', '#8ba7db')
    """
    turn, colour = divmod(place, len(CLASSES))
    channels = [int(CLASSES[colour][at : at + 2], 16) for at in (1, 3, 5)]
    for _ in range(turn):
        channels = [round(255 - (255 - each) * 0.65) if turn % 2 else round(each * 0.75) for each in channels]
    return "#" + "".join(f"{each:02x}" for each in channels)
