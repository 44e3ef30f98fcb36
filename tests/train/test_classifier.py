"""The trained classifier: answers, scores, and a folder that is verified when it is read back."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from toy_training import QUICK, beats, sweat, tiny, toy_samples

from tiny_biomoe import ConfigError, SignalError, SignalWarning, TinyBioMoE, WeightsError
from tiny_biomoe.train.classifier import TrainedClassifier
from tiny_biomoe.train.classifier_card import model_card
from tiny_biomoe.train.drawing import Window, draw_samples
from tiny_biomoe.train.finetuning import finetune

VIEWS = (("bvp", "waveform"), ("eda", "psd"))


@pytest.fixture(scope="module")
def samples():
    return toy_samples(4, VIEWS)


@pytest.fixture(scope="module")
def classifier(samples):
    settings = dataclasses.replace(QUICK, epochs=1, missing="mask")
    return finetune(tiny(), samples.take(slice(0, 6)), validation=samples.take([6, 7]), settings=settings)


@pytest.fixture(scope="module")
def saved(classifier, samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "c"
    classifier.save(folder, classifier.evaluate(samples.take([6, 7])))
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy, to be harmed."""
    return shutil.copytree(saved, tmp_path / "c")


def test_probabilities_sum_to_one_and_do_not_depend_on_the_neighbours(classifier, samples):
    every = classifier.predict_proba(samples)
    assert every.shape == (8, 2)
    assert np.allclose(every.sum(1), 1)
    alone = np.concatenate([classifier.predict_proba(samples.take([i]), batch_size=1) for i in range(8)])
    assert alone.tobytes() == every.tobytes()
    assert classifier.predict(samples).tolist() == [classifier.classes[i] for i in every.argmax(1)]


def test_it_draws_what_it_looks_at(classifier):
    drawn = classifier.draw([{"bvp": beats(True, 3)}], sources=["a.csv"])
    assert drawn.views == classifier.views
    assert drawn.present.tolist() == [[True, False]]
    assert classifier.predict(drawn).shape == (1,)
    strict = dataclasses.replace(classifier, model=finetune(tiny(), toy_samples(2, VIEWS), settings=QUICK).model)
    with pytest.raises(SignalError, match=r"a.csv lacks a view: leave it out"):
        strict.predict(drawn)


def test_views_are_found_by_name_and_strangers_refused(classifier, samples):
    turned = toy_samples(4, (*VIEWS[::-1], ("bvp", "psd")))
    assert np.array_equal(classifier.predict_proba(turned), classifier.predict_proba(samples))
    with pytest.raises(ConfigError, match="unknown view 'eda/psd'"):
        classifier.predict(toy_samples(2, VIEWS[:1]))


def test_a_sample_without_any_of_its_views_is_refused_by_name_and_not_left_out(classifier):
    turned = toy_samples(4, (*VIEWS[::-1], ("resp", "psd")), missing="mask")
    present = turned.present.copy()
    present[5], present[:, 2] = False, True
    blind = dataclasses.replace(turned, present=present)
    for ask in (classifier.predict, classifier.predict_proba, classifier.evaluate):
        with pytest.raises(SignalError, match=r"P2 stress has no image of bvp/waveform, eda/psd, .*: leave it out"):
            ask(blind)
    assert len(classifier.predict(blind.take([0, 7]))) == 2


def test_evaluate_refuses_samples_without_labels_or_with_none_that_was_learnt(classifier, samples):
    with pytest.raises(ConfigError, match="has no label, one of 8 of 8 samples"):
        classifier.evaluate(dataclasses.replace(samples, labels=np.full(8, -1)))
    with pytest.raises(ConfigError, match=r"no label is one that was learnt \(calm, stress\)"):
        classifier.evaluate(dataclasses.replace(samples, classes=("x", "y")))
    with pytest.raises(ConfigError, match="of a regression"):
        classifier.evaluate(dataclasses.replace(samples, labels=np.zeros(8), classes=()))


def test_row_134_labels_that_were_never_learnt_are_left_out_of_the_scores_and_counted(classifier):
    windows = [{"bvp": beats(bool(i % 2), i)} for i in range(4)]
    asked = classifier.draw(windows, ["calm", "stress", "pain", "pain"], list("WXYZ"))
    assert asked.classes == ("calm", "stress", "pain")
    with pytest.warns(SignalWarning, match=r"2 of 4 have a label that was never learnt \(pain\): left out"):
        scores = classifier.evaluate(asked)
    assert scores.classes == ("calm", "stress")
    assert scores.confusion.sum() == 2
    assert "scored on 2 people" in scores.notes[-1]


def test_scores_of_people_that_were_trained_on_say_so(classifier, samples):
    with pytest.warns(
        SignalWarning, match=r"3 of 4 scored people were trained on \(P0, P1, P2\): the scores say nothing"
    ):
        assert "3 of 4 scored people were trained on" in classifier.evaluate(samples).notes[0]
    with pytest.warns(SignalWarning, match="fewer than 5"):
        assert "trained on" not in " ".join(classifier.evaluate(samples.take([6, 7])).notes)


def test_row_130_predictions_come_back_in_the_type_of_the_labels(folder, samples):
    levels = samples.take(slice(0, 4))
    for classes in ((0, 1), (False, True), (0.5, 2.0)):
        numbered = dataclasses.replace(levels, classes=classes)
        trained = finetune(tiny(), numbered, settings=dataclasses.replace(QUICK, epochs=1))
        trained.save(folder)
        loaded = TrainedClassifier.load(folder)
        assert loaded.classes == classes
        assert {type(each) for each in loaded.predict(levels).tolist()} == {type(classes[0])}
    asked = loaded.draw([{"bvp": beats(True, 1), "eda": sweat(True, 1)}], ["2.0"])  # as a table gives it
    assert (asked.classes, asked.labels.tolist()) == ((0.5, 2.0), [1])


def test_row_133_it_draws_as_it_was_trained_and_refuses_other_windows():
    windows = [{"bvp": beats(bool(i % 2), i)} for i in range(4)]
    views = [("bvp", "waveform")]
    samples = draw_samples(windows, list("abab"), list("PPQQ"), views, band=None, scale=(-2, 2), max_missing=0.1)
    trained = finetune(tiny(), samples, settings=dataclasses.replace(QUICK, epochs=1))
    assert trained.drawing.fs == {"bvp": [64.0]}
    assert trained.drawing.seconds == {"bvp": [8.0, 8.0]}
    again = trained.draw(windows)
    assert np.array_equal(again.levels, samples.levels)
    assert not np.array_equal(again.levels, draw_samples(windows, None, list("PPQQ"), views).levels)
    with pytest.raises(ConfigError, match="band= is not to be chosen: the classifier was trained with None"):
        trained.draw(windows, band="modality")
    signal = windows[0]["bvp"].signal
    for window, message in (
        (Window(np.tile(signal, 6), 64), r"lasts 48 s, and what was learnt from 8 s"),
        (Window(signal, 50), "sampled at 50 Hz, and what was learnt from at 64 Hz: resample"),
        (Window(signal, 64, limits=(-1, 1)), r"drawn over \(-1, 1\), and what was learnt from spans \(-2.0, 2.0\)"),
    ):
        with pytest.raises(SignalError, match=message):
            trained.draw([{"bvp": window}])
    gap = signal.copy()
    gap[100:164] = np.nan
    filled = draw_samples([{"bvp": Window(gap, 64)}], None, ["P"], views, nan_policy="interpolate")
    assert filled.present.all()
    with pytest.raises(SignalError, match=r"12% of the samples are missing, more than max_missing=0.1"):
        draw_samples([{"bvp": Window(gap, 64)}], None, ["P"], views, nan_policy="interpolate", max_missing=0.1)


def test_a_folder_of_the_format_before_is_still_read(classifier, samples, folder):
    path = folder / "classifier.json"
    data = json.loads(path.read_text())
    for key in ("drawing", "target", "level", "pooling"):
        del data[key]
    path.write_text(json.dumps({**data, "format": "tiny-biomoe-classifier/1"}))
    old = TrainedClassifier.load(folder)
    assert old.drawing is None
    assert old.predict_proba(samples).tobytes() == classifier.predict_proba(samples).tobytes()


def test_saved_and_loaded_it_answers_the_same(classifier, samples, folder):
    loaded = TrainedClassifier.load(folder)
    assert loaded.predict_proba(samples).tobytes() == classifier.predict_proba(samples).tobytes()
    assert (loaded.views, loaded.classes, loaded.history) == (classifier.views, classifier.classes, classifier.history)
    assert loaded.about["training"]["samples_of_each_class"] == {"calm": 3, "stress": 3}
    assert loaded.about["settings"]["missing"] == "mask"
    loaded.save(folder)
    assert TrainedClassifier.load(folder).predict_proba(samples).tobytes() == loaded.predict_proba(samples).tobytes()


def test_the_folder_holds_a_card_pictures_and_the_embedding_model(classifier, samples, folder):
    card = (folder / "README.md").read_text()
    assert "A classifier of calm, stress" in card
    assert "bvp/waveform, eda/psd, joined by concat" in card
    assert "On 2 samples: macro accuracy" in card  # who they were is known where "tested_on" says it
    about = {**classifier.about, "tested_on": ["P3"]}
    tested = model_card(dataclasses.replace(classifier, about=about), classifier.evaluate(samples))
    assert "On 8 samples of people it had not learnt from: macro accuracy" in tested
    assert "no medical\ndevice" in card
    for name in ("learning_curve.png", "confusion.png"):
        assert Image.open(folder / name).size[0] > 200
    assert json.loads((folder / "evaluation.json").read_text())["classes"] == ["calm", "stress"]
    embedder = TinyBioMoE.from_pretrained(folder)
    assert torch.equal(embedder.gate.weight, classifier.backbone.gate.weight)


def test_saved_again_without_an_evaluation_or_a_history_no_older_one_stays(classifier, folder):
    assert {"evaluation.json", "confusion.png", "learning_curve.png"} <= {path.name for path in folder.iterdir()}
    dataclasses.replace(classifier, history=()).save(folder)
    assert "It was not evaluated." in (folder / "README.md").read_text()
    names = {path.name for path in folder.iterdir()}
    assert not {"evaluation.json", "confusion.png", "learning_curve.png"} & names
    assert {"README.md", "classifier.json", "head.safetensors"} <= names


def test_a_classifier_that_went_wrong_is_not_saved(classifier, tmp_path):
    broken = copy.deepcopy(classifier)
    broken.model.head.bias.data[0] = float("nan")
    with pytest.raises(WeightsError, match="bias"):
        broken.save(tmp_path)
    assert not list(tmp_path.iterdir())


def damage_head(folder):
    path = folder / "head.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def another_head(folder):
    from hashlib import sha256

    data = safetensors.torch.save({"weight": torch.zeros(3, 32), "bias": torch.zeros(3)})
    (folder / "head.safetensors").write_bytes(data)
    describe(folder, head_sha256=sha256(data).hexdigest())


def nan_head(folder):
    from hashlib import sha256

    data = safetensors.torch.save({"weight": torch.full((2, 32), float("nan")), "bias": torch.zeros(2)})
    (folder / "head.safetensors").write_bytes(data)
    describe(folder, head_sha256=sha256(data).hexdigest())


def describe(folder, **change):
    path = folder / "classifier.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damage_head, "its sha256 is .* was stated"),
        (another_head, "shape"),
        (nan_head, "weight holds NaN"),
        (lambda f: (f / "head.safetensors").unlink(), "cannot be read"),
        (lambda f: (f / "classifier.json").unlink(), "cannot be read"),
        (lambda f: (f / "classifier.json").write_text("{"), "cannot be read"),
        (lambda f: describe(f, code="x"), "not a description"),
        (lambda f: describe(f, format="other/1"), "not a description"),
        (lambda f: describe(f, backbone_sha256="0"), "sha256 of the backbone"),
        (lambda f: describe(f, views="bvp"), "not of its kind"),
        (lambda f: describe(f, views=[]), "there is no view"),
        (lambda f: describe(f, level="night"), "drawing, target, level or pooling"),
        (lambda f: describe(f, target={"mean": 1.0}), "drawing, target, level or pooling"),
        (lambda f: describe(f, classes=["a", "b", "c"]), "shape"),
    ],
    ids=["damaged", "row 92", "row 71", "no head", "no description", "no json", "key", "format", "backbone", "views",
         "no view", "level", "target", "classes"],
)  # fmt: skip
def test_a_folder_that_is_not_whole_is_refused(folder, harm, message):
    harm(folder)
    with pytest.raises(WeightsError, match=message):
        TrainedClassifier.load(folder)
