"""AI4PAIN's layout is read, and nothing but AI4PAIN is called by that name."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner
from toy_training import QUICK, tiny

from benchmarks.ai4pain import FOLDERS, NAME, OTHER, _Trial, differences, load_ai4pain
from benchmarks.experiment_cells import Cell
from benchmarks.experiment_tables import tables
from benchmarks.experiments import Experiments, main
from tiny_biomoe import SignalError
from tiny_biomoe.train.samples import View


def body(rng: np.random.Generator, n: int, slower: float = 1.0) -> dict[str, np.ndarray]:
    """One trial of n samples at 100 Hz: a pulse, a breath, and two signals that wander; all can be slowed down."""
    phase = 2 * np.pi * np.arange(n) / 100 / slower
    rhythms = {name: np.sin(phase * rng.uniform(*hz) + rng.uniform(0, 6)) for name, hz in RATES.items()}
    wandering = {name: np.cumsum(rng.standard_normal(n)) for name in ("eda", "spo2")}
    return {name: np.round(x + 0.1 * rng.standard_normal(n), 3) for name, x in {**rhythms, **wandering}.items()}


RATES = {"bvp": (1.0, 1.4), "resp": (0.2, 0.35)}  # Hz


def everybody(people=(41, 12), trials=12, seconds=(9.0, 11.0), slower=1.0, baseline=60.0):
    """As `differences` sees AI4PAIN: by split and person, the trials of all four modalities."""
    rng, number, tree = np.random.default_rng(0), 0, {}
    for split, count in zip(("train", "validation"), people, strict=True):
        tree[split] = {}
        for _ in range(count):
            number += 1
            sizes = [("BASELINE", round(100 * baseline))] * bool(baseline)
            sizes += [(tag, round(100 * rng.uniform(*seconds))) for tag in ("LOW", "HIGH") for _ in range(trials)]
            tree[split][str(number)] = [_Trial(tag, body(rng, n, slower)) for tag, n in sizes]
    return tree


def test_what_the_challenge_gives_out_has_no_differences():
    tree = everybody()
    tree["train"]["7"][3].signals["spo2"][:] = 98.0  # as SpO2 often rests
    tree["train"]["8"][3].signals["spo2"][:] = 98.0
    assert differences(tree) == []


def in_both(tree):
    tree["train"]["1"] = tree["validation"].pop("3")
    tree["validation"]["1"] = tree["train"]["2"]


def copied(tree):
    tree["train"]["2"] = [dataclasses.replace(trial) for trial in tree["train"]["1"]]


def noise(tree):
    for people in tree.values():
        for trials in people.values():
            for trial in trials:
                trial.signals["resp"] = np.random.default_rng(trial.signals["resp"].size).standard_normal(1000)


def still(tree):
    for people in tree.values():
        for trials in people.values():
            for trial in trials:
                trial.signals["bvp"][:] = np.arange(trial.signals["bvp"].size)


def cut_short(tree):
    tree["validation"]["3"][-1].signals["resp"] = tree["validation"]["3"][-1].signals["resp"][:799]


@pytest.mark.parametrize(
    ("made", "change", "said"),
    [
        ({"people": (1, 1)}, None, "train holds 1 people, not 2"),
        ({"people": (2, 2)}, None, "validation holds 2 people, not 1"),
        ({"trials": 1}, None, "of person 1, all four modalities hold 1 trials of LOW and 1 of HIGH, not 2 of each"),
        ({"trials": 3}, None, "3 trials of LOW"),
        ({"baseline": 0.0}, None, "there is no Baseline"),
        ({"baseline": 9.0}, None, "a trial of BASELINE has 900 samples of bvp, not 1000 to inf"),
        ({"seconds": (12.5, 13.0)}, None, "samples of bvp, not 800 to 1200"),
        ({"seconds": (8.1, 8.5)}, None, "a trial of pain lasts 8."),
        ({}, cut_short, "of person 3, a trial of HIGH has 799 samples of resp, not 800 to 1200"),
        ({}, in_both, "person 1 is in train and in validation"),
        ({}, copied, "bvp of person 2, trial 0, is that of bvp of person 1, trial 0"),
        ({"slower": 4.0}, None, "the typical rhythm of bvp is"),  # 400 Hz, of which as many rows were kept
        ({"slower": 0.5}, None, "the typical rhythm of bvp is 2."),  # 50 Hz
        ({}, noise, "the typical rhythm of resp is"),
        ({}, still, "the typical rhythm of bvp is"),
    ],
)
def test_what_differs_is_told(made, change, said, monkeypatch):
    monkeypatch.setattr("benchmarks.ai4pain.PEOPLE", {"train": 2, "validation": 1})
    monkeypatch.setattr("benchmarks.ai4pain.TRIALS", 2)
    assert differences(everybody((2, 1), 2)) == []
    tree = everybody(**{"people": (2, 1), "trials": 2, **made})
    if change:
        change(tree)
    assert said in "; ".join(differences(tree))


def test_what_differs_person_by_person_is_not_told_fifty_times():
    found = differences(everybody(trials=1, baseline=12.0))
    assert len(found) == 4
    assert found[-1] == "and 50 more of that kind"


MODALITIES = {folder: modality for modality, folder in FOLDERS.items()}


def write_tree(root, people: dict[str, int], trials: int = 2, resting: str = "") -> None:
    """A tree of AI4PAIN's layout, with columns of unequal length and tags in mixed case.

    The SpO2 of the column named `resting` stays at 98.
    """
    rng = np.random.default_rng(0)
    number = 0
    for split, count in people.items():
        for _ in range(count):
            number += 1
            person = f"{number}"
            tags = ["Baseline_1", *(f"{tag}_{k}" for tag in ("LOW", "High", "REST") for k in range(1, trials + 1))]
            lengths = {tag: 1500 if tag == "Baseline_1" else 900 + 20 * i for i, tag in enumerate(tags)}
            for folder in ("Bvp", "Eda", "Resp", "SpO2"):
                columns = {tag: body(rng, n)[MODALITIES[folder]] for tag, n in lengths.items()}
                if folder == "SpO2" and resting in columns:
                    columns[resting][:] = 98.0
                rows = [",".join(f"{person}_{tag}" for tag in tags)]
                for i in range(max(lengths.values())):
                    rows.append(",".join(str(c[i]) if i < len(c) else "" for c in columns.values()))
                (root / split / folder).mkdir(parents=True, exist_ok=True)
                (root / split / folder / f"{person}.csv").write_text("\n".join(rows) + "\n")


def test_ai4pains_layout_is_read_and_a_made_up_tree_is_not_called_ai4pain(tmp_path):
    write_tree(tmp_path, {"train": 2, "validation": 1})
    with pytest.raises(SignalError, match=r"is not AI4PAIN: train holds 2 people, not 41; validation holds 1 people"):
        load_ai4pain(tmp_path)
    dataset = load_ai4pain(tmp_path, claimed=False)
    assert dataset.name == OTHER != NAME
    facts = {
        "data": dataset.name, "classes": dataset.classes, "windows": 1, "test_people": [],
        "weights": "", "weights_sha256": "", "budget": 1,
        "scale": "window", "settings": {"batch_size": 1, "learning_rate": 1, "precision": ""}, "digests": {},
        "representations": [],
    }  # fmt: skip
    assert "compare the gains alone" in tables(facts, [])
    assert "compare the gains alone" not in tables({**facts, "data": NAME}, [])
    assert dataset.modalities == ("bvp", "eda", "resp", "spo2")
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2, 2] * 3
    assert dataset.persons[dataset.held_out].tolist() == ["3"] * 6
    assert [w.signals["eda"].size for w in dataset.windows[:6]] == [1000, 1000, 920, 940, 960, 980]
    first, second = (window.signals["bvp"] for window in dataset.windows[:2])
    assert np.array_equal(first[500:], second[:500])  # of a baseline of 15 s, from 0 and from 5 s


def test_only_a_whole_tree_is_called_ai4pain(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.ai4pain.PEOPLE", {"train": 2, "validation": 1})
    monkeypatch.setattr("benchmarks.ai4pain.TRIALS", 2)
    write_tree(tmp_path / "whole", {"train": 2, "validation": 1})
    assert load_ai4pain(tmp_path / "whole").name == NAME
    assert load_ai4pain(tmp_path / "whole", claimed=False).name == OTHER
    write_tree(tmp_path / "short", {"train": 2, "validation": 1}, trials=1)
    with pytest.raises(SignalError, match="hold 1 trials of LOW"):
        load_ai4pain(tmp_path / "short")


def test_the_program_refuses_to_call_another_tree_ai4pain(tmp_path):
    write_tree(tmp_path / "tree", {"train": 1, "validation": 1})
    given = ["--data", NAME, "--archives", str(tmp_path / "tree"), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(main, given)
    assert isinstance(done.exception, SignalError)
    assert "is not AI4PAIN: train holds 1 people, not 41" in str(done.exception)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("scale", ["window", "recording"])
def test_a_trial_whose_spo2_rests_is_left_out_where_it_is_shown_and_counted(tmp_path, scale):
    write_tree(tmp_path, {"train": 2, "validation": 1}, resting="LOW_2")
    dataset = load_ai4pain(tmp_path, claimed=False)
    resting = [window.limits["spo2"] is None for window in dataset.windows]
    assert resting == [False, False, False, True, False, False] * 3
    assert dataset.digest("spo2") == load_ai4pain(tmp_path, claimed=False).digest("spo2")
    settings = dataclasses.replace(QUICK, epochs=1)
    run = Experiments(dataset, tiny(), tmp_path / "run", budget=1e6, settings=settings, scale=scale)
    for modality, lost in (("bvp", 0), ("spo2", 1)):
        _, _, reduced = run.parts(Cell(4, "pretrained", (View(modality, "waveform"),)))
        assert (reduced["samples"], reduced["samples_of"]) == (12 - 2 * lost, 12)
        assert (reduced["test_samples"], reduced["test_samples_of"]) == (6 - lost, 6)


def test_a_tree_that_is_not_of_the_layout_is_refused(tmp_path):
    with pytest.raises(SignalError, match="holds no Bvp/Eda/Resp/SpO2"):
        load_ai4pain(tmp_path)
    write_tree(tmp_path, {"train": 1, "validation": 1})
    (tmp_path / "train" / "Resp" / "1.csv").unlink()
    with pytest.raises(SignalError, match=r"Resp/1.csv is missing"):
        load_ai4pain(tmp_path)
    (tmp_path / "train" / "Resp" / "1.csv").write_text("1_PAIN_1\n0.5\n1.5\n")
    with pytest.raises(SignalError, match="a column is called '1_PAIN_1'"):
        load_ai4pain(tmp_path)
    (tmp_path / "train" / "Resp" / "1.csv").write_text("1_LOW_1,1_Low_1\n0.5,1\n1.5,2\n")
    with pytest.raises(SignalError, match="LOW 1 is there twice"):
        load_ai4pain(tmp_path)
