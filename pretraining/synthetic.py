"""Windows that nobody recorded: rhythms, drifts and events, drawn at random over the whole range of each modality.

The first archives held ECG, EMG and EEG, and nothing as slow as breathing or as bare as a tonic skin conductance; of
that, few people are recorded still.
A made window is a sum of a few rhythms, whose rate and height wander and whose wave may be far from a sine; of noise
with a power law; and of sudden rises that decay, as those of skin conductance.
"""

from __future__ import annotations

import numpy as np

from tiny_biomoe.signals.validation import Signal

RHYTHMS = 3  # at most
HARMONICS = 5
EVENTS = 4.0  # on average, in windows that hold any


def made_window(n_samples: int, cycles: tuple[float, float], rng: np.random.Generator) -> Signal:
    """A window of `n_samples`, of no unit, whose rhythms come `cycles` times in it (least, most)."""
    signal = 10 ** rng.uniform(-1.5, 0.5) * _coloured_noise(n_samples, rng.uniform(0, 2), rng)
    for _ in range(int(rng.integers(RHYTHMS + 1))):
        signal = signal + 10 ** rng.uniform(-0.7, 0.3) * _rhythm(n_samples, np.exp(rng.uniform(*np.log(cycles))), rng)
    if rng.random() < 0.3:
        signal = signal + 10 ** rng.uniform(-0.3, 0.7) * _events(n_samples, rng)
    return signal


def _rhythm(n_samples: int, count: float, rng: np.random.Generator) -> Signal:
    """A wave that comes about `count` times; its rate wanders by a third at most, the logarithm of its height
    with a spread of a half at most.

    Harmonics that the sampling rate does not hold are left out.
    """
    phase = np.cumsum(1 + np.clip(10 ** rng.uniform(-2.5, -0.5) * _wander(n_samples, rng), -1 / 3, 1 / 3))
    phase *= 2 * np.pi * count / n_samples
    steep = rng.uniform(1, 4)  # harmonics fall by this power
    wave = np.zeros(n_samples)
    for harmonic in range(1, 1 + max(1, min(HARMONICS, int(n_samples / 2 / (4 / 3 * count))))):
        wave += harmonic**-steep * np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi))
    return wave * np.exp(rng.uniform(0, 0.5) * _wander(n_samples, rng)) * np.sqrt(2)


def _wander(n_samples: int, rng: np.random.Generator) -> Signal:
    """A smooth path of mean 0 and spread 1, of a few turns."""
    knots = rng.standard_normal(int(rng.integers(3, 13)))
    path = np.interp(np.linspace(0, knots.size - 1, n_samples), np.arange(knots.size), knots)
    return (path - path.mean()) / max(path.std(), 1e-12)


def _coloured_noise(n_samples: int, exponent: float, rng: np.random.Generator) -> Signal:
    """Noise of spread 1 whose power falls with frequency by `exponent`."""
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    spectrum[1:] *= np.arange(1, spectrum.size) ** (-exponent / 2)
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, n_samples)
    return noise / max(noise.std(), 1e-12)


def _events(n_samples: int, rng: np.random.Generator) -> Signal:
    """Sudden rises of spread 1 in all, each with its decay, anywhere in the window."""
    time = np.linspace(0, 1, n_samples)
    signal = np.zeros(n_samples)
    for _ in range(1 + int(rng.poisson(EVENTS - 1))):
        since = np.maximum(time - rng.uniform(-0.2, 1), 0)
        rise, decay = 10 ** rng.uniform(-2.5, -1), 10 ** rng.uniform(-1.5, 0)
        signal += rng.lognormal(0, 0.7) * np.exp(-since / decay) * -np.expm1(-since / rise)
    return signal / max(signal.std(), 1e-12)
