"""Pictures drawn by PyTorch for many windows of one length at once, on a GPU or on the CPU, equal to `draw`'s.

All that stands before a magnitude or an angle is linear in the signal, so that each step is one transform or product
for all windows. What depends on the windows' rate and length alone is a `Plan`, made once. Everything is float64:
levels differ from `tiny_biomoe.images.rendering.draw` by one at most, where a value lies on a border between two.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.signal
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretraining.picture_targets import FLOOR, FREQUENCIES, ROWS, TIMES, averages
from tiny_biomoe.config import IMAGE_SIZE, Recipe
from tiny_biomoe.images.representations import (
    LOW_PASS,
    PERIOD,
    WORKING_RATE,
    Band,
    frame_grid,
    frame_windows,
    morlet_frequencies,
)
from tiny_biomoe.signals.filters import passband


class Plan:
    """How windows of one modality, rate and length are drawn.

    Parameters
    ----------
    modality : canonical name
    fs : Hz
    n_samples : of every window
    device : where pictures are drawn
    """

    def __init__(self, modality: str, fs: float, n_samples: int, recipe: Recipe, device: str | torch.device):
        self.recipe, self.device, self.n_samples = recipe, torch.device(device), n_samples
        self.band = passband(fs, modality, recipe).shown(n_samples / fs)
        self._plan_spectrogram(fs)
        self.wavelets = self._on_device(folded_wavelets(n_samples, fs, self.band, recipe))
        self.half = self._on_device(np.exp(1j * np.pi / PERIOD * np.arange(PERIOD)))  # from a border to an instant
        self.states = self._on_device(embedding_weights(n_samples, fs, self.band, recipe))
        place = (np.arange(n_samples) + 0.5) * (IMAGE_SIZE / n_samples)
        self.columns = self._on_device(place.astype(np.int64))
        self.borders = self._on_device(interpolation(np.arange(IMAGE_SIZE + 1), place))

    def draw(self, filtered: Tensor, limits: Tensor, representation: str) -> Tensor:
        """Levels of filtered windows: (n, n_samples) float64, (n, 2) to (n, 224, 224) uint8.

        Parameters
        ----------
        limits : what each image spans, in the signal's units; NaN for the window's own range
        """
        own = limits[:, :1].isnan()  # (n, 1)
        low = torch.where(own, filtered.amin(1, keepdim=True), limits[:, :1])
        high = torch.where(own, filtered.amax(1, keepdim=True), limits[:, 1:])
        unit = (filtered - low) / (high - low) * 2 - 1
        own = own[:, :, None]
        draw = {"psd": self._psd, "angle": self._angle, "phase": self._phase, "scalogram": self._scalogram}
        draw |= {"recurrence": self._recurrence, "waveform": self._waveform}
        return (draw[representation](unit, own).clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8)

    def _psd(self, unit: Tensor, own: Tensor) -> Tensor:
        spectrum = self._spectrogram(unit)
        power = (spectrum.real.square() + spectrum.imag.square()) * (16.0 / (self.frame - 1) ** 2)
        decibel = 10.0 * power.clamp_min(1e-30).log10()
        top = torch.where(own, decibel.amax((1, 2), keepdim=True), 0.0)
        return (decibel - top).flip(1) / self.recipe.psd_range_db + 1.0

    def _angle(self, unit: Tensor, own: Tensor) -> Tensor:
        return (self._angles(unit).flip(1) + np.pi) / (2 * np.pi)

    def _phase(self, unit: Tensor, own: Tensor) -> Tensor:
        phases = self._angles(unit)
        turns = (phases.diff(dim=1) * (-1.0 / (2.0 * np.pi))).round().cumsum(1)
        phases[:, 1:] += turns * (2.0 * np.pi)
        phases = phases - phases.amin((1, 2), keepdim=True)
        return phases.flip(1) / phases.amax((1, 2), keepdim=True)

    def _scalogram(self, unit: Tensor, own: Tensor) -> Tensor:
        magnitude = self.magnitudes(unit).flip(1)
        top = torch.where(own, magnitude.amax((1, 2), keepdim=True), 1.0)
        return (magnitude / top).clamp(0.0, 1.0) ** self.recipe.scalogram_gamma

    def _recurrence(self, unit: Tensor, own: Tensor) -> Tensor:
        states = (unit @ self.states.T).unflatten(1, (-1, IMAGE_SIZE))  # (n, dimension, 224)
        distance = (states[:, :, :, None] - states[:, :, None, :]).square().sum(1).sqrt()
        farthest = 2.0 * np.sqrt(self.recipe.recurrence_dimension)
        return distance.flip(1) / torch.where(own, distance.amax((1, 2), keepdim=True), farthest)

    def _waveform(self, unit: Tensor, own: Tensor) -> Tensor:
        recipe = self.recipe
        height = IMAGE_SIZE - 2 * recipe.waveform_margin
        row = recipe.waveform_margin + (1.0 - unit.clamp(-1.0, 1.0)) / 2 * height  # (n, n_samples)
        border = row @ self.borders.T  # (n, 225)
        top, bottom = torch.minimum(border[:, :-1], border[:, 1:]), torch.maximum(border[:, :-1], border[:, 1:])
        columns = self.columns.expand(len(row), -1)
        top, bottom = top.scatter_reduce(1, columns, row, "amin"), bottom.scatter_reduce(1, columns, row, "amax")
        edge = torch.arange(IMAGE_SIZE, device=self.device, dtype=torch.float64)[:, None]
        half = recipe.waveform_thickness / 2
        return torch.minimum(edge + 1, bottom[:, None] + half) - torch.maximum(edge, top[:, None] - half)

    def picture(self, filtered: Tensor) -> Tensor:
        """What `pictures.picture` gives: (n, n_samples) to (n, 1184) float32."""
        x = filtered - filtered.mean(1, keepdim=True)
        magnitude = self.magnitudes(x / x.std(1, correction=0, keepdim=True).clamp_min(1e-300))
        levels = (magnitude / magnitude.amax((1, 2), keepdim=True).clamp_min(1e-300) + FLOOR).log10()
        frequencies, times = (self._on_device(averages(parts)) for parts in (FREQUENCIES, TIMES))
        coarse = frequencies @ levels @ times.T
        rows = levels.unflatten(1, (ROWS, -1)).mean(2)  # (n, 112, 224)
        return torch.cat([coarse.flatten(1), rows.mean(2), rows.std(2, correction=0)], 1).float()

    def magnitudes(self, signal: Tensor) -> Tensor:
        """Of the wavelet transform, low frequencies first: (n, n_samples) to (n, 224, 224)."""
        n = signal.shape[1]
        x = signal - signal.mean(1, keepdim=True)
        mirrored = torch.fft.rfft(torch.cat([x, x.flip(1)], 1))[:, :n]  # one seamless period of 2n samples
        turn = torch.exp(-0.5j * np.pi / n * torch.arange(n, device=self.device, dtype=torch.float64))
        amplitudes = (mirrored * turn).real / n  # of the cosines: (n, bins)
        padded = torch.nn.functional.pad(amplitudes, (0, -n % PERIOD)).unflatten(1, (-1, PERIOD))  # (n, periods, 448)
        folded = (padded.permute(2, 0, 1) @ self.wavelets).permute(1, 2, 0)  # (n, 224, 448)
        return torch.fft.ifft(folded * self.half, norm="forward")[..., :IMAGE_SIZE].abs()

    def _angles(self, unit: Tensor) -> Tensor:
        spectrum = self._spectrogram(unit)
        return torch.atan2(spectrum.imag + 0.0, spectrum.real + 0.0)

    def _spectrogram(self, signal: Tensor) -> Tensor:
        """(n, n_samples) to (n, 224 rising frequencies, 224 instants)."""
        signal = signal - signal[:, :1]
        signal = signal - signal.mean(1, keepdim=True)
        if self.decimation is not None:
            signal = signal @ self.decimation.T
        frames = torch.nn.functional.pad(signal, (0, 1)).unfold(1, self.frame + 1, 1)[:, self.starts]
        spectrum = torch.fft.rfft(frames * self.window, self.padded)[..., self.first : self.first + IMAGE_SIZE]
        return (spectrum * self.turn).transpose(1, 2)

    def _plan_spectrogram(self, fs: float) -> None:
        n_samples, self.decimation = self.n_samples, None
        if (factor := int(fs / (WORKING_RATE * self.band[1]))) > 1:
            matrix = decimation(self.n_samples, factor)
            self.decimation, n_samples, fs = self._on_device(matrix), len(matrix), fs / factor
        self.frame, self.padded, self.first = frame_grid(n_samples, fs, self.band, self.recipe)
        starts, window, turn = frame_windows(n_samples, self.frame, self.padded, self.first)
        self.starts, self.window, self.turn = (self._on_device(part) for part in (starts, window, turn))

    def _on_device(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


@lru_cache(maxsize=512)
def plan(modality: str, fs: float, n_samples: int, recipe: Recipe, device: str) -> Plan:
    """A `Plan`, made once."""
    return Plan(modality, fs, n_samples, recipe, device)


def decimation(n_samples: int, factor: int) -> NDArray[np.float64]:
    """The weights by which a signal is decimated before its spectrogram: (decimated, n_samples)."""
    return np.asarray(scipy.signal.resample_poly(np.eye(n_samples), 1, factor, axis=0, window=LOW_PASS))


def folded_wavelets(n_samples: int, fs: float, band: Band, recipe: Recipe) -> NDArray[np.float64]:
    """Gains of the wavelets at the frequencies of a signal's cosines: (448, periods, 224 rising frequencies).

    At the image's instants, bins that lie 448 apart agree but for their sign, which the gains hold.
    """
    centres = morlet_frequencies(band)
    periods = -(-n_samples // PERIOD)
    frequency = np.arange(periods * PERIOD) * fs / (2 * n_samples)
    distance = (frequency[:, None] - centres) / (centres / recipe.morlet_omega)
    gains = np.exp(-0.5 * distance**2).reshape(periods, PERIOD, IMAGE_SIZE)
    gains[1::2] *= -1.0
    return gains.swapaxes(0, 1)


def embedding_weights(n_samples: int, fs: float, band: Band, recipe: Recipe) -> NDArray[np.float64]:
    """The weights by which a signal gives its delay-embedded states: (dimension * 224, n_samples)."""
    delay = fs * recipe.recurrence_delay / np.sqrt(band[0] * band[1])  # samples
    dimension = recipe.recurrence_dimension
    step = (n_samples - (dimension - 1) * delay) / IMAGE_SIZE
    centres = (np.arange(IMAGE_SIZE) + 0.5) * step - 0.5 + delay * np.arange(dimension)[:, None]
    if step <= 1:
        return interpolation(centres.ravel(), np.arange(n_samples))
    edges = np.arange(n_samples + 1) - 0.5
    first, last = (centres - step / 2).ravel()[:, None], (centres + step / 2).ravel()[:, None]
    return np.clip(np.minimum(edges[1:], last) - np.maximum(edges[:-1], first), 0.0, None) / step


def interpolation(at: NDArray[np.generic], places: NDArray[np.generic]) -> NDArray[np.float64]:
    """The weights by which `np.interp` reads samples that lie at rising `places`: (len(at), len(places))."""
    after = np.clip(np.searchsorted(places, at), 1, len(places) - 1)
    share = np.clip((at - places[after - 1]) / (places[after] - places[after - 1]), 0.0, 1.0)
    weights = np.zeros((len(at), len(places)))
    weights[np.arange(len(at)), after - 1] = 1 - share
    weights[np.arange(len(at)), after] = share
    return weights
