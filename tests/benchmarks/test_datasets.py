"""The bench's loaders, on small trees of the archives' own layout."""

from __future__ import annotations

import tarfile

import numpy as np
import pytest
import wfdb

from benchmarks import datasets
from benchmarks.datasets import load, share_out, spread
from tiny_biomoe import ConfigError, Recipe, SignalError
from tiny_biomoe.signals.filters import apply_filter, passband

START = 1_644_227_574


def noise(seconds: float, fs: float, seed: int = 0) -> np.ndarray:
    """A slow wander with a rhythm and noise on it."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * fs)) / fs
    return 2 + np.sin(t / 20) + 0.5 * np.sin(2 * np.pi * 0.3 * t) + 0.2 * rng.standard_normal(t.size)


@pytest.fixture(scope="module")
def stress_predict(tmp_path_factory):
    """Subjects 2 and 6, who is to be left out: rest, 60 s Stroop, rest, 40 s interview, rest, 50 s hyperventilation,
    rest; labels begin 9 s into the recording, as in the original."""
    root = tmp_path_factory.mktemp("sp")
    runs = [(0, 300), (1, 60), (0, 50), (1, 40), (0, 50), (1, 50), (0, 91)]
    labels = np.concatenate([np.full(length, label) for label, length in runs])
    lines = ["Participant,HR,respr,Time(sec),Label"]
    for subject in (2, 6):
        lines += [f"{subject},80,12,{START + 9 + second},{label}" for second, label in enumerate(labels)]
        folder = root / "Raw_data" / f"S{subject:02d}"
        folder.mkdir(parents=True)
        for name, fs in (("EDA", 4), ("BVP", 64)):
            rows = [f"{START}.000000", f"{fs}.000000", *(f"{v:.6f}" for v in noise(650, fs, subject))]
            (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    (root / "Processed_data").mkdir()
    (root / "Processed_data" / "Improved_All_Combined_hr_rsp_binary.csv").write_text("\n".join(lines) + "\n")
    return root


def test_sp3_takes_the_first_two_runs_of_stress_and_thins_rest(stress_predict, tmp_path):
    dataset = load("SP3", stress_predict, tmp_path)
    assert set(dataset.persons) == {"S02"}
    assert np.bincount(dataset.labels).tolist() == [12, 6, 4]  # rest at most twice the six windows of Stroop
    assert dataset.matrix("eda").shape == (22, 40)
    assert dataset.matrix("bvp").shape == (22, 640)
    stroop = dataset.times[dataset.labels == 1]
    assert stroop.tolist() == [309 + 5 + 10 * i for i in range(6)]  # 9 s + 300 s of rest, then middles of windows
    assert (np.diff(dataset.times) > 0).all()


def test_windows_are_cut_after_filtering(stress_predict, tmp_path):
    dataset = load("SP3", stress_predict, tmp_path)
    raw = np.loadtxt(stress_predict / "Raw_data" / "S02" / "BVP.csv")[2:]
    filtered = apply_filter(raw, 64.0, passband(64.0, "bvp", Recipe()), Recipe())
    first = dataset.windows[0]
    begin = round((first.time - 5) * 64)
    np.testing.assert_array_equal(first.signals["bvp"], filtered[begin : begin + 640])
    np.testing.assert_allclose(first.limits["bvp"], np.percentile(filtered, [1, 99]))


@pytest.fixture(scope="module")
def non_eeg(tmp_path_factory):
    root = tmp_path_factory.mktemp("ne") / "nonEEGdataset"
    root.mkdir()
    notes = [(0, "Relax"), (90, "PhysicalStress"), (150, "EmotionalStress"), (190, "CognitiveStress"),
             (250, "Relax"), (280, "EmotionalStress"), (340, "Relax")]  # fmt: skip
    for subject in (2, 10):
        fast = np.stack([noise(400, 8, subject), noise(400, 8, subject + 1)], axis=1)
        slow = np.stack([np.round(95 + noise(400, 1, subject)), noise(400, 1, 9)], axis=1)
        for name, fs, data, channels in (("AccTempEDA", 8, fast, ["ax", "EDA"]), ("SpO2HR", 1, slow, ["SpO2", "hr"])):
            wfdb.wrsamp(
                f"Subject{subject}_{name}", fs=fs, units=["NU", "NU"], sig_name=channels, p_signal=data,
                fmt=["16", "16"], write_dir=str(root),
            )  # fmt: skip
        wfdb.wrann(
            f"Subject{subject}_AccTempEDA", "atr", np.array([8 * second + 1 for second, _ in notes]),
            symbol=['"'] * len(notes), aux_note=[note for _, note in notes], write_dir=str(root), fs=8,
        )  # fmt: skip
    return root.parent


def test_ne4_leaves_the_rehearsal_out(non_eeg, tmp_path):
    dataset = load("NE4", non_eeg, tmp_path)
    assert list(dict.fromkeys(dataset.persons)) == ["Subject2", "Subject10"]
    one = dataset.labels[dataset.persons == "Subject2"]
    assert np.bincount(one).tolist() == [3 + 1 + 1, 2, 2, 2]  # 150 to 190 s would be a further window of the last
    assert not any(150 < time < 190 for time in dataset.times)
    assert (dataset.matrix("eda").shape, dataset.matrix("spo2").shape) == ((22, 240), (22, 30))


@pytest.fixture(scope="module")
def bidmc(tmp_path_factory):
    """Two recordings of one person and one of another; the annotators disagree in the second 30 s."""
    root = tmp_path_factory.mktemp("bd") / "bidmc_csv"
    root.mkdir()
    for number, (person, every) in {"01": ("s1", 5.0), "02": ("s1", 3.5), "03": ("s2", 2.5)}.items():
        (root / f"bidmc_{number}_Fix.txt").write_text(f"bidmc_{number}\nMIMIC II matched wdb ID: {person}\nAge: 60\n")
        signal = noise(90.008, 125, int(number))
        rows = [f"{i / 125:g},{0.5:.4f},{v:.5f}" for i, v in enumerate(signal)]
        (root / f"bidmc_{number}_Signals.csv").write_text("Time [s], PLETH, RESP\n" + "\n".join(rows) + "\n")
        first = np.arange(1, 90, every)
        second = first[(first < 40) | (first > 50)]
        lines = [f"{round(a * 125)},{round(second[i] * 125) if i < len(second) else ''}" for i, a in enumerate(first)]
        (root / f"bidmc_{number}_Breaths.csv").write_text("a [sample], b [sample]\n" + "\n".join(lines) + "\n")
    return root.parent


def test_rr3_groups_by_person_and_drops_what_annotators_disagree_on(bidmc, tmp_path):
    dataset = load("RR3", bidmc, tmp_path)
    assert dataset.persons.tolist() == ["s1"] * 4 + ["s2"] * 2
    assert dataset.times.tolist() == [15, 75] * 3
    assert datasets.breathing_rate(np.array([1.0, 4.0, 7.0, 99.0]), 0, 30) == 20
    assert np.isnan(datasets.breathing_rate(np.array([1.0]), 0, 30))
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2, 2]  # 12, 17 and 24 breaths a minute
    assert dataset.matrix("resp").shape == (6, 3750)


def test_an_archive_is_unpacked_once_and_whole(bidmc, tmp_path):
    archives, cache = tmp_path / "archives", tmp_path / "cache"
    archives.mkdir()
    with tarfile.open(archives / "bidmc.tar.xz", "w:xz") as tar:
        tar.add(bidmc / "bidmc_csv", "bidmc_csv")
    first = load("RR3", archives, cache)
    (archives / "bidmc.tar.xz").unlink()
    assert load("RR3", archives, cache).digest("resp") == first.digest("resp")
    assert [path.name for path in cache.iterdir()] == ["bidmc"]


def test_a_missing_archive_and_a_wrong_name_are_told(tmp_path):
    with pytest.raises(SignalError, match=r"noneeg\.tar\.xz"):
        load("NE4", tmp_path, tmp_path)
    with pytest.raises(ConfigError, match="choose from 'SP3', 'NE4'"):
        load("sp3", tmp_path, tmp_path)


def test_thinning_is_even_over_classes_and_time(non_eeg, tmp_path):
    dataset = load("NE4", non_eeg, tmp_path)
    thin = dataset.thin(6)
    assert np.bincount(thin.labels).tolist() == [4, 4, 2, 2]  # the first classes take what is left over
    assert len(dataset.thin(1000).windows) == len(dataset.windows)
    assert set(map(id, thin.windows)) <= set(map(id, dataset.windows))
    assert thin.digest("eda") != dataset.digest("eda")
    assert share_out(5, [1, 0, 9]) == [1, 0, 4]
    assert spread(np.arange(10), 2) == [2, 7]


def test_pretraining_halves_share_nobody(tmp_path, monkeypatch):
    from toy_pretraining import toy_task

    monkeypatch.setattr(datasets, "load_tasks", lambda archives, cache: [toy_task("ecg")])
    dataset = load("ECG", tmp_path, tmp_path)
    assert dataset.held_out.sum() == 3
    assert len(dataset.windows) == 12
    test_persons = set(dataset.persons[dataset.held_out])
    assert test_persons == {"ecg 4", "ecg 5"}
    assert dataset.matrix("ecg").shape == (12, 400)
