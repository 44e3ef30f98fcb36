"""The examples run, and the wheel holds all that is needed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_embed_recording_runs():
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "embed_recording.py"], capture_output=True, text=True, check=True
    )
    assert "8 windows of 20 s, 192 numbers each" in done.stdout


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("linear_probe", r"40 vectors of 192 numbers, 10 people(.|\n)*balanced accuracy 0\.[6-9]"),
        ("finetune_stress", r"epoch 3: loss 0(.|\n)*accuracy=(.|\n)*a new window: calm 0\.\d\d, stress 0\.\d\d"),
        ("fuse_modalities", r"1 images by concat(.|\n)*3 images by add(.|\n)*3 images by concat: macro accuracy"),
    ],
)
def test_training_examples_run(name, says, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert re.search(says, done.stdout), done.stdout
    assert not list(tmp_path.iterdir())


def test_wheel_installs_into_an_empty_environment_and_embeds_without_a_network(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 16e6
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
    done = subprocess.run(
        [python, "-c", program], env=dependencies, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert str(tmp_path / "env") in done.stdout
    assert "(192,)" in done.stdout
