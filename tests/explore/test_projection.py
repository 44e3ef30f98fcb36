"""Vectors to two dimensions: what lies together stays together, and the same seed gives the same map."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from tiny_biomoe import ConfigError
from tiny_biomoe.explore import projection
from tiny_biomoe.explore.projection import NEIGHBOURS, principal_components, project

needs_umap = pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="umap-learn is not installed")


@pytest.fixture
def clusters(rng):
    """Three directions, 60 vectors of 192 numbers around each, of many lengths."""
    centres = np.repeat(rng.standard_normal((3, 192)), 60, axis=0)
    vectors = (centres + 0.3 * rng.standard_normal((180, 192))) * rng.uniform(0.1, 10, (180, 1))
    return vectors.astype(np.float32)


def apart(points) -> bool:
    """Whether each point is nearer to the middle of its own cluster than to those of the others."""
    middles = np.stack([points[start : start + 60].mean(axis=0) for start in (0, 60, 120)])
    nearest = np.linalg.norm(points[:, None] - middles, axis=2).argmin(axis=1)
    return bool((nearest == np.repeat([0, 1, 2], 60)).all())


@needs_umap
def test_umap_keeps_clusters_and_repeats_itself(clusters):
    found, again = project(clusters, 3, neighbours=True), project(clusters, 3)
    assert (found.method, found.remark) == ("UMAP", "")
    assert found.points.shape == (180, 2)
    assert apart(found.points)
    assert found.points.tobytes() == again.points.tobytes()
    assert not np.allclose(found.points, project(clusters, 4).points)
    assert found.neighbours.shape == (180, NEIGHBOURS)
    assert (found.neighbours[:, 0] == np.arange(180)).all()
    assert (found.neighbours // 60 == np.repeat([0, 1, 2], 60)[:, None]).all()


@needs_umap
def test_neighbours_of_many_windows_are_pynndescents(clusters, monkeypatch):
    """It stands in for itself here: what it compiles takes a minute."""
    from umap import umap_

    asked = []

    def nearest_neighbors(x, k, metric, *rest, use_pynndescent, **options):
        asked.append((len(x), k, metric, use_pynndescent))
        return *projection._exact_neighbours(x), None

    exact = project(clusters, 3, neighbours=True)
    monkeypatch.setattr(umap_, "nearest_neighbors", nearest_neighbors)
    monkeypatch.setattr(projection, "EXACT", 179)
    many = project(clusters, 3, neighbours=True)
    assert asked == [(180, NEIGHBOURS, "cosine", True)]
    assert many.points.tobytes() == exact.points.tobytes()
    assert (many.neighbours == exact.neighbours).all()


def test_principal_components_are_those_of_the_covariance(clusters):
    found = project(clusters, method="pca", neighbours=True)
    assert (found.method, found.remark) == ("PCA", "")
    unit = clusters / np.linalg.norm(clusters, axis=1, keepdims=True)
    u, s, _ = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found.points), np.abs(u[:, :2] * s[:2]), atol=1e-4)
    assert apart(found.points)
    similarity = unit.astype(np.float64) @ unit.T.astype(np.float64)
    expected = np.argsort(-similarity, axis=1)[:, :NEIGHBOURS]
    assert (found.neighbours == expected).mean() > 0.99
    np.testing.assert_allclose(found.distances, 1 - np.take_along_axis(similarity, found.neighbours, 1), atol=1e-5)


def test_few_windows_are_projected_by_principal_components_and_it_says_so(clusters):
    found = project(clusters[:99])
    assert found.method == "PCA"
    assert found.remark == "99 windows are too few for UMAP, which needs 100"
    with pytest.raises(ConfigError, match="too few for UMAP"):
        project(clusters[:99], method="umap")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_one_window_is_a_map_too(clusters, n):
    points = principal_components(clusters[:n])
    assert points.shape == (n, 2)
    assert np.isfinite(points).all()


def test_without_umap_learn_it_says_what_to_install(clusters, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = project(clusters)
    assert found.method == "PCA"
    assert 'pip install "tiny-biomoe[explore]"' in found.remark
    with pytest.raises(ConfigError, match="umap-learn is not installed"):
        project(clusters, method="umap")


def test_an_unknown_method_is_refused(clusters):
    with pytest.raises(ConfigError, match="unknown method 'tsne'"):
        project(clusters, method="tsne")
