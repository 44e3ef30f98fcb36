"""The network that training of the late stages begins with: encoder 1 as it is built, the rest as it was trained.

Training on images whose encoder 1 learns as a whole took from it where things lie (a linear reading of a token's row
explains 0.11 of its variance before and 0.01 after, in the map that enters the last stage). So encoder 1 begins anew,
and is given that: the bias of the image norm, its only weights that know a place, rises from the top of the image to
the bottom, in the mixture of colours that encoder 2's first convolution heeds least.

`python -m pretraining.beginnings --out FOLDER` writes it as weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import torch
from torch import Tensor

from tiny_biomoe.config import IMAGE_SIZE, Config
from tiny_biomoe.model import TinyBioMoE
from tiny_biomoe.network.network import Network

RAMP = 0.8  # of the normed image's spread, at the edges of the ramp
TRAINED = ("image_norm.", "waterfall_encoder.")


def untrained_spectral_encoder(trained: Mapping[str, Tensor], seed: int = 0, ramp: float = RAMP) -> Network:
    """A network of `trained` weights but for encoder 1, the gate and the norms behind it, which `seed` makes anew."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network(Config())
    kept = {name: tensor for name, tensor in trained.items() if name.startswith(TRAINED)}
    network.load_state_dict(network.state_dict() | kept)
    kernels = network.waterfall_encoder.patch_embedding[0].conv.weight.detach()  # (24, 3, 3, 3)
    _, _, colours = torch.linalg.svd(kernels.sum((2, 3)))  # rows: mixtures of colours, the most heeded first
    heights = torch.linspace(-1, 1, IMAGE_SIZE)[:, None].expand(IMAGE_SIZE, IMAGE_SIZE)
    network.image_norm.bias.data += ramp * colours[2][:, None, None] * heights
    return network.eval()


@click.command()
@click.option("--from", "start", help="Weights whose encoder 2 is kept; the bundled ones otherwise.")
@click.option("--seed", default=0, show_default=True, help="Of what is made anew.")
@click.option("--ramp", default=RAMP, show_default=True, help="Of the image norm's bias, from top to bottom; 0: none.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(start: str | None, seed: int, ramp: float, out: Path) -> None:
    """Write the network that training of the late stages begins with, loadable by TinyBioMoE.from_pretrained."""
    model = TinyBioMoE()
    standing = TinyBioMoE.from_pretrained(start).state_dict()
    model.load_state_dict(untrained_spectral_encoder(standing, seed, ramp).state_dict())
    model.save_pretrained(out)
    click.echo(f"weights: {out}")


if __name__ == "__main__":
    main()
