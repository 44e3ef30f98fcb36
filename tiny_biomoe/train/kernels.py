"""How often a window agrees with each of 126 small patterns, as further targets beside its descriptors.

After MiniRocket (Dempster, Schmidt and Webb, 2021): a pattern has nine taps, three of weight 2 and six of weight -1,
spread over the window by a dilation, and what is kept of a convolution is the share of instants at which it exceeds a
bias. Linear models on such shares read many kinds of signals well, so a vector that holds them is worth having.
Dilations are shares of the window and biases multiples of its spread: nothing depends on rate, offset or gain.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..signals import Signal

LONGEST = 512  # points; longer windows are averaged down to no more
TAPS = 9
DILATIONS = 1 / (16.0 * 2 ** np.arange(6))  # shares of the window
BIASES = (-0.5, 0.0, 0.5, 1.5)  # standard deviations, taken in turn
PATTERNS = list(combinations(range(TAPS), 3))[::4]  # every fourth of the 84 ways to place the three taps of weight 2
COUNT = len(DILATIONS) * len(PATTERNS)


def kernel_shares(signal: Signal) -> NDArray[np.float32]:
    """Share of instants at which each pattern is exceeded, of a window that is not flat: (n_samples,) to (126,)."""
    step = -(-signal.size // LONGEST)
    points = np.add.reduceat(signal, np.arange(0, signal.size - step + 1, step)) / step
    points = (points - points.mean()) / max(float(points.std()), 1e-300)
    shares: list[float] = []
    for share in DILATIONS:
        dilation = max(1, round(share * points.size))
        padded = np.pad(points, TAPS // 2 * dilation)
        taps = np.stack([padded[tap * dilation : tap * dilation + points.size] for tap in range(TAPS)])
        every = taps.sum(0)
        for first, second, third in PATTERNS:
            agreement = 3 * (taps[first] + taps[second] + taps[third]) - every
            shares.append(float((agreement > BIASES[len(shares) % len(BIASES)]).mean()))
    return np.array(shares, np.float32)
