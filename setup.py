"""Compiles the network's C++ program for several kinds of processors; all else is in pyproject.toml.

Without a compiler, or where it does not know a kind, the package is built without, and another backend computes there.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

PACKAGE = Path("tiny_biomoe", "inference")
tools = runpy.run_path(str(Path(__file__).parent / PACKAGE / "native_build.py"))


class Build(build):
    """Begins in an empty folder: setuptools would pack files of an earlier source with those of this one."""

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class BuildPrograms(build_ext):
    """A level's program by one call of the compiler; it needs nothing of Python, so neither does its name."""

    def finalize_options(self) -> None:
        super().finalize_options()
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self.parallel = self.parallel or processors if self.extensions else None

    def run(self) -> None:
        self._clear(Path(self.build_lib) / PACKAGE / tools["PROGRAMS"].name)
        super().run()

    def get_ext_filename(self, fullname: str) -> str:
        *folders, level = fullname.split(".")
        return os.path.join(*folders, tools["program_path"](level).name)

    def build_extension(self, ext: Extension) -> None:
        out = Path(self.get_ext_fullpath(ext.name))
        command = [*tools["command"](), *ext.extra_compile_args, *ext.sources, "-o", str(out)]
        if subprocess.run(command).returncode or not out.exists():
            raise CompileError(f"{' '.join(command)} failed")

    def copy_extensions_to_source(self) -> None:
        self._clear(tools["PROGRAMS"])
        super().copy_extensions_to_source()

    def _clear(self, folder: Path) -> None:
        """Make the folder, without programs of an earlier source, which nothing would load."""
        folder.mkdir(parents=True, exist_ok=True)
        for earlier in folder.glob("*.so"):
            earlier.unlink()


class Wheel(bdist_wheel):
    """For any Python: of one platform, if it holds programs."""

    def get_tag(self) -> tuple[str, str, str]:
        made = list(Path(self.bdist_dir).glob(f"**/{tools['PROGRAMS'].name}/*.so"))
        platform = super().get_tag()[2].replace("universal2", "arm64")  # a program of macOS is for its processors alone
        return ("py3", "none", platform if made else "any")


def programs() -> list[Extension]:
    """One extension a level, where the platform has levels and there is a compiler."""
    try:
        tools["command"]()
    except tools["NoCompiler"]:
        return []
    source = [str(PACKAGE / "cpp" / "network.cpp")]
    return [
        Extension(".".join([*PACKAGE.parts, "programs", name]), source, extra_compile_args=level.options, optional=True)
        for name, level in tools["levels"]().items()
    ]


setup(ext_modules=programs(), cmdclass={"build": Build, "build_ext": BuildPrograms, "bdist_wheel": Wheel})
