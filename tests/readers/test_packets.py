"""Times of packets: even again, and holes where samples were lost, against the times at which they were sampled."""

from __future__ import annotations

import numpy as np
import pytest

from tiny_biomoe.readers.packets import even_times


def arrivals(rng, fs: float, n: int, packet: int, delay: float, lost: tuple[int, int] = (0, 0)) -> tuple:
    """True times of `n` samples, some lost, and the times at which their packets of one stamp each arrived."""
    true = np.delete(np.arange(n) / fs, np.s_[lost[0] : lost[1]])
    stamps = np.empty_like(true)
    for start in range(0, true.size, packet):
        last = true[start : start + packet][-1]
        stamps[start : start + packet] = last + rng.exponential(delay)
    return true, np.maximum.accumulate(stamps)


@pytest.mark.parametrize(("fs", "packet", "delay"), [(250, 2, 0.002), (130, 73, 0.02), (64, 10, 0.01), (15, 3, 0.05)])
@pytest.mark.parametrize("known", [True, False])
def test_samples_are_spread_over_their_packets(rng, fs, packet, delay, known):
    true, stamps = arrivals(rng, fs, 20 * fs, packet, delay)
    times = even_times(stamps, fs if known else None)
    assert np.diff(times).max() == pytest.approx(1 / fs, rel=0.005)
    assert np.diff(times).min() == pytest.approx(1 / fs, rel=0.005)
    assert np.abs(times - true).max() < 3 * delay


@pytest.mark.parametrize(("fs", "packet", "lost"), [(250, 2, 25), (130, 13, 40), (64, 8, 16), (4, 1, 4)])
def test_lost_samples_are_a_hole_of_their_length(rng, fs, packet, lost):
    true, stamps = arrivals(rng, fs, 60 * fs, packet, 0.004, (fs * 30, fs * 30 + lost))
    times = even_times(stamps, fs)
    steps = np.diff(times)
    assert np.flatnonzero(steps > 1.5 / fs).tolist() == [fs * 30 - 1]
    assert steps.max() == pytest.approx((lost + 1) / fs, abs=0.5 / fs)
    assert np.abs(times - true).max() < 0.03


def test_a_delay_that_is_made_up_for_is_no_hole(rng):
    true = np.arange(6400) / 64
    stamps = true.copy()
    stamps[3000:3020] = true[3020]  # twenty samples come together, late
    stamps += rng.uniform(0, 0.01, stamps.size)
    assert np.diff(even_times(stamps, 64)).max() < 1.2 / 64


def test_even_times_are_left_alone(rng):
    true = np.arange(1000) / 4 + rng.uniform(0, 0.01, 1000)
    gap = np.delete(true, np.s_[500:540])
    for stamps in (true, gap, true[:3], np.array([0.0, np.nan, 1, 2, 3])):
        assert even_times(stamps, 4) is stamps


def test_times_of_no_even_sensor_are_left_alone(rng):
    stamps = np.cumsum(rng.exponential(2.0, 400))
    assert even_times(stamps) is stamps
