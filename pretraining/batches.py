"""What one training step sees: a pure function of (seed, step), so that a resumed run goes on as it would have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pretraining.archives import Task
from pretraining.descriptors import describe
from pretraining.profiles import profile, spectrum_shares
from pretraining.synthetic import made_window
from tiny_biomoe.config import Recipe
from tiny_biomoe.errors import ConfigError, SignalError
from tiny_biomoe.images.rendering import Levels, draw
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.signals.filters import apply_filter, passband
from tiny_biomoe.signals.request import Limits
from tiny_biomoe.signals.validation import Signal, is_flat

ATTEMPTS = 20  # to find a window that is not flat and has something in the band it is shown by; few have not


@dataclass(frozen=True)
class Augmentation:
    """How windows are varied in training (none of it in evaluation)."""

    noise_share: float = 0.3  # of windows get white noise ...
    noise_db: tuple[float, float] = (10.0, 40.0)  # ... this far below the signal's own power
    flip_share: float = 0.5  # of windows are turned upside down: electrodes are often swapped
    drift_share: float = 0.2  # of windows get a slow random walk ...
    drift_size: tuple[float, float] = (0.1, 2.0)  # ... that wanders over so many times the signal's spread
    person_scale_share: float = 0.25  # of windows are drawn against the person's range instead of their own
    made_share: float = 0.25  # of windows are made (`synthetic`) instead of recorded, and ...
    disguise_share: float = 0.0  # ... of the others are shown as a modality drawn at random: it does not pay (RESULTS)


# How long windows last that are made, or shown as a modality that they are not, seconds
DURATIONS = {
    "eda": (8.0, 60.0), "bvp": (6.0, 40.0), "resp": (15.0, 60.0), "spo2": (15.0, 90.0),
    "ecg": (4.0, 30.0), "emg": (0.6, 5.0), "eeg": (2.0, 30.0),
}  # fmt: skip
MADE_SAMPLES = (128, 2048)  # of a window that is made
NO_LABEL = -1  # a window in disguise no longer shows what its label says


@dataclass(frozen=True)
class Batch:
    """Images of windows, with what is to be read from them."""

    levels: NDArray[np.uint8]  # (n, 224, 224)
    tasks: NDArray[np.int64]  # (n,), index of the task
    representations: NDArray[np.int64]  # (n,), index of the representation
    labels: NDArray[np.int64]  # (n,), class within the task, or NO_LABEL
    facts: NDArray[np.float32]  # (n, 32), `descriptors.describe`
    profiles: NDArray[np.float32]  # (n, 88), `profiles.profile`
    spectra: NDArray[np.float32]  # (n, 40), `profiles.spectrum_shares`


Window = tuple[Signal, float, str, int, Limits | None]  # samples, rate in Hz, modality, label, what its image spans


class TrainingBatches(Dataset[Batch]):
    """Batch `step` of a run. Tasks take turns, and within a task the six representations do; a recording is drawn
    such that a class comes by the square root of its size.

    Parameters
    ----------
    images : of a batch, over all tasks
    views : representations that each window is shown by: 6 as in the paper, 3, 2 or 1
    """

    def __init__(
        self, tasks: list[Task], recipe: Recipe, images: int, seed: int, augmentation: Augmentation, views: int = 1
    ):
        if images < 1 or views not in (1, 2, 3, 6) or images % (len(tasks) * views):
            raise ConfigError(
                f"images={images}, views={views}: views must be 1, 2, 3 or 6, and images a multiple of views times "
                f"{len(tasks)} tasks"
            )
        self.tasks, self.recipe, self.seed, self.augmentation = tasks, recipe, seed, augmentation
        self.windows, self.views = images // views, views
        self.odds = [_recording_odds(task) for task in tasks]
        self.limits: dict[tuple[str, int], Limits | None] = {}  # of each person drawn so far

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        rows = []
        for count in range(step * self.windows, (step + 1) * self.windows):
            turn, which = divmod(count, len(self.tasks))
            shown = [(turn * self.views + view) % len(REPRESENTATIONS) for view in range(self.views)]
            names = [list(REPRESENTATIONS)[index] for index in shown]
            images, read = self._draw(self.tasks[which], self.odds[which], names, rng)
            rows += [(image, which, index, *read) for index, image in zip(shown, images, strict=True)]
        return Batch(*(np.stack(column) for column in zip(*rows, strict=True)))

    def _draw(
        self, task: Task, odds: NDArray[np.float64], representations: list[str], rng: np.random.Generator
    ) -> tuple[list[Levels], tuple[int, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]:
        """Images of one window, and what is to be read from them: label, facts, profile, spectrum."""
        for _ in range(ATTEMPTS):
            if rng.random() < self.augmentation.made_share:
                window, fs, modality, limits = made_window_of_a_modality(self.augmentation, self.recipe, rng)
                label = NO_LABEL
            else:
                window, fs, modality, label, limits = self._recorded(task, odds, rng)
            if is_flat(window):
                continue
            try:
                edges = passband(fs, modality, self.recipe)
                filtered = apply_filter(window, fs, edges, self.recipe)
                images = [draw(filtered, fs, edges, name, self.recipe, limits) for name in representations]
            except SignalError:
                continue  # nothing of it lies in the band of its disguise
            band = edges.shown(window.size / fs)
            spectrum = spectrum_shares(filtered, fs, band)
            facts = describe(filtered, fs, band, limits)
            return images, (label, facts, profile(filtered, fs, band, spectrum), spectrum)
        raise SignalError(f"{task.name}: {ATTEMPTS} windows in a row cannot be drawn; is the archive damaged?")

    def _recorded(self, task: Task, odds: NDArray[np.float64], rng: np.random.Generator) -> Window:
        index = int(rng.choice(odds.size, p=odds))
        recording = task.recording(index)
        size = min(recording.size, round(rng.uniform(*task.seconds) * task.fs))
        start = int(rng.integers(recording.size - size + 1))
        window, limits = recording[start : start + size], None
        window = vary(window, self.augmentation, rng)
        if rng.random() < self.augmentation.person_scale_share:
            limits = self._person_limits(task, int(task.groups[index]))
        if rng.random() < self.augmentation.disguise_share:
            modality, duration = _guise(rng)
            return window, window.size / duration, modality, NO_LABEL, limits
        return window, task.fs, task.name, int(task.labels[index]), limits

    def _person_limits(self, task: Task, group: int) -> Limits | None:
        if (task.name, group) not in self.limits:
            self.limits[task.name, group] = person_limits(task, group, self.recipe.scale_percentiles)
        return self.limits[task.name, group]


def made_window_of_a_modality(
    augmentation: Augmentation, recipe: Recipe, rng: np.random.Generator
) -> tuple[Signal, float, str, Limits | None]:
    """A window that nobody recorded: samples, rate in Hz, modality, and what its image spans."""
    modality, duration = _guise(rng)
    size, limits = round(np.exp(rng.uniform(*np.log(MADE_SAMPLES)))), None
    low, high = passband(size / duration, modality, recipe).shown(duration)
    window = made_window(size, (max(1.0, low * duration), high * duration), rng)
    if rng.random() < augmentation.person_scale_share:
        below, above = np.exp(rng.normal(0, 1, 2)) * np.ptp(window)
        limits = (float(window.min() - below), float(window.max() + above))
    return window, size / duration, modality, limits


def vary(window: Signal, augmentation: Augmentation, rng: np.random.Generator) -> Signal:
    """A window with white noise, with a slow random walk, or upside down, as the shares say: (n_samples,)."""
    if rng.random() < augmentation.noise_share:
        below = rng.uniform(*augmentation.noise_db)
        window = window + rng.standard_normal(window.size) * window.std() * 10 ** (-below / 20)
    if rng.random() < augmentation.drift_share:
        walk = rng.standard_normal(window.size).cumsum()
        window = window + walk * (rng.uniform(*augmentation.drift_size) * window.std() / walk.std())
    if rng.random() < augmentation.flip_share:
        window = 2 * window.mean() - window
    return window


def _guise(rng: np.random.Generator) -> tuple[str, float]:
    """A modality, and how long a window of it lasts, seconds."""
    modality = str(rng.choice(list(DURATIONS)))
    return modality, float(np.exp(rng.uniform(*np.log(DURATIONS[modality]))))


def draw_window(
    window: NDArray[np.float64],
    task: Task,
    recipe: Recipe,
    representations: Iterable[str] = REPRESENTATIONS,
    limits: Limits | None = None,
) -> Levels:
    """Images of one window: (n_representations, 224, 224), all six unless given."""
    edges = passband(task.fs, task.name, recipe)
    filtered = apply_filter(window, task.fs, edges, recipe)
    return np.stack([draw(filtered, task.fs, edges, name, recipe, limits) for name in representations])


def evaluation_windows(task: Task, held_out: bool, count: int, seed: int) -> list[tuple[int, NDArray[np.float64]]]:
    """Windows to evaluate on, (index of the recording, samples): the middle of up to `count` recordings."""
    recordings = np.random.default_rng([seed, held_out]).permutation(np.flatnonzero(task.held_out == held_out))
    found: list[tuple[int, NDArray[np.float64]]] = []
    for index in recordings:
        recording = task.recording(int(index))
        size = min(recording.size, round(task.test_seconds * task.fs))
        start = (recording.size - size) // 2
        if not is_flat(recording[start : start + size]):
            found.append((int(index), recording[start : start + size]))
        if len(found) == count:
            break
    return found


def person_limits(task: Task, group: int, percentiles: tuple[float, float]) -> Limits | None:
    """The range of all that one person (or recording) gave, in the signal's units; None where it has none."""
    members = np.flatnonzero(task.groups == group)
    parts = np.concatenate([task.recording(int(index))[::8] for index in members[:256]])
    low, high = np.percentile(parts, percentiles)
    return (float(low), float(high)) if low < high else None


def _recording_odds(task: Task) -> NDArray[np.float64]:
    """Odds of each training recording, such that a class is drawn by the square root of its size."""
    sizes = np.bincount(task.labels[~task.held_out], minlength=len(task.classes)).astype(float)
    weights = np.where(task.held_out, 0.0, 1 / np.sqrt(np.maximum(sizes, 1))[task.labels])
    return weights / weights.sum()
