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
from .channels import printable
from .errors import ConfigError, SignalError, TinyBioMoEError
from .export import export
from .filters import MODALITIES
from .images import contact_sheet
from .representations import REPRESENTATIONS
from .signals import NAN_POLICIES
from .tables import WRITERS, Table, check_output
from .version import __version__

if TYPE_CHECKING:
    from .model import TinyBioMoE
    from .recordings import Recording


class Scale(click.ParamType):  # type: ignore[type-arg]
    """`window`, `recording`, or LOW,HIGH in the signal's units."""

    name = "window|recording|LOW,HIGH"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value in ("window", "recording"):
            return value
        return _pair(self, value, param, ctx)


class Band(click.ParamType):  # type: ignore[type-arg]
    """`modality`, `none`, or LOW,HIGH in Hz."""

    name = "modality|none|LOW,HIGH"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value in ("modality", "none", None):
            return None if value == "none" else value
        return _pair(self, value, param, ctx)


def _pair(kind: Any, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
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


_CHOICES = ", ".join(MODALITIES)
Command = TypeVar("Command", bound=Callable[..., Any])

_READING = [
    click.option("--fs", type=float, help="Sampling rate in Hz, where the files do not hold it."),
    click.option("--modality", help=f"One of {_CHOICES}, where the files do not say it."),
    click.option("--column", help="Name or 0-based number of the column to read; all of them otherwise."),
    click.option("--format", help="Layout of the files, where their content does not show it."),
    click.option("--delimiter", help="What stands between two cells, where the content leaves a doubt."),
    click.option("--decimal", type=click.Choice([".", ","]), help="Decimal mark, where the content leaves a doubt."),
    click.option("--encoding", default="utf-8", show_default=True, help="Of text files."),
    click.option("--header/--no-header", default=None, help="Whether the first row holds names."),
    click.option("--time-column", help='Name or number of the column of times; "" reads without times.'),
    click.option("--on-hole", type=click.Choice(["error", "split"]), default="error", help="Samples missing in time."),
    click.option("--on-jitter", type=click.Choice(["error", "resample"]), default="error", help="Uneven times."),
]
READING = [
    "fs",
    "modality",
    "column",
    "format",
    "delimiter",
    "decimal",
    "encoding",
    "header",
    "time_column",
    "on_hole",
    "on_jitter",
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
@click.option("--short", type=click.Choice(["error", "drop", "pad"]), default="error", help="Shorter than a window.")
@click.option("--nan-policy", type=click.Choice(NAN_POLICIES), default="error", help="What to do with empty cells.")
@click.option("--max-gap", type=float, default=1.0, show_default=True, help="Longest gap to interpolate, in seconds.")
@click.option("--weights", help="Folder, Tiny-BioMoE.pth or owner/name on the Hub; the bundled weights otherwise.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help=".csv|.npz|.parquet"
)
def embed(source: Path, weights: str | None, output: Path, representation: tuple[str, ...], **options: Any) -> None:
    """Embed SOURCE, a recording or a folder of them."""
    from .model import TinyBioMoE

    write = WRITERS[check_output(output)]
    if options["stride"] is not None and options["window"] is None:
        raise ConfigError("--stride needs --window: both are seconds")
    reading = {key: options.pop(key) for key in READING}
    paths, root, skipped = _inputs(source)
    model = TinyBioMoE.from_pretrained(weights)
    table, failures = Table(), []
    for path in tqdm(paths, unit="file", disable=not sys.stderr.isatty()):
        try:
            table.add(_embed_file(model, path, root, reading, representation=list(representation), **options))
        except (SignalError, MemoryError) as error:
            failures.append(str(error) or f"{printable(str(path))}: not enough memory")
    for failure in [*skipped, *failures]:
        click.echo(f"not embedded: {failure}", err=True)
    if not table.sources:
        raise ConfigError(f"nothing could be embedded of {len(paths)} files in {printable(str(source))}")
    write(table, output)
    click.echo(
        f"{len(table.sources)} vectors of {len(table.embeddings[0])} numbers in {output} ({len(paths) + len(skipped)} "
        f"inputs = {len(paths) - len(failures)} embedded + {len(failures)} failed + {len(skipped)} skipped)"
    )
    if failures:
        raise SystemExit(2)


def _embed_file(model: TinyBioMoE, path: Path, root: Path, reading: dict[str, Any], **options: Any) -> Table:
    """The vectors of every channel of a file whose modality is known: of its windows, or of the whole."""
    table = Table()
    recordings = _read(path, root, reading)
    known = [(recording, recording.modality) for recording in recordings if recording.modality is not None]
    if not known:
        source = recordings[0].source
        raise SignalError(f"{source}: the file does not say what it measures; pass --modality, one of {_CHOICES}")
    unknown = [printable(recording.channel) for recording in recordings if recording.modality is None]
    if unknown:
        click.echo(f"not embedded: {recordings[0].source}: {', '.join(unknown)}, of no known modality", err=True)
    for recording, modality in known:
        name = f"{recording.source}: {printable(recording.channel)}"
        whole = recording.signal.size / recording.fs
        window = options["window"] if options["window"] is not None else whole
        found = model.embed_windows(
            recording.signal, recording.fs, modality, **{**options, "window": window}, where=name
        )
        n = len(found.embeddings)
        table.add(
            Table(
                [recording.source] * n, [recording.channel] * n, found.starts.tolist(), found.stops.tolist(),
                [recording.fs] * n, [modality] * n, found.missing.tolist(), found.flat.tolist(),
                found.clipped.tolist(), list(found.embeddings),
                {f"{modality} {recording.fs:g} Hz": found.provenance},
            )
        )  # fmt: skip
    return table


@cli.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_options(_READING, _IMAGES)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A picture, .png")
def show(source: Path, output: Path, **options: Any) -> None:
    """Draw the six images of a recording as one sheet."""
    check_output(output, [".png"])
    reading = {key: options.pop(key) for key in READING}
    recordings = _read(source, source.parent, reading)
    if len(recordings) != 1:
        names = ", ".join(printable(recording.channel) for recording in recordings)
        raise SignalError(
            f"{printable(str(source))} holds {len(recordings)} channels ({names}): choose one with --column"
        )
    (recording,) = recordings
    if recording.modality is None:
        raise SignalError(f"{printable(str(source))} does not say what it measures: pass --modality, one of {_CHOICES}")
    contact_sheet(recording.signal, recording.fs, recording.modality, **options).save(output)
    seconds = recording.signal.size / recording.fs
    click.echo(f"six images of {printable(recording.channel)}, {seconds:g} s, in {output}")


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
    click.echo(f"{printable(loaded.config.name)}: {len(loaded.tensors)} tensors verified, sha256 {loaded.sha256}")


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


cli.add_command(export)


def _inputs(source: Path) -> tuple[list[Path], Path, list[str]]:
    """Files to read, the folder that their names are relative to, and what was passed over."""
    from .recordings import find

    if source.is_file():
        return [source], source.parent, []
    paths, skipped = find(source)
    return paths, source, [str(item) for item in skipped]


def _read(path: Path, root: Path, reading: dict[str, Any]) -> list[Recording]:
    from .recordings import read

    return read(path, root=root, **reading)


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
    except (TinyBioMoEError, OSError) as error:
        if "--debug" in arguments:
            raise
        click.echo(f"error: {error}", err=True)
    sys.exit(1)
