"""Whether a network's numbers have changed since it was last looked at, whoever wrote them."""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Iterable
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..weights.loading import tensor_digest
from . import pages
from .threads import threads

COLUMNS = 509  # a prime: weights that change places are seen, but for those a multiple of 1018 numbers apart
ALIGNMENT = 64  # bytes: where PyTorch, too, lets a tensor begin


class Witness:
    """Where tensors lie, and what their bytes were: `.data` and NumPy write without leaving another trace.

    If all lie in memory that tells whether it was written (see `pages`), as those of `lay_together` do, no byte is
    read. Else, or once it was written, all are, which takes a thread about 3 ms: what that needs is prepared once.
    Tensors that lie end to end are read as one.

    Attributes
    ----------
    seen : the checksum when the witness was made
    """

    def __init__(self, tensors: Iterable[Tensor]):
        self._held = [tensor.detach() for tensor in tensors]  # no other tensor can come to lie where these do
        self._places = places(self._held)
        self._elsewhere = [tensor for tensor in self._held if tensor.device.type != "cpu"]
        here = [tensor for tensor in self._held if tensor.device.type == "cpu" and tensor.numel()]
        self._copied = [tensor for tensor in here if not tensor.is_contiguous()]  # in an order that only a copy gives
        spans = _spans(tensor for tensor in here if tensor.is_contiguous())
        memory = pages.holding(spans) if spans and not (self._elsewhere or self._copied) else None
        self._memory = memory if memory is not None and pages.unwritten(memory) else None
        self._pieces = [_in_columns(_bytes_at(*span)) for span in spans]
        self.seen = self.checksum()

    def unchanged(self, tensors: Iterable[Tensor]) -> bool:
        """Whether these are the tensors the witness was made for, and hold the same bytes."""
        if places(tensors) != self._places:
            return False
        return (self._memory is not None and pages.unwritten(self._memory)) or self.checksum() == self.seen

    def checksum(self) -> int:
        """32 bits over every byte, as it is now.

        A fraction of the time of a sha256: 64-bit words are summed in `COLUMNS` columns, which sees a number that
        changed and numbers that changed places, but neither places a multiple of `COLUMNS` words apart nor changes that
        cancel in their column. Elsewhere than on the CPU the bytes stay where they are: a sum weighted by
        place, in whole numbers that wrap.
        """
        check = 0
        copies = (_in_columns(tensor.reshape(-1).view(torch.uint8)) for tensor in self._copied)
        with torch.inference_mode(), threads(1):  # others would go on looking for work beside the image that comes next
            for words, rest in chain(self._pieces, copies):
                check = zlib.crc32(rest.numpy().data, zlib.crc32(words.sum(dim=0).numpy().data, check))
        if self._elsewhere:
            flat = torch.cat([tensor.reshape(-1).view(torch.uint8) for tensor in self._elsewhere])
            weights = torch.arange(1, flat.numel() + 1, device=flat.device)
            check = zlib.crc32((flat * weights * weights).sum().cpu().numpy().tobytes(), check)
        return check


_DIGESTS: WeakKeyDictionary[nn.Module, tuple[Witness, str]] = WeakKeyDictionary()


def digest_now(network: nn.Module) -> str:
    """`tensor_digest` of a network as it is now; hashed only where it changed, for that takes longer than a vector."""
    tensors = network.state_dict()
    kept = _DIGESTS.get(network)
    if kept is None or not kept[0].unchanged(tensors.values()):
        witness = Witness(tensors.values())  # before the hash: what is written meanwhile is seen at the next call
        kept = _DIGESTS[network] = witness, tensor_digest(tensors)
    return kept[1]


def places(tensors: Iterable[Tensor]) -> list[tuple[Any, ...]]:
    """Where tensors lie in memory, and how they are to be read there: one behind the other, or in these strides."""
    return [
        (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.is_contiguous() or tensor.stride()) for tensor in tensors
    ]


def lay_together(tensors: Iterable[Tensor]) -> None:
    """Move tensors on the CPU into one piece of memory, end to end, each aligned and with a storage of its own."""
    ordered = sorted(tensors, key=lambda tensor: (tensor.nbytes % ALIGNMENT > 0, -tensor.element_size()))
    memory = pages.copied(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy() for tensor in ordered)
    offset = 0
    for tensor in ordered:
        place = torch.frombuffer(memory.data, dtype=tensor.dtype, count=tensor.numel(), offset=offset)
        tensor.data = place.view(tensor.shape)
        offset += tensor.nbytes


def _spans(tensors: Iterable[Tensor]) -> list[tuple[int, int]]:
    """Where contiguous tensors lie, from the first byte to behind the last one; one span for those end to end."""
    spans: list[tuple[int, int]] = []
    for start, stop in sorted((tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes) for tensor in tensors):
        if spans and start <= spans[-1][1]:
            start, stop = spans[-1][0], max(stop, spans.pop()[1])
        spans.append((start, stop))
    return spans


def _bytes_at(start: int, stop: int) -> Tensor:
    return torch.frombuffer((ctypes.c_uint8 * (stop - start)).from_address(start), dtype=torch.uint8)


def _in_columns(piece: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes as 64-bit words (rows, 509), and those left over; a view where it can be one."""
    rows = piece.numel() // (8 * COLUMNS)
    words = piece[: rows * COLUMNS * 8].view(torch.int64).view(rows, COLUMNS)
    return words, piece[words.nbytes :]
