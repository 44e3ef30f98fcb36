"""Which columns are signals, and of what: rows 107 to 110, and the names that devices use."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.io
from pyarrow import parquet

from tiny_biomoe.errors import SignalError, SignalWarning
from tiny_biomoe.readers.columns import content, kind_of, veto
from tiny_biomoe.readers.read import read

NAMES = {
    "modalities and their aliases": {"eda": "eda", "PPG": "bvp", "Respiration": "resp", "SpO2": "spo2", "EKG": "ecg"},
    "BITalino": {"ECGBIT": "ecg", "EDABITREV": "eda", "PPGBIT": "bvp", "EMGBIT": "emg", "RESPBIT": "resp"},
    "BIOPAC": {"EKG - ERS100C": "ecg", "GSR - EDA100C": "eda", "RSP - RSP100C": "resp", "PPG - PPG100C": "bvp"},
    "PTB": {"vx": "ecg", "vy": "ecg", "vz": "ecg"},
    "BIDMC": {"PLETH": "bvp", "RESP": "resp", "AVR": "ecg"},
    "Sleep-EDF and SHHS": {"EEG Fpz-Cz": "eeg", "Resp oro-nasal": "resp", "EMG submental": "emg", "AIRFLOW": "resp"},
    "oximeters": {"SpO2 Pleth": "bvp", "SpO2 L": "spo2"},
    "polysomnography": {"Thorax": "resp", "Flow": "resp", "Chin EMG": "emg", "SaO2": "spo2", "Abdomen": "resp"},
    "wristbands": {"EMG0": "emg", "EMG31": "emg"},
    "Empatica": {"BVP": "bvp", "EDA": "eda", "ACC_x": "acceleration"},
    "Shimmer": {"Shimmer_40AC_GSR_Skin_Conductance_CAL": "eda", "Shimmer_40AC_PPG_A13_CAL": "bvp"},
    "NeuroKit2": {"ECG_Raw": "ecg", "RSP_Clean": "resp", "PPG_Clean": "bvp", "EDA_Raw": "eda"},
    "BIDS": {"respiratory": "resp", "skin_conductance": "eda", "GSR": "eda"},
    "words": {"Skin Conductance": "eda", "Galvanic skin response": "eda", "Blood volume pulse": "bvp"},
    "names that say nothing": {"CH1": None, "Photosensor": None, "x": None, "AI1_raw": None, "PORT1_CHN1": None},
}


@pytest.mark.parametrize(("name", "kind"), [each for names in NAMES.values() for each in names.items()])
def test_names_that_devices_use(name, kind):
    assert kind_of(name) == kind
    assert veto(name, None, kind) is None


@pytest.mark.parametrize(
    ("name", "unit", "kind"),
    [
        *(("C3", "uV", "eeg"), ("Fp1-M2", "µV", "eeg"), ("II", "mV", "ecg"), ("V1", "uV", "ecg"), ("A1", "uV", None)),
        *(("C3", "", None), ("left", "uS", "eda"), ("left", "μS", "eda"), ("left", "mV", None)),
    ],
)
def test_units_say_what_names_leave_open(name, unit, kind):
    assert kind_of(name, unit) == kind


@pytest.mark.parametrize(
    "name",
    [
        *("ECG_Rate", "RESP RATE", "PPG_Peaks", "SpO2 quality", "PLETH HR", "EDA_Phasic_Peaks", "respiration_rate"),
        *("ECG_R_Peaks", "ECG_P_Onsets", "RSP_Amplitude", "ECG_Phase_Atrial", "RR", "IBI", "Event marker", "Status"),
        *("HR [bpm]", "EDA filtered, differentiated", "EDA_Tonic", "SCR_Onsets", "Sample Index", "Battery", "trigger"),
    ],
)
def test_row_108_derived_names(name):
    assert veto(name, None, kind_of(name))


@pytest.mark.parametrize(
    ("name", "unit", "reason"),
    [
        *(("RESP", "pm", "a rate by its unit"), ("SpO2", "%", None), ("DC1", "%", "a share"), ("PP", "ms", "a time")),
        *(("ECG", "uS", "a conductance"), ("GSR", "kOhms", "a resistance"), ("x", "count", "a count")),
        *(("EDA", "uS", None), ("SpO2 pulse", None, "a pulse rate beside spo2"), ("EKG-R-R", "mV", "derived")),
    ],
)
def test_row_108_units_that_contradict(name, unit, reason):
    found = veto(name, unit, kind_of(name, unit))
    assert found is None if reason is None else found.reason.startswith(reason)


STEPS = np.arange(400.0)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (STEPS, "clock"),
        (STEPS / 4, "clock"),
        (1.6e9 + STEPS / 64, "clock"),
        (STEPS % 16, "clock"),
        (STEPS[::-1], "clock"),
        (np.delete(STEPS, slice(100, 200)), "clock"),
        (np.round(STEPS * 0.008, 2), "clock"),
        (np.cumsum(30 + STEPS % 7), "clock"),
        (np.zeros(400), "constant"),
        (STEPS % 9 == 0, "mark"),
        (np.sin(STEPS / 9), None),
        (STEPS % 100, "clock"),
        (np.where(STEPS < 200, STEPS, 400 - STEPS), None),
        (STEPS[:31], None),
        (np.full(400, np.nan), None),
        (np.sort(np.random.default_rng(0).standard_normal(200)), None),
    ],
)
def test_content(samples, expected):
    assert content(np.asarray(samples, float)) == expected


@pytest.fixture
def signal(rng):
    return 2 + rng.standard_normal(400).cumsum() * 0.02


def write(path, columns):
    """The same columns as text, Parquet, or an archive of NumPy or HDF5."""
    if path.suffix == ".csv":
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        path.write_text("\n".join([",".join(columns), *(",".join(map(repr, row)) for row in rows)]) + "\n")
    elif path.suffix == ".parquet":
        parquet.write_table(pa.table(columns), path)
    elif path.suffix == ".npz":
        np.savez(path, **columns)
    else:
        with h5py.File(path, "w") as file:
            for name, column in columns.items():
                file[name] = column
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz", "h5"])
@pytest.mark.parametrize("name", ["Zeit", "elapsed_time", "unix_timestamp", "seconds", "index", "sample", "qq"])
def test_row_107_a_clock_is_no_signal_whatever_its_name(tmp_path, signal, ending, name):
    path = write(tmp_path / f"a.{ending}", {name: STEPS / 4, "EDA": signal})
    (found,) = read(path, fs=4)
    assert (found.channel, found.signal.tolist()) == ("EDA", signal.tolist())
    holes = STEPS / 4 + 60 * (STEPS > 200)
    with pytest.raises(SignalError, match=r"samples are missing for 60.25 s, the first of 1 holes"):
        read(write(path, {name: holes, "EDA": signal}), fs=4)
    assert [each.signal.size for each in read(path, fs=4, on_hole="split")] == [201, 199]
    assert len(read(path, fs=4, time_column="")) == 1


@pytest.mark.parametrize("name", ["eda_times", "EDA timestamp", "eda_t0", "ECG start", "ppg clock"])
def test_row_107_times_that_bear_the_name_of_a_signal(tmp_path, signal, name):
    path = write(tmp_path / "a.csv", {"EDA": signal, name: 1.7e9 + np.cumsum(1 + signal)})
    found = read(path, fs=4)
    assert [each.channel for each in found] == ["EDA"]
    assert [(each.channel, each.reason) for each in found.left_out] == [(name, "a time or a counter by its name")]


@pytest.mark.parametrize("name", ["EDA sample", "eda_n", "EDA seq", "EDA ms"])
def test_row_107_counters_that_bear_the_name_of_a_signal(tmp_path, signal, name):
    found = read(write(tmp_path / "a.csv", {"time": STEPS / 4, "EDA": signal, name: 250.0 * STEPS}))
    assert [each.channel for each in found] == ["EDA"]
    assert [each.reason[:18] for each in found.left_out] == ["a clock or counter"]


def test_leads_of_an_ecg_are_known_by_each_other(tmp_path, signal):
    def kinds(*names: str) -> list[str | None]:
        path = write(tmp_path / "a.csv", {name: signal + at for at, name in enumerate(names)})
        return [each.modality for each in read(path, fs=100)]

    assert kinds(" II", " V", " AVR") == ["ecg"] * 3
    assert kinds("I", "II", "III") == ["ecg"] * 3
    assert kinds("Lead II") == kinds("lead_v1") == ["ecg"]
    assert kinds("I", "V") == kinds("V1", "V2") == kinds("I (A)", "V (V)") == [None, None]
    assert kinds("V1 [mV]", "II (mV)") == ["ecg"] * 2
    assert kinds("II", "Flow [l/s]") == [None, "resp"]
    assert kinds("I [A]", "V [V]", "II [bar]") == [None, None, None]


@pytest.mark.parametrize("name", ["RESP", "PLETH", "ECG II"])
def test_row_108_one_number_a_second_is_no_waveform(tmp_path, signal, name):
    path = write(tmp_path / "a.csv", {"Time [s]": np.arange(signal.size), name: signal, "SpO2": 90 + signal})
    found = read(path)
    assert [each.channel for each in found] == ["SpO2"]
    assert found.left_out[0].reason.startswith("one value in 1 s, as numbers have")
    with pytest.warns(SignalWarning, match=rf"read because it was named, although '{name}' has one value in 1 s"):
        assert [each.fs for each in read(path, column=name)] == [1.0]
    with pytest.raises(SignalError, match=rf"no column is a signal: {name} has one value in 1 s"):
        read(write(tmp_path / "b.csv", {name: signal}), fs=1)


def test_row_108_breathing_at_one_hertz_that_swings_about_zero_is_a_signal(tmp_path, signal):
    columns = {"Time [s]": np.arange(signal.size), "Resp oro-nasal": signal - signal.mean(), "EMG submental": signal}
    found = read(write(tmp_path / "a.csv", columns))
    assert [(each.channel, each.fs) for each in found] == [("Resp oro-nasal", 1)]
    assert [each.channel for each in found.left_out] == ["EMG submental"]


def test_row_108_who_says_the_modality_of_a_nameless_column_is_right(tmp_path, signal):
    path = write(tmp_path / "a.csv", {"Time [s]": np.arange(signal.size) / 1.0001, "belt": signal})
    with pytest.warns(SignalWarning, match="read because its modality was, although 'belt' has one value in 0.99"):
        assert [each.modality for each in read(path, modality="resp")] == ["resp"]
    with pytest.raises(SignalError, match=r"RESP has one value in 0.99.*name it, column= \(--column\)"):
        read(write(path, {"Time [s]": np.arange(signal.size) / 1.0001, "RESP": signal}), modality="resp")


@pytest.mark.parametrize("ending", ["csv", "npz", "h5"])
def test_times_that_contradict_the_rate_are_refused(tmp_path, signal, ending):
    path = write(tmp_path / f"a.{ending}", {"time": STEPS / 4, "EDA": signal})
    with pytest.raises(SignalError, match=r"advances by 0.25 a row, which is .*correct"):
        read(path, fs=8)
    assert [each.fs for each in read(path, fs=8, time_column="")] == [8]
    (tmp_path / "a.json").write_text('{"fs": 8}')
    with pytest.raises(SignalError, match=r"advances by 0.25 a row, which is .*correct"):
        read(path)


@pytest.mark.parametrize("unit", [1, 1e3, 1e6, 1 / 60, 1 / 86400])
def test_times_in_any_unit_agree_with_the_rate(tmp_path, signal, unit):
    path = tmp_path / "a.mat"
    for first in (0, 738000 if unit < 1 else 0):  # days of MATLAB
        scipy.io.savemat(path, {"EDA": signal, "time": first + STEPS / 4 * unit, "fs": 4.0})
        assert [each.fs for each in read(path)] == [4]


def test_times_that_are_rounded_agree_with_the_rate(tmp_path, signal):
    path = write(tmp_path / "a.npz", {"time": np.round(STEPS / 256, 3), "EDA": signal})
    assert [each.fs for each in read(path, fs=256)] == [256]


def test_durations_of_parquet_are_times(tmp_path, signal):
    index = pd.to_timedelta(STEPS / 4 + 60 * (STEPS > 200), unit="s")
    for frame in (pd.DataFrame({"EDA": signal}, index), pd.DataFrame({"since": index, "EDA": signal})):
        frame.to_parquet(tmp_path / "a.parquet")
        found = read(tmp_path / "a.parquet", on_hole="split")
        assert [(each.fs, each.signal.size) for each in found] == [(4, 201), (4, 199)]


def test_row_110_a_rate_of_its_own_for_each_array(tmp_path, signal):
    np.savez(tmp_path / "a.npz", eda=signal, ppg_left=signal, ecg=signal, eda_fs=4, ppg_fs=64.0, fs=250, eda_scale=0.1)
    scipy.io.savemat(tmp_path / "a.mat", {"eda": signal, "ecg": signal, "eda_fs": 4, "fs": 250.0})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one/eda"], file["one/eda_fs"], file["one/ecg"], file["one/fs"] = signal, 4, signal, [250.0]
    assert {each.channel: each.fs for each in read(tmp_path / "a.npz")} == {"eda": 4, "ppg_left": 64, "ecg": 250}
    assert {each.channel: each.fs for each in read(tmp_path / "a.mat")} == {"eda": 4, "ecg": 250}
    assert {each.channel: each.fs for each in read(tmp_path / "a.h5")} == {"one/eda": 4, "one/ecg": 250}


def test_row_110_rates_before_the_name_in_other_letters_and_of_the_data_set_itself(tmp_path, signal):
    np.savez(tmp_path / "a.npz", EDA=signal, left_ppg=signal, ecg=signal, fs_eda=4, PPG_fs=64.0, fs=250)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["EDA"], file["left_ppg"], file["ecg"], file["fs"] = signal, signal, signal, 250
        file["EDA"].attrs["fs"], file["left_ppg"].attrs["sampling rate"] = 4, "64 Hz"
        file["ecg"].attrs["fs"] = "as ever"
    for name in ("a.npz", "a.h5"):
        rates = {each.channel: each.fs for each in read(tmp_path / name)}
        assert rates == {"EDA": 4, "left_ppg": 64, "ecg": 250}


def test_row_107_a_column_that_is_named_may_be_anything(tmp_path, signal):
    path = write(tmp_path / "a.csv", {"qq": STEPS, "ECG_Rate": signal})
    with pytest.warns(SignalWarning, match="read because it was named, although 'qq' is a clock or counter"):
        assert read(path, fs=4, column="qq")[0].signal.tolist() == STEPS.tolist()
    with pytest.warns(SignalWarning, match="although 'ECG_Rate' is derived or beside a signal"):
        assert read(path, fs=4, column="ECG_Rate", modality="ecg")[0].modality == "ecg"
    with pytest.raises(SignalError, match="no column is a signal that can be read: 'qq' is not read: a clock"):
        read(path, fs=4)


def test_row_109_the_modality_chooses_and_several_equals_are_an_error(tmp_path, signal):
    path = write(tmp_path / "a.csv", {"t": STEPS / 4, "left": signal, "right": -signal, "lamp": STEPS % 2})
    with pytest.raises(SignalError, match=r"2 columns may be eda .* column= \(--column\), of 'left', 'right'"):
        read(path, modality="eda")
    assert [each.channel for each in read(path, modality="eda", column="*")] == ["left", "right"]
    found = read(write(tmp_path / "b.csv", {"t": STEPS / 4, "left": signal, "lamp": STEPS % 2}), modality="eda")
    assert [(each.channel, each.modality) for each in found] == [("left", "eda")]
    assert [(each.channel, each.reason[:6]) for each in found.left_out] == [("lamp", "a mark")]


@pytest.mark.parametrize(
    ("comment", "rate"),
    [
        *(("# Sampling rate (Hz): 250", 250), ("%Sample Rate = 250.0 Hz", 250), ("# fs=4", 4), ("# offset 4", None)),
        *(("# sampling frequency: 2 kHz", 2000), ("#{'Sampling rate (Hz)': 1000, 'x': 3}", 1000)),
    ],
)
def test_row_110_a_rate_in_a_comment(tmp_path, signal, comment, rate):
    path = tmp_path / "a.csv"
    path.write_text("\n".join([comment, "EDA", *map(repr, signal.tolist())]) + "\n")
    if rate is None:
        with pytest.raises(SignalError, match="does not hold its sampling rate"):
            read(path)
        return
    assert read(path)[0].fs == rate
    with pytest.raises(SignalError, match=f"sampled at {rate} Hz, not at fs={rate * 2}"):
        read(path, fs=rate * 2)


def test_row_107_an_index_of_pandas_is_a_clock(tmp_path, signal):
    pandas = pytest.importorskip("pandas")
    index = pandas.date_range("2024-01-01", periods=400, freq="250ms")
    path = tmp_path / "a.parquet"
    for name in (None, "time", "when"):
        frame = pandas.DataFrame({"eda": signal}, index=index).rename_axis(name)
        frame.to_parquet(path)
        assert (read(path)[0].fs, read(path)[0].start) == (4.0, 1704067200.0)
        frame.drop(index[100:200]).to_parquet(path)
        with pytest.raises(SignalError, match=r"samples are missing for 25.25 s"):
            read(path, column="eda", fs=4)


def test_a_recording_prints_as_one_line(tmp_path, signal):
    path = write(tmp_path / "a.csv", {"time": 1.6e9 + STEPS / 4, "EDA": signal})
    assert str(read(path, root=tmp_path)) == (
        "[<Recording 'EDA' of a.csv: eda, 400 samples at 4 Hz (100 s), from unix time 1600000000.000>]"
    )
