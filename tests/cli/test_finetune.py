"""`tiny-biomoe finetune` and `predict`, as a person meets them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_training import beats, sweat, tiny

from tiny_biomoe import ConfigError
from tiny_biomoe.batch.study_table import open_study
from tiny_biomoe.cli import finetune as commands
from tiny_biomoe.cli import lazy_commands as lazy
from tiny_biomoe.cli.main import main
from tiny_biomoe.config import Recipe
from tiny_biomoe.errors import MissingExtra, SignalWarning
from tiny_biomoe.train.classifier import TrainedClassifier
from tiny_biomoe.train.drawing import Drawing, Window
from tiny_biomoe.train.labelled_study import Cutting, cut_study

QUICKLY = ["--epochs", 2, "--batch-size", 4, "--learning-rate", 0.01, "--no-augmentation"]


def write_study(folder: Path, people: int = 6, header: str = "path,modality,fs,who,stress,start,stop") -> Path:
    """A folder of CSV files, a pulse and a skin conductance a person, calm for eight seconds and then stressed."""
    rows = [header]
    for person in range(people):
        for name, make, fs in (("bvp", beats, 64), ("eda", sweat, 8)):
            signal = np.concatenate([make(False, person).signal, make(True, person).signal])
            (folder / f"p{person}_{name}.csv").write_text("\n".join([name.upper(), *map(str, signal)]) + "\n")
            for label, start in (("calm", 0), ("stressed", 8)):
                rows.append(f"p{person}_{name}.csv,{name},{fs},P{person},{label},{start},{start + 8}")
    study = folder / "study.csv"
    study.write_text("\n".join(rows) + "\n")
    return study


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study, a backbone, and a classifier of two modalities that learnt from it."""
    folder = tmp_path_factory.mktemp("made")
    study = write_study(folder)
    tiny().save_pretrained(folder / "weights")
    with pytest.raises(SystemExit) as stop:
        main(
            [
                str(argument)
                for argument in (
                    "finetune", study, "--label", "stress", "--group", "who", "--weights", folder / "weights",
                    "--representation", "waveform", "--held-out", 0.34, "-o", folder / "classifier", *QUICKLY,
                )
            ]
        )  # fmt: skip
    assert not stop.value.code
    return folder


def test_finetune_writes_a_classifier_with_card_curve_and_scores(made):
    classifier = TrainedClassifier.load(made / "classifier")
    assert classifier.classes == ("calm", "stressed")
    assert list(map(str, classifier.views)) == ["bvp/waveform", "eda/waveform"]
    assert classifier.about["training"]["subjects"] == 4
    assert len(classifier.about["tested_on"]) == 2
    scores = json.loads((made / "classifier" / "evaluation.json").read_text())
    assert np.sum(scores["confusion"]) == 4
    assert Image.open(made / "classifier" / "learning_curve.png").size[0] > 500
    assert "bvp/waveform, eda/waveform, joined by concat" in (made / "classifier" / "README.md").read_text()


def test_predict_tells_the_class_of_each_row_and_scores_where_labels_are_known(made, run):
    code, out, _ = run(
        "predict",
        made / "classifier",
        made / "study.csv",
        "--label",
        "stress",
        "--group",
        "who",
        "-o",
        made / "answers.csv",
    )
    assert code == 0
    assert "12 samples classified" in out
    assert "macro accuracy" in out
    with open(made / "answers.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert (rows[0]["subject"], rows[0]["label"], rows[0]["start"], rows[0]["stop"]) == ("P0", "calm", "0.0", "8.0")
    classifier = TrainedClassifier.load(made / "classifier")
    stretches, _ = cut_study(open_study(made / "study.csv"), None, Recipe(), label="stress", group="who")
    expected = classifier.predict_proba(classifier.draw(stretches.windows))
    found = np.array([[float(row["p(calm)"]), float(row["p(stressed)"])] for row in rows])
    assert np.allclose(found, expected, atol=1e-6)
    assert [row["predicted"] for row in rows] == [classifier.classes[i] for i in expected.argmax(1)]


def test_predict_goes_on_past_a_bad_file_and_says_so(made, run, tmp_path):
    study = write_study(tmp_path, 2)
    (tmp_path / "p0_eda.csv").write_text("EDA\n1\nx\n")
    code, out, err = run("predict", made / "classifier", study, "--group", "who", "-o", tmp_path / "answers.csv")
    assert code == 2
    assert "p0_eda.csv" in err
    assert "2 samples classified" in out
    assert "2 inputs or samples failed" in out


def test_predict_leaves_unknown_labels_empty_and_its_inputs_alone(made, run, tmp_path):
    study = write_study(tmp_path, 1)
    before = study.read_bytes()
    ask = "predict", made / "classifier", study, "--group", "who", "--label", "unknown", "-o"
    assert run(*ask, tmp_path / "answers.csv")[0] == 0
    with open(tmp_path / "answers.csv") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["", ""]
    for output in (study, tmp_path / "p0_eda.csv"):
        code, _, err = run(*ask, output)
        assert code == 1
        assert "would replace an input" in err
    assert study.read_bytes() == before


def test_a_stopped_finetune_goes_on_and_another_one_in_its_folder_is_refused(made, run):
    arguments = ["finetune", made / "study.csv", "--label", "stress", "--group", "who", "--weights", made / "weights"]
    arguments += ["--representation", "waveform", "--held-out", 0.34, "-o", made / "classifier"]
    before = (made / "classifier" / "head.safetensors").read_bytes()
    assert run(*arguments, *QUICKLY)[0] == 0
    assert (made / "classifier" / "head.safetensors").read_bytes() == before
    code, _, err = run(*arguments, *QUICKLY, "--seed", 1)
    assert code == 1
    assert "seed=0, not 1" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label", "stres", "--group", "who"], "unknown column 'stres'"),
        (["--label", "stress"], "unknown column 'nobody'"),
        (
            ["--label", "stress", "--group", "who", "--modality", "ecg"],
            "no recording of ['ecg'], only of ['bvp', 'eda']",
        ),
        (["--label", "stress", "--group", "who", "--window", "9"], "one window of 9 s"),
        (["--label", "stress", "--group", "stress", "--modality", "bvp"], "leaves every class"),
        (["--label", "stress", "--group", "who", "--held-out", "0"], "share=0.0"),
        (["--label", "stress", "--group", "who", "--stride", "1"], "--stride"),
    ],
)
def test_what_cannot_be_learnt_is_refused_in_one_line(made, run, tmp_path, arguments, message):
    given = arguments if "--group" in arguments else [*arguments, "--group", "nobody"]
    code, _, err = run(
        "finetune", made / "study.csv", *given, "--weights", made / "weights", "-o", tmp_path / "c", *QUICKLY
    )
    assert code == 1
    assert message in err.splitlines()[-1]


def test_windows_are_cut_from_each_stretch_of_a_recording_filtered_whole(made):
    study = open_study(made / "study.csv")
    stretches, failures = cut_study(study, ["bvp"], Recipe(), Cutting(window=4, stride=2), label="stress", group="who")
    assert failures == []
    assert list(zip(stretches.starts[:6], stretches.stops, strict=False)) == [
        (0, 4), (2, 6), (4, 8), (8, 12), (10, 14), (12, 16)
    ]  # fmt: skip
    assert stretches.sources[3] == "p0_bvp.csv, 8-12 s"
    whole, _ = cut_study(study, ["bvp"], Recipe(), label="stress", group="who")
    assert np.array_equal(stretches.windows[1]["bvp"].signal, whole.windows[0]["bvp"].signal[128:384])
    assert whole.windows[0]["bvp"].filtered
    level, _ = cut_study(study, ["bvp"], Recipe(), drawing=Drawing(scale="recording"), label="stress", group="who")
    assert level.windows[0]["bvp"].limits == level.windows[1]["bvp"].limits


def test_a_hole_costs_its_windows_by_an_option_that_both_commands_have(made, tmp_path, run):
    whole = np.concatenate([beats(False, 0).signal, beats(True, 0).signal])
    times, rows = np.arange(whole.size) / 64, ["path,modality,subject,label,start,stop"]
    keep = (times < 9) | (times >= 10)
    for person in range(4):
        lines = (f"{t},{value}" for t, value in zip(times[keep], whole[keep] + person, strict=True))
        (tmp_path / f"p{person}.csv").write_text("\n".join(["time [s],BVP", *lines]) + "\n")
        for label, start in (("calm", 0), ("stressed", 8)):
            rows.append(f"p{person}.csv,bvp,P{person},{label},{start},{start + 8}")
    (tmp_path / "study.csv").write_text("\n".join(rows) + "\n")
    learn = ["finetune", tmp_path / "study.csv", "--representation", "waveform", "--weights", made / "weights"]
    learn += ["--window", 2, "-o", tmp_path / "c", "--held-out", 0.3, *QUICKLY]
    code, _, err = run(*learn)
    assert code == 1
    assert "samples are missing for 1 s from 9 s on, the first of 1 holes: lose the windows beside them" in err
    assert "(--on-hole nan)" in err
    assert "split" not in err
    code, _, err = run(*learn, "--on-hole", "nan", "--bad", "drop")
    assert code == 0, err
    assert "p0.csv" in err
    assert "8-10 s" in err
    code, out, _ = run("predict", tmp_path / "c", tmp_path / "study.csv", "-o", tmp_path / "p.csv")
    assert (code, "28 samples classified" in out) == (2, True)  # the classifier remembers the option
    code, _, err = run(
        "predict", tmp_path / "c", tmp_path / "study.csv", "--on-hole", "error", "-o", tmp_path / "q.csv"
    )
    assert code == 2
    assert "(--on-hole nan)" in err


def test_rows_of_one_time_are_joined_and_two_of_one_modality_must_be_told_apart(tmp_path):
    write_study(tmp_path, 2)
    rows = ["path,modality,fs,subject,label,trial"]
    rows += [
        f"p{person}_{name}.csv,{name},{fs},P,calm,t{person}"
        for person in (0, 1)
        for name, fs in (("bvp", 64), ("eda", 8))
    ]
    (tmp_path / "study.csv").write_text("\n".join(rows) + "\n")
    study = open_study(tmp_path / "study.csv")
    with pytest.raises(ConfigError, match=r"two recordings of bvp are of P at the same time.*--join"):
        cut_study(study, None, Recipe())
    joined, _ = cut_study(study, None, Recipe(), join="trial")
    assert [sorted(windows) for windows in joined.windows] == [["bvp", "eda"]] * 2
    alone, _ = cut_study(study, ["eda"], Recipe())
    assert len(alone.windows) == 2


@pytest.mark.parametrize(("offset", "count"), [(0.0, 6), (45.0, 1), (-20.5, 3), (70.0, 0)])
def test_row_118_recordings_that_are_joined_are_aligned_by_their_clocks(tmp_path, rng, offset, count):
    signals = {}
    for name, fs, start in (("eda", 4, 0.0), ("bvp", 64, offset)):
        signals[name] = rng.standard_normal(60 * fs).cumsum()
        times = 1.7e9 + start + np.arange(60 * fs) / fs
        rows = [f"{time:.6f},{value}" for time, value in zip(times, signals[name], strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"time,{name.upper()}", *rows]) + "\n")
    study = tmp_path / "study.csv"
    study.write_text("path,modality,subject,label\neda.csv,eda,S,calm\nbvp.csv,bvp,S,calm\n")
    found, failures = cut_study(open_study(study), None, Recipe(), Cutting(window=10), Drawing(band=None))
    assert len(found.windows) == count
    assert bool(failures) == (count == 0)
    if not count:
        assert "by their clocks they have no time in common" in failures[0]
        return
    begin = max(0.0, offset)
    assert np.array_equal(found.windows[0]["eda"].signal, signals["eda"][round(begin * 4) :][:40])
    assert np.array_equal(found.windows[0]["bvp"].signal, signals["bvp"][round((begin - offset) * 64) :][:640])
    assert found.starts[0] == (begin - offset if found.files[0] == "bvp.csv" else begin)


def test_row_116_a_gap_costs_the_windows_that_it_touches(tmp_path):
    signal = np.concatenate([beats(False, seed).signal for seed in range(5)])
    signal[64 * 13 : 64 * 15] = np.nan
    (tmp_path / "p.csv").write_text("BVP\n" + "".join(f"{value:.6f}\n" for value in signal))
    (tmp_path / "study.csv").write_text("path,modality,fs,subject,label\np.csv,bvp,64,P0,calm\n")
    study = open_study(tmp_path / "study.csv")
    found, failures = cut_study(study, None, Recipe(), Cutting(window=10), Drawing(nan_policy="interpolate"))
    assert found.starts == [0, 20, 30]
    assert len(failures) == 1
    assert failures[0].startswith("p.csv, 10-20 s, lies in or beside a gap longer than 1 s")
    wide = Drawing(nan_policy="interpolate", max_gap=2.0)
    assert cut_study(study, None, Recipe(), Cutting(window=10), wide)[0].starts == [0, 10, 20, 30]


def test_row_116_rows_missing_outside_start_and_stop_cost_nothing(tmp_path):
    signal = np.concatenate([beats(False, seed).signal for seed in range(5)])
    rows = [f"{at / 64:.6f},{value:.6f}\n" for at, value in enumerate(signal) if not 13 <= at / 64 < 15]
    (tmp_path / "p.csv").write_text("time [s],BVP\n" + "".join(rows))
    listed = "p.csv,P0,calm,0,10\np.csv,P0,calm,20,40\np.csv,P0,calm,12,40\n"
    (tmp_path / "study.csv").write_text("path,subject,label,start,stop\n" + listed)
    study = open_study(tmp_path / "study.csv")
    found, failures = cut_study(study, None, Recipe(), Cutting(window=10))
    assert (found.starts, found.channels) == ([0, 20, 30], {"bvp": ["BVP"]})
    (failure,) = failures
    missing = "samples are missing for 2 s from 13 s on, the first of 1 holes: lose the windows beside"
    assert failure.startswith(f"p.csv: {missing}")
    kept, failures = cut_study(study, None, Recipe(), Cutting(window=10, reading={"on_hole": "nan"}))
    assert kept.starts == [0, 22, 20, 30]
    assert failures[0].startswith("p.csv, 12-22 s, lies in or beside missing samples")


@pytest.mark.parametrize(
    "name", ["band", "scale", "nan_policy", "max_gap", "max_missing", "include", "exclude", "fs", "column", "on_jitter"]
)
def test_options_of_reading_and_drawing_are_the_same_in_all_commands(name):
    from tiny_biomoe.cli import embed, predict

    found = [{each.name: each for each in module.params} for module in (
        embed.embed, commands.finetune, predict.predict
    )]  # fmt: skip
    facts = {(each[name].default, str(each[name].type), each[name].help, each[name].multiple) for each in found}
    assert len(facts) == 1


def test_a_stretch_beyond_the_recording_is_named(tmp_path):
    write_study(tmp_path, 1)
    (tmp_path / "study.csv").write_text("path,modality,fs,subject,label,start,stop\np0_eda.csv,eda,8,P0,calm,10,20\n")
    found, failures = cut_study(open_study(tmp_path / "study.csv"), None, Recipe())
    assert not found.windows
    assert failures == [
        "p0_eda.csv: 10 to 20 s do not lie in the recording, which lasts 16 s: correct the study's start and stop"
    ]


def test_a_row_without_its_label_or_person_is_named(tmp_path):
    write_study(tmp_path, 1)
    (tmp_path / "study.csv").write_text("path,modality,fs,subject,label\np0_eda.csv,eda,8,P0,\n")
    with pytest.raises(ConfigError, match="p0_eda.csv: the row has no 'label', one of 1 of 1 rows.*--unlabelled drop"):
        cut_study(open_study(tmp_path / "study.csv"), None, Recipe())
    found, _ = cut_study(open_study(tmp_path / "study.csv"), None, Recipe(), labelled=False)
    assert found.labels == [None]


def test_the_other_commands_do_not_import_the_training_half():
    script = (
        "import sys\nfrom tiny_biomoe.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('kornia', 'sklearn', 'tiny_biomoe.train') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "finetune" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_a_network_begins_in_one_way_only(made, run):
    arguments = ["finetune", made / "study.csv", "--label", "stress", "--group", "who", "-o", made / "twice"]
    code, _, err = run(*arguments, "--untrained", "--weights", made / "weights")
    assert code == 1
    assert "begin with one of them" in err


def test_people_watched_for_patience_are_drawn_by_the_seed(made, run, monkeypatch):
    drawn = []
    original = commands.split_subjects
    monkeypatch.setattr(commands, "split_subjects", lambda *given: (drawn.append(given[2:]), original(*given))[1])
    arguments = ["finetune", made / "study.csv", "--label", "stress", "--group", "who", "--weights", made / "weights"]
    code, *_ = run(
        *arguments, "--representation", "waveform", "--part", "head", "--patience", 1, "--seed", 7,
        "-o", made / "patient", *QUICKLY,
    )  # fmt: skip
    assert code == 0
    assert drawn == [(7,), (7,)]


@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_help_comes_from_the_command_itself(run, asked):
    code, out, _ = run("finetune", asked)
    assert code == 0
    assert "--representation" in out
    assert "tiny-biomoe finetune [OPTIONS] STUDY" in out


def test_without_its_extra_help_says_what_to_install_and_the_rest_fails(run, monkeypatch):
    def missing(*_):
        raise MissingExtra('training needs kornia: pip install "tiny-biomoe[train]"')

    monkeypatch.setattr(lazy, "import_module", missing)
    code, out, _ = run("predict", "--help")
    assert code == 0
    assert out.startswith("Ask a classifier that finetune wrote about recordings.")
    assert "tiny-biomoe[train]" in out
    code, _, err = run("predict", "a.csv")
    assert code == 1
    assert "tiny-biomoe[train]" in err


def test_cutting_refuses_what_it_does_not_know():
    with pytest.raises(ConfigError, match="scale='person'"):
        Drawing(scale="person")
    with pytest.raises(ConfigError, match="max_missing=2"):
        Drawing(max_missing=2)
    with pytest.raises(ConfigError, match="unknown argument 'separator'"):
        Cutting(reading={"separator": ";"})
    assert Cutting(**json.loads(json.dumps(Cutting(window=4.0).to_dict()))) == Cutting(window=4.0)
    assert Drawing(**json.loads(json.dumps(Drawing(band=(1, 2)).to_dict()))).band == (1, 2)


def learn(made, run, tmp_path, *more, study=None):
    """A quick head on the made study."""
    return run(
        "finetune", study or made / "study.csv", "--label", "stress", "--group", "who", "--weights", made / "weights",
        "--representation", "waveform", "--part", "head", "--epochs", 30, "--learning-rate", 0.05,
        "-o", tmp_path / "c", *more,
    )  # fmt: skip


def table(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_row_129_rows_without_a_label_are_refused_or_left_out_and_counted(made, run, tmp_path):
    study = made / "bare.csv"
    study.write_text((made / "study.csv").read_text().replace("P0,calm", "P0,NaN").replace("P1,calm", "P1,n/a"))
    code, _, err = learn(made, run, tmp_path, study=study)
    assert code == 1
    assert "the row has no 'stress', one of 4 of 24 rows" in err
    code, out, err = learn(made, run, tmp_path, "--unlabelled", "drop", study=study)
    assert code == 0
    assert "left out: 4 of 24 rows, which have no 'stress'" in err
    assert TrainedClassifier.load(tmp_path / "c").classes == ("calm", "stressed")


def test_row_131_a_person_spelt_in_two_ways_is_on_one_side(made, run, tmp_path):
    study = made / "spelt.csv"
    study.write_text((made / "study.csv").read_text().replace("P1,stressed", "p1 ,stressed").replace(",P2,", ",2.0,"))
    with pytest.warns(SignalWarning, match="'p1' as 'P1'"):
        code, out, _ = learn(made, run, tmp_path, study=study)
    assert code == 0
    assert "12 samples of 6 people" in out
    about = TrainedClassifier.load(tmp_path / "c").about
    assert set(about["training"]["people"]) | set(about["tested_on"]) == {"P0", "P1", "2", "P3", "P4", "P5"}


def test_row_133_predict_reads_cuts_and_draws_as_in_training(made, run, tmp_path):
    code, *_ = learn(
        made, run, tmp_path, "--modality", "bvp", "--window", 4, "--band", "none", "--scale=-2,2", "--max-gap", 0.5
    )
    assert code == 0
    loaded = TrainedClassifier.load(tmp_path / "c")
    assert (loaded.drawing.band, loaded.drawing.scale, loaded.drawing.max_gap) == (None, (-2.0, 2.0), 0.5)
    assert loaded.drawing.fs == {"bvp": [64.0]}
    assert loaded.drawing.seconds == {"bvp": [4.0, 4.0]}
    assert loaded.about["cutting"]["columns"] == {"bvp": ["BVP"]}
    both = tmp_path / "both.csv"  # holds a second pulse, which was never learnt from
    signal = np.concatenate([beats(False, 1).signal, beats(True, 1).signal])
    both.write_text("\n".join(["BVP,PPG", *(f"{x},{-x}" for x in signal)]) + "\n")
    assert run("predict", tmp_path / "c", both, "--fs", 64, "-o", tmp_path / "answers.csv")[0] == 0
    windows = [{"bvp": Window(signal[i : i + 256], 64, filtered=True)} for i in range(0, 1024, 256)]
    expected = loaded.predict_proba(loaded.draw(windows))[:, 0]
    assert [float(row["p(calm)"]) for row in table(tmp_path / "answers.csv")] == pytest.approx(expected, abs=1e-5)
    code, _, err = run("predict", tmp_path / "c", both, "--fs", 32, "-o", tmp_path / "slow.csv")
    assert code == 1
    assert "sampled at 32 Hz, and what was learnt from at 64 Hz" in err


def test_row_134_a_label_that_was_never_learnt_leaves_the_others_scored(made, run, tmp_path):
    study = made / "unseen.csv"
    study.write_text((made / "study.csv").read_text().replace("P0,calm", "P0,bored"))
    arguments = "predict", made / "classifier", study, "--group", "who", "-o", tmp_path / "answers.csv"
    with pytest.warns(SignalWarning) as warned:
        code, out, _ = run(*arguments)  # the label's column is remembered
    assert code == 0
    assert "macro accuracy" in out
    notes = " ".join(str(each.message) for each in warned)
    assert "1 of 12 have a label that was never learnt (bored): left out" in notes
    assert "4 of 6 scored people were trained on" in notes
    study.write_text((made / "study.csv").read_text().replace("calm", "a").replace("stressed", "b"))
    code, out, _ = run(*arguments)
    assert "not scored: no label (a, b) is one that was learnt (calm, stressed)" in out


def test_a_joined_sample_that_fails_names_the_file_and_the_option(made, run, tmp_path):
    study = write_study(tmp_path, 6)
    (tmp_path / "p0_eda.csv").write_text("EDA\n1\nx\n")
    code, _, err = learn(made, run, tmp_path, study=study)
    assert code == 1
    assert "p0_eda.csv" in err
    assert 'joined with p0_bvp.csv, which are used without it by missing="mask" (--missing mask)' in err
    code, out, err = learn(made, run, tmp_path, "--missing", "mask", study=study)
    assert code == 0
    assert "12 samples of 6 people" in out
    assert "p0_eda.csv" in err


def test_a_target_is_learnt_by_regression_and_predicted_in_its_unit(made, run, tmp_path):
    study = made / "numbers.csv"
    study.write_text((made / "study.csv").read_text().replace(",calm,", ",10.5,").replace(",stressed,", ",14,"))
    code, out, _ = learn(made, run, tmp_path, "--target", "stress", study=study)
    assert code == 0
    assert out.splitlines()[-1].startswith("mae ")
    assert "concordance" in out
    code, out, _ = run("predict", tmp_path / "c", study, "--group", "who", "-o", tmp_path / "answers.csv")
    assert code == 0
    assert "12 samples predicted in" in out
    rows = table(tmp_path / "answers.csv")
    assert not [name for name in rows[0] if name.startswith("p(")]
    predicted = np.array([float(row["predicted"]) for row in rows])
    mae = np.abs(predicted - [float(row["label"]) for row in rows]).mean()
    assert f"mae {mae:.3f}" in out
    assert mae < 2.5
    code, _, err = learn(made, run, tmp_path, "--target", "stress", "--task", "classification", study=study)
    assert "leave out --task" in err


def test_folds_score_each_person_once_and_embed_each_image_once(made, run, tmp_path, monkeypatch):
    from tiny_biomoe.train import vectors

    embedded, embed = [], vectors.embed_levels
    monkeypatch.setattr(
        vectors, "embed_levels", lambda net, images, n: (embedded.append(len(x := list(images))), embed(net, x, n))[1]
    )
    arguments = "--modality", "bvp", "--folds", "loso"
    code, out, _ = learn(made, run, tmp_path, *arguments)
    assert code == 0
    assert sum(embedded) == 12
    scores = json.loads((tmp_path / "c" / "evaluation.json").read_text())
    assert sorted(scores["people"]) == [f"P{i}" for i in range(6)]
    assert np.sum(scores["confusion"]) == 12
    assert "of 6 people each" in out
    assert "leave one person out, each scored by a classifier" in (tmp_path / "c" / "README.md").read_text()
    assert TrainedClassifier.load(tmp_path / "c").about["training"]["subjects"] == 6
    again = json.loads((tmp_path / "c" / "evaluation.json").read_text())
    monkeypatch.setattr("tiny_biomoe.train.cross_validation.finetune", None)  # each fold is kept
    assert learn(made, run, tmp_path, *arguments)[0] == 0
    assert json.loads((tmp_path / "c" / "evaluation.json").read_text()) == again
    code, _, err = learn(made, run, tmp_path, "--folds", "seven")
    assert "neither loso nor a number" in err


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_windows_of_a_recording_are_pooled_with_their_attention_in_the_table(made, run, tmp_path, pooling):
    code, *_ = learn(
        made, run, tmp_path, "--modality", "bvp", "--window", 2, "--level", "recording", "--pooling", pooling
    )
    assert code == 0
    loaded = TrainedClassifier.load(tmp_path / "c")
    assert (loaded.level, loaded.model.pooling) == ("recording", pooling)
    code, out, _ = run("predict", tmp_path / "c", made / "study.csv", "--group", "who", "-o", tmp_path / "answers.csv")
    assert code == 0
    rows = table(tmp_path / "answers.csv")
    assert len(rows) == 48
    assert rows[0]["recording"] == "p0_bvp.csv, 0-8 s"
    for name in {row["recording"] for row in rows}:
        mine = [row for row in rows if row["recording"] == name]
        assert len(mine) == 4
        assert len({row["p(calm)"] for row in mine}) == 1
        assert sum(float(row["attention"]) for row in mine) == pytest.approx(1, abs=1e-5)
    shares = {float(row["attention"]) for row in rows}
    assert (shares == {0.25}) == (pooling == "mean")
