"""The paper's experiments end to end on made-up people, what is reduced, and how the claim is told."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from toy_training import QUICK, beats, sweat, tiny

from benchmarks.datasets import Dataset, Window
from benchmarks.experiment_cells import Cell, fusion_cells, plan, single_cells
from benchmarks.experiment_tables import PAPER, _pretraining, gain_interval, tables
from benchmarks.experiments import Experiments, Reduction, test_people
from tiny_biomoe import ConfigError
from tiny_biomoe.train.samples import View

SETTINGS = dataclasses.replace(QUICK, epochs=1)
test_people.__test__ = False  # a function of the bench, not a test


def toy_dataset(people: int = 4, **changes) -> Dataset:
    """A calm and a stressed window a person, of pulse and skin conductance; one skin conductance is flat."""
    windows = []
    for person in range(people):
        for index in range(2):
            signals = {
                "bvp": beats(bool(index % 2), 10 * person + index).signal,
                "eda": sweat(bool(index % 2), 10 * person + index).signal,
            }
            limits = {"bvp": (-1.5, 1.5), "eda": (-2.0, 9.0)}
            windows.append(Window(signals, limits, index % 2, f"P{person}", 8.0 * index))
    windows[1].signals["eda"][:] = 3.0
    return dataclasses.replace(
        Dataset("toy", 8.0, {"bvp": 64.0, "eda": 8.0}, ("calm", "stress"), tuple(windows)), **changes
    )


def experiments(out, dataset=None, **options):
    given = {"budget": 1e6, "settings": SETTINGS, "representations": ["waveform", "scalogram", "psd"], **options}
    return Experiments(dataset or toy_dataset(), tiny(), out, **given)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return experiments(out).run(), out


def test_all_tables_of_all_cells(done):
    text, out = done
    results = [json.loads(path.read_text()) for path in (out / "cells").glob("*/*.json")]
    tally = {table: sum(result["table"] == table for result in results) for table in (3, 4, 5, 6)}
    assert tally == {3: 6, 4: 6, 5: 8, 6: 4}
    assert "## Tables 3 to 6 on toy" in text
    assert "scored on 1 people who are in no training part" in text
    assert "compare the gains alone" in text
    assert "| bvp | scalogram |" in text
    assert "| 66.53 | 67.13 | +0.60 |" in text
    assert "Mean accuracy over 6 cells" in text
    assert "Not finished" not in text
    assert "| 6 | scalogram of each | bvp/scalogram, eda/scalogram | add |" in text
    assert text == (out / "tables.md").read_text()
    assert not list((out / "checkpoints").glob("*/*"))


def test_a_flat_window_is_left_out_and_counted(done):
    result = json.loads((next((done[1] / "cells").glob("pretrained-*")) / "4_eda-psd_pretrained.json").read_text())[
        "reduced"
    ]
    lost = result["samples_of"] + result["test_samples_of"] - result["samples"] - result["test_samples"]
    assert lost == 1


def test_a_run_that_was_stopped_computes_only_what_is_missing(done, monkeypatch):
    text, out = done
    lost = out / "cells" / "scratch" / "3_bvp-psd_scratch.json"
    before = json.loads(lost.read_text())
    lost.unlink()
    made = []
    from benchmarks import experiments as module

    original = module.finetune
    monkeypatch.setattr(module, "finetune", lambda *a, **o: (made.append(1), original(*a, **o))[1])
    assert experiments(out).run() == text
    assert len(made) == 1
    after = json.loads(lost.read_text())
    assert {**after, "seconds": 0} == {**before, "seconds": 0}


def test_other_weights_keep_the_cells_from_scratch(tmp_path, monkeypatch):
    few = {"representations": ["psd"], "reduction": Reduction(fusion_part="head")}
    first = experiments(tmp_path, **few).run()
    made = []
    from benchmarks import experiments as module

    original = module.finetune
    monkeypatch.setattr(
        module, "finetune", lambda model, *a, **o: (made.append(model.config.name), original(model, *a, **o))[1]
    )
    other = tiny(seed=1)
    second = Experiments(toy_dataset(), other, tmp_path, budget=1e6, settings=SETTINGS, **few).run()
    assert made == ["tiny"] * (2 + 2 + 2)  # Table 4, each image alone, Table 6; none called "scratch"
    assert len(list((tmp_path / "cells" / "scratch").iterdir())) == 2
    assert len(list((tmp_path / "cells").glob("pretrained-*/*"))) == 2 * 6
    made.clear()
    assert experiments(tmp_path, **few).run() == first != second
    assert made == []


def test_reductions_by_number_bind_and_are_told(tmp_path):
    given = Reduction(epochs=1, windows=1, test_windows=1, fusion_part="head", folds=2)
    run = experiments(tmp_path, representations=["psd"], reduction=given, settings=dataclasses.replace(QUICK, epochs=3))
    text = run.run()
    assert run.test == {"P1", "P3"}
    kept = "2 of 4 training samples, 2 of 4 test samples."
    assert f"- Of 1 image a sample: 1 of 3 epochs, {kept}" in text
    heads = "(the head alone learns, on images that are not varied): 3 of 3 epochs"
    assert f"- Of 1 image a sample {heads}, {kept}" in text
    assert f"- Of 2 images a sample {heads}, {kept}" in text
    assert "| 5 | bvp psd alone | bvp/psd |  |" in text
    assert "compare with, those alone in this table" in text
    for path in (tmp_path / "cells").glob("*/*.json"):
        result = json.loads(path.read_text())
        assert np.sum(list(result["people"].values()), 0).tolist() == result["confusion"]
        assert len(result["train_loss"]) == (3 if result["part"] == "head" else 1)


def pair_of_cells(people: int, gained: int):
    """A cell that is right half the time, and one that is right of all windows of some of the people."""
    half, right = [[2, 2], [2, 2]], [[4, 0], [0, 4]]
    told = [[half] * people, [right if i < gained else half for i in range(people)]]
    cells = [dict(zip("abcdefgh", own, strict=False)) for own in told]
    return tuple({"people": cell, "confusion": np.sum(list(cell.values()), 0).tolist()} for cell in cells)


def test_the_interval_of_the_gain_is_that_of_drawing_people():
    assert gain_interval([pair_of_cells(8, 8)]).tolist() == [0.5, 0.5]
    assert gain_interval([pair_of_cells(8, 0)]).tolist() == [0.0, 0.0]
    low, high = gain_interval([pair_of_cells(8, 4)])
    # the gain is half of the share of people drawn who gained: binomial, of 8 draws with probability 1/2
    assert [2 * low, 2 * high] == pytest.approx([1 / 8, 7 / 8])
    several = gain_interval([pair_of_cells(8, 4), pair_of_cells(8, 0)])
    assert several == pytest.approx([low / 2, high / 2])  # people are drawn for all cells at once
    assert gain_interval([pair_of_cells(8, 4)[::-1]]) == pytest.approx([-high, -low])


@pytest.mark.parametrize(
    ("people", "verdict"),
    [((8, 8), "Pretrained beats scratch on average here"), ((8, 0), "is not settled here"), ((1, 1), "no verdict")],
)
def test_the_claim_is_told_with_its_interval(people, verdict):
    scratch, pretrained = pair_of_cells(*people)
    shared = {"views": [["bvp", "psd"]], "precision": 0.5, "f1": 0.5}
    accuracy = 0.5 if people[1] == 0 else 1.0
    text = "\n".join(
        _pretraining(
            [{**scratch, **shared, "table": 3, "start": "scratch", "accuracy": 0.5},
             {**pretrained, **shared, "table": 4, "start": "pretrained", "accuracy": accuracy}],
            2,
        )
    )  # fmt: skip
    assert verdict in text
    assert "Not finished: 1 of 2 pairs of cells are done." in text
    assert f"95 % interval {100 * accuracy - 50:+.2f} to {100 * accuracy - 50:+.2f}" in text


@pytest.mark.parametrize(
    "change",
    [
        {"budget": 5.0},
        {"reduction": Reduction(epochs=1)},
        {"scale": "recording"},
        {"dataset": toy_dataset(5)},
        {"device": "cuda"},
    ],
)
def test_a_folder_of_another_run_is_refused(done, change):
    with pytest.raises(ConfigError, match="holds a run with"):
        experiments(done[1], **change)


def test_a_run_does_not_go_on_with_another_pytorch(tmp_path, monkeypatch):
    experiments(tmp_path)
    experiments(tmp_path)
    monkeypatch.setattr("benchmarks.experiments.torch.__version__", "0.1")
    with pytest.raises(ConfigError, match="holds a run with versions="):
        experiments(tmp_path)


def test_the_residue_of_a_sensor_that_fell_off_is_flat(tmp_path):
    dataset = toy_dataset(8)
    dataset.windows[3].signals["eda"][:] = 1e-9 * np.random.default_rng(0).standard_normal(64)
    run = experiments(tmp_path, dataset)
    assert len(run._draw(dataset, (View("bvp", "psd"),))) == 16
    assert len(run._draw(dataset, (View("eda", "psd"),))) == 14


def test_nobody_is_learnt_from_and_scored_on(tmp_path):
    run = experiments(tmp_path, toy_dataset(8))
    learnt, scored, _ = run.parts(single_cells("scratch", ["bvp"], ["psd"])[0])
    assert set(scored.subjects) == run.test
    assert not set(learnt.subjects) & set(scored.subjects)
    assert len(run.test) == 2
    held = np.array([person == "P3" for person in toy_dataset().persons])
    assert test_people(toy_dataset(held_out=held), 4) == {"P3"}
    held[0] = True
    with pytest.raises(ConfigError, match="'P0' is in both parts"):
        test_people(toy_dataset(held_out=held), 4)


def test_the_budget_first_takes_epochs_then_samples_and_more_where_a_sample_has_more_images():
    wanted = {"n_train": 400, "n_test": 100, "people": 20, "second_an_image": 0.1, "epochs": 200}
    assert plan(views=1, budget=1e9, **wanted) == plan(views=6, budget=1e9, **wanted)
    one, six = plan(views=1, budget=600, **wanted), plan(views=6, budget=600, **wanted)
    assert (one.epochs, one.per_person) == (14, None)
    assert (six.epochs, six.per_person) == (10, 4)
    for views, reduced in ((1, one), (6, six)):
        n = 400 if reduced.per_person is None else reduced.per_person * 20
        assert (reduced.epochs * n + 100 / 3) * views * 0.1 <= 600


def test_a_reduced_run_says_so(tmp_path):
    run = experiments(tmp_path, budget=1e-3, representations=["psd"])
    learnt, _, reduced = run.parts(Cell(4, "pretrained", (View("bvp", "psd"),)))
    assert reduced["samples"] == len(learnt) == 3  # one window of each of three people
    assert reduced["samples_of"] == 6
    result = run.cell(Cell(4, "pretrained", (View("bvp", "psd"),)))
    assert "1 of 1 epochs, 3 of 6 training samples" in tables(run.facts, [result])


def test_reductions_are_ranges_over_the_cells_of_a_size():
    reduced = {"epochs": 9, "epochs_of": 200, "samples": 30, "samples_of": 40, "test_samples": 8, "test_samples_of": 8}
    views = [[("eda", "psd")], [("bvp", "psd")], [("eda", "psd"), ("bvp", "psd")]]
    results = [
        {"table": 0, "part": "whole", "views": own, "reduced": {**reduced, "samples": samples, "test_samples": test}}
        for own, samples, test in zip(views, (31, 40, 29), (7, 8, 6), strict=True)
    ]
    facts = {"data": "toy", "classes": ["a"], "windows": 48, "test_people": [],
        "weights": "", "weights_sha256": "", "budget": 1, "scale": "",
             "settings": {"batch_size": 32, "learning_rate": 1e-4, "precision": "float32"}, "digests": {},
             "representations": []}  # fmt: skip
    text = tables(facts, results)
    assert "- Of 1 image a sample: 9 of 200 epochs, 31 to 40 of 40 training samples, 7 to 8 of 8 test samples." in text
    assert "- Of 2 images a sample: 9 of 200 epochs, 29 of 40 training samples, 6 of 8 test samples." in text


def test_the_best_are_those_of_table_4():
    names = ["psd", "waveform", "scalogram"]
    scores = {View(m, r): 0.1 * i for m in ("bvp", "eda") for i, r in enumerate(names)}
    cells = fusion_cells(["bvp", "eda"], names, scores)
    best = [cell for cell in cells if cell.title == "bvp best two"]
    assert [cell.fusion for cell in best] == ["concat", "add"]
    assert best[0].views == (View("bvp", "scalogram"), View("bvp", "waveform"))
    assert len({cell.name for cell in cells}) == len(cells) == 12
    assert fusion_cells(["bvp"], ["psd"], scores) == []


def test_the_papers_numbers_give_the_papers_means():
    assert np.mean([pair[0] for pair in PAPER.values()]) == pytest.approx(52.13, abs=0.01)
    assert np.mean([pair[1] for pair in PAPER.values()]) == pytest.approx(53.96, abs=0.01)
