"""Recordings of the modalities that users have: EDA, pulse, respiration and SpO2, from published data sets.

Each reader takes the archive of one data set and gives, by source, rows of samples at the rate of the source. What the
sets' own notes name as bad is left out, and a recording is cut where the sensor gave nothing. People named in
`HELD_OUT` are for validation. Licences and authors: `credits.CREDITS`.
"""

from __future__ import annotations

import dataclasses
import io
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from pretraining.sources import NO_LABEL, Row, Source, gather

RATES = {"eda": 4.0, "bvp": 16.0, "resp": 8.0, "spo2": 1.0}  # Hz: pictures end at 5, 1.7, 0.5 and 1.7 Hz
SECONDS = {"eda": (8.0, 60.0), "bvp": (6.0, 40.0), "resp": (15.0, 60.0), "spo2": (20.0, 90.0)}  # of windows
TEST_SECONDS = {"eda": 60.0, "bvp": 30.0, "resp": 32.0, "spo2": 60.0}
SHORTEST = {"eda": 60.0, "bvp": 40.0, "resp": 60.0, "spo2": 90.0}  # of a recording that is kept, seconds
CAPS = {"eda": 4.0, "bvp": 2.0, "resp": 2.0, "spo2": 2.0}  # hours of one person in one source
BLOCK = 600.0  # s, of which a person's recordings are picked where they last longer than that
RESOLUTION = 256  # steps within a recording's spread
DRY = 0.02  # uS: an electrode that gives less has no contact
START_UP = 5.0  # s, in which an Empatica E4 shows no skin conductance
GAP = 0.5  # s; longer stretches without a frame are not bridged

# People for validation. Where a set does not name its people, or has fewer than five, all of it is for training.
HELD_OUT = {
    "ds000210": {"sub-01", "sub-03", "sub-05", "sub-07", "sub-09", "sub-10", "sub-12", "sub-14"},
    "wise": {"S05", "S08", "S10", "S14", "S17", "f01", "f03", "f05", "f09", "f11", "f13"},
    "exam": {"S3", "S6"},
    "oximetry": {"100002", "100004", "100005"},
    "nurse": {"5C", "6D", "7E", "94", "BG", "E4", "F5"},
    "fantasia": {"f1o01", "f1o03", "f1o05"},
    "wrist": {"s3", "s5", "s6", "s8"},
}
SESSIONS = ("STRESS", "AEROBIC", "ANAEROBIC")
TASKS = ("rest", "task")
ACTIVITIES = ("walk", "run", "low_resistance_bike", "high_resistance_bike")

Found = tuple[str, Row]  # modality, recording
Samples = NDArray[Any]


@dataclass(frozen=True)
class DataSet:
    """One archive: its file, its reader, and the classes that its rows are labelled with."""

    file: str
    read: Callable[[Path], Iterator[Found]]
    classes: tuple[str, ...] = ()
    rates: tuple[tuple[str, float], ...] = ()  # Hz, where they are not those of `RATES`


def read_ds000210(archive: Path) -> Iterator[Found]:
    """Finger pulse and belt respiration in a scanner, at rest and during memory tasks; 50 Hz."""
    for name, data in members(archive, "_physio.tsv"):
        match = re.search(r"(sub-(\d+))_task-(\w+?)_run-\d+_physio", name)
        if match is None:
            raise ValueError(f"{archive}: {name} names no person and task")
        who, label = _who("ds000210", match[1], int(match[2])), int(match[3] != "rest")
        pulse, breath = np.loadtxt(io.BytesIO(data)).T
        if match[1] != "sub-12":  # the sensor lost the pulse most of the time
            yield from _rows("bvp", [pulse], 50.0, who, label)
        dropped = long_runs(breath == 0, 5)  # the belt's unit jumps to exactly 0
        yield from _rows("resp", valid_runs(breath, ~dropped, 50.0, "resp"), 50.0, who, label)


def read_wise(archive: Path) -> Iterator[Found]:
    """Empatica E4 in three sessions: induced stress, aerobic and anaerobic exercise."""
    for name, data in members(archive, ".npz"):
        session, person = Path(name).parent.name, Path(name).stem
        label, who = SESSIONS.index(session), _who("wise", person, int(person[1:]) + 100 * (person[0] == "f"))
        yield from _e4(data, who, label)


def read_exam(archive: Path) -> Iterator[Found]:
    """Empatica E4, skin conductance during three exams."""
    for name, data in members(archive, ".npz"):
        person = Path(name).stem.split("_")[0]
        yield from _e4(data, _who("exam", person, int(person[1:])), NO_LABEL)


def read_nurse(archive: Path) -> Iterator[Found]:
    """Empatica E4 of nurses at work, in blocks of 20 (EDA) and 10 minutes (pulse)."""
    for number, (name, data) in enumerate(members(archive, ".npz")):
        who = _who("nurse", Path(name).stem, number)
        with np.load(io.BytesIO(data)) as held:
            for modality in ("eda", "bvp"):
                fs, blocks = float(held[f"{modality}_fs"]), held[modality] * float(held[f"{modality}_scale"])
                for block in blocks:
                    valid = block > DRY if modality == "eda" else np.ones(block.size, bool)
                    yield from _rows(modality, valid_runs(block, valid, fs, modality), fs, who, NO_LABEL)


def read_oximetry(archive: Path) -> Iterator[Found]:
    """Four clinical oximeters during a slow desaturation, and two phone cameras on a finger."""
    for name, data in members(archive, ".npz"):
        person = Path(name).stem
        who = _who("oximetry", person, int(person))
        with np.load(io.BytesIO(data)) as held:
            for device in (1, 2, 4, 5):
                x = held[f"spo2_{device}"]
                runs = valid_runs(x * float(held["spo2_scale"]), x >= 0, 1.0, "spo2")
                yield from _rows("spo2", runs, 1.0, who, NO_LABEL)
            for side in ("left", "right"):
                green = held[f"ppg_{side}"][1]  # red is weak in one person, green clean in all
                runs = valid_runs(bridge(green * float(held["ppg_scale"]), green >= 0), green >= -1, 30.0, "bvp")
                yield from _rows("bvp", runs, 30.0, who, NO_LABEL)


def read_welltory(archive: Path) -> Iterator[Found]:
    """Phone cameras on a finger, with uneven frame times; which recordings share a person is not published."""
    for name, data in members(archive, "PPG.csv"):
        number = int(re.search(r"subject_(\d+)", name)[1])  # type: ignore[index]
        time, red, green, _ = np.loadtxt(io.BytesIO(data), delimiter=",", skiprows=1).T
        seconds, light = time / 1000, green if number in (20, 21) else red  # saturated and weak reds
        even = np.arange(seconds[0], seconds[-1], 1 / 30)
        wide = np.flatnonzero(np.diff(seconds) > GAP)
        missing = np.zeros(even.size, bool)
        for first in wide:
            missing |= (even > seconds[first]) & (even < seconds[first + 1])
        runs = valid_runs(np.interp(even, seconds, light), ~missing, 30.0, "bvp")
        yield from _rows("bvp", runs, 30.0, (number, False), NO_LABEL)


def read_fantasia(archive: Path) -> Iterator[Found]:
    """Chest respiration of elderly people lying still; 50 Hz."""
    for name, data in members(archive, ".npz"):
        person = Path(name).stem
        with np.load(io.BytesIO(data)) as held:
            breath = held["resp"] * float(held["resp_scale"])
        yield from _rows("resp", [breath], 50.0, _who("fantasia", person, int(person[3:])), NO_LABEL)


def read_drivedb(archive: Path) -> Iterator[Found]:
    """Skin conductance of hand and foot, and belt respiration, of drivers; who drove is not published."""
    for name, data in members(archive, ".npz"):
        who = (int(re.search(r"drive(\d+)", name)[1]), False)  # type: ignore[index]
        with np.load(io.BytesIO(data)) as held:
            for key in sorted({"hand_gsr", "foot_gsr", "resp"} & set(held)):
                fs, x = float(held[f"{key}_fs"]), held[key] * float(held[f"{key}_scale"])
                modality = "resp" if key == "resp" else "eda"
                valid = np.ones(x.size, bool) if modality == "resp" else x > DRY
                runs = valid_runs(x, valid, fs, modality)
                yield from _rows(modality, runs, fs, who, NO_LABEL, rate=DRIVE_RATES[modality])


def read_wrist(archive: Path) -> Iterator[Found]:
    """Wrist pulse during walking, running and cycling; 128 Hz, heavy motion."""
    for name, data in members(archive, ".npz"):
        person, activity = Path(name).stem.split("_", 1)
        with np.load(io.BytesIO(data)) as held:
            pulse, fs = held["ppg"] * float(held["ppg_scale"]), float(held["ppg_fs"])
        who = _who("wrist", person, int(person[1:]))
        yield from _rows("bvp", [pulse], fs, who, ACTIVITIES.index(activity))


def read_small(archive: Path) -> Iterator[Found]:
    """Airflow and belt respiration, pulse and SpO2 of a few people each; the parts whose origin is clear."""
    for name, data in members(archive, ".npz"):
        stem = Path(name).stem
        set_name, _, rest = stem.partition("_")
        if set_name not in SMALL:
            continue
        person = SMALL[set_name] + (int(re.search(r"\d+", rest)[0]) if set_name != "vitalsqi" else 0)  # type: ignore[index]
        with np.load(io.BytesIO(data)) as held:
            for key, modality in (("resp", "resp"), ("ppg", "bvp"), ("spo2", "spo2")):
                if key in held:
                    x, fs = held[key] * float(held[f"{key}_scale"]), float(held[f"{key}_fs"])
                    valid = x > 0 if modality == "spo2" else np.ones(x.size, bool)
                    yield from _rows(modality, valid_runs(x, valid, fs, modality), fs, (person, False), NO_LABEL)


DRIVE_RATES = {"eda": 15.5, "resp": RATES["resp"]}  # fast enough for the 5 Hz that pictures of EDA end at
SMALL = {"physio": 1000, "agenticai": 2000, "vitalsqi": 3000}  # parts of `small_mixed` that are used: person numbers

DATA_SETS = {
    "ds000210": DataSet("ds000210_resp_ppg.tar.xz", read_ds000210, TASKS),
    "wise": DataSet("wise_e4.tar.xz", read_wise, tuple(name.lower() for name in SESSIONS)),
    "exam": DataSet("exam_e4.tar.xz", read_exam),
    "nurse": DataSet("nurse_e4.tar.xz", read_nurse),
    "oximetry": DataSet("oximetry_phonecam.tar.xz", read_oximetry),
    "welltory": DataSet("welltory_ppg.tar.xz", read_welltory),
    "fantasia": DataSet("fantasia_resp.tar.xz", read_fantasia),
    "drivedb": DataSet("drivedb_gsr_resp.tar.xz", read_drivedb, rates=tuple(DRIVE_RATES.items())),
    "wrist": DataSet("wrist_ppg_exercise.tar.xz", read_wrist, ACTIVITIES),
    "small": DataSet("small_mixed.tar.xz", read_small),
}


def read_sources(archives: Path) -> Iterator[Source]:
    """Every source of the ten data sets: one a set and modality.

    Raises
    ------
    FileNotFoundError
        An archive is not in the folder `archives`.
    """
    for name, data_set in DATA_SETS.items():
        found: dict[str, list[Row]] = {}
        for modality, row in data_set.read(archives / data_set.file):
            found.setdefault(modality, []).append(row)
        for modality, rows in sorted(found.items()):
            fs = dict(data_set.rates).get(modality, RATES[modality])
            yield gather(
                f"{name}-{modality}", modality, fs, data_set.classes, SECONDS[modality], TEST_SECONDS[modality],
                capped(rows, round(CAPS[modality] * 3600 * fs), round(BLOCK * fs)), RESOLUTION,
            )  # fmt: skip


def capped(rows: list[Row], most: int, block: int) -> Iterator[Row]:
    """Rows, of each person at most about `most` samples: blocks of recordings, spread evenly over all of theirs."""
    for person in dict.fromkeys(row.person for row in rows):
        theirs = [row for row in rows if row.person == person]
        total = sum(row.samples.size for row in theirs)
        if total > most:
            theirs = [
                dataclasses.replace(row, samples=part)
                for row in theirs
                for part in np.array_split(row.samples, max(1, round(row.samples.size / block)))
            ]
            theirs = [theirs[index] for index in evenly(len(theirs), round(len(theirs) * most / total))]
        yield from theirs


def members(archive: Path, ending: str) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the files in a tar archive that end so, sorted by name."""
    with tarfile.open(archive) as tar:
        found = {}
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() and member.name.endswith(ending) else None
            if stream is not None:
                found[member.name] = stream.read()
    yield from sorted(found.items())


def valid_runs(x: Samples, valid: NDArray[np.bool_], fs: float, modality: str) -> list[Samples]:
    """The stretches of (n_samples,) that are valid and long enough to be kept; two samples beside a gap are not."""
    near = np.convolve(~valid, np.ones(5), "same") > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[True], near, [True]]).astype(np.int8)))
    runs = [x[start:stop] for start, stop in edges.reshape(-1, 2)]
    return [run for run in runs if run.size >= SHORTEST[modality] * fs]


def long_runs(mask: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """Where a mask holds for at least so many samples on end: (n_samples,).

    >>> long_runs(np.array([True, False, True, True]), 2).tolist()
    [False, False, True, True]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))).reshape(-1, 2)
    kept = np.zeros(mask.size, bool)
    for start, stop in edges:
        kept[start:stop] = stop - start >= least
    return kept


def bridge(x: Samples, valid: NDArray[np.bool_]) -> Samples:
    """Samples that are not valid, interpolated linearly between those that are."""
    index = np.arange(x.size)
    return np.interp(index, index[valid], x[valid])


def evenly(count: int, most: int) -> list[int]:
    """At most so many of `count` numbers from 0, spread evenly.

    >>> evenly(3, 5), evenly(7, 3)
    ([0, 1, 2], [0, 3, 6])
    """
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def _who(data_set: str, person: str, number: int) -> tuple[int, bool]:
    return number, person in HELD_OUT[data_set]


def _e4(data: bytes, who: tuple[int, bool], label: int) -> Iterator[Found]:
    """Both signals of one session of an Empatica E4, the first of its start-up left out."""
    with np.load(io.BytesIO(data)) as held:
        for modality in ("eda", "bvp"):
            if modality in held:
                fs = float(held[f"{modality}_fs"])
                x = (held[modality] * float(held[f"{modality}_scale"]))[round(START_UP * fs) :]
                valid = x > DRY if modality == "eda" else np.ones(x.size, bool)
                yield from _rows(modality, valid_runs(x, valid, fs, modality), fs, who, label)


def _rows(
    modality: str, runs: list[Samples], fs: float, who: tuple[int, bool], label: int, rate: float | None = None
) -> Iterator[Found]:
    """Rows of runs at `fs`, brought to the rate of the source."""
    ratio = Fraction(rate or RATES[modality]).limit_denominator(1000) / Fraction(fs).limit_denominator(1000)
    for run in runs:
        if ratio != 1:
            level = np.median(run)  # without it the ends would ring
            run = resample_poly(run - level, ratio.numerator, ratio.denominator, padtype="line") + level
        if np.ptp(run) > 0:
            yield modality, Row(run, who[0], label, who[1])
