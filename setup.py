"""Compiles the network's C++ program for several kinds of processors; all else is in pyproject.toml.

Where there is no compiler, or one that does not know a kind, the package comes without and computes by PyTorch there.
"""

from __future__ import annotations

import os
import runpy
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

PACKAGE = "tiny_biomoe"
tools = runpy.run_path(str(Path(__file__).parent / PACKAGE / "compiler.py"))


class BuildPrograms(build_ext):
    """A level's program by one call of the compiler; it needs nothing of Python, so its name does not tell of it."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def get_ext_filename(self, fullname: str) -> str:
        *folders, level = fullname.split(".")
        return os.path.join(*folders, tools["program_path"](level).name)

    def build_extension(self, ext: Extension) -> None:
        out = Path(self.get_ext_fullpath(ext.name))
        self._make_room(out)
        command = [*tools["compiler"](tuple(ext.extra_compile_args)), *ext.sources, "-o", str(out)]
        if subprocess.run(command).returncode:
            raise CompileError(f"{' '.join(command)} failed")

    def copy_extensions_to_source(self) -> None:
        for ext in self.extensions:
            self._make_room(tools["PROGRAMS"] / Path(self.get_ext_fullpath(ext.name)).name)
        super().copy_extensions_to_source()

    def _make_room(self, out: Path) -> None:
        """A folder that holds no program of an earlier source for the same level."""
        out.parent.mkdir(parents=True, exist_ok=True)
        for earlier in out.parent.glob(f"{out.stem.rpartition('-')[0]}-*.so"):
            earlier.unlink()


class Wheel(bdist_wheel):
    """With programs for any Python of one platform."""

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


def programs() -> list[Extension]:
    """One extension a level, where there is a compiler."""
    try:
        tools["compiler"](())
    except tools["NoCompiler"]:
        return []
    return [
        Extension(
            f"{PACKAGE}.programs.{name}",
            [f"{PACKAGE}/cpp/network.cpp"],
            extra_compile_args=list(level.options),
            optional=True,
        )
        for name, level in tools["LEVELS"].items()
        if tools["has_levels"]()
    ]


setup(ext_modules=programs(), cmdclass={"build_ext": BuildPrograms, "bdist_wheel": Wheel})
