"""Filters: names of modalities, and a zero-phase filter for the bands that `config.py` states (paper, section 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import Recipe
from ..errors import ConfigError, SignalError, unknown, warn
from .butterworth import Recursion, recursion
from .validation import Signal, check_length, is_flat, is_number

NYQUIST_MARGIN = 0.99  # a cut-off above this share of Nyquist counts as at Nyquist: it removes nothing
NOTHING_LEFT = 1e-6  # a filtered signal spanning less than this share of the raw one is rounding noise
OUTSIDE = 1e-6  # share of power in the band, below which an image shows little but leakage and rounding
SLOWEST = 0.1  # of the modality's upper edge; nobody records at a lower rate
NARROWEST = 0.02  # of the upper edge; the frames that would resolve a narrower band are without end
BLOCK = 2**16  # samples filtered at a time; a long recording is held once more, not five times
MODALITY_BAND = "modality"  # band=: the paper's filter for the modality


@dataclass(frozen=True)
class Modality:
    """What a modality is called and what it measures. Its numbers are in `config.Recipe`."""

    aliases: tuple[str, ...]
    measures: str


MODALITIES: dict[str, Modality] = {
    "eda": Modality(("gsr",), "electrodermal activity"),
    "bvp": Modality(("ppg",), "blood volume pulse"),
    "resp": Modality(("rsp", "respiration"), "respiration"),
    "spo2": Modality((), "peripheral oxygen saturation"),
    "ecg": Modality(("ekg",), "electrocardiogram"),
    "emg": Modality((), "electromyogram"),
    "eeg": Modality((), "electroencephalogram"),
}


def modality_name(name: Any) -> str:
    """The canonical name of a modality, from its name or alias in any case.

    >>> modality_name("PPG")
    'bvp'
    """
    if isinstance(name, str):
        for canonical, modality in MODALITIES.items():
            if name.lower() in (canonical, *modality.aliases):
                return canonical
    raise unknown("modality", name, [n for c, m in MODALITIES.items() for n in (c, *m.aliases)])


@dataclass(frozen=True)
class Passband:
    """The filter edges really applied, in Hz (None: that side is open), and the band that images show.

    `dropped` names each edge that was asked for but lies at or above Nyquist, where it removes nothing.
    """

    low: float | None
    high: float | None
    shown_low: float | None
    shown_high: float
    dropped: tuple[str, ...] = ()

    def shown(self, duration: float) -> tuple[float, float]:
        """Lowest and highest frequency of an image of `duration` seconds: at least one period fits."""
        return max(self.shown_low or 0.0, 1 / duration), self.shown_high


def passband(fs: float, modality: str, recipe: Recipe, band: Any = MODALITY_BAND) -> Passband:
    """Resolve the filter of a call.

    Parameters
    ----------
    fs : sampling rate, Hz
    modality : canonical name
    band : "modality" for the paper's filter, None for no filter, or (low, high) in Hz, where either may be None

    Raises
    ------
    ConfigError
        A band that is not one.
    SignalError
        A band that lies wholly at or above Nyquist.
    """
    row = recipe.modality(modality)
    nyquist = fs / 2
    if band is None or (isinstance(band, str) and band == MODALITY_BAND):
        shown_low, shown_high = row.low, row.high
        low, high = (row.low, row.high) if row.filtered and band is not None else (None, None)
    else:
        low, high = _edges(band)
        open_high = row.high if (low or 0.0) < row.high else nyquist  # what is shown where the band is open above
        shown_low, shown_high = low, high if high is not None else open_high
    for edge in (low, shown_low):
        if edge is not None and edge >= NYQUIST_MARGIN * nyquist:
            raise SignalError(
                f"the band {shown_low} to {shown_high} Hz lies above the Nyquist frequency, {nyquist:g} Hz at "
                f"fs={fs:g}: the signal holds nothing there; record faster, or pass band=(low, high) below it"
            )
    shown_high = min(shown_high, nyquist)
    if shown_high - (shown_low or 0.0) < NARROWEST * shown_high:
        raise ConfigError(f"band={band!r} is too narrow to draw: its edges differ by less than {NARROWEST:.0%}")
    dropped: tuple[str, ...] = ()
    if high is not None and high >= NYQUIST_MARGIN * nyquist:
        dropped = (f"high cut-off {high:g} Hz is at or above Nyquist ({nyquist:g} Hz) and removes nothing",)
        high = None
    return Passband(low, high, shown_low, shown_high, dropped)


def _edges(band: Any) -> tuple[float | None, float | None]:
    wrong = ConfigError(f'band={band!r}: expected "modality", None or (low, high) in Hz with 0 < low < high')
    if not isinstance(band, tuple | list) or len(band) != 2:
        raise wrong
    if not all(edge is None or is_number(edge) for edge in band):
        raise wrong
    low, high = (None if edge is None else float(edge) for edge in band)
    if (low is not None and low <= 0) or (high is not None and high <= (low or 0.0)):
        raise wrong
    return low, high


def minimum_duration(fs: float, edges: Passband, recipe: Recipe) -> float:
    """Shortest signal that can be filtered and drawn, in seconds: its image's frequency axis is not empty."""
    return max(recipe.minimum_samples / fs, recipe.minimum_periods / edges.shown_high)


def apply_filter(signal: Signal, fs: float, edges: Passband, recipe: Recipe, where: str = "signal") -> Signal:
    """Keep `edges` of a finite signal, with no phase shift: (n_samples,) to (n_samples,).

    A Butterworth filter runs forwards and backwards, so an edge is 6 dB down, and an octave outside it
    48 dB (order 4). Both ends are extended by their point reflection, over one period of the slowest edge.
    Beside the signal and the result nothing of their size is held.

    Raises
    ------
    SignalError
        Too short; overflow; nothing of the signal lies in the band.
    """
    what = f"the band {edges.shown_low or 0:g}-{edges.shown_high:g} Hz"
    check_length(signal, fs, minimum_duration(fs, edges, recipe), what, where)
    start, span = signal[0], np.ptp(signal)
    if not np.isfinite(span):
        raise SignalError(f"{where} spans more than float64 can hold: convert it to smaller units")
    if edges.low is None and (edges.high is None or is_flat(signal)):
        return signal
    if is_flat(signal):
        return np.zeros_like(signal)
    filtered = signal - start
    filtered /= span  # no rounding from a large offset, no denormals
    slowest = edges.low if edges.low is not None else edges.high
    steps = recursion(recipe.filter_order, fs, edges.low, edges.high)
    padding = min(signal.size - 1, max(6 * recipe.filter_order, math.ceil(fs / slowest)))  # type: ignore[operator]
    _forwards_and_backwards(steps, filtered, padding)
    if np.ptp(filtered) < NOTHING_LEFT:
        raise SignalError(
            f"{where} holds nothing in {edges.low or 0:g}-{edges.high or fs / 2:g} Hz, the band that is kept: check fs "
            "and modality, or pass band="
        )
    filtered *= span
    if edges.low is None:
        filtered += start
    if not np.isfinite(np.ptp(filtered)):
        raise SignalError(f"{where}: the filtered signal overflows; look for extreme samples")
    return filtered


def share_in_band(signal: Signal, fs: float, edges: Passband) -> float:
    """How much of a finite signal's power from the shown band's lower edge upwards lies in that band, in [0, 1].

    Slow drift does not count: it is seen as such, or filtered away. The power is that of segments of up to
    `BLOCK` samples under a squared Hann window, whose leakage is 200 dB down a hundred bins away.

    >>> t = np.arange(2000) / 1000
    >>> ecg = Passband(None, None, None, 50.0)
    >>> share_in_band(np.sin(2 * np.pi * 20 * t), 1000, ecg) > 0.999
    True
    >>> share_in_band(np.sin(2 * np.pi * 200 * t), 1000, ecg) < 1e-12
    True
    """
    span = np.ptp(signal)
    if not 0 < span < math.inf:
        return 1.0
    size = min(signal.size, BLOCK)
    low, high = edges.shown(size / fs)
    first, last = math.ceil(low * size / fs * (1 - 1e-9)), math.floor(high * size / fs * (1 + 1e-9))  # bins
    window = (0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(size) + 0.5) / size)) ** 2
    window /= window.sum()
    inside = above = 0.0
    for start in np.linspace(0, signal.size - size, math.ceil(signal.size / size)).astype(np.intp):
        segment = signal[start : start + size] / span
        level = np.sum(segment * window)  # as the window weighs it: a plain mean would leave a constant behind
        power = np.abs(np.fft.rfft((segment - level) * window)) ** 2
        inside += float(power[first : last + 1].sum())
        above += float(power[last + 1 :].sum())
    return inside / (inside + above) if above > 0 else 1.0


def warn_if_slow(fs: float, modality: str, edges: Passband, recipe: Recipe, where: str = "signal") -> None:
    """Warn of a rate at which nobody records this modality: its unit may be another."""
    high = recipe.modality(modality).high
    if fs < SLOWEST * high and edges.shown_high == fs / 2:
        warn(
            f"{where}: fs={fs:g} Hz is slow for {modality}, which shows up to {high:g} Hz: fs is in samples a second, "
            "neither their interval nor kHz; give band=(low, high) where a slow signal is meant",
            where,
        )


def warn_if_outside(signal: Signal, fs: float, edges: Passband, where: str = "signal") -> None:
    """Warn of a signal of which less than `OUTSIDE` lies in the band that its images show."""
    if (share := share_in_band(signal, fs, edges)) < OUTSIDE:
        warn(
            f"{where}: of its power above {edges.shown_low or 0:g} Hz only a share of {share:.0e} lies in the band "
            f"that is shown, up to {edges.shown_high:g} Hz: an image shows little but leakage and rounding; check fs "
            "and modality, or pass band=",
            where,
        )


def _forwards_and_backwards(steps: Recursion, signal: Signal, padding: int) -> None:
    """What `scipy.signal.sosfiltfilt` gives, to rounding, in place of the signal and block by block.

    The state of a filter after one block is its state before the next, so the blocks join without a seam.
    """
    before = 2 * signal[0] - signal[padding:0:-1]  # point reflections
    after = 2 * signal[-1] - signal[-2 : -padding - 2 : -1]
    blocks = [signal[start : start + BLOCK] for start in range(0, signal.size, BLOCK)]
    _, state = steps.run(before, steps.settled * before[0])
    for block in blocks:
        block[:], state = steps.run(block, state)
    after, _ = steps.run(after, state)
    _, state = steps.run(after[::-1], steps.settled * after[-1])
    for block in reversed(blocks):
        block[::-1], state = steps.run(block[::-1], state)
