"""`read`: the channels of a file as recordings, each at one rate, refused without one; cut or filled at gaps.

Which formats there are, and how a file of each is recognised, stands in `formats`.
"""

from __future__ import annotations

import inspect
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, MissingExtra, MissingReader, SignalError, excerpt, listed, printable, unknown, warn
from ..signals.filters import MODALITIES, modality_name
from ..signals.validation import Signal, check_fs
from .channel import AGREEMENT, NO_MODALITY, Channel, Options, agree
from .columns import LeftOut, NoSignal, kind_of, settle
from .damage import bounded
from .formats import FORMATS, channels_of, parts_of
from .held_samples import held, reduced
from .timestamps import SPLIT, Timing, read_clock, settle_unit

CHOICES: dict[str, list[str | None]] = {
    "format": [None, *FORMATS],
    "on_hole": ["error", "split", "nan"],
    "on_jitter": ["error", "resample"],
    "on_held": ["warn", "reduce"],
}
NAMED = 8  # channels that a message lists
MORE = ", and {} more columns"
SLOWEST = 1.0  # Hz; monitors store numbers so, such as breaths and beats a minute, under the names of the waveforms
SLOW = "one value in {:g} s, as numbers have that are computed from {}, not the signal itself"
PAUSES = 'its pauses are too long to be held as missing: split the file, or at them, on_hole="split" (--on-hole split)'
REDUCE = 'to read it at that rate pass on_held="reduce" (--on-held reduce)'


@dataclass(frozen=True, repr=False)
class Recording:
    """One channel of a file, or one run of it between two holes."""

    signal: Signal  # (n_samples,), in the file's units; may hold NaN where the file says that a sample is missing
    fs: float  # Hz
    modality: str | None  # canonical, where the file or the caller says it
    channel: str  # column, sensor or trial; "name[start:stop]" in samples for one run of several
    start: float | None  # unix seconds of the first sample, where the file holds it; no time zone counts as UTC
    source: str  # path relative to the root, with forward slashes; control characters and odd bytes escaped
    holes: tuple[tuple[float, float], ...] = ()  # seconds since the first sample, where NaN fills in for missing rows
    held_fs: float | None = field(default=None, repr=False)  # Hz of the sensor, where its values are only repeated

    def __repr__(self) -> str:
        measures = self.modality or kind_of(self.channel) or "of unknown modality"
        began = "" if self.start is None else f", from unix time {self.start:.3f}"
        seconds = self.signal.size / self.fs
        return (
            f"<Recording {printable(self.channel)!r} of {self.source}: {measures}, {self.signal.size} samples at "
            f"{self.fs:g} Hz ({seconds:g} s){began}>"
        )

    def check_whole(self, start: float = 0.0, stop: float = math.inf, remedy: str = SPLIT) -> None:
        """Refuse a stretch of the recording, in seconds since its first sample, that has a hole in it.

        Raises
        ------
        SignalError
            The file has no rows for some time between `start` and `stop`.
        """
        holes = [each for each in self.holes if each[0] < stop and each[1] > start]
        if holes:
            begin, end = holes[0]
            raise SignalError(
                f"samples are missing for {end - begin:g} s from {begin:g} s on, the first of {len(holes)} holes: "
                f"{remedy}"
            )

    def why_without_vector(self) -> str:
        """Why it is passed over, where it is of no modality."""
        kind = kind_of(self.channel)
        return f"measures {kind}" if kind else NO_MODALITY

    def held_reason(self) -> str:
        """Why the samples are doubtful, where they are only repeated."""
        return f"repeats each value: it was sampled at {self.held_fs:g} Hz and exported at {self.fs:g} Hz"


class Recordings(list[Recording]):
    """The recordings of a file, and in `left_out` what else it holds: a list of channels and reasons."""

    def __init__(self, found: Iterable[Recording] = (), left_out: Iterable[LeftOut] = ()) -> None:
        super().__init__(found)
        self.left_out = list(left_out)

    def check_known(self) -> None:
        """Refuse a file in which nothing is known to be a signal of a modality, and something may be one.

        Raises
        ------
        SignalError
            It has no recording of a modality, and not all that it has are known to measure something else.
        """
        if not any(each.modality for each in self) and not all(kind_of(each.channel) for each in self):
            raise SignalError(self.without_modality())

    def without_modality(self) -> str:
        """What an error says where no recording is known to measure anything."""
        names = list(dict.fromkeys(printable(each.channel) for each in self if not kind_of(each.channel)))
        return (
            f"the file does not say what it measures: pass modality= (--modality), one of {', '.join(MODALITIES)}; it "
            f"holds {listed(map(excerpt, names), NAMED)}"
        )


def read(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    format: str | None = None,
    fs: float | None = None,
    modality: str | None = None,
    column: str | int | Sequence[str | int] | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    encoding: str = "utf-8",
    header: bool | None = None,
    time_column: str | int | None = None,
    on_hole: str = "error",
    on_jitter: str = "error",
    on_held: str = "warn",
) -> Recordings:
    """Read every channel of a file that is a signal, or the chosen ones.

    Parameters
    ----------
    path
        A file. Text may be compressed with gzip. A WFDB record is read by its .hea.
    root
        The folder that `Recording.source` is relative to; `path` as it is given otherwise.
    format
        A key of `FORMATS`; recognised by the content otherwise.
    fs
        Sampling rate in Hz, where the file does not hold it. It must agree with the file's within 1 %.
    modality
        What is measured, where the file does not say it. Of a file with channels of several modalities, those of
        this one are read, unless `column` chooses.
    column
        Name, or number counted from 0, of the channel to read, or a list of them; they are read whatever they look
        like. "*" stands for every column that is a signal, where `modality` fits several.
    delimiter, decimal, encoding, header
        How delimited text is written; recognised by the content otherwise, and refused where that leaves a doubt.
    time_column
        Name or number of the column that holds times; otherwise one called time, t, timestamp or the like. The name may
        add a unit that the file leaves out, "t [ms]". "" reads a file without its times.
    on_hole
        What to do where rows are missing in time: "error"; "split" into one recording a run, which splits at missing
        samples (NaN) as well; or "nan", one recording with NaN for what is missing, of which a gap costs its windows.
    on_jitter
        What to do with uneven times: "error", or "resample", linearly to an even rate.
    on_held
        What to do with a slow sensor that was exported at a higher rate by repeating each value (EDA of 4 Hz at
        64 Hz): "warn" with the true rate, or "reduce" to one sample of each run, at the true rate.

    Returns
    -------
    list of Recording, in the file's order; its attribute `left_out` lists the channels that are no signals (clocks,
    counters, derived quantities, marks) or cannot be read, each with the reason

    Raises
    ------
    SignalError
        The file cannot be read, or not without a doubt; the message says where, and how to mend it. One bad channel
        of several is not an error: it is left out, with a warning.
    ConfigError
        An argument that no file can have.
    """
    path = Path(path)
    choices = {"format": format, "on_hole": on_hole, "on_jitter": on_jitter, "on_held": on_held}
    check_reading({"fs": fs, "modality": modality, **choices})
    stated = Statements.of(path, root, fs, modality, on_hole, on_jitter, on_held)
    options = Options(column, delimiter, decimal, encoding, header, time_column)
    with reading(path):
        found = stated.all_recordings(channels_of(path, format, options), options)
    if failed := [each for each in found.left_out if each.failed]:
        columns = (f"column {each.channel!r} is not read: {each.reason}" for each in failed)
        warn(f"{printable(str(path))}: {listed(columns, 1, MORE)}", printable(str(path)))
    if doubtful := [each for each in found if each.held_fs is not None]:
        columns = (f"column {each.channel!r} {each.held_reason()}" for each in doubtful)
        warn(f"{printable(str(path))}: {listed(columns, 3, MORE, '; ')}: {REDUCE}", printable(str(path)))
    return found


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Errors within name the file, which must not change meanwhile."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SignalError("not a plain file: a folder is searched with find(), pipes and devices are never opened")
        parts = parts_of(path)
        before = state_of(parts)
        yield
        if state_of(parts) != before:
            raise SignalError("the file changed while it was read: wait until it is complete, and read it again")
    except NoSignal as error:
        raise type(error)(f"{printable(str(path))}: {error}", error.left_out) from error
    except SignalError as error:
        raise type(error)(f"{printable(str(path))}: {error}") from error
    except MissingExtra as error:
        raise MissingReader(f"{printable(str(path))}: {error}") from error
    except OSError as error:
        raise SignalError(f"{printable(str(path))}: the file cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise SignalError(f"{printable(str(path))}: too large for the memory: choose a column=, or split it") from error


def check_reading(options: Mapping[str, Any]) -> None:
    """Refuse arguments of `read` that no file can have, before any is read.

    Raises
    ------
    ConfigError
        An unknown argument, or one that is none of its choices.
    """
    for name, value in options.items():
        if name not in _arguments():
            raise unknown("argument", name, _arguments())
        if name in CHOICES and value not in CHOICES[name]:
            raise unknown(name, value, [choice for choice in CHOICES[name] if choice])
    if options.get("fs") is not None:
        check_fs(options["fs"])
    if options.get("modality") is not None:
        modality_name(options["modality"])


@lru_cache(maxsize=1)
def _arguments() -> tuple[str, ...]:
    """The arguments of `read` that say how a file is read."""
    return tuple(name for name in inspect.signature(read).parameters if name not in ("path", "root"))


def state_of(parts: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """Size and time of the last change of files, as a quick sign that they are still the same."""
    return tuple((each.st_size, each.st_mtime_ns) for each in map(os.stat, parts))


@dataclass(frozen=True)
class Statements:
    """What the caller says of a channel, whatever the file."""

    source: str
    fs: float | None
    modality: str | None  # canonical
    on_hole: str
    resample: bool
    reduce: bool

    @classmethod
    def of(
        cls, path: Path, root: Any, fs: Any, modality: Any, on_hole: Any, on_jitter: Any, on_held: Any
    ) -> Statements:
        """From arguments of `read`."""
        source = source_name(path, None if root is None else Path(root))
        rate = None if fs is None else check_fs(fs)
        name = None if modality is None else modality_name(modality)
        return cls(source, rate, name, on_hole or "error", on_jitter == "resample", on_held == "reduce")

    def all_recordings(self, channels: list[Channel], options: Options) -> Recordings:
        """What is read of a file's channels, and what is left out; an error only where nothing can be read."""
        kept, left = settle(channels, self.modality, options.column, options.time_column != "")
        found: list[Recording] = []
        errors: list[SignalError] = []
        timings: dict[Any, Timing] = {}  # most channels of a file share one clock
        filled = 0  # samples that stand for missing rows, of all channels
        for channel in kept:
            try:
                recordings = list(map(self._at_own_rate, self.recordings(channel, timings)))
                filled += sum(round((end - begin) * each.fs) for each in recordings for begin, end in each.holes)
                bounded(filled, PAUSES)
                doubts = [SLOW.format(1 / each.fs, each.modality) for each in recordings if _is_number(each)]
                if doubts and options.column in (None, "*") and channel.kind is not None:
                    left.append(LeftOut(printable(channel.name), doubts[0]))
                    continue
                if doubts:
                    named = "it was named" if options.column not in (None, "*") else "its modality was"
                    warn(f"read because {named}, although {printable(channel.name)!r} has {doubts[0]}")
                found += recordings
            except SignalError as error:
                errors.append(error)
                left.append(LeftOut(printable(channel.name), str(error), True))
        if errors and not found:
            raise errors[0]
        if not found:
            found_one = f"{printable(left[-1].channel)} has {left[-1].reason}"
            raise NoSignal(
                f"no column is a signal: {found_one}; to read one all the same name it, column= (--column)", left
            )
        return Recordings(found, left)

    def _at_own_rate(self, recording: Recording) -> Recording:
        """A recording whose values are repeated: reduced where the caller wants that, else marked."""
        found = held(recording.signal)
        if found is None:
            return recording
        rate = found.rate(recording.fs)
        if not self.reduce:  # of what is no signal of a modality nobody needs to know
            return recording if recording.modality is None else replace(recording, held_fs=rate)
        signal, begin = reduced(recording.signal, found)
        later = begin / recording.fs
        start = None if recording.start is None else recording.start + later
        holes = tuple((each - later, stop - later) for each, stop in recording.holes)
        return replace(recording, signal=signal, fs=rate, start=start, holes=holes)

    def recordings(self, channel: Channel, timings: dict[Any, Timing]) -> Iterator[Recording]:
        """Settle the rate of a channel, and cut it where samples are missing in time; `timings` are those known."""
        name, samples = printable(channel.name), channel.samples
        modality = self.modality or (channel.kind if channel.kind in MODALITIES else None)
        if not samples.size:
            raise SignalError(f"column {name!r} holds no samples")
        rate = agree(channel.fs, self.fs)
        clock = None if channel.clock is None else settle_unit(channel.clock, rate)
        if clock is None:
            if rate is None:
                raise SignalError(
                    "the file does not hold its sampling rate: give it in Hz, e.g. fs=100 (--fs 100), or name a column "
                    "of times, time_column= (--time-column)"
                )
            for begin, end in self._without_gaps(samples, [(0, samples.size)]):
                label = name if (begin, end) == (0, samples.size) else f"{name}[{begin}:{end}]"
                at = None if channel.start is None else channel.start + begin / rate
                yield Recording(samples[begin:end], rate, modality, label, at, self.source)
            return
        key = id(channel.clock), samples.size, rate
        if key not in timings:
            timings[key] = read_clock(clock, samples.size, rate, self.on_hole != "error", self.resample)
        timing = timings[key]
        if self.on_hole == "nan":
            signal, holes = _with_holes(samples, timing)
            yield Recording(signal, timing.fs, modality, name, timing.start(0, channel.start), self.source, holes)
            return
        found = self._without_gaps(samples, timing.runs)
        for begin, end in found:
            start = timing.start(begin, channel.start)
            label = name if len(found) == 1 and end - begin == samples.size else f"{name}[{begin}:{end}]"
            yield Recording(_even(samples, timing, begin, end), timing.fs, modality, label, start, self.source)

    def _without_gaps(self, samples: Signal, runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The runs, split at missing samples as well where the caller asks for a split."""
        missing = np.isnan(samples) if self.on_hole == "split" else np.zeros(0, bool)
        if not missing.any() or missing.all():
            return runs
        parts: list[tuple[int, int]] = []
        for begin, end in runs:
            edges = np.flatnonzero(np.diff(~missing[begin:end], prepend=False, append=False)) + begin
            parts += zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        return parts


def _is_number(recording: Recording) -> bool:
    """Whether a channel has one number a second or fewer, and is named after a waveform, which needs many more.

    But for breathing, of which Sleep-EDF has one sample a second: it swings, and no number of breaths is below 0.
    """
    slow = recording.fs <= SLOWEST * (1 + AGREEMENT) and recording.modality not in (None, "eda", "spo2")
    return slow and not (recording.modality == "resp" and float(np.mean(recording.signal < 0)) > 0.1)


def _even(samples: Signal, timing: Timing, begin: int, end: int) -> Signal:
    """One run, interpolated to an even rate where its times are uneven."""
    if timing.even:
        return samples[begin:end]
    seconds = timing.seconds[begin:end] - timing.seconds[begin]
    return np.interp(np.arange(math.floor(seconds[-1] * timing.fs + 1e-6) + 1) / timing.fs, seconds, samples[begin:end])


def _with_holes(samples: Signal, timing: Timing) -> tuple[Signal, tuple[tuple[float, float], ...]]:
    """The runs on one grid, NaN between them, and where the holes lie in seconds."""
    runs = [_even(samples, timing, *run) for run in timing.runs]
    steps = [timing.seconds[after] - timing.seconds[after - 1] for after, _ in timing.runs[1:]]
    lacking = [max(round(step * timing.fs) - 1, 1) for step in steps]
    bounded(samples.size + sum(lacking), PAUSES)
    parts, holes, at = runs[:1], [], runs[0].size
    for missing, run in zip(lacking, runs[1:], strict=True):
        parts += [np.full(missing, np.nan), run]
        holes.append((at / timing.fs, (at + missing) / timing.fs))
        at += missing + run.size
    return np.concatenate(parts) if holes else parts[0], tuple(holes)


def source_name(path: Path, root: Path | None) -> str:
    """What a file is called in every result: its path below `root`, with forward slashes, printable.

    Raises
    ------
    ConfigError
        The file does not lie below `root`.
    """
    if root is None:
        return printable(path.as_posix())
    try:
        return printable(path.relative_to(root).as_posix())
    except ValueError as error:
        raise ConfigError(f"{printable(str(path))} does not lie below root={printable(str(root))}") from error
