"""Whether a network's numbers have changed since it was last looked at, whoever wrote them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

COLUMNS = 509  # a prime: weights that change places are seen, but for those a multiple of 1018 numbers apart


class Witness:
    """Where tensors lie, and a checksum of every byte of them: `.data` and NumPy write without leaving another trace.

    What reading takes is prepared once, so that all weights are read again at the pace of memory (about 1 ms), and can
    be at every call.

    Attributes
    ----------
    seen : the checksum when the witness was made
    """

    def __init__(self, tensors: Iterable[Tensor]):
        tensors = [tensor.detach() for tensor in tensors]
        self._places = places(tensors)
        self._columns: list[NDArray[np.uint64]] = []  # (rows, 509) each
        self._rest: list[NDArray[np.uint8]] = []  # what does not fill a row
        self._copied: list[Tensor] = []  # on the CPU, in an order that only a copy gives
        self._elsewhere: list[Tensor] = []
        for tensor in tensors:  # what is kept here holds the memory: no other tensor can come to lie there
            if tensor.device.type != "cpu":
                self._elsewhere.append(tensor)
            elif not tensor.is_contiguous():
                self._copied.append(tensor)
            else:
                columns, rest = _in_columns(tensor)
                self._columns += [columns] if columns.size else []
                self._rest += [rest] if rest.size else []
        self.seen = self.checksum()

    def unchanged(self, tensors: Iterable[Tensor]) -> bool:
        """Whether these are the tensors the witness was made for, and hold the same bytes."""
        return places(tensors) == self._places and self.checksum() == self.seen

    def checksum(self) -> int:
        """32 bits over every byte, as it is now.

        A fraction of the time of a sha256: 64-bit words are summed in `COLUMNS` columns, which sees a number that
        changed and numbers that changed places, but neither places a multiple of `COLUMNS` words apart nor changes that
        cancel in their column. Elsewhere than on the CPU the bytes stay where they are: a sum weighted by
        place, in whole numbers that wrap.
        """
        check = 0
        copies = [_in_columns(tensor) for tensor in self._copied]
        for columns in [*self._columns, *(columns for columns, _ in copies)]:
            check = zlib.crc32(columns.sum(axis=0).data, check)
        for rest in [*self._rest, *(rest for _, rest in copies)]:
            check = zlib.crc32(rest.data, check)
        if self._elsewhere:
            flat = torch.cat([tensor.reshape(-1).view(torch.uint8) for tensor in self._elsewhere])
            weights = torch.arange(1, flat.numel() + 1, device=flat.device)
            check = zlib.crc32((flat * weights * weights).sum().cpu().numpy().tobytes(), check)
        return check


def places(tensors: Iterable[Tensor]) -> list[tuple[Any, ...]]:
    """Where tensors lie in memory, and how they are to be read there."""
    return [(tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()) for tensor in tensors]


def checksum(tensors: Iterable[Tensor]) -> int:
    """32 bits over every byte of the tensors, see `Witness.checksum`."""
    return Witness(tensors).seen


def _in_columns(tensor: Tensor) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """The bytes of a tensor on the CPU as 64-bit words (rows, 509), and those left over; a view where it can be one."""
    data = tensor.reshape(-1).view(torch.uint8).numpy()
    whole = data.size // (8 * COLUMNS) * 8 * COLUMNS
    return data[:whole].view(np.uint64).reshape(-1, COLUMNS), data[whole:]
