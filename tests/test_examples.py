"""The examples run, and the wheel holds all that is needed."""

from __future__ import annotations

import copy
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import venv
from itertools import combinations
from pathlib import Path
from zipfile import ZipFile

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from tiny_biomoe import TinyBioMoE, __version__
from tiny_biomoe.inference.native_build import PROGRAMS
from tiny_biomoe.readers.read import read
from tiny_biomoe.train import TrainedClassifier

ROOT = Path(__file__).parent.parent


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """What an example prints, run as a script in an empty folder, where it leaves nothing."""

    def run(name: str, *arguments: object) -> str:
        folder, script = tmp_path / "empty", ROOT / "examples" / f"{name}.py"
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        installed = [
            each for each in sys.path if not Path(each or ".").resolve().is_relative_to(ROOT) or ".venv" in each
        ]
        monkeypatch.setattr(sys, "path", [str(script.parent), *installed])
        runpy.run_path(str(script), run_name="__main__")
        assert not list(folder.iterdir())
        return capsys.readouterr().out

    return run


def test_embed_recording_finds_the_two_windows_that_are_most_alike(said):
    text = said("embed_recording")
    assert "8 windows of 20 s, 192 numbers each" in text
    (recording,) = read(ROOT / "examples" / "recordings" / "respiration.csv")
    model = TinyBioMoE.from_pretrained()
    vectors = model.embed_windows(recording.signal, recording.fs, "resp", window=20, stride=5).embeddings
    lengths = np.sqrt((vectors.astype(float) ** 2).sum(1))
    cosine = {(a, b): vectors[a] @ vectors[b] / lengths[a] / lengths[b] for a, b in combinations(range(8), 2)}
    a, b = max(cosine, key=cosine.get)
    assert f"most alike: {5 * a}-{5 * a + 20} s and {5 * b}-{5 * b + 20} s" in text
    assert f"made by {model.config.name}" in text


def test_linear_probe_tells_people_it_never_saw(said):
    text = said("linear_probe")
    assert "40 vectors of 192 numbers, 10 people, 5 folds by person" in text
    assert float(re.search(r"balanced accuracy (\d\.\d\d)", text)[1]) >= 0.8


def test_finetune_stress_learns_and_what_it_saved_is_read_back(said, tmp_path):
    text = said("finetune_stress", tmp_path / "saved")
    losses = [float(loss) for loss in re.findall(r"epoch \d+: loss (\d\.\d\d)", text)]
    assert losses[-1] < 0.8 * losses[0]
    accuracy = float(re.search(r"accuracy=(\d\.\d+)", text)[1])
    assert accuracy >= 0.75
    classifier = TrainedClassifier.load(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "evaluation.json").read_text())["accuracy"] == pytest.approx(accuracy)
    assert [row["epoch"] for row in classifier.history] == list(range(len(losses)))
    assert "A classifier of calm, stress" in (tmp_path / "saved" / "README.md").read_text()
    for name in ("learning_curve.png", "confusion.png"):
        Image.open(tmp_path / "saved" / name).verify()
    calm, stress = map(float, re.search(r"a new window: calm (\d\.\d\d), stress (\d\.\d\d)", text).groups())
    assert stress > 0.5 > calm


def test_fuse_modalities_learns_from_what_is_there_and_says_the_same_again(said):
    text = said("fuse_modalities")
    rows = re.findall(r"(\d) images by (\w+): macro accuracy (\d\.\d\d), F1 (\d\.\d\d)", text)
    assert [row[:2] for row in rows] == [("1", "concat"), ("3", "add"), ("3", "concat")]
    assert min(float(number) for row in rows for number in row[2:]) >= 0.75
    assert said("fuse_modalities") == text


@pytest.mark.parametrize("name", ["quickstart", "study"])
def test_a_notebook_runs_and_keeps_its_outputs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copy(ROOT / "examples" / "made_up_study.py", tmp_path)
    kept = nbformat.read(ROOT / "examples" / f"{name}.ipynb", 4)
    notebook = copy.deepcopy(kept)
    place = {"metadata": {"path": tmp_path}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()

    def kinds(cells):
        return [
            sorted({" ".join(sorted(each.get("data", {each["output_type"]: 0}))) for each in cell.get("outputs", [])})
            for cell in cells
        ]

    assert kinds(kept.cells) == kinds(notebook.cells)
    assert "image/png" in str(kinds(kept.cells))
    assert (ROOT / "examples" / f"{name}.ipynb").stat().st_size < 300_000


COPY = """\
import shutil, sys
(level,) = [path for path in {paths} if path.split("/")[-1] == sys.argv[sys.argv.index("-o") + 1].split("/")[-1]]
shutil.copy(level, sys.argv[sys.argv.index("-o") + 1])
"""  # in the compiler's place: the native programs that `make setup` compiled, from the same source by the same options


def test_wheel_installs_into_an_empty_environment_and_embeds_without_a_network(tmp_path):
    """Of the programs that are here; `make wheel` compiles them and lets pip find the dependencies."""
    compiler = tmp_path / "compiler.py"
    compiler.write_text(COPY.format(paths=[str(path) for path in PROGRAMS.glob("*.so")]))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run(command, check=True, env={**os.environ, "CXX": f"{sys.executable} {compiler}"})
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 16e6
    names = ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"tiny_biomoe", f"tiny_biomoe-{__version__}.dist-info"}
    assert {name.split("/")[-1] for name in names if name.endswith(".so")} == {
        path.name for path in PROGRAMS.glob("*.so")
    }
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [python, "-I", "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel]  # -I: as if PYTHONPATH
    subprocess.run(install, check=True)  # were empty, where pip would find this tree and be content with it
    program = (
        "import socket, sys\n"
        "def refuse(*a): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "import numpy, tiny_biomoe\n"
        "x = numpy.sin(numpy.arange(999) / 9)\n"
        "print(tiny_biomoe.__file__, tiny_biomoe.embed(x, fs=100, modality='ecg').shape)\n"
    )
    dependencies = {**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")}  # a path there runs no .pth file
    done = subprocess.run([python, "-c", program], env=dependencies, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "env") in done.stdout
    assert "(192,)" in done.stdout
