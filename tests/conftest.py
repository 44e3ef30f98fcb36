"""What several test modules share: a seeded generator, one synthetic signal a modality, the real recordings."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import pywt

ROOT = Path(__file__).parents[1]
COMPILER = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
SEED = 20251123


class Sampled(NamedTuple):
    """A signal, read-only so that whoever writes to it is caught, and its rate in Hz."""

    signal: np.ndarray
    fs: float


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


@pytest.fixture(scope="session")
def examples() -> dict[str, Sampled]:
    """One signal a modality, at an everyday rate, with roughly its physiology; the ECG is a real one."""
    rng = np.random.default_rng(SEED)

    def seconds(duration: float, fs: float) -> np.ndarray:
        return np.arange(round(duration * fs)) / fs

    slow, pulse, breath, minute, brain = (
        seconds(60, 4),
        seconds(20, 64),
        seconds(40, 25),
        seconds(120, 1),
        seconds(8, 128),
    )
    burst = np.exp(-((seconds(2, 1000) - 1) ** 2) / 0.1)
    made = {
        "eda": Sampled(5 - 0.01 * slow + np.exp(-((slow - 20) ** 2) / 8) + 0.01 * rng.standard_normal(slow.size), 4),
        "bvp": Sampled(np.sin(2 * np.pi * 1.1 * pulse) + 0.4 * np.sin(4 * np.pi * 1.1 * pulse + 1), 64),
        "resp": Sampled(np.sin(2 * np.pi * 0.25 * breath) * (1 + 0.3 * np.sin(2 * np.pi * 0.03 * breath)), 25),
        "spo2": Sampled(np.round(97 + np.sin(2 * np.pi * minute / 21) + 0.5 * rng.standard_normal(minute.size)), 1),
        "ecg": Sampled(pywt.data.ecg().astype(float), 360),
        "emg": Sampled(burst * rng.standard_normal(burst.size), 1000),
        "eeg": Sampled(20 * np.sin(2 * np.pi * 10 * brain) + 8 * rng.standard_normal(brain.size), 128),
    }
    for signal, _ in made.values():
        signal.setflags(write=False)
    return made


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """Noise, a slope, a checkerboard and one level, (4, 224, 224)."""
    grid = np.add.outer(np.arange(224), np.arange(224))
    noise = np.random.RandomState(20251123).randint(0, 256, (224, 224))
    return np.stack([noise, grid // 2, grid // 8 % 2 * 255, np.full((224, 224), 100)]).astype(np.uint8)


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Where the real recordings lie."""
    folder = ROOT.parent / "shared" / "data" / "recordings"
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}")
    return folder


@pytest.fixture(params=["native", "torch"])
def backend(request):
    """Each backend that needs no extra."""
    if request.param == "native":
        from tiny_biomoe.inference.native_program import native_program

        if native_program("float32") is None:
            pytest.skip("no native program for this processor")
    return request.param


@pytest.fixture
def run(capsys):
    """Run the command line; gives exit code, standard output, standard error."""
    from tiny_biomoe.cli.main import main

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call
