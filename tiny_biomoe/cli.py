"""The command line: `tiny-biomoe embed | show | weights | selfcheck`.

Exit codes: 0 all done, 2 some inputs failed, 1 nothing could run.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from tqdm import tqdm

from .calls import FUSIONS
from .errors import ConfigError, SignalError, TinyBioMoEError
from .filters import MODALITIES
from .images import contact_sheet
from .representations import REPRESENTATIONS
from .tables import Table, check_output
from .version import __version__

if TYPE_CHECKING:
    from .model import TinyBioMoE
    from .recordings import Recording


class Scale(click.ParamType[Any]):
    """`window`, `recording`, or LOW,HIGH in the signal's units."""

    name = "window|recording|LOW,HIGH"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value in ("window", "recording"):
            return value
        return _pair(self, value, param, ctx)


class Band(click.ParamType[Any]):
    """`modality`, `none`, or LOW,HIGH in Hz."""

    name = "modality|none|LOW,HIGH"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value in ("modality", "none", None):
            return None if value == "none" else value
        return _pair(self, value, param, ctx)


def _pair(kind: click.ParamType[Any], value: Any, param: Any, ctx: Any) -> tuple[float, float]:
    try:
        low, high = map(float, value.split(","))
    except ValueError:
        kind.fail(f"{value!r} is none of {kind.name}", param, ctx)
    return low, high


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tiny-biomoe")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Embeddings of physiological signals."""


Command = TypeVar("Command", bound=Callable[..., Any])

_READING = [
    click.option("--fs", type=float, help="Sampling rate in Hz, where the files do not hold it."),
    click.option("--modality", help=f"One of {', '.join(MODALITIES)}, where the files do not say it."),
    click.option("--column", help="Name or 0-based number of the column to read; all of them otherwise."),
    click.option("--format", "format_", help="Layout of the files, where their content does not show it."),
]
_IMAGES = [
    click.option("--band", type=Band(), default="modality", show_default=True, help="Filter, in Hz."),
    click.option("--scale", type=Scale(), default="window", show_default=True, help="What an image spans."),
]


def _options(*groups: list[Any]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


@cli.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@_options(_READING, _IMAGES)
@click.option(
    "--representation", multiple=True, default=["scalogram"], help=f"Of {', '.join(REPRESENTATIONS)}; repeatable."
)
@click.option("--fusion", type=click.Choice(FUSIONS), default="concat", show_default=True)
@click.option("--window", type=float, help="Cut windows of so many seconds; whole recordings otherwise.")
@click.option("--stride", type=float, help="Seconds between the starts of two windows; the window otherwise.")
@click.option("--weights", help="Folder, Tiny-BioMoE.pth or owner/name on the Hub; the bundled weights otherwise.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help=".csv, .npz or .parquet"
)
def embed(
    source: Path, fs: float | None, modality: str | None, column: str | None, format_: str | None, weights: str | None,
    output: Path, representation: tuple[str, ...], **options: Any,
) -> None:  # fmt: skip
    """Embed SOURCE, a recording or a folder of them."""
    from .model import TinyBioMoE

    write = check_output(output)
    paths, root, skipped = _inputs(source)
    model = TinyBioMoE.from_pretrained(weights)
    table, failures, read = Table(), [], 0
    for path in tqdm(paths, unit="file", disable=not sys.stderr.isatty()):
        try:
            for recording in _read(path, root, fs, modality, column, format_):
                _embed_recording(model, recording, table, representation=list(representation), **options)
            read += 1
        except SignalError as error:
            failures.append(f"{_printable(path)}: {error}")
    for failure in [*skipped, *failures]:
        click.echo(f"not embedded: {failure}", err=True)
    if not table.ids:
        raise ConfigError(f"nothing could be embedded of {len(paths)} files in {_printable(source)}")
    write(table, output)
    click.echo(
        f"{len(table.ids)} vectors of {len(table.embeddings[0])} numbers from {read} files in {output} "
        f"({len(paths) + len(skipped)} inputs = {read} embedded + {len(failures)} failed + {len(skipped)} skipped)"
    )
    if failures:
        raise SystemExit(2)


def _embed_recording(model: TinyBioMoE, recording: Recording, table: Table, **options: Any) -> None:
    """Add a recording's vectors to the table: of its windows, or of the whole."""
    name = f"{recording.source}#{recording.channel}"
    if recording.modality is None:
        raise SignalError(
            f"{name}: the file does not say what it measures; pass --modality, one of {', '.join(MODALITIES)}"
        )
    options["window"] = options["window"] or recording.signal.size / recording.fs
    found = model.embed_windows(recording.signal, recording.fs, recording.modality, **options)
    n = len(found.embeddings)
    table.ids += [name] * n
    table.starts += found.starts.tolist()
    table.stops += found.stops.tolist()
    table.fs += [recording.fs] * n
    table.modality += [recording.modality] * n
    table.flat += found.flat.tolist()
    table.clipped += found.clipped.tolist()
    table.embeddings += list(found.embeddings)
    table.provenance[f"{recording.modality} {recording.fs:g} Hz"] = found.provenance


@cli.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_options(_READING, _IMAGES)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A picture, .png")
def show(
    source: Path,
    fs: float | None,
    modality: str | None,
    column: str | None,
    format_: str | None,
    output: Path,
    **options: Any,
) -> None:
    """Draw the six images of a recording as one sheet."""
    recordings = _read(source, source.parent, fs, modality, column, format_)
    if len(recordings) != 1:
        names = ", ".join(recording.channel for recording in recordings)
        raise SignalError(f"{_printable(source)} holds {len(recordings)} channels ({names}): choose one with --column")
    (recording,) = recordings
    if recording.modality is None:
        raise SignalError(f"{_printable(source)} does not say what it measures: pass --modality")
    contact_sheet(recording.signal, recording.fs, recording.modality, **options).save(output)
    click.echo(f"six images of {recording.channel}, {recording.signal.size / recording.fs:g} s, in {output}")


@cli.group()
def weights() -> None:
    """Look at, verify or convert weights."""


@weights.command()
@click.argument("source", required=False)
def info(source: str | None) -> None:
    """Say where weights come from, what they are, and which recipe belongs to them."""
    from .weights import load

    loaded = load(source)
    facts = {"name": loaded.config.name, "source": loaded.source, "sha256": loaded.sha256}
    facts["parameters"] = sum(t.numel() for n, t in loaded.tensors.items() if "running" not in n)  # type: ignore[assignment]
    click.echo(json.dumps(facts | json.loads(loaded.config.to_json()), indent=2))


@weights.command()
@click.argument("source", required=False)
def verify(source: str | None) -> None:
    """Check weights: hash, names, shapes, and that every number is finite."""
    from .weights import load

    loaded = load(source)
    click.echo(f"{loaded.config.name}: {len(loaded.tensors)} tensors verified, sha256 {loaded.sha256}")


@weights.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def convert(source: Path, out: Path) -> None:
    """Write the authors' Tiny-BioMoE.pth as a folder of safetensors and config."""
    from .weights import convert as convert_weights

    convert_weights(source, out)
    click.echo(f"written: {out}")


@cli.command()
def selfcheck() -> None:
    """Embed the shipped signals and compare with the shipped vectors: is this machine good?"""
    from .selfcheck import TOLERANCE, largest_difference

    difference = largest_difference()
    good = difference <= TOLERANCE
    verdict = "this machine is good" if good else "NOT GOOD: do not trust its vectors"
    click.echo(f"largest difference {difference:.1e}, tolerance {TOLERANCE:.0e}: {verdict}")
    if not good:
        raise SystemExit(1)


def _inputs(source: Path) -> tuple[list[Path], Path, list[str]]:
    """Files to read, the folder that ids are relative to, and what was passed over."""
    from .recordings import find

    if source.is_file():
        return [source], source.parent, []
    paths, skipped = find(source)
    if not paths:
        raise ConfigError(f"{_printable(source)} holds no files to embed")
    return paths, source, [str(item) for item in skipped]


def _read(
    path: Path, root: Path, fs: float | None, modality: str | None, column: str | None, format_: str | None
) -> list[Recording]:
    from .recordings import read

    which = int(column) if column is not None and column.isdigit() else column
    return read(path, root=root, format=format_, fs=fs, modality=modality, column=which)


def _printable(path: Path) -> str:
    """A path without the control characters that a terminal would obey."""
    return str(path).encode("unicode_escape", "surrogateescape").decode("ascii", "replace")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors are one line, unless --debug."""
    arguments = sys.argv[1:] if arguments is None else arguments
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"  # type: ignore[assignment]
    try:
        sys.exit(cli(arguments, standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
    except click.Abort:
        sys.exit(130)
    except TinyBioMoEError as error:
        if "--debug" in arguments:
            raise
        click.echo(f"error: {error}", err=True)
    sys.exit(1)
