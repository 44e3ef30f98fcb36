"""Facts of a window that can be computed from its samples, as targets beside the labels.

A label says one thing of a window, and few windows fit into an hour; 32 facts that the image must contain teach the
network to read it. Their weight is `Objectives.descriptors`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from tiny_biomoe.images.representations import Band
from tiny_biomoe.signals.request import Limits
from tiny_biomoe.signals.validation import Signal

BANDS = 12  # log-spaced, across the band that the image shows
SEGMENTS = 6  # of the window, in time
COUNT = BANDS + SEGMENTS + 14
FLOOR = 1e-6  # of a share of power, before its logarithm


def describe(signal: Signal, fs: float, band: Band, limits: Limits | None = None) -> NDArray[np.float32]:
    """Describe one filtered window that is not flat: (n_samples,) to (32,), each number of the order of 1.

    In order: log10 share of power in 12 bands; log10 share of power in 6 segments of time; log centroid and entropy
    of the spectrum; skewness, kurtosis, crest; sign changes and mean absolute slope; lag and height of the highest
    peak of the autocorrelation, of the signal and of the energy of its slope; the slope of its trend; and its mean and
    log spread as shares of the range that its image spans. Only these two depend on the signal's offset and gain, and
    only where `limits` are given.
    """
    x = (signal - signal.mean()) / max(signal.std(), 1e-300)
    power = np.abs(fft.rfft(x * np.hanning(x.size))) ** 2
    frequency = np.arange(power.size) * fs / x.size
    edges = np.geomspace(band[0], band[1], BANDS + 1)
    in_band = power * ((frequency >= band[0]) & (frequency <= band[1]))
    share = in_band / max(in_band.sum(), 1e-300)
    bands = np.histogram(frequency, edges, weights=share)[0]
    segments = np.array([np.mean(part**2) for part in np.array_split(x, SEGMENTS)]) / SEGMENTS
    octave = np.asarray(np.log2(np.maximum(frequency, band[0]) / band[0]))
    entropy = -np.sum(share * np.log(share + 1e-12)) / np.log(max(2.0, float(np.count_nonzero(in_band))))
    slope = np.diff(x)
    shape = [np.cbrt(np.mean(x**3)), np.log(np.mean(x**4)), np.log(np.abs(x).max())]
    motion = [
        np.log(float(np.mean(np.signbit(x[1:]) ^ np.signbit(x[:-1]))) + 1e-3),
        np.log(np.abs(slope).mean() + 1e-3),
    ]
    trend = np.polyfit(np.linspace(-1, 1, x.size), x, 1)[0]
    return np.concatenate(
        [
            np.log10(bands + FLOOR), np.log10(segments + FLOOR), [share @ octave, entropy], shape, motion,
            _rhythm(x, fs, band), _rhythm(slope**2, fs, band), [trend], _level(signal, limits),
        ]
    ).astype(np.float32)  # fmt: skip


def lagged_products(x: Signal) -> NDArray[np.float64]:
    """Sum of the products of samples `lag` apart, for lags 0, 1, ...: (n_samples,) to (n_samples,)."""
    length = fft.next_fast_len(2 * x.size, real=True)
    return np.asarray(fft.irfft(np.abs(fft.rfft(x, length)) ** 2, length)[: x.size])


def _level(signal: Signal, limits: Limits | None) -> list[float]:
    low, high = limits if limits is not None else (signal.min(), signal.max())
    return [
        float(np.clip((signal.mean() - low) / (high - low), -1, 2)),
        float(np.log(signal.std() / (high - low) + 1e-3)),
    ]


def _rhythm(x: Signal, fs: float, band: Band) -> list[float]:
    """Log lag, in periods of the band's geometric mean, and height of the highest peak of the autocorrelation."""
    correlation = lagged_products(x - x.mean())[: x.size // 2]
    correlation = correlation / max(correlation[0], 1e-300)
    below = np.flatnonzero(correlation < 0)
    if below.size == 0:
        return [np.log(x.size / 2 / fs * np.sqrt(band[0] * band[1])), 0.0]
    first = int(below[0])
    lag = first + int(correlation[first:].argmax())
    return [float(np.log(lag / fs * np.sqrt(band[0] * band[1]))), float(correlation[lag])]
