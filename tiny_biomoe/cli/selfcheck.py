"""`tiny-biomoe selfcheck`: signals made by rule must give the bundled images and vectors."""

from __future__ import annotations

from itertools import cycle

import click
import numpy as np
from numpy.typing import NDArray

from ..config import IMAGE_SIZE
from ..embedding import Embedder, SignalEmbedding
from ..images.rendering import render
from ..images.representations import REPRESENTATIONS
from ..inference.backends import BACKENDS
from ..signals.filters import MODALITIES
from ..weights.loading import BUNDLED

# Of numbers whose spread is 0.9. Measured: other vector instructions (SSE, AVX2) move a number by up to 2e-6; one pixel
# an image whose level rounds to the other side, as another mathematics library may do, by up to 5e-4. A machine that
# computed in bfloat16 would be off by 5e-2.
TOLERANCE = 1e-3
BLOCK = 8  # pixels a side, whose sum is compared
LEVELS = 0.5  # of the mean of a block's pixels, three colours together: nine pixels that round to the other side


def shipped_signals() -> dict[str, tuple[NDArray[np.float64], float]]:
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


def pictures() -> NDArray[np.uint16]:
    """Their images: (7 modalities * 6 representations, 28, 28), sums over the colours of 8 x 8 pixels."""
    drawn = [
        render(signal, fs, modality, representation)
        for modality, (signal, fs) in shipped_signals().items()
        for representation in REPRESENTATIONS
    ]
    side = IMAGE_SIZE // BLOCK
    blocks = np.reshape(drawn, (len(drawn), side, BLOCK, side, BLOCK * 3))
    return blocks.sum(axis=(2, 4), dtype=np.uint16)


def vectors(model: SignalEmbedding) -> NDArray[np.float32]:
    """The embedding of one image a modality, (7, 192); each representation is among them."""
    chosen = zip(shipped_signals().items(), cycle(REPRESENTATIONS), strict=False)
    return np.stack([model.embed(signal, fs, modality, kind) for (modality, (signal, fs)), kind in chosen])


def differences(model: SignalEmbedding) -> tuple[float, float]:
    """How far this machine is from what was shipped: levels of a block of pixels, and numbers of a vector."""
    with np.load(BUNDLED / "selfcheck.npz") as shipped:
        blocks, expected = shipped["pictures"].astype(float), shipped["vectors"]
    levels = np.abs(pictures() - blocks).max() / BLOCK**2
    return float(levels), float(np.abs(vectors(model) - expected).max())


@click.command()
@click.option("--backend", type=click.Choice(BACKENDS), help="Check this one; the one that `embed` uses otherwise.")
def selfcheck(backend: str | None) -> None:
    """Draw and embed signals made by rule and compare with what was shipped: is this machine good?"""
    model = Embedder.from_pretrained(backend=backend)
    levels, difference = differences(model)
    good = levels <= LEVELS and difference <= TOLERANCE
    verdict = "this machine is good" if good else "NOT GOOD: do not trust its vectors"
    click.echo(f"computed by: {model.backend.program or 'PyTorch'}")
    click.echo(f"images: largest difference {levels:.2g} levels, tolerance {LEVELS:.2g}")
    click.echo(f"vectors: largest difference {difference:.1e}, tolerance {TOLERANCE:.0e}: {verdict}")
    if not good:
        raise SystemExit(1)
