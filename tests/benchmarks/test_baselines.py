"""What the bench compares with: shapes, meaning, and that nothing undefined comes out."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import baselines
from benchmarks.datasets import Dataset, Window

FS = {"eda": 4.0, "bvp": 64.0}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Twelve windows of 10 s, the pulse of the second class twice as fast, one window flat in EDA."""
    rng = np.random.default_rng(0)
    windows = []
    for i in range(12):
        pulse = np.sin(2 * np.pi * (0.5 + 0.5 * (i % 2)) * np.arange(640) / 64 + i)
        eda = np.full(40, 3.0) if i == 5 else 2 + 0.01 * i + 0.1 * rng.standard_normal(40)
        limits = {"eda": (1.0, 3.0), "bvp": (-1.0, 1.0)}
        windows.append(Window({"eda": eda, "bvp": pulse}, limits, i % 2, f"p{i // 2}", 10.0 * i))
    return Dataset("made", 10.0, FS, ("slow", "fast"), tuple(windows))


def test_hand_made_features_say_what_they_are_called():
    t = np.arange(640) / 64
    windows = np.stack([3 + 2 * np.sin(2 * np.pi * 0.8 * t), 3 + 0.5 * t, np.full(640, 7.0)])
    x = baselines.hand_made(windows, 64.0, (0.1, 5.0))
    assert x.shape == (3, 31)
    assert np.isfinite(x).all()
    mean, low, high = x[:, :3].T
    np.testing.assert_allclose([mean[0], low[0], high[0]], [3, 1, 5], atol=0.01)
    assert x[1, 14] == pytest.approx(0.5)  # slope, units a second
    assert x[0, 26] == pytest.approx(0.8, abs=0.05)  # strongest frequency, Hz
    assert x[0, 29] == pytest.approx(1 / 0.8, abs=0.05)  # lag of the rhythm, s
    assert x[2, 8] == 0  # deviation of a flat window


def check(x, dataset, columns):
    assert x.shape == (12, columns)
    assert np.isfinite(x).all()


def test_hand(dataset):
    check(baselines.hand(dataset), dataset, 62)


def test_catch22(dataset):
    pytest.importorskip("pycatch22")
    x = baselines.catch22(dataset)
    check(x, dataset, 48)
    np.testing.assert_allclose(x[:, 22], dataset.matrix("eda").mean(axis=1))  # the mean follows the 22


def test_tsfel(dataset):
    pytest.importorskip("tsfel")
    x = baselines.tsfel(dataset)
    assert x.shape[0] == 12
    assert x.shape[1] > 200
    assert np.isfinite(x).all()


def test_minirocket_takes_its_thresholds_from_training_rows(dataset):
    pytest.importorskip("aeon")
    fitted = baselines.minirocket(dataset)
    first, second = fitted(np.arange(6)), fitted(np.arange(6, 12))
    assert first.shape == (12, 2 * 9996)
    assert (first != second).any()
    np.testing.assert_array_equal(first, fitted(np.arange(6)))


def test_multirocket_is_fitted_to_training_rows_and_hydra_to_none(dataset, monkeypatch):
    pytest.importorskip("aeon")
    at_once = baselines.multirocket_hydra(dataset)(np.arange(6))
    monkeypatch.setattr(baselines, "HYDRA_WINDOWS", 5)  # of twelve
    fitted = baselines.multirocket_hydra(dataset)
    first = fitted(np.arange(6))
    assert first.shape[0] == 12
    assert first.shape[1] > 2 * 49_000
    np.testing.assert_array_equal(first, at_once)
    other = fitted(np.arange(6, 12))
    assert (first != other).any()
    np.testing.assert_array_equal(first[:, -3000:], other[:, -3000:])  # Hydra's of the last modality


def test_scattering_tells_a_slow_pulse_from_a_fast_one():
    pytest.importorskip("kymatio")
    rng = np.random.default_rng(0)
    pulses = [
        np.sin(2 * np.pi * (0.5 + 0.5 * (i % 2)) * np.arange(640) / 64 + i) + 0.05 * rng.standard_normal(640)
        for i in range(12)
    ]
    windows = [Window({"bvp": x}, {"bvp": (-1.0, 1.0)}, i % 2, f"p{i}", 0.0) for i, x in enumerate(pulses)]
    x = baselines.scattering(Dataset("made", 10.0, {"bvp": 64.0}, ("slow", "fast"), tuple(windows)))
    assert x.shape == (12, 176)
    assert np.isfinite(x).all()
    distances = np.abs(x[:, None] - x).mean(axis=2) + np.diag(np.full(12, np.inf))
    assert (distances.argmin(axis=1) % 2 == np.arange(12) % 2).all()  # the nearest is of the same pace
