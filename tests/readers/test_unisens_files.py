"""Unisens: scaling, orders of bytes, entries that cannot be read (rows 57, 111, 113)."""

from __future__ import annotations

import numpy as np
import pytest
from real_files import channels, device, faults_of_damage

from tiny_biomoe.errors import SignalError
from tiny_biomoe.readers.formats import parts_of, recognise
from tiny_biomoe.readers.read import read

HEAD = '<unisens xmlns="http://www.unisens.org/unisens2.0" timestampStart="2024-05-06T07:08:09.250" version="2.0">'
ECG = """<signalEntry id="ecg.bin" contentClass="ECG" dataType="int16" sampleRate="1024" lsbValue="0.0026858"
 baseline="2048" unit="mV"><binFileFormat endianess="{}"/><channel name="left"/><channel name="right"/></signalEntry>"""
EDA = """<signalEntry id="eda.csv" contentClass="EDA" dataType="double" sampleRate="32" unit="µS">
<csvFileFormat decimalSeparator="," separator=";"/><channel name="eda"/></signalEntry>"""
EVENTS = (
    '<eventEntry id="events.csv" sampleRate="1024"><csvFileFormat separator=";" decimalSeparator="."/></eventEntry>'
)


@pytest.fixture
def folder(tmp_path):
    """Write a data set of an ECG of two channels and an EDA; gives its unisens.xml."""

    def write(order: str = "LITTLE", ecg: str = ECG, counts=np.arange(20).reshape(10, 2) * 100):
        (tmp_path / "unisens.xml").write_text(f"{HEAD}{ecg.format(order)}{EDA}{EVENTS}</unisens>", "utf-8")
        (tmp_path / "ecg.bin").write_bytes(counts.astype({"LITTLE": "<i2", "BIG": ">i2"}[order]).tobytes())
        (tmp_path / "eda.csv").write_text("1,5\n2,5\n3,25\n")
        return tmp_path / "unisens.xml"

    return write


@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
def test_samples_in_their_units(folder, order):
    path = folder(order)
    assert recognise(path) == "unisens"
    found = channels(path)
    expected = (np.arange(20).reshape(10, 2) * 100 - 2048) * 0.0026858
    assert [found["left"].samples.tolist(), found["right"].samples.tolist()] == expected.T.tolist()
    assert found["eda"].samples.tolist() == [1.5, 2.5, 3.25]
    assert [(each.kind, each.unit, each.fs) for each in found.values()] == [
        ("ecg", "mV", 1024),
        ("ecg", "mV", 1024),
        ("eda", "µS", 32),
    ]
    assert {each.start for each in found.values()} == {1714979289.25}


def test_row_111_the_files_belong_to_it(folder):
    path = folder()
    assert [each.name for each in parts_of(path)] == ["unisens.xml", "ecg.bin", "eda.csv"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ecg.bin", "../ecg.bin"), "does not lie beside unisens.xml"),
        (("ecg.bin", "gone.bin"), "does not lie beside unisens.xml"),
        (('dataType="int16"', 'dataType="int24"'), "which is not read: convert it to binary"),
        (("binFileFormat", "xmlFileFormat"), "holds int16 in xml format, which is not read"),
    ],
)
def test_row_113_an_entry_that_cannot_be_read_costs_itself(folder, change, message):
    path = folder(ecg=ECG.replace(*change))
    assert [each.channel for each in read(path)] == ["eda"]
    with pytest.raises(SignalError, match=message):
        read(path, column="left")


def test_a_file_that_ends_within_a_sample(folder):
    path = folder()
    (path.parent / "ecg.bin").write_bytes(bytes(39))
    with pytest.raises(SignalError, match="'ecg.bin' ends within a sample: it was cut short"):
        read(path, column="left")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, "not a whole Unisens file"),
        (f"{HEAD}{EVENTS}</unisens>", "describes no signalEntry: events and values only"),
        (f"{HEAD}{ECG.format('LITTLE').replace('1024', 'fast')}</unisens>", "sampleRate is 'fast', not a number"),
        (f"{HEAD}{ECG.format('LITTLE').replace('1024', '0')}</unisens>", "sampling rate as 0.0"),
    ],
)
def test_damaged_descriptions(folder, text, message):
    path = folder()
    path.write_text(text, "utf-8")
    with pytest.raises(SignalError, match=message):
        read(path)


def test_a_real_data_set():
    path = device("unisens/Example_002/unisens.xml")
    (found,) = read(path)
    assert found.signal.tolist() == np.fromfile(path.parent / "ecg.bin", "<i4").tolist()
    assert (found.channel, found.fs, found.modality, found.start) == ("Brustgurt", 200, "ecg", 1215178077)


def test_damaged_files_give_signals_or_errors(folder, rng):
    assert faults_of_damage(folder(), rng) == []
