"""Make trained weights the ones that travel inside the package: float16, with checksums and selfcheck vectors.

`python benchmarks/ship_weights.py RUN/model --name NAME`
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import load_file

from tiny_biomoe import TinyBioMoE
from tiny_biomoe.cli import selfcheck
from tiny_biomoe.weights import loading as weights


def write_checksums() -> str:
    """Write the sha256 of each bundled file."""
    files = sorted(path for path in weights.BUNDLED.iterdir() if path.name != "SHA256SUMS")
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (weights.BUNDLED / "SHA256SUMS").write_text(sums)
    return sums


@click.command()
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", required=True, help="Of the weights, as provenance will report it.")
def main(source: Path, name: str) -> None:
    """Write SOURCE, a folder of save_pretrained, into the package."""
    trained = TinyBioMoE.from_pretrained(source)
    shipped = TinyBioMoE(trained.architecture, trained.recipe, name)
    weights.save(weights.BUNDLED, trained.state_dict(), shipped.config, half=True)
    (weights.BUNDLED / "README.md").unlink()  # the card is weights_card.md
    largest = max(t.abs().max().item() for t in load_file(weights.BUNDLED / weights.TENSORS).values())
    model = TinyBioMoE.from_pretrained(weights.BUNDLED)  # by its path: the checksums are not written yet
    np.savez_compressed(
        weights.BUNDLED / "selfcheck.npz", pictures=selfcheck.pictures(), vectors=selfcheck.vectors(model)
    )
    sums = write_checksums()
    noise = torch.rand(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        rounding = (trained(noise) - model(noise)).abs().max().item()
    click.echo(f"{sums}largest weight {largest:.3g}; float16 moves an embedding by at most {rounding:.1e}")


if __name__ == "__main__":
    main()
