"""Text of wearable devices: real files, and files made as their apps write them (rows 26, 40, 45, 107, 110, 112)."""

from __future__ import annotations

import csv
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from real_files import channels, device, faults_of_damage, listed

from tiny_biomoe.errors import SignalError
from tiny_biomoe.readers.formats import recognise
from tiny_biomoe.readers.read import read

START = 1_650_886_775.25  # unix seconds


@pytest.fixture
def write(tmp_path):
    """Write lines under a name; gives the path."""

    def at(name: str, lines: list[str], ending: str = "\n") -> Path:
        path = tmp_path / name
        path.write_bytes((ending.join(lines) + ending).encode())
        return path

    return at


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").removesuffix("+00:00")


def together(rng, times: np.ndarray, packet: int) -> np.ndarray:
    """Times of arrival: a packet's samples share the time of its last one, a little late."""
    stamps = [np.full(min(packet, times.size - at), times[at : at + packet][-1]) for at in range(0, times.size, packet)]
    late = np.repeat(rng.uniform(0, 0.01, len(stamps)), [each.size for each in stamps])
    return np.maximum.accumulate(np.concatenate(stamps) + late)


def cells(path: Path, delimiter: str, skip: int) -> list[list[str]]:
    """Rows of a real file as the csv module parts them."""
    with path.open(newline="") as file:
        return [[cell.strip() for cell in row] for row in list(csv.reader(file, delimiter=delimiter))[skip:] if row]


def reference(rows: list[list[str]], at: int) -> list[float]:
    return [float(row[at]) for row in rows]


# --- Polar Sensor Logger ---------------------------------------------------------------------------------------------


def polar(rng, fs: float, n: int, lost: slice = slice(0, 0)) -> tuple[list[str], np.ndarray]:
    """PPG, with a delimiter at the end of each row but not of the header, and sensor times to the nanosecond."""
    times = np.delete(np.arange(n) / fs, lost)
    values = rng.integers(200_000, 300_000, (times.size, 4))
    nanoseconds = [round((START - 946_684_800 + time) * 1e9) for time in times]
    rows = [
        f"{iso(START + time + 1.2)};{count};{';'.join(map(str, row))};"
        for time, count, row in zip(times, nanoseconds, values, strict=True)
    ]
    return ["Phone timestamp;sensor timestamp [ns];channel 0;channel 1;channel 2;ambient", *rows], values


def test_polar_ppg(write, rng):
    lines, values = polar(rng, 55, 400)
    path = write("Polar_PPG.txt", lines)
    found = channels(path)
    assert recognise(path) == "polar"
    assert [(each.name, each.kind) for each in found.values()] == [
        *((f"channel {at}", "bvp") for at in range(3)),
        ("ambient", "ambient light"),
    ]
    assert [each.samples.tolist() for each in found.values()] == values.T.tolist()
    first = read(path, column="channel 0")[0]
    assert (first.fs, first.start) == (pytest.approx(55, rel=1e-4), pytest.approx(START, abs=1e-6))


def test_polar_samples_that_were_lost(write, rng):
    lines, _ = polar(rng, 55, 400, slice(200, 260))
    with pytest.raises(SignalError, match=r"row 202: samples are missing for 1\.10"):
        read(write("Polar_PPG.txt", lines))


@pytest.mark.parametrize(("name", "columns"), [("PPG", [2, 3, 4, 5]), ("ACC", [2, 3, 4])])
def test_real_files_of_polar(name, columns):
    path = device(f"polar/Polar_Sense_{name}.txt")
    rows = cells(path, ";", 1)
    found = listed(path)
    assert [each.samples.tolist() for each in found] == [reference(rows, at) for at in columns]
    steps = np.diff([int(row[1]) for row in rows])
    assert read(path, column=columns[0])[0].fs == pytest.approx(1e9 / steps.mean(), rel=1e-5)


def test_real_files_of_polar_that_hold_no_signal():
    with pytest.raises(SignalError, match="'HR .bpm.' is not read"):
        read(device("polar/Polar_Sense_HR.txt"))
    with pytest.raises(SignalError, match="'PP-interval .ms.' is not read"):
        read(device("polar/Polar_Sense_PPI.txt"))


# --- Mind Monitor ----------------------------------------------------------------------------------------------------


def muse(rng, n: int, packet: int = 12, lost: slice = slice(0, 0)) -> tuple[list[str], np.ndarray]:
    """Rows of one cell fewer than the header, and rows of events that end with it."""
    times = np.delete(np.arange(n) / 256, lost)
    stamps = together(rng, times, packet)
    values = np.round(rng.normal(800, 20, (times.size, 2)), 4)
    rows = [f"{iso(START + stamp)},0.5,{a},{b},1,98.0" for stamp, (a, b) in zip(stamps, values, strict=True)]
    rows.insert(30, f"{iso(START + stamps[30])},,,,,,/muse/elements/blink")
    return ["TimeStamp,Delta_TP9,RAW_TP9,RAW_AF7,HeadBandOn,Battery,Elements", *rows], values


def test_mind_monitor(write, rng):
    lines, values = muse(rng, 256 * 20)
    path = write("mindMonitor.csv", lines)
    found = channels(path)
    assert recognise(path) == "mind_monitor"
    assert list(found) == ["Delta_TP9", "RAW_TP9", "RAW_AF7", "HeadBandOn", "Battery"]
    assert [found["RAW_TP9"].samples.tolist(), found["RAW_AF7"].samples.tolist()] == values.T.tolist()
    assert (found["RAW_TP9"].kind, found["RAW_TP9"].unit, found["Delta_TP9"].kind) == ("eeg", "uV", "band power")
    eeg = read(path, modality="eeg")
    assert [(each.channel, each.fs) for each in eeg] == [("RAW_TP9", 256), ("RAW_AF7", 256)]
    assert eeg[0].start == pytest.approx(START, abs=0.02)


def test_mind_monitor_packets_that_were_lost(write, rng):
    lines, values = muse(rng, 256 * 20, lost=slice(2400, 2640))
    with pytest.raises(SignalError, match="row 2403: samples are missing"):  # of the file: a header, a row of an event
        read(write("mindMonitor.csv", lines), column="RAW_TP9")
    first, second = read(write("mindMonitor.csv", lines), column="RAW_TP9", on_hole="split")
    assert first.signal.size == 2400
    assert second.start - first.start == pytest.approx(2640 / 256, abs=0.02)


def test_mind_monitor_without_raw_values(write):
    lines = ["TimeStamp,Delta_TP9,Elements", f"{iso(START)},0.5"]
    with pytest.raises(SignalError, match="holds band powers and no raw EEG"):
        read(write("mindMonitor.csv", lines))


def test_a_real_file_of_mind_monitor():
    path = device("muse/mind_monitor_devicely.csv")
    rows = [row for row in cells(path, ",", 1) if row[1]]
    found = channels(path)
    for name, at in (("RAW_TP9", 21), ("RAW_TP10", 24), ("Delta_TP9", 1), ("Gyro_Z", 31)):
        assert found[name].samples.tolist() == reference(rows, at)
    assert [each.fs for each in read(path, modality="eeg")] == [256.0] * 4


# --- OpenBCI ---------------------------------------------------------------------------------------------------------

HEAD = ["%OpenBCI Raw EXG Data", "%Number of channels = 2", "%Sample Rate = 250 Hz", "%Board = OpenBCI_GUI$Cyton"]
NAMES = (
    "Sample Index, EXG Channel 0, EXG Channel 1, Accel Channel 0, Not Used, Not Used, Timestamp, Timestamp (Formatted)"
)


def openbci(rng, n: int, lost: slice = slice(0, 0), unit: float = 1.0) -> tuple[list[str], np.ndarray]:
    index = np.delete(np.arange(n), lost)
    stamps = together(rng, index / 250, 2)
    values = np.round(rng.normal(0, 9e3, (index.size, 2)), 2)
    rows = [
        f"{at % 256}, {a}, {b}, 0.04, 0, 0, {(START + stamp) * unit:.6f}, {iso(START + stamp).replace('T', ' ')}"
        for at, stamp, (a, b) in zip(index, stamps, values, strict=True)
    ]
    return rows, values


@pytest.mark.parametrize("unit", [1.0, 1e3], ids=["seconds", "milliseconds"])
@pytest.mark.parametrize("titled", [True, False])
def test_openbci(write, rng, unit, titled):
    rows, values = openbci(rng, 2000, unit=unit)
    path = write("OpenBCI.txt", [*HEAD, *([NAMES] if titled else []), *rows], "\r\n")
    assert recognise(path) == "openbci"
    found = listed(path)
    assert [(each.name, each.unit) for each in found[:2]] == [("EXG Channel 0", "uV"), ("EXG Channel 1", "uV")]
    assert len(found) == 5  # without the index and the times, which are no signals
    assert [each.samples.tolist() for each in found[:2]] == values.T.tolist()
    (one,) = read(path, column="EXG Channel 1")
    assert (one.fs, one.start) == (250, pytest.approx(START, abs=0.02))


@pytest.mark.parametrize("lost", [3, 255, 256, 300, 2000])
def test_row_112_lost_samples_show_in_the_index_and_the_times(write, rng, lost):
    """The index goes round after 256 samples; a longer loss shows in the times alone."""
    rows, _ = openbci(rng, 6000, slice(2000, 2000 + lost))
    path = write("OpenBCI.txt", [*HEAD, NAMES, *rows])
    with pytest.raises(SignalError, match="first of 1 holes"):
        read(path, column=1)
    first, second = read(path, column=1, on_hole="split")
    assert first.signal.size == 2000
    assert second.start - first.start == pytest.approx((2000 + lost) / 250)


def test_openbci_a_first_row_of_zeros_is_no_sample(write, rng):
    rows, values = openbci(rng, 500)
    path = write("OpenBCI.txt", [*HEAD, ",".join(["0.0"] * 8), *rows])
    assert listed(path)[0].samples.tolist() == values[:, 0].tolist()


def test_openbci_without_a_rate(write, rng):
    rows, _ = openbci(rng, 10)
    with pytest.raises(SignalError, match="the comments give no %Sample Rate"):
        read(write("OpenBCI.txt", [HEAD[0], NAMES, *rows]))


def test_row_110_a_rate_that_contradicts_the_comment(write, rng):
    rows, _ = openbci(rng, 500)
    with pytest.raises(SignalError, match="sampled at 250 Hz, not at fs=125"):
        read(write("OpenBCI.txt", [*HEAD, NAMES, *rows]), column=1, fs=125)


@pytest.mark.parametrize(("name", "skip", "first"), [("v4", 6, 0), ("v5", 4, 1), ("v6", 5, 0)])
def test_real_files_of_openbci(name, skip, first):
    path = device(f"openbci/{name}_head.txt")
    rows = cells(path, ",", skip)[first:]
    found = listed(path)
    assert [each.samples.tolist() for each in found[:8]] == [reference(rows, at) for at in range(1, 9)]
    assert {each.fs for each in found} == {250}
    (one,) = read(path, column=1)
    assert (one.signal.size, one.start) == (len(rows), 1557936053.329)


# --- Shimmer ---------------------------------------------------------------------------------------------------------

SHIMMER = ["Timestamp_Unix_CAL", "Battery_CAL", "GSR_Skin_Conductance_CAL", "GSR_Skin_Resistance_CAL", "PPG_A13_CAL"]


@pytest.mark.parametrize(("head", "mark"), [(['"sep=;"'], ";"), (["sep=\t"], "\t"), ([], ",")])
def test_shimmer(write, rng, head, mark):
    stamps = START + together(rng, np.arange(2000) / 51.2, 3)
    values = rng.uniform(1, 9, (2000, 4))
    rows = [
        mark.join([f"{stamp * 1e3:.3f}", *map(repr, map(float, row))]) + mark
        for stamp, row in zip(stamps, values, strict=True)
    ]
    names = mark.join(f"Shimmer_40AC_{name}" for name in SHIMMER) + mark
    path = write("Default.csv", [*head, names, mark.join(["ms", "mV", "uS", "kOhms", "mV"]) + mark, *rows], "\r\n")
    found = listed(path)
    assert recognise(path) == "shimmer"
    assert [each.kind for each in found] == [None, "eda", "skin resistance", "bvp"]
    assert [each.unit for each in found] == ["mV", "uS", "kOhms", "mV"]
    assert [each.samples.tolist() for each in found] == values.T.tolist()
    (eda,) = read(path, modality="eda")
    assert eda.channel == "Shimmer_40AC_GSR_Skin_Conductance_CAL"
    assert eda.fs == pytest.approx(51.2, rel=1e-3)
    assert eda.start == pytest.approx(START, abs=0.05)


def test_a_real_file_of_shimmer():
    path = device("shimmer/consensys.csv")
    rows = cells(path, ";", 3)
    for at, each in enumerate(listed(path), 1):
        assert each.samples.tolist() == reference(rows, at)
    assert [(each.channel[13:], each.modality) for each in read(path, modality="eda")] == [
        ("GSR_Skin_Conductance_CAL", "eda")
    ]


# --- EmotiBit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tag", "kind", "fs"), [("EA", "eda", 15), ("PG", "bvp", 25), ("AX", None, 25)])
def test_emotibit(write, rng, tag, kind, fs):
    stamps = together(rng, np.arange(600) / fs, 5)
    values = rng.uniform(0, 1, 600)
    rows = [
        f"{START + stamp:.6f},{1000 * stamp + 7:.3f},{at // 5},5,{tag},1,100,{value!r}"
        for at, (stamp, value) in enumerate(zip(stamps, map(float, values), strict=True))
    ]
    head = "LocalTimestamp,EmotiBitTimestamp,PacketNumber,DataLength,TypeTag,ProtocolVersion,DataReliability"
    path = write(f"2022_{tag}.csv", [f"{head},{tag}", *rows])
    (one,) = listed(path)
    assert (recognise(path), one.name, one.kind) == ("emotibit", tag, kind)
    assert one.samples.tolist() == values.tolist()
    (one,) = read(path)
    assert (one.fs, one.start) == (pytest.approx(fs, rel=2e-3), pytest.approx(START, abs=0.02))


# --- ScientISST ------------------------------------------------------------------------------------------------------


def scientisst(rng, index: np.ndarray) -> tuple[list[str], np.ndarray]:
    values = rng.integers(0, 4096, (index.size, 2))
    rows = ["\t".join(map(str, [at % 16, 0, 0, 0, 0, *row])) for at, row in zip(index, values, strict=True)]
    facts = f"#{{'Device': 'COM14', 'Resolution (bits)': [4, 1], 'Sampling rate (Hz)': 500, 'Timestamp': {START}}}"
    return [facts, "#NSeq\tI1\tI2\tO1\tO2\tAI1_raw\tAI1_mv", *rows], values


def test_scientisst(write, rng):
    lines, values = scientisst(rng, np.arange(2000))
    path = write("scientisst.csv", lines)
    found = channels(path)
    assert recognise(path) == "scientisst"
    assert [(each.name, each.unit, each.fs, each.start) for each in found.values()] == [
        ("AI1_raw", None, 500, START),
        ("AI1_mv", "mV", 500, START),
    ]
    assert [each.samples.tolist() for each in found.values()] == values.T.tolist()


def test_row_112_lost_samples_of_a_counter_of_4_bits(write, rng):
    lines, _ = scientisst(rng, np.delete(np.arange(2000), np.s_[1000:1009]))
    with pytest.raises(SignalError, match=r"samples are missing for 0\.02 s, the first of 1 holes"):
        read(write("scientisst.csv", lines), column="AI1_mv")


def test_a_real_file_of_scientisst():
    path = device("scientisst/ecg_op2_head.csv")
    rows = cells(path, "\t", 2)
    found = channels(path)
    assert [each.samples.tolist() for each in found.values()] == [reference(rows, at) for at in range(5, 17)]
    assert {(each.fs, each.start) for each in found.values()} == {(1000, 1652281857.031185)}


# --- Movesense -------------------------------------------------------------------------------------------------------


def movesense(rng, n: int, lost: slice = slice(0, 0)) -> tuple[list[str], np.ndarray]:
    times = np.delete(np.arange(n) / 128, lost)
    stamps = together(rng, times, 16)
    values = rng.integers(-2000, 2000, times.size)
    rows = [f"{round(5000 + 1000 * stamp)},{value}" for stamp, value in zip(stamps, values, strict=True)]
    return ["Movesense 174630000192, ECG 128 Hz", "timestamp (ms),ecg", *rows], values


def test_movesense(write, rng):
    lines, values = movesense(rng, 128 * 30)
    path = write("ecg.csv", lines)
    assert recognise(path) == "movesense"
    (ecg,) = listed(path)
    assert (ecg.name, ecg.kind, ecg.unit, ecg.samples.tolist()) == ("ecg", "ecg", "uV", values.tolist())
    assert read(path)[0].fs == pytest.approx(128, rel=2e-3)


def test_movesense_connects_again(write, rng):
    lines, _ = movesense(rng, 128 * 30, slice(1600, 1920))
    first, second = read(write("ecg.csv", lines), on_hole="split")
    assert (first.signal.size, second.signal.size) == (1600, 128 * 30 - 1920)


# --- Damage, for all -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Phone timestamp;sensor timestamp [ns];channel 0"], "the file holds no samples"),
        (["Phone timestamp;sensor timestamp [ns];ecg [uV]", f"{iso(START)};x;5", f"{iso(START)};7;5"], "row 2: 'x' is"),
        (["Phone timestamp;sensor timestamp [ns];a", f"{iso(START)};5;5;7"], r"row 2 has 4 cells, the first row has 3"),
        (["#{'Sampling rate (Hz)': 0}", "#NSeq\tAI1", "0\t1"], "the comments do not give the rate"),
        (["#{'Sampling rate (Hz)': 100}", "#NSeq\tAI1", "0\t1\t2"], "or not a name for each column"),
        (["LocalTimestamp,EmotiBitTimestamp,EA", "soon,5,7", "later,5,7"], "'soon' is not a number"),
    ],
)
def test_damaged_files(write, lines, message):
    with pytest.raises(SignalError, match=message):
        read(write("a.txt", lines))


def test_the_callers_time_column_counts(write, rng):
    lines, _ = polar(rng, 55, 100)
    path = write("Polar_PPG.txt", lines)
    assert read(path, column="channel 0", time_column="", fs=50)[0].fs == 50
    with pytest.raises(SignalError, match="there is no column 'clock'"):
        read(path, time_column="clock")


@pytest.mark.parametrize("name", ["polar", "muse", "openbci", "scientisst", "movesense"])
def test_damaged_files_give_signals_or_errors(write, rng, name):
    lines = {
        "polar": lambda: polar(rng, 55, 40)[0],
        "muse": lambda: muse(rng, 60)[0],
        "openbci": lambda: [*HEAD, NAMES, *openbci(rng, 60)[0]],
        "scientisst": lambda: scientisst(rng, np.arange(60))[0],
        "movesense": lambda: movesense(rng, 60)[0],
    }[name]()
    assert faults_of_damage(write("a.txt", lines), rng) == []
