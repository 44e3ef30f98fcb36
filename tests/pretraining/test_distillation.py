"""What other features say: principal components, and rows of maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretraining.distillation import components, minirocket, rows_of_maps
from tiny_biomoe import Config
from tiny_biomoe.network.network import Network


@pytest.mark.parametrize(("n", "p"), [(200, 5), (40, 300)])
def test_components_have_length_one_and_tell_windows_apart_as_features_do(rng, n, p):
    hidden = rng.standard_normal((n, 3))
    features = (hidden @ rng.standard_normal((3, p)) * 7 + 2).astype(np.float32)
    found = components(features)(features)
    assert found.shape == (n, 256)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(n), abs=1e-5)
    assert np.abs(found[:, 3:]).max() == 0  # three numbers make all of them
    read = np.linalg.lstsq(found[:, :3] * np.linalg.norm(hidden, axis=1)[:, None], hidden, rcond=None)[0]
    assert np.isfinite(read).all()
    first, second = components(features), components(features)
    assert np.array_equal(first(features[:7]), second(features)[:7])


def test_the_first_component_counts_more_but_not_by_its_whole_spread(rng):
    scores = rng.standard_normal((2000, 2))
    features = np.column_stack([scores[:, 0]] * 16 + [scores[:, 1]]).astype(np.float32)
    found = components(features)(features)
    ratio = np.abs(found[:, 0]) / np.abs(found[:, 1]).clip(1e-6)
    expected = np.abs(scores[:, 0]) / np.abs(scores[:, 1]) * 2  # spreads of 4 and 1: their roots
    assert np.median(ratio / expected) == pytest.approx(1, rel=0.1)


def test_rows_of_maps_are_those_of_the_second_reading():
    torch.manual_seed(0)
    network = Network(Config()).eval()
    from pretraining.stages import early_maps
    from tiny_biomoe.inference.torch_backend import to_pixels

    levels = torch.randint(0, 256, (2, 224, 224), dtype=torch.uint8)
    with torch.inference_mode():
        grids, maps = early_maps(network, levels)
        expected = network.encode(to_pixels(levels, "cpu"), rows=True)["rows"].numpy()
    assert np.allclose(rows_of_maps(network, grids.numpy(), maps.numpy()), expected, atol=1e-4)


def test_minirocket_gives_shares_of_each_window(rng):
    pytest.importorskip("aeon")
    waves = rng.standard_normal((6, 1024)).astype(np.float16)
    found = minirocket(waves)(waves[:2])
    assert found.shape == (2, 9996)
    assert 0 <= found.min() <= found.max() <= 1
