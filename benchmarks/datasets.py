"""Labelled windows of three public data sets that no training has seen, and of the pretraining sets' held-out people.

| name | source | modalities | classes | window |
|---|---|---|---|---|
| SP3 | Stress-Predict (Iqbal et al. 2022), Empatica E4 | EDA, BVP | rest, Stroop, interview | 10 s |
| NE4 | PhysioNet Non-EEG (Birjandtalab et al. 2016) | EDA, SpO2 | four states | 30 s |
| RR3 | PhysioNet BIDMC (Pimentel et al. 2016) | respiration | terciles of the respiratory rate | 30 s |
| ECG, EMG, EEG | the three pretraining sets (`pretraining.archives`) | one each | 4, 22, 2 | 10, 1.5, 10 s |

Whole recordings are filtered by the library's own filter, and windows are cut afterwards.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretraining.archives import load_tasks
from pretraining.batches import evaluation_windows, person_limits
from tiny_biomoe.config import Recipe
from tiny_biomoe.errors import SignalError, SignalWarning, unknown
from tiny_biomoe.readers.read import read
from tiny_biomoe.signals.request import Call, Limits, recording_limits
from tiny_biomoe.signals.validation import Signal

SP3_CLASSES = ("rest", "Stroop", "interview")
SP3_LEFT_OUT = (1, 6, 17, 18, 30)  # no labels (S01), or label edges that disagree with the device's tags
SP3_REST = 2  # windows of rest are thinned to at most this many times the largest other class, person by person
NE4_CLASSES = ("Relax", "PhysicalStress", "CognitiveStress", "EmotionalStress")
RR3_CUTS = (16.0, 18.0)  # breaths a minute, between the three classes
RR3_AGREEMENT = 2.0  # breaths a minute; windows where the two annotators differ by more are dropped
HALVES = (720, 440)  # windows of a pretraining set: to fit a probe on, and of held-out people to score it on


@dataclass(frozen=True, eq=False)
class Window:
    """One labelled window of a recording."""

    signals: dict[str, Signal]  # by modality: (n_samples,), filtered
    limits: dict[str, Limits | None]  # by modality: 1st and 99th percentile of the recording; None if one (AI4PAIN)
    label: int  # index into Dataset.classes
    person: str
    time: float  # of its middle, in seconds since the recording began


@dataclass(frozen=True, eq=False)
class Dataset:
    """Windows of one task, person by person and in the order of time."""

    name: str
    seconds: float  # of every window
    fs: dict[str, float]  # Hz, by modality
    classes: tuple[str, ...]
    windows: tuple[Window, ...]
    held_out: NDArray[np.bool_] | None = None  # (n,), where the test persons are given; None: cross-validation

    @property
    def modalities(self) -> tuple[str, ...]:
        """Canonical names."""
        return tuple(self.fs)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,), class of each window."""
        return np.array([window.label for window in self.windows], np.int64)

    @property
    def persons(self) -> NDArray[np.str_]:
        """(n,), whose window it is."""
        return np.array([window.person for window in self.windows])

    @property
    def times(self) -> NDArray[np.float64]:
        """(n,), seconds since the recording began."""
        return np.array([window.time for window in self.windows])

    def matrix(self, modality: str) -> NDArray[np.float64]:
        """All windows of one modality: (n, n_samples)."""
        return np.stack([window.signals[modality] for window in self.windows])

    def thin(self, per_person: int) -> Dataset:
        """At most so many windows a person, from each class alike where it has them, evenly over the recording."""
        kept: list[int] = []
        persons, labels = self.persons, self.labels
        for person in dict.fromkeys(persons):
            own = [np.flatnonzero((persons == person) & (labels == label)) for label in range(len(self.classes))]
            quotas = share_out(per_person, [len(part) for part in own])
            kept += [i for part, quota in zip(own, quotas, strict=True) for i in spread(part, quota)]
        order = sorted(kept)
        held_out = None if self.held_out is None else self.held_out[order]
        return replace(self, windows=tuple(self.windows[i] for i in order), held_out=held_out)

    def digest(self, modality: str) -> str:
        """sha256 over samples and limits of one modality: what images of it depend on, beside the recipe."""
        digest = hashlib.sha256(f"{self.name} {modality} {self.fs[modality]}".encode())
        for window in self.windows:
            digest.update(window.signals[modality].tobytes() + np.array(window.limits[modality] or np.nan).tobytes())
        return digest.hexdigest()


def share_out(total: int, sizes: list[int]) -> list[int]:
    """Shares of `total` as equal as the sizes allow.

    >>> share_out(12, [100, 2, 30])
    [5, 2, 5]
    """
    shares = [0] * len(sizes)
    while total > 0 and (open_ := [i for i, size in enumerate(sizes) if shares[i] < size]):
        for i in open_[:total]:
            shares[i] += 1
        total -= len(open_)
    return shares


def spread(items: NDArray[np.int64], count: int) -> list[int]:
    """Up to `count` of the items, evenly from the first to the last."""
    if count >= len(items):
        return items.tolist()
    return items[np.floor((np.arange(count) + 0.5) * len(items) / max(count, 1)).astype(int)].tolist()


@dataclass(frozen=True)
class _Channel:
    """One filtered recording of one modality."""

    filtered: Signal
    fs: float
    limits: Limits

    def cut(self, start: float, seconds: float) -> Signal | None:
        """The window that begins `start` seconds after the first sample; None where it is not wholly inside."""
        first, size = round(start * self.fs), round(seconds * self.fs)
        whole = first >= 0 and first + size <= self.filtered.size
        return self.filtered[first : first + size].copy() if whole else None


def _channel(signal: Signal, fs: float, modality: str) -> _Channel:
    call = Call.check(Recipe(), fs, modality, scale="recording", windowed=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SignalWarning)  # some monitors clip respiration; every row sees it alike
        filtered, _ = call.prepare(signal, modality)
    return _Channel(filtered, call.fs, recording_limits(filtered, Recipe()))


def _fill(
    channels: dict[str, _Channel], begin: float, end: float, seconds: float, label: int, person: str
) -> Iterator[Window]:
    """Windows side by side from `begin` to `end`, seconds after the first sample."""
    limits = {name: channel.limits for name, channel in channels.items()}
    for index in range(int((end - begin) / seconds + 1e-9)):
        start = begin + index * seconds
        cuts = {name: channel.cut(start, seconds) for name, channel in channels.items()}
        inside = {name: signal for name, signal in cuts.items() if signal is not None}
        if len(inside) == len(channels):
            yield Window(inside, limits, label, person, start + seconds / 2)


def _stress_predict(root: Path) -> Iterator[Window]:
    """Runs of the 1 Hz labels: the first run of stress is the Stroop test, the second the interview; the third, the
    hyperventilation, is left out."""
    table = np.loadtxt(
        root / "Processed_data" / "Improved_All_Combined_hr_rsp_binary.csv",
        delimiter=",",
        skiprows=1,
        usecols=(0, 3, 4),
    )
    for subject in np.unique(table[:, 0]).astype(int):
        if subject in SP3_LEFT_OUT:
            continue
        folder = root / "Raw_data" / f"S{subject:02d}"
        recordings = {name: read(folder / f"{name.upper()}.csv", format="e4")[0] for name in ("eda", "bvp")}
        (start,) = {recording.start for recording in recordings.values()}  # the device starts its sensors together
        channels = {name: _channel(r.signal, r.fs, name) for name, r in recordings.items()}
        times, stressed = table[table[:, 0] == subject, 1:].T
        edges = np.flatnonzero(np.diff(stressed)) + 1
        found: dict[int, list[Window]] = {0: [], 1: [], 2: [], 3: []}
        tasks = 0
        for run in np.split(np.arange(times.size), edges):
            tasks += int(stressed[run[0]])
            label = tasks if stressed[run[0]] else 0
            begin, end = times[run[0]] - start, times[run[-1]] + 1 - start
            found[label] += _fill(channels, begin, end, 10.0, label, f"S{subject:02d}")
        most = SP3_REST * max(len(found[1]), len(found[2]))
        rest = [found[0][i] for i in spread(np.arange(len(found[0])), most)]
        yield from sorted(rest + found[1] + found[2], key=lambda window: window.time)


def _non_eeg(root: Path) -> Iterator[Window]:
    """States between annotations; the state called EmotionalStress just before CognitiveStress is a rehearsal."""
    import wfdb

    folder = root / "nonEEGdataset"
    for header in sorted(folder.glob("Subject*_AccTempEDA.hea"), key=lambda path: int(path.stem[7:].split("_")[0])):
        person = header.stem.split("_")[0]
        (eda,), (spo2,) = read(header, modality="eda"), read(folder / f"{person}_SpO2HR.hea", modality="spo2")
        channels = {"eda": _channel(eda.signal, eda.fs, "eda"), "spo2": _channel(spo2.signal, spo2.fs, "spo2")}
        notes = wfdb.rdann(str(header.with_suffix("")), "atr")
        states = [note.strip("\0 ") for note in notes.aux_note]
        edges = [*(notes.sample / eda.fs), eda.signal.size / eda.fs]
        for index, state in enumerate(states):
            if states[index : index + 2] == ["EmotionalStress", "CognitiveStress"]:
                continue
            yield from _fill(channels, edges[index], edges[index + 1], 30.0, NE4_CLASSES.index(state), person)


def _bidmc(root: Path) -> Iterator[Window]:
    """Breathing rate of each 30 s, the mean of two annotators who agree; recordings of one MIMIC id are one person."""
    folder = root / "bidmc_csv"
    for signals in sorted(folder.glob("bidmc_*_Signals.csv")):
        number = signals.stem.split("_")[1]
        facts = (folder / f"bidmc_{number}_Fix.txt").read_text()
        (person,) = [line.split(":")[1].strip() for line in facts.splitlines() if line.startswith("MIMIC II matched")]
        (resp,) = read(signals, modality="resp", time_column="Time [s]")
        channels = {"resp": _channel(resp.signal, resp.fs, "resp")}
        breaths = np.genfromtxt(folder / f"bidmc_{number}_Breaths.csv", delimiter=",", skip_header=1) / resp.fs
        for window in _fill(channels, 0.0, resp.signal.size / resp.fs, 30.0, 0, person):
            first, second = (breathing_rate(own, window.time - 15, window.time + 15) for own in breaths.T)
            if abs(first - second) <= RR3_AGREEMENT:
                yield replace(window, label=int(np.digitize((first + second) / 2, RR3_CUTS)))


def breathing_rate(breaths: Signal, start: float, stop: float) -> float:
    """Breaths a minute from the first breath between two instants to the last; NaN for fewer than two."""
    inside = breaths[(breaths >= start) & (breaths < stop)]
    return 60.0 * (inside.size - 1) / float(inside[-1] - inside[0]) if inside.size > 1 else float("nan")


Reader = Callable[[Path], Iterator[Window]]
DOWNSTREAM: dict[str, tuple[str, str, Reader, float, dict[str, float], tuple[str, ...]]] = {
    "SP3": ("stress_predict", "Raw_data", _stress_predict, 10.0, {"eda": 4.0, "bvp": 64.0}, SP3_CLASSES),
    "NE4": ("noneeg", "nonEEGdataset", _non_eeg, 30.0, {"eda": 8.0, "spo2": 1.0}, NE4_CLASSES),
    "RR3": ("bidmc", "bidmc_csv", _bidmc, 30.0, {"resp": 125.0}, ("under 16", "16 to 18", "from 18")),
}
PRETRAINING = ("ECG", "EMG", "EEG")
TASKS = (*DOWNSTREAM, *PRETRAINING)


def load(name: str, archives: Path, cache: Path) -> Dataset:
    """One task's windows.

    Parameters
    ----------
    name : "SP3", "NE4", "RR3", or "ECG", "EMG", "EEG" for the held-out half of a pretraining set
    archives : folder that holds the task's archive, as .tar.xz or extracted
    cache : folder to unpack it into, once

    Raises
    ------
    ConfigError, SignalError
        Another name; neither the archive nor its folders are there.
    """
    if name in PRETRAINING:
        return _pretraining(name, archives, cache)
    if name not in DOWNSTREAM:
        raise unknown("task", name, TASKS)
    archive, folder, windows, seconds, fs, classes = DOWNSTREAM[name]
    return Dataset(name, seconds, fs, classes, tuple(windows(unpacked(archive, folder, archives, cache))))


def unpacked(archive: str, folder: str, archives: Path, cache: Path) -> Path:
    """Where an archive's `folder` lies: extracted by the user, or unpacked into the cache, whole or not at all."""
    for place in (archives, archives / archive, cache / archive):
        if (place / folder).is_dir():
            return place
    source = archives / f"{archive}.tar.xz"
    if not source.is_file():
        raise SignalError(
            f"{archives} holds neither {source.name} nor a folder {folder}: name the folder of the archives"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as partial, tarfile.open(source) as tar:
        tar.extractall(partial, filter="data")
        Path(partial).rename(cache / archive)
        Path(partial).mkdir()  # for the context to remove
    return cache / archive


def _pretraining(name: str, archives: Path, cache: Path) -> Dataset:
    """The middle of recordings of both halves; the persons of the second were never trained on."""
    (task,) = [task for task in load_tasks(archives, cache) if task.name == name.lower()]
    windows, held_out = [], []
    for half, count in enumerate(HALVES):
        for index, samples in evaluation_windows(task, bool(half), count, seed=0):
            limits = person_limits(task, int(task.groups[index]), Recipe().scale_percentiles)
            if samples.size < round(task.test_seconds * task.fs) or limits is None:
                continue
            middle = task.recording(index).size / task.fs / 2
            person = f"{task.name} {task.groups[index]}"
            windows.append(Window({task.name: samples}, {task.name: limits}, int(task.labels[index]), person, middle))
            held_out.append(bool(half))
    return Dataset(name, task.test_seconds, {task.name: task.fs}, task.classes, tuple(windows), np.array(held_out))
