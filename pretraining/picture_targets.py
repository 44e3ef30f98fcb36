"""What a window looks like in time and frequency, as targets: whatever image was shown, the vector must hold this one.

Published probes of frozen encoders, and our own, lose what only the place of a peak says where a network averages its
last maps over frequency. A linear decoder that must draw the window from its one vector cannot lose it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tiny_biomoe.config import IMAGE_SIZE, Recipe
from tiny_biomoe.images.representations import Band, scalogram
from tiny_biomoe.signals.validation import Signal

FREQUENCIES = 24  # of the coarse picture, log-spaced over the band that images show
TIMES = 40
ROWS = 112  # fine rows, log-spaced, whose mean and spread over time are learnt
PICTURE = FREQUENCIES * TIMES
COUNT = PICTURE + 2 * ROWS
FLOOR = 0.01  # of the largest magnitude, before logarithms: 40 dB below it


def picture(signal: Signal, fs: float, band: Band, recipe: Recipe) -> NDArray[np.float32]:
    """Draw one filtered window that is not flat coarsely, and its rows finely: (n_samples,) to (1184,).

    In order, low frequencies first: log10 of the wavelet transform's magnitude over its largest, averaged over 24
    frequencies x 40 times; the mean over time of the same on 112 fine rows; and their spread over time. The numbers do
    not depend on the signal's offset and gain and lie between -2 and 0 (spreads between 0 and 1).
    """
    x = (signal - signal.mean()) / max(signal.std(), 1e-300)
    magnitude = scalogram(x, fs, band, recipe)[::-1]  # (224 rising frequencies, 224 instants)
    levels = np.log10(magnitude / max(magnitude.max(), 1e-300) + FLOOR)
    coarse = averages(FREQUENCIES) @ levels @ averages(TIMES).T
    rows = levels.reshape(ROWS, -1, IMAGE_SIZE).mean(1)
    return np.concatenate([coarse.ravel(), rows.mean(1), rows.std(1)]).astype(np.float32)


def averages(parts: int) -> NDArray[np.float64]:
    """Weights that average 224 numbers over `parts` equal stretches, whose borders may cut a number: (parts, 224)."""
    edges = np.linspace(0, IMAGE_SIZE, parts + 1)[:, None]
    index = np.arange(IMAGE_SIZE)
    overlap = np.minimum(edges[1:], index + 1) - np.maximum(edges[:-1], index)
    return np.clip(overlap, 0, 1) * (parts / IMAGE_SIZE)
