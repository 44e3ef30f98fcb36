"""The native program: which of those that were built at installation this processor runs, and its functions."""

from __future__ import annotations

import ctypes
import hashlib
import platform
import struct
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .native_build import levels, program_path

SEGMENT = 0x19  # of a library of macOS, the command that names a piece of the file


class Program(NamedTuple):
    """A native program that is loaded, the sha256 of its file, and the level it was built for."""

    library: ctypes.CDLL
    sha256: str
    level: str

    def __str__(self) -> str:
        kind = "tiles" if self.library.tiles() else "vectors"
        return f"native for {self.level}, {kind}, sha256 {self.sha256}"


@cache
def native_program(precision: str) -> Program | None:
    """The best native program for a precision and this processor; None where none was built.

    Warns
    -----
    UserWarning
        It was built and cannot be loaded, or from another source than lies here, so another backend computes.
    """
    able = abilities()
    others: list[Path] = []
    for name, level in levels().items():
        if precision not in level.precisions or not level.abilities <= able:
            continue
        path = program_path(name)
        if path.exists():
            try:
                data = path.read_bytes()
                require_whole(data)
                return Program(opened(path), hashlib.sha256(data).hexdigest(), name)
            except (OSError, ValueError) as error:
                warnings.warn(
                    f"{path} cannot be loaded ({error}), so another backend computes: install tiny-biomoe again",
                    stacklevel=2,
                )
                return None
        others += path.parent.glob(f"{name}-*.so")
    if others:
        warnings.warn(
            f"{others[0]} was built from another source than lies in this installation, so another backend computes: "
            "install tiny-biomoe again",
            stacklevel=2,
        )
    return None


def abilities() -> set[str]:
    """The instructions of this processor, by Linux's names; the processors of a machine are alike."""
    if sys.platform == "darwin":
        return {"asimd"} if platform.machine() == "arm64" else set()
    try:
        with open("/proc/cpuinfo") as lines:
            flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        return set()
    return set(flags.partition(":")[2].split())


def require_whole(data: bytes) -> None:
    """Refuse a shared library that is cut off: loading one can end the process.

    Raises
    ------
    ValueError
    """
    try:
        if data[:6] == b"\x7fELF\x02\x01":  # of Linux
            start, sections, size, count, wide, many = struct.unpack_from("<QQ6xHHHH", data, 32)
            segments = [struct.unpack_from("<8xQ16xQ", data, start + i * size) for i in range(count)]
            ends = [sections + wide * many, *(offset + length for offset, length in segments)]
        elif data[:4] == b"\xcf\xfa\xed\xfe":  # of macOS
            ends, place = [], 32
            for _ in range(*struct.unpack_from("<I", data, 16)):
                kind, size = struct.unpack_from("<II", data, place)
                ends += [sum(struct.unpack_from("<QQ", data, place + 40))] if kind == SEGMENT else [place + size]
                place += size
        else:
            raise ValueError("it is no 64-bit library")
    except struct.error as error:
        raise ValueError("it is cut off") from error
    if max(ends, default=0) > len(data):
        raise ValueError("it is cut off")


def opened(path: Path) -> ctypes.CDLL:
    """The program's functions, with the types of their arguments."""
    library, pointer = ctypes.CDLL(str(path)), ctypes.c_void_p
    library.build.restype = pointer
    library.build.argtypes = [pointer, pointer, ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_long]
    library.embed.argtypes = [pointer, pointer, ctypes.c_int, ctypes.c_int, pointer, pointer]
    library.destroy.argtypes = [pointer]
    library.destroy.restype = None
    return library
