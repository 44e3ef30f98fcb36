"""LabChart text: blocks, comments, units (rows 26, 40, 45, 110)."""

from __future__ import annotations

import pytest
from real_files import channels, device, faults_of_damage, listed

from tiny_biomoe.errors import SignalError
from tiny_biomoe.readers.formats import recognise
from tiny_biomoe.readers.read import read

DAYS = 45_855.5  # an Excel date: 2025-07-17 12:00
START = 1752753600.0


def block(rows: list[str], seconds: float = 0.0, form: str = "StartOfBlock", titles: str = "EMG\tFlow") -> str:
    fields = ["Interval=\t0.01 s", f"ExcelDateTime=\t{DAYS + seconds / 86400:.17e}\t07/17/25 12:00:00"]
    fields += [f"TimeFormat=\t{form}", "DateFormat=\t", f"ChannelTitle=\t{titles}"]
    fields += ["Range=\t100.0 mV\t500.0 mV", "UnitName=\t*\tL/min", "TopValue=\t*\t148.52", "BottomValue=\t*\t-163.55"]
    return "\r\n".join([*fields, *rows]) + "\r\n"


ROWS = ["0\t1.5\t-2", "0.01\t1.6\t-3\t#1 drug, 5 mg", "0.02\t1.7\tNaN", "0.03\t1.8\t-5\t#* stop"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.txt"


def test_channels_units_and_comments(path):
    path.write_bytes(block(ROWS).encode())
    assert recognise(path) == "labchart"
    found = channels(path)
    assert [(each.name, each.unit, each.fs) for each in found.values()] == [("EMG", "mV", 100), ("Flow", "L/min", 100)]
    emg, flow = read(path)
    assert emg.signal.tolist() == [1.5, 1.6, 1.7, 1.8]
    assert flow.signal[[0, 1, 3]].tolist() == [-2, -3, -5]
    assert (emg.modality, flow.modality) == ("emg", "resp")
    assert emg.start == pytest.approx(START, abs=1e-3)


def test_row_26_a_pause_between_two_blocks(path):
    path.write_bytes((block(ROWS) + block(ROWS[:2], seconds=60)).encode())
    with pytest.raises(SignalError, match=r"samples are missing for 59\.97"):
        read(path, column="EMG")
    first, second = read(path, column="EMG", on_hole="split")
    assert (first.signal.tolist(), second.signal.tolist()) == ([1.5, 1.6, 1.7, 1.8], [1.5, 1.6])
    assert second.start - first.start == pytest.approx(60, abs=1e-3)


def test_times_that_count_from_the_start_of_the_file(path):
    later = [f"{60 + at / 100}\t{at}\t0" for at in range(3)]
    path.write_bytes((block(ROWS, form="StartOfFile") + block(later, form="StartOfFile", seconds=60)).encode())
    first, second = read(path, column="EMG", on_hole="split")
    assert second.start - first.start == pytest.approx(60, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (block([]), "the block at row 1 has no ChannelTitle or no samples"),
        (block(ROWS) + block(ROWS, titles="EMG\tECG"), "block 2 has other channels or another rate than block 1"),
        (block(["0\t1\t2\t3"]), "row 10 has 4 cells, the first row has 3"),
        (block([*ROWS[:1], "0.01\tx\t3"]), r"row 11: 'x' is not a number"),
        (block(ROWS).replace("0.01 s", "fast"), "the header gives its Interval as 'fast'"),
        (block(ROWS).replace("0.01 s", "0 s"), "the header gives its Interval as '0 s'"),
        (block(ROWS).replace("0.01 s", "0.02 s"), r"which is 100 Hz, not fs=50"),
    ],
)
def test_damaged_exports(path, text, message):
    path.write_bytes(text.encode())
    with pytest.raises(SignalError, match=message):
        read(path)


def test_a_real_export():
    path = device("labchart/labchart8_head.txt")
    rows = [line.split("\t") for line in path.read_text("latin-1").splitlines()[9:]]
    found = listed(path)
    assert [each.name for each in found][:4] == ["PushSWE", "Flow", "EMG", "Pressure"]
    assert [each.unit for each in found][:5] == ["V", None, "mV", "cmH2O", "L/min"]
    for at, each in enumerate(found, 1):
        assert each.samples.tolist() == [float(row[at]) for row in rows]
    (emg,) = read(path, column="EMG")
    assert (emg.fs, emg.start) == (100, pytest.approx(1752766485.691 + 0.5, abs=1e-3))


def test_damaged_files_give_signals_or_errors(path, rng):
    path.write_bytes((block(ROWS) + block(ROWS, seconds=60)).encode())
    assert faults_of_damage(path, rng) == []
