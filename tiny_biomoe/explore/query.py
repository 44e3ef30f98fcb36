"""A window to search for: one of a folder, one of a recording that is embedded as the folder was, or a vector."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, SignalError, printable
from ..images.rendering import Levels, colour
from ..images.windows import FilteredRecording, draw_windows
from ..readers.formats import parts_of
from ..readers.read import Recording, read
from ..sealed_files import sha256_of
from ..signals.request import Call
from ..signals.validation import Grid, Signal, is_number, windows
from .folder import EmbeddingFolder, check_comparable

if TYPE_CHECKING:
    from ..embedding import SignalEmbedding


@dataclass(frozen=True)
class Query:
    """A window to search for."""

    vector: NDArray[np.float32]  # (192,)
    modality: str
    representation: str
    provenance: dict[str, Any]
    name: str  # id, or what else a person calls it
    sources: frozenset[str] = frozenset()  # of the folder: the recording that the window was cut from
    levels: Levels | None = None  # (224, 224), the image
    trace: Signal | None = None  # (n_samples,), the filtered window
    facts: tuple[tuple[str, str], ...] = ()  # for people: recording, channel, time, rate


def query_of_window(id: str, folder: EmbeddingFolder, representation: str | None = None) -> Query:
    """The window of a folder with an id."""
    row = np.array([folder.row_of(id)])
    chosen = folder.representation(representation)
    (facts,) = folder.take(row).to_pylist()
    provenance = dict(folder.manifest["fingerprint"]["weights"])
    (vector,) = folder.vectors(chosen, row)
    return Query(vector, facts["modality"], chosen, provenance, id, frozenset([facts["source"]]))


def query_of_vector(vector: Any, provenance: dict[str, Any] | None) -> Query:
    """A vector that the caller has, with where it came from."""
    if not provenance:
        raise ConfigError(
            "a vector alone does not say which weights made it: pass provenance=model.provenance(fs, modality, "
            "representation), the WindowEmbeddings of model.embed_windows, or the id of a window of the folder"
        )
    held = provenance.get("representation")
    names = [held] if isinstance(held, str) else list(held or [])
    if len(names) != 1 or "modality" not in provenance:
        raise ConfigError(
            f"provenance says representation {held!r} and modality {provenance.get('modality')!r}: one of each is "
            "needed; embed each representation by itself"
        )
    array = np.asarray(vector)
    if array.ndim != 1 or array.dtype.kind != "f":
        raise SignalError(f"the query has shape {array.shape} and dtype {array.dtype}: expected one vector of floats")
    return Query(array.astype(np.float32), provenance["modality"], names[0], provenance, "the given vector")


def query_recording(
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str] | EmbeddingFolder,
    *,
    start: float = 0.0,
    representation: str | None = None,
    model: SignalEmbedding | Callable[[], SignalEmbedding] | None = None,
    **reading: Any,
) -> Query:
    """One window of a recording, embedded as the folder was: same images, same length.

    Parameters
    ----------
    path
        A recording with one channel, or one chosen by `column`.
    start
        Of the window, in seconds from the recording's first sample; a folder without windows takes the recording as
        a whole.
    representation
        One of the folder's; its first otherwise.
    model
        What made the folder, `Embedder` or `TinyBioMoE`, or a function that loads it; the bundled weights otherwise.
    reading
        Arguments of `recordings.read`: fs, modality, column ...

    Raises
    ------
    SignalError
        The recording cannot be read or drawn, or ends before the window does.
    ConfigError
        The folder was made by other weights or with another recipe; the message lists the difference.
    """
    opened = EmbeddingFolder.open(folder)
    chosen = opened.representation(representation)
    asked = {**opened.arguments["reading"], **reading}
    recording = _one_channel(Path(path), {**asked, "on_hole": "nan"})
    modality = str(recording.modality)
    image, window = opened.arguments["image"], opened.arguments["window"]
    from ..embedding import Embedder, SignalEmbedding  # a window of the folder needs no network

    loaded = model if isinstance(model, SignalEmbedding) else (model or Embedder.from_pretrained)()
    options = {**image, "windowed": window is not None}
    provenance = loaded.provenance(recording.fs, modality, [chosen], **options)
    check_comparable(provenance, opened)
    call = Call.check(opened.recipe, recording.fs, modality, [chosen], **options)
    where = f"{recording.source}: {printable(recording.channel)}"
    span = _span(recording, window, start, opened, where)
    if asked.get("on_hole", "error") == "error":
        recording.check_whole(span[0] / recording.fs, span[1] / recording.fs)
    cleaned = FilteredRecording.of if window is None else FilteredRecording.by_window
    filtered = cleaned(recording.signal, call, where)
    call.check_window(span[1] - span[0], where)
    named, part = filtered.window(span)
    (drawn,) = draw_windows(call, filtered.limits, filtered.noise, [(named, part)])
    if isinstance(drawn, str):
        raise SignalError(drawn)
    vector = np.asarray(loaded.embed_images(colour(drawn[0])), np.float32)
    same = _same_recording(Path(path), opened)
    begin, stop = span[0] / recording.fs, span[1] / recording.fs
    facts = (
        ("recording", recording.source), ("channel", printable(recording.channel)), ("modality", modality),
        ("time", f"{begin:g} to {stop:g} s"), ("rate", f"{recording.fs:g} Hz"),
    )  # fmt: skip
    return Query(vector, modality, chosen, provenance, f"{where}, {begin:g} s", same, drawn[0], part, facts)


def _one_channel(path: Path, reading: dict[str, Any]) -> Recording:
    found = read(path, root=path.parent, **reading)
    known = [recording for recording in found if recording.modality is not None]
    if not known:
        raise SignalError(f"{printable(str(path))}: {found.without_modality()}")
    if len(known) > 1:
        names = ", ".join(printable(recording.channel) for recording in known)
        raise SignalError(f"{printable(str(path))} holds {len(known)} channels ({names}): choose one with column=")
    return known[0]


def _span(
    recording: Recording, window: float | None, start: float, folder: EmbeddingFolder, where: str
) -> tuple[int, int]:
    """First sample of the window, and the one behind its last."""
    n, fs = recording.signal.size, recording.fs
    if not is_number(start) or start < 0:
        raise ConfigError(f"start={start!r} must be a number of seconds, 0 or more")
    begin = round(start * fs)
    if window is None:
        if begin:
            raise ConfigError(f"{str(folder.path)!r} holds whole recordings: leave start out (--start)")
        return 0, n
    grid: Grid = windows(n, fs, window, short=folder.arguments["short"], where=where)
    size = grid.size if n >= grid.size or len(grid) else n
    if begin + size > n and not (begin == 0 and len(grid)):
        raise SignalError(
            f"{where} lasts {n / fs:g} s, so a window of {window:g} s starts at {max(n - size, 0) / fs:g} s at the "
            f"latest, not at {start:g} s: choose another start (--start)"
        )
    return begin, begin + size


def _same_recording(path: Path, folder: EmbeddingFolder) -> frozenset[str]:
    """The sources of a folder whose file is this one, by content."""
    digest = sha256_of(*parts_of(path))
    rows = zip(folder.inputs["source"].to_pylist(), folder.inputs["sha256"].to_pylist(), strict=True)
    return frozenset(source for source, sha256 in rows if sha256 == digest)
