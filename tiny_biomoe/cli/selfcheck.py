"""Is this machine good? The shipped signals must give the shipped vectors."""

from __future__ import annotations

import numpy as np

from ..embedding import Embedder
from ..images.representations import REPRESENTATIONS
from ..signals.filters import MODALITIES
from ..weights.loading import BUNDLED

# Of numbers whose spread is 0.9. Measured: other vector instructions (SSE, AVX2) move a number by up to 2e-6; one pixel
# an image whose level rounds to the other side, as another mathematics library may do, by up to 5e-4. A machine that
# computed in bfloat16 would be off by 5e-2.
TOLERANCE = 1e-3


def shipped_signals() -> dict[str, tuple[np.ndarray, float]]:  # type: ignore[type-arg]
    """A short synthetic signal a modality, (n_samples,), and its rate in Hz, made by rule rather than stored."""
    rng = np.random.RandomState(20251123)  # the generator whose stream never changes between versions
    signals = {}
    for name in MODALITIES:
        fs, seconds, pitch = {"emg": (1000.0, 2.0, 80.0), "eeg": (128.0, 8.0, 10.0), "ecg": (250.0, 8.0, 1.2)}.get(
            name, (64.0, 20.0, 0.25)
        )
        t = np.arange(round(seconds * fs)) / fs
        beats = sum(np.cos(2 * np.pi * pitch * k * t) / k for k in range(1, 6))
        signals[name] = (beats + 0.3 * t / seconds + 0.05 * rng.standard_normal(t.size), fs)
    return signals


def vectors(model: Embedder) -> np.ndarray:  # type: ignore[type-arg]
    """The shipped signals' embeddings: (7 modalities * 6 representations, 192)."""
    rows = [
        model.embed(signal, fs, modality, list(REPRESENTATIONS)).reshape(len(REPRESENTATIONS), -1)
        for modality, (signal, fs) in shipped_signals().items()
    ]
    return np.concatenate(rows)


def largest_difference(model: Embedder) -> float:
    """Largest absolute difference between what the bundled model computes here and what was shipped."""
    with np.load(BUNDLED / "selfcheck.npz") as shipped:
        expected = shipped["vectors"]
    return float(np.abs(vectors(model) - expected).max())
