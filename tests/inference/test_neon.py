"""The level for 64-bit ARM: compiled for it here, run under emulation, and compared with AVX2's bytes."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_networks import NARROW

from tiny_biomoe.config import Architecture, Config
from tiny_biomoe.inference import native_backend, native_program
from tiny_biomoe.inference import native_build as compiler
from tiny_biomoe.network.network import Network
from tiny_biomoe.weights.loading import arrays

CXX, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
SYSTEM = "/usr/aarch64-linux-gnu"  # where Debian keeps that machine's libraries
SIDE = 112  # pixels of the image: a quarter of the work
EMBEDDING, ROWS = 64, (4 + 2) * 32

pytestmark = [
    pytest.mark.skipif(not shutil.which(CXX) or not shutil.which(EMULATOR), reason=f"needs {CXX} and {EMULATOR}"),
    pytest.mark.skipif(
        "avx2" not in compiler.levels() or not compiler.LEVELS["avx2"].abilities <= native_program.abilities(),
        reason="compares with a processor that has AVX2",
    ),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A network of random weights and a picture of noise on a slope, as the program reads them."""
    folder, config = tmp_path_factory.mktemp("neon"), Config(architecture=Architecture(**NARROW))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tensors = arrays(Network(config, SIDE).state_dict())
    np.array([SIDE, *native_backend.flat(config.architecture)], np.int32).tofile(folder / "numbers")
    room = sum(tensor.size for tensor in tensors.values()) + native_backend.SPARE
    native_backend.joined(native_backend.Layers(tensors, config.architecture).all(), room).tofile(folder / "weights")
    noise = np.random.RandomState(0).randint(0, 128, (SIDE, SIDE))
    (noise + np.arange(SIDE)).astype(np.uint8).tofile(folder / "picture")
    return folder


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> tuple[Path, Path]:
    """The level's program, built here or taken from the wheel that `NEON_WHEEL` names, and what runs it."""
    folder = tmp_path_factory.mktemp("programs")
    library, driver = folder / "neon.so", folder / "embed_once"
    if wheel := os.environ.get("NEON_WHEEL"):
        with zipfile.ZipFile(wheel) as packed:
            (held,) = (name for name in packed.namelist() if name.endswith(".so"))
            library.write_bytes(packed.read(held))
    else:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("CXX", CXX)
            command = compiler.command(*compiler.LEVELS["neon"].options)
        subprocess.run([*command, compiler.SOURCE / "network.cpp", "-o", library], check=True)
    native_program.require_whole(library.read_bytes())
    source = Path(__file__).with_name("embed_once.c")
    subprocess.run([CXX.replace("g++", "gcc"), "-O1", "-Wall", "-Werror", source, "-o", driver, "-ldl"], check=True)
    return library, driver


def of_avx2(files: Path, half: bool) -> np.ndarray:
    """Vector and rows by the program for AVX2, in this process."""
    library, message = native_program.opened(compiler.program_path("avx2")), ctypes.create_string_buffer(200)
    numbers, weights = np.fromfile(files / "numbers", np.int32), np.fromfile(files / "weights", np.float32)
    picture, out = np.fromfile(files / "picture", np.uint8), np.empty(EMBEDDING + ROWS, np.float32)
    network = library.build(numbers.ctypes.data, weights.ctypes.data, weights.size, half, message, 200)
    assert network, message.value
    rows = out[EMBEDDING:].ctypes.data
    assert library.embed(network, picture.ctypes.data, 1, 1, out.ctypes.data, rows) == 0
    library.destroy(network)
    return out


@pytest.mark.parametrize(("precision", "threads"), [("float32", 1), ("bfloat16", 2)])
def test_maps_have_the_bytes_of_avx2(precision, threads, files, programs):
    half = precision == "bfloat16"
    library, driver = programs
    given = [library, *(files / name for name in ("numbers", "weights", "picture"))]
    numbers = map(str, (int(half), threads, EMBEDDING, ROWS))
    done = subprocess.run([EMULATOR, "-L", SYSTEM, driver, *given, *numbers], capture_output=True)
    assert done.returncode == 0, done.stderr
    found, expected = np.frombuffer(done.stdout, np.float32), of_avx2(files, half)
    assert found[EMBEDDING:].tobytes() == expected[EMBEDDING:].tobytes()
    assert np.abs(expected[EMBEDDING:]).max() > 0.1
    # behind the maps, the gate's expm1 is the C library's, which may round otherwise
    np.testing.assert_allclose(found[:EMBEDDING], expected[:EMBEDDING], rtol=0, atol=1e-6)
    assert np.abs(expected[:EMBEDDING]).max() > 0.1
