"""The three pretraining data sets, from their published archives to arrays that worker processes share.

Sources: ECG, PhysioNet/CinC Challenge 2017 (Clifford et al. 2017); EMG, wearable long-term sEMG
(repository Suguru55/Wearable_Sensor_Long-term_sEMG_Dataset); EEG, PhysioNet eegmat (Zyma et al. 2019).
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from tiny_biomoe.sealed_files import write_whole

HELD_OUT_SHARE = 0.15  # of the ECG recordings, which carry no person's id
HELD_OUT_EMG = (5,)  # of five subjects
HELD_OUT_EEG = tuple(range(29, 36))  # of 36 subjects, 0 to 35


@dataclass(frozen=True)
class Task:
    """One supervised task: recordings of one modality, each with a class.

    `samples` holds all recordings one after another; recording i is `samples[offsets[i]:offsets[i + 1]]`.
    """

    name: str  # also the modality
    fs: float  # Hz
    classes: tuple[str, ...]
    seconds: tuple[float, float]  # windows drawn in training last between these
    test_seconds: float  # and in evaluation this
    samples: NDArray[np.float32]
    offsets: NDArray[np.int64]  # (n + 1,)
    labels: NDArray[np.int64]  # (n,)
    groups: NDArray[np.int64]  # (n,), the person, or the recording where persons are not known
    held_out: NDArray[np.bool_]  # (n,)

    def recording(self, index: int) -> NDArray[np.float64]:
        """Samples of one recording, float64."""
        return self.samples[self.offsets[index] : self.offsets[index + 1]].astype(np.float64)


Row = tuple[NDArray[np.float32], int, int, bool]  # samples, label, group, held out

ECG_CLASSES = ("N", "O", "A", "~")
EMG_CLASSES = tuple(f"M{motion}" for motion in range(1, 23))
EEG_CLASSES = ("rest", "arithmetic")


def read_ecg(archive: Path) -> Iterator[Row]:
    """One lead at 300 Hz; normal, other rhythm, atrial fibrillation, noisy."""
    files = dict(_members(archive, (".mat", "REFERENCE.csv")))
    (reference,) = [data for name, data in files.items() if name.endswith("REFERENCE.csv")]
    labels = dict(line.split(",")[:2] for line in reference.decode().split())
    for name in sorted(name for name in files if name.endswith(".mat")):
        record = Path(name).stem
        number = int(record[1:])
        held_out = np.random.default_rng([2017, number]).random() < HELD_OUT_SHARE
        yield loadmat(io.BytesIO(files[name]))["val"][0], ECG_CLASSES.index(labels[record]), number, bool(held_out)


def read_emg(archive: Path) -> Iterator[Row]:
    """22 hand and wrist motions of 1.5 s at 200 Hz; every channel is a recording of its own."""
    for name, data in sorted(_members(archive, (".csv",))):
        match = re.search(r"sub(\d+)/day\d+/D\d+M(\d+)T\d+\.csv$", name)
        if not match:
            continue
        subject, motion = int(match[1]), int(match[2])
        for channel in np.loadtxt(io.BytesIO(data), delimiter=",", dtype=np.float32).T:
            yield channel, motion - 1, subject, subject in HELD_OUT_EMG


def read_eeg(archive: Path) -> Iterator[Row]:
    """Rest or mental arithmetic at 125 Hz; every EEG channel is a recording of its own."""
    from edfio import read_edf

    for name, data in sorted(_members(archive, (".edf",))):
        match = re.search(r"Subject(\d+)_([12])\.edf$", name)
        if not match:
            continue
        subject, label = int(match[1]), int(match[2]) - 1
        for signal in read_edf(data).signals:
            if signal.label.startswith("EEG") and "A2-A1" not in signal.label:
                yield signal.data.astype(np.float32), label, subject, subject in HELD_OUT_EEG


SOURCES: dict[str, tuple[str, Callable[[Path], Iterable[Row]], float, tuple[str, ...], tuple[float, float], float]] = {
    "ecg": ("ecg_cinc2017.tar.xz", read_ecg, 300.0, ECG_CLASSES, (5.0, 30.0), 10.0),
    "emg": ("emg_longterm.tar.xz", read_emg, 200.0, EMG_CLASSES, (1.0, 1.5), 1.5),
    "eeg": ("eeg_eegmat_125hz.tar.xz", read_eeg, 125.0, EEG_CLASSES, (2.0, 30.0), 10.0),
}


def load_tasks(archives: Path, cache: Path) -> list[Task]:
    """The three tasks, unpacked once into `cache` and mapped into memory from then on.

    Raises
    ------
    FileNotFoundError
        An archive is not in the folder `archives`.
    """
    tasks = []
    for name, (file, read, fs, classes, seconds, test_seconds) in SOURCES.items():
        folder = cache / name
        if not (folder / "held_out.npy").exists():
            _unpack(read(archives / file), folder)
        columns = {
            key: np.load(folder / f"{key}.npy", mmap_mode="r") for key in ("samples", "offsets", "labels", "groups")
        }
        held_out = np.load(folder / "held_out.npy")
        tasks.append(Task(name, fs, classes, seconds, test_seconds, **columns, held_out=held_out))
    return tasks


def recordings_digest(tasks: Iterable[Task]) -> str:
    """sha256 that tells data sets apart: over each task's name, lengths, labels and who is held out."""
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(task.name.encode())
        for column in (task.offsets, task.labels, task.groups, task.held_out):
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _unpack(rows: Iterable[Row], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    samples, labels, groups, held_out = zip(*rows, strict=True)
    offsets = np.concatenate([[0], np.cumsum([part.size for part in samples])])
    _save(folder / "samples.npy", np.concatenate(samples).astype(np.float32))
    for key, column in (("offsets", offsets), ("labels", labels), ("groups", groups)):
        _save(folder / f"{key}.npy", np.asarray(column, np.int64))
    _save(folder / "held_out.npy", np.asarray(held_out, bool))  # last: its presence says that the folder is whole


def _save(path: Path, array: NDArray[np.generic]) -> None:
    data = io.BytesIO()
    np.save(data, array)
    write_whole(path, data.getvalue())


def _members(archive: Path, endings: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(endings):
                stream = tar.extractfile(member)
                if stream is not None:
                    yield member.name, stream.read()
