"""Logs of Siemens scanners: real files, and files made as the scanner writes them."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from real_files import channels, device, faults_of_damage, listed

from tiny_biomoe.errors import SignalError
from tiny_biomoe.readers.formats import recognise
from tiny_biomoe.readers.read import read

SAMPLES = [1703, 1706, 1714, 4095, 0, 1718]
FOOTER = "ECG  Freq Per: 0 0\nLogStartMDHTime:  1000\nLogStopMDHTime:   {}\n6003"
VERSIONS = {
    "VB15A": "1 2 40 280 1703 1706 5000 1714 4095 0 6000 1718 5003\n",
    "VE11C": "1 2 40 280 5002 LOGVERSION_PULS   1 6002 1703 1706 5000 1714 4095 0 1718 5003\n",
    "VBX": "1 2 40 280 5002 Logging PULSE signal: PULS_SAMPLES_PER_SECOND = 50; PULS_SAMPLE_INTERVAL = 20000 6002 "
    "1703 1706 5000 1714 \nACQ FINISHED\n 6002 4095 0 1718 5003\n",
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run1.puls"


@pytest.mark.parametrize("version", VERSIONS)
def test_samples_without_their_marks_and_messages(path, version):
    path.write_text(VERSIONS[version] + FOOTER.format(1000 + 120))
    (found,) = listed(path)
    assert recognise(path) == "pmu"
    assert (found.name, found.kind, found.fs) == ("PULS", "bvp", 50)
    assert found.samples.tolist() == SAMPLES


@pytest.mark.parametrize(
    ("rate", "off", "expected"), [(50, 1, 50), (400, 1.02, 400), (400, 0.99, 400), (200, 1.1, None)]
)
def test_the_rate_is_the_one_that_fits_the_logs_duration(path, rate, off, expected):
    numbers = " ".join(["1000"] * 4000)
    path.write_text(f"1 2 40 280 {numbers} 5003\n" + FOOTER.format(1000 + round(4000 / rate / off * 1000)))
    assert listed(path)[0].fs == expected


def test_a_log_whose_rate_is_unknown_needs_one(path):
    path.write_text(VERSIONS["VB15A"])
    with pytest.raises(SignalError, match=r"does not hold its sampling rate: give it in Hz"):
        read(path)
    assert read(path, fs=50)[0].fs == 50


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 40 280 1703 1706", r"the log has no end \(5003\): it was cut short"),
        ("1 2 40 280 1703 17x6 5003", "'17x6' is not a number: the log is damaged"),
        ("1 2 40 280 5002 open 1703 5003", "'open' is not a number"),
        ("1 2 40 280 99999999999999999999 5003", "is not a number"),
    ],
)
def test_damaged_logs(path, text, message):
    path.write_text(text)
    with pytest.raises(SignalError, match=message):
        read(path, fs=50)


def test_interleaved_leads_are_not_read(tmp_path):
    path = tmp_path / "run1.ecg"
    path.write_text(VERSIONS["VB15A"])
    with pytest.raises(SignalError, match="the leads of an ECG log of the scanner are interleaved"):
        read(path)


def test_a_long_log_is_read_in_one_piece(path, rng):
    """It is one line of megabytes, which no table may have."""
    values = rng.integers(0, 4096, 400_000)
    path.write_text(f"1 2 40 280 {' '.join(map(str, values))} 5003\n" + FOOTER.format(1000 + 8_000_000))
    assert listed(path)[0].samples.tolist() == values.tolist()


@pytest.mark.parametrize(
    ("name", "fs", "size"),
    [("sample_VB15A.puls.gz", 50, 165_662), ("sample_VBX.puls", 50, 10), ("sample_VE11C.puls", 400, 3676),
     ("sample_VE11C.resp", 400, 4063)],
)  # fmt: skip
def test_real_logs(name, fs, size):
    path = device(f"siemens/{name}")
    (found,) = listed(path)
    text = (gzip.open if path.suffix == ".gz" else open)(path, "rt").read()
    numbers = re.sub(r"\D6002\D", " 6002 ", text.partition("5003")[0])
    numbers = re.sub(r"5002 .*? 6002 |ACQ FINISHED\s*6002", "", numbers, flags=re.DOTALL)
    expected = [int(number) for number in numbers.split()[4:] if int(number) < 5000]
    assert found.samples.tolist() == expected
    assert (found.fs, found.samples.size) == (fs, size)


# --- CMRR ------------------------------------------------------------------------------------------------------------

HEAD = (
    "UUID        = a6df3c5a\nScanDate    = 20240506_143828\nLogVersion  = EJA_1\nLogDataType = {}\nSampleTime  = {}\n\n"
)
TITLES = "ACQ_TIME_TICS  CHANNEL  VALUE  SIGNAL\n\n"


def cmrr(path: Path, kind: str, step: int, rows: list[str]) -> Path:
    path.write_text(HEAD.format(kind, step) + TITLES + "\n".join(rows) + "\n")
    return path


def test_cmrr_channels_on_their_grid(tmp_path):
    """A tick too few or too many is rounding: no sample is lost."""
    ticks = [1000, 1002, 1004, 1005, 1007, 1009, 1012]
    rows = [f"     {tick}     PULS   {1800 + at} {'PULS_TRIGGER' if at == 2 else ''}" for at, tick in enumerate(ticks)]
    path = cmrr(tmp_path / "P_PULS.log", "PULS", 2, rows)
    assert recognise(path) == "cmrr"
    (found,) = read(path)
    assert found.signal.tolist() == [1800, 1801, 1802, 1803, 1804, 1805, 1806]
    assert (found.fs, found.modality, found.start) == (200, "bvp", 1714953600 + 2.5)


def test_cmrr_lost_samples_are_a_hole(tmp_path):
    rows = [f"     {tick}     RESP   {tick}" for tick in (8, 16, 24, 48, 56, 64)]
    path = cmrr(tmp_path / "P_RESP.log", "RESP", 8, rows)
    with pytest.raises(SignalError, match=r"samples are missing for 0\.06 s"):
        read(path)
    assert [each.signal.size for each in read(path, on_hole="split")] == [3, 3]


def test_cmrr_leads_of_an_ecg(tmp_path):
    rows = [f"     {1000 + at}     ECG{lead}   {lead * 100 + at}" for at in range(5) for lead in (1, 2)]
    found = channels(cmrr(tmp_path / "P_ECG.log", "ECG", 1, rows))
    assert {name: (each.kind, each.fs, each.samples.tolist()) for name, each in found.items()} == {
        f"ECG{lead}": ("ecg", 400, [lead * 100 + at for at in range(5)]) for lead in (1, 2)
    }


@pytest.mark.parametrize(
    ("rows", "step", "message"),
    [
        (["     1000     PULS   1", "     1002     PU"], 2, "row 10 is not ticks, a channel and a value"),
        ([], 2, "the log holds no samples"),
        (["     1000     PULS   1"], 0, "or its header no SampleTime"),
    ],
)
def test_damaged_cmrr_logs(tmp_path, rows, step, message):
    with pytest.raises(SignalError, match=message):
        read(cmrr(tmp_path / "P_PULS.log", "PULS", step, rows))


def test_the_log_of_slices_holds_no_signal(tmp_path):
    with pytest.raises(SignalError, match="the log holds the times of slices, no signal"):
        read(cmrr(tmp_path / "P_Info.log", "ACQUISITION_INFO", 1, []))


@pytest.mark.parametrize(("name", "fs", "runs"), [("PULS", 200, 1), ("RESP", 50, 2)])
def test_real_logs_of_cmrr(name, fs, runs):
    path = device(f"siemens/Physio_{name}.log")
    rows = [line.split() for line in path.read_text().splitlines() if line.strip() and line.split()[0].isdigit()]
    found = read(path, on_hole="split")
    assert np.concatenate([each.signal for each in found]).tolist() == [float(row[2]) for row in rows]
    assert {each.fs for each in found} == {fs}
    assert len(found) == runs
    assert found[0].start == 1547424000 + int(rows[0][0]) * 0.0025


def test_damaged_files_give_signals_or_errors(path, tmp_path, rng):
    path.write_text(VERSIONS["VBX"] + FOOTER.format(1100))
    assert faults_of_damage(path, rng) == []
    rows = [f"     {1000 + 2 * at}     PULS   {at}" for at in range(20)]
    assert faults_of_damage(cmrr(tmp_path / "P_PULS.log", "PULS", 2, rows), rng) == []
