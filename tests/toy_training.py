"""What the tests of training share: a network of the same kind but tiny, and samples that are easy to tell apart."""

from __future__ import annotations

import numpy as np
import torch

from tiny_biomoe import Architecture, Recipe, TinyBioMoE
from tiny_biomoe.train.augment import NONE
from tiny_biomoe.train.drawing import Window, draw_samples
from tiny_biomoe.train.samples import Samples
from tiny_biomoe.train.settings import Settings

TINY = Architecture(
    spectral_widths=(2, 2, 2, 8), spectral_mlp_ratios=(1, 1, 1, 1), spectral_heads=(0, 0, 0, 1), stem_width=1,
    waterfall_widths=(8, 8, 8), waterfall_heads=(1, 1, 1), waterfall_key_dim=1, waterfall_kernels=(1,),
)  # fmt: skip
QUICK = Settings(
    epochs=2, batch_size=4, learning_rate=3e-3, warmup=0.0, cooldown=0.0, dropout=(0.3, 0.1), augmentation=NONE
)


def tiny(seed: int = 0) -> TinyBioMoE:
    """The network with as few channels as it can have."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TinyBioMoE(TINY, name="tiny").eval()


def beats(fast: bool, seed: int, fs: float = 64.0) -> Window:
    """Eight seconds of a pulse, slow or fast."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(8 * fs)) / fs
    return Window(np.sin(2 * np.pi * (1.5 if fast else 0.5) * t + seed) + 0.05 * rng.standard_normal(t.size), fs)


def sweat(high: bool, seed: int) -> Window:
    """Eight seconds of skin conductance, with one rise or with many."""
    t = np.arange(64) / 8
    rng = np.random.default_rng(seed)
    return Window((np.sin(2 * np.pi * t) if high else t) + 0.02 * rng.standard_normal(t.size), 8.0)


def toy_samples(people: int = 6, views: tuple[tuple[str, str], ...] = (("bvp", "waveform"),), **options) -> Samples:
    """One calm and one stressed sample a person."""
    pairs = [(person, stressed) for person in range(people) for stressed in (False, True)]
    windows = [
        {"bvp": beats(stressed, 10 * person + stressed), "eda": sweat(stressed, 10 * person + stressed)}
        for person, stressed in pairs
    ]
    labels = ["stress" if stressed else "calm" for _, stressed in pairs]
    subjects = [f"P{person}" for person, _ in pairs]
    sources = [f"P{person} {'stress' if stressed else 'calm'}" for person, stressed in pairs]
    return draw_samples(windows, labels, subjects, views, Recipe(), sources=sources, **options)
