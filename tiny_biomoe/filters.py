"""Filters: which band each modality keeps, and a zero-phase filter that keeps it (paper, section 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy  # scipy.signal is loaded when first used: it takes as long as half of PyTorch
from numpy.typing import NDArray

from .config import Recipe
from .errors import ConfigError, SignalError, unknown
from .signals import Signal, check_length, is_flat, is_number

NYQUIST_MARGIN = 0.99  # a cut-off above this share of Nyquist counts as at Nyquist: it removes nothing
NOTHING_LEFT = 1e-6  # a filtered signal spanning less than this share of the raw one is rounding noise
NARROWEST = 0.02  # of the upper edge; the frames that would resolve a narrower band are without end
MODALITY_BAND = "modality"  # band=: the paper's filter for the modality


@dataclass(frozen=True)
class Modality:
    """What a modality is called and what it measures. Its numbers are in `config.Recipe`."""

    aliases: tuple[str, ...]
    measures: str


MODALITIES: dict[str, Modality] = {
    "eda": Modality(("gsr",), "electrodermal activity"),
    "bvp": Modality(("ppg",), "blood volume pulse"),
    "resp": Modality(("rsp",), "respiration"),
    "spo2": Modality((), "peripheral oxygen saturation"),
    "ecg": Modality((), "electrocardiogram"),
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
    unit = (signal - start) / span  # no rounding from a large offset, no denormals
    slowest = edges.low if edges.low is not None else edges.high
    sections = _butterworth(recipe.filter_order, fs, edges.low, edges.high)
    padding = min(signal.size - 1, max(6 * recipe.filter_order, math.ceil(fs / slowest)))  # type: ignore[operator]
    filtered = np.asarray(scipy.signal.sosfiltfilt(sections, unit, padlen=padding))
    if np.ptp(filtered) < NOTHING_LEFT:
        raise SignalError(
            f"{where} holds nothing in {edges.low or 0:g}-{edges.high or fs / 2:g} Hz, the band that is kept: check fs "
            "and modality, or pass band="
        )
    filtered = filtered * span if edges.low is not None else filtered * span + start
    if not np.isfinite(np.ptp(filtered)):
        raise SignalError(f"{where}: the filtered signal overflows; look for extreme samples")
    return filtered


@lru_cache(maxsize=64)
def _butterworth(order: int, fs: float, low: float | None, high: float | None) -> NDArray[np.float64]:
    if low is None:
        return np.asarray(scipy.signal.butter(order, high, "lowpass", fs=fs, output="sos"))
    if high is None:
        return np.asarray(scipy.signal.butter(order, low, "highpass", fs=fs, output="sos"))
    return np.asarray(scipy.signal.butter(order, (low, high), "bandpass", fs=fs, output="sos"))
