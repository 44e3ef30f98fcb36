"""XDF: real files and files written byte by byte from its specification, against what pyxdf reads."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import pyxdf
from made_files import UNIX
from made_files import xdf as write
from made_files import xdf_stream as stream
from real_files import device, faults_of_damage

from tiny_biomoe.errors import SignalError
from tiny_biomoe.readers.formats import recognise
from tiny_biomoe.readers.read import read

LABELS = "".join(
    f"<channel><label>{label}</label><type>{kind}</type><unit>{unit}</unit></channel>"
    for label, kind, unit in [("Fp1", "EEG", "microvolts"), ("chest", "ECG", "millivolts")]
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.xdf"


def test_every_channel_of_every_stream_of_numbers(path, rng):
    eeg, eda = rng.standard_normal((600, 2)), rng.integers(0, 999, 50)
    marks = np.array([["go"], ["stop"]], object)
    write(
        path,
        stream(1, "amp", "EEG", 100, 50 + np.arange(600) / 100, eeg, f"<channels>{LABELS}</channels>"),
        stream(2, "band", "GSR", 4, 51 + np.arange(50) / 4, eda, form="int16"),
        stream(3, "marks", "Markers", 0, [51.0, 52.0], marks, form="string"),
        stream(4, "silent", "EEG", 100, [], []),
    )
    found = read(path)
    assert recognise(path) == "xdf"
    assert [each.channel for each in found] == ["amp Fp1", "amp chest", "band"]
    assert [each.modality for each in found] == ["eeg", "ecg", "eda"]
    assert [each.fs for each in found] == [100, 100, 4]
    assert [each.start for each in found] == pytest.approx([UNIX, UNIX, UNIX + 1])
    reference = {each["name"]: each for each in (flat(one) for one in pyxdf.load_xdf(str(path))[0])}
    assert [found[0].signal.tolist(), found[1].signal.tolist()] == reference["amp"]["series"].T.tolist()
    assert found[2].signal.tolist() == eda.tolist()


def flat(one: dict) -> dict:
    return {"name": one["info"]["name"][0], "series": one["time_series"], "stamps": one["time_stamps"]}


@pytest.mark.parametrize(
    ("fs", "lost"), [(4, (480, 960)), (4, (480, 484)), (250, (5000, 5200)), (1000, (9000, 10_500))]
)
def test_row_26_gaps_stay_however_slow_the_stream(path, rng, fs, lost):
    """At 4 Hz pyxdf spreads the samples evenly over a gap of two minutes."""
    n = {4: 2400, 250: 9000, 1000: 16_000}[fs]
    true = np.delete(np.arange(n) / fs, np.s_[lost[0] : lost[1]])
    stamps = true + 20 + (rng.exponential(0.003, true.size) if fs > 4 else rng.uniform(0, 0.01, true.size))
    write(path, stream(1, "band", "EDA", fs, np.maximum.accumulate(stamps), true))
    with pytest.raises(SignalError, match=rf"row {lost[0] + 1}: samples are missing for .*, the first of 1 holes"):
        read(path)
    first, second = read(path, on_hole="split", on_jitter="resample" if fs == 4 else "error")
    assert first.signal.size == lost[0]
    assert second.start - first.start == pytest.approx(lost[1] / fs, abs=0.02)


def test_times_of_a_fast_stream_are_those_of_pyxdf(path, rng):
    arrived = np.maximum.accumulate(9 + np.arange(8000) / 500 + rng.exponential(0.004, 8000))
    write(path, stream(1, "amp", "ECG", 500, arrived, np.arange(8000)))
    (found,) = read(path)
    stamps = pyxdf.load_xdf(str(path))[0][0]["time_stamps"]
    assert (found.fs, found.signal.size) == (500, 8000)
    assert found.start - UNIX == pytest.approx(stamps[0] - arrived.min() - 0.25, abs=0.01)


def test_a_stream_without_a_rate_has_the_rate_of_its_times(path):
    write(path, stream(1, "band", "EDA", 0, 5 + np.arange(80) / 8, np.arange(80)))
    (found,) = read(path)
    assert found.fs == pytest.approx(8)
    write(path, stream(1, "band", "EDA", 0, 5 + np.arange(80) ** 1.5, np.arange(80)))
    with pytest.raises(SignalError, match="on_jitter"):
        read(path)


def test_two_streams_of_one_name_are_told_apart(path):
    write(path, *(stream(n, "band", "EDA", 4, 5 + np.arange(8) / 4, np.arange(8) * n) for n in (1, 2)))
    first, second = read(path)
    assert first.channel != second.channel
    assert (first.signal[1], second.signal[1]) == (1, 2)


def test_a_file_without_a_date_has_no_start(path):
    write(path, stream(1, "band", "EDA", 4, 5 + np.arange(8) / 4, np.arange(8)), head="")
    assert [each.start for each in read(path)] == [None]


def test_markers_only(path):
    marks = np.array([["go"]], object)
    write(path, stream(3, "marks", "Markers", 0, [51.0], marks, form="string"))
    with pytest.raises(SignalError, match=r"a\.xdf: the file holds no stream of numbers with samples"):
        read(path)


@pytest.mark.parametrize("keep", [0.05, 0.3, 0.6, 0.97])
def test_a_truncated_file(path, rng, keep):
    write(path, stream(1, "amp", "EEG", 100, 50 + np.arange(600) / 100, rng.standard_normal((600, 2))))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(SignalError, match=r"a\.xdf: .*(fetch it again|fetch the file again)"):
        read(path)


def test_a_stream_without_its_end(path, rng):
    parts = list(stream(1, "amp", "EEG", 100, 50 + np.arange(600) / 100, rng.standard_normal(600)))
    write(path, parts[:-1])
    with pytest.raises(SignalError, match="stream 'amp' has no end: the file was cut short, or recording broke off"):
        read(path)


@pytest.mark.parametrize(("count", "message"), [(41, "fetch it again"), (2**31, "more than it has bytes")])
def test_a_chunk_that_claims_more_than_it_holds(path, count, message):
    parts = list(stream(1, "amp", "EEG", 100, np.arange(40) / 100, np.arange(40)))
    parts[1] = parts[1][:12] + struct.pack("<I", count) + parts[1][16:]
    write(path, parts)
    with pytest.raises(SignalError, match=message):
        read(path)


def test_damaged_values_of_the_header(path):
    parts = list(stream(1, "amp", "EEG", 100, np.arange(40) / 100, np.arange(40)))
    write(path, [parts[0].replace(b"float32", b"float33"), *parts[1:]])
    with pytest.raises(SignalError, match="has 1 channels of 'float33': the file is damaged"):
        read(path)


@pytest.mark.parametrize("name", ["xdf/empty_streams.xdf", "xdf/minimal.xdf"])
def test_real_files_equal_what_pyxdf_reads(name):
    path = device(name)
    streams = [
        each
        for each in pyxdf.load_xdf(str(path), dejitter_timestamps=False)[0]
        if each["info"]["channel_format"][0] != "string" and len(each["time_stamps"])
    ]
    (reference,) = streams
    found = read(path)
    assert [each.signal.tolist() for each in found] == reference["time_series"].T.tolist()
    assert {each.fs for each in found} == {float(reference["info"]["nominal_srate"][0])}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of pyxdf, on damaged times
def test_damaged_files_give_signals_or_errors(path, rng):
    write(path, stream(1, "amp", "EEG", 100, 50 + np.arange(120) / 100, rng.standard_normal((120, 2))))
    assert faults_of_damage(path, rng) == []
