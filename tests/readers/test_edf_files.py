"""EDF and BDF whose limits, labels or records edfio passes over: row 113, made byte by byte."""

from __future__ import annotations

import numpy as np
import pytest
from made_files import edf
from made_files import edf_signal as signal

from tiny_biomoe.errors import SignalError, SignalWarning
from tiny_biomoe.readers.read import read

TENTHS = [n / 10 for n in range(16)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pmin": "-3276,8", "pmax": "3276,7"}, "limits cannot be read .*-3276,8"),
        ({"pmin": b"-3276.8\0"}, "limits cannot be read"),
        ({"pmin": 0, "pmax": 0}, "limits are no scale: physical 0 to 0"),
        ({"dmin": 5, "dmax": 5}, "limits are no scale: .* digital 5 to 5"),
        ({"dmin": 7, "dmax": 5}, "limits are no scale: .* digital 7 to 5"),
        ({"pmax": "nan"}, "limits are no scale: physical -3276.8 to nan"),
    ],
)
def test_row_113_a_channel_without_a_scale_is_one_failure(tmp_path, changes, message):
    path = edf(tmp_path / "a.edf", [signal("EDA", range(16)), signal("ECG", range(16), dim="mV", **changes)])
    with pytest.warns(SignalWarning, match=rf"a\.edf: column 'ECG' is not read: its .*{message}"):
        found = read(path)
    assert [each.channel for each in found] == ["EDA"]
    np.testing.assert_allclose(found[0].signal, TENTHS, atol=1e-9)
    assert [(each.channel, each.failed) for each in found.left_out] == [("ECG", True)]
    with pytest.raises(SignalError, match=rf"a\.edf: column 'ECG': its .*{message}"):
        read(path, column="ECG")


def test_an_uncalibrated_marker_beside_a_signal_is_no_failure(tmp_path):
    path = edf(tmp_path / "a.edf", [signal("EDA", range(16)), signal("Event", range(16), pmin=0, pmax=0)])
    found = read(path)
    assert [each.channel for each in found] == ["EDA"]
    assert [(each.channel, each.failed) for each in found.left_out] == [("Event", False)]


def test_reversed_physical_limits_turn_the_polarity(tmp_path):
    path = edf(tmp_path / "a.edf", [signal("EDA", range(16), pmin=3276.7, pmax=-3276.8)])
    np.testing.assert_allclose(read(path)[0].signal, [-0.1 - each for each in TENTHS], atol=1e-9)


def test_a_blank_label_is_called_by_its_number(tmp_path):
    path = edf(tmp_path / "a.edf", [signal("EDA", range(16)), signal("", range(16), dim="")])
    assert [each.channel for each in read(path)] == ["EDA", "1"]
    assert read(path, column=1)[0].signal.size == 16


def test_two_channels_of_one_label_are_told_apart_by_number(tmp_path):
    twice = [signal("EEG F1-Ref", range(16), dim="uV"), signal("EEG F1-Ref", range(1, 17), dim="uV")]
    path = edf(tmp_path / "a.edf", twice)
    assert [(each.channel, each.modality) for each in read(path)] == [
        ("EEG F1-Ref #0", "eeg"),
        ("EEG F1-Ref #1", "eeg"),
    ]
    assert read(path, column="EEG F1-Ref #1")[0].signal[0] == pytest.approx(0.1)


def test_records_that_a_recorder_did_not_count(tmp_path):
    path = edf(tmp_path / "a.edf", [signal("EDA", range(16))], records=-1)
    assert read(path)[0].signal.size == 16
    path.write_bytes(path.read_bytes()[:-4])  # and that it did not complete
    assert read(path)[0].signal.size == 8
    with pytest.raises(SignalError, match="not a whole EDF file"):
        read(edf(tmp_path / "a.edf", [signal("EDA", range(16))], records=3))


def test_records_that_last_no_time(tmp_path):
    with pytest.raises(SignalError, match="its data records last 0 s, so it holds no sampling rate"):
        read(edf(tmp_path / "a.edf", [signal("EDA", range(16))], duration=0))


@pytest.mark.parametrize(
    ("second", "reserved", "whole"),
    [("1", "EDF+C", True), ("1.000001", "EDF+C", True), ("1.000001", "EDF+D", True), ("3", "EDF+C", False)],
)
def test_onsets_rounded_by_a_microsecond_are_no_holes(tmp_path, second, reserved, whole):
    marks = [b"+0\x14\x14\0", b"+" + second.encode() + b"\x14\x14\0"]
    annotations = signal("EDF Annotations", marks, dim="", pmin=-1, pmax=1, spr=30)
    path = edf(tmp_path / "a.edf", [signal("EDA", range(16)), annotations], reserved=reserved)
    if whole:
        assert read(path)[0].signal.size == 16
    else:
        with pytest.raises(SignalError, match="samples are missing for 2.125 s"):
            read(path)


def test_records_that_say_no_time_and_are_not_continuous_are_refused(tmp_path):
    with pytest.raises(SignalError, match=r"does not say when each of its records began \(\+D\)"):
        read(edf(tmp_path / "a.edf", [signal("EDA", range(16))], reserved="EDF+D"))


def test_row_108_a_unit_says_that_a_channel_is_no_waveform(tmp_path):
    names = {"DC01": "BPM", "SpO2": "%", "Resp": "bpm", "DC02": "%", "Chin EMG": "uV", "EDA": "\xb5S"}
    found = read(edf(tmp_path / "a.edf", [signal(name, range(16), dim=unit) for name, unit in names.items()]))
    assert [(each.channel, each.modality) for each in found] == [("SpO2", "spo2"), ("Chin EMG", "emg"), ("EDA", "eda")]
    assert [each.channel for each in found.left_out] == ["DC01", "Resp", "DC02"]
