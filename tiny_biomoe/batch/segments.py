"""A group of files -> its windows, in an order that only names and contents decide.

Each file is read once, or once for every `wide_files.TOGETHER` columns that its inputs name, and each channel is
filtered once for each modality and rate that they give it. What cannot be used becomes a notice at its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np

from ..config import Recipe
from ..errors import ConfigError, SignalError, printable
from ..images.windows import FilteredRecording, runs
from ..readers.columns import LeftOut, NoSignal, OtherModality
from ..readers.formats import parts_of
from ..readers.read import REDUCE, Recording, Recordings, check_reading, state_of
from ..readers.wide_files import Result, read_each
from ..signals.request import READOUTS, Call, check_readout, column_of
from ..signals.validation import Grid, check_positive, check_share, windows
from .plan import File, Group
from .shards import Cursor, Notice
from .study_changes import KeptWindow, Shelf, kept_windows
from .study_table import Input, Study

NO_MEMORY = "not enough memory"
CHUNK = 8  # windows drawn at a time; 400 kB of levels a representation


@dataclass(frozen=True)
class Settings:
    """The arguments that decide the bytes of a run, beside its inputs and its weights."""

    representations: tuple[str, ...] = ("scalogram",)
    window: float | None = None  # seconds; None embeds each recording, or segment of one, as a whole
    stride: float | None = None  # seconds; the window otherwise
    short: str = "error"  # than a window: "error", "drop" or "pad"
    image: dict[str, Any] = field(default_factory=dict)  # band, scale, nan_policy, max_gap of `Call.check`
    reading: dict[str, Any] = field(default_factory=dict)  # arguments of `recordings.read`
    shard_windows: int = 2048
    batch_size: int = 32
    max_missing: float = 1.0  # share of a window's samples that may be interpolated or padded
    readout: str = "embedding"  # "rows": these beside the embeddings

    @property
    def readouts(self) -> tuple[str, ...]:
        """What a folder has columns of, for each representation; their numbers stand behind one another."""
        return READOUTS if self.readout == "rows" else READOUTS[:1]

    def check(self, recipe: Recipe) -> Settings:
        """The same with canonical names, once every argument is known to be possible.

        Raises
        ------
        ConfigError
            One is not.
        """
        call = Call.check(recipe, 1e6, "ecg", self.representations, windowed=self.window is not None, **self.image)
        if self.window is not None:
            windows(2**62, 1e6, self.window, self.stride, "drop" if self.short == "error" else self.short)
        elif self.stride is not None or self.short != "error":
            raise ConfigError("stride= and short= need window=, in seconds")
        check_share(self.max_missing, "max_missing")
        check_readout(self.readout)
        check_reading(self.reading)
        check_positive(self.shard_windows, "shard_windows")
        check_positive(self.batch_size, "batch_size")
        return Settings(**{**vars(self), "representations": call.representations})


@dataclass(frozen=True)
class Segment:
    """What an input asks of a recording: its windows."""

    number: int  # of the input
    input: Input
    recording: Recording  # without its samples
    filtered: FilteredRecording
    spans: Grid
    end: int  # sample at which the segment ends: a window that is padded repeats the value before it


@dataclass(frozen=True)
class Chunk:
    """Some successive windows of a segment."""

    file: int  # number of the file in its group
    before: int  # windows of that file before the first of these
    input_bytes: float  # bytes of the file a window
    segment: Segment
    indices: range

    def job(self) -> tuple[Any, ...]:
        """The arguments of `draw_windows`, and nothing that is not needed to draw."""
        filtered = self.segment.filtered
        parts = [filtered.window(self.segment.spans[index], self.segment.end) for index in self.indices]
        return filtered.call, filtered.limits, filtered.noise, parts


def load(file: File, settings: Settings, recipe: Recipe) -> list[Segment | Notice]:
    """Read what is wanted of a file; what cannot be used becomes a notice, which always names the input."""
    found: list[Segment | Notice] = []
    numbered = groupby(enumerate(file.inputs, file.first), key=lambda each: _request(each[1]))
    wanted = [(dict(request), list(same)) for request, same in numbered]
    if file.problem:
        return [Notice(number, each.source, "failed", file.problem) for _, same in wanted for number, each in same]
    results = read_each(file.path, [request for request, _ in wanted], **settings.reading)
    for (_, inputs), result in zip(wanted, results, strict=True):
        try:
            recordings = _usable(file, result)
            for recording in recordings:
                asked = list(_segments(recording, inputs, settings, recipe))
                if recording.held_fs is not None:
                    doubt = f"{recording.held_reason()}; {REDUCE}"
                    found += [
                        Notice(each.number, each.input.source, "warned", doubt, recording.channel)
                        for each in asked
                        if isinstance(each, Segment)  # what is not embedded has a reason of its own
                    ]
                found += asked
            for left in recordings.left_out:
                outcome = "failed" if left.failed else "skipped"
                found += [Notice(number, each.source, outcome, left.reason, left.channel) for number, each in inputs]
        except NoSignal as error:
            of_file = LeftOut("", _reason(error, file))
            for number, each in inputs:
                if isinstance(error, OtherModality) and each.modality and not each.within:  # a row contradicts its file
                    found.append(Notice(number, each.source, "failed", of_file.reason))
                    continue
                for left in error.left_out or [of_file]:
                    found.append(Notice(number, each.source, "skipped", left.reason, left.channel or None))
        except (SignalError, MemoryError, OSError) as error:
            reason, again = _reason(error, file), isinstance(error, MemoryError)
            found += [Notice(number, each.source, "failed", reason, again=again) for number, each in inputs]
    return _without_repeats(found)


def _request(each: Input) -> tuple[tuple[str, Any], ...]:
    """The arguments of `read` that an input sets; of a stretch, what is missing elsewhere does not count."""
    given = (
        *(("column", each.column), ("modality", each.modality), ("fs", each.fs)),
        ("on_hole", "nan" if each.is_stretch else None),
    )
    return tuple((name, value) for name, value in given if value is not None)


def _usable(file: File, result: Result) -> Recordings:
    """What was read, if it can be embedded at all."""
    if not isinstance(result, Recordings):
        raise result
    if file.state and state_of(parts_of(file.path)) != file.state:
        raise SignalError("the file changed since the run began")
    result.check_known()
    return result


def _reason(error: BaseException, file: File) -> str:
    if isinstance(error, MemoryError):
        return NO_MEMORY
    text = str(error)
    for name in (str(file.path), file.source):  # the columns beside the reason name the file
        text = text.removeprefix(f"{printable(name)}: ")
    return text


def _segments(
    recording: Recording, inputs: Sequence[tuple[int, Input]], settings: Settings, recipe: Recipe
) -> Iterator[Segment | Notice]:
    """The windows that each input asks of a channel, which is filtered once."""
    source, channel, fs = inputs[0][1].source, recording.channel, recording.fs
    if recording.modality is None:
        reason = recording.why_without_vector()
        yield from (Notice(number, source, "skipped", reason, channel) for number, _ in inputs)
        return
    try:
        options = {**settings.image, "windowed": settings.window is not None}
        call = Call.check(recipe, fs, recording.modality, settings.representations, **options)
        name = f"{source}: {channel}"
        if settings.window is None and not any(each.is_stretch for _, each in inputs):
            filtered = FilteredRecording.of(recording.signal, call, name, settings.max_missing)
        else:  # a gap costs the windows or segments that it lies in
            filtered = FilteredRecording.by_window(recording.signal, call, name, settings.max_missing)
    except (SignalError, MemoryError) as error:
        reason = str(error).removeprefix(f"{source}: {channel} ") or NO_MEMORY
        again = isinstance(error, MemoryError)
        yield from (Notice(number, source, "failed", reason, channel, again=again) for number, _ in inputs)
        return
    head = Recording(np.empty(0), fs, recording.modality, channel, recording.start, source)
    for number, each in inputs:
        try:
            begin, end = _bounds(each, recording.signal.size, fs)
            pieces = _pieces(recording, begin, end, settings) if each.is_stretch else [(begin, end)]
        except SignalError as error:
            yield Notice(number, source, "failed", str(error), channel)
            continue
        for first, last in pieces:
            try:
                spans = _spans(first, last, fs, settings)
                filtered.call.check_window(spans.size)
                if len(spans):
                    yield Segment(number, each, head, filtered, spans, last)
                else:
                    yield Notice(number, source, "skipped", "shorter than one window", channel)
            except SignalError as error:
                yield Notice(number, source, "failed", str(error), channel)


def _pieces(recording: Recording, begin: int, end: int, settings: Settings) -> list[tuple[int, int]]:
    """A stretch, as what `on_hole` says of holes within it leaves it."""
    on_hole = settings.reading.get("on_hole", "error")
    if on_hole == "error":
        recording.check_whole(begin / recording.fs, end / recording.fs)
    if on_hole != "split":
        return [(begin, end)]
    found = [(begin + a, begin + b) for a, b in runs(~np.isnan(recording.signal[begin:end]))]
    if not found:
        raise SignalError("all samples of the segment are missing")
    return found


def _bounds(wanted: Input, n_samples: int, fs: float) -> tuple[int, int]:
    """The samples at which the segment that is asked for begins and ends."""
    begin = round((wanted.start or 0.0) * fs)
    end = n_samples if wanted.stop is None else round(wanted.stop * fs)
    if begin >= n_samples or end > n_samples:
        raise SignalError(f"the recording ends at {n_samples / fs:g} s, before the segment that is asked for does")
    if begin >= end:
        raise SignalError("the segment is shorter than one sample")
    return begin, end


def _spans(begin: int, end: int, fs: float, settings: Settings) -> Grid:
    if settings.window is None:
        return Grid(1, end - begin, 1.0, fs, begin)
    step = settings.window if settings.stride is None else settings.stride
    if step * fs < 1:
        raise SignalError(f"stride={step:g} s is less than one sample at {fs:g} Hz: two windows would be one")
    return windows(end - begin, fs, settings.window, settings.stride, settings.short, begin)


def _without_repeats(found: list[Segment | Notice]) -> list[Segment | Notice]:
    """Refuse a segment of which a window was already asked for, so that every id is there once."""
    starts: dict[str, np.ndarray[Any, Any]] = {}
    kept: list[Segment | Notice] = []
    channels = Counter(each.recording.channel for each in found if isinstance(each, Segment))
    for each in found:
        if isinstance(each, Segment) and channels[each.recording.channel] > 1:
            channel = each.recording.channel
            mine = np.fromiter((start for start, _ in each.spans), np.int64, len(each.spans))
            if np.isin(mine, starts.get(channel, [])).any():
                reason = "a window of this channel and start is asked for by another row of the study"
                each = Notice(each.number, each.input.source, "failed", reason, channel)
            else:
                starts[channel] = np.union1d(starts.get(channel, mine), mine)
        kept.append(each)
    return kept


def stream(
    group: Group, settings: Settings, recipe: Recipe, since: Cursor | None
) -> Iterator[Chunk | KeptWindow | Notice]:
    """The windows of a group and the notices about its inputs, in their order.

    `since` is the window to begin with; what comes before it, notices too, is left out. Windows of files that were
    embedded before are taken from there.
    """
    first, shelf = since or Cursor(0, 0), Shelf()
    for position in range(first.file, len(group.files)):
        skip = first.window if since is not None and position == first.file else None
        file = group.files[position]
        kept = group.kept.get(file.key)
        if kept is not None and shelf.holds(kept):
            columns = [[column_of(name, each) for each in settings.readouts] for name in settings.representations]
            found = kept_windows(shelf, kept, file, position, columns)
            yield from found if skip is None else _behind(found, skip)
        else:
            yield from _windows(file, position, settings, recipe, skip)


def _behind(found: Iterator[KeptWindow | Notice], skip: int) -> Iterator[KeptWindow | Notice]:
    """What comes from window `skip` of a file on."""
    passed = False
    for each in found:
        passed = passed or (isinstance(each, KeptWindow) and each.before >= skip)
        if passed:
            yield each


def _windows(
    file: File, position: int, settings: Settings, recipe: Recipe, skip: int | None
) -> Iterator[Chunk | Notice]:
    """The windows of a file that is read, from window `skip` on."""
    found = load(file, settings, recipe)
    total = sum(len(each.spans) for each in found if isinstance(each, Segment))
    size = file.size / max(total, 1)
    before, passed = 0, skip is None
    for each in found:
        if isinstance(each, Notice):
            if passed:
                yield replace(each, window=before)
            continue
        begin = min(max((skip or 0) - before, 0), len(each.spans))
        for index in range(begin, len(each.spans), CHUNK):
            passed = True
            indices = range(index, min(index + CHUNK, len(each.spans)))
            yield Chunk(position, before + index, size, each, indices)
        before += len(each.spans)


def survey(study: Study, settings: Settings, recipe: Recipe) -> Iterator[Segment | Notice]:
    """What a run would embed, and what it would not; nothing is drawn."""
    first = 0
    for path, inputs in groupby(study.inputs, key=lambda each: each.path):
        same, problem = tuple(inputs), None if path.exists() else "there is no such file"
        yield from load(File(same, first, 0, None, problem), settings, recipe)
        first += len(same)
