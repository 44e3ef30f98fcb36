"""A study -> a folder of embeddings: a run that can be killed at any moment and started again.

    study -> files, hashed -> groups -> windows -> pictures -> vectors -> shards -> summary

What is computed, and in which files it lands, is settled in `plan`; what a shard is, in `shards`; when a run may go on,
in `manifest`. Here it is put together for one process and its workers.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..embedding import Embedder, SignalEmbedding
from ..errors import ConfigError, one_warning_a_kind
from ..inference.threads import use_threads
from ..sealed_files import remove, write
from ..signals.validation import check_positive
from .dry_run import look
from .manifest import Ledger, Summary, begin, earlier_files, fingerprint, run_digest
from .pipeline import Drawers
from .plan import File, Group, groups, root_of, scan
from .segments import Settings
from .shards import MANIFEST, ROOT, RUN, SHARDS, Record
from .study_changes import forget, seen_aside, set_aside, stale
from .study_table import Study, open_study, outside
from .worker import Observer, Run, embed_group

if TYPE_CHECKING:
    import filelock

LOCK = "lock"  # file of `RUN`, that a run holds while it is at work

# Gives the record of each shard once it is on the disk, in any order, and None from time to time while it waits.
Engine = Callable[[Embedder, Sequence[Group], Run, Observer], Iterator[Record | None]]


@one_warning_a_kind()
def embed_study(
    source: Any,
    out: str | os.PathLike[str],
    representation: str | Sequence[str] = "scalogram",
    *,
    readout: str = "embedding",
    model: SignalEmbedding | Callable[[], SignalEmbedding] = Embedder.from_pretrained,
    window: float | None = None,
    stride: float | None = None,
    short: str = "error",
    band: Any = "modality",
    scale: Any = "window",
    nan_policy: str = "error",
    max_gap: float = 1.0,
    max_missing: float = 1.0,
    batch_size: int = 32,
    shard_windows: int = 2048,
    workers: int = 0,
    threads: int | None = None,
    on_error: str = "skip",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    engine: Engine | None = None,
    observer: Observer = Observer(),
    **reading: Any,
) -> Summary:
    """Embed every recording of a study, window by window, into a folder of Parquet shards.

    The same call again, also on another machine, goes on where it was stopped or killed, tries inputs that failed once
    more, embeds those that came or changed, and removes the rows of those that went. However it went, the bytes are
    those of a run that began with the inputs as they are now.

    Parameters
    ----------
    source
        A folder; a study file, whose cells win over the arguments below; one recording; a list of paths; or a table
        with a column `path`, of pandas, polars or Arrow. See `study_table.open_study`.
    out
        The folder to write: `embeddings/` holds the shards, beside it stand `manifest.json`, `inputs.parquet` and
        `failures.parquet`.
    representation
        One of `REPRESENTATIONS`, or several: each becomes a column.
    readout
        "rows" adds, from the same pass, a second column to each of these, such as `scalogram_rows`: 1056 numbers, as
        `TinyBioMoE.embed` describes them.
    model
        A `TinyBioMoE` or an `Embedder`, or a function that loads one, called once inputs and output are validated.
    window, stride, short, band, scale, nan_policy, max_gap
        As in `TinyBioMoE.embed_windows`; without `window` each recording is embedded as a whole.
    batch_size, threads
        Images on the device at once, and threads of the network. Where they can change the last digits of a vector (an
        accelerator's batches, PyTorch's threads) a run keeps them.
    shard_windows
        Windows a shard, and the most that is lost when a run is killed.
    workers
        Processes that draw while the network runs. 0 draws in this process, which overlaps less. A script that asks
        for processes guards its own start with `if __name__ == "__main__":`.
    on_error
        "skip" notes an input that cannot be embedded in `failures.parquet` and goes on, "stop" raises.
    include, exclude
        Patterns of the inputs to take, and to leave out, such as ["*_EDA.csv"] and ["pilot/*"].
    engine
        What computes the shards, if not this process: `cluster.OnRay`, which makes the same bytes; see there.
    observer
        Is called as the run goes on; a progress bar is one.
    reading
        Arguments of `recordings.read`: format, fs, modality, column ...

    Returns
    -------
    Summary
        What became of the inputs.

    Raises
    ------
    SignalError
        Nothing to embed; or, with on_error="stop", an input that cannot be.
    ConfigError
        An argument that is not one of its choices; a folder that cannot be written, that another process writes to,
        or that holds a run of other settings or of other inputs altogether; a full disk.
    KeyboardInterrupt, SystemExit
        On Ctrl-C and SIGTERM, once the shard at hand is on the disk. A second Ctrl-C does not wait.
    """
    if on_error not in ("skip", "stop"):
        raise ConfigError(f"on_error={on_error!r}: choose 'skip' or 'stop'")
    if workers != 0:
        check_positive(workers, "workers")
    names = (representation,) if isinstance(representation, str) else tuple(representation)
    image = {"band": band, "scale": scale, "nan_policy": nan_policy, "max_gap": max_gap}
    reading = {name: value for name, value in reading.items() if value is not None}
    settings = Settings(names, window, stride, short, image, reading, shard_windows, batch_size, max_missing, readout)
    out = Path(out)
    study = outside(open_study(source, include, exclude), out)  # before a folder is made
    with held(out), use_threads(None if threads is None else check_positive(threads, "threads")) as used:
        loaded = (model if isinstance(model, SignalEmbedding) else model()).frozen()
        settings = settings.check(loaded.recipe)
        facts = fingerprint(loaded, settings, study.carried, used)
        files = scan(study, observer.hashed)
        earlier = begin(out, facts, files)
        write(out / RUN / ROOT, os.fsencode(os.path.abspath(root_of(files))))
        run = Run(out, settings, study.carried, run_digest(facts), on_error == "stop")
        plan = _planned(run, files, len(study.skipped), earlier, observer)
        ledger = Ledger(files, plan, study)
        with interruptible(observer.stopping) as interrupted:
            for record in (engine or Here(workers))(loaded, plan, run, observer):
                if record is not None:
                    ledger.add(record)
                interrupted()
        forget(out)
        return ledger.write(out, facts)


def check_folder(
    out: Path, study: Study, settings: Settings, model: Callable[[], SignalEmbedding], threads: int | None = None
) -> None:
    """Refuse an output that `embed_study` would refuse; nothing is written, and no run is kept waiting.

    Raises
    ------
    ConfigError
        As `embed_study` does of its `out`.
    """
    begun = (out / RUN).is_dir()
    places = [each for each in (out, out / RUN, out / SHARDS) if each.exists()] or [out.absolute().parent]
    if not all(each.is_dir() and os.access(each, os.R_OK | os.W_OK | os.X_OK) for each in places):
        raise ConfigError(f"{str(out)!r} cannot be written to: choose another output")
    if begun:
        if (out / RUN / LOCK).exists():  # otherwise no run has been at work
            _locked(out).release()
        with use_threads(threads) as used:
            loaded = model().frozen()
            facts = fingerprint(loaded, settings.check(loaded.recipe), study.carried, used)
            earlier_files(out, facts, {each.source for each in study.inputs})
    elif out.exists():
        _check_empty(out)


def _planned(run: Run, files: Sequence[File], skipped: int, earlier: Sequence[Any], observer: Observer) -> list[Group]:
    """The groups of a study, once shards of others are set aside, each with what it can take from them."""
    plan = list(groups(files, run.further))
    if others := stale(run.out, (group.digest for group in plan)):
        remove(run.out / MANIFEST)
        set_aside(run.out, reversed(others))
    aside = seen_aside(run.out, run.digest)
    observer.planned(files, look(run.out, plan, skipped, run.digest, earlier, aside))
    kept = {key: each.kept for key, each in aside.items() if not each.failed}
    if not kept:
        return plan
    return [
        replace(group, kept={file.key: kept[file.key] for file in group.files if file.key in kept}) for group in plan
    ]


@dataclass(frozen=True)
class Here:
    """The engine of one machine: this process runs the network, `workers` others draw."""

    workers: int

    def __call__(self, model: Embedder, plan: Sequence[Group], run: Run, observer: Observer) -> Iterator[Record]:
        """The records of all shards, each once it is on the disk."""
        drawers = Drawers(self.workers)
        try:
            for group in plan:
                yield from embed_group(model, group, run, drawers, observer)
        finally:
            drawers.close()


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Make the folders of an output and keep other runs out of it.

    Raises
    ------
    ConfigError
        It cannot be written, holds something else, or another run is at work in it.
    """
    try:
        out.mkdir(exist_ok=True)
        if not (out / RUN).is_dir():
            _check_empty(out)
        for folder in (RUN, SHARDS):
            (out / folder).mkdir(exist_ok=True)
    except OSError as error:
        raise _not_writable(out, error) from error
    lock = _locked(out)
    try:
        write(out / RUN / "pid", str(os.getpid()).encode())
        _sweep(out)  # what a killed run left
        yield
        _sweep(out)  # what a process of this one left, that was killed and whose work another did
    finally:
        lock.release()


def _locked(out: Path) -> filelock.BaseFileLock:
    """The lock of an output, held."""
    import filelock

    lock = filelock.FileLock(out / RUN / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        pid = (out / RUN / "pid").read_text() if (out / RUN / "pid").is_file() else "unknown"
        raise ConfigError(
            f"{str(out)!r}: another run is writing to this folder (process {pid}): wait for it, or choose another"
        ) from error
    except OSError as error:
        raise _not_writable(out, error) from error
    return lock


def _not_writable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{str(out)!r} cannot be written to ({error.strerror}): choose another output")


def _check_empty(out: Path) -> None:
    if any(out.iterdir()):
        raise ConfigError(f"{str(out)!r} holds files that are no embeddings: choose an empty or a new folder")


def _sweep(out: Path) -> None:
    """Remove files that were never finished."""
    for place in (out, out / RUN, out / SHARDS):
        for partial in place.glob(".*.partial"):
            remove(partial)


@contextmanager
def interruptible(stopping: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Put off Ctrl-C and SIGTERM until the function that is given is called; a second Ctrl-C is not put off.

    `stopping` is called when the first one comes.
    """
    received: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not received:
            stopping()
        received.append(number)

    def check() -> None:
        if received:
            raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's affair
        yield check
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
