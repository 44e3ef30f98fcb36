"""Pulse and breathing rates of clean windows, estimated where two ways agree and the window is regular."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from pretraining.descriptors import lagged_products
from tiny_biomoe.signals.validation import Signal

RANGES = {"bvp": (0.7, 3.3), "resp": (0.1, 0.7)}  # Hz, of rates that people have
AGREE = 0.05  # largest relative difference of spectrum and autocorrelation
HALVES = 0.2  # largest relative difference of the window's halves
CLEAN = 0.6  # least share of the power in the first two harmonics
NEAR = 0.2  # of the rate: how far from a harmonic its power may lie
HEIGHT = 0.5  # least autocorrelation at one period
POINTS = 2**13  # of the spectrum, at least


def steady_rate(window: Signal, fs: float, modality: str) -> float | None:
    """Rate of a pulse or of breathing, Hz; None where it is not certain.

    Parameters
    ----------
    window : (n_samples,), raw; a few dozen seconds of pulse or respiration, either way up
    fs : Hz
    modality : "bvp" or "resp"

    Examples
    --------
    >>> t = np.arange(480) / 16
    >>> round(steady_rate(np.sin(2 * np.pi * 1.2 * t) + 0.1 * np.cos(t), 16, "bvp"), 2)
    1.2
    >>> steady_rate(np.random.default_rng(0).standard_normal(480), 16, "bvp") is None
    True
    """
    whole = _rate(window, fs, *RANGES[modality])
    if whole is None:
        return None
    half = window.size // 2
    parts = [_peak(part, fs, *RANGES[modality]) for part in (window[:half], window[half:])]
    return whole if all(abs(part / whole - 1) < HALVES for part in parts) else None


def _rate(window: Signal, fs: float, low: float, high: float) -> float | None:
    frequency, power, x = _spectrum(window, fs, low, high)
    rate = _peak(window, fs, low, high)
    correlation = lagged_products(x) / np.arange(x.size, 0, -1)
    lags = np.arange(int(fs / high), min(int(np.ceil(fs / low)) + 1, x.size // 2))
    lag = _top(correlation, lags[(lags * rate / fs > 0.8) & (lags * rate / fs < 1.25)])
    if lag is None or correlation[round(lag)] < HEIGHT * correlation[0] or abs(fs / lag / rate - 1) > AGREE:
        return None
    near = (np.abs(frequency - rate) < NEAR * rate) | (np.abs(frequency - 2 * rate) < NEAR * rate)
    return rate if power[near].sum() > CLEAN * power.sum() else None


def _spectrum(
    window: Signal, fs: float, low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], Signal]:
    """Frequencies, power, and the window, all between 0.7 of the lowest rate and twice the highest."""
    x = window - np.polyval(np.polyfit(np.arange(window.size), window, 1), np.arange(window.size))
    bins = fft.rfft(x)
    frequency = fft.rfftfreq(x.size, 1 / fs)
    bins[(frequency < 0.7 * low) | (frequency > 2 * high)] = 0
    x = fft.irfft(bins, x.size)
    size = max(POINTS, x.size)
    power = np.abs(fft.rfft(x * np.hanning(x.size), size)) ** 2
    return np.arange(power.size) * fs / size, power, x


def _peak(window: Signal, fs: float, low: float, high: float) -> float:
    """Frequency of the highest peak of the spectrum, to a fraction of a bin."""
    frequency, power, _ = _spectrum(window, fs, low, high)
    inside = np.flatnonzero((frequency >= low) & (frequency <= high))
    return float(frequency[inside[power[inside].argmax()]])


def _top(curve: NDArray[np.float64], where: NDArray[np.intp]) -> float | None:
    """Place of the highest point of a curve among some, between samples; None where it rises to their edge."""
    if where.size < 3:
        return None
    top = int(where[curve[where].argmax()])
    before, here, after = curve[top - 1 : top + 2]
    if not before < here > after:
        return None
    return top + 0.5 * float((before - after) / (before - 2 * here + after))
