"""Empatica EmbracePlus: files made with fastavro, against what fastavro reads back (rows 26, 57, 110, 111, 113)."""

from __future__ import annotations

import fastavro
import pytest
from made_files import IMU, RATES, START, array, record_type
from made_files import avro as write
from made_files import avro_path as at
from made_files import avro_session as session
from real_files import channels, faults_of_damage

from tiny_biomoe.errors import SignalError
from tiny_biomoe.readers import empatica_files
from tiny_biomoe.readers.discovery import find
from tiny_biomoe.readers.formats import parts_of, recognise
from tiny_biomoe.readers.read import read

SILENT = {"timestampStart": 0, "samplingFrequency": 0, "values": []}


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_every_sensor_equals_what_fastavro_reads(tmp_path, rng, codec):
    path = write(at(tmp_path, START), [session(START + 0.25, 30, rng)], codec)
    with path.open("rb") as file:
        raw = next(fastavro.reader(file))["rawData"]
    found = channels(path)
    assert list(found) == ["eda", "bvp", "temperature", "steps", *(f"accelerometer_{axis}" for axis in "xyz")]
    for key in RATES:
        assert found[key].samples.tolist() == raw[key]["values"]
        assert found[key].fs == pytest.approx(RATES[key], rel=1e-6)
        assert found[key].start == START + 0.25  # UTC: the time zone of the file does not move it
    assert found["accelerometer_y"].samples.tolist() == [y * (32 / 65535) for y in raw["accelerometer"]["y"]]
    assert [found[key].kind for key in RATES] == ["eda", "bvp", "temperature", "steps"]
    assert [found[key].unit for key in RATES] == ["uS", None, "°C", "count"]
    for shown in (repr(found), repr(read(path))):
        assert "SECRET" not in shown
        assert "Jane" not in shown


def test_row_111_files_of_another_device_are_not_joined(tmp_path, rng):
    """Two wristbands of one participant write files whose names follow on each other."""
    for n, device in enumerate(["A", "B", "A", "B"]):
        write(at(tmp_path, START + 30 * n), [session(START + 30 * n, 30, rng) | {"deviceSn": device}], "deflate")
    paths, skipped = find(tmp_path)
    assert paths == [at(tmp_path, START), at(tmp_path, START + 30)]
    assert len(skipped) == 2
    assert [parts_of(path) for path in paths] == [
        [at(tmp_path, START), at(tmp_path, START + 60)],
        [at(tmp_path, START + 30), at(tmp_path, START + 90)],
    ]
    with pytest.raises(SignalError, match="samples are missing for 30.* s, the first of 1 holes"):
        read(paths[0], column="bvp")
    assert [each.signal.size for each in read(paths[0], column="bvp", on_hole="split")] == [1920, 1920]


def test_row_111_a_file_whose_content_begins_before_the_one_in_front_is_not_joined(tmp_path, rng):
    write(at(tmp_path, START), [session(START, 30, rng)])
    write(at(tmp_path, START + 30), [session(START - 3600, 30, rng)])
    at(tmp_path, START + 60).write_bytes(b"no Avro file")
    assert [parts_of(path) for path in find(tmp_path)[0]] == [
        [at(tmp_path, START)],
        [at(tmp_path, START + 30)],
        [at(tmp_path, START + 60)],
    ]


def test_a_sensor_that_did_not_record_costs_itself(tmp_path, rng):
    path = write(at(tmp_path, START), [session(START, 30, rng, eda=SILENT)])
    assert "eda" not in [each.channel for each in read(path)]
    with pytest.raises(SignalError, match="did not record"):
        read(path, column="eda")
    silent = {**SILENT, "imuParams": IMU, "x": [], "y": [], "z": []}
    path = write(path, [session(START, 30, rng, **dict.fromkeys(RATES, SILENT), accelerometer=silent)])
    with pytest.raises(SignalError, match="no sensor recorded anything"):
        read(path)


def test_row_111_files_of_one_day_are_one_recording(tmp_path, rng):
    seconds = [30, 30, 20]
    starts = [START, START + 30, START + 60]
    for start, length in zip(starts, seconds, strict=True):
        write(at(tmp_path, start), [session(start + 0.01, length, rng)])
    others = [at(tmp_path, START + 86_400), tmp_path / f"1-1-P02_{START + 30}.avro"]  # the next day; another person
    for other in others:
        write(other, [session(START, 5, rng)])
    first = at(tmp_path, START)
    assert parts_of(first) == [at(tmp_path, start) for start in starts]
    (bvp,) = read(first, column="bvp")
    alone = [next(fastavro.reader(at(tmp_path, start).open("rb")))["rawData"]["bvp"]["values"] for start in starts]
    assert bvp.signal.tolist() == sum(alone, [])
    assert (bvp.fs, bvp.start, bvp.channel) == (64.0, START + 0.01, "bvp")
    (rest,) = read(at(tmp_path, START + 60), column="bvp")
    assert rest.signal.tolist() == alone[2]


def test_row_26_a_hole_between_two_files(tmp_path, rng):
    for start in (START, START + 40):
        write(at(tmp_path, start), [session(start, 30, rng)])
    first = at(tmp_path, START)
    with pytest.raises(SignalError, match=r"samples are missing for 10\.\d+ s, the first of 1 holes"):
        read(first, column="bvp")
    runs = read(first, column="bvp", on_hole="split")
    assert [(each.channel, each.start) for each in runs] == [("bvp[0:1920]", START), ("bvp[1920:3840]", START + 40)]
    assert [each.fs for each in runs] == [64.0, 64.0]


@pytest.mark.parametrize(("lag", "runs"), [(0, 1), (4, 1), (-4, 1), (6, 2)], ids="late by {} samples".format)
def test_a_gap_of_a_few_samples_is_rounding(tmp_path, rng, lag, runs):
    write(at(tmp_path, START), [session(START, 30, rng)])
    write(at(tmp_path, START + 30), [session(START + 30 + lag / 64, 30, rng)])
    assert len(read(at(tmp_path, START), column="bvp", on_hole="split")) == runs


def test_small_gaps_that_add_up_are_a_hole(tmp_path, rng):
    for index in range(5):
        write(at(tmp_path, START + 30 * index), [session(START + index * (30 + 2 / 64), 30, rng)])
    runs = read(at(tmp_path, START), column="bvp", on_hole="split")
    assert [each.signal.size for each in runs] == [3 * 1920, 2 * 1920]


def test_files_that_overlap_are_refused(tmp_path, rng):
    write(at(tmp_path, START), [session(START, 30, rng)])
    write(at(tmp_path, START + 20), [session(START + 20, 30, rng)])
    with pytest.raises(SignalError, match=r"1-1-P01_1700000020\.avro begins 10 s before 1-1-P01_1700000000\.avro ends"):
        read(at(tmp_path, START), column="bvp")


def test_files_of_two_rates_are_refused(tmp_path, rng):
    write(at(tmp_path, START), [session(START, 30, rng)])
    fast = {"timestampStart": (START + 30) * 10**6, "samplingFrequency": 32.0, "values": [1.0] * 64}
    write(at(tmp_path, START + 30), [session(START + 30, 30, rng, bvp=fast)])
    with pytest.raises(SignalError, match=r"is sampled at 64 Hz, the files together at 62 Hz: read them apart"):
        read(at(tmp_path, START), column="bvp")


def test_a_rate_of_zero_beside_samples_is_damage(tmp_path, rng):
    still = {"timestampStart": START * 10**6, "samplingFrequency": 0.0, "values": [1.0]}
    with pytest.raises(SignalError, match="bvp has samples, but its start is 1.7e"):
        read(write(at(tmp_path, START), [session(START, 30, rng, bvp=still)]))


def test_row_110_a_rate_that_contradicts_the_file(tmp_path, rng):
    path = write(at(tmp_path, START), [session(START, 30, rng)])
    with pytest.raises(SignalError, match="the file is sampled at 64 Hz, not at fs=100"):
        read(path, column="bvp", fs=100)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file(tmp_path, rng, keep):
    path = write(at(tmp_path, START), [session(START, 30, rng)])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(SignalError, match=r"P01_1700000000\.avro: not a whole .*Avro.* file .*: fetch it again"):
        read(path)


def test_other_avro_files_are_named(tmp_path):
    path = write(tmp_path / "a.avro", [{"n": 1}], schema=record_type("other", [("n", "int")]))
    assert recognise(path) == "embraceplus"
    with pytest.raises(SignalError, match=r"a\.avro is an Avro file, but not of an Empatica EmbracePlus"):
        read(path)


def test_items_of_no_bytes_are_refused(tmp_path):
    """They would let a file of a few bytes claim any number of samples."""
    schema = record_type("s", [("rawData", record_type("raw", [("eda", array("null"))]))])
    with pytest.raises(SignalError, match="not of an Empatica EmbracePlus"):
        read(write(tmp_path / "a.avro", [{"rawData": {"eda": [None] * 5}}], schema=schema))


def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch, rng):
    path = write(at(tmp_path, START), [session(START, 30, rng, eda={**SILENT, "values": [0.0] * 50_000})], "deflate")
    monkeypatch.setattr(empatica_files, "MAX_FILE", 100_000)
    with pytest.raises(SignalError, match="unpacks to more than 100000 bytes"):
        read(path)
    with pytest.raises(SignalError, match=r"compressed with 'bzip2': write it again with deflate"):
        read(write(path, [session(START, 5, rng)], "bzip2"))


def test_damaged_files_give_signals_or_errors(tmp_path, rng):
    assert faults_of_damage(write(at(tmp_path, START), [session(START, 3, rng)]), rng) == []
