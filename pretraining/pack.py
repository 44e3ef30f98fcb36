"""All recordings in one folder: `python -m pretraining.pack --archives FOLDER [FOLDER] --out PACK`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from scipy.signal import resample_poly

from pretraining.archives import Task, load_tasks
from pretraining.credits import CREDITS
from pretraining.dataset_readers import read_sources
from pretraining.sources import Row, Source, gather, write_pack

# Of the first three data sets: rate to keep in Hz, and steps within a recording's spread. ECG is shown up to 50 Hz;
# EEG as well, and it holds nothing above 45 Hz; EMG is kept at the rate it has.
KEPT = {"ecg": (125, 80.0), "emg": (200, 64.0), "eeg": (100, 56.0)}


def reduced(task: Task) -> Source:
    """One of the paper's three tasks as a source, at the rate that pictures need."""
    rate, resolution = KEPT[task.name]
    common = int(np.gcd(rate, int(task.fs)))
    up, down = rate // common, int(task.fs) // common

    def rows() -> Iterator[Row]:
        for index in range(task.labels.size):
            x = task.recording(index)
            level = np.median(x)
            kept = x if up == down else resample_poly(x - level, up, down, padtype="line") + level
            yield Row(kept, int(task.groups[index]), int(task.labels[index]), bool(task.held_out[index]))

    return gather(task.name, task.name, float(rate), task.classes, task.seconds, task.test_seconds, rows(), resolution)


def all_sources(archives: Path, cache: Path) -> Iterator[Source]:
    """Sources of the paper's three data sets, in FOLDER/pretraining, and of the ten in FOLDER/pretraining2."""
    for task in load_tasks(archives / "pretraining", cache):
        yield reduced(task)
    yield from read_sources(archives / "pretraining2")


def table(sources: list[Source]) -> str:
    """People, recordings, hours and windows of each source, in Markdown."""
    lines = ["| source | fs | people | held out | recordings | hours | windows | classes |", "|" + "---|" * 8]
    for source in sources:
        people = np.unique(source.people).size, np.unique(source.people[source.held_out]).size
        hours = source.durations.sum() / 3600
        windows = int((source.durations // np.mean(source.seconds)).sum())
        lines.append(
            f"| {source.name} | {source.fs:g} | {people[0]} | {people[1]} | {len(source)} | {hours:.2f} | {windows} | "
            f"{', '.join(source.classes)} |"
        )
    return "\n".join(lines)


@click.command()
@click.option("--archives", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="For unpacked archives.")
def main(archives: Path, out: Path, cache: Path | None) -> None:
    """Write every recording below ARCHIVES into one folder of at most 55 MiB."""
    sources = list(all_sources(archives, cache or out.with_name(f"{out.name}.cache")))
    size = write_pack(out, sources, {name: asdict(credit) for name, credit in CREDITS.items()})
    click.echo(table(sources))
    click.echo(f"{out}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
