"""`tiny-biomoe report`: a study as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import printable
from ..explore import write_report
from ..images.representations import REPRESENTATIONS
from .explore import EXPLORE_OPTIONS, FOLDER, tell
from .options import once, options


@click.command()
@FOLDER
@click.option("--representation", multiple=True, callback=once, help=f"One of {', '.join(REPRESENTATIONS)}.")
@click.option("--sample", type=int, default=10_000, show_default=True, help="Windows on the map.")
@options(EXPLORE_OPTIONS)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A file, .html")
def report(folder: Path, output: Path, **chosen: Any) -> None:
    """Write what is in FOLDER, which `embed` wrote, as one HTML file that needs no network."""
    tell(write_report(folder, output, **chosen), f"report: {printable(str(output))}")
