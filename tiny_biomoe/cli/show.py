"""`tiny-biomoe show`: the six images of a recording."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from ..errors import SignalError, printable
from ..images.rendering import contact_sheet
from ..signals.validation import fill_gaps
from .options import IMAGE_OPTIONS, MISSING_OPTIONS, READING, READING_OPTIONS, options, read_file
from .output_files import check_output


@click.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@options(READING_OPTIONS, IMAGE_OPTIONS, MISSING_OPTIONS[:2])
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A picture, .png")
def show(source: Path, output: Path, nan_policy: str, max_gap: float, **image: Any) -> None:
    """Draw the six images of a recording as one sheet."""
    check_output(output, [".png"])
    reading = {key: image.pop(key) for key in READING}
    recordings = read_file(source, source.parent, reading)
    if len(recordings) > 1 and len({re.sub(r"\[\d+:\d+\]$", "", each.channel) for each in recordings}) == 1:
        raise SignalError(
            f"{printable(str(source))} was split at its holes, into {len(recordings)} runs: draw a file that holds one"
        )
    if len(recordings) != 1:
        names = ", ".join(printable(recording.channel) for recording in recordings)
        raise SignalError(
            f"{printable(str(source))} holds {len(recordings)} channels ({names}): choose one with --column"
        )
    (recording,) = recordings
    if recording.modality is None:
        raise SignalError(f"{printable(str(source))}: {recordings.without_modality()}")
    signal, _ = fill_gaps(recording.signal, recording.fs, nan_policy, max_gap, printable(str(source)))
    contact_sheet(signal, recording.fs, recording.modality, **image).save(output)
    seconds = recording.signal.size / recording.fs
    click.echo(f"six images of {printable(recording.channel)}, {seconds:g} s, in {output}")
