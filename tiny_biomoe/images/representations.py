"""The six representations: a signal to a matrix of 224 rows (low frequencies at the bottom) x 224 instants.

Each is computed straight on that grid (paper, section 3.2, names them; what it leaves open is fixed here).
Nothing here calls a threaded matrix product: the bytes do not depend on how many threads or processes work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import scipy  # its modules are loaded when first used
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..config import IMAGE_SIZE, Recipe
from ..signals.validation import Signal

Matrix = NDArray[np.float64]  # (224, 224)
Band = tuple[float, float]  # lowest and highest frequency shown, Hz

WORKING_RATE = 2.5  # times the highest frequency shown: a faster signal is decimated before its spectrogram
LOW_PASS = 5.0  # shape of the Kaiser window of the filter before a signal is decimated
KEPT_FACTOR = 1000  # of decimation, whose filter (160 kB) is kept for the next signal
KEPT_BINS = 2**16  # of a spectrum whose wavelets (up to 24 MB) are kept for the next signal of that length
AT_ONCE = 56  # rows or instants, a divisor of 224, that are computed at once: they stay in the processor's cache
PERIOD = 2 * IMAGE_SIZE  # bins of a signal's cosines, behind which the same ones come again at the image's instants
_HALF_AN_INSTANT = np.exp(1j * np.pi / PERIOD * np.arange(IMAGE_SIZE))  # from an instant's border to its middle
MORLET_REACH = 5.0  # standard deviations of the wavelet's spectrum that are kept (the rest is below 4e-6)
MORLET_END = 9.0  # standard deviations behind which the gain, 3e-18, is lost to rounding


def angle(signal: Signal, fs: float, band: Band, recipe: Recipe) -> Matrix:
    """Spectrogram-angle: phase of each cell in [-pi, pi], counted from the start of its frame."""
    return _angles(spectrogram(signal, fs, band, recipe)[0])[::-1]


def phase(signal: Signal, fs: float, band: Band, recipe: Recipe) -> Matrix:
    """Spectrogram-phase: the angle unwrapped along frequency, radians."""
    phases = _angles(spectrogram(signal, fs, band, recipe)[0])
    turns = np.diff(phases, axis=0)
    turns *= -1.0 / (2.0 * np.pi)
    np.rint(turns, out=turns)  # 1 or -1 where the angle jumps by more than half a turn, else 0
    np.cumsum(turns, axis=0, out=turns)
    turns *= 2.0 * np.pi
    phases[1:] += turns
    return phases[::-1]


def _angles(spectrum: NDArray[np.complex128]) -> Matrix:
    """Phases of (frequencies, instants), whose instants lie apart in memory and in the result side by side."""
    angles = np.empty((IMAGE_SIZE, IMAGE_SIZE))
    for start in range(0, IMAGE_SIZE, AT_ONCE):
        some = spectrum[:, start : start + AT_ONCE]
        angles[:, start : start + AT_ONCE] = np.arctan2(some.imag + 0.0, some.real + 0.0)  # the angle of -0 is pi
    return angles


def psd(signal: Signal, fs: float, band: Band, recipe: Recipe) -> Matrix:
    """Spectrogram-PSD: power in dB, where 0 is a steady tone of amplitude 1."""
    spectrum, frame = spectrogram(signal, fs, band, recipe)
    power = (spectrum.real**2 + spectrum.imag**2) * (16.0 / (frame - 1) ** 2)  # Hann: amplitude * (frame - 1) / 4
    return np.asarray(10.0 * np.log10(np.maximum(power, 1e-30)))[::-1]


def spectrogram(signal: Signal, fs: float, band: Band, recipe: Recipe) -> tuple[NDArray[np.complex128], int]:
    """Short-time Fourier transform on the image's grid: (224 rising frequencies, 224 instants), and frame length.

    Frames are Hann windows that lie wholly inside the signal and slide by fractions of a sample, so that 224
    instants differ even where the signal has fewer samples. Zero-padding makes the step between two bins of
    one real transform equal to one row, so the rows are 224 successive bins.
    """
    signal = signal - signal[0]  # exact zeros where the signal is flat
    signal -= signal.mean()
    if (factor := int(fs / (WORKING_RATE * band[1]))) > 1:
        signal, fs = decimate(signal, factor), fs / factor
    frame, padded, first = frame_grid(signal.size, fs, band, recipe)
    starts, window, turn = frame_windows(signal.size, frame, padded, first)
    frames = sliding_window_view(np.append(signal, 0.0), frame + 1)  # at every sample
    room = np.zeros((AT_ONCE, padded))
    spectrum = np.empty((IMAGE_SIZE, IMAGE_SIZE), np.complex128)  # (instants, frequencies)
    for start in range(0, IMAGE_SIZE, AT_ONCE):
        some = slice(start, start + AT_ONCE)
        np.multiply(frames[starts[some]], window[some], out=room[:, : frame + 1])
        np.multiply(scipy.fft.rfft(room)[:, first : first + IMAGE_SIZE], turn[some], out=spectrum[some])
    return spectrum.T, frame


def frame_grid(n_samples: int, fs: float, band: Band, recipe: Recipe) -> tuple[int, int, int]:
    """Samples of a frame, of its transform, and the transform's bin that is the lowest row."""
    low, high = band
    longest = recipe.frame_steps * IMAGE_SIZE / (high - low)  # seconds
    frame = max(4, round(min(recipe.frame_fraction * n_samples, fs * longest)))
    padded = scipy.fft.next_fast_len(max(frame + 1, round(fs * (IMAGE_SIZE - 1) / (high - low))), real=True)
    return frame, padded, min(max(1, round(low * padded / fs)), padded // 2 + 1 - IMAGE_SIZE)


def decimate(signal: Signal, factor: int) -> Signal:
    """One sample of `factor`, low-passed: what `scipy.signal.resample_poly(signal, 1, factor)` gives, to rounding.

    Importing `scipy.signal` takes longer than all of a picture.
    """
    taps = _low_pass(factor) if factor <= KEPT_FACTOR else _low_pass.__wrapped__(factor)
    around = np.pad(signal, taps.size // 2)
    return np.asarray(sliding_window_view(around, taps.size)[::factor] @ taps)


@lru_cache(maxsize=16)
def _low_pass(factor: int) -> NDArray[np.float64]:
    n = np.arange(-10 * factor, 10 * factor + 1)
    taps = np.sinc(n / factor) * np.kaiser(n.size, LOW_PASS)
    return np.asarray(taps / taps.sum())


@lru_cache(maxsize=16)
def frame_windows(
    n_samples: int, frame: int, padded: int, first: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.complex128]]:
    """Per instant: first sample read, the window at its fractional place, and the turn that counts phase from it."""
    place = np.linspace(0, n_samples - frame, IMAGE_SIZE)
    starts = place.astype(np.intp)
    fraction = (place - starts)[:, None]
    within = np.arange(frame + 1) - fraction  # samples into the window
    window = np.where((within >= 0) & (within <= frame - 1), 0.5 - 0.5 * np.cos(2 * np.pi * within / (frame - 1)), 0.0)
    turn = np.exp(2j * np.pi / padded * fraction * np.arange(first, first + IMAGE_SIZE))
    return starts, window, turn


def scalogram(signal: Signal, fs: float, band: Band, recipe: Recipe) -> Matrix:
    """Magnitude of the continuous wavelet transform, Morlet, frequencies log-spaced across the band.

    Normalised so that a tone of amplitude 1 gives 1 in its row, whatever its frequency.
    """
    # The signal and its mirror image make one seamless period of 2n samples: a sum of cosines about the mirror. Each
    # row is the sum of z[k] exp(pi i k (2t + 1) / 448), z being those amplitudes weighted by a Gaussian around the
    # row's frequency, at the 224 instants t, each the middle of its part of the signal. Bin k + 448 is there bin k with
    # its sign changed. At an even instant bin k + 224 is bin k times i, so that 224 bins are left; and the odd
    # instants, whose magnitudes are those of even ones behind the mirror (447 - t), come with the same transform.
    bins = np.zeros((-(-signal.size // PERIOD), PERIOD))  # bin k is k / 2n of the rate
    bins.reshape(-1)[: signal.size] = scipy.fft.dct(signal - signal.mean()) / signal.size  # amplitudes of the cosines
    bins[1::2] *= -1.0
    matrix = np.empty((IMAGE_SIZE, IMAGE_SIZE))
    wavelets = _kept_wavelets if signal.size <= KEPT_BINS else _wavelets
    for start, parts in wavelets(signal.size, fs / (2 * signal.size), band, recipe.morlet_omega):
        folded = np.zeros((AT_ONCE, IMAGE_SIZE), np.complex128)
        for period, rows, gain in parts:
            weighted = gain * bins[period, : gain.shape[1]]
            first, second = weighted[:, :IMAGE_SIZE], weighted[:, IMAGE_SIZE:]
            folded.real[rows, : first.shape[1]] += first
            folded.imag[rows, : second.shape[1]] += second
        folded *= _HALF_AN_INSTANT
        magnitude = np.abs(scipy.fft.ifft(folded, norm="forward", overwrite_x=True))  # at instants 0, 2, ... 446
        matrix[start : start + AT_ONCE, ::2] = magnitude[:, : IMAGE_SIZE // 2]
        matrix[start : start + AT_ONCE, :0:-2] = magnitude[:, IMAGE_SIZE // 2 :]
    return matrix[::-1]


def morlet_frequencies(band: Band) -> Signal:
    """Centre frequency of each row of a scalogram, rising, Hz."""
    return np.geomspace(band[0], band[1], IMAGE_SIZE)


Gains = tuple[int, slice, NDArray[np.float64]]


@lru_cache(maxsize=16)
def _kept_wavelets(n_bins: int, step: float, band: Band, omega: float) -> list[tuple[int, list[Gains]]]:
    return [(start, list(parts)) for start, parts in _wavelets(n_bins, step, band, omega)]


def _wavelets(n_bins: int, step: float, band: Band, omega: float) -> Iterator[tuple[int, Iterator[Gains]]]:
    """Spectra of the wavelets: for every `AT_ONCE` rows the first of them, and what they take of each period of bins.

    That is the period, the range of these rows that reach it, and their gains at its first bins: (rows, up to 448).
    """
    centres = morlet_frequencies(band)
    width = centres / omega  # standard deviation of the spectrum, Hz
    begins = np.arange(0, n_bins, PERIOD)  # bins
    firsts = np.searchsorted(centres + MORLET_REACH * width, begins * step)
    ends = np.minimum(begins + PERIOD, n_bins) - 1
    lasts = np.searchsorted(centres - MORLET_REACH * width, ends * step, side="right")

    def gains(period: int, first: int, last: int) -> Gains:
        """Of rows from `first` to before `last`."""
        frequency = (begins[period] + np.arange(PERIOD)) * step
        frequency = frequency[: np.searchsorted(frequency, centres[last - 1] + MORLET_END * width[last - 1])]
        distance = (frequency - centres[first:last, None]) / width[first:last, None]
        return period, slice(first % AT_ONCE, first % AT_ONCE + last - first), np.exp(-0.5 * distance**2)

    for start in range(0, IMAGE_SIZE, AT_ONCE):
        spans = zip(range(len(begins)), firsts.clip(start), lasts.clip(max=start + AT_ONCE), strict=True)
        yield start, (gains(period, first, last) for period, first, last in spans if first < last)


def recurrence(signal: Signal, fs: float, band: Band, recipe: Recipe) -> Matrix:
    """Recurrence plot, not thresholded: Euclidean distances between the delay-embedded states at two instants."""
    states = delay_embedding(signal, fs, band, recipe)  # (dimension, 224)
    squares = np.zeros((IMAGE_SIZE, IMAGE_SIZE))
    for coordinate in states:
        squares += (coordinate[:, None] - coordinate) ** 2
    return np.sqrt(squares)[::-1]


def delay_embedding(signal: Signal, fs: float, band: Band, recipe: Recipe) -> NDArray[np.float64]:
    """States x(t), x(t + delay), ... at 224 instants: (dimension, 224).

    The delay is a share of the period of the band's geometric mean. Where an instant spans more than one
    sample its value is their mean, so that nothing is skipped; where it spans less, values are interpolated.
    """
    delay = fs * recipe.recurrence_delay / np.sqrt(band[0] * band[1])  # samples
    reach = (recipe.recurrence_dimension - 1) * delay
    step = (signal.size - reach) / IMAGE_SIZE  # samples an instant
    centres = (np.arange(IMAGE_SIZE) + 0.5) * step - 0.5 + delay * np.arange(recipe.recurrence_dimension)[:, None]
    index = np.arange(signal.size)
    if step <= 1:
        return np.interp(centres, index, signal)
    area = np.concatenate([[0.0], np.cumsum(signal - signal[0])])  # up to the border before sample i
    borders = np.arange(signal.size + 1) - 0.5
    return (
        np.interp(centres + step / 2, borders, area) - np.interp(centres - step / 2, borders, area)
    ) / step + signal[0]


def waveform(signal: Signal, fs: float, band: Band, recipe: Recipe) -> Matrix:
    """The trace of the signal: each pixel's share, in [0, 1], that is covered by the line; -1 and 1 are the edges.

    Every column is covered from the lowest to the highest point that the line reaches within it.
    """
    height = IMAGE_SIZE - 2 * recipe.waveform_margin
    row = recipe.waveform_margin + (1.0 - np.clip(signal, -1.0, 1.0)) / 2 * height  # pixels from the top
    place = (np.arange(signal.size) + 0.5) * (IMAGE_SIZE / signal.size)  # pixels from the left
    border = np.interp(np.arange(IMAGE_SIZE + 1), place, row)
    top, bottom = np.minimum(border[:-1], border[1:]), np.maximum(border[:-1], border[1:])
    column = place.astype(np.intp)
    np.minimum.at(top, column, row)
    np.maximum.at(bottom, column, row)
    edge = np.arange(IMAGE_SIZE)[:, None]  # upper edge of each pixel row
    half = recipe.waveform_thickness / 2
    return np.clip(np.minimum(edge + 1, bottom + half) - np.maximum(edge, top - half), 0.0, 1.0)


REPRESENTATIONS: dict[str, Callable[[Signal, float, Band, Recipe], Matrix]] = {
    "angle": angle,
    "phase": phase,
    "psd": psd,
    "recurrence": recurrence,
    "scalogram": scalogram,
    "waveform": waveform,
}
