"""The order of the house: files stand in the order of the data, and each imports only what stands above it."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / "tiny_biomoe"
FIRST_HALF = [
    "version",
    "errors",
    "durable",
    "config",
    "signals",
    "quality",
    "butterworth",
    "filters",
    "representations",
    "calls",
    "images",
    "recording_windows",
]
NETWORK = [
    "spectral_encoder",
    "waterfall_encoder",
    "network",
    "released",
    "checkpoint",
    "hub",
    "card",
    "threads",
    "weights",
]
RUNNING = [
    "packed",
    "recorded",
    "fast_threads",
    "matrix_filter",
    "fast_spectral",
    "fast_waterfall",
    "fast_network",
    "pages",
    "witness",
    "compiler",
    "program",
    "native",
    "channels",
    "onnx_file",
    "engine",
    "runtime",
]
FILES = [
    "clocks",
    "text_files",
    "csv_files",
    "device_files",
    "binary_files",
    "folders",
    "recordings",
    "wide_files",
    "studies",
]
BATCH = ["shard_plan", "shards", "segments", "pipeline", "embed_groups", "manifests", "batch", "loading"]
TOOLS = ["train", "estimators", "cluster", "export", "progress", "command_options", "embed_command", "later", "cli"]
ORDER = [*FIRST_HALF, *NETWORK, *RUNNING, *FILES, "model", "embedding", "selfcheck", "tables", *BATCH, *TOOLS]
MODULES = [name for name in ORDER if (PACKAGE / f"{name}.py").exists()]
SOURCES = sorted(PACKAGE.rglob("*.py"))
PROGRAM = ["memory", "simd", "activations", "parallel", "panels", "tiles", "product", "layers", "attention"]  # cpp/
PROGRAM += ["filter", "spectral", "waterfall", "network"]


def own_imports(name):
    """The modules of the package that a module imports, wherever in it: `from .x import y`, `from . import x`."""
    for node in ast.walk(ast.parse((PACKAGE / f"{name}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tiny_biomoe"):
            yield node.module.partition(".")[2] or "__init__"
        elif isinstance(node, ast.Import):
            yield from [alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("tiny_biomoe")]


def test_every_module_has_its_place():
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"} <= set(ORDER)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_stands_above_it(name):
    assert set(own_imports(name)) <= set(ORDER[: ORDER.index(name)])


def test_the_first_half_does_not_import_torch():
    modules = ", ".join(f"tiny_biomoe.{name}" for name in FIRST_HALF)
    script = f"import {modules}, sys; print([name for name in ('torch', 'matplotlib', 'pywt') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_stays_short_and_has_a_purpose(path):
    text = path.read_text()
    assert len(text.splitlines()) < 300
    assert path.stem not in ("utils", "util", "helpers", "misc", "common")
    assert ast.get_docstring(ast.parse(text)), "a file opens with what it is for"


def test_the_program_stands_in_order_and_in_short_files():
    found = {path.stem: path.read_text() for path in (PACKAGE / "cpp").iterdir()}
    assert sorted(found) == sorted(PROGRAM)
    for place, name in enumerate(PROGRAM):
        assert set(re.findall(r'#include "(\w+)\.h"', found[name])) <= set(PROGRAM[:place])
        assert found[name].startswith("// "), "a file opens with what it is for"
        assert len(found[name].splitlines()) < 300
