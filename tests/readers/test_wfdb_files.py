"""WFDB as header(5) and signal(5) say, made byte by byte: rows 113, 117, 119."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tiny_biomoe.errors import SignalError, SignalWarning
from tiny_biomoe.readers.discovery import find
from tiny_biomoe.readers.read import Recording, read

NAN = np.nan


def record(folder: Path, name: str, header: str, data: object = None, kind: str = "<i2") -> Path:
    """A header and, where there are samples, the file `name`.dat."""
    (folder / f"{name}.hea").write_text(header)
    if data is not None:
        (folder / f"{name}.dat").write_bytes(np.asarray(data, kind).tobytes())
    return folder / f"{name}.hea"


def values(found: list[Recording]) -> dict[str, list[float]]:
    return {each.channel: each.signal.tolist() for each in found}


@pytest.mark.parametrize("rate", ["360", "360.", "360.0", "3.6e2", "3.6E+2", "360/125(3)"])
def test_row_119_ways_to_write_a_rate(tmp_path, rate):
    (found,) = read(record(tmp_path, "a", f"a 1 {rate} 4\na.dat 16 100(0)/mV 16 0 0 6 0 ECG\n", range(4)))
    assert (found.fs, found.signal.tolist()) == (360.0, [0, 0.01, 0.02, 0.03])


@pytest.mark.parametrize(("gain", "step"), [("150", 150), ("1.5e2", 150), ("1.5E2", 150), ("0", 200), ("", 200)])
def test_row_119_ways_to_write_a_gain(tmp_path, gain, step):
    rest = f"{gain}(3)/mV 16 0 0 6 0 ECG" if gain else ""
    (found,) = read(record(tmp_path, "a", f"a 1 100 4\na.dat 16 {rest}\n", range(4)))
    np.testing.assert_allclose(found.signal, (np.arange(4.0) - 3 * bool(gain)) / step)


@pytest.mark.parametrize("unit", ["mmHg", "mm[Hg]", "uV*s", "l.min-1", "[uS]", "µV"])
def test_row_119_a_unit_is_any_word(tmp_path, unit):
    path = tmp_path / "a.hea"
    path.write_bytes(f"a 1 100 4\na.dat 16 100/{unit} 12 2048 2048 8392 0 ABP left\n".encode("latin-1"))
    (tmp_path / "a.dat").write_bytes(np.asarray([2048, 2148, 1948, 2248], "<i2").tobytes())
    assert values(read(path)) == {"ABP left": [0, 1, -1, 2]}


def test_row_119_lengths_and_descriptions_may_be_absent(tmp_path):
    assert values(read(record(tmp_path, "a", "a 1 100\na.dat 16\n", range(8)))) == {"0": [n / 200 for n in range(8)]}
    two = "b 2 100 0\nb.dat 16 10(0)/mV 12 0 0 12 0\nb.dat 16 10(0)/mV 12 0 1 16 0\n"
    assert values(read(record(tmp_path, "b", two, range(8)))) == {"0": [0, 0.2, 0.4, 0.6], "1": [0.1, 0.3, 0.5, 0.7]}
    assert values(read(tmp_path / "b.hea", column=1)) == {"1": [0.1, 0.3, 0.5, 0.7]}


def test_row_119_format_8_starts_at_the_adc_zero(tmp_path):
    path = record(tmp_path, "a", "a 1 100 3\na.dat 8 10/mV 12 50\n", [1, 2, -1], "i1")
    np.testing.assert_allclose(read(path)[0].signal, [0.1, 0.3, 0.2])


def test_row_119_frames_of_several_samples_are_kept(tmp_path):
    frames = [1, 2, -32768, 4, 100, 5, 6, 7, 8, 200]
    path = record(
        tmp_path, "a", "a 2 25 2\na.dat 16x4 10(0)/mV 16 0 1 0 0 BVP\na.dat 16 10(0)/uS 16 0 100 0 0 EDA\n", frames
    )
    bvp, eda = read(path)
    assert (bvp.fs, eda.fs, eda.signal.tolist()) == (100.0, 25.0, [10, 20])
    np.testing.assert_array_equal(bvp.signal, [0.1, 0.2, NAN, 0.4, 0.5, 0.6, 0.7, 0.8])


def test_row_119_two_skews(tmp_path):
    rows = [f"a.dat 16{skew} 10(0)/mV 16 0 0 0 0 {name}" for skew, name in ((":1", "A"), (":3", "B"), ("", "C"))]
    mixed = [value for n in range(8) for value in (10 * n + 10, 10 * n + 11, 10 * n + 12)]
    found = values(read(record(tmp_path, "a", "\n".join(["a 3 100 8", *rows, ""]), mixed)))
    assert found["A"] == [2, 3, 4, 5, 6, 7, 8]
    assert found["B"] == [4.1, 5.1, 6.1, 7.1, 8.1]
    assert len(found["C"]) == 8


def test_row_119_skewed_ends_of_segments_hold_nothing(tmp_path):
    frames = [value for n in range(6) for value in (10 * n + 11, 10 * n + 12, 10 * n + 13, 10 * n + 14, 1000 + n)]
    for name in "st":
        lines = f"{name}.dat 16x4:2 10(0)/mV 16 0 11 0 0 BVP\n{name}.dat 16 10(0)/uS 16 0 1000 0 0 EDA\n"
        record(tmp_path, name, f"{name} 2 25 6\n{lines}", frames)
    (bvp, eda) = read(record(tmp_path, "m", "m/2 2 25\ns 6\nt 6\n"))
    part = [n + k / 10 for n in range(3, 7) for k in range(1, 5)] + [NAN] * 8
    np.testing.assert_allclose(bvp.signal, part * 2)
    np.testing.assert_allclose(eda.signal, [100, 100.1, 100.2, 100.3, 100.4, 100.5] * 2)


def test_row_119_null_signals_and_further_lines(tmp_path):
    line = "10(0)/mV 16 0 0 0 0"
    path = record(tmp_path, "a", f"a 2 100 8\na.dat 16 {line} ECG\n~ 0 {line} RESP\na.dat 16 {line} extra\n", range(8))
    assert values(read(path)) == {"ECG": [n / 10 for n in range(8)]}
    with pytest.raises(SignalError, match="column 'RESP': the record names it and holds no samples of it"):
        read(path, column="RESP")


def test_row_119_two_signals_of_one_name_in_a_layout(tmp_path):
    record(tmp_path, "l", "l 2 100 0\n~ 0 10(0)/mV 16 0 0 0 0 II\n~ 0 10(0)/mV 16 0 0 0 0 II\n")
    record(tmp_path, "s", "s 2 100 4\ns.dat 16 10(0)/mV 16 0 0 0 0 II\ns.dat 16 10(0)/mV 16 0 1 0 0 II\n", range(8))
    path = record(tmp_path, "m", "m/3 2 100 6\nl 0\n~ 2\ns 4\n")
    found = values(read(path))
    np.testing.assert_array_equal(found["II #0"], [NAN, NAN, 0, 0.2, 0.4, 0.6])
    np.testing.assert_array_equal(found["II #1"], [NAN, NAN, 0.1, 0.3, 0.5, 0.7])
    assert values(read(path, column="II #1"))["II #1"][2:] == [0.1, 0.3, 0.5, 0.7]


def test_row_117_a_unit_that_changes_between_segments(tmp_path):
    record(tmp_path, "l", "l 2 100 0\n~ 0 1000(0)/mV 16 0 0 0 0 II\n~ 0 10(0)/uS 16 0 0 0 0 EDA\n")
    eda = "10(0)/uS 16 0 0 0 0 EDA"
    record(tmp_path, "s", f"s 2 100 2\ns.dat 16 1000(0)/mV 16 0 0 0 0 II\ns.dat 16 {eda}\n", [1000, 5, 2000, 6])
    record(tmp_path, "t", f"t 2 100 2\nt.dat 16 1(0)/uV 16 0 0 0 0 II\nt.dat 16 {eda}\n", [1000, 7, 2000, 8])
    path = record(tmp_path, "m", "m/3 2 100 4\nl 0\ns 2\nt 2\n")
    with pytest.warns(SignalWarning, match=r"column 'II' is not read: its unit changes .* \(mV, uV\)"):
        assert values(read(path)) == {"EDA": [0.5, 0.6, 0.7, 0.8]}


def test_names_with_a_comma_are_leads_of_an_ecg(tmp_path):
    names = ("RESP,", "PLETH,", "V,", "AVR,", "II,")  # as the BIDMC records write them
    lines = "".join(f"a.dat 16 100(0)/NU 16 0 0 0 0 {name}\n" for name in names)
    path = record(tmp_path, "a", "a 5 125 4\n" + lines, range(20))
    assert [(each.channel, each.modality) for each in read(path)] == list(
        zip(names, ["resp", "bvp", "ecg", "ecg", "ecg"], strict=True)
    )
    assert [each.channel for each in read(path, modality="ecg")] == ["V,", "AVR,", "II,"]


def test_row_108_numerics_are_no_waveforms(tmp_path):
    units = {"HR": "bpm", "PULSE": "bpm", "RESP": "pm", "SpO2": "%", "NBPSys": "mmHg"}
    lines = "".join(f"a.dat 16 10/{unit} 16 0 0 0 0 {name}\n" for name, unit in units.items())
    found = read(record(tmp_path, "a", "a 5 0.0166666666667/125 2 10:44:18.529 04/05/2004\n" + lines, range(10)))
    assert [(each.channel, each.modality) for each in found] == [("SpO2", "spo2"), ("NBPSys", None)]
    assert [each.channel for each in found.left_out] == ["HR", "PULSE", "RESP"]
    assert found.left_out[2].reason == "a rate by its unit (pm)"
    assert found[0].start == 1083667458.529


def test_a_header_has_the_lines_of_the_specification_only(tmp_path):
    """In Latin-1 Python takes some bytes of a description, as Windows writes them, for ends of lines or blanks."""
    path = tmp_path / "a.hea"
    path.write_bytes(b"a 1 100 4\na.dat 16 10(0)/mV 16 0 0 0 0 ECG \x85 left\xa0arm\r\n# note\n")
    (tmp_path / "a.dat").write_bytes(np.arange(4, dtype="<i2").tobytes())
    assert values(read(path)) == {"ECG \\x85 left\\xa0arm": [0, 0.1, 0.2, 0.3]}
    path.write_bytes(b"a\xa01 100 4\na.dat 16\n")  # a record of 100 signals, called "a\xa01"
    with pytest.raises(SignalError, match="it announces 100 lines and 1 follow"):
        read(path)


def test_a_layout_of_another_number_of_signals(tmp_path):
    record(tmp_path, "l", "l 1 100 0\n~ 0 1000(0)/mV 16 0 0 0 0 II\n")
    record(tmp_path, "s", "s 2 100 4\ns.dat 16 10(0)/mV 16 0 0 0 0 II\ns.dat 16 10(0)/mV 16 0 1 0 0 V\n", range(8))
    with pytest.raises(SignalError, match="the header counts 2 signals, its layout 1: correct it"):
        read(record(tmp_path, "m", "m/2 2 100 4\nl 0\ns 4\n"))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "its first line is not"),
        ("a 2 100 4\na.dat 16 1 16 0 0 0 0 X\n", "announces 2 lines and 1 follow"),
        ("a 1 100 4\na.dat sixteen\n", "row 2 of the header is no signal: 'a.dat sixteen'"),
        ("a 1 0 4\na.dat 16\n", "gives its rate as 0"),
        ("a 1 100 400\na.dat 16\n", "not a whole WFDB file"),
        ("a 1 100 4\na.dat 99\n", "not a whole WFDB file"),
        ("a 1 100\na.dat 516\n", "leaves out the length, which format 516 does not show"),
        ("a 1 100 99999999999\na.dat 16\n", "99999999999 samples, more than"),
        ("a 1 100 4\n~ 0 1/mV 16 0 0 0 0 X\n", "the header is a layout"),
        ("a/1 1 100 4\nb 4\n", "the record needs 'b.hea', and no such file lies beside it"),
        ("a/1 1 100 4\nb\0 4\n", r"the record needs 'b\\x00.hea', and no such file lies beside it"),
        ("a 3000 100\na.dat 80 100\n", "announces 3000 lines and 1 follow"),
        ("a/2 1 100 9\n~ 4\n~ 4\n", "the segments do not add up to the 9 frames"),
    ],
)
def test_headers_that_are_refused_in_words(tmp_path, header, message):
    with pytest.raises(SignalError, match=rf"a\.hea: .*{message}"):
        read(record(tmp_path, "a", header, range(4)))


@pytest.mark.parametrize("name", ["signals/a.dat", "./signals/a.dat", "signals/raw/a.dat"])
def test_row_111_signal_files_may_lie_in_a_folder_below_the_header(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(np.arange(4, dtype="<i2").tobytes())
    path = record(tmp_path, "a", f"a 1 100 4\n{name} 16 10(0)/mV 16 0 0 0 0 ECG\n")
    assert values(read(path)) == {"ECG": [0, 0.1, 0.2, 0.3]}
    paths, skipped = find(tmp_path)
    assert (paths, [each.reason for each in skipped]) == ([path], ["read through a.hea"])


def test_a_record_whose_header_and_samples_are_links(tmp_path):
    (tmp_path / "kept").mkdir()
    record(tmp_path / "kept", "a", "a 1 100 4\na.dat 16 10(0)/mV 16 0 0 0 0 ECG\n", range(4))
    for name in ("a.hea", "a.dat"):
        (tmp_path / name).symlink_to(tmp_path / "kept" / name)
    assert values(read(tmp_path / "a.hea")) == {"ECG": [0, 0.1, 0.2, 0.3]}
