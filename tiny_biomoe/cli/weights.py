"""`tiny-biomoe weights`: show, verify or convert weights."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..errors import printable
from ..weights.loading import convert as convert_weights
from ..weights.loading import load


@click.group()
def weights() -> None:
    """Show, verify or convert weights."""


@weights.command()
@click.argument("source", required=False)
def info(source: str | None) -> None:
    """Show where weights come from, what they are, and their recipe."""
    loaded = load(source)
    facts = {"name": loaded.config.name, "source": loaded.source, "sha256": loaded.sha256}
    facts["parameters"] = sum(t.size for n, t in loaded.tensors.items() if "running" not in n)  # type: ignore[assignment]
    click.echo(json.dumps(facts | json.loads(loaded.config.to_json()), indent=2))


@weights.command()
@click.argument("source", required=False)
def verify(source: str | None) -> None:
    """Check weights: hash, names, shapes, and that every number is finite."""
    loaded = load(source)
    click.echo(f"{printable(loaded.config.name)}: {len(loaded.tensors)} tensors verified, sha256 {loaded.sha256}")


@weights.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def convert(source: Path, out: Path) -> None:
    """Write the authors' Tiny-BioMoE.pth as a folder of safetensors and config."""
    convert_weights(source, out)
    click.echo(f"written: {out}")
