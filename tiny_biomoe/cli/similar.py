"""`tiny-biomoe similar`: the windows of a study that are most like one of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pyarrow as pa

from ..errors import ConfigError, printable
from ..explore import ApproximateIndex, EmbeddingFolder, Query, SearchableWindows, query_recording, write_similar
from ..explore.query import query_of_window
from ..explore.similar_page import ENDINGS
from ..explore.templates import check_page
from ..images.representations import REPRESENTATIONS
from .embed import _given
from .options import READING, READING_OPTIONS, once, options

SHOWN = ("subject", "label")


@click.command()
@click.argument("recording")
@click.option(
    "--in", "folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True,
    help="What `embed` wrote.",
)  # fmt: skip
@click.option("-k", "k", type=int, default=10, show_default=True, help="Windows to find.")
@click.option("--start", type=float, help="Of the window, in seconds from the recording's first sample; 0 otherwise.")
@click.option("--representation", multiple=True, callback=once, help=f"One of {', '.join(REPRESENTATIONS)}.")
@click.option("--where", multiple=True, metavar="COLUMN=VALUE", help="What a window must have; repeatable.")
@click.option("--any-modality", is_flag=True, help="Look at windows of other modalities, too.")
@click.option("--same-recording", is_flag=True, help="Look at other windows of the recording itself, too.")
@click.option("--weights", help="That made the folder: a folder, .pth or owner/name; the bundled weights otherwise.")
@click.option("--index", type=click.Path(dir_okay=False, path_type=Path), help="A usearch index, built if not there.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write query and hits as pictures.")
@click.option("--recordings", type=click.Path(exists=True, path_type=Path), help="What was embedded, if it has moved.")
@options(READING_OPTIONS)
def similar(recording: str, folder: Path, k: int, html: Path | None, recordings: Path | None, **chosen: Any) -> None:
    """Find the windows of a study that are most like one of RECORDING: a file, or the id of a window of the study."""
    reading = _given({name: chosen.pop(name) for name in READING})
    where = _where(chosen["where"])
    if html is not None:
        check_page(html, *ENDINGS)
    opened = EmbeddingFolder.open(folder)
    query = _query(recording, opened, chosen, reading)
    windows = SearchableWindows.open(opened, query.representation)
    remark, index = "", None
    if chosen["index"] is not None:
        index = ApproximateIndex.open(chosen["index"], windows)
        remark = f"Found by an index that knows {index.recall:.1%} of the true 10 nearest."
    hits = windows.search(
        query, k, where=where, any_modality=chosen["any_modality"], same_recording=chosen["same_recording"],
        index=index,
    )  # fmt: skip
    click.echo(f"windows like {printable(query.name)}, by cosine similarity of {query.representation} embeddings")
    _print(hits)
    if remark:
        click.echo(remark, err=True)
    if html is not None:
        write_similar(query, hits, opened, html, recordings=recordings, remark=remark)
        click.echo(f"pictures: {printable(str(html))}")


def _query(recording: str, folder: EmbeddingFolder, chosen: dict[str, Any], reading: dict[str, Any]) -> Query:
    """The window that is asked for."""
    path = Path(recording)
    if path.is_file():
        from ..embedding import Embedder

        return query_recording(
            path, folder, start=chosen["start"] or 0.0, representation=chosen["representation"],
            model=lambda: Embedder.from_pretrained(chosen["weights"]), **reading,
        )  # fmt: skip
    if "#" not in recording:
        raise ConfigError(f"{recording!r}: there is no such file, and it is no id of a window, path#channel@start")
    if chosen["start"] is not None or reading:
        raise ConfigError(f"{recording!r} is the id of a window, so --start and how to read a file do not apply")
    return query_of_window(recording, folder, chosen["representation"])


def _where(texts: tuple[str, ...]) -> dict[str, list[str]]:
    """Columns and the values that are wanted: a column named twice takes either."""
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--where {text!r}: write COLUMN=VALUE")
        found.setdefault(name, []).append(value)
    return found


def _print(hits: pa.Table) -> None:
    held = [name for name in SHOWN if hits[name].null_count < len(hits)]
    rows = [
        [f"{row['similarity']:.4f}", f"{row['start']:g}", f"{row['stop']:g}", row["modality"],
         *(printable(str(row[name] or "")) for name in held), printable(row["id"])]
        for row in hits.to_pylist()
    ]  # fmt: skip
    names = ["similarity", "start, s", "stop, s", "modality", *held, "id"]
    widths = [max(len(row[place]) for row in [names, *rows]) for place in range(len(names))]
    for row in [names, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
