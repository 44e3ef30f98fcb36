"""Memory that tells whether anyone has written to it: its pages are those of a sealed file until they are written."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_HIGHEST = 7 if sys.byteorder == "little" else 0  # byte of a word

_MAPPED: WeakValueDictionary[int, Bytes] = WeakValueDictionary()  # by address


def copied(parts: Iterable[Bytes]) -> Bytes:
    """Bytes end to end in new memory, (n,), from the beginning of a page.

    Linux maps an unnamed file there that nobody can change any more: a process that writes gets, for itself alone, a
    page of its own in place of the file's. Elsewhere, or where that is not allowed, it is memory like any other.
    """
    found = list(parts)
    with suppress(AttributeError, ImportError, OSError):
        return _mapped(found)
    size = sum(part.nbytes for part in found)
    room = np.empty(size + mmap.PAGESIZE, np.uint8)
    memory = room[-room.ctypes.data % mmap.PAGESIZE :][:size]
    return np.concatenate([memory[:0], *found], out=memory)


def holding(spans: Iterable[tuple[int, int]]) -> Bytes | None:
    """The memory of `copied`, mapped, that holds all these addresses, each from a first byte to behind a last one."""
    first, last = zip(*spans, strict=True)
    for memory in list(_MAPPED.values()):
        begin = memory.ctypes.data
        if begin <= min(first) and max(last) <= begin + memory.nbytes:
            return memory
    return None


def unwritten(memory: Bytes) -> bool:
    """Whether no one has written to mapped memory since it was made, were it through `.data`, NumPy or a pointer.

    Of each page the kernel says whether it is there or swapped out (bits 63 and 62), and whether it is a file's (bit
    61): https://docs.kernel.org/admin-guide/mm/pagemap.html. Behind the bytes lies a page that was written at once: a
    kernel which does not say so of that one is not believed about the others.
    """
    first, count = memory.ctypes.data // mmap.PAGESIZE, _pages(memory.nbytes) + 1
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as table:
            read = os.pread(table.fileno(), 8 * count, 8 * first)
    except OSError:
        read = b""
    if len(read) != 8 * count:
        return False
    states = np.frombuffer(read, np.uint8)[_HIGHEST::8] >> 5
    written = (states > 0) & (states % 2 == 0)
    return bool(written[-1]) and not written[:-1].any()


def _mapped(parts: list[Bytes]) -> Bytes:
    import fcntl

    size = sum(part.nbytes for part in parts)
    proof = _pages(size) * mmap.PAGESIZE  # where the page begins that is written at once
    with open(os.memfd_create("tiny-biomoe", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb") as file:
        file.writelines(part.data for part in parts)
        file.truncate(proof + mmap.PAGESIZE)
        fcntl.fcntl(
            file,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE,
        )
        whole = np.frombuffer(mmap.mmap(file.fileno(), proof + mmap.PAGESIZE, access=mmap.ACCESS_COPY), np.uint8)
    whole[proof] = 1
    memory = _MAPPED[whole.ctypes.data] = whole[:size]
    return memory


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE)
