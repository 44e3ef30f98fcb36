"""AcqKnowledge: real files and files laid out with bioread's own headers, against what bioread reads back."""

from __future__ import annotations

from datetime import datetime, timezone

import bioread
import numpy as np
import pytest
from made_files import ACQ_START as START
from made_files import acqknowledge as write
from real_files import device, faults_of_damage, listed

from tiny_biomoe.errors import SignalError
from tiny_biomoe.readers.formats import recognise
from tiny_biomoe.readers.read import read


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.acq"


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_channels_at_their_own_rates_equal_what_bioread_reads(path, rng, packed):
    raw = write(path, rng, [(0, "Segment 1", START)], packed)
    found = read(path)
    assert recognise(path) == "acq"
    assert [each.name for each in listed(path)] == ["EKG - ERS100C", "EDA", "EDA"]
    assert len({each.channel for each in found}) == 3
    assert [each.fs for each in found] == [1000, 250, 250]
    assert {each.start for each in found} == {START.timestamp()}
    assert found[0].signal.tolist() == (raw[0] * 0.001 + 0.5).tolist()
    for each, channel in zip(found, bioread.read_file(str(path)).channels, strict=True):
        assert each.signal.tobytes() == channel.data.tobytes()
    (second,) = read(path, column=2)
    assert second.signal.tolist() == raw[2].tolist()


def test_a_pause_between_appended_segments_is_a_hole(path, rng):
    later = datetime.fromtimestamp(START.timestamp() + 60, timezone.utc)
    raw = write(path, rng, [(0, "Segment 1", START), (100, "a note", None), (200, "Segment 2", later)])
    with pytest.raises(SignalError, match=r"samples are missing for 59\.8\d* s, the first of 1 holes"):
        read(path, column="EKG - ERS100C")
    first, second = read(path, column=1, on_hole="split")
    assert (first.channel, second.channel) == ("EDA[0:50]", "EDA[50:100]")
    assert second.start - first.start == pytest.approx(60)
    assert second.signal.tolist() == raw[1][50:].tolist()
    (whole,) = read(path, column=1, time_column="")
    assert whole.signal.tolist() == raw[1].tolist()


def test_a_pause_of_unknown_length_parts_the_channel(path, rng):
    raw = write(path, rng, [(0, "Segment 1", None), (201, "Segment 2", None)])
    first, second = read(path, column=1)
    assert (first.channel, second.channel) == ("EDA (segment 1)", "EDA (segment 2)")
    assert (first.start, second.start) == (None, None)
    assert [*first.signal, *second.signal] == raw[1].tolist()
    assert second.signal.size == 49  # the sample at 200 ms still belongs to the first


@pytest.mark.parametrize("keep", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_a_truncated_file(path, rng, keep, packed):
    write(path, rng, packed=packed)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(SignalError, match=r"a\.acq: .*(fetch it again|is damaged, or of a newer kind)"):
        read(path)


@pytest.mark.parametrize(("at", "value"), [(10, 0), (10, -5), (10, 30_000)])
def test_headers_that_count_no_channels_or_too_many(path, rng, at, value):
    write(path, rng)
    data = bytearray(path.read_bytes())
    data[at : at + 2] = value.to_bytes(2, "little", signed=True)
    path.write_bytes(data)
    with pytest.raises(SignalError, match=f"the header counts {value} channels"):
        read(path)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("acq/r35_test.acq", ["Analog input", "Analog input"]),
        ("acq/r42_test.acq", ["ECG (.05 - 150 Hz)", "EMG (30 - 500 Hz)", "EDA (0 - 35 Hz)", "CH4 Input"]),
        ("acq/sample.acq", ["Pulse", "Resp", "GSR", "Digital input"]),
    ],
)
def test_real_files_equal_what_bioread_reads(name, channels):
    path = device(name)
    reference = bioread.read_file(str(path))
    for number, (label, channel) in enumerate(zip(channels, reference.channels, strict=True)):
        parts = listed(path, column=number)
        assert {each.name.partition(" (segment")[0] for each in parts} == {label}
        assert np.concatenate([each.samples for each in parts]).tobytes() == channel.data.tobytes()
        assert {each.unit for each in parts} == {channel.units}
        assert {each.fs for each in parts} == {channel.samples_per_second}


def test_a_real_file_that_was_paused():
    first, second = read(device("acq/r42_test.acq"), column="EDA (0 - 35 Hz)")
    assert (first.signal.size, second.signal.size) == (3881, 4020)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_damaged_files_give_signals_or_errors(path, rng, packed):
    write(path, rng, [(0, "Segment 1", START)], packed)
    assert faults_of_damage(path, rng, 25) == []
