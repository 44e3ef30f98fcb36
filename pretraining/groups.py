"""Windows in groups of one modality, rate and length, as `device_drawing` draws them; made by worker processes.

Group `index` is a pure function of the seed and the index. It holds filtered windows and what is to be read from them;
the pictures are drawn elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pretraining.batches import ATTEMPTS, DURATIONS, MADE_SAMPLES, Augmentation, vary
from pretraining.descriptors import describe
from pretraining.examples import MADE, PARTS
from pretraining.profiles import profile, spectrum_shares
from pretraining.sources import NO_LABEL, Source
from pretraining.synthetic import made_window
from tiny_biomoe.config import Recipe
from tiny_biomoe.errors import SignalError
from tiny_biomoe.signals.filters import Passband, apply_filter, passband
from tiny_biomoe.signals.validation import Signal, is_flat

LENGTHS = 8  # of windows, of each modality and rate
MADE_LENGTHS = 4  # of made windows, in seconds and likewise in samples
UPRIGHT = ("eda", "spo2")  # whose direction means something; the others are shown either way up


@dataclass(frozen=True)
class Group:
    """Filtered windows of one modality, rate and length."""

    modality: str
    fs: float  # Hz
    filtered: NDArray[np.float64]  # (n, n_samples)
    limits: NDArray[np.float64]  # (n, 2), what images span, in the signal's units; NaN for the window's own range
    sources: NDArray[np.int64]  # (n,), index of the source, or MADE
    labels: NDArray[np.int64]  # (n,), class within the source, or NO_LABEL
    facts: NDArray[np.float32]  # (n, 120), `descriptors.describe` and `profiles.profile`
    spectra: NDArray[np.float32]  # (n, 40)


@dataclass(frozen=True)
class Shape:
    """What the windows of a group have in common."""

    modality: str
    fs: float  # Hz
    n_samples: int
    edges: Passband

    @property
    def band(self) -> tuple[float, float]:
        """That images show, Hz."""
        return self.edges.shown(self.n_samples / self.fs)


Drawn = tuple[Signal, int, int, tuple[float, float]]  # raw window, source, label, limits


class Groups(Dataset[Group]):
    """All groups of a run.

    Parameters
    ----------
    sources : of which people held out are never drawn
    windows : of a group
    """

    def __init__(
        self, sources: Sequence[Source], windows: int, seed: int, augmentation: Augmentation, recipe: Recipe = Recipe()
    ):
        self.sources, self.windows, self.seed = sources, windows, seed
        self.augmentation, self.recipe = augmentation, recipe
        self.odds = [source.odds() for source in sources]
        self.hours = np.sqrt([source.durations[~source.held_out].sum() for source in sources])
        self.longest = [int(np.diff(source.offsets)[~source.held_out].max()) for source in sources]
        self.parts = {name: part for name, part in PARTS.items() if any(s.modality == name for s in sources)}

    def __getitem__(self, index: int) -> Group:
        rng = np.random.default_rng([self.seed, index])
        made = rng.random() < self.augmentation.made_share
        shape, members = self._made_shape(rng) if made else self._shape(rng)
        rows = [self._row(shape, members, rng) for _ in range(self.windows)]
        filtered, limits, sources, labels, facts, spectra = zip(*rows, strict=True)
        return Group(
            shape.modality, shape.fs, np.stack(filtered), np.array(limits), np.array(sources), np.array(labels),
            np.stack(facts), np.stack(spectra),
        )  # fmt: skip

    def _shape(self, rng: np.random.Generator) -> tuple[Shape, list[int]]:
        """Of recorded windows, and the sources that they come from."""
        names = list(self.parts)
        modality = names[rng.choice(len(names), p=np.array(list(self.parts.values())) / sum(self.parts.values()))]
        members = [index for index, source in enumerate(self.sources) if source.modality == modality]
        first = members[rng.choice(len(members), p=self.hours[members] / self.hours[members].sum())]
        source = self.sources[first]
        seconds = np.geomspace(*source.seconds, LENGTHS)[rng.integers(LENGTHS)]
        n_samples = min(round(seconds * source.fs), self.longest[first])
        shape = Shape(modality, source.fs, n_samples, passband(source.fs, modality, self.recipe))
        alike = [i for i in members if self.sources[i].fs == source.fs and self.longest[i] >= n_samples]
        return shape, alike

    def _made_shape(self, rng: np.random.Generator) -> tuple[Shape, list[int]]:
        modality = list(DURATIONS)[rng.integers(len(DURATIONS))]
        seconds = np.geomspace(*DURATIONS[modality], MADE_LENGTHS)[rng.integers(MADE_LENGTHS)]
        n_samples = round(np.geomspace(*MADE_SAMPLES, MADE_LENGTHS)[rng.integers(MADE_LENGTHS)])
        fs = n_samples / seconds
        return Shape(modality, fs, n_samples, passband(fs, modality, self.recipe)), []

    def _row(
        self, shape: Shape, members: list[int], rng: np.random.Generator
    ) -> tuple[Signal, tuple[float, float], int, int, NDArray[np.float32], NDArray[np.float32]]:
        """One window, filtered, and what is to be read from it."""
        for _ in range(ATTEMPTS):
            window, source, label, limits = self._recorded(shape, members, rng) if members else self._made(shape, rng)
            if is_flat(window):
                continue
            try:
                filtered = apply_filter(window, shape.fs, shape.edges, self.recipe)
            except SignalError:
                continue  # nothing of it lies in the band
            spectrum = spectrum_shares(filtered, shape.fs, shape.band)
            own = None if np.isnan(limits[0]) else limits
            facts = describe(filtered, shape.fs, shape.band, own)
            fine = profile(filtered, shape.fs, shape.band, spectrum)
            return filtered, limits, source, label, np.concatenate([facts, fine]), spectrum
        raise SignalError(f"{shape.modality}: {ATTEMPTS} windows in a row cannot be drawn; is the pack damaged?")

    def _recorded(self, shape: Shape, members: list[int], rng: np.random.Generator) -> Drawn:
        which = members[rng.choice(len(members), p=self.hours[members] / self.hours[members].sum())]
        source = self.sources[which]
        sizes = np.diff(source.offsets)
        odds = np.where(sizes >= shape.n_samples, self.odds[which], 0.0)
        index = int(rng.choice(len(source), p=odds / odds.sum()))
        whole = int(sizes[index])
        window = source.cut(index, int(rng.integers(whole - shape.n_samples + 1)), shape.n_samples)
        limits = (np.nan, np.nan)
        if rng.random() < self.augmentation.person_scale_share:
            low, high = np.percentile(source.recording(index)[::8], self.recipe.scale_percentiles)
            limits = (float(low), float(high)) if low < high else limits
        augmentation = self.augmentation
        if shape.modality in UPRIGHT:
            augmentation = replace(augmentation, flip_share=0.0)
        return vary(window, augmentation, rng), which, int(source.labels[index]), limits

    def _made(self, shape: Shape, rng: np.random.Generator) -> Drawn:
        duration = shape.n_samples / shape.fs
        low, high = shape.band
        window = made_window(shape.n_samples, (max(1.0, low * duration), high * duration), rng)
        limits = (np.nan, np.nan)
        if rng.random() < self.augmentation.person_scale_share:
            below, above = np.exp(rng.normal(0, 1, 2)) * np.ptp(window)
            limits = (float(window.min() - below), float(window.max() + above))
        return window, MADE, NO_LABEL, limits
