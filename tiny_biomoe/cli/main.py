"""The command line: `tiny-biomoe embed | show | weights | selfcheck`.

Exit codes: 0 all done, 2 some inputs failed, 1 nothing could run.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from ..errors import SignalError, TinyBioMoEError
from ..images.rendering import contact_sheet
from ..inference.backends import BACKENDS
from ..readers.recording import printable
from ..version import __version__
from .embed import embed
from .export import export
from .optional import COMMANDS, HELP
from .options import CHOICES, IMAGE_OPTIONS, READING, READING_OPTIONS, options, read_file
from .output_files import check_output


@click.group(context_settings={"help_option_names": HELP})
@click.version_option(__version__, prog_name="tiny-biomoe")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Embeddings of physiological signals."""


for _command in COMMANDS:
    cli.add_command(_command)

cli.add_command(embed)


@cli.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@options(READING_OPTIONS, IMAGE_OPTIONS)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A picture, .png")
def show(source: Path, output: Path, **image: Any) -> None:
    """Draw the six images of a recording as one sheet."""
    check_output(output, [".png"])
    reading = {key: image.pop(key) for key in READING}
    recordings = read_file(source, source.parent, reading)
    if len(recordings) != 1:
        names = ", ".join(printable(recording.channel) for recording in recordings)
        raise SignalError(
            f"{printable(str(source))} holds {len(recordings)} channels ({names}): choose one with --column"
        )
    (recording,) = recordings
    if recording.modality is None:
        raise SignalError(f"{printable(str(source))} does not say what it measures: pass --modality, one of {CHOICES}")
    contact_sheet(recording.signal, recording.fs, recording.modality, **image).save(output)
    seconds = recording.signal.size / recording.fs
    click.echo(f"six images of {printable(recording.channel)}, {seconds:g} s, in {output}")


@cli.group()
def weights() -> None:
    """Look at, verify or convert weights."""


@weights.command()
@click.argument("source", required=False)
def info(source: str | None) -> None:
    """Say where weights come from, what they are, and which recipe belongs to them."""
    from ..weights.loading import load

    loaded = load(source)
    facts = {"name": loaded.config.name, "source": loaded.source, "sha256": loaded.sha256}
    facts["parameters"] = sum(t.size for n, t in loaded.tensors.items() if "running" not in n)  # type: ignore[assignment]
    click.echo(json.dumps(facts | json.loads(loaded.config.to_json()), indent=2))


@weights.command()
@click.argument("source", required=False)
def verify(source: str | None) -> None:
    """Check weights: hash, names, shapes, and that every number is finite."""
    from ..weights.loading import load

    loaded = load(source)
    click.echo(f"{printable(loaded.config.name)}: {len(loaded.tensors)} tensors verified, sha256 {loaded.sha256}")


@weights.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def convert(source: Path, out: Path) -> None:
    """Write the authors' Tiny-BioMoE.pth as a folder of safetensors and config."""
    from ..weights.loading import convert as convert_weights

    convert_weights(source, out)
    click.echo(f"written: {out}")


@cli.command()
@click.option("--backend", type=click.Choice(BACKENDS), help="Check this one; the one that `embed` uses otherwise.")
def selfcheck(backend: str | None) -> None:
    """Embed the shipped signals and compare with the shipped vectors: is this machine good?"""
    from ..embedding import Embedder
    from .selfcheck import TOLERANCE, largest_difference

    model = Embedder.from_pretrained(backend=backend)
    difference = largest_difference(model)
    good = difference <= TOLERANCE
    verdict = "this machine is good" if good else "NOT GOOD: do not trust its vectors"
    click.echo(f"computed by: {model.backend.program or 'PyTorch'}")
    click.echo(f"largest difference {difference:.1e}, tolerance {TOLERANCE:.0e}: {verdict}")
    if not good:
        raise SystemExit(1)


cli.add_command(export)


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


if __name__ == "__main__":
    main()
