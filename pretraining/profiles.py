"""Where a window's power lies, finely, in frequency, lag and time: targets where `descriptors` are too coarse.

Rates differ by less than one of the descriptors' 12 bands: 16 from 18 breaths a minute by a sixth of an octave. What is
read of a rate must therefore be asked for at that resolution, and apart from the smooth shape of the spectrum, which
makes up most of its variance and is easily learnt.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from pretraining.descriptors import lagged_products
from tiny_biomoe.images.representations import Band
from tiny_biomoe.signals.validation import Signal

BANDS = 40  # log-spaced, across the band that the image shows: 12 an octave of respiration
SMOOTH = 9  # bands, that the smooth part of a spectrum is averaged over
LAGS = 24  # log-spaced, from a quarter of the band's shortest period to four of its middle ones
SEGMENTS = 24  # of the window, in time
COUNT = BANDS + LAGS + SEGMENTS
FLOOR = 1e-4  # of a share of power, before its logarithm
LONGEST_LAG = 0.6  # of the window; of longer ones too little is left to correlate
POINTS = 4096  # of the spectrum, at least, so that narrow bands are interpolated


def spectrum_shares(signal: Signal, fs: float, band: Band) -> NDArray[np.float32]:
    """Share of each of 40 log-spaced bands in a window's power, of a window that is not flat: (n_samples,) to (40,)."""
    x = signal - signal.mean()
    power = np.abs(fft.rfft(x * np.hanning(x.size), max(x.size, POINTS))) ** 2
    step = fs / max(x.size, POINTS)
    summed = np.concatenate([[0.0], np.cumsum(power)])  # up to half a step below each frequency
    edges = np.geomspace(band[0], min(band[1], fs / 2), BANDS + 1)
    shares = np.diff(np.interp(edges / step + 0.5, np.arange(summed.size), summed))
    return (shares / max(shares.sum(), 1e-300)).astype(np.float32)


def profile(signal: Signal, fs: float, band: Band, shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Describe one filtered window that is not flat finely: (n_samples,) to (88,), each number of the order of 1.

    `shares` are its `spectrum_shares`. In order: log10 share of power in 40 bands less its average over nine;
    autocorrelation at 24 lags; log10 share of power in 24 segments of time.
    """
    x = (signal - signal.mean()) / max(signal.std(), 1e-300)
    levels = np.log10(shares + FLOOR)
    smooth = np.convolve(np.pad(levels, SMOOTH // 2, mode="edge"), np.full(SMOOTH, 1 / SMOOTH), "valid")
    correlation = lagged_products(x) / np.arange(x.size, 0, -1)
    lags = np.geomspace(0.25 / band[1], 4 / np.sqrt(band[0] * band[1]), LAGS) * fs
    heights = np.interp(np.minimum(lags, LONGEST_LAG * x.size), np.arange(x.size), correlation)
    ends = np.linspace(0, x.size, SEGMENTS + 1)
    energy = np.diff(np.interp(ends, np.arange(x.size + 1), np.concatenate([[0.0], np.cumsum(x**2)]))) / x.size
    return np.concatenate([levels - smooth, np.clip(heights, -1.5, 1.5), np.log10(energy + FLOOR)]).astype(np.float32)
