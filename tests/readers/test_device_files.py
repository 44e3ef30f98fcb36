"""Files as devices and programs write them: read back as written, and damage named."""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
import random
import re
import sys
import zipfile
from pathlib import Path

import edfio
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import wfdb
from conftest import ROOT

from tiny_biomoe.errors import ConfigError, SignalError, SignalWarning, TinyBioMoEError
from tiny_biomoe.readers import damage
from tiny_biomoe.readers.columns import NoSignal
from tiny_biomoe.readers.empatica_files import looks_like_e4
from tiny_biomoe.readers.read import Recording, read

NAN = np.nan
UTC = datetime.timezone.utc


def facts(recordings: list[Recording]) -> list[tuple[object, ...]]:
    return [(each.channel, each.fs, each.modality, each.start, each.signal.tolist()) for each in recordings]


def only(recordings: list[Recording]) -> Recording:
    (recording,) = recordings
    return recording


# --- Empatica E4 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "rate", "modality"), [("BVP", 64, "bvp"), ("EDA", 4, "eda"), ("TEMP", 4, None)])
@pytest.mark.parametrize("format_name", [None, "e4"])
def test_row_46_an_e4_export_holds_start_and_rate(tmp_path, name, rate, modality, format_name):
    path = tmp_path / f"{name}.csv"
    path.write_text(f"1644226061.000000\r\n{rate}.000000\r\n0.5\r\n1.5\r\n")
    assert facts(read(path, format=format_name)) == [(name, rate, modality, 1644226061.0, [0.5, 1.5])]


def test_row_108_the_heart_rate_of_an_e4_is_no_signal(tmp_path):
    path = tmp_path / "HR.csv"
    path.write_text("1644226061.000000\r\n1.000000\r\n61.5\r\n62\r\n")
    with pytest.raises(NoSignal, match=r"HR\.csv: no column .* 'HR' is not read: derived .* \(hr\); .* column="):
        read(path)
    with pytest.warns(SignalWarning, match="read because it was named, although 'HR' is derived"):
        assert only(read(path, column="HR")).signal.tolist() == [61.5, 62]


def test_row_46_an_e4_accelerometer_has_three_axes(tmp_path):
    path = tmp_path / "ACC.csv"
    path.write_text("1644226061.0, 1644226061.0, 1644226061.0\n32.0, 32.0, 32.0\n-19,46,31\n-18,45,30\n")
    expected = {"ACC_x": [-19, -18], "ACC_y": [46, 45], "ACC_z": [31, 30]}
    found = read(path)
    assert {each.channel: each.signal.tolist() for each in found} == expected
    assert {(each.fs, each.modality, each.start) for each in found} == {(32.0, None, 1644226061.0)}
    assert only(read(path, column="ACC_z")).signal.tolist() == [31, 30]
    with pytest.raises(SignalError, match="the file says that it measures acceleration, not eda: if one is, choose it"):
        read(path, modality="eda")


def test_row_46_the_file_name_may_say_more(tmp_path):
    path = tmp_path / "S01_EDA.left.csv"
    path.write_text("1644226061\n4\n0.5\n")
    assert only(read(path)).modality == "eda"


@pytest.mark.parametrize("text", ["1644226061\n4\n", "ECG\n1\n2\n", "1,2\n4,4\n5,6\n", "NA\n4\n5\n"])
def test_row_46_what_is_no_e4_export(tmp_path, text):
    path = tmp_path / "EDA.csv"
    path.write_text(text)
    with pytest.raises(SignalError, match="not an Empatica E4 file: row 1 must be the start|is not a number"):
        read(path, format="e4")


@pytest.mark.parametrize(
    "head", [b"1644226061\n1644226062\n", b"5\n64\n", b"1644226061\n", b"a\nb\n", b"1644226061\n50\n1\n"]
)
def test_row_46_other_columns_of_numbers_are_not_taken_for_an_e4(head):
    assert not looks_like_e4(head)


# --- OpenSignals and BioSPPy -----------------------------------------------------------------------------------------

DEVICE = {
    "sensor": ["EDA", "fSpO2"],
    "column": ["nSeq", "DI", "CH1", "CH2"],
    "label": ["CH1", "CH2"],
    "time": "9:33:55.5",
    "date": "2017-1-17",
    "sampling rate": 100,
}
STARTED = datetime.datetime(2017, 1, 17, 9, 33, 55, 500_000, UTC).timestamp()


def opensignals(devices: dict[str, object], rows: list[str]) -> str:
    return "\n".join(["# OpenSignals Text File Format", f"# {json.dumps(devices)}", "# EndOfHeader", *rows, ""])


def test_opensignals_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(opensignals({"00:07": DEVICE}, ["0\t0\t5\t7\t", "1\t0\t6\t8\t"]))
    expected = [("CH1", 100.0, "eda", STARTED, [5, 6]), ("CH2", 100.0, None, STARTED, [7, 8])]
    assert facts(read(path)) == expected
    assert facts(read(path, column="CH2", modality="bvp")) == [("CH2", 100.0, "bvp", STARTED, [7, 8])]
    assert facts(read(path, modality="eda")) == expected[:1]


def test_opensignals_text_of_two_devices(tmp_path):
    path = tmp_path / "a.txt"
    slow = DEVICE | {"sampling rate": 50, "sensor": ["ECG"], "label": ["CH1"], "column": ["nSeq", "CH1"]}
    path.write_text(opensignals({"A": DEVICE, "B": slow}, ["0\t0\t5\t7\t0\t9", "1\t0\t6\t8\t1\t10"]))
    assert [(each.channel, each.fs, each.signal.tolist()) for each in read(path)] == [
        ("A CH1", 100.0, [5, 6]),
        ("A CH2", 100.0, [7, 8]),
        ("B CH1", 50.0, [9, 10]),
    ]


def test_opensignals_lost_samples_show_in_the_counter(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(opensignals({"A": DEVICE}, [f"{n}\t0\t{n}\t0" for n in [*range(10), *range(15, 20)]]))
    with pytest.raises(
        SignalError, match="time column 'nSeq', row 14: samples are missing for 0.06 s, the first of 1 holes"
    ):
        read(path)
    first, second = read(path, column="CH1", on_hole="split")
    assert (first.channel, second.channel) == ("CH1[0:10]", "CH1[10:15]")
    assert second.start - first.start == pytest.approx(0.15)
    assert only(read(path, column="CH1", time_column="")).signal.size == 15


@pytest.mark.parametrize(("bits", "length"), [(4, 100), (15, 40_000), (16, 70_000)])
def test_row_112_a_counter_that_wraps_shows_lost_samples(tmp_path, bits, length):
    path, lost = tmp_path / "a.txt", range(length - 20, length - 15)
    rows = [f"{n % 2**bits}\t0\t{n % 7}\t{n % 5}" for n in range(length)]
    path.write_text(opensignals({"A": DEVICE}, rows))
    assert [each.signal.size for each in read(path)] == [length, length]
    path.write_text(opensignals({"A": DEVICE}, [row for n, row in enumerate(rows) if n not in lost]))
    with pytest.raises(SignalError, match=f"row {length - 16}: samples are missing for 0.06 s, the first of 1 holes"):
        read(path)
    assert [each.signal.size for each in read(path, column="CH1", on_hole="split")] == [length - 20, 15]


def test_row_112_a_counter_that_stops_shows_nothing_more(tmp_path):
    path = tmp_path / "a.txt"
    rows = [f"{min(n, 65535)}\t0\t{n % 7}\t{n % 5}" for n in range(66_000)]
    path.write_text(opensignals({"A": DEVICE}, rows))
    assert [each.signal.size for each in read(path)] == [66_000, 66_000]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"A": DEVICE | {"column": ["nSeq"]}}, "header cannot be read"),
        ({"A": {}}, "header cannot be read"),
        ([1], "header cannot be read"),
        (
            {"A": DEVICE | {"column": ["nSeq", "DI", "X", "Y", "CH1", "CH2"]}},
            "the rows have 4 columns, fewer than the header",
        ),
        ({"A": DEVICE | {"sampling rate": 0}}, "gives its sampling rate as 0.0: it is damaged"),
    ],
)
def test_opensignals_header_that_does_not_fit(tmp_path, header, message):
    path = tmp_path / "a.txt"
    path.write_text(opensignals(header, ["0\t0\t5\t7", "1\t0\t6\t8"]))
    with pytest.raises(SignalError, match=rf"a\.txt: .*{message}"):
        read(path)


def test_biosppy_text(tmp_path):
    path = tmp_path / "a.txt"
    head = "# Simple Text Format\n# Sampling Rate (Hz):= 125.50\n# Date:= 2021-07-18T23:58:26.5\n# Labels:= "
    path.write_text(head + "PPG\traw\n1.5\t2\n3.5\t4\n")
    start = datetime.datetime(2021, 7, 18, 23, 58, 26, 500_000, UTC).timestamp()
    assert facts(read(path)) == [("PPG", 125.5, "bvp", start, [1.5, 3.5]), ("raw", 125.5, None, start, [2, 4])]
    for date in ("2021-07-18T23:58:26.500000001", "2021-07-18T23:58:26.50Z", "2021-07-19 01:58:26.500+02:00"):
        path.write_text(head.replace("2021-07-18T23:58:26.5", date) + "PPG\n1.5\n3.5\n")
        assert facts(read(path)) == [("PPG", 125.5, "bvp", start, [1.5, 3.5])]
    path.write_text("# Labels:= ECG\n1\n2\n")
    assert facts(read(path, format="biosppy", fs=100)) == [("ECG", 100.0, "ecg", None, [1, 2])]


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("# Sampling Rate (Hz):= 100\n# Labels:= a\tb", "the header labels 2 columns, the rows have 1"),
        ("# Sampling Rate (Hz):= fast", "rate or date cannot be read"),
        ("# Sampling Rate (Hz):= -5", "gives its sampling rate as -5.0"),
        ("# Sampling Rate (Hz):= 100\n# Date:= yesterday", "rate or date cannot be read"),
    ],
)
def test_biosppy_header_that_does_not_fit(tmp_path, head, message):
    path = tmp_path / "a.txt"
    path.write_text(f"{head}\n1\n2\n")
    with pytest.raises(SignalError, match=message):
        read(path)


# --- EDF, BDF --------------------------------------------------------------------------------------------------------


def edf_file(path: Path, **options: object) -> Path:
    """Two signals of 4 s at 100 and 10 Hz."""
    made = edfio.Bdf if path.suffix == ".bdf" else edfio.Edf
    signal = edfio.BdfSignal if path.suffix == ".bdf" else edfio.EdfSignal
    fast = signal(np.sin(np.arange(400) / 9), 100, label="EEG Fp1", physical_dimension="uV")
    slow = signal(np.arange(40.0), 10, label="EDA", physical_dimension="uS")
    recording = edfio.Recording(startdate=datetime.date(2020, 3, 16))
    made([fast, slow], recording=recording, starttime=datetime.time(19, 12, 51), **options).write(path)
    return path


@pytest.mark.parametrize("ending", ["edf", "bdf"])
def test_edf_and_bdf(tmp_path, ending):
    path = edf_file(tmp_path / f"a.{ending}", annotations=[edfio.EdfAnnotation(1, None, "blink")])
    start = datetime.datetime(2020, 3, 16, 19, 12, 51, tzinfo=UTC).timestamp()
    eeg, eda = read(path)
    assert (eeg.channel, eeg.fs, eeg.modality, eeg.start) == ("EEG Fp1", 100.0, "eeg", start)
    assert (eda.channel, eda.fs, eda.modality, eda.start) == ("EDA", 10.0, "eda", start)
    np.testing.assert_allclose(eeg.signal, np.sin(np.arange(400) / 9), atol=1e-4)
    np.testing.assert_allclose(only(read(path, column="EDA")).signal, np.arange(40), atol=1e-3)


def test_edf_that_hides_its_date(tmp_path):
    path = edf_file(tmp_path / "a.edf")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"Startdate 16-MAR-2020", b"Startdate X          "))
    assert read(path)[0].start is None


def test_row_26_edf_with_a_hole_between_records(tmp_path):
    path = edf_file(tmp_path / "a.edf", annotations=[])
    path.write_bytes(path.read_bytes().replace(b"+3\x14\x14", b"+7\x14\x14"))
    with pytest.raises(SignalError, match=r"samples are missing for 4\.01 s, the first of 1 holes"):
        read(path)
    parts = read(path, on_hole="split")
    assert [each.channel for each in parts] == ["EEG Fp1[0:300]", "EEG Fp1[300:400]", "EDA[0:30]", "EDA[30:40]"]
    assert parts[3].start - parts[2].start == 7
    eeg, eda = read(path, on_hole="nan")
    assert (eeg.holes, eda.holes) == (((3.0, 7.0),), ((3.0, 7.0),))
    assert np.isnan(eda.signal).tolist() == [*[False] * 30, *[True] * 40, *[False] * 10]
    assert [each.signal.size for each in read(path, time_column="")] == [400, 40]


@pytest.mark.parametrize("keep", [100, 700, -20])
def test_edf_cut_short(tmp_path, keep):
    path = edf_file(tmp_path / "a.edf")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SignalError, match=r"a\.edf: not a whole EDF file \(.*\): fetch it again"):
        read(path)


# --- WFDB ------------------------------------------------------------------------------------------------------------


def wfdb_record(folder: Path, name: str, values: np.ndarray, fs: float = 100) -> Path:
    names = ["MLII", "RESP", "hr"][: values.shape[1]]
    wfdb.wrsamp(
        name,
        fs=fs,
        units=["NU"] * len(names),
        sig_name=names,
        p_signal=values,
        fmt=["16"] * len(names),
        write_dir=str(folder),
    )
    return folder / f"{name}.hea"


def test_wfdb_record_with_gaps(tmp_path, rng):
    values = rng.standard_normal((300, 3))
    values[50:60, 1] = NAN
    found = read(wfdb_record(tmp_path, "a", values))
    assert [(each.channel, each.fs, each.modality) for each in found] == [
        ("MLII", 100.0, "ecg"),
        ("RESP", 100.0, "resp"),
    ]
    assert [(each.channel, each.failed) for each in found.left_out] == [("hr", False)]
    for index, each in enumerate(found):
        np.testing.assert_allclose(each.signal, values[:, index], atol=1e-3)
    assert only(read(tmp_path / "a.hea", modality="resp")).channel == "RESP"


def test_wfdb_segments_with_a_gap_between(tmp_path, rng):
    parts = [rng.standard_normal((200, 2)) for _ in range(2)]
    for index, part in enumerate(parts):
        wfdb_record(tmp_path, f"seg{index}", part)
    (tmp_path / "lay.hea").write_text("lay 2 100 0\n~ 0 200/NU 16 0 0 0 0 MLII\n~ 0 200/NU 16 0 0 0 0 RESP\n")
    (tmp_path / "a.hea").write_text("a/4 2 100 500\nlay 0\nseg0 200\n~ 100\nseg1 200\n")
    ecg, resp = read(tmp_path / "a.hea")
    whole = np.concatenate([parts[0], np.full((100, 2), NAN), parts[1]])
    np.testing.assert_allclose(np.transpose([ecg.signal, resp.signal]), whole, atol=1e-3)


@pytest.mark.parametrize(
    "name", ["../b.dat", "b/../../b.dat", "/etc/hostname", "missing.dat", "pipe.dat", "link.dat", "out/hostname"]
)
def test_wfdb_reads_nothing_but_plain_files_beside_the_header(tmp_path, name):
    os.mkfifo(tmp_path / "pipe.dat")
    (tmp_path / "link.dat").symlink_to("/etc/hostname")
    (tmp_path / "out").symlink_to("/etc")
    path = tmp_path / "a.hea"
    path.write_text(f"a 1 100 3\n{name} 16 200/mV 12 0 0 0 0 ECG\n")
    with pytest.raises(
        SignalError, match="the record needs .*, and no such file lies beside it|not a whole WFDB file .*invalid syntax"
    ):
        read(path)


def test_wfdb_segments_of_segments_are_refused(tmp_path):
    (tmp_path / "a.hea").write_text("a/1 1 100 3\na 3\n")
    with pytest.raises(SignalError, match="segment 'a' has segments of its own"):
        read(tmp_path / "a.hea")


def test_wfdb_damage(tmp_path, rng):
    path = wfdb_record(tmp_path, "a", rng.standard_normal((300, 1)))
    (tmp_path / "a.dat").write_bytes((tmp_path / "a.dat").read_bytes()[:100])
    with pytest.raises(SignalError, match=r"a\.hea: not a whole WFDB file"):
        read(path)
    path.write_text("a 0 100 0\n")
    with pytest.raises(SignalError, match="annotations only, no signals"):
        read(path)


# --- HDF5, Parquet, NumPy --------------------------------------------------------------------------------------------


def test_hdf5_of_opensignals_from_two_devices(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for device, sensor in (("A", "ECG"), ("B", b"RESPIRATION")):
            group = file.create_group(device)
            group.attrs.update({"sampling rate": 100, "date": "2017-1-17", "time": "9:33:55.5"})
            channel = group.create_dataset("raw/channel_1", data=np.arange(3).reshape(-1, 1))
            channel.attrs.update({"label": "CH1", "sensor": sensor})
    assert facts(read(path)) == [
        ("A CH1", 100.0, "ecg", STARTED, [0, 1, 2]),
        ("B CH1", 100.0, "resp", STARTED, [0, 1, 2]),
    ]


def test_hdf5_data_sets_are_named_by_the_caller(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["sensors/ecg"] = [1.0, 2.0]
        file["sensors/all"] = np.ones((2, 3))
        file["sensors/quality"] = [1.0, 0.5]
    assert facts(read(path, fs=100)) == [("sensors/ecg", 100.0, "ecg", None, [1, 2])]
    with h5py.File(path, "a") as file:
        file.move("sensors/ecg", "sensors/first")
    with pytest.raises(
        SignalError, match=r"HDF5 may hold anything: name the data sets .* of 'sensors/all', 'sensors/first'"
    ):
        read(path, fs=100)
    with h5py.File(path, "a") as file:
        file.move("sensors/first", "sensors/ecg")
        file["sensors"].attrs["sampling rate"] = [50.0]
    assert facts(read(path, column="sensors/ecg")) == [("sensors/ecg", 50.0, "ecg", None, [1, 2])]
    with pytest.raises(SignalError, match="sampled at 50 Hz, not at fs=100"):
        read(path, fs=100, column="sensors/ecg")
    with pytest.raises(SignalError, match=r"'/sensors/all' is float64 of shape \(2, 3\): one signal is \(n_samples,\)"):
        read(path, column="sensors/all")


def test_hdf5_shows_nothing_of_other_files(tmp_path):
    (tmp_path / "secret.bin").write_bytes(np.arange(4.0).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = [1.0]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("other.h5", "x")
        file.create_dataset("raw", (4,), float, external=[(str(tmp_path / "secret.bin"), 0, 32)])
        layout = h5py.VirtualLayout((1,), float)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (1,))
        file.create_virtual_dataset("virtual", layout)
    for name in ("link", "raw", "virtual"):
        with pytest.raises(SignalError, match=f"there is no column '{name}'"):
            read(tmp_path / "a.h5", fs=100, column=name)


def test_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    stamps = pa.array([1_600_000_000_000 + 10 * n for n in range(4)], pa.timestamp("ms"))
    columns = {"timestamp": stamps, "ECG": pa.array([1, 2, None, 4], pa.int16()), "note": ["a"] * 4, "EDA": [0.5] * 4}
    parquet.write_table(pa.table(columns), path)
    (ecg,) = read(path, column="ECG")
    assert (ecg.fs, ecg.modality, ecg.start) == (100.0, "ecg", 1.6e9)
    np.testing.assert_equal(ecg.signal, [1, 2, NAN, 4])
    assert [each.channel for each in read(path, column=["EDA", 1])] == ["EDA", "ECG"]
    assert [(each.channel, each.modality) for each in read(path)] == [("ECG", "ecg"), ("EDA", "eda")]
    assert [each.channel for each in read(path, modality="eda")] == ["EDA"]
    with pytest.raises(SignalError, match="column 'note': it holds string, not numbers"):
        read(path, column="note")
    with pytest.raises(SignalError, match="the file does not hold its sampling rate"):
        read(path, column="ECG", time_column="")


def test_parquet_of_one_column_needs_no_name(tmp_path):
    parquet.write_table(pa.table({" EDA ": [0.5, 1.5]}), tmp_path / "a.parquet")
    assert facts(read(tmp_path / "a.parquet", fs=4)) == [("EDA", 4.0, "eda", None, [0.5, 1.5])]


def test_numpy_array_and_archive(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([1, 2, 3], ">i2"))
    assert facts(read(path, fs=100, modality="ecg")) == [("0", 100.0, "ecg", None, [1, 2, 3])]
    np.save(path, np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    assert [(each.channel, each.signal.tolist()) for each in read(path, fs=100)] == [("0", [1, 2, 3]), ("1", [4, 5, 6])]
    archive = tmp_path / "a.npz"
    np.savez_compressed(archive, ecg=[1.0, 2.0], all=[[3, 4], [5, 6]], fs=250, note=np.array(["a"]))
    expected = [("ecg", 250.0, "ecg", [1, 2]), ("all[0]", 250.0, None, [3, 4]), ("all[1]", 250.0, None, [5, 6])]
    assert [(each.channel, each.fs, each.modality, each.signal.tolist()) for each in read(archive)] == expected


def test_a_numpy_recording_is_a_copy(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(3.0))
    (recording,) = read(path, fs=100)
    np.save(path, np.full(3, 9.0))
    assert recording.signal.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([{"a": 1}], object), "the array holds Python objects, which are not read: save numbers"),
        (np.array([1j]), "dtype complex128: samples must be real"),
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
        (np.zeros(0), "is empty"),
        (np.array(["a"]), "holds no channels"),
    ],
)
def test_numpy_arrays_that_hold_no_signal(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(SignalError, match=rf"a\.npy: .*{message}"):
        read(tmp_path / "a.npy", fs=100)


def test_row_113_an_array_of_an_archive_that_is_no_signal_costs_itself(tmp_path):
    odd = {"cells": np.array([{"a": 1}, 2], object), "cube": np.zeros((2, 2, 2)), "phasor": np.full(99, 1j)}
    np.savez(tmp_path / "a.npz", eda=np.arange(99.0) % 7, fs=4, **odd)
    with pytest.warns(SignalWarning, match="column 'cells' is not read: holds Python objects.*, and 2 more columns"):
        found = read(tmp_path / "a.npz", modality="eda")
    assert [(each.channel, each.fs) for each in found] == [("eda", 4)]
    assert [each.channel for each in found.left_out if each.failed] == ["cells", "cube", "phasor"]


def test_an_upright_array_is_read_as_it_stands_with_a_warning(tmp_path, rng):
    np.save(tmp_path / "a.npy", np.cumsum(rng.standard_normal((400, 2)), axis=0))
    with pytest.warns(SignalWarning, match=r"\(400, 2\) and is read as 400 signals of 2 samples each"):
        assert len(read(tmp_path / "a.npy", fs=4, modality="eda")) == 400


def test_small_files_that_claim_to_hold_much(tmp_path, monkeypatch):
    monkeypatch.setattr(damage, "MAX_BYTES", 8000)
    np.savez_compressed(tmp_path / "a.npz", ecg=np.zeros(2000))
    parquet.write_table(pa.table({"ecg": np.zeros(2000)}), tmp_path / "a.parquet")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("ecg", (10**12,), "f8", chunks=(1000,))
    for name in ("a.npz", "a.parquet", "a.h5"):
        with pytest.raises(SignalError, match="samples, more than 1000: choose a column=, or split the file"):
            read(tmp_path / name, fs=100, column="ecg")
    (tmp_path / "a.npy").write_bytes(
        np.lib.format.magic(1, 0)
        + b"v\0"
        + f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**12},)}}".ljust(117).encode()
        + b"\n"
    )
    with pytest.raises(SignalError, match=r"not a whole NumPy file"):
        read(tmp_path / "a.npy", fs=100)


# --- All of them -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, Path]:
    """One small file of every format."""
    folder = tmp_path_factory.mktemp("samples")
    ramp = np.arange(50.0)
    texts = {
        "csv": "a,b\n" + "1.5,2\n" * 20,
        "e4": "1644226061\n4\n" + "0.5\n" * 20,
        "opensignals": opensignals({"A": DEVICE}, [f"{n}\t0\t5\t7" for n in range(20)]),
        "biosppy": "# Simple Text Format\n# Sampling Rate (Hz):= 100.0\n# Labels:= ECG\n" + "1\n" * 20,
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    edf_file(folder / "a.edf", annotations=[edfio.EdfAnnotation(1, 1, "x")])
    edf_file(folder / "a.bdf")
    wfdb_record(folder, "rec", ramp.reshape(-1, 1))
    parquet.write_table(pa.table({"ecg": ramp}), folder / "parquet")
    np.savez(folder / "numpy.npz", ecg=ramp, fs=100)
    with h5py.File(folder / "hdf5", "w") as file:
        file["ecg"] = ramp
    found = {name: folder / name for name in (*texts, "parquet", "hdf5")}
    return found | {
        "edf": folder / "a.edf",
        "bdf": folder / "a.bdf",
        "wfdb": folder / "rec.hea",
        "numpy": folder / "numpy.npz",
    }


RATES = {"csv": 100, "parquet": 100, "hdf5": 100}  # of the formats that do not hold it
SAMPLES = ["csv", "e4", "opensignals", "biosppy", "edf", "bdf", "wfdb", "hdf5", "parquet", "numpy"]  # those made here


@pytest.mark.parametrize("name", SAMPLES)
def test_every_format_is_recognised_by_its_content(samples, name):
    found = read(samples[name], fs=RATES.get(name), column=0)
    expected = read(samples[name], fs=RATES.get(name), column=0, format=name)
    assert [each.signal.size for each in found] == [expected[0].signal.size]
    assert found[0].signal.tobytes() == expected[0].signal.tobytes()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_damaged_file_gives_a_signal_or_a_short_message_that_names_it(samples, name, tmp_path):
    """Any error but ours, such as one of the library that reads the format, fails the test as it is raised."""
    data, chance = samples[name].read_bytes(), random.Random(name)
    path = tmp_path / samples[name].name
    if name == "wfdb":
        (tmp_path / "rec.dat").write_bytes(samples[name].with_suffix(".dat").read_bytes())
    found, refused = [], []
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(min(len(damaged), chance.choice([200, 2000, len(damaged)])))
            damaged[at : at + chance.choice([1, 1, 1, 40])] = chance.choice(
                [b"", b"\0", b"9", b"-", b",", b"\n", chance.randbytes(1)]
            )
        path.write_bytes(damaged)
        try:
            found += read(path, format=name, fs=RATES.get(name), column=0)
        except TinyBioMoEError as error:
            refused.append(str(error))
    assert [
        text for text in refused if len(text) > 1000 or not re.match(rf"{re.escape(str(tmp_path))}\S+: ", text)
    ] == []
    assert all(each.signal.dtype == np.float64 and each.signal.ndim == 1 and 0 < each.fs < np.inf for each in found)
    assert len(refused) > 5
    assert len(found) > 0


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("csv_files", "pyarrow"),
        ("binary_files", "pyarrow"),
        ("binary_files", "h5py"),
        ("edf_files", "edfio"),
        ("wfdb_files", "wfdb"),
    ],
)
def test_a_missing_package_is_named_with_the_pip_line(monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    spec = importlib.util.spec_from_file_location(
        f"tiny_biomoe.readers.{module}_again", ROOT / "tiny_biomoe" / "readers" / f"{module}.py"
    )
    with pytest.raises(ConfigError, match=rf'reading files needs {package}: pip install "tiny-biomoe\[io\]"') as caught:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert isinstance(caught.value, ImportError)


def test_an_archive_that_is_no_numpy_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("ecg.npy", b"not an array")
    with pytest.raises(SignalError, match=r"a\.npz: .*(not a whole NumPy file|dtype)"):
        read(tmp_path / "a.npz", fs=100)
