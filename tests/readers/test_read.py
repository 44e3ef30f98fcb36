"""`read`: rates, clocks, changed files (rows 22-27, 53, 56, 57, 104), and real recordings against reference readers."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import edfio
import h5py
import numpy as np
import pytest
import wfdb
from conftest import ROOT
from made_files import write

from tiny_biomoe.errors import ConfigError, SignalError
from tiny_biomoe.readers.discovery import find
from tiny_biomoe.readers.formats import FORMATS, parts_of
from tiny_biomoe.readers.read import Recording, read, source_name

NAN = np.nan
DATA = ROOT.parent / "shared" / "data"


def only(recordings: list[Recording]) -> Recording:
    (recording,) = recordings
    return recording


@pytest.fixture
def timed(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of times and samples 0, 1, 2, ...; times as text or as numbers."""

    def write(times, name: str = "time [s]") -> Path:
        path = tmp_path / "a.csv"
        path.write_text("\n".join([f"{name},EDA", *(f"{time},{index}" for index, time in enumerate(times))]) + "\n")
        return path

    return write


# --- Rates and clocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "step", "fs"),
    [("time [s]", 0.008, 125), ("t_ms", 4, 250), ("Time(sec)", 1, 1), ("Timestamp (us)", 500, 2000), ("t", 0.01, 100)],
)
def test_the_rate_of_a_time_column(timed, name, step, fs):
    recording = only(read(timed([round(n * step, 6) for n in range(50)], name)))
    assert (recording.channel, recording.fs, recording.start) == ("EDA", fs, None)
    assert recording.signal.tolist() == list(range(50))


def test_a_clock_that_counts_from_1970_tells_the_start(timed):
    assert only(read(timed([1.6e9 + n / 4 for n in range(9)]))).start == 1.6e9
    assert only(read(timed([1_600_000_000_000 + 250 * n for n in range(9)], "time [ms]"))).start == 1.6e9


@pytest.mark.parametrize("time_column", ["marks", 0, "0", "marks [s]"])
def test_the_time_column_is_named_by_the_caller(timed, time_column):
    path = timed([n / 10 for n in range(9)], "marks")
    assert [each.channel for each in read(path, time_column=time_column)] == ["EDA"]
    assert only(read(path, time_column=time_column)).fs == 10


def test_the_times_are_read_as_samples_only_on_request(timed):
    path = timed([n / 10 for n in range(9)])
    assert [each.channel for each in read(path, fs=7, time_column="")] == ["EDA"]
    (times,) = read(path, column="time [s]")
    assert times.signal.tolist() == [n / 10 for n in range(9)]


def test_times_need_a_header_or_the_callers_word(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("0.0,5\n0.1,6\n0.2,7\n")
    assert only(read(path, time_column=0)).fs == 10
    assert len(read(path, fs=10)) == 2


def test_a_rate_that_nobody_gives(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1\n2\n")
    with pytest.raises(SignalError, match=r"a\.csv: the file does not hold its sampling rate: .* fs=100 \(--fs 100\)"):
        read(path)
    with pytest.raises(SignalError, match="fs=0 is not a positive finite number"):
        read(path, fs=0)


def test_row_22_fs_against_the_time_column(timed):
    path = timed([n / 100 for n in range(50)])
    assert only(read(path, fs=100.9)).fs == 100.9
    with pytest.raises(
        SignalError, match=r"a\.csv: time column 'time \[s\]' advances by 0.01 a row, which is 100 Hz, not fs=102"
    ):
        read(path, fs=102)
    assert only(read(path, fs=102, time_column="")).fs == 102


@pytest.mark.parametrize(
    ("fs", "message"), [(64.5, None), (65, "the file is sampled at 64 Hz, not at fs=65: leave fs out")]
)
def test_row_22_fs_against_the_header(tmp_path, fs, message):
    path = tmp_path / "BVP.csv"
    path.write_text("1644226061\n64\n1\n2\n")
    if message:
        with pytest.raises(SignalError, match=message):
            read(path, fs=fs)
    else:
        assert only(read(path, fs=fs)).fs == fs


def test_row_23_the_rate_that_is_used_is_in_the_recording(timed):
    assert only(read(timed([n / 64 for n in range(200)]))).fs == 64.0


def test_row_24_jittered_times_are_resampled_only_on_request(timed, rng):
    times = np.arange(400) / 100 + rng.uniform(-0.003, 0.003, 400)
    path = timed(times.tolist())
    with pytest.raises(
        SignalError, match='the times are uneven, .* more than 10% of the sample period: .*on_jitter="resample"'
    ):
        read(path)
    recording = only(read(path, fs=100, on_jitter="resample"))
    assert only(read(path, on_jitter="resample")).fs == pytest.approx(100, rel=1e-3)
    grid = times[0] + np.arange(recording.signal.size) / 100
    np.testing.assert_allclose(recording.signal, np.interp(grid, times, np.arange(400)), atol=1e-9)
    assert recording.signal.size == pytest.approx(400, abs=1)


@pytest.mark.parametrize("fs", [60, 64, 128, 256, 300, 400, 512])
def test_row_24_times_written_in_milliseconds_are_even(timed, fs):
    recording = only(read(timed([f"{n / fs:.3f}" for n in range(3000)])))
    assert recording.fs == pytest.approx(fs, rel=1e-5)
    assert recording.signal.tolist() == list(range(3000))


def test_row_25_times_written_with_few_digits_may_repeat_and_are_even(timed):
    written = [f"{n * 0.008:.5g}" for n in range(20_000)]  # 125 Hz: 100, 100.01, 100.02, 100.02, 100.03
    assert len(set(written)) < len(written)
    assert only(read(timed(written))).fs == 125


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({5: 0.04}, "row 7: 0.04 repeats the time before; repair the times, or read without them"),
        ({5: 0.02}, "row 7: 0.02 goes back in time"),
        ({5: "nan"}, "row 7: no time"),
        ({5: ""}, "row 7: no time"),
        ({5: "noon"}, "column 'time .*', row 7: 'noon' is not a number"),
    ],
)
def test_row_25_times_that_do_not_advance(timed, change, message):
    times = [n / 100 for n in range(20)]
    for index, value in change.items():
        times[index] = value
    with pytest.raises(SignalError, match=rf"a\.csv: .*{message}"):
        read(timed(times))


def test_row_25_times_that_end_before_the_samples(timed):
    with pytest.raises(SignalError, match="holds 3 times for 4 samples"):
        read(timed([0, 0.1, 0.2, ""]))


ODD = ('{"fs": [4]}', '{"fs": {"EDA": 4}}', '{"fs": true}', '{"fs": -4}', '{"fs": 1e400}', f'{{"fs": {"9" * 400}}}')


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.npy", "a.b.csv"])
@pytest.mark.parametrize("key", ["SamplingFrequency", "sampling_rate", "fs"])
def test_row_110_a_rate_in_a_sidecar_is_used_for_every_format(tmp_path, name, key):
    samples, path = np.sin(np.arange(99.0)), tmp_path / name
    if name.endswith(".npy"):
        np.save(path, samples)
    else:
        text = ("EDA\n" + "".join(f"{each}\n" for each in samples)).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    sidecar = tmp_path / f"{name.removesuffix('.gz').rpartition('.')[0]}.json"
    sidecar.write_text(json.dumps({key: 4, "Manufacturer": "none"}))
    assert only(read(path, modality="eda")).fs == 4
    assert parts_of(path) == [path, sidecar]
    with pytest.raises(SignalError, match="sampled at 4 Hz, not at fs=5"):
        read(path, modality="eda", fs=5)
    for other in ("[1, 2]", "{", json.dumps({key: "fast"}), json.dumps({"fs": 4, "sample_rate": 5}), *ODD):
        sidecar.write_text(other)
        with pytest.raises(SignalError, match="does not hold its sampling rate"):
            read(path, modality="eda")


def test_row_110_a_sidecar_that_contradicts_the_file_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, eda=np.sin(np.arange(99.0)), fs=4.0)
    (tmp_path / "a.json").write_text('{"SamplingFrequency": 8}')
    with pytest.raises(SignalError, match=r"it is sampled at 4 Hz, and a\.json beside it says 8 Hz: correct one"):
        read(path)
    (tmp_path / "a.json").write_text('{"SamplingFrequency": 4.01}')
    assert only(read(path)).fs == 4


def test_row_26_holes_in_time_are_an_error_or_split(timed):
    times = [*range(1000), *range(1001, 1500), *range(1600, 2000)]
    path = timed([f"{n / 100:.2f}" for n in times])
    with pytest.raises(
        SignalError, match=r"row 1002: samples are missing for 0.02 s, the first of 2 holes: split .*on_hole=\"split\""
    ):
        read(path)
    parts = read(path, on_hole="split")
    assert [part.channel for part in parts] == ["EDA[0:1000]", "EDA[1000:1499]", "EDA[1499:1899]"]
    assert [part.signal.size for part in parts] == [1000, 499, 400]
    assert {part.fs for part in parts} == {100.0}
    assert np.concatenate([part.signal for part in parts]).tolist() == list(range(1899))


def test_row_26_holes_may_be_kept_as_missing_samples(timed):
    times = [*range(1000), *range(1001, 1500), *range(1600, 2000)]
    kept = only(read(timed([f"{1.6e9 + n / 100:.2f}" for n in times]), on_hole="nan"))
    assert (kept.channel, kept.fs, kept.start) == ("EDA", 100.0, 1.6e9)
    assert np.flatnonzero(~np.isnan(kept.signal)).tolist() == times
    assert kept.signal[times].tolist() == list(range(1899))
    assert kept.holes == ((10.0, 10.01), (15.0, 16.0))
    kept.check_whole(0, 10)
    kept.check_whole(10.01, 15)
    with pytest.raises(SignalError, match=r"missing for 1 s from 15 s on, the first of 1 holes: split .*nan"):
        kept.check_whole(12, 15.01)


def test_holes_too_long_to_be_kept_are_refused(timed):
    with pytest.raises(SignalError, match="more than 134217728: its pauses are too long .*split the file"):
        read(timed([*range(9), *range(10**9, 10**9 + 9)]), on_hole="nan")


def test_uneven_runs_lie_at_their_place_beside_a_hole(timed):
    times = np.array([0, 0.1, 0.21, 0.29, 0.4, 0.5, 2.5, 2.61, 2.69, 2.8])
    kept = only(read(timed([f"{t:.2f}" for t in times]), on_hole="nan", on_jitter="resample", fs=10))
    assert kept.signal.size == 29
    assert np.flatnonzero(np.isnan(kept.signal)).tolist() == list(range(6, 25))
    assert kept.signal[[0, 25]].tolist() == [0, 6]


def test_row_116_a_split_parts_at_missing_samples_too(timed):
    path = timed([n / 100 for n in range(300)])
    path.write_text(path.read_text().replace(",100\n", ",NaN\n").replace(",250\n", ",\n"))
    assert [each.channel for each in read(path, on_hole="split")] == ["EDA[0:100]", "EDA[101:250]", "EDA[251:300]"]
    assert only(read(path)).signal.size == 300
    path.write_text("EDA\n1\n2\nNaN\n4\n")
    found = read(path, fs=4, on_hole="split")
    assert [(each.channel, each.signal.tolist()) for each in found] == [("EDA[0:2]", [1, 2]), ("EDA[3:4]", [4])]


def test_row_26_holes_in_uneven_times(timed, rng):
    times = np.array([*range(200), *range(300, 500)]) / 100 + rng.uniform(-0.003, 0.003, 400)
    path = timed(times.tolist())
    with pytest.raises(SignalError, match="the first of 1 holes"):
        read(path, fs=100, on_jitter="resample")
    parts = read(path, fs=100, on_jitter="resample", on_hole="split")
    assert [part.channel for part in parts] == ["EDA[0:200]", "EDA[200:400]"]
    assert [part.signal.size for part in parts] == pytest.approx([200, 200], abs=1)


def test_row_26_a_part_knows_when_it_began(timed):
    parts = read(timed([1.6e9 + n / 4 for n in [*range(20), *range(40, 60)]]), on_hole="split")
    assert [part.start for part in parts] == [1.6e9, 1.6e9 + 10]


def test_row_26_rates_that_change_at_a_hole_are_not_averaged(timed):
    times = [*(n / 100 for n in range(500)), *(10 + n / 80 for n in range(500))]
    with pytest.raises(SignalError, match="the times are uneven"):
        read(timed(times), on_hole="split")


@pytest.mark.parametrize("name", ["t", "t [s]"])
def test_row_27_milliseconds_taken_for_seconds(timed, name):
    path = timed(range(0, 500, 10), name)
    with pytest.raises(
        SignalError, match=r"advances by 10 a row, .* it counts milliseconds, not seconds; .*time_column=\"t \[ms\]\""
    ):
        read(path, fs=100)
    assert only(read(path, fs=100, time_column="t [ms]")).fs == 100


@pytest.mark.parametrize("times", [range(50), range(0, 500, 10), [1.6e12 + n / 4 for n in range(9)]])
def test_row_27_a_unit_that_cannot_be_told(timed, times):
    with pytest.raises(
        SignalError, match=r"does not say whether that is in seconds or milliseconds: name the unit, .*\[ms\]"
    ):
        read(timed(times, "t"))


# --- Channels and modalities -----------------------------------------------------------------------------------------


def test_the_modality_chooses_among_channels_that_say_theirs(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ECG,PPG left,Photosensor\n1,2,3\n4,5,6\n")
    assert [(each.channel, each.modality) for each in read(path, fs=10)] == [
        ("ECG", "ecg"),
        ("PPG left", "bvp"),
        ("Photosensor", None),
    ]
    assert [(each.channel, each.modality) for each in read(path, fs=10, modality="PPG")] == [("PPG left", "bvp")]
    assert only(read(path, fs=10, modality="bvp", column="Photosensor")).modality == "bvp"
    with pytest.raises(
        SignalError, match="the file says that it measures bvp, ecg, not eda: .*column= .* 'Photosensor'"
    ):
        read(path, fs=10, modality="eda")


def test_the_modality_of_channels_that_do_not_say_theirs(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("left\n1\n4\n")
    assert only(read(path, fs=10, modality="gsr")).modality == "eda"
    path.write_text("left,right\n1,2\n4,5\n")
    with pytest.raises(SignalError, match=r"2 columns may be eda .* column= \(--column\), of 'left', 'right'; for all"):
        read(path, fs=10, modality="gsr")
    assert [each.modality for each in read(path, fs=10, modality="gsr", column="*")] == ["eda", "eda"]
    assert only(read(path, fs=10, modality="gsr", column="right")).signal.tolist() == [2, 5]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"format": "cvs"}, "unknown format 'cvs': choose from .*'csv' .*did you mean 'csv'"),
        ({"modality": "edaa"}, "unknown modality 'edaa'"),
        ({"on_hole": "skip"}, "unknown on_hole 'skip': choose from 'error', 'split'"),
        ({"on_jitter": "ignore"}, "unknown on_jitter 'ignore'"),
    ],
)
def test_arguments_that_no_file_can_have(tmp_path, option, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "never opened.csv", **option)


# --- Files --------------------------------------------------------------------------------------------------------


def test_row_53_the_same_stem_in_two_folders_has_two_ids(tmp_path):
    paths = [write(tmp_path / name) for name in ("s1/ecg.csv", "s2/ecg.csv")]
    assert [only(read(path, root=tmp_path, fs=100)).source for path in paths] == ["s1/ecg.csv", "s2/ecg.csv"]


def test_row_53_a_file_outside_the_root_has_no_id(tmp_path):
    with pytest.raises(ConfigError, match="does not lie below root="):
        read(write(tmp_path / "a.csv"), root=tmp_path / "b", fs=100)
    assert source_name(Path("b") / "a.csv", None) == "b/a.csv"


@pytest.mark.parametrize("change", [lambda path: write(path, "1\n2\n3\n"), lambda path: os.utime(path, ns=(1, 1))])
def test_row_56_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch, change):
    path, reader = write(tmp_path / "a.csv"), FORMATS["csv"].read

    def read_and_change(path, options):
        channels = reader(path, options)
        change(path)
        return channels

    monkeypatch.setitem(FORMATS, "csv", replace(FORMATS["csv"], read=read_and_change))
    with pytest.raises(SignalError, match=r"a\.csv: the file changed while it was read: wait until it is complete"):
        read(path, fs=100)


def test_the_samples_of_a_wfdb_record_name_its_header(tmp_path):
    (tmp_path / "a.hea").write_text("a 1 250 10\n")
    (tmp_path / "a.dat").write_bytes(bytes(range(200, 220)))
    with pytest.raises(SignalError, match="samples of a WFDB record: read 'a.hea'"):
        read(tmp_path / "a.dat")


def test_row_56_the_samples_of_a_header_count_as_its_file(tmp_path, monkeypatch):
    wfdb.wrsamp(
        "a", fs=100, units=["mV"], sig_name=["ECG"], p_signal=np.zeros((9, 1)), fmt=["16"], write_dir=str(tmp_path)
    )
    reader = FORMATS["wfdb"].read

    def read_and_change(path, options):
        channels = reader(path, options)
        os.utime(tmp_path / "a.dat", ns=(1, 1))
        return channels

    monkeypatch.setitem(FORMATS, "wfdb", replace(FORMATS["wfdb"], read=read_and_change))
    with pytest.raises(SignalError, match="the file changed while it was read"):
        read(tmp_path / "a.hea")


def test_a_missing_file(tmp_path):
    with pytest.raises(SignalError, match=r"a\.csv: the file cannot be read \(No such file or directory\)"):
        read(tmp_path / "a.csv", fs=100)


def test_row_104_terminal_escapes_in_names_are_escaped(tmp_path):
    path = write(tmp_path / "a\x1b[2J\n.csv", "ec\x1b[31mg\nx\n")
    with pytest.raises(SignalError) as caught:
        read(path, root=tmp_path, fs=100)
    assert str(caught.value).isprintable()
    write(path, "ec\x1b[31mg\n1\n")
    recording = only(read(path, root=tmp_path, fs=100))
    assert (recording.source, recording.channel) == (r"a\x1b[2J\n.csv", r"ec\x1b[31mg")


# --- Real recordings -------------------------------------------------------------------------------------------------

TEXTS = [  # file, rate to give, (channel, rate, modality, column) of each recording, rows to skip, delimiter
    ("biosppy/ecg.txt", None, [("ECG", 1000, "ecg", 0)], 0, None),
    ("biosppy/eda.txt", None, [("EDA", 1000, "eda", 0)], 0, None),
    ("biosppy/eeg_ec.txt", None, [("EEG", 125, "eeg", 0)], 0, None),
    ("biosppy/emg_1.txt", None, [("EMG", 1000, "emg", 0)], 0, None),
    ("biosppy/ppg.txt", None, [("PPG", 1000, "bvp", 0)], 0, None),
    ("biosppy/resp.txt", None, [("Resp", 1000, "resp", 0)], 0, None),
    ("heartpy/e0103.csv", 250, [("0", 250, None, 0)], 0, None),
    (
        "neurokit/bio_eventrelated_100hz.csv",
        100,
        [("ECG", 100, "ecg", 0), ("EDA", 100, "eda", 1), ("Photosensor", 100, None, 2), ("RSP", 100, "resp", 3)],
        1,
        ",",
    ),
    ("opensignals/bvp_sample.txt", None, [("CH1", 1000, "bvp", 2)], 0, None),
    ("opensignals/eda_slow_signal.txt", None, [("PORT3_CHN1", 100, "eda", 2)], 0, None),
    ("opensignals/signal_sample_single_hub_RESPIRATION_2018_7_5.txt", None, [("PORT1_CHN1", 1000, "resp", 2)], 0, None),
    (
        "opensignals/signal_sample_single_hub_fSpO2_2018_9_3.txt",
        None,
        [("PORT9_CHN1", 1000, None, 2), ("PORT9_CHN2", 1000, None, 3)],
        0,
        None,
    ),
]


@pytest.mark.parametrize(("file", "fs", "expected", "skip", "delimiter"), TEXTS, ids=[row[0] for row in TEXTS])
def test_real_text_against_numpy(recordings, file, fs, expected, skip, delimiter):
    found = read(recordings / file, root=recordings, fs=fs)
    reference = np.loadtxt(recordings / file, delimiter=delimiter, skiprows=skip, ndmin=2)
    assert [(each.channel, each.fs, each.modality) for each in found] == [row[:3] for row in expected]
    for each, (*_, column) in zip(found, expected, strict=True):
        assert each.source == file
        assert each.signal.tobytes() == reference[:, column].tobytes()


def test_real_ring_with_gaps(recordings):
    lines = (recordings / "heartpy/ring_data.csv").read_text().split("\n")
    reference = [NAN if line == '""' else float(line) for line in lines if line]
    while np.isnan(reference[-1]):  # empty cells at the end are padding
        reference.pop()
    (recording,) = read(recordings / "heartpy/ring_data.csv", fs=100)
    np.testing.assert_array_equal(recording.signal, reference)
    assert np.isnan(recording.signal).any()


def test_real_edf_against_edfio(recordings):
    path = recordings / "opensignals/eda_slow_signal.edf"
    (recording,), (reference,) = read(path), edfio.read_edf(path).signals
    assert (recording.channel, recording.fs, recording.modality) == ("EDA", 100, "eda")
    assert recording.signal.tobytes() == reference.data.astype(float).tobytes()


def test_real_hdf5_against_h5py_and_its_text(recordings):
    path = recordings / "opensignals/eda_slow_signal.h5"
    (recording,), (text,) = read(path), read(path.with_suffix(".txt"))
    with h5py.File(path) as file:
        reference = file["00:07:80:3B:46:61/raw/channel_3"][:, 0].astype(float)
    assert recording.signal.tobytes() == reference.tobytes() == text.signal.tobytes()
    assert (recording.channel, recording.fs, recording.modality, recording.start) == (
        (text.channel, text.fs, text.modality, text.start)
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("100_3chan", [("I", 360, "ecg", 0), ("II", 360, "ecg", 0), ("III", 360, "ecg", 0)]),
        ("03700181", [("MCL1", 500, "ecg", 0), ("ABP", 125, None, 0), ("RESP", 125, "resp", 4)]),
    ],
)
def test_real_wfdb_against_wfdb(recordings, name, expected):
    """The last number is the signal's skew: so many samples at the end lie behind the file's, and are NaN."""
    reference = wfdb.rdrecord(str(recordings / "wfdb" / name), smooth_frames=False).e_p_signal
    found = read(recordings / "wfdb" / f"{name}.hea")
    assert [(each.channel, each.fs, each.modality) for each in found] == [row[:3] for row in expected]
    for each, whole, (*_, late) in zip(found, reference, expected, strict=True):
        assert each.signal.tobytes() == whole[: whole.size - late].tobytes()
        assert np.isnan(whole[whole.size - late :]).all()


def test_every_real_recording_is_found_and_read(recordings):
    paths, skipped = find(recordings)
    assert len(paths) == len(TEXTS) + 3
    assert {each.reason for each in skipped} == {
        "a note by its name, not a recording",
        "read through 03700181.hea",
        "read through 100_3chan.hea",
        "read through eda_slow_signal.txt",
    }


MEMBERS = {  # of the archives: a few files each
    "downstream/bidmc.tar.xz": [
        *(f"bidmc_csv/bidmc_{number}_Signals.csv" for number in ("01", "02")),
        "bidmc_csv/bidmc_01_Numerics.csv",
    ],
    "downstream/noneeg.tar.xz": [
        f"nonEEGdataset/Subject1_{part}.{ending}" for part in ("AccTempEDA", "SpO2HR") for ending in ("hea", "dat")
    ],
    "downstream/stress_predict.tar.xz": [f"Raw_data/S01/{name}.csv" for name in ("BVP", "EDA", "tags_S01")],
    "pretraining/emg_longterm.tar.xz": ["data/sub1/day1/D1M2T1.csv"],
    "pretraining/eeg_eegmat_125hz.tar.xz": ["data/Subject29_1.edf"],
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Callable[[str], Path]:
    """The folder with an archive's few members; streamed, and only as far as the last of them."""

    def unpack(archive: str) -> Path:
        if not (DATA / archive).is_file():
            pytest.skip(f"no {archive} in {DATA}")
        folder = tmp_path_factory.mktemp("unpacked")
        wanted = set(MEMBERS[archive])
        with tarfile.open(DATA / archive, "r|xz") as tar:
            for member in tar:
                if member.name in wanted:
                    stream = tar.extractfile(member)
                    write(folder / member.name).write_bytes(stream.read())
                    wanted.remove(member.name)
                if not wanted:
                    break
        return folder

    return unpack


def test_real_e4_folder(unpacked):
    folder = unpacked("downstream/stress_predict.tar.xz") / "Raw_data/S01"
    for name, rate, modality in (("BVP", 64, "bvp"), ("EDA", 4, "eda")):
        (recording,), reference = read(folder / f"{name}.csv", root=folder), np.loadtxt(folder / f"{name}.csv")
        assert (recording.fs, recording.modality, recording.start) == (rate, modality, 1644226061.0)
        assert recording.signal.tobytes() == reference[2:].tobytes()
    with pytest.raises(SignalError, match=r"tags_S01\.csv: the file does not hold its sampling rate"):
        read(folder / "tags_S01.csv")


def test_real_wfdb_records(unpacked):
    folder = unpacked("downstream/noneeg.tar.xz") / "nonEEGdataset"
    assert [path.suffix for path in find(folder)[0]] == [".hea", ".hea"]
    for name, modality, fs in (("AccTempEDA", "eda", 8), ("SpO2HR", "spo2", 1)):
        reference = wfdb.rdrecord(str(folder / f"Subject1_{name}"))
        (recording,) = read(folder / f"Subject1_{name}.hea", modality=modality)
        assert (recording.fs, recording.modality) == (fs, modality)
        index = reference.sig_name.index(recording.channel)
        np.testing.assert_array_equal(recording.signal, reference.p_signal[:, index])
        found = read(folder / f"Subject1_{name}.hea")
        assert len(found) + len(found.left_out) == reference.n_sig


def test_real_csv_with_blanks_in_its_names_and_another_order(unpacked):
    folder = unpacked("downstream/bidmc.tar.xz") / "bidmc_csv"
    orders = []
    for number in ("01", "02"):
        path = folder / f"bidmc_{number}_Signals.csv"
        names = [name.strip() for name in path.read_text().split("\n", 1)[0].split(",")]
        reference = np.loadtxt(path, delimiter=",", skiprows=1)
        for column, modality in (("RESP", "resp"), ("PLETH", "bvp")):
            (recording,) = read(path, column=column)
            assert (recording.fs, recording.modality, recording.start) == (125.0, modality, None)
            assert recording.signal.tobytes() == reference[:, names.index(column)].tobytes()
        orders.append([each.channel for each in read(path)])
    assert orders == [["RESP", "PLETH", "V", "AVR", "II"], ["II", "PLETH", "RESP", "V", "AVR"]]


def test_real_csv_with_missing_numbers(unpacked):
    path = unpacked("downstream/bidmc.tar.xz") / "bidmc_csv/bidmc_01_Numerics.csv"
    (recording,) = read(path, modality="spo2")
    reference = np.genfromtxt(path, delimiter=",", skip_header=1)[:, 4]
    assert recording.fs == 1.0
    np.testing.assert_array_equal(recording.signal, reference)
    assert np.isnan(reference).sum() == 13


def test_real_csv_without_a_header(unpacked):
    path = unpacked("pretraining/emg_longterm.tar.xz") / "data/sub1/day1/D1M2T1.csv"
    found, reference = read(path, fs=200, modality="emg", column="*"), np.loadtxt(path, delimiter=",")
    assert [(each.channel, each.fs, each.modality) for each in found] == [(str(n), 200, "emg") for n in range(8)]
    assert np.stack([each.signal for each in found]).tobytes() == reference.T.tobytes()
    assert only(read(path, fs=200, column=3)).signal.tobytes() == reference[:, 3].tobytes()


def test_real_edf_of_many_channels(unpacked):
    path = unpacked("pretraining/eeg_eegmat_125hz.tar.xz") / "data/Subject29_1.edf"
    found, reference = read(path), edfio.read_edf(path).signals
    assert [each.channel for each in found] == [each.label for each in reference]
    assert [each.modality for each in found] == ["eeg"] * 20 + ["ecg"]
    assert {(each.fs, each.start) for each in found} == {(125.0, None)}
    for each, signal in zip(found, reference, strict=True):
        assert each.signal.tobytes() == signal.data.astype(float).tobytes()
    assert [each.channel for each in read(path, modality="ecg")] == ["ECG ECG"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"PK\x03\x04" + bytes(40), "an Excel workbook or another archive: save its sheet as CSV, or unpack"),
        ("a.tar.xz", b"\xfd7zXZ\0" + bytes(40), r"an archive \(.xz\): unpack it"),
        ("a.tar", bytes(257) + b"ustar" + bytes(250), r"an archive \(.tar\): unpack it"),
        ("a.wav", b"RIFF" + bytes(40), "sound: save its samples as CSV, or with scipy.io.wavfile"),
        ("a.json", b'{"fs": 4}', "JSON, which holds settings or notes"),
        (
            "a.csv",
            b"count,streamType,tag,time,values\n1,16,86,1551458001,2176.0\n",
            "a long table of a Biovotion Everion",
        ),
        ("a.bin", bytes(range(8)) * 40, "neither text nor of a format that is read"),
    ],
)
def test_row_114_a_format_that_is_not_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SignalError, match=message) as error:
        read(tmp_path / name)
    assert "encoding" not in str(error.value)
