"""`tiny-biomoe info` and `tiny-biomoe compare`: what made a folder of embeddings, and whether two may be mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..batch.compatibility import CARE, NEVER, differences, facts_of
from ..batch.loading import read_manifest
from ..batch.shards import FAILURES
from ..errors import counted, printable

FOLDER_PATH = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("folder", type=FOLDER_PATH)
def info(folder: Path) -> None:
    """Say what made the embeddings in FOLDER, which `embed` wrote."""
    manifest = read_manifest(folder)
    summary, made = manifest["summary"], manifest["fingerprint"]
    if not summary["windows"]:
        click.echo(
            f"no vector: of {counted(summary['inputs'], 'input')} none could be embedded; see {folder / FAILURES}"
        )
    arguments, facts = made["arguments"], facts_of(manifest)
    weights = made["weights"]
    lines: dict[str, Any] = {
        "windows": f"{summary['windows']} of {counted(summary['embedded'], 'input')}; {summary['failed']} failed, "
        f"{summary['skipped']} skipped",
        "shards": f"{summary['shards']}, {summary['bytes'] / 1e6:.1f} MB",
        "weights": f"{weights['weights']} (sha256 {weights['weights_sha256'] or weights['tensors_sha256']})",
        "recipe": f"{made['recipe']['version']} (sha256 {facts['recipe']})",
        "representations": ", ".join(facts["representation"]),
        "window": "whole recordings" if facts["window"] is None else f"{facts['window']:g} s",
        "stride": "" if facts["stride"] is None else f"{facts['stride']:g} s",
        **{name: facts[name] for name in ("scale", "band", "short", "nan_policy", "max_gap", "max_missing")},
        "reading": ", ".join(f"{name} {value}" for name, value in arguments["reading"].items()),
        "columns": ", ".join(arguments.get("further", [])),
        "computed by": ", ".join(str(value) for value in made["backend"].values() if value is not None),
        "software": ", ".join(f"{name} {number}" for name, number in made["library"].items()),
    }
    for name, about in sorted(manifest.get("provenance", {}).items()):
        edges = about["filter"]
        low, high = (("none" if edges[end] is None else f"{edges[end]:g} Hz") for end in ("low", "high"))
        lines[name] = f"filtered from {low} to {high}"
    for name, value in lines.items():
        if value not in ("", None):
            click.echo(f"{name:<16} {printable(str(value))}")


@click.command()
@click.argument("first", type=FOLDER_PATH)
@click.argument("second", type=FOLDER_PATH)
def compare(first: Path, second: Path) -> None:
    """Say whether the vectors in FIRST and SECOND may be mixed, and why. Exit code 1: they may not."""
    found = differences(facts_of(read_manifest(first)), facts_of(read_manifest(second)))
    never = [each for each in found if each.mix == NEVER]
    care = [each for each in found if each.mix == CARE]
    if never:
        click.echo("no: the vectors may not be mixed")
    elif care:
        click.echo("with care: the vectors may be mixed, with an eye on what differs")
    else:
        click.echo("yes: the vectors may be mixed" + ("" if found else "; nothing differs"))
    for each in found:
        click.echo(f"  {each.mix:<10} {printable(str(each))}: {each.why}")
    if never:
        raise SystemExit(1)
