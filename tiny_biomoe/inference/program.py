"""The C++ program `cpp/network.cpp`, brought by the package or compiled here, and loaded: what `native.py` calls."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
import warnings
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from huggingface_hub import constants

from ..errors import ConfigError
from ..sealed_files import write_whole
from .build import LEVELS, SOURCE, NoCompiler, command, has_levels, is_sealed, program_path, source_digest

_LOADING = Lock()


class Program(NamedTuple):
    """A program that is loaded, the sha256 of its file, and for what it was compiled: a level, or this processor."""

    library: ctypes.CDLL
    digest: str
    level: str = "this processor"

    def __str__(self) -> str:
        return f"native for {self.level}, {'tiles' if self.library.tiles() else 'vectors'}, sha256 {self.digest}"


@cache
def shipped_program(precision: str) -> Program | None:
    """The best program for a precision and this processor that came with the package; None where none did."""
    able = abilities() if has_levels() else set[str]()
    for name, level in LEVELS.items():
        if precision in level.precisions and level.abilities <= able and (path := program_path(name)).exists():
            try:
                data = path.read_bytes()
                if is_sealed(data):
                    return Program(opened(path), hashlib.sha256(data).hexdigest(), name)
                why = "it was damaged or changed since it was compiled"
            except OSError as error:
                why = str(error)
            warnings.warn(
                f"{path} cannot be run ({why}), so PyTorch computes in its place: install tiny-biomoe again",
                stacklevel=2,
            )
            return None
    return None


def abilities() -> set[str]:
    """What this processor can do, as Linux calls it; the processors of a machine are alike."""
    try:
        with open("/proc/cpuinfo") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return set()
    return set(flags.partition(":")[2].split())


def compiled_program() -> Program:
    """The program, compiled for this processor or as it was kept when it was.

    A kept file's name ends in its sha256; where they disagree, or others may write it, the program is compiled again.

    Raises
    ------
    ConfigError
        There is no C++ compiler, or it does not understand the program.
    """
    with _LOADING:  # two threads at once compile it once
        return _load()


@lru_cache(maxsize=1)
def _load() -> Program:
    compiling = command_here()
    key = hashlib.sha256("\0".join(compiling).encode() + taken_for_granted(compiling) + source_digest())
    folder, stem = Path(constants.HF_HOME) / "tiny-biomoe" / "native", key.hexdigest()[:32]
    for kept in sorted(folder.glob(f"{stem}-*.so")):
        try:
            digest = hashlib.sha256(kept.read_bytes()).hexdigest()
            if kept.name == f"{stem}-{digest}.so" and own(folder) and own(kept):
                return Program(opened(kept), digest)
        except OSError:  # it cannot be read, or not be loaded from there: compiled again
            continue
    with tempfile.TemporaryDirectory() as place:
        built = Path(place) / "native.so"
        done = subprocess.run(
            [*compiling, str(SOURCE / "network.cpp"), "-o", str(built)], capture_output=True, text=True
        )
        if done.returncode:
            said = done.stderr.strip()[-500:] or "it said nothing"
            raise ConfigError(
                f"compile=True: {compiling[0]} failed with exit status {done.returncode} ({said}): name another "
                "compiler in CXX, or leave compile out"
            )
        data = built.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(folder / f"{stem}-{digest}.so", data)
        except OSError as error:
            warnings.warn(
                f"the compiled program could not be kept for the next time ({error}): it is compiled in every process "
                "until HF_HOME is a folder that can be written",
                stacklevel=4,
            )
        try:
            return Program(opened(built), digest)
        except OSError as error:
            raise ConfigError(f"compile=True: the compiled program cannot be loaded ({error})") from error


def own(path: Path) -> bool:
    """Whether a file or folder is this user's and no one else may write it: what it holds is about to be run."""
    if not hasattr(os, "geteuid"):  # Windows
        return True
    status = path.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def command_here() -> list[str]:
    """The command that compiles for this very processor, but for its input and output.

    Raises
    ------
    ConfigError
        There is none.
    """
    try:
        processor = "-march=native" if platform.machine().lower() in ("x86_64", "amd64") else "-mcpu=native"
        return command(processor)
    except NoCompiler as error:
        raise ConfigError(
            f"compile=True needs a C++ compiler on a CPU, and {error}: name one in CXX, or leave compile out"
        ) from error


def taken_for_granted(compiling: list[str]) -> bytes:
    """Every macro that the compiler defines by itself: its version, and the abilities of the processor."""
    return subprocess.run([*compiling, "-E", "-dM", "-x", "c++", os.devnull], capture_output=True).stdout


def opened(path: Path) -> ctypes.CDLL:
    """The program's functions, with the types of what they take."""
    library, pointer = ctypes.CDLL(str(path)), ctypes.c_void_p
    library.build.restype = pointer
    library.build.argtypes = [pointer, pointer, ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_long]
    library.begin.argtypes = [pointer, pointer, ctypes.c_int, ctypes.c_int, pointer]
    library.finish.argtypes = [pointer, pointer]
    library.drop.argtypes = [pointer]
    library.drop.restype = None
    library.destroy.argtypes = [pointer]
    library.destroy.restype = None
    return library
