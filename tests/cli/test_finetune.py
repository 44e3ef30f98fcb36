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
from toy import beats, sweat, tiny

from tiny_biomoe import ConfigError
from tiny_biomoe.batch.study_table import open_study
from tiny_biomoe.cli import finetune as commands
from tiny_biomoe.cli import commands as lazy
from tiny_biomoe.cli.main import main
from tiny_biomoe.config import Recipe
from tiny_biomoe.errors import MissingExtra
from tiny_biomoe.train.classifier import TrainedClassifier
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
        made / "told.csv",
    )
    assert code == 0
    assert "12 samples classified" in out
    assert "macro accuracy" in out
    with open(made / "told.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert (rows[0]["subject"], rows[0]["label"], rows[0]["start"], rows[0]["stop"]) == ("P0", "calm", "0.0", "8.0")
    classifier = TrainedClassifier.load(made / "classifier")
    stretches, _ = cut_study(open_study(made / "study.csv"), None, Recipe(), label="stress", group="who")
    expected = classifier.predict_proba(classifier.draw(stretches.windows))
    told = np.array([[float(row["p(calm)"]), float(row["p(stressed)"])] for row in rows])
    assert np.allclose(told, expected, atol=1e-6)
    assert [row["predicted"] for row in rows] == [classifier.classes[i] for i in expected.argmax(1)]


def test_predict_goes_on_past_a_bad_file_and_says_so(made, run, tmp_path):
    study = write_study(tmp_path, 2)
    (tmp_path / "p0_eda.csv").write_text("EDA\n1\nx\n")
    code, out, err = run("predict", made / "classifier", study, "--group", "who", "-o", tmp_path / "told.csv")
    assert code == 2
    assert "p0_eda.csv" in err
    assert "2 samples classified" in out
    assert "2 inputs or samples failed" in out


def test_predict_leaves_unknown_labels_empty_and_its_inputs_alone(made, run, tmp_path):
    study = write_study(tmp_path, 1)
    before = study.read_bytes()
    ask = "predict", made / "classifier", study, "--group", "who", "--label", "unknown", "-o"
    assert run(*ask, tmp_path / "told.csv")[0] == 0
    with open(tmp_path / "told.csv") as file:
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
    level, _ = cut_study(study, ["bvp"], Recipe(), Cutting(scale="recording"), label="stress", group="who")
    assert level.windows[0]["bvp"].limits == level.windows[1]["bvp"].limits


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
    with pytest.raises(ConfigError, match="p0_eda.csv: the row has no 'label'"):
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
    with pytest.raises(ConfigError, match="unknown scale 'person'"):
        Cutting(scale="person")
    assert Cutting(**json.loads(json.dumps(Cutting(window=4.0).to_dict()))) == Cutting(window=4.0)
