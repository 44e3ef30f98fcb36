"""Whether a network's numbers have changed since it was last looked at, whoever wrote them."""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .threads import callers_threads, threads
from .weights import tensor_digest

COLUMNS = 509  # a prime: weights that change places are seen, but for those a multiple of 1018 numbers apart
PARTS = 8  # of a piece of memory, for as many threads to sum
ALIGNMENT = 64  # bytes: where PyTorch, too, lets a tensor begin


class Sums(Protocol):
    """Whole numbers, (parts, rows, columns), that others may begin to sum over their rows; one thread asks for them."""

    def __call__(self) -> Tensor:
        """The totals, (parts, columns)."""

    def close(self) -> None:
        """Wait for whoever sums; again, it does nothing."""


class OwnSums:
    """`Sums` by PyTorch: not before the totals are asked for."""

    def __init__(self, words: Tensor):
        self._words = words

    def __call__(self) -> Tensor:
        """The totals, (parts, columns)."""
        with threads(callers_threads()):
            return self._words.sum(dim=1)

    def close(self) -> None:
        """Nobody sums."""


class Witness:
    """Where tensors lie, and a checksum of every byte of them: `.data` and NumPy write without leaving another trace.

    What reading takes is prepared once, so that all weights are read again at the pace of memory (about 1 ms), and can
    be at every call. Tensors that lie end to end (see `lay_together`) are read as one.

    Parameters
    ----------
    sums : of words, their sums; by PyTorch unless given

    Attributes
    ----------
    seen : the checksum when the witness was made
    """

    def __init__(self, tensors: Iterable[Tensor], sums: Callable[[Tensor], Sums] = OwnSums):
        self._sums = sums
        self._held = [tensor.detach() for tensor in tensors]  # no other tensor can come to lie where these do
        self._places, self._addresses = places(self._held), addresses(self._held)
        self._elsewhere = [tensor for tensor in self._held if tensor.device.type != "cpu"]
        here = [tensor for tensor in self._held if tensor.device.type == "cpu" and tensor.numel()]
        self._copied = [tensor for tensor in here if not tensor.is_contiguous()]  # in an order that only a copy gives
        self._pieces = [_in_columns(piece) for piece in _pieces(tensor for tensor in here if tensor.is_contiguous())]
        laid = (memory() for memory in _LAID.valuerefs())
        # Kept alive, so that sums may begin before it is known whether the weights still lie there.
        self._memory = next((memory for memory in laid if memory is not None and self._sums_begin_in(memory)), None)
        self.seen = self.checksum()

    def unchanged(self, tensors: Iterable[Tensor]) -> bool:
        """Whether these are the tensors the witness was made for, and hold the same bytes."""
        with self.reading() as unchanged:
            return unchanged(tensors)

    @contextmanager
    def reading(self) -> Iterator[Callable[[Iterable[Tensor]], bool]]:
        """`unchanged`, to be asked once, when it suits: if others sum for the caller, they begin at once."""
        there = self._memory is not None or addresses(self._held) == self._addresses  # else what was there may be gone
        with ExitStack() as stack:
            first = self._begin(self._pieces[0][0]) if there and self._pieces else None
            if first:
                stack.callback(first.close)
            yield lambda tensors: places(tensors) == self._places and self.checksum(first) == self.seen

    def checksum(self, first: Sums | None = None) -> int:
        """32 bits over every byte, as it is now.

        A fraction of the time of a sha256: 64-bit words are summed in `COLUMNS` columns, which sees a number that
        changed and numbers that changed places, but neither places a multiple of `COLUMNS` words apart nor changes that
        cancel in their column. Elsewhere than on the CPU the bytes stay where they are: a sum weighted by
        place, in whole numbers that wrap. `first`: what gives the sums of the first piece, if they were begun.
        """
        check = 0
        copies = (_in_columns(tensor.reshape(-1).view(torch.uint8)) for tensor in self._copied)
        with torch.inference_mode():
            for words, rest in chain(self._pieces, copies):
                totals, first = (first or self._begin(words))(), None
                check = zlib.crc32(rest.numpy().data, zlib.crc32(totals.numpy().data, check))
        if self._elsewhere:
            flat = torch.cat([tensor.reshape(-1).view(torch.uint8) for tensor in self._elsewhere])
            weights = torch.arange(1, flat.numel() + 1, device=flat.device)
            check = zlib.crc32((flat * weights * weights).sum().cpu().numpy().tobytes(), check)
        return check

    def _sums_begin_in(self, memory: NDArray[np.uint8]) -> bool:
        """Whether the first piece's words, which are summed first, all lie in this memory."""
        if not self._pieces:
            return False
        words, _ = self._pieces[0]
        return 0 <= words.data_ptr() - memory.ctypes.data <= memory.nbytes - words.nbytes

    def _begin(self, words: Tensor) -> Sums:
        return (self._sums if words.numel() else OwnSums)(words)


_LAID: WeakValueDictionary[int, NDArray[np.uint8]] = WeakValueDictionary()  # of `lay_together`, by its address
_DIGESTS: WeakKeyDictionary[nn.Module, tuple[Witness, str]] = WeakKeyDictionary()


def digest_now(network: nn.Module) -> str:
    """`tensor_digest` of a network as it is now; hashed only where it changed, for that takes longer than a vector."""
    tensors = network.state_dict()
    kept = _DIGESTS.get(network)
    if kept is None or not kept[0].unchanged(tensors.values()):
        witness = Witness(tensors.values())  # before the hash: what is written meanwhile is seen at the next call
        kept = _DIGESTS[network] = witness, tensor_digest(tensors)
    return kept[1]


def addresses(tensors: Iterable[Tensor]) -> list[int]:
    """Where tensors begin in memory."""
    return list(map(Tensor.data_ptr, tensors))


def places(tensors: Iterable[Tensor]) -> list[tuple[Any, ...]]:
    """Where tensors lie in memory, and how they are to be read there."""
    return [(tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()) for tensor in tensors]


def lay_together(tensors: Iterable[Tensor]) -> None:
    """Move tensors on the CPU into one piece of memory, end to end, each aligned and with a storage of its own."""
    ordered = sorted(tensors, key=lambda tensor: (tensor.nbytes % ALIGNMENT > 0, -tensor.element_size()))
    memory = np.empty(sum(tensor.nbytes for tensor in ordered) + ALIGNMENT, np.uint8)
    _LAID[memory.ctypes.data] = memory
    offset = -memory.ctypes.data % ALIGNMENT
    for tensor in ordered:
        place = torch.frombuffer(memory.data, dtype=tensor.dtype, count=tensor.numel(), offset=offset)
        tensor.data = place.view(tensor.shape).copy_(tensor.detach())
        offset += tensor.nbytes


def _pieces(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The memory of contiguous tensors on the CPU, as bytes: one piece for those that lie end to end."""
    spans: list[list[int]] = []  # addresses of the first byte, and of that behind the last
    for start, stop in sorted((tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes) for tensor in tensors):
        if spans and start <= spans[-1][1]:
            spans[-1][1] = max(stop, spans[-1][1])
        else:
            spans.append([start, stop])
    raw = ((ctypes.c_uint8 * (stop - start)).from_address(start) for start, stop in spans)
    return [torch.frombuffer(memory, dtype=torch.uint8) for memory in raw]


def _in_columns(piece: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes as 64-bit words (parts, rows, 509), and those left over; a view where it can be one."""
    rows = piece.numel() // (8 * COLUMNS)
    parts = PARTS if rows >= 100 * PARTS else 1
    words = piece[: rows // parts * parts * COLUMNS * 8].view(torch.int64).view(parts, rows // parts, COLUMNS)
    return words, piece[words.nbytes :]
