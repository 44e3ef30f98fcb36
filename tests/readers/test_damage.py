"""What a library raises over a file, of whatever kind, is an error of ours that says what to do (rows 52, 80)."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
import scipy.io
from made_files import acqknowledge, avro, avro_session, edf, edf_signal, gdf, xdf, xdf_stream
from pyarrow import parquet

from tiny_biomoe.errors import SignalError
from tiny_biomoe.readers.read import read


def made(kind: str, folder: Path) -> Path:
    """A whole file of a format."""
    rng, path = np.random.default_rng(0), folder / f"a.{kind}"
    if kind == "hea":
        path.write_text("a 1 100 8\na.dat 16 200/mV 16 0 0 0 0 II\n")
        path.with_suffix(".dat").write_bytes(bytes(16))
    elif kind == "acq":
        acqknowledge(path, rng)
    elif kind == "xdf":
        xdf(path, xdf_stream(1, "band", "EDA", 4, 50 + np.arange(30) / 4, rng.random(30)))
    elif kind == "avro":
        avro(path, [avro_session(1_700_000_000, 4, rng)])
    elif kind == "edf":
        edf(path, [edf_signal("EDA", range(16))])
    elif kind == "gdf":
        gdf(path, ["EDA"], [0], rng.random((1, 100)), 1.0)
    elif kind == "mat":
        scipy.io.savemat(path, {"eda": rng.random(99), "fs": 4.0})
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["eda"] = rng.random(99)
            file.attrs["fs"] = 4.0
    elif kind == "parquet":
        parquet.write_table(pa.table({"eda": rng.random(99)}), path)
    elif kind == "npz":
        np.savez(path, eda=rng.random(99), fs=4.0)
    else:
        path.write_text("EDA\n1\n2\n")
    return path


class Odd(Exception):
    """An error that derives from no other."""


@pytest.mark.parametrize("error", [MemoryError, Odd, AssertionError, RecursionError])
@pytest.mark.parametrize(
    ("kind", "called"),
    [
        ("hea", "wfdb.rdrecord"),
        ("acq", "bioread.reader.Reader.read_headers"),
        ("xdf", "pyxdf.load_xdf"),
        ("avro", "fastavro.reader"),
        ("edf", "edfio.read_edf"),
        ("gdf", "mne.io.read_raw_gdf"),
        ("mat", "pymatreader.read_mat"),
        ("h5", "h5py.File"),
        ("parquet", "pyarrow.parquet.ParquetFile"),
        ("npz", "numpy.load"),
    ],
)
def test_row_52_whatever_a_library_raises_is_said_in_words(monkeypatch, tmp_path, kind, called, error):
    path = made(kind, tmp_path)

    def fails(*_: object, **__: object) -> None:
        raise error("8 EiB are lacking")

    assert len(read(path, fs=4 if kind == "parquet" else None)) > 0
    monkeypatch.setattr(called, fails)
    message = "holds more than fits into memory" if error is MemoryError else "8 EiB are lacking"
    with pytest.raises(SignalError, match=rf"a\.{kind}: .*{message}.*: fetch it again"):
        read(path)


def test_row_80_text_that_does_not_fit_into_memory(monkeypatch, tmp_path):
    path = made("csv", tmp_path)

    def fails(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 4096 failed")

    monkeypatch.setattr("pyarrow.csv.read_csv", fails)
    with pytest.raises(SignalError, match=r"a\.csv: too large for the memory: choose a column="):
        read(path, fs=4)
