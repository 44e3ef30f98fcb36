"""The scikit-learn transformer: scikit-learn's own checks, clones, pipelines, searches, and pickles without weights."""

from __future__ import annotations

import pickle
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from torch.nn import functional
from toy_training import beats, tiny

from tiny_biomoe import ConfigError, SignalError, TinyBioMoE, WeightsError, estimators
from tiny_biomoe.estimators import TinyBioMoEEmbedder

LENGTH = 64  # samples of a stretched signal


class Stretched(TinyBioMoEEmbedder):
    """The transformer on the checks' two or three features drawn out to a signal of 64 samples.

    It differs in nothing else, so that the checks say something of every other line.
    """

    def _validated(self, X, reset, nan_policy):
        short = super()._validated(X, reset, nan_policy)
        place = np.linspace(0, short.shape[1] - 1, LENGTH)
        return (
            np.stack([np.interp(place, np.arange(short.shape[1]), row) for row in short]) + np.arange(LENGTH) / LENGTH
        )


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    tiny().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def signals():
    """Twelve signals, slow and fast by turns."""
    return np.stack([beats(bool(i % 2), i).signal for i in range(12)])


def embedder(kind=TinyBioMoEEmbedder, **options):
    return kind(fs=100, modality="ecg", representation="waveform", scale=(-1e3, 1e3), **options)


@lru_cache(maxsize=1)
def pooling():
    """A model whose network is a mean over 16 parts of the image: the checks embed some thousand signals."""
    model = tiny()
    model.forward = lambda pixels: functional.adaptive_avg_pool2d(pixels[:, :1], 4).flatten(1)
    return model


# Checks whose data are of one to three features: as signals they last less than two periods of anything.
TOO_SHORT = (
    "check_dict_unchanged", "check_dont_overwrite_parameters", "check_dtype_object", "check_estimators_dtypes",
    "check_estimators_fit_returns_self", "check_estimators_nan_inf", "check_estimators_overwrite_params",
    "check_estimators_pickle", "check_f_contiguous_array_estimator", "check_fit2d_1feature", "check_fit2d_1sample",
    "check_fit2d_predict1d", "check_fit_check_is_fitted", "check_fit_idempotent", "check_fit_score_takes_y",
    "check_methods_sample_order_invariance", "check_methods_subset_invariance", "check_n_features_in",
    "check_n_features_in_after_fitting", "check_pipeline_consistency", "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input", "check_transformer_data_not_an_array", "check_transformer_general",
)  # fmt: skip


def test_the_checks_of_scikit_learn_pass_but_for_those_of_three_samples(monkeypatch):
    monkeypatch.setattr(estimators, "_model", lambda *_: pooling())
    expected = dict.fromkeys(TOO_SHORT, "its signals have one to ten samples, too few to draw: refused by name")
    results = check_estimator(embedder(), expected_failed_checks=expected, on_fail=None, on_skip=None)
    assert [row["check_name"] for row in results if row["status"] == "failed"] == []
    refused = [row for row in results if row["status"] == "xfail"]
    assert {row["check_name"] for row in refused} <= set(TOO_SHORT)
    reasons = [f"{row['exception']} {row['exception'].__cause__}" for row in refused]
    assert [reason for reason in reasons if "too short for" not in reason] == []


def test_those_checks_pass_too_where_their_signals_are_drawn_out(monkeypatch):
    monkeypatch.setattr(estimators, "_model", lambda *_: pooling())
    results = check_estimator(embedder(Stretched), on_fail=None, on_skip=None)
    failed = {row["check_name"]: str(row["exception"]) for row in results if row["status"] == "failed"}
    assert failed == {}
    assert set(TOO_SHORT) <= {row["check_name"] for row in results if row["status"] == "passed"}


def test_it_gives_what_embed_gives_with_names(weights, signals):
    views = ["waveform", "psd"]
    estimator = TinyBioMoEEmbedder(64, "bvp", views, weights=weights).fit(signals)
    expected = TinyBioMoE.from_pretrained(weights).embed(signals, 64, "bvp", views)
    assert estimator.transform(signals).tobytes() == expected.tobytes()
    names = estimator.get_feature_names_out()
    assert (len(names), names[0], names[-1]) == (32, "waveform_0", "psd_15")
    added = TinyBioMoEEmbedder(64, "bvp", views, fusion="add", weights=weights).fit(signals)
    assert added.get_feature_names_out().tolist() == [f"waveform+psd_{i}" for i in range(16)]
    assert added.transform(signals).shape == (12, 16)
    assert estimator.provenance_["representation"] == views


def test_rows_have_the_names_of_encoder_row_and_channel(weights, signals):
    estimator = TinyBioMoEEmbedder(64, "bvp", "psd", readout="rows", weights=weights).fit(signals)
    expected = TinyBioMoE.from_pretrained(weights).embed(signals, 64, "bvp", "psd", readout="rows")
    assert estimator.transform(signals).tobytes() == expected.tobytes()
    names = estimator.get_feature_names_out()
    assert (len(names), len(set(names))) == (7 * 8 + 4 * 8, 7 * 8 + 4 * 8)
    assert [names[0], names[8], names[56], names[-1]] == [
        "psd_encoder1_row0_0", "psd_encoder1_row1_0", "psd_encoder2_row0_0", "psd_encoder2_row3_7",
    ]  # fmt: skip
    assert estimator.provenance_["readout"] == "rows"


def test_set_output_gives_a_table_with_those_names(weights, signals):
    frame = TinyBioMoEEmbedder(64, "bvp", weights=weights).set_output(transform="pandas").fit_transform(signals)
    assert isinstance(frame, pandas.DataFrame)
    assert frame.columns[3] == "scalogram_3"


def test_set_output_is_there_and_refuses_what_it_does_not_know(weights, signals):
    estimator = TinyBioMoEEmbedder(64, "bvp", weights=weights).set_output(transform="default").fit(signals)
    assert estimator.transform(signals).dtype == np.float32
    with pytest.raises(ValueError, match="output config must be in"):
        TinyBioMoEEmbedder(64, "bvp").set_output(transform="tables").fit_transform(signals)


def test_a_pipeline_is_searched_over_representations(weights, signals):
    labels = np.arange(12) % 2
    pipeline = make_pipeline(TinyBioMoEEmbedder(64, "bvp", weights=weights), LogisticRegression())
    grid = {"tinybiomoeembedder__representation": ["waveform", ["waveform", "psd"]]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(signals, labels)
    assert search.predict(signals).shape == (12,)
    assert search.best_params_["tinybiomoeembedder__representation"] in grid["tinybiomoeembedder__representation"]


def test_a_clone_has_the_arguments_and_is_not_fitted(weights, signals):
    fitted = TinyBioMoEEmbedder(64, "bvp", ["psd"], fusion="add", weights=weights).fit(signals)
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "provenance_")
    with pytest.raises(ValueError, match="not fitted"):
        copy.transform(signals)


def test_a_pickle_holds_no_weights_and_refuses_others(weights, signals, tmp_path):
    estimator = TinyBioMoEEmbedder(64, "bvp", weights=weights).fit(signals)
    data = pickle.dumps(estimator)
    assert len(data) < 4000
    assert pickle.loads(data).transform(signals).tobytes() == estimator.transform(signals).tobytes()
    tiny().save_pretrained(tmp_path)
    moved = TinyBioMoEEmbedder(64, "bvp", weights=str(tmp_path)).fit(signals)
    tiny(seed=1).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="fit again, or bring back the weights"):
        moved.transform(signals)


def test_row_125_a_weights_folder_saved_anew_gives_the_new_weights(signals, tmp_path):
    vectors = []
    for seed in (0, 1):
        tiny(seed).save_pretrained(tmp_path)
        vectors.append(TinyBioMoEEmbedder(64, "bvp", "waveform", weights=str(tmp_path)).fit_transform(signals[:2]))
        expected = tiny(seed).embed(signals[:2], 64, "bvp", "waveform")
        assert np.allclose(vectors[-1], expected, atol=1e-5)
    assert not np.allclose(*vectors, atol=1e-3)


def test_row_136_parameters_set_after_fit_count_from_the_next_fit_on(weights, signals):
    estimator = TinyBioMoEEmbedder(64, "bvp", "waveform", weights=weights).fit(signals)
    before, names, provenance = estimator.transform(signals), estimator.get_feature_names_out(), estimator.provenance_
    estimator.set_params(fs=32, band=None, representation=["psd", "angle"], fusion="add", nan_policy="interpolate")
    assert estimator.transform(signals).tobytes() == before.tobytes()
    assert estimator.get_feature_names_out().tolist() == names.tolist()
    assert estimator.provenance_ == provenance
    again = estimator.fit(signals)
    assert again.provenance_["fs"] == 32
    assert again.get_feature_names_out()[0] == "psd+angle_0"


def test_a_revision_is_for_the_hub(weights, signals):
    with pytest.raises(WeightsError, match="revision='main' is for the Hub"):
        TinyBioMoEEmbedder(64, "bvp", weights=weights, revision="main").fit(signals)


def test_a_search_embeds_each_signal_once_whatever_the_folds_and_the_classifier(weights, signals, monkeypatch):
    embedded, embed = [], TinyBioMoE.embed
    monkeypatch.setattr(
        TinyBioMoE, "embed", lambda self, rows, *a, **k: (embedded.append(len(rows)), embed(self, rows, *a, **k))[1]
    )
    signals = signals * 1.5  # which no other test embeds
    pipeline = make_pipeline(TinyBioMoEEmbedder(64, "bvp", ["waveform", "psd"], weights=weights), LogisticRegression())
    grid = {"logisticregression__C": [0.1, 1.0, 10.0]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(signals, np.arange(12) % 2)
    assert sum(embedded) == 12
    alone = TinyBioMoEEmbedder(64, "bvp", ["waveform", "psd"], weights=weights, cache=False).fit(signals)
    assert search.best_estimator_[0].transform(signals).tobytes() == alone.transform(signals).tobytes()
    assert sum(embedded) == 24
    shifted = TinyBioMoEEmbedder(64, "bvp", ["waveform", "psd"], band=None, weights=weights).fit(signals)
    shifted.transform(signals[:2])
    assert sum(embedded) == 26  # other arguments are other vectors


def test_the_vectors_that_are_kept_are_bounded_and_the_oldest_go_first():
    kept = estimators.VectorsKept(limit=3 * 16)
    rows = np.arange(16, dtype=np.float32).reshape(4, 4)
    kept.put([b"a", b"b", b"c"], rows[:3])
    assert kept.get([b"a"])[0].tolist() == [0, 1, 2, 3]
    kept.put([b"d"], rows[3:])
    assert [row is None for row in kept.get([b"a", b"b", b"c", b"d"])] == [False, True, False, False]
    assert kept.size == 48


def test_signals_are_validated_as_embed_does(weights, signals):
    import torch

    def fitted(X):
        return TinyBioMoEEmbedder(64, "bvp", "waveform", weights=weights).fit(X)

    with pytest.raises(ValueError, match="dim 3"):
        fitted(signals[None])
    with pytest.raises(ValueError, match=r"inhomogeneous|ragged|length"):
        fitted([signals[0], signals[1][:300]])
    with pytest.raises(SignalError, match="masked array"):
        fitted(np.ma.masked_array(signals, signals > 5))
    tensor = torch.tensor(signals, requires_grad=True)
    expected = fitted(signals).transform(signals[:2])
    assert fitted(tensor).transform(tensor[:2]).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"fs": None}, SignalError, "fs is missing"),
        ({"modality": None}, ConfigError, "modality is missing"),
        ({"modality": "edaa"}, ConfigError, "did you mean 'eda'"),
        ({"representation": "spectrum"}, ConfigError, "unknown representation"),
        ({"fs": 1000}, SignalError, "too short"),
        ({"batch_size": 0}, ConfigError, "batch_size=0"),
    ],
)
def test_arguments_are_checked_in_fit_and_never_before(weights, signals, change, error, message):
    estimator = TinyBioMoEEmbedder(**{"fs": 64, "modality": "bvp", "weights": weights, **change})
    with pytest.raises(error, match=message):
        estimator.fit(signals)


def test_missing_samples_are_refused_or_interpolated(weights, signals):
    signals[3, 10:12] = np.nan
    with pytest.raises(SignalError, match='contains NaN(?s:.*)nan_policy="interpolate".*max_gap='):
        TinyBioMoEEmbedder(64, "bvp", weights=weights).fit(signals)
    estimator = TinyBioMoEEmbedder(64, "bvp", nan_policy="interpolate", weights=weights)
    assert np.isfinite(estimator.fit_transform(signals)).all()


def test_the_extra_asks_for_the_first_scikit_learn_that_has_tags_and_validate_data():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    (bound,) = re.findall(r'^sklearn = \["scikit-learn>=(\d+)\.(\d+)"\]', text, re.MULTILINE)
    assert tuple(map(int, bound)) >= (1, 6)


def test_tensors_that_numpy_cannot_take_are_read_as_embed_reads_them():
    signals = torch.tensor(np.random.default_rng(0).standard_normal((2, 500)), dtype=torch.bfloat16, requires_grad=True)
    lazy = torch.complex(torch.zeros(2, 500), -signals.detach().float()).conj().imag
    expected = TinyBioMoEEmbedder(100, "ecg").fit_transform(signals.detach().float().numpy())
    for given in (signals, lazy):
        assert TinyBioMoEEmbedder(100, "ecg").fit_transform(given).tobytes() == expected.tobytes()
