"""`tiny-biomoe explore`: a map of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import ConfigError, printable
from ..explore import EmbeddingFolder, write_atlas, write_map
from ..explore.map_page import PAGE
from ..explore.projection import METHODS
from ..images.representations import REPRESENTATIONS
from .options import once, options

FOLDER = click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
EXPLORE_OPTIONS = [
    click.option("--color", help="Column that the points are coloured by: label, subject, missing, one of yours ..."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the sample and of the projection."),
    click.option("--method", type=click.Choice(METHODS), default="auto", help="UMAP, or PCA where it cannot be."),
    click.option(
        "--recordings", type=click.Path(exists=True, path_type=Path), help="What was embedded, if it has moved since."
    ),
]


@click.command()
@FOLDER
@click.option("--representation", multiple=True, help=f"Of {', '.join(REPRESENTATIONS)}; repeatable; all otherwise.")
@click.option("--modality", multiple=True, callback=once, help="Show windows of this one alone.")
@click.option("--sample", type=int, help="Windows to show: 50000, and 1000000 in an atlas.")
@options(EXPLORE_OPTIONS)
@click.option("--pictures/--no-pictures", default=True, help="Whether to draw the windows.")
@click.option("--workers", type=int, help="Processes that draw; one a processor otherwise.")
@click.option("--atlas", type=click.Path(dir_okay=False, path_type=Path), help="A .parquet for Embedding Atlas.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="A folder; map/ otherwise.")
def explore(folder: Path, output: Path | None, atlas: Path | None, color: str | None, **chosen: Any) -> None:
    """Write a map of FOLDER, which `embed` wrote: every window a point, with its picture, for any browser.

    With --atlas, a table for Apple's Embedding Atlas instead, or beside it where -o is given as well.
    """
    names = list(chosen.pop("representation")) or None
    sample = {} if chosen.pop("sample") is None else {"sample": click.get_current_context().params["sample"]}
    opened = EmbeddingFolder.open(folder)
    if atlas is not None:
        if names is not None and len(names) > 1:
            raise ConfigError("an atlas shows one representation: write one file for each")
        remarks = write_atlas(opened, atlas, representation=names[0] if names else None, **sample, **chosen)
        tell(remarks, f"table for Embedding Atlas: {printable(str(atlas))}")
    if atlas is None or output is not None:
        output = output or Path("map")
        remarks = write_map(opened, output, representation=names, color=color, **sample, **chosen)
        tell(remarks, f"map: open {printable(str(output / PAGE))} in a browser")


def tell(remarks: Sequence[str], result: str) -> None:
    """Print what a person should know, and where the result is."""
    for remark in remarks:
        click.echo(printable(remark), err=True)
    click.echo(result)
