"""What one would use instead of an embedding: features of a window's samples, of each modality side by side.

Every extractor sees the same filtered windows as the network does. `pip install -e ".[bench]"` brings their packages.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft, stats

from benchmarks.datasets import Dataset
from benchmarks.protocol import Features, Fitted
from tiny_biomoe.config import Recipe
from tiny_biomoe.errors import need
from tiny_biomoe.signals.filters import passband

BANDS = 6  # log-spaced, of the spectrum's shares
TSFEL_RATE = 4.0  # Hz, the lowest for which TSFEL's own names of features stay distinct; slower signals are called this
HYDRA_WINDOWS = 32  # convolved at a time
KERNELS = 10_000  # of MiniRocket, its authors' number; it makes 9 996 of them
WAVELETS = 8  # of scattering, an octave of its first order


def hand(dataset: Dataset) -> Features:
    """What a textbook of these signals lists: level, spread, shape, slope, changes, spectrum and rhythm."""
    return side_by_side(hand_made, dataset)


def hand_made(windows: NDArray[np.float64], fs: float, band: tuple[float, float]) -> Features:
    """Hand-made features of windows of one modality: (n, n_samples) to (n, 30)."""
    n = windows.shape[1]
    centred = windows - windows.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1)
    unit = centred / np.where(deviation > 0, deviation, 1.0)[:, None]
    changes = np.diff(windows, axis=1) * fs  # units a second
    quartiles = np.percentile(windows, [5, 25, 50, 75, 95], axis=1)
    level = [windows.mean(axis=1), windows.min(axis=1), windows.max(axis=1), *quartiles]
    spread = [deviation, np.ptp(windows, axis=1), quartiles[3] - quartiles[1], np.log(deviation + 1e-9)]
    shape = [(unit**3).mean(axis=1), (unit**4).mean(axis=1)]
    slope = centred @ (np.arange(n) - (n - 1) / 2) / ((np.arange(n) - (n - 1) / 2) ** 2).sum() * fs
    motion = [slope, changes.mean(axis=1), changes.std(axis=1), np.abs(changes).mean(axis=1), changes.max(axis=1)]
    signs = np.diff(np.signbit(centred), axis=1).sum(axis=1) / n * fs
    return np.column_stack([*level, *spread, *shape, *motion, signs, *_spectrum(unit, fs, band), *_rhythm(unit, fs)])


def _spectrum(unit: NDArray[np.float64], fs: float, band: tuple[float, float]) -> list[NDArray[np.float64]]:
    """Shares of power in log-spaced bands, the strongest frequency, the mean frequency, the entropy."""
    power = np.abs(fft.rfft(unit * np.hanning(unit.shape[1]), axis=1)) ** 2
    frequency = np.arange(power.shape[1]) * fs / unit.shape[1]
    share = power / np.maximum(power.sum(axis=1, keepdims=True), 1e-12)
    which = np.digitize(frequency, np.geomspace(band[0], band[1], BANDS + 1)[1:-1])
    bands = [share[:, which == index].sum(axis=1) for index in range(BANDS)]
    entropy = np.asarray(stats.entropy(share + 1e-12, axis=1))
    return [*bands, frequency[power.argmax(axis=1)], share @ frequency, entropy]


def _rhythm(unit: NDArray[np.float64], fs: float) -> list[NDArray[np.float64]]:
    """Lag in seconds and height of the highest peak of the autocorrelation after its first zero."""
    n = unit.shape[1]
    spectrum = fft.rfft(unit, fft.next_fast_len(2 * n, real=True), axis=1)
    correlation = fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, : n // 2] / n
    after = np.maximum.accumulate(correlation < 0, axis=1)
    beyond = np.where(after, correlation, -np.inf)
    found = after.any(axis=1)
    lag = np.where(found, beyond.argmax(axis=1), n // 2)
    return [lag / fs, np.where(found, beyond.max(axis=1), 0.0)]


def catch22(dataset: Dataset) -> Features:
    """The 22 canonical features (Lubba et al. 2019), with mean and deviation, which their package adds on request."""
    need("pycatch22", extra="bench", what="catch22")
    import pycatch22

    def extract(windows: NDArray[np.float64], fs: float, band: tuple[float, float]) -> Features:
        return np.array([pycatch22.catch22_all(window.tolist(), catch24=True)["values"] for window in windows])

    return side_by_side(extract, dataset)


def tsfel(dataset: Dataset) -> Features:
    """All statistical, temporal and spectral features of TSFEL (Barandas et al. 2020)."""
    need("tsfel", extra="bench", what="TSFEL")
    import tsfel as package

    wanted: dict[str, object] = {}
    for domain in ("statistical", "temporal", "spectral"):
        wanted |= package.get_features_by_domain(domain)

    def extract(windows: NDArray[np.float64], fs: float, band: tuple[float, float]) -> Features:
        rows = [
            package.time_series_features_extractor(wanted, window, fs=max(fs, TSFEL_RATE), verbose=0)
            for window in windows
        ]
        return np.concatenate([row.to_numpy(np.float64) for row in rows])

    return side_by_side(extract, dataset)


def minirocket(dataset: Dataset) -> Fitted:
    """MiniRocket (Dempster et al. 2021): its thresholds are taken from the training rows of each fold."""
    need("aeon", extra="bench", what="MiniRocket")
    from aeon.transformations.collection.convolution_based import MiniRocket

    series = {modality: dataset.matrix(modality)[:, None].astype(np.float32) for modality in dataset.modalities}

    def fitted(training: NDArray[np.intp]) -> Features:
        parts = []
        for x in series.values():
            rocket = MiniRocket(n_kernels=KERNELS, random_state=0, n_jobs=1).fit(x[training])
            parts.append(np.asarray(rocket.transform(x), np.float32))
        return np.concatenate(parts, axis=1)

    return fitted


def multirocket_hydra(dataset: Dataset) -> Fitted:
    """MultiRocket and Hydra side by side (Dempster et al. 2023).

    MultiRocket's thresholds are taken from the training rows of each fold. Hydra takes nothing from them, so it is
    computed once, for few windows at a time: they are convolved side by side, 20 MiB for each of 4 000 samples.
    """
    need("aeon", extra="bench", what="MultiRocket-Hydra")
    from aeon.transformations.collection.convolution_based import HydraTransformer, MultiRocket

    series = {modality: dataset.matrix(modality)[:, None].astype(np.float32) for modality in dataset.modalities}

    def hydra(x: NDArray[np.float32]) -> Features:
        transformer = HydraTransformer(random_state=0, n_jobs=1).fit(x[:2])  # of which it takes the shape alone
        parts = np.array_split(x, -(-len(x) // HYDRA_WINDOWS))
        return np.concatenate([np.asarray(transformer.transform(part), np.float32) for part in parts])

    hydras = {modality: hydra(x) for modality, x in series.items()}

    def fitted(training: NDArray[np.intp]) -> Features:
        parts = []
        for modality, x in series.items():
            rocket = MultiRocket(random_state=0, n_jobs=1).fit(x[training])
            parts += [np.asarray(rocket.transform(x), np.float32), hydras[modality]]
        return np.concatenate(parts, axis=1)

    return fitted


def scattering(dataset: Dataset) -> Features:
    """Logarithms of the means over time of a scattering transform of two orders (Andén and Mallat 2014)."""
    need("kymatio", extra="bench", what="scattering")
    # kymatio.numpy imports its three-dimensional part as well, which asks SciPy for a function that is gone
    from kymatio.scattering1d.frontend.numpy_frontend import ScatteringNumPy1D

    def extract(windows: NDArray[np.float64], fs: float, band: tuple[float, float]) -> Features:
        octaves = max(1, int(np.log2(windows.shape[1])) - 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the longest wavelets reach beyond the window's edges
            transform = ScatteringNumPy1D(J=octaves, shape=windows.shape[1], Q=WAVELETS)
            coefficients = np.concatenate([transform(part) for part in np.array_split(windows, -(-len(windows) // 64))])
        means = np.abs(coefficients).mean(axis=2)
        return np.asarray(np.log(means + 1e-6 * np.abs(windows).max()))

    return side_by_side(extract, dataset)


Extractor = Callable[[NDArray[np.float64], float, tuple[float, float]], Features]


def side_by_side(extract: Extractor, dataset: Dataset) -> Features:
    """Features of every modality, one modality after another; what is undefined of a window (flat, mostly) is 0."""
    parts = []
    for modality, fs in dataset.fs.items():
        band = passband(fs, modality, Recipe()).shown(dataset.seconds)
        with np.errstate(all="ignore"):
            parts.append(extract(dataset.matrix(modality), fs, band))
    return np.nan_to_num(np.concatenate(parts, axis=1), nan=0.0, posinf=0.0, neginf=0.0)


BASELINES: dict[str, Callable[[Dataset], Features | Fitted]] = {
    "hand-made": hand,
    "catch22": catch22,
    "TSFEL": tsfel,
    "scattering": scattering,
    "MiniRocket": minirocket,
    "MultiRocket-Hydra": multirocket_hydra,
}
FITTED = ("MiniRocket", "MultiRocket-Hydra")  # to the training rows of each fold
TOGETHER = ("hand-made", "catch22", "TSFEL")  # one baseline more: these three side by side
