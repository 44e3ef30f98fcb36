"""Windows drawn once and kept: images, with what is to be read from them, in blocks that a killed run keeps.

Example `index` is a pure function of the seed and the index. Sources of one modality share its part of the examples by
the square root of their hours; representations take turns within a modality.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pretraining.batches import ATTEMPTS, Augmentation, made_window_of_a_modality, vary
from pretraining.descriptors import describe
from pretraining.picture_targets import picture
from pretraining.profiles import profile, spectrum_shares
from pretraining.sources import NO_LABEL, Source, sources_digest
from tiny_biomoe.config import Recipe
from tiny_biomoe.errors import SignalError
from tiny_biomoe.images.rendering import draw
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.sealed_files import write_whole
from tiny_biomoe.signals.filters import apply_filter, passband
from tiny_biomoe.signals.request import Limits
from tiny_biomoe.signals.validation import Signal, is_flat

BLOCK = 250  # examples in one file
COLUMNS = ("levels", "sources", "representations", "labels", "targets", "spectra", "waves")
WAVE = 1024  # samples of a window that is kept beside its image
MADE = -1  # source of a window that is made
# Parts of the recorded examples: what users have most, most
PARTS = {"eda": 0.2, "bvp": 0.22, "resp": 0.2, "spo2": 0.06, "ecg": 0.12, "emg": 0.06, "eeg": 0.14}


@dataclass(frozen=True)
class Examples:
    """Images of windows, with what is to be read from them."""

    levels: NDArray[np.uint8]  # (n, 224, 224)
    sources: NDArray[np.int64]  # (n,), index of the source, or MADE
    representations: NDArray[np.int64]  # (n,), index of the representation
    labels: NDArray[np.int64]  # (n,), class within the source, or NO_LABEL
    targets: NDArray[np.float32]  # (n, 1304): 32 descriptors, 88 numbers of the profile, 1184 of the picture
    spectra: NDArray[np.float32]  # (n, 40), shares of narrow bands in the power
    waves: NDArray[np.float16]  # (n, 1024), the filtered window, of mean 0 and spread 1


@dataclass(frozen=True)
class Drawing:
    """Everything that decides what example `index` is, but for the recordings."""

    seed: int
    augmentation: Augmentation = field(default_factory=Augmentation)
    recipe: Recipe = field(default_factory=Recipe)

    def digest(self) -> str:
        """Sixteen digits that tell drawings apart."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Window:
    """One stretch of signal before it is filtered."""

    signal: Signal
    fs: float  # Hz
    modality: str
    source: int = MADE
    label: int = NO_LABEL
    limits: Limits | None = None  # what its image spans; None for its own range


def draw_examples(sources: Sequence[Source], drawing: Drawing, count: int, folder: Path, workers: int = 1) -> Examples:
    """The first `count` examples, drawn where the folder does not hold them yet.

    Parameters
    ----------
    sources : of which people held out are never drawn
    count : rounded up to whole blocks of 250
    folder : of `<digest of drawing and recordings>/block-<number>.npz`
    workers : processes
    """
    place = folder / f"{drawing.digest()}-{sources_digest(sources)[:16]}"
    place.mkdir(parents=True, exist_ok=True)
    paths = [place / f"block-{number:05d}.npz" for number in range(-(-count // BLOCK))]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    draw_one = partial(_write_block, sources, drawing, place)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(draw_one, missing))
    else:
        list(map(draw_one, missing))
    blocks = [dict(np.load(path)) for path in paths]
    return Examples(**{name: np.concatenate([block[name] for block in blocks]) for name in COLUMNS})


def _write_block(sources: Sequence[Source], drawing: Drawing, place: Path, number: int) -> None:
    drawer = Drawer(sources, drawing)
    rows = [drawer.example(index) for index in range(number * BLOCK, (number + 1) * BLOCK)]
    data = io.BytesIO()
    np.savez(data, **{name: np.stack([getattr(row, name) for row in rows]) for name in COLUMNS})
    write_whole(place / f"block-{number:05d}.npz", data.getvalue())


def brought_to(count: int, x: Signal) -> NDArray[np.float16]:
    """A window that is not flat in so many samples, of mean 0 and spread 1: averages of a longer one, or interpolated.

    >>> brought_to(3, np.array([0.0, 0.0, 1.0, 1.0, 2.0, 2.0])).tolist()
    [-1.224609375, 0.0, 1.224609375]
    """
    x = (x - x.mean()) / max(x.std(), 1e-300)
    if x.size <= count:
        return np.interp(np.linspace(0, x.size - 1, count), np.arange(x.size), x).astype(np.float16)
    summed = np.interp(np.linspace(0, x.size, count + 1), np.arange(x.size + 1), np.concatenate([[0.0], x.cumsum()]))
    means = np.diff(summed)
    return ((means - means.mean()) / max(means.std(), 1e-300)).astype(np.float16)


class Drawer:
    """Draws examples one by one."""

    def __init__(self, sources: Sequence[Source], drawing: Drawing):
        self.sources, self.drawing = sources, drawing
        self.of_modality = {name: [i for i, s in enumerate(sources) if s.modality == name] for name in PARTS}
        self.of_modality = {name: members for name, members in self.of_modality.items() if members}
        self.odds = [source.odds() for source in sources]

    def example(self, index: int) -> Examples:
        """One example, without the leading axis of the columns."""
        rng = np.random.default_rng([self.drawing.seed, index])
        shown = index % len(REPRESENTATIONS)
        augmentation, recipe = self.drawing.augmentation, self.drawing.recipe
        for _ in range(ATTEMPTS):
            window = self._made(rng) if rng.random() < augmentation.made_share else self._recorded(rng)
            if is_flat(window.signal):
                continue
            try:
                edges = passband(window.fs, window.modality, recipe)
                filtered = apply_filter(window.signal, window.fs, edges, recipe)
                image = draw(filtered, window.fs, edges, list(REPRESENTATIONS)[shown], recipe, window.limits)
            except SignalError:
                continue
            band = edges.shown(filtered.size / window.fs)
            spectrum = spectrum_shares(filtered, window.fs, band)
            facts = describe(filtered, window.fs, band, window.limits)
            fine = profile(filtered, window.fs, band, spectrum)
            targets = np.concatenate([facts, fine, picture(filtered, window.fs, band, recipe)])
            wave = brought_to(WAVE, filtered)
            return Examples(image, window.source, shown, window.label, targets, spectrum, wave)  # type: ignore[arg-type]
        raise SignalError(f"example {index}: {ATTEMPTS} windows in a row cannot be drawn; are the recordings damaged?")

    def _recorded(self, rng: np.random.Generator) -> Window:
        names = list(self.of_modality)
        parts = np.array([PARTS[name] for name in names])
        members = self.of_modality[names[rng.choice(len(names), p=parts / parts.sum())]]
        hours = np.sqrt([self.sources[i].durations[~self.sources[i].held_out].sum() for i in members])
        which = members[rng.choice(len(members), p=hours / hours.sum())]
        source = self.sources[which]
        index = int(rng.choice(len(source), p=self.odds[which]))
        whole = int(source.offsets[index + 1] - source.offsets[index])
        size = min(whole, round(rng.uniform(*source.seconds) * source.fs))
        signal = source.cut(index, int(rng.integers(whole - size + 1)), size)
        limits = None
        if rng.random() < self.drawing.augmentation.person_scale_share:
            recording = source.recording(index)[::8]
            low, high = np.percentile(recording, self.drawing.recipe.scale_percentiles)
            limits = (float(low), float(high)) if low < high else None
        signal = vary(signal, self.drawing.augmentation, rng)
        return Window(signal, source.fs, source.modality, which, int(source.labels[index]), limits)

    def _made(self, rng: np.random.Generator) -> Window:
        signal, fs, modality, limits = made_window_of_a_modality(self.drawing.augmentation, self.drawing.recipe, rng)
        return Window(signal, fs, modality, limits=limits)
