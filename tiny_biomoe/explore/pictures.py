"""Windows as small pictures: the image that the network saw and the trace behind it, drawn again from the recordings.

A folder of embeddings holds no image. Each recording is read, filtered and cut as the run did it, once its content is
found to be what was embedded; a window of a file that is gone or has changed has a reason instead of a picture.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ..batch.plan import File
from ..batch.segments import Segment, Settings, load
from ..batch.shards import Notice, row_id
from ..batch.study_table import Input
from ..config import IMAGE_SIZE, Recipe
from ..images.rendering import PALETTE, Levels
from ..images.windows import draw_windows
from ..readers.formats import parts_of
from ..sealed_files import sha256_of
from ..signals.validation import Signal, check_positive
from .folder import EmbeddingFolder, quiet

MAX_BYTES = 6000  # of one picture
SIDE, TRACE, GAP = 112, 176, 8  # pixels: a side of the image, width of the trace, and between them
SHADES = 32  # of the image; 16 where the picture would be larger than `MAX_BYTES`, on half as many pixels
COMPRESSION = 3  # of zlib: a third of the time of 6, for a sixth more bytes
INK = (224, 123, 57)  # of the trace, on a transparent ground: seen on white and on black
FEW = 64  # windows that are drawn within this process, because others would take longer to start
AT_ONCE = 1000  # windows of one recording that one process draws
DRAWN_TOGETHER = 8


@dataclass(frozen=True)
class Window:
    """A window of which a picture is wanted."""

    number: int  # its place among those asked for
    id: str
    source: str


@dataclass(frozen=True)
class Picture:
    """A window's images as PNG, one a representation; or why there is none."""

    number: int
    images: tuple[bytes, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class _Job:
    """Windows of one source; plain values, so that it can travel to another process."""

    path: Path
    inputs: tuple[Input, ...]
    sha256: str | None
    settings: Settings
    recipe: Recipe
    windows: tuple[Window, ...]


def draw_pictures(
    folder: EmbeddingFolder,
    ids: Sequence[str],
    sources: Sequence[str],
    representations: Sequence[str],
    *,
    recordings: str | os.PathLike[str] | None = None,
    workers: int | None = None,
) -> Iterator[Picture]:
    """Pictures of windows of a folder, in any order, each of its ids once.

    Parameters
    ----------
    ids, sources
        Of the windows, as the folder has them.
    representations
        One picture each.
    recordings
        The folder that was embedded, where it has moved since.
    workers
        Processes; one a processor otherwise, and none for a few windows.
    """
    root = folder.root(recordings)
    windows = [Window(number, *each) for number, each in enumerate(zip(ids, sources, strict=True))]
    if root is None:
        reason = "the run did not note where its recordings lie: name their folder (--recordings)"
        yield from (Picture(window.number, reason=reason) for window in windows)
        return
    jobs = list(_jobs(folder, root, windows, tuple(representations)))
    count = (os.cpu_count() or 1) if workers is None else check_positive(workers, "workers")
    bar = tqdm(total=len(windows), desc="pictures", unit="window", delay=2, leave=False, disable=quiet())
    with bar:
        if len(windows) <= FEW or count == 1:
            for job in jobs:
                for picture in _draw(job):
                    bar.update()
                    yield picture
            return
        with ProcessPoolExecutor(count, get_context("spawn")) as pool:
            for done in as_completed([pool.submit(_draw_all, job) for job in jobs]):
                yield from done.result()
                bar.update(len(done.result()))


def _jobs(
    folder: EmbeddingFolder, root: Path, windows: Sequence[Window], representations: tuple[str, ...]
) -> Iterator[_Job]:
    arguments = folder.arguments
    known = {name: arguments[name] for name in (field.name for field in fields(Settings)) if name in arguments}
    settings = Settings(**{**known, "representations": representations})
    by_source: dict[str, list[dict[str, Any]]] = {}
    for row in folder.inputs.to_pylist():
        by_source.setdefault(row["source"], []).append(row)
    names = [field.name for field in fields(Input) if field.name not in ("path", "further", "within")]
    for source, same in groupby(sorted(windows, key=lambda each: each.source), key=lambda each: each.source):
        rows, path = by_source.get(source, []), root / source
        inputs = tuple(Input(path=path, **{name: row[name] for name in names}) for row in rows)
        digest = rows[0]["sha256"] if rows else None
        wanted = list(same)
        for first in range(0, len(wanted), AT_ONCE):
            yield _Job(path, inputs, digest, settings, folder.recipe, tuple(wanted[first : first + AT_ONCE]))


def _draw_all(job: _Job) -> list[Picture]:
    return list(_draw(job))


def _draw(job: _Job) -> Iterator[Picture]:
    """The pictures of a job's windows."""
    wanted = {window.id: window.number for window in job.windows}
    if reason := _why_unusable(job):
        yield from (Picture(number, reason=reason) for number in wanted.values())
        return
    size = sum(part.stat().st_size for part in parts_of(job.path))
    found = load(File(job.inputs, 0, size, job.sha256), job.settings, job.recipe)
    for segment in found:
        if isinstance(segment, Notice):
            continue
        spans = [
            (wanted.pop(id), span)
            for span in segment.spans
            if (id := row_id(segment.recording.source, segment.recording.channel, span[0] / segment.recording.fs))
            in wanted
        ]
        for first in range(0, len(spans), DRAWN_TOGETHER):
            yield from _draw_spans(segment, spans[first : first + DRAWN_TOGETHER])
    reason = "the recording does not give this window any more"
    yield from (Picture(number, reason=reason) for number in wanted.values())


def _draw_spans(segment: Segment, spans: Sequence[tuple[int, tuple[int, int]]]) -> Iterator[Picture]:
    filtered = segment.filtered
    parts = [filtered.window(span, segment.end) for _, span in spans]
    drawn = draw_windows(filtered.call, filtered.limits, filtered.noise, parts)
    for (number, _), (_, part), images in zip(spans, parts, drawn, strict=True):
        if isinstance(images, str):
            yield Picture(number, reason=images)
        else:
            yield Picture(number, tuple(to_png(levels, part) for levels in images))


def _why_unusable(job: _Job) -> str | None:
    """Why a recording cannot be drawn from, or None."""
    try:
        if sha256_of(*parts_of(job.path)) == job.sha256:
            return None
        return "the recording has changed since it was embedded"
    except OSError as error:
        return f"the recording cannot be read ({error.strerror}): name the folder that was embedded (--recordings)"


def to_png(levels: Levels, trace: Signal) -> bytes:
    """A window's image and, beside it, its filtered samples, as one PNG of at most `MAX_BYTES` bytes.

    Parameters
    ----------
    levels : (224, 224) uint8
    trace : (n_samples,), finite
    """
    data = _png(levels, trace, SIDE, SHADES)
    return data if len(data) <= MAX_BYTES else _png(levels, trace, SIDE // 2, SHADES // 2)


def _png(levels: Levels, trace: Signal, side: int, shades: int) -> bytes:
    """Palette: `shades` of viridis, then nothing (transparent), then the ink of the trace."""
    block = IMAGE_SIZE // side
    wide = levels.astype(np.uint32)
    total = np.zeros((side, side), np.uint32)
    for row, column in np.ndindex(block, block):
        total += wide[row::block, column::block]
    small = (total * shades // (256 * block**2)).astype(np.uint8)  # of the mean over a block of pixels
    small = np.repeat(np.repeat(small, SIDE // side, 0), SIDE // side, 1)
    picture = np.full((SIDE, SIDE + GAP + TRACE), shades, np.uint8)
    picture[:, :SIDE] = small
    picture[:, SIDE + GAP :][draw_trace(trace, TRACE, SIDE)] = shades + 1
    image = Image.fromarray(picture)
    colours = PALETTE[np.linspace(0, 255, shades).round().astype(int)].tolist()
    image.putpalette([value for colour in (*colours, [0, 0, 0], INK) for value in colour])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=shades, optimize=False, compress_level=COMPRESSION)
    return buffer.getvalue()


def draw_trace(trace: Signal, width: int, height: int) -> NDArray[np.bool_]:
    """Where the line of a signal runs, (height, width): each column spans all samples that fall into it."""
    n = max(trace.size, 4 * width)
    dense = np.interp(np.linspace(0, trace.size - 1, n), np.arange(trace.size), trace)
    low, high = dense.min(), dense.max()
    rows = (height - 3) * (1 - (dense - low) / (high - low if high > low else 1.0)) + 1
    edges = np.linspace(0, n, width + 1).astype(int)
    top = np.minimum.reduceat(rows, edges[:-1])
    bottom = np.maximum.reduceat(rows, edges[:-1])
    joined_top = np.minimum(top, np.append(top[0], bottom[:-1]))  # each column reaches the one before it
    joined_bottom = np.maximum(bottom, np.append(bottom[0], top[:-1]))
    grid = np.arange(height)[:, None]
    return (grid >= np.floor(joined_top)) & (grid <= np.ceil(joined_bottom))
