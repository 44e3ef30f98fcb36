"""The mean of the late stages of several runs that go on from one another, with BatchNorm statistics taken anew.

`python -m pretraining.mean_weights --weights RUN/model [--weights RUN/model ...] --cache CACHE --out FOLDER` writes it
as weights. The statistics are those of the maps that `pretraining.late` kept in its cache of most examples. The runs
share their early stages.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import torch

from pretraining.late import KeptMaps, Settings, early_digest
from pretraining.precision import on_threads
from pretraining.stages import EARLY, late_vectors, set_training, statistics_anew
from tiny_biomoe.errors import WeightsError
from tiny_biomoe.model import TinyBioMoE
from tiny_biomoe.network.network import Network

SEEN = 4000  # examples, at most, whose statistics are taken
SECOND = "waterfall_encoder.blocks.2."  # encoder 2's last stage


def mean_weights(
    runs: Sequence[Network], maps: KeptMaps, standing: Network | None = None, share: float = 0.0, at_once: int = 100
) -> Network:
    """A network whose late stages are the mean of those of `runs`, in eval mode.

    Parameters
    ----------
    runs : at least one; their early stages are one another's
    maps : of examples, from which BatchNorm statistics are taken, as means over batches of `at_once`
    standing, share : how much of encoder 2's last stage is taken from these weights instead, in [0, 1]

    Raises
    ------
    WeightsError
        The early stages of two runs differ.
    """
    states = [run.state_dict() for run in runs]
    mean = copy.deepcopy(runs[0])
    for name, tensor in mean.state_dict().items():
        found = [state[name] for state in states]
        if name.startswith(tuple(f"{part}." for part in EARLY)):
            if not all(torch.equal(tensor, other) for other in found):
                raise WeightsError(f"{name} differs between the runs: their early stages have to be one another's")
        elif tensor.is_floating_point():
            value = torch.stack([other.double() for other in found]).mean(0)
            if standing is not None and name.startswith(SECOND):
                value = value.lerp(standing.state_dict()[name].double(), share)
            tensor.copy_(value)
    set_training(mean, Settings.norm_momentum)
    statistics_anew(mean)
    order = np.random.default_rng(0).permutation(len(maps.grids))[:SEEN]
    with torch.no_grad():
        for rows in np.array_split(order, max(1, len(order) // at_once)):
            late_vectors(mean, *maps.batch(rows))
    return mean.eval()


@click.command()
@click.option("--weights", "folders", multiple=True, required=True, help="Of a run; once for each.")
@click.option(
    "--cache", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="Of the runs."
)
@click.option("--standing", help="Weights that --share is taken from; the bundled ones otherwise.")
@click.option("--share", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Of encoder 2's last stage.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
def main(folders: tuple[str, ...], cache: Path, standing: str | None, share: float, out: Path) -> None:
    """Write the mean, loadable by TinyBioMoE.from_pretrained."""
    click.get_current_context().with_resource(on_threads(1))
    runs = [TinyBioMoE.from_pretrained(folder) for folder in folders]
    kept = [sorted(place.glob("maps-?????.npz")) for place in cache.glob(f"maps-*-{early_digest(runs[0])}")]
    if not any(kept):
        raise click.BadParameter(f"{cache} holds no maps of these early stages", param_hint="--cache")
    maps = KeptMaps.of(max(kept, key=len))
    model = TinyBioMoE()
    model.load_state_dict(mean_weights(runs, maps, TinyBioMoE.from_pretrained(standing), share).state_dict())
    model.save_pretrained(out)
    click.echo(f"weights: {out}")


if __name__ == "__main__":
    main()
