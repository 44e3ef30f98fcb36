"""BrainVision, EEGLAB, FIF, GDF, Neuroscan CNT and Nicolet, through mne.

mne: Gramfort et al. 2013, doi:10.3389/fnins.2013.00267. EDF and BDF are not read this way: mne brings
channels of several rates to one.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError, excerpt, need
from .channel import MAX_BYTES, Channel, Options, choose
from .columns import kind_of
from .damage import bounded, damage
from .pauses import in_segments
from .text_files import read_unpacked
from .timestamps import unix_time

MNE_ENDINGS = (".vhdr", ".set", ".fif", ".gdf", ".cnt")
FORMATS = {".vhdr": "BrainVision", ".set": "EEGLAB", ".fif": "FIF", ".gdf": "GDF", ".cnt": "CNT", ".data": "Nicolet"}
MAX_TEXT = 1 << 26  # bytes of a BrainVision header or marker file
TAG = struct.Struct(">iiii")  # of a FIF file: kind, type, bytes, place of the next tag
VOLT = 107  # FIFF's code of the unit
SCALED = {"µV": 1e-6, "uV": 1e-6, "mV": 1e-3, "nV": 1e-9, "V": 1.0, "µS": 1e-6, "uS": 1e-6}  # by BrainVision's reader
TYPES = {"eeg": "eeg", "ecg": "ecg", "emg": "emg", "resp": "resp", "gsr": "eda", "eog": "eye movement"}
TYPES |= {"stim": "trigger", "temperature": "temperature"}


def looks_like_nicolet(path: Path, head: bytes) -> bool:
    """Whether a file holds the samples of a Nicolet recording, whose header lies beside it."""
    return path.name.lower().endswith(".data") and path.with_suffix(".head").is_file()


def mne_parts(path: Path) -> list[Path]:
    """The files that are read with a recording: samples and marks apart from their header."""
    ending = path.suffix.lower()
    if ending == ".vhdr":
        return [path.with_name(name) for name in _brainvision_files(path) if Path(name).name == name]
    if ending == ".set":
        return [path.with_suffix(".fdt")]
    if ending == ".data":
        return [path.with_suffix(".head")]
    return []


def _brainvision_files(path: Path) -> list[str]:
    head = read_unpacked(path, MAX_TEXT).decode("latin-1")
    names = re.findall(r"^(?:DataFile|MarkerFile)\s*=\s*(.+?)\s*$", head, re.MULTILINE)
    return [name.replace("$b", path.stem) for name in names]


def read_mne(path: Path, options: Options) -> list[Channel]:
    """One of mne's formats: every channel, in volts where mne gives volts, else in the unit that the file states."""
    need("mne", extra="mne", what="reading this format")
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    _check_parts(path, ending)
    with damage(FORMATS[ending]):
        raw = _open(path, ending)
        names = list(raw.ch_names)
        chosen = choose(names, options.column)
        bounded(raw.n_times * len(chosen))
        data, kinds = raw.get_data(picks=chosen), raw.get_channel_types(picks=chosen)
    fs, start = float(raw.info["sfreq"]), _start(raw, ending)
    for begin, stop in _skipped(raw):
        data[:, begin:stop] = np.nan
    begins, starts = _segments(path, raw)
    channels = []
    for row, at, kind in zip(data, chosen, kinds, strict=True):
        samples, unit = _in_units(row, raw, at, ending)
        about = kind_of(names[at], unit) or (TYPES.get(kind) if ending == ".fif" else None)  # else mne guesses eeg
        whole = Channel(names[at], samples, about, fs, start, unit=unit)
        channels += in_segments(whole, begins, starts, options.time_column == "")
    return channels


def _check_parts(path: Path, ending: str) -> None:
    """Refuse a header whose files do not lie beside it."""
    if ending == ".fif":
        _check_fif(path)
    named = _brainvision_files(path) if ending == ".vhdr" else []
    for name in named:
        part = path.with_name(Path(name).name)
        if Path(name).name != name or part.is_symlink() or not part.is_file():
            raise SignalError(
                f"the header needs {excerpt(name)}, and no such file lies beside it: keep its files together"
            )


def _check_fif(path: Path) -> None:
    """Refuse a FIF file whose list of tags does not lead to its end: mne would follow it for ever."""
    data = read_unpacked(path, 4 * MAX_BYTES)
    at = 0
    while at + TAG.size <= len(data):
        _, _, size, following = TAG.unpack_from(data, at)
        if following == -1:
            return
        after = at + TAG.size + size if following == 0 else following
        if size < 0 or after <= at or after > len(data):
            break
        at = after
    if at != len(data):
        raise SignalError(
            f"its list of tags breaks off at byte {at}: the file was cut short or damaged, fetch it again"
        )


def _open(path: Path, ending: str) -> Any:
    import mne

    readers: dict[str, Callable[..., Any]] = {
        ".vhdr": mne.io.read_raw_brainvision,
        ".set": mne.io.read_raw_eeglab,
        ".fif": mne.io.read_raw_fif,
        ".gdf": mne.io.read_raw_gdf,
        ".cnt": mne.io.read_raw_cnt,
        ".data": mne.io.read_raw_nicolet,
    }
    more = {"ch_type": "eeg"} if ending == ".data" else {"allow_maxshield": "yes"} if ending == ".fif" else {}
    with warnings.catch_warnings(), mne.utils.use_log_level("ERROR"):
        warnings.simplefilter("ignore", RuntimeWarning)  # on names, positions of electrodes and filters
        return readers[ending](path, verbose="ERROR", **more)


def _start(raw: Any, ending: str) -> float | None:
    """Unix seconds of the first sample; a clock that names no time zone counts as UTC."""
    date = raw.info["meas_date"]
    if date is not None and ending == ".cnt":  # which mne takes for a time of the place where it is read
        date = date.astimezone().replace(tzinfo=None)
    return None if date is None else unix_time(date) + float(raw.first_time)


def _in_units(row: NDArray[np.float64], raw: Any, at: int, ending: str) -> tuple[NDArray[np.float64], str | None]:
    """Samples and their unit: that of a BrainVision header, volts where mne scales to volts, or unknown."""
    unit = raw._orig_units.get(raw.ch_names[at])  # mne shows the file's unit nowhere else
    if ending == ".vhdr":
        return row / SCALED.get(unit, 1.0), unit
    if ending == ".gdf":  # mne scales what is in microvolts or millivolts, and gives other units as they are
        return row, "V" if raw._raw_extras[0]["units"][at] != 1 else None
    return row, "V" if raw.info["chs"][at]["unit"] == VOLT else unit


def _skipped(raw: Any) -> list[tuple[int, int]]:
    """Samples that a FIF file left out, for which mne gives zeros."""
    return [
        (_sample(raw, mark["onset"]), _sample(raw, mark["onset"] + mark["duration"]))
        for mark in raw.annotations
        if mark["description"] == "BAD_ACQ_SKIP"
    ]


def _sample(raw: Any, onset: float) -> int:
    offset = float(raw.first_time) if raw.annotations.orig_time is not None else 0.0
    return max(round((onset - offset) * float(raw.info["sfreq"])), 0)


def _segments(path: Path, raw: Any) -> tuple[list[int], list[float | None]]:
    """Where recording went on after a pause or a cut, and when, in seconds of one clock."""
    if path.suffix.lower() == ".vhdr":
        return _new_segments(path)
    begins, starts, removed = [0], [0.0], 0.0
    fs, known = float(raw.info["sfreq"]), True
    for mark in raw.annotations:
        if mark["description"] in ("boundary", "BAD boundary"):
            begins.append(_sample(raw, mark["onset"]))
            removed += float(mark["duration"])
            known = known and float(mark["duration"]) > 0
            starts.append(begins[-1] / fs + removed)
    return begins, [start if known else None for start in starts]


def _new_segments(path: Path) -> tuple[list[int], list[float | None]]:
    begins: list[int] = []
    starts: list[float | None] = []
    for marks in (part for part in mne_parts(path) if part.suffix.lower() in (".vmrk", ".amrk")):
        text = read_unpacked(marks, MAX_TEXT).decode("latin-1")
        for position, date in re.findall(r"^Mk\d+=New Segment,[^,]*,(\d+),[^,\n]*,[^,\n]*,?(\d*)", text, re.MULTILINE):
            begins.append(int(position) - 1)
            starts.append(_moment(date))
    return begins, starts


def _moment(date: str) -> float | None:
    try:
        return unix_time(datetime.strptime(date, "%Y%m%d%H%M%S%f"))
    except ValueError:
        return None
