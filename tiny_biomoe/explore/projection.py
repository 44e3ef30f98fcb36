"""Vectors to two dimensions: UMAP where umap-learn is installed and windows are enough, principal components else."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..errors import ConfigError, unknown
from .folder import quiet

METHODS = ("auto", "umap", "pca")
NEIGHBOURS = 15  # of each window, itself included, that UMAP keeps together
FEWEST = 100  # windows; UMAP of fewer shows chance rather than structure
BLOCK = 1024  # windows whose neighbours are looked for at once
EXACT = 20_000  # windows up to which all pairs are compared: less than the minute that pynndescent takes to compile


@dataclass(frozen=True)
class Projection:
    """Points of a map."""

    points: NDArray[np.float32]  # (n, 2)
    method: str  # "UMAP" or "PCA"
    remark: str  # why it is PCA, for people; empty otherwise
    neighbours: NDArray[np.int64]  # (n, k), the nearest of each window, itself first; k = 0 where none were asked for
    distances: NDArray[np.float32]  # (n, k), cosine distances


def project(
    vectors: NDArray[np.float32], seed: int = 0, method: str = "auto", *, neighbours: bool = False
) -> Projection:
    """Project vectors, (n, 192); the same seed gives the same points.

    Parameters
    ----------
    method
        "umap" (cosine distance; McInnes et al. 2018), "pca" (of vectors of unit length), or "auto": UMAP where
        umap-learn is installed and there are 100 windows at least.
    neighbours
        Give the neighbours as well, which UMAP looks for anyway and which cost time beside PCA.

    Raises
    ------
    ConfigError
        "umap" without umap-learn, or with fewer windows than it needs.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    installed = importlib.util.find_spec("umap") is not None
    remark = ""
    if not installed:
        remark = 'umap-learn is not installed: pip install "tiny-biomoe[explore]"'
    elif len(vectors) < FEWEST:
        remark = f"{len(vectors)} windows are too few for UMAP, which needs {FEWEST}"
    if method == "umap" and remark:
        raise ConfigError(f"method='umap': {remark}, or choose 'pca'")
    if method != "pca" and not remark:
        return _umap(vectors, seed)
    found = _exact_neighbours(vectors) if neighbours else _no_neighbours(len(vectors))
    return Projection(principal_components(vectors), "PCA", remark if method == "auto" else "", *found)


def _umap(vectors: NDArray[np.float32], seed: int) -> Projection:
    with tqdm(total=2, desc="loading UMAP", delay=2, leave=False, disable=quiet()) as bar:
        from umap import UMAP

        bar.set_description("neighbours")
        found = _exact_neighbours(vectors) if len(vectors) <= EXACT else _close_neighbours(vectors, seed)
        bar.update()
        bar.set_description("projecting")
        with warnings.catch_warnings():  # without an index, new vectors cannot be put into the map; none are
            warnings.filterwarnings("ignore", "precomputed_knn", UserWarning)
            reducer = UMAP(
                n_neighbors=NEIGHBOURS, metric="cosine", random_state=seed, n_jobs=1, precomputed_knn=found,
                tqdm_kwds={"desc": "projecting", "delay": 2, "leave": False, "disable": quiet()},
            )  # fmt: skip
            points = reducer.fit_transform(vectors)
        bar.update()
    if not np.isfinite(points).all():
        raise ConfigError("UMAP gave no finite points for these vectors: choose method='pca'")
    return Projection(points.astype(np.float32), "UMAP", "", found[0].astype(np.int64), found[1].astype(np.float32))


def principal_components(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first two principal components of vectors scaled to length 1, (n, 2); the largest loading is positive.

    >>> principal_components(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)).shape
    (3, 2)
    """
    unit = to_unit(vectors)
    unit -= unit.mean(axis=0)
    _, axes = np.linalg.eigh((unit.T @ unit).astype(np.float64))
    chosen = axes[:, [-1, -2]]
    chosen *= np.where(chosen[np.abs(chosen).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)
    return np.asarray(unit @ chosen, np.float32)


def to_unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors scaled to length 1, those of zeros left as they are."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    norms[norms == 0] = 1.0
    return np.asarray(vectors / norms)


def _no_neighbours(n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    return np.empty((n, 0), np.int64), np.empty((n, 0), np.float32)


def _close_neighbours(vectors: NDArray[np.float32], seed: int) -> tuple[Any, ...]:
    """Nearest neighbours of many vectors by pynndescent, a few in a hundred of which are not the nearest."""
    from umap.umap_ import nearest_neighbors

    random = np.random.RandomState(seed)
    found: tuple[Any, ...] = nearest_neighbors(
        vectors, NEIGHBOURS, "cosine", {}, True, random, low_memory=True, use_pynndescent=True, n_jobs=1
    )
    return found


def _exact_neighbours(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    unit, k = to_unit(vectors), min(NEIGHBOURS, len(vectors))
    numbers, distances = np.empty((len(unit), k), np.int64), np.empty((len(unit), k), np.float32)
    for start in tqdm(range(0, len(unit), BLOCK), "neighbours", delay=2, leave=False, disable=quiet()):
        similarity = unit[start : start + BLOCK] @ unit.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = 2.0  # itself first
        best = np.sort(np.argpartition(-similarity, k - 1, axis=1)[:, :k], axis=1)
        order = np.argsort(-np.take_along_axis(similarity, best, 1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, 1)
        numbers[start : start + BLOCK] = best
        distances[start : start + BLOCK] = np.clip(1.0 - np.take_along_axis(similarity, best, 1), 0.0, 2.0)
    return numbers, distances
