"""Pictures drawn by PyTorch equal those drawn one by one, for every modality, representation and kind of range."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretraining.device_drawing import interpolation, plan
from pretraining.picture_targets import picture
from tiny_biomoe import Recipe
from tiny_biomoe.images.rendering import draw
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.signals.filters import apply_filter, passband

RECIPE = Recipe()
WINDOWS = [  # modality, rate, samples: short and long, decimated or not, fewer samples than columns or many
    ("eda", 4.0, 32), ("eda", 15.5, 930), ("bvp", 16.0, 96), ("bvp", 64.0, 1280), ("resp", 8.0, 480), ("spo2", 1.0, 16),
    ("spo2", 1.0, 90), ("ecg", 125.0, 3750), ("emg", 200.0, 300), ("emg", 2000.0, 1500), ("eeg", 100.0, 449),
]  # fmt: skip


def some(modality, fs, n_samples, rng, count=3):
    """Filtered windows, what their images span (the last ones given), and the band."""
    edges = passband(fs, modality, RECIPE)
    raw = [3 + np.cumsum(rng.standard_normal(n_samples)) + rng.standard_normal(n_samples) for _ in range(count)]
    filtered = np.stack([apply_filter(x, fs, edges, RECIPE) for x in raw])
    limits = np.full((count, 2), np.nan)
    limits[-1] = filtered[-1].min() - 1.0, filtered[-1].max() - 0.1 * np.ptp(filtered[-1])
    return edges, filtered, limits


@pytest.mark.parametrize(("modality", "fs", "n_samples"), WINDOWS)
@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_levels_differ_by_one_at_most(modality, fs, n_samples, name, rng):
    edges, filtered, limits = some(modality, fs, n_samples, rng)
    drawing = plan(modality, fs, n_samples, RECIPE, "cpu")
    found = drawing.draw(torch.from_numpy(filtered), torch.from_numpy(limits), name)
    assert found.shape == (3, 224, 224)
    assert found.dtype == torch.uint8
    for x, pair, levels in zip(filtered, limits, found.numpy(), strict=True):
        wanted = draw(x, fs, edges, name, RECIPE, None if np.isnan(pair[0]) else tuple(pair))
        differ = np.abs(wanted.astype(int) - levels.astype(int))
        assert differ.max() <= 1
        assert (differ > 0).mean() < 1e-3


@pytest.mark.parametrize(("modality", "fs", "n_samples"), WINDOWS[::3])
def test_the_picture_that_is_learnt_is_the_same(modality, fs, n_samples, rng):
    edges, filtered, _ = some(modality, fs, n_samples, rng)
    found = plan(modality, fs, n_samples, RECIPE, "cpu").picture(torch.from_numpy(filtered)).numpy()
    wanted = np.stack([picture(x, fs, edges.shown(n_samples / fs), RECIPE) for x in filtered])
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 1e-4


def test_a_plan_is_made_once():
    assert plan("resp", 8.0, 200, RECIPE, "cpu") is plan("resp", 8.0, 200, RECIPE, "cpu")


def test_weights_read_as_numpy_interpolates(rng):
    places, at = np.sort(rng.uniform(0, 10, 20)), rng.uniform(-2, 12, 50)
    values = rng.standard_normal(20)
    assert np.allclose(interpolation(at, places) @ values, np.interp(at, places, values))
