"""`tiny-biomoe study`: a table of a folder's recordings, with people from names and labels from files of events."""

from __future__ import annotations

from pathlib import Path

import click

from ..batch.study_making import study_rows
from ..errors import counted
from ..sealed_files import write_whole
from .output_files import check_output


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--subject", help=r"Regular expression of the person in a path: 'sub-(\d+)'; named groups are columns.")
@click.option("--events", help="Pattern of the files of events, e.g. '*_events.csv' or '*_events.tsv'.")
@click.option("--label", help="Column of the labels in the files of events; otherwise label, trial_type ...")
@click.option("--include", multiple=True, help="Pattern of the recordings to take, e.g. '*_EDA.csv'; repeatable.")
@click.option("--exclude", multiple=True, help="Pattern of the recordings to leave out; repeatable.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A table, .csv")
def study(
    folder: Path,
    subject: str | None,
    events: str | None,
    label: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    output: Path,
) -> None:
    """List the recordings below FOLDER as a study table, which `embed`, `finetune` and `predict` read."""
    check_output(output, [".csv"])
    outside = [*exclude, output.resolve().name] if output.resolve().is_relative_to(folder.resolve()) else exclude
    found = study_rows(folder, subject, events=events, label=label, include=include, exclude=outside)
    write_whole(output, found.text(output.parent).encode())
    for note in found.notes:
        click.echo(note, err=True)
    people = {row["subject"] for row in found.rows if row["subject"]}
    files = {row["path"] for row in found.rows}
    recordings, of_people = counted(len(files), "recording"), counted(len(people), "person", "people")
    click.echo(f"{counted(len(found.rows), 'row')} of {recordings} and {of_people} in {output}")
