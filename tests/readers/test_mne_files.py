"""BrainVision, EEGLAB, FIF and the others: real files and made ones, against what mne reads."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from made_files import cnt, gdf
from real_files import channels, device, faults_of_damage, listed

from tiny_biomoe.errors import MissingExtra, SignalError
from tiny_biomoe.readers import mne_files
from tiny_biomoe.readers.discovery import find
from tiny_biomoe.readers.formats import parts_of, recognise
from tiny_biomoe.readers.read import read

mne = pytest.importorskip("mne")

VHDR = """Brain Vision Data Exchange Header File Version 1.0

[Common Infos]
Codepage=UTF-8
DataFile=a.eeg
MarkerFile=a.vmrk
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels=3
SamplingInterval=4000

[Binary Infos]
BinaryFormat=INT_16

[Channel Infos]
Ch1=Fp1,,0.1,µV
Ch2=GSR,,0.5,µS
Ch3=ECG,,2,mV
"""
VMRK = "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nDataFile=a.eeg\n\n[Marker Infos]\n{}\n"
SEGMENT = "Mk{}=New Segment,,{},1,0{}"


@pytest.fixture
def brainvision(tmp_path, rng):
    """Write a recording of 4 s with its marks; gives the header and the counts."""

    def write(*marks: tuple[int, str], head: str = VHDR) -> tuple[Path, np.ndarray]:
        counts = rng.integers(-3000, 3000, (1000, 3)).astype("<i2")
        (tmp_path / "a.vhdr").write_text(head, "utf-8")
        (tmp_path / "a.eeg").write_bytes(counts.tobytes())
        lines = [SEGMENT.format(n, at, f",{date}" if date else "") for n, (at, date) in enumerate(marks, 1)]
        (tmp_path / "a.vmrk").write_text(VMRK.format("\n".join(lines)), "utf-8")
        return tmp_path / "a.vhdr", counts

    return write


def test_brainvision_in_the_units_of_its_header(brainvision):
    path, counts = brainvision((1, "20240506070809250000"))
    assert recognise(path) == "mne"
    assert [each.name for each in parts_of(path)] == ["a.vhdr", "a.eeg", "a.vmrk"]
    found = channels(path)
    for (name, unit, kind, scale), column in zip(
        [("Fp1", "µV", "eeg", 0.1), ("GSR", "µS", "eda", 0.5), ("ECG", "mV", "ecg", 2)], counts.T, strict=True
    ):
        assert (found[name].unit, found[name].kind, found[name].fs) == (unit, kind, 250)
        np.testing.assert_allclose(found[name].samples, column * scale, rtol=1e-15)
        assert found[name].start == 1714979289.25


def test_brainvision_a_pause_is_a_hole(brainvision):
    path, counts = brainvision((1, "20240506070809250000"), (401, "20240506070909250000"))
    with pytest.raises(SignalError, match=r"samples are missing for 58\.4"):
        read(path, column="ECG")
    first, second = read(path, column="ECG", on_hole="split")
    assert (first.signal.size, second.start - first.start) == (400, 60)
    assert len(read(path, column="ECG", time_column="")) == 1


def test_brainvision_a_pause_of_unknown_length_parts_the_channel(brainvision):
    path, _ = brainvision((1, ""), (401, ""))
    assert [(each.name, each.samples.size) for each in listed(path, column="ECG")] == [
        ("ECG (segment 1)", 400),
        ("ECG (segment 2)", 600),
    ]


@pytest.mark.parametrize("name", ["../a.eeg", "gone.eeg"])
def test_brainvision_files_lie_beside_the_header(brainvision, name):
    path, _ = brainvision((1, ""), head=VHDR.replace("DataFile=a.eeg", f"DataFile={name}"))
    with pytest.raises(SignalError, match="and no such file lies beside it: keep its files together"):
        read(path)


def test_a_damaged_header(brainvision):
    path, _ = brainvision((1, ""), head=VHDR.replace("SamplingInterval=4000", "SamplingInterval=no"))
    with pytest.raises(SignalError, match=r"a\.vhdr: not a whole BrainVision file"):
        read(path)


@pytest.mark.parametrize("lost", [250, 0])
def test_eeglab_cuts_are_holes(tmp_path, rng, lost):
    """EEGLAB marks a cut with `boundary`, whose duration is the number of samples that were cut out."""
    data = rng.standard_normal((2, 1000)).astype("f4")
    events = np.array(
        [(("boundary"), 400.5, float(lost))], [("type", object), ("latency", object), ("duration", object)]
    )
    labels = np.array([("Cz",), ("ECG",)], [("labels", object)])
    path = tmp_path / "a.set"
    eeg = {"setname": "a", "nbchan": 2.0, "trials": 1.0, "pnts": 1000.0, "srate": 250.0, "xmin": 0.0, "xmax": 3.996,
           "data": data, "chanlocs": labels, "event": events, "epoch": np.empty(0), "icawinv": np.empty(0),
           "icaweights": np.empty(0), "icasphere": np.empty(0),}  # fmt: skip
    scipy.io.savemat(path, {"EEG": eeg})
    parts = listed(path, column="Cz")
    expected = mne.io.read_raw_eeglab(path, verbose="ERROR").get_data()[0]
    assert np.concatenate([each.samples for each in parts]).tolist() == expected.tolist()
    np.testing.assert_allclose(expected, data[0] * 1e-6, rtol=1e-7)
    assert {(each.unit, each.fs, each.kind) for each in parts} == {("V", 250, "eeg")}
    if lost:
        first, second = read(path, column="Cz", on_hole="split")
        assert first.signal.size == 400
    else:
        assert [each.name for each in parts] == ["Cz (segment 1)", "Cz (segment 2)"]


def test_fif(tmp_path, rng):
    info = mne.create_info(["Fz", "ECG", "STI"], 250.0, ["eeg", "ecg", "stim"])
    info.set_meas_date(1714979289.25)
    data = rng.standard_normal((3, 1000)) * 1e-5
    raw = mne.io.RawArray(data, info, first_samp=500, verbose="ERROR")
    path = tmp_path / "a_raw.fif"
    raw.save(path, verbose="ERROR", fmt="double")
    found = channels(path)
    assert [(each.name, each.kind, each.unit) for each in found.values()] == [
        ("Fz", "eeg", "V"),
        ("ECG", "ecg", "V"),
        ("STI", "trigger", "V"),
    ]
    assert np.stack([each.samples for each in found.values()]).tolist() == data.tolist()
    assert found["Fz"].start == 1714979289.25 + 2


def test_fif_samples_that_were_skipped_are_missing(tmp_path, rng):
    info = mne.create_info(["Fz"], 250.0, "eeg")
    raw = mne.io.RawArray(rng.standard_normal((1, 1000)), info, verbose="ERROR")
    raw.set_annotations(mne.Annotations([1.0], [0.4], ["BAD_ACQ_SKIP"]))
    path = tmp_path / "a_raw.fif"
    raw.save(path, verbose="ERROR")
    (found,) = listed(path)
    assert np.flatnonzero(np.isnan(found.samples)).tolist() == list(range(250, 350))


def test_fif_tags_that_lead_back(tmp_path, rng):
    path = tmp_path / "a_raw.fif"
    raw = mne.io.RawArray(rng.standard_normal((1, 100)), mne.create_info(["Fz"], 250.0, "eeg"), verbose="ERROR")
    raw.save(path, verbose="ERROR")
    data = path.read_bytes()
    path.write_bytes(data[:48] + (20).to_bytes(4, "big") + data[52:])
    with pytest.raises(SignalError, match="its list of tags breaks off at byte"):
        read(path)
    path.write_bytes(data[:-30])
    with pytest.raises(SignalError, match="its list of tags breaks off at byte|not a whole FIF file"):
        read(path)


@pytest.mark.parametrize(("ending", "name"), list(mne_files.FORMATS.items())[1:5])
def test_files_of_noise(tmp_path, rng, ending, name):
    path = tmp_path / f"a{ending}"
    path.write_bytes(rng.bytes(5000))
    with pytest.raises(SignalError, match=f"not a whole {name} file|its list of tags breaks off"):
        read(path)


def test_without_mne(brainvision, monkeypatch):
    path, _ = brainvision((1, ""))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'reading this format needs mne: pip install "tiny-biomoe\[mne\]"'):
        listed(path)
    with pytest.raises(SignalError, match=f"{re.escape(str(path))}: reading this format needs mne"):
        read(path)


def test_a_real_file_of_brainvision():
    path = device("brainvision/test_old_layout_latin1_software_filter.vhdr")
    found = listed(path)
    raw = mne.io.read_raw_brainvision(path, verbose="ERROR")
    np.testing.assert_allclose(np.stack([each.samples for each in found]), raw.get_data() * 1e6, rtol=1e-15)
    assert [each.name for each in found] == raw.ch_names
    assert {(each.unit, each.fs, each.start) for each in found} == {("µV", 250, 1184588560.937454)}


def test_a_real_file_of_nicolet():
    path = device("nicolet/test_nicolet_raw.data")
    found = channels(path)
    raw = mne.io.read_raw_nicolet(path, ch_type="eeg", verbose="ERROR")
    assert np.stack([each.samples for each in found.values()]).tolist() == raw.get_data().tolist()
    assert (found["ECG"].kind, found["FP1"].kind, found["FP1"].unit) == ("ecg", "eeg", "V")


def test_damaged_files_give_signals_or_errors(brainvision, tmp_path, rng):
    assert faults_of_damage(brainvision((1, "20240506070809250000"))[0], rng, 25) == []
    path = tmp_path / "a_raw.fif"
    mne.io.RawArray(rng.standard_normal((1, 100)), mne.create_info(["Fz"], 250.0, "eeg"), verbose="ERROR").save(
        path, verbose="ERROR"
    )
    assert faults_of_damage(path, rng, 25) == []


@pytest.mark.parametrize("kind", ["<i2", "<i4"])
def test_gdf_made_byte_by_byte_equals_what_mne_reads(tmp_path, rng, kind):
    counts = rng.integers(-900, 900, (4, 200))
    path = gdf(tmp_path / "a.gdf", ["Fp1", "EDA", "ECG", "C3"], [4275, 0, 4274, 4275], counts, 0.5, kind)
    found = read(path)
    assert recognise(path) == "mne"
    assert [(each.channel, each.modality, each.fs) for each in found] == [
        ("Fp1", "eeg", 100),
        ("EDA", "eda", 100),
        ("ECG", "ecg", 100),
        ("C3", "eeg", 100),
    ]
    assert [each.unit for each in listed(path)] == ["V", None, "V", "V"]
    for each, row, scale in zip(found, counts, [1e-6, 1, 1e-3, 1e-6], strict=True):
        np.testing.assert_allclose(each.signal, row * 0.5 * scale, rtol=1e-12, atol=1e-15)
    reference = mne.io.read_raw_gdf(path, verbose="ERROR").get_data()
    assert [each.signal.tolist() for each in found] == reference.tolist()
    assert found[0].start == pytest.approx(1714979289, abs=1e-4)


@pytest.mark.parametrize("kind", ["<i2", "<i4"])
def test_cnt_made_byte_by_byte_equals_what_mne_reads(tmp_path, rng, kind, monkeypatch):
    counts = rng.integers(-900, 900, (3, 300)) * (100 if kind == "<i4" else 1)
    path = cnt(tmp_path / "a.cnt", ["FP1", "C3", "ECG"], counts, 0.25, kind)
    monkeypatch.setenv("TZ", "America/New_York")  # whose clock is no part of the file
    time.tzset()
    try:
        found = read(path)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert recognise(path) == "mne"
    assert [(each.channel, each.modality, each.fs) for each in found] == [
        ("FP1", "eeg", 250),
        ("C3", "eeg", 250),
        ("ECG", "ecg", 250),
    ]
    for each, row in zip(found, counts, strict=True):
        np.testing.assert_allclose(each.signal, (row - 5) * 0.25e-6, rtol=1e-6)
    reference = mne.io.read_raw_cnt(path, verbose="ERROR").get_data()
    assert [each.signal.tolist() for each in found] == reference.tolist()
    assert {each.start for each in found} == {1714979289.0}


def test_files_that_lie_beside_a_header_are_read_through_it(tmp_path):
    for name in ("a.data", "a.head"):
        (tmp_path / name).write_bytes(b"")
    paths, skipped = find(tmp_path)
    assert [each.name for each in paths] == ["a.data"]
    assert [str(each) for each in skipped] == ["a.head: read through a.data"]


def test_nicolet_made_byte_by_byte_equals_what_mne_reads(tmp_path, rng):
    counts = rng.integers(-900, 900, (3, 512)).astype("<i2")
    (tmp_path / "a.head").write_text(
        "start_ts=2015-01-01 12:00:00.000\nnum_samples=512\nsample_freq=256\nconversion_factor=0.179\n"
        "num_channels=3\nelec_names=[FP1,EOG1,ECG]\n"
    )
    (tmp_path / "a.data").write_bytes(counts.T.tobytes())
    found = read(tmp_path / "a.data")
    assert [(each.channel, each.modality, each.fs) for each in found] == [
        ("FP1", "eeg", 256),
        ("EOG1", None, 256),
        ("ECG", "ecg", 256),
    ]
    reference = mne.io.read_raw_nicolet(tmp_path / "a.data", ch_type="eeg", verbose="ERROR").get_data()
    assert [each.signal.tolist() for each in found] == reference.tolist()
    np.testing.assert_allclose(found[0].signal, counts[0] * 0.179e-6)
    assert found[0].start == 1420113600
