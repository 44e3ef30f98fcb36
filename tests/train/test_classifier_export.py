"""The exported classifier: its head is in the file, for any batch, with views that are missing."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
import torch
from toy_training import QUICK, tiny, toy_samples

from tiny_biomoe import ConfigError
from tiny_biomoe.train.classifier_export import classifier_to_onnx, run_classifier
from tiny_biomoe.train.finetuning import finetune

VIEWS = (("bvp", "waveform"), ("eda", "psd"))
HEAD = dataclasses.replace(QUICK, part="head", learning_rate=0.1)


def test_row_138_export_of_a_classifier_holds_its_head(run, tmp_path):
    samples = toy_samples(2, VIEWS)
    trained = finetune(tiny(), samples, settings=dataclasses.replace(HEAD, missing="mask", fusion="add"))
    trained.save(tmp_path / "c")
    code, out, err = run("export", "--weights", tmp_path / "c", "-o", tmp_path / "c.onnx")
    assert (code, err) == (0, "")
    assert "the classifier, its head included" in out
    data = (tmp_path / "c.onnx").read_bytes()
    model = onnx.load(tmp_path / "c.onnx")
    assert [each.name for each in model.graph.output] == ["probabilities"]
    facts = {each.key: each.value for each in model.metadata_props}
    assert json.loads(facts["classifier"])["classes"] == ["calm", "stress"]
    present = samples.present.copy()
    present[3, 0] = False
    levels = samples.levels * present[..., None, None]
    gaps = dataclasses.replace(samples, present=present, levels=levels)
    assert np.allclose(run_classifier(data, gaps), trained.predict_proba(gaps), atol=1e-5)
    assert run_classifier(data, gaps.take([0])).shape == (1, 2)


def test_row_138_a_head_that_is_not_exported_says_so(run, tmp_path):
    samples = dataclasses.replace(toy_samples(2), bags=("a", "b", "c", "d"))
    finetune(tiny(), samples, settings=dataclasses.replace(HEAD, level="recording")).save(tmp_path / "c")
    code, _, err = run("export", "--weights", tmp_path / "c", "-o", tmp_path / "c.onnx")
    assert code == 1
    assert "pools the windows of a recording, and such a head is not exported" in err
    assert not (tmp_path / "c.onnx").exists()


def test_a_bag_of_two_labels_is_refused():
    with pytest.raises(ConfigError, match="are of two people or labels"):
        finetune(tiny(), toy_samples(2), settings=dataclasses.replace(HEAD, level="subject"))


def test_row_122_export_is_the_same_whatever_the_process_has_set():
    trained = finetune(tiny(), toy_samples(2), settings=HEAD)
    usual = run_classifier(classifier_to_onnx(trained), toy_samples(2))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            found = classifier_to_onnx(trained)
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(run_classifier(found, toy_samples(2)), usual)
