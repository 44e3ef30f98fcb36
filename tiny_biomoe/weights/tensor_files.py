"""Tensors in safetensors files: every name, shape, dtype and value is checked, for a stranger may have written them.

A file is read from bytes in memory, so that what was hashed and checked is what is parsed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from ..errors import WeightsError, listed

MAX_DIRECTORY = 1 << 20  # bytes of names and shapes; the network's take 60 kB, and 300 000 tensors do not fit
STORED = ("F16", "F32")

Array = TypeVar("Array", bound=NDArray[Any])
Tensors = dict[str, NDArray[np.float32]]
Shapes = Mapping[str, tuple[int, ...]]


class DamagedError(WeightsError):
    """The bytes are not those that were published: another copy may be sound."""


def read_safetensors(data: bytes, shapes: Shapes, where: str) -> Tensors:
    """The tensors of a safetensors file, in float32.

    Parameters
    ----------
    data : the whole file
    shapes : every name that must be there, with its shape; nothing else may be
    where : the file, for messages

    Raises
    ------
    DamagedError
        Not a whole, consistent safetensors file.
    WeightsError
        Other names, shapes or dtypes than expected, or a value that is not finite.
    """
    header = _header(data, where)
    compare({name: shape for name, (_, shape) in header.items()}, shapes, where)
    if refused := [f"{name} is {quote(dtype)}" for name, (dtype, _) in header.items() if dtype not in STORED]:
        raise WeightsError(
            f"{where}: {listed(refused, 3, ', ...')}; weights are stored as {' or '.join(STORED)}: save them so"
        )
    try:
        tensors = safetensors.numpy.load(data)  # refuses overlaps, holes, trailing bytes and shapes that lie
    except SafetensorError as error:
        raise DamagedError(f"{where}: not a sound safetensors file ({error}); fetch or save it again") from error
    return {name: require_finite(tensors.pop(name).astype(np.float32), name, where) for name in shapes}


def read_metadata(data: bytes) -> dict[str, str]:
    """The free facts in the header of a safetensors file that `read_safetensors` has accepted."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return dict(header.get("__metadata__") or {})


def _header(data: bytes, where: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of each tensor, as the header of a safetensors file claims them."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise DamagedError(f"{where}: not a whole safetensors file, having {len(data)} bytes; fetch or save it again")
    if length > MAX_DIRECTORY:
        raise WeightsError(f"{where}: a header of {length} bytes, more than {MAX_DIRECTORY}, is not read; use others")
    try:
        entries = dict(json.loads(data[8 : 8 + length], object_pairs_hook=_without_repeats))
        entries.pop("__metadata__", None)
        return {name: (str(entry["dtype"]), tuple(entry["shape"])) for name, entry in entries.items()}
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DamagedError(f"{where}: the safetensors header is malformed ({error}); fetch or save it again") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the header; safetensors itself would quietly keep the last of two equal names."""
    found = dict(pairs)
    if len(found) < len(pairs):
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{quote(name)} appears {count} times")
    return found


def compare(found: Shapes, wanted: Shapes, where: str) -> None:
    """Refuse tensors whose names or shapes are not the wanted ones, and say what the difference is."""
    differences = {
        "missing": [quote(name) for name in wanted if name not in found],
        "too many": [quote(name) for name in found if name not in wanted],
        "of another shape": [
            f"{quote(name)} is {quote(shape)}, expected {wanted[name]}"
            for name, shape in found.items()
            if name in wanted and shape != wanted[name]
        ],
    }
    if parts := [f"{len(names)} {kind} ({listed(names, 3, ', ...')})" for kind, names in differences.items() if names]:
        raise WeightsError(
            f"{where}: not the tensors of this architecture: {'; '.join(parts)}. "
            "Use the config.json that was saved with them, or other weights"
        )


def require_finite(tensor: Array, name: str, where: str) -> Array:
    """The tensor itself, if its values are all finite numbers."""
    if not np.isfinite(tensor.sum(dtype=np.float64)):  # of finite numbers alone is a sum in float64 finite
        raise WeightsError(f"{where}: {name} holds NaN or infinity; the training that wrote it went wrong: use another")
    return tensor


def quote(name: object) -> str:
    """A stranger's name, fit for a message: one short line without control characters."""
    text = repr(name)
    return text if len(text) <= 100 else f"{text[:97]}..."
