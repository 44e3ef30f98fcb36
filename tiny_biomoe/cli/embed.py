"""`tiny-biomoe embed`: recordings to one file, or a study to a folder."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import numpy as np
from tqdm import tqdm

from ..config import PRECISIONS
from ..errors import (
    ConfigError,
    SignalError,
    SignalWarning,
    WeightsError,
    counted,
    listed,
    one_warning_a_kind,
    printable,
)
from ..images.representations import REPRESENTATIONS
from ..inference.backends import BACKENDS, check_backend, require_native
from ..inference.threads import processors
from ..signals.request import FUSIONS, READOUTS
from .failures import Failure, alike, lines
from .messages import fitting
from .options import (
    IMAGE_OPTIONS,
    MISSING_OPTIONS,
    PATTERN_OPTIONS,
    PATTERNS,
    READING,
    READING_OPTIONS,
    options,
    read_file,
)
from .output_files import WRITERS, Table, check_output, check_spares

if TYPE_CHECKING:
    from ..batch.run import Engine
    from ..batch.segments import Segment, Settings
    from ..batch.study_table import Input, Study
    from ..embedding import Embedder

SHOWN = 5  # kinds of failures shown on the terminal
LISTED = "{:>9} {:>9} {:<9} {:<16} {}"  # a line of a dry run
NAMED = 8  # labels, people or columns that a dry run names
CELLS = {"int64": "whole numbers", "double": "numbers", "bool": "true or false", "string": "text"}
NAMES = ("source", "channel", "outcome", "reason")  # of a failure, as text
BACKEND = ("precision", "backend")  # of an Embedder
FOLDER = {  # options of a run into a folder, and what they are when not given
    "dry_run": False,
    "max_missing": 1.0,
    "on_error": "skip",
    "workers": 1,
    "threads": None,
    "batch_size": 32,
    "engine": "here",
    "address": None,
    "actors": None,
    "shard_windows": 2048,
}

_RUN = [
    click.option("--dry-run", is_flag=True, help="List what would be embedded, and do nothing."),
    click.option("--on-error", type=click.Choice(["skip", "stop"]), default="skip", help="An input that fails."),
    click.option("--workers", type=int, default=1, show_default=True, help="Processes that draw; 0: this one."),
    click.option("--threads", type=int, help="Of the network; otherwise one a processor, with Ray one an actor."),
    click.option("--batch-size", type=int, default=32, show_default=True, help="Images on the device at once."),
    click.option("--engine", type=click.Choice(["here", "ray"]), default="here", help="What computes the shards."),
    click.option("--address", help="Of a Ray cluster, e.g. auto; --engine ray starts one on this machine otherwise."),
    click.option("--actors", type=int, help="Of Ray; one a processor of the cluster otherwise."),
    click.option("--shard-windows", type=int, default=2048, show_default=True, help="Windows a shard."),
]


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@options(READING_OPTIONS, IMAGE_OPTIONS, MISSING_OPTIONS, PATTERN_OPTIONS)
@click.option(
    "--representation", multiple=True, default=["scalogram"], help=f"Of {', '.join(REPRESENTATIONS)}; repeatable."
)
@click.option(
    "--fusion", type=click.Choice(FUSIONS), help="Into a file: concat or add; a folder has a column for each."
)
@click.option(
    "--readout", type=click.Choice(READOUTS), default="embedding", show_default=True,
    help="rows: 1056 numbers of each image; a folder has both.",
)  # fmt: skip
@click.option("--window", type=float, help="Cut windows of so many seconds; whole recordings otherwise.")
@click.option("--stride", type=float, help="Seconds between the starts of two windows; the window otherwise.")
@click.option("--short", type=click.Choice(["error", "drop", "pad"]), default="error", help="Shorter than a window.")
@click.option("--weights", help="Folder, Tiny-BioMoE.pth or owner/name on the Hub; the bundled weights otherwise.")
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True, help="bfloat16 is faster."
)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="What computes; otherwise the first that this machine has.",
)
@click.option("--compile/--no-compile", default=None, hidden=True)
@options(_RUN)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A folder, or a file: .csv, .npz, .parquet.")
def embed(source: Path, output: Path | None, **arguments: Any) -> None:
    """Embed SOURCE: a recording, a folder of them, or a study file that lists them.

    Into a folder goes a study of any size: shards of Parquet, which an interrupted run completes when it is run again.
    Into a file goes what fits into memory.
    """
    if arguments["stride"] is not None and arguments["window"] is None:
        raise ConfigError("--stride needs --window: both are seconds")
    reading = {key: arguments.pop(key) for key in READING}
    run = {key: arguments.pop(key) for key in FOLDER}
    patterns = {key: arguments.pop(key) for key in PATTERNS}
    if (compiled := arguments.pop("compile")) is not None:
        named = "native" if compiled else "torch"
        click.echo(f"--{'' if compiled else 'no-'}compile is deprecated: use --backend {named}", err=True)
        arguments["backend"] = arguments["backend"] or named
    check_backend(arguments["precision"], arguments["backend"])
    if run["dry_run"]:
        _list_windows(source, output, reading, run, arguments, patterns)
    elif output is None:
        raise ConfigError("-o is missing: name the folder to write, or a file that ends in .csv, .npz or .parquet")
    elif _is_file(output):
        _embed_to_file(source, output, reading, run, arguments, patterns)
    else:
        _embed_to_folder(source, output, reading, {**run, **patterns}, arguments)


def _is_file(output: Path) -> bool:
    return output.suffix.lower() in WRITERS and not output.is_dir()


def _embed_to_folder(
    source: Path, output: Path, reading: dict[str, Any], run: dict[str, Any], arguments: dict[str, Any]
) -> None:
    from ..batch.run import embed_study
    from ..batch.shards import FAILURES
    from ..batch.terminal import Bar
    from ..embedding import Embedder

    _check_folder_options(output, run, arguments)
    weights, backend = arguments.pop("weights"), {name: arguments.pop(name) for name in BACKEND}
    warnings.simplefilter("ignore", SignalWarning)  # the column `clipped` says it of each window
    with _telling_of_a_stop(), Bar() as bar:
        summary = embed_study(
            source, output, arguments.pop("representation"), observer=bar,
            model=lambda: Embedder.from_pretrained(weights, **backend), **arguments, **run, **_given(reading),
        )  # fmt: skip
    if not summary.windows:
        click.echo(f"no vector: of {counted(summary.inputs, 'input')} none could be embedded")
    click.echo(summary.table())
    click.echo(f"embeddings in {printable(str(output))}")
    if summary.failed or summary.in_part or summary.warned or not summary.windows:
        click.echo(f"what was not embedded, and why: {printable(str(output / FAILURES))}")
        _tell_failures(output / FAILURES)
    raise SystemExit(summary.exit_code)


def _check_folder_options(output: Path, run: dict[str, Any], arguments: dict[str, Any]) -> None:
    """Refuse what no folder can have, before one is made; the options are then those of `embed_study`."""
    if output.suffix and not output.is_dir():
        check_output(output)  # more likely a file of another ending than a folder with a dot in its name
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"the folder {str(output.absolute().parent)!r} does not exist: create it first")
    if arguments.pop("fusion") is not None:
        raise ConfigError("--fusion is for files: a folder has one column a representation, which you join as you like")
    run.pop("dry_run")
    run["engine"] = _engine(run.pop("engine"), run.pop("address"), run.pop("actors"))
    if run["threads"] is None:
        run["threads"] = 1 if run["engine"] else processors()  # drawing takes a tenth of the network's time
    if arguments["backend"] == "native":
        require_native(arguments["precision"])


@contextmanager
def _telling_of_a_stop() -> Iterator[None]:
    """Say how to go on where a run was stopped by Ctrl-C or SIGTERM."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        click.echo("stopped: give the same command again, and the run goes on where it was", err=True)
        raise


def _tell_failures(path: Path) -> None:
    """Print the first lines of what was not embedded, failures before what was skipped, and how many more there are."""
    import pyarrow as pa
    from pyarrow import compute, parquet

    found = parquet.read_table(path)
    skipped = compute.equal(found["outcome"], "skipped")
    failures = pa.concat_tables([found.filter(compute.invert(skipped)), found.filter(skipped)])
    kinds = lines(
        Failure(**{name: row[name] and printable(row[name]) for name in NAMES}, start=row["start"], stop=row["stop"])
        for row in failures.to_pylist()
    )
    for line in kinds[:SHOWN]:
        click.echo(f"  {fitting(line)}")
    if len(kinds) > SHOWN:
        click.echo(f"  and {len(kinds) - SHOWN} more kinds")


def _engine(name: str, address: str | None, actors: int | None) -> Engine | None:
    if name == "here":
        if address or actors:
            raise ConfigError("--address and --actors are those of a Ray cluster: add --engine ray")
        return None
    from ..cluster import OnRay

    return OnRay(address, actors)


def _given(reading: dict[str, Any]) -> dict[str, Any]:
    """The reading options that say more than their default, so that a fingerprint holds no others."""
    defaults = {"encoding": "utf-8", "on_hole": "error", "on_jitter": "error", "on_held": "warn"}
    return {key: value for key, value in reading.items() if value is not None and value != defaults.get(key)}


@one_warning_a_kind()
def _list_windows(
    source: Path,
    output: Path | None,
    reading: dict[str, Any],
    run: dict[str, Any],
    arguments: dict[str, Any],
    patterns: dict[str, Any],
) -> None:
    from ..batch.segments import Settings
    from ..batch.study_table import open_study, outside
    from ..config import Recipe

    image = {key: arguments[key] for key in ("band", "scale", "nan_policy", "max_gap")}
    settings = Settings(
        tuple(arguments["representation"]),
        arguments["window"],
        arguments["stride"],
        arguments["short"],
        image,
        _given(reading),
        run["shard_windows"],
        run["batch_size"],
        run["max_missing"],
        arguments["readout"],
    ).check(Recipe())
    study = open_study(source, **patterns)
    refusal = None
    if output is not None and _is_file(output):
        _check_file_options(source, output, run)
        check_spares(output, [each.path for each in study.inputs])
    elif output is not None:
        _check_folder_options(output, run, arguments)
        study = outside(study, output)
        refusal = _refusal(output, study, settings, run["threads"], arguments)
    warnings.simplefilter("ignore", SignalWarning)  # what is doubtful has a line of its own
    click.echo(LISTED.format("windows", "rate, Hz", "modality", "channel", "file"))
    counts: Counter[Input] = Counter()
    failed = False
    for _, of_file in groupby(_surveyed(study, settings), key=lambda each: each.source):
        beside: list[Failure] = []
        for each in of_file:
            beside += each.failures
            if each.segment is not None:
                counts[each.segment.input] += each.windows
                found = each.segment.recording
                click.echo(LISTED.format(each.windows, f"{found.fs:g}", found.modality, found.channel, found.source))
        _list_beside(beside)
        failed = failed or any(each.outcome == "failed" for each in beside)
    for passed in study.skipped:
        click.echo(LISTED.format(0, "", "", "", f"{passed.source}  skipped: {passed.reason}"))
    click.echo(counted(counts.total(), "window", width=9))
    for line in _people_and_labels(study, counts):
        click.echo(line)
    if refusal is not None:
        raise refusal
    raise SystemExit(1 if not counts.total() else 2 if failed else 0)


class _Surveyed(NamedTuple):
    """A channel of a study, or a note on its file: how many windows would be embedded, and what would not."""

    source: str
    segment: Segment | None
    windows: int
    failures: list[Failure]


def _surveyed(study: Study, settings: Settings) -> Iterator[_Surveyed]:
    from ..batch.segments import survey
    from ..batch.shards import Notice
    from ..config import Recipe

    for each in survey(study, settings, Recipe()):
        if isinstance(each, Notice):
            yield _Surveyed(each.source, None, 0, [Failure(each.source, each.reason, each.outcome, each.channel)])
            continue
        found, spans = each.recording, list(each.spans)
        refused = [spans[at] for at in np.flatnonzero(each.filtered.refused(spans, each.end))]
        why = each.filtered.why_refused()
        failures = [
            Failure(found.source, why, "failed", found.channel, start / found.fs, stop / found.fs)
            for start, stop in refused
        ]
        yield _Surveyed(found.source, each, len(spans) - len(refused), failures)


def _refusal(
    output: Path, study: Study, settings: Settings, threads: int, arguments: dict[str, Any]
) -> ConfigError | WeightsError | None:
    """Why a run into a folder would not begin."""
    from ..batch.run import check_folder
    from ..embedding import Embedder

    def model() -> Embedder:
        return Embedder.from_pretrained(arguments["weights"], **{name: arguments[name] for name in BACKEND})

    try:
        check_folder(output, study, settings, model, threads)
    except (ConfigError, WeightsError) as error:
        return error
    return None


def _people_and_labels(study: Study, counts: Counter[Input]) -> Iterator[str]:
    """What a study says of its recordings beside the windows: whose they are, what happened, columns of its own."""
    people, labels = Counter[str](), Counter[str]()
    for each in study.inputs:
        people[each.subject or ""] += counts[each]
        labels[each.label or ""] += counts[each]
    nobodys, unlabelled = people.pop("", 0), labels.pop("", 0)
    if people:
        without = [printable(person) for person, windows in people.items() if not windows]
        yield counted(len(people), "person", "people", width=9) + "".join(
            [
                f"; without a window: {listed(without, NAMED)}" if without else "",
                f"; {counted(nobodys, 'window')} of nobody" if nobodys else "",
            ]
        )
    if labels:
        named = (f"{printable(label)} ({counted(windows, 'window')})" for label, windows in sorted(labels.items()))
        without_one = f"; {counted(unlabelled, 'window')} without one" if unlabelled else ""
        yield f"{counted(len(labels), 'label', width=9)}: {listed(named, NAMED)}{without_one}"
    if study.carried:
        columns = listed((f"{printable(name)} ({CELLS[kind]})" for name, kind in study.carried), NAMED)
        yield f"{counted(len(study.carried), 'column', width=9)} of your own: {columns}"


def _list_beside(failures: list[Failure]) -> None:
    """What one file holds beside its windows, a line a kind."""
    for first, file, where in alike(failures, by_file=True):
        reason = f"{where}: {first.reason}" if where and first.start is not None else first.reason
        click.echo(
            LISTED.format(0, "", "", "" if first.start is not None else where, f"{file}  {first.outcome}: {reason}")
        )


@one_warning_a_kind()
def _embed_to_file(
    source: Path,
    output: Path,
    reading: dict[str, Any],
    run: dict[str, Any],
    arguments: dict[str, Any],
    patterns: dict[str, Any],
) -> None:
    write = WRITERS[_check_file_options(source, output, run)]
    warnings.filterwarnings("ignore", r"\d+ of \d+ windows cannot be embedded", SignalWarning)  # they have lines below
    from ..batch.study_table import open_study
    from ..embedding import Embedder

    study = open_study(source, **patterns)
    paths = [each.path for each in study.inputs]
    passed = [Failure(each.source, each.reason, "skipped") for each in study.skipped]
    check_spares(output, paths)
    model = Embedder.from_pretrained(arguments.pop("weights"), **{name: arguments.pop(name) for name in BACKEND})
    arguments |= {
        "max_missing": run["max_missing"],
        "fusion": arguments["fusion"] or "concat",
        "batch_size": run["batch_size"],
    }
    arguments["representation"] = list(arguments["representation"])
    done = _embed_files(model, paths, source.parent if source.is_file() else source, reading, arguments)
    for line in lines([*passed, *done.skipped, *done.failed, *done.beside, *done.windows]):
        click.echo(f"not embedded: {fitting(line)}", err=True)
    if not done.table.sources:
        raise ConfigError(f"nothing could be embedded of {counted(len(paths), 'file')} in {printable(str(source))}")
    write(done.table, output)
    click.echo(
        f"{counted(len(done.table.sources), 'vector')} of {len(done.table.embeddings[0])} numbers in {output} "
        f"({counted(len(paths) + len(passed), 'input')} = "
        f"{len(paths) - len(done.failed) - len(done.skipped)} embedded + {len(done.failed)} failed + "
        f"{len(passed) + len(done.skipped)} skipped)"
    )
    if done.failed or done.windows:
        raise SystemExit(2)


def _check_file_options(source: Path, output: Path, run: dict[str, Any]) -> str:
    """Refuse what no file can have; gives its ending."""
    from ..batch.study_table import is_study_file

    ending = check_output(output)
    allowed = ("batch_size", "max_missing", "dry_run")
    if other := [name for name, value in run.items() if value != FOLDER[name] and name not in allowed]:
        raise ConfigError(f"--{other[0].replace('_', '-')} is for a folder: give one, e.g. -o embeddings/")
    if source.is_file() and is_study_file(source):
        raise ConfigError(f"{printable(str(source))} is a study file: embed it into a folder, e.g. -o embeddings/")
    return ending


@dataclass
class _Embedded:
    """The vectors of some files, and what was not embedded."""

    table: Table
    failed: list[Failure] = field(default_factory=list)  # files
    skipped: list[Failure] = field(default_factory=list)  # files
    beside: list[Failure] = field(default_factory=list)  # channels that are no signals, or not known to be
    windows: list[Failure] = field(default_factory=list)


def _embed_files(
    model: Embedder, paths: Sequence[Path], root: Path, reading: dict[str, Any], arguments: dict[str, Any]
) -> _Embedded:
    """Each file in turn, with a bar on a terminal; one that cannot be embedded costs itself."""
    from ..readers.columns import NoSignal
    from ..readers.read import source_name

    done = _Embedded(Table(readout=arguments["readout"]))
    for path in tqdm(paths, unit="file", disable=not sys.stderr.isatty()):
        name = source_name(path, root)
        try:
            found, lost, left = _embed_file(model, path, root, reading, **arguments)
            done.windows += lost
            done.beside += left
            if not found.sources and lost:
                done.failed.append(Failure(name, "none of its windows can be embedded"))
            elif not found.sources:
                done.skipped.append(Failure(name, "shorter than one window", "skipped"))
            done.table.add(found)
        except NoSignal as error:
            done.skipped.append(Failure(name, _without_name(error, path, name), "skipped"))
        except (SignalError, MemoryError) as error:
            done.failed.append(Failure(name, _without_name(error, path, name) or "not enough memory"))
    return done


def _without_name(error: BaseException, *names: object) -> str:
    """What an error says, without the name of the file that it begins with."""
    text = str(error)
    for name in names:
        text = text.removeprefix(f"{printable(str(name))}: ")
    return text


def _embed_file(
    model: Embedder, path: Path, root: Path, reading: dict[str, Any], **options: Any
) -> tuple[Table, list[Failure], list[Failure]]:
    """The vectors of every channel of a file whose modality is known; the windows and the channels that have none."""
    table = Table()
    lost: list[Failure] = []
    recordings = read_file(path, root, reading)
    source = recordings[0].source
    beside = [
        Failure(source, left.reason, "failed" if left.failed else "skipped", left.channel)
        for left in recordings.left_out
    ]
    known = [(recording, recording.modality) for recording in recordings if recording.modality is not None]
    from ..readers.columns import NoSignal

    try:
        recordings.check_known()
    except SignalError as error:
        raise SignalError(f"{source}: {error}") from error
    if not known:
        raise NoSignal(f"{source}: {', '.join(dict.fromkeys(each.why_without_vector() for each in recordings))}")
    others = [recording for recording in recordings if recording.modality is None]
    beside += [Failure(source, each.why_without_vector(), "skipped", printable(each.channel)) for each in others]
    for recording, modality in known:
        name = f"{recording.source}: {printable(recording.channel)}"
        whole = recording.signal.size / recording.fs
        window, on_bad = (whole, "error") if options["window"] is None else (options["window"], "skip")
        found = model.embed_windows(
            recording.signal, recording.fs, modality, **{**options, "window": window}, where=name, on_bad=on_bad
        )
        lost += [
            Failure(source, each.removeprefix(f"{name}, "), channel=printable(recording.channel))
            for each in found.failures
        ]
        n = len(found.embeddings)
        table.add(
            Table(
                [recording.source] * n, [recording.channel] * n, found.starts.tolist(), found.stops.tolist(),
                [recording.fs] * n, [modality] * n, found.missing.tolist(), found.flat.tolist(),
                found.clipped.tolist(), list(found.embeddings),
                {f"{modality} {recording.fs:g} Hz": found.provenance}, options["readout"],
            )
        )  # fmt: skip
    return table, lost, beside
