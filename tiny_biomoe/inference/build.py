"""The C++ compiler, and the kinds of processors for which the package may bring `cpp/network.cpp` compiled.

`setup.py` runs this file by itself, so it needs nothing but Python.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import sysconfig
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parent / "cpp"
PROGRAMS = Path(__file__).parent / "programs"
FLAGS = ["-std=c++17", "-O2", "-fno-math-errno", "-shared", "-fPIC", "-pthread"]
FLAGS += ["-fvisibility=hidden"]  # two programs in one process must not share code: g++ lets templates' variables merge
SEAL = 32  # bytes of a sha256


class Level(NamedTuple):
    """A kind of processors.

    options : what makes a compiler use all that it can do
    abilities : what it can do, as Linux calls it in /proc/cpuinfo
    precisions : what it is the best level for; float32 gains nothing from 16-bit instructions, so that there all
        processors of 512 bits run one program
    """

    options: list[str]
    abilities: set[str]
    precisions: tuple[str, ...] = ("float32", "bfloat16")


_AVX2 = Level(
    ["-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2", "-mlzcnt", "-mmovbe", "-mpopcnt", "-mcx16"],
    {"sse4_1", "sse4_2", "ssse3", "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe", "popcnt", "cx16"},
)
_AVX512 = Level(
    [*_AVX2.options, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"],
    {*_AVX2.abilities, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
)
_BF16 = Level([*_AVX512.options, "-mavx512bf16"], {*_AVX512.abilities, "avx512_bf16"}, ("bfloat16",))
_AMX = Level(
    [*_BF16.options, "-mavx512fp16", "-mamx-tile", "-mamx-bf16"],
    {*_BF16.abilities, "avx512_fp16", "amx_tile", "amx_bf16"},
    ("bfloat16",),
)
LEVELS = {"amx": _AMX, "avx512_bf16": _BF16, "avx512": _AVX512, "avx2": _AVX2}  # the best one first


class NoCompiler(Exception):
    """There is none, or `CXX` names none; the message says which."""


def command(*options: str) -> list[str]:
    """The command that compiles, but for its input and output; `CXX` may name it, with options of its own.

    Raises
    ------
    NoCompiler
    """
    try:
        words = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise NoCompiler(f"the environment variable CXX is no command ({error})") from error
    words = words or [name for name in ("c++", "g++", "clang++") if shutil.which(name)][:1]
    if not words or shutil.which(words[0]) is None:
        raise NoCompiler(
            f"CXX names {words[0]!r}, which is not there" if words else "none of c++, g++ and clang++ is on PATH"
        )
    named = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    return [*words[:named], *FLAGS, *options, *words[named:]]


def has_levels() -> bool:
    """Whether Python runs, or is built for, a machine of those that `LEVELS` divides into kinds."""
    return sysconfig.get_platform() == "linux-x86_64"


def program_path(level: str) -> Path:
    """Where the program for a level lies, if it came; the name tells what it was compiled from, and how."""
    key = hashlib.sha256("\0".join([*FLAGS, *LEVELS[level].options]).encode() + source_digest())
    return PROGRAMS / f"{level}-{key.hexdigest()[:16]}.so"


def sealed(data: bytes) -> bytes:
    """A program's file: what the compiler made, and behind it, where no loader looks, its sha256.

    Whoever strips or patches it afterwards breaks the seal: options of that kind belong into `CXX`.
    """
    return data + hashlib.sha256(data).digest()


def is_sealed(data: bytes) -> bool:
    """Whether a file is what `sealed` gave, whole and unchanged."""
    return len(data) > SEAL and data[-SEAL:] == hashlib.sha256(data[:-SEAL]).digest()


def source_digest() -> bytes:
    """Of every file of the program's source."""
    return b"".join(hashlib.sha256(source.read_bytes()).digest() for source in sorted(SOURCE.iterdir()))
