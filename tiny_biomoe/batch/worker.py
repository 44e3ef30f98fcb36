"""One group of files -> its shards on the disk: the work of a single process, on one machine or on many."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..embedding import Embedder
from ..errors import SignalError
from ..images.rendering import Levels
from ..images.windows import NO_MEMORY, Pictures
from ..inference.many_images import embed_in_turn
from ..sealed_files import remove
from ..signals.request import column_of
from .dry_run import Outlook
from .pipeline import Drawers, Pipeline
from .plan import File, Group
from .segments import Chunk, Settings, load, stream
from .shards import (
    MANIFEST,
    OLD,
    RUN,
    Cursor,
    Notice,
    Record,
    Row,
    Shard,
    chain,
    columns,
    commit,
    parts,
    row_id,
    shard_name,
    shard_paths,
    to_parquet,
    whole,
)
from .study_changes import KeptWindow, Seen, seen_in, set_aside

Event = Notice | KeptWindow | tuple[Chunk, int, Pictures | str]  # of a chunk's windows the one at this place


class InputFailed(SignalError):
    """An input that cannot be embedded, where the caller wants to stop there."""


class Observer:
    """Is called as a run goes on; a progress bar is one. This one does nothing."""

    def hashed(self, size: int) -> None:
        """One more file has been hashed, of so many bytes."""

    def planned(self, files: Sequence[File], outlook: Outlook) -> None:
        """The files are known, and what will become of them."""

    def found(self, windows: int, input_bytes: float) -> None:
        """A shard of so many windows was there, whole, from an earlier start."""

    def embedded(self, windows: int, input_bytes: float) -> None:
        """So many more windows are done, which stand for so many bytes of the files."""

    def stopping(self) -> None:
        """Ctrl-C or SIGTERM came: the run ends when the shard at hand is written."""


@dataclass(frozen=True)
class Run:
    """What all shards of a run share; plain values, so that it can travel to other machines."""

    out: Path
    settings: Settings
    further: tuple[tuple[str, str], ...]  # names and types of the columns carried along
    digest: str  # of the fingerprint
    stop_at_failure: bool = False


class Events:
    """A pipeline's windows one by one, of which the next can be looked at before it is taken."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._events = self._singly()
        self.next: Event | None = next(self._events, None)

    def _singly(self) -> Iterator[Event]:
        for each in self._pipeline:
            if isinstance(each, Notice | KeptWindow):
                yield each
            else:
                chunk, drawn = each
                yield from ((chunk, place, pictures) for place, pictures in enumerate(drawn))

    def advance(self) -> None:
        """Take the next one."""
        self.next = next(self._events, None)

    def cursor(self) -> Cursor | None:
        """Where the next window stands; None at the end."""
        if self.next is None or isinstance(self.next, Notice):
            return None
        if isinstance(self.next, KeptWindow):
            return Cursor(self.next.file, self.next.before)
        chunk, place, _ = self.next
        return Cursor(chunk.file, chunk.before + place)

    def close(self) -> None:
        """Stop reading ahead."""
        self._pipeline.close()


def embed_group(
    model: Embedder, group: Group, run: Run, drawers: Drawers, observer: Observer = Observer()
) -> Iterator[Record]:
    """Write the shards of a group that are not yet there, whole; gives each shard's record once it is on the disk.

    Inputs that failed before are tried again.

    Raises
    ------
    ConfigError
        The disk is full or refuses.
    InputFailed
        An input failed, and the run is to stop there.
    """
    work = _Work(model, _tried_again(model, group, run), run, observer)
    part, since = 0, None  # None: with the notices that stand before the first window
    while True:
        found = work.there(part, since)
        if found is not None:
            _stop_at_failures(found, run)
            observer.found(found.windows, found.input_bytes)
        for record in _embed(work, part, since, drawers) if found is None else [found]:
            yield record
            part, since = part + 1, record.cursor
        if since is None:
            _remove_beyond(run.out, group.digest, part - 1)
            return


def _tried_again(model: Embedder, group: Group, run: Run) -> Group:
    """Read the files of a group that failed before; where one gives something else now, set its shards aside."""
    records = list(chain(run.out, group.digest, run.digest))
    seen = seen_in(records, run.out / RUN / OLD)
    if not any(_gives_more(each, seen[each.key].notices, run, model) for each in group.files if _failed(each, seen)):
        return group
    remove(run.out / MANIFEST)
    set_aside(run.out, [record.name for record in reversed(records)])
    kept = {key: each.kept for key, each in seen.items() if not each.failed}
    return replace(group, kept={**group.kept, **kept})


def _failed(file: File, seen: Mapping[str, Seen]) -> bool:
    return file.key in seen and bool(seen[file.key].failed)


def _gives_more(file: File, before: Sequence[Notice], run: Run, model: Embedder) -> bool:
    """Whether a file that failed gives other windows or reasons than it did."""
    if any(each.again for each in before):
        return True
    found = load(file, run.settings, model.recipe)
    now = [replace(each, input=each.input - file.first) for each in found if isinstance(each, Notice)]
    known = [replace(each, window=0) for each in before if each.start is None]
    return now != known


def _stop_at_failures(record: Record, run: Run) -> None:
    for each in record.notices:
        _check_failure(Notice(**each), run)


@dataclass(frozen=True)
class _Work:
    """A group that is embedded, and what every step of that needs."""

    model: Embedder
    group: Group
    run: Run
    observer: Observer

    def there(self, part: int, since: Cursor | None) -> Record | None:
        """The record of a shard that is on the disk, whole, and begins where it is to."""
        name = shard_name(self.group.digest, part)
        return whole(self.run.out, name, self.run.digest, self.group.digest, since)

    @cached_property
    def _firsts(self) -> list[int]:
        return [file.first for file in self.group.files]

    def meet(self, number: int, shard: Shard) -> None:
        """Note in a shard that what follows is of the file of this input."""
        file = self.group.files[bisect_right(self._firsts, number) - 1]
        shard.meet(file.key, file.first)


def _embed(work: _Work, part: int, since: Cursor | None, drawers: Drawers) -> Iterator[Record]:
    """Write the shards from one on, to the group's last or to one that is there; their pictures are one stream."""
    group, run, model = work.group, work.run, work.model
    remove(run.out / MANIFEST)  # which says that the run is complete
    events = Events(Pipeline(stream(group, run.settings, model.recipe, since), drawers))
    drawn: deque[Shard] = deque()  # whose pictures are with the network
    failed: list[InputFailed] = []  # in the last of them, which is not written

    def pictures(shard: Shard) -> Iterator[Levels]:
        """A shard's pictures; where the run is to stop at one of its inputs, they end and the failure is noted."""
        try:
            yield from _pictures(work, events, shard)
        except InputFailed as error:
            failed.append(error)

    def shards() -> Iterator[Iterator[Levels]]:
        """The pictures of one shard after another, while each is noted in `drawn`."""
        begin = since
        for number in count(part):
            shard = Shard(shard_name(group.digest, number), begin)
            drawn.append(shard)
            yield pictures(shard)
            begin = shard.next
            if failed or begin is None or work.there(number + 1, begin) is not None:
                return

    try:
        rows = "rows" in run.settings.readouts
        with closing(embed_in_turn(model.backend, shards(), run.settings.batch_size, rows)) as sets:
            for vectors in sets:
                shard = drawn.popleft()
                if failed and not drawn:
                    break
                yield _write(work, shard, vectors)
        if failed:
            raise failed[0]
    finally:
        events.close()


def _write(work: _Work, shard: Shard, vectors: NDArray[np.float32]) -> Record:
    names, network = work.run.settings.representations, work.model.architecture
    of = {"embedding": network.embedding_dim, "rows": network.rows_dim}
    widths = {readout: of[readout] for readout in work.run.settings.readouts}
    shaped = vectors.reshape(-1, len(names), sum(widths.values()))
    if shard.kept:
        shaped, fresh = np.empty((len(shard.rows), *shaped.shape[1:]), np.float32), iter(shaped)
        for place in range(len(shard.rows)):
            shaped[place] = shard.kept[place] if place in shard.kept else next(fresh)
    parts, begin = {}, 0
    for readout, width in widths.items():
        for place, name in enumerate(names):
            parts[column_of(name, readout)] = shaped[:, place, begin : begin + width]
        begin += width
    schema = columns({name: part.shape[1] for name, part in parts.items()}, work.run.further)
    data = to_parquet(shard, parts, schema)
    return commit(work.run.out, shard, data, work.run.digest, work.group.digest)


def _pictures(work: _Work, events: Events, shard: Shard) -> Iterator[Levels]:
    """The pictures of the next windows, as many as a shard holds, while all else about them is noted in it."""
    while (event := events.next) is not None:
        if isinstance(event, Notice):
            work.meet(event.input, shard)
            _note(event, shard, work.run)
        elif shard.windows == work.run.settings.shard_windows:
            break
        elif isinstance(event, KeptWindow):
            _keep(work, event, shard)
        else:
            chunk, place, pictures = event
            segment = chunk.segment
            span = segment.spans[chunk.indices[place]]
            work.meet(segment.number, shard)
            shard.count(segment.number, not isinstance(pictures, str), chunk.input_bytes)
            row = _row(chunk, span)
            if isinstance(pictures, str):
                reason = pictures.removeprefix(f"{segment.filtered.where}, ")
                notice = Notice(
                    segment.number, row.source, "failed", reason, row.channel, row.start, row.stop,
                    chunk.before + place, reason.endswith(NO_MEMORY),
                )  # fmt: skip
                _note(notice, shard, work.run)
            else:
                _add(work, shard, row, segment.input.further)
                yield from pictures
            work.observer.embedded(1, chunk.input_bytes)
        events.advance()
    shard.next = events.cursor()
    if shard.next is not None and shard.files:
        shard.files[-1].ended = shard.files[-1].first != work.group.files[shard.next.file].first


def _keep(work: _Work, event: KeptWindow, shard: Shard) -> None:
    """Note a window that was embedded before, or failed."""
    work.meet(event.number, shard)
    shard.count(event.number, event.notice is None, event.input_bytes)
    if event.notice is not None:
        _note(event.notice, shard, work.run)
    elif event.row is not None and event.vectors is not None:
        shard.kept[len(shard.rows)] = event.vectors
        _add(work, shard, event.row, event.further)
    work.observer.found(1, event.input_bytes)


def _add(work: _Work, shard: Shard, row: Row, further: tuple[str, ...]) -> None:
    shard.rows.append(row)
    shard.further.append(further)
    _add_provenance(work.model, shard, row, work.run.settings)


def _note(notice: Notice, shard: Shard, run: Run) -> None:
    _check_failure(notice, run)
    shard.notices.append(notice)
    shard.tally.setdefault(notice.input, [0, 0])


def _check_failure(notice: Notice, run: Run) -> None:
    if run.stop_at_failure and notice.outcome == "failed":
        channel = f" {notice.channel}:" if notice.channel else ""
        raise InputFailed(f"{notice.source}:{channel} {notice.reason}")


def _row(chunk: Chunk, span: tuple[int, int]) -> Row:
    wanted, recording = chunk.segment.input, chunk.segment.recording
    start, stop = span[0] / recording.fs, span[1] / recording.fs
    good, modality = chunk.segment.filtered.quality(span, chunk.segment.end), str(recording.modality)
    began = None if recording.start is None else recording.start + start
    return Row(
        row_id(recording.source, recording.channel, start), recording.source, recording.channel, modality,
        wanted.subject, wanted.label, start, stop, recording.fs, began, good.missing, good.flat, good.clipped,
    )  # fmt: skip


def _add_provenance(model: Embedder, shard: Shard, row: Row, settings: Settings) -> None:
    key = f"{row.modality} {row.fs:.10g} Hz"
    if key not in shard.provenance:
        options = {**settings.image, "windowed": settings.window is not None}
        facts: dict[str, Any] = model.provenance(row.fs, row.modality, list(settings.representations), **options)
        facts.pop("fusion")  # every representation has a column of its own
        facts.pop("weights_source")  # the same weights give the same bytes wherever they lie
        if settings.readout == "rows":
            facts["readout"] = list(settings.readouts)  # each in a column of its own
        stride = settings.window if settings.stride is None else settings.stride
        shard.provenance[key] = facts | {"window": settings.window, "stride": stride, "short": settings.short}


def _remove_beyond(out: Path, group: str, last: int) -> None:
    """Remove shards of a group beyond its last one, from a run in which an input of it failed or did not."""
    for part in sorted(parts(out, group), reverse=True):
        if part > last:
            for path in shard_paths(out, shard_name(group, part)):
                remove(path)
