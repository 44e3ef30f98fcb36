"""The layout: folders stand in the order in which data moves, and each imports only what stands above it."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / "tiny_biomoe"
ORDER = ["version", "errors", "sealed_files", "config", "signals", "images", "weights", "network", "inference"]
ORDER += ["embedding", "model", "readers", "recordings", "batch", "train", "estimators", "cluster", "explore", "cli"]
SOURCES = sorted(PACKAGE.rglob("*.py"))
CPP = ["memory", "simd", "activations", "parallel", "panels", "tiles", "product", "layers", "attention"]
CPP += ["spectral_filter", "spectral_encoder", "waterfall_encoder", "network"]


def place(path):
    """The folder, or the module at the top, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def own_imports(path):
    """The folders, and the modules at the top, that a file imports from, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            parents = path.relative_to(PACKAGE).parts[: -node.level]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from [(*parents, *name.split("."))[0] for name in names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tiny_biomoe":
            yield (node.module.split(".") + ["__init__"])[1]
        elif isinstance(node, ast.Import):
            yield from [(alias.name + ".__init__").split(".")[1] for alias in node.names if "tiny_biomoe" in alias.name]


def test_every_folder_has_its_place():
    assert {place(path) for path in SOURCES} - {"__init__", "__main__"} <= set(ORDER)


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if place(p) in ORDER], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_a_file_imports_only_what_stands_above_its_folder(path):
    assert set(own_imports(path)) <= set(ORDER[: ORDER.index(place(path)) + 1])


def test_signals_and_images_need_neither_torch_nor_readers():
    modules = ", ".join(
        f"tiny_biomoe.{path.relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.')}"
        for path in SOURCES
        if place(path) in ("signals", "images") and path.stem != "__init__"
    )
    script = f"import {modules}, sys; print([name for name in ('torch', 'matplotlib', 'pywt') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_says_what_it_is_for(path):
    assert path.stem not in ("utils", "util", "helpers", "misc", "common")
    assert ast.get_docstring(ast.parse(path.read_text())), "a file opens with what it is for"


def test_the_cpp_files_stand_in_order_and_say_what_they_are_for():
    found = {path.stem: path.read_text() for path in (PACKAGE / "inference" / "cpp").iterdir()}
    assert sorted(found) == sorted(CPP)
    for position, name in enumerate(CPP):
        assert set(re.findall(r'#include "(\w+)\.h"', found[name])) <= set(CPP[:position])
        assert found[name].startswith("// ")
