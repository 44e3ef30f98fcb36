"""The shares of MiniRocket-like patterns: by hand, and what they do not depend on."""

from __future__ import annotations

import numpy as np
import pytest

from tiny_biomoe.train import kernels
from tiny_biomoe.train.kernels import BIASES, COUNT, DILATIONS, PATTERNS, kernel_shares


def test_one_pattern_by_hand():
    x = np.random.default_rng(0).standard_normal(64)
    z = (x - x.mean()) / x.std()
    dilation, number = max(1, round(DILATIONS[0] * 64)), 3
    weights = np.full(9, -1.0)
    weights[list(PATTERNS[number])] = 2
    padded = np.pad(z, 4 * dilation)
    sums = [sum(weights[tap] * padded[i + tap * dilation] for tap in range(9)) for i in range(64)]
    assert kernel_shares(x)[number] == pytest.approx(np.mean(np.array(sums) > BIASES[number % len(BIASES)]))


def test_neither_offset_nor_gain_changes_them():
    x = np.random.default_rng(1).standard_normal(300).cumsum()
    np.testing.assert_allclose(kernel_shares(x), kernel_shares(5 + 3 * x), atol=2 / 300)


def test_a_pattern_and_the_signal_upside_down_disagree():
    x = np.random.default_rng(2).standard_normal(300).cumsum() ** 2
    assert np.abs(kernel_shares(x) - kernel_shares(-x)).max() > 0.1


@pytest.mark.parametrize("n", [16, 511, 512, 513, 5000])
def test_any_length_gives_shares(n):
    shares = kernel_shares(np.sin(np.arange(n) / 7))
    assert shares.shape == (COUNT,)
    assert 0 <= shares.min() < shares.max() <= 1


def test_long_windows_are_averaged_first():
    x = np.random.default_rng(3).standard_normal(4 * kernels.LONGEST)
    assert kernel_shares(x).tobytes() == kernel_shares(x.reshape(-1, 4).mean(1)).tobytes()
