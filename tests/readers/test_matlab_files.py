"""MATLAB files of version 5 (written by SciPy) and 7.3 (HDF5, laid out as MATLAB does), and a real one."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from real_files import channels, device, faults_of_damage

from tiny_biomoe.errors import SignalError
from tiny_biomoe.readers.formats import recognise
from tiny_biomoe.readers.read import read


def write_5(path: Path, content: dict) -> Path:
    scipy.io.savemat(path, content, do_compression=True)
    return path


def write_73(path: Path, content: dict) -> Path:
    """HDF5 behind a block of 512 bytes; arrays lie transposed, structures are groups, the class is an attribute."""
    with h5py.File(path, "w", userblock_size=512) as file:
        _fill(file, content)
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def _fill(group, content: dict) -> None:
    for name, value in content.items():
        if isinstance(value, dict):
            inner = group.create_group(name)
            inner.attrs["MATLAB_class"] = np.bytes_(b"struct")
            _fill(inner, value)
            continue
        words = isinstance(value, str)
        array = np.array([[ord(letter)] for letter in value], "u2") if words else np.atleast_2d(np.asarray(value)).T
        data = group.create_dataset(name, data=array)
        data.attrs["MATLAB_class"] = np.bytes_(b"char" if words else {"f": b"double", "i": b"int16"}[array.dtype.kind])


@pytest.fixture(params=[write_5, write_73], ids=["5", "7.3"])
def write(request, tmp_path):
    return lambda content: request.param(tmp_path / "a.mat", content)


def test_vectors_rows_and_structures(write, rng):
    ecg, pair = rng.standard_normal(500), rng.standard_normal((2, 300))
    path = write(
        {
            "ecg": ecg,
            "fs": 250.0,
            "counts": np.arange(400, dtype="i2"),
            "pair": pair,
            "who": "someone",
            "eda": {"data": rng.standard_normal(80), "srate": 4.0},
        }
    )
    assert recognise(path) == "matlab"
    found = channels(path)
    assert set(found) == {"ecg", "counts", "pair[0]", "pair[1]", "eda.data"}
    assert found["ecg"].samples.tolist() == ecg.tolist()
    assert [found["pair[0]"].samples.tolist(), found["pair[1]"].samples.tolist()] == pair.tolist()
    assert found["counts"].samples.dtype == np.float64
    assert [found[name].fs for name in ("ecg", "pair[1]", "eda.data")] == [250, 250, 4]
    assert read(path, modality="eda")[0].fs == 4


def test_columns_of_an_upright_array_are_not_guessed(write, rng):
    path = write({"trials": rng.standard_normal((300, 2)), "ecg": rng.standard_normal(300), "fs": 100.0})
    assert [each.channel for each in read(path)] == ["ecg"]
    with pytest.raises(SignalError, match=r"is an array of 300 x 2: signals are rows, .* trials\.', or each column"):
        read(path, column="trials")


def test_complex_numbers_are_no_signal(tmp_path, rng):
    path = write_5(tmp_path / "a.mat", {"z": rng.standard_normal(9) * 1j, "x": rng.standard_normal(9), "fs": 10.0})
    with pytest.raises(SignalError, match="holds complex numbers: save its real part"):
        read(path, column="z")


def test_a_table_is_named_and_the_others_are_read(tmp_path, rng):
    """A table is kept as an object whose numbers mean nothing outside MATLAB."""
    path = write_73(tmp_path / "a.mat", {"ecg": rng.standard_normal(300), "fs": 100.0, "recording": np.arange(6.0)})
    with h5py.File(path, "r+") as file:
        file["recording"].attrs["MATLAB_class"] = np.bytes_(b"table")
    assert [each.channel for each in read(path)] == ["ecg"]
    with pytest.raises(SignalError, match=r"an object of MATLAB \(table, timetable, string .*table2struct"):
        read(path, column="recording")


def test_an_object_within_a_structure(tmp_path, rng):
    path = write_73(tmp_path / "a.mat", {"ecg": rng.standard_normal(300), "s": {"t": np.arange(6.0)}, "fs": 100.0})
    with h5py.File(path, "r+") as file:
        file["s/t"].attrs["MATLAB_class"] = np.bytes_(b"timetable")
    with pytest.raises(SignalError, match="an object of MATLAB"):
        read(path, column="s")


def test_a_file_of_words(write):
    with pytest.raises(SignalError, match="the file holds no arrays of numbers"):
        read(write({"who": "someone", "fs": 100.0}))


def test_without_a_rate(write, rng):
    path = write({"ecg": rng.standard_normal(300)})
    with pytest.raises(SignalError, match="does not hold its sampling rate"):
        read(path)
    assert read(path, fs=125)[0].fs == 125


@pytest.mark.parametrize("keep", [0.05, 0.3, 0.6, 0.95])
def test_a_truncated_file(write, rng, keep):
    path = write({"ecg": rng.standard_normal(5000), "fs": 100.0})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(SignalError, match=r"a\.mat: (not a whole MATLAB file|the file holds no arrays)"):
        read(path)


def test_a_real_file():
    path = device("matlab/heartpy_data.mat")
    (found,) = channels(path).values()
    assert found.samples.tolist() == scipy.io.loadmat(path)["hr"][:, 0].tolist()
    assert (found.name, found.samples.size) == ("hr", 2483)


def test_damaged_files_give_signals_or_errors(write, rng):
    assert faults_of_damage(write({"ecg": rng.standard_normal(50), "fs": 10.0, "s": {"a": np.arange(9.0)}}), rng) == []
