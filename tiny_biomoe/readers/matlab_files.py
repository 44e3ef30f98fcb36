"""MATLAB files of every version through pymatreader: the arrays of numbers, those within structures included."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError, excerpt, need
from ..signals.validation import is_number
from .channel import Channel, Options, choose, rate_of
from .damage import bounded, damage

NUMERIC = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
PLAIN = NUMERIC | {"struct", "cell", "char", "sparse", "function", "function_handle"}
DEPTH = 8  # of structures within structures
OBJECT = (
    "an object of MATLAB (table, timetable, string ...), which nothing outside MATLAB reads: save its columns as "
    "arrays, such as s = table2struct(t, 'ToScalar', true); save('file.mat', '-struct', 's')"
)


def read_matlab(path: Path, options: Options) -> list[Channel]:
    """MATLAB: every vector, and every row of an array (n_signals, n_samples); a scalar called fs gives the rate."""
    need("pymatreader")
    from pymatreader import whosmat

    with damage("MATLAB"):
        listed = whosmat(path)
        objects = [name for name, _, kind in listed if kind not in PLAIN]
        bounded(sum(int(np.prod(shape, dtype=np.float64)) for _, shape, kind in listed if kind in NUMERIC))
        variables, more = _load(path, [name for name, _, kind in listed if kind in PLAIN])
        found = list(_signals(variables))
        found += [(name, np.empty(0), None, OBJECT) for name in [*objects, *more]]
        if not found:
            raise SignalError("the file holds no arrays of numbers: words, cells and settings only")
        names = [name for name, *_ in found]
        channels = []
        for at in choose(names, options.column):
            name, samples, fs, problem = found[at]
            array = name.rpartition("[")[0] or None
            channels.append(Channel(name, samples, None, fs, array=array, problem=problem))
        return channels


def _load(path: Path, names: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The variables of a file, and the names of those that hold an object, of which pymatreader warns."""
    from pymatreader import read_mat

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        content = read_mat(path, variable_names=names)
    variables = {name: content[name] for name in names if name in content}
    if not any(issubclass(each.category, UserWarning) for each in warned):
        return variables, []
    objects = []
    for name in names:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            read_mat(path, variable_names=[name])
        if any(issubclass(each.category, UserWarning) for each in warned):
            objects.append(name)
    return {name: value for name, value in variables.items() if name not in objects}, objects


Found = tuple[str, NDArray[np.float64], float | None, str | None]  # name, samples, rate, why it cannot be read


def _signals(content: Any, name: str = "", fs: float | None = None, depth: int = 0) -> Iterator[Found]:
    """The signals of a structure, each with the rate that stands nearest to it."""
    if isinstance(content, dict) and depth < DEPTH:
        scalars = {key: float(value) for key, value in content.items() if is_number(value)}
        for key, value in content.items() if not depth else sorted(content.items()):  # pymatreader's order is chance
            rate = rate_of(key, scalars)
            yield from _signals(value, f"{name}.{key}" if name else key, fs if rate is None else rate, depth + 1)
    elif isinstance(content, list) and depth < DEPTH:
        for index, value in enumerate(content, 1):
            yield from _signals(value, f"{name}{{{index}}}", fs, depth + 1)
    elif isinstance(content, np.ndarray) and content.dtype.kind in "biufc" and content.size > 1:
        yield from _rows(content, name, fs)


def _rows(array: NDArray[Any], name: str, fs: float | None) -> Iterator[Found]:
    """One signal, or the rows of several; an array that stands upright is not turned over by guess."""
    problem = None
    if array.dtype.kind == "c":
        problem = "holds complex numbers: save its real part"
    elif array.ndim > 2 or (array.ndim == 2 and array.shape[0] > array.shape[1]):
        problem = (
            f"is an array of {' x '.join(map(str, array.shape))}: signals are rows, (n_signals, n_samples); save it as "
            f"such, {excerpt(name)[1:-1]}.', or each column on its own"
        )
    if problem is not None:
        yield name, np.empty(0), fs, problem
    elif array.ndim == 1:
        yield name, array.astype(np.float64), fs, None
    else:
        for index, row in enumerate(array):
            yield f"{name}[{index}]", row.astype(np.float64), fs, None
