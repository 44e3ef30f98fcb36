"""How the native program is built at installation: the C++ compiler, and a level for each kind of processor.

`setup.py` runs this file on its own, so it needs nothing but Python.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parent / "cpp"
PROGRAMS = Path(__file__).parent / "programs"
FLAGS = ["-std=c++17", "-O2", "-fno-math-errno", "-shared", "-fPIC", "-pthread"]
FLAGS += ["-fvisibility=hidden"]  # two programs in one process must not share code: g++ lets templates' variables merge
LINUX = ["-static-libstdc++", "-static-libgcc", "-Wl,-s"]  # one file, without symbols, for machines without a compiler


class Level(NamedTuple):
    """A kind of processor.

    machine : "x86_64" or "aarch64"
    options : compiler options that allow its instructions
    abilities : the names of those instructions in Linux's /proc/cpuinfo
    precisions : what it is the best level for; float32 gains nothing from 16-bit instructions, so that all processors
        with 512-bit vectors run one program there
    """

    machine: str
    options: list[str]
    abilities: set[str]
    precisions: tuple[str, ...] = ("float32", "bfloat16")


_AVX2 = Level(
    "x86_64",
    ["-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2", "-mlzcnt", "-mmovbe", "-mpopcnt", "-mcx16"],
    {"sse4_1", "sse4_2", "ssse3", "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe", "popcnt", "cx16"},
)
_AVX512 = Level(
    "x86_64",
    [*_AVX2.options, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"],
    {*_AVX2.abilities, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
)
_BF16 = Level("x86_64", [*_AVX512.options, "-mavx512bf16"], {*_AVX512.abilities, "avx512_bf16"}, ("bfloat16",))
_AMX = Level(
    "x86_64",
    [*_BF16.options, "-mavx512fp16", "-mamx-tile", "-mamx-bf16"],
    {*_BF16.abilities, "avx512_fp16", "amx_tile", "amx_bf16"},
    ("bfloat16",),
)
_NEON = Level("aarch64", ["-march=armv8-a"], {"asimd"})
LEVELS = {"amx": _AMX, "avx512_bf16": _BF16, "avx512": _AVX512, "avx2": _AVX2, "neon": _NEON}  # the best one first


class NoCompiler(Exception):
    """No C++ compiler was found, or `CXX` names none; the message says which."""


def command(*options: str) -> list[str]:
    """The compiler's command without input and output; `CXX` may name it, with options of its own.

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
    return [*words[:named], *flags(), *options, *words[named:]]


def flags() -> list[str]:
    """The compiler's options for every level of this platform."""
    return FLAGS if sys.platform == "darwin" else [*FLAGS, *LINUX]


def levels() -> dict[str, Level]:
    """The kinds of this platform's processors, the best one first; none of a platform that programs do not come for.

    The environment variables `_PYTHON_HOST_PLATFORM`, which Python heeds, and `CXX` name another platform and a
    compiler for it: linux-aarch64 and aarch64-linux-gnu-g++ build there what runs on 64-bit ARM.
    """
    system, _, machine = sysconfig.get_platform().rpartition("-")
    if machine == "universal2":
        machine = platform.machine()
    named = {"arm64": "aarch64"}.get(machine, machine)
    if not (system == "linux" or (system.startswith("macosx") and named == "aarch64")):
        return {}
    return {name: level for name, level in LEVELS.items() if level.machine == named}


def program_path(level: str) -> Path:
    """Where the program for a level lies, if it was built; its name holds a digest of source and options."""
    key = hashlib.sha256("\0".join([*flags(), *LEVELS[level].options]).encode() + source_digest())
    return PROGRAMS / f"{level}-{key.hexdigest()[:16]}.so"


def source_digest() -> bytes:
    """Of every file of the program's source."""
    return b"".join(hashlib.sha256(source.read_bytes()).digest() for source in sorted(SOURCE.iterdir()))
