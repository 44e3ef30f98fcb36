"""The mean of several runs' late stages."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from toy_pretraining import toy_maps

from pretraining.late import KeptMaps, early_digest, embed_maps
from pretraining.mean_weights import SECOND, main, mean_weights
from pretraining.stages import late_parameters, late_vectors, set_training
from tiny_biomoe import TinyBioMoE, WeightsError

GATE, SECOND_STAGE = "gate.weight", next(n for n, _ in late_parameters(TinyBioMoE()) if n.startswith(SECOND))


@pytest.fixture
def runs() -> list[TinyBioMoE]:
    """Three, whose late stages alone differ."""
    found = [TinyBioMoE.from_pretrained()]
    for seed in (1, 2):
        found.append(copy.deepcopy(found[0]))
        generator = torch.Generator().manual_seed(seed)
        for _, parameter in late_parameters(found[-1]):
            parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)
    return found


def test_late_stages_are_the_mean_and_early_ones_stay(runs):
    before = copy.deepcopy(runs[0].state_dict())
    mean = mean_weights(runs, toy_maps())
    late = {name for name, _ in late_parameters(runs[0])}
    for name, parameter in mean.named_parameters():
        wanted = sum(run.get_parameter(name) for run in runs) / 3 if name in late else before[name]
        torch.testing.assert_close(parameter, wanted, atol=1e-6, rtol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in runs[0].state_dict().items())
    assert not mean.training


def test_a_share_of_the_second_encoders_last_stage_is_that_of_the_standing_weights(runs):
    mean = mean_weights(runs[1:2], toy_maps(), runs[0], 0.25)
    wanted = 0.75 * runs[1].get_parameter(SECOND_STAGE) + 0.25 * runs[0].get_parameter(SECOND_STAGE)
    torch.testing.assert_close(mean.get_parameter(SECOND_STAGE), wanted)
    assert torch.equal(mean.get_parameter(GATE), runs[1].get_parameter(GATE))


def test_statistics_are_those_of_the_maps(runs):
    maps = toy_maps()
    mean = mean_weights(runs, maps)
    in_eval = embed_maps(mean, maps)
    set_training(mean, 0.1)
    with torch.no_grad():
        in_training = late_vectors(mean, *maps.batch(np.arange(24)))
    assert (in_eval - in_training).abs().mean() < 0.02  # but for the unbiased variance; of stale statistics 0.5


def test_runs_of_other_early_stages_are_refused(runs):
    runs[1].image_norm.bias.data += 1
    with pytest.raises(WeightsError, match=r"image_norm\.bias differs between the runs"):
        mean_weights(runs, toy_maps())


def running(network) -> dict[str, torch.Tensor]:
    """Means and variances of BatchNorm."""
    return {name: tensor for name, tensor in network.state_dict().items() if ".running_" in name}


def test_the_command_writes_weights_that_load(runs, tmp_path):
    for index, run in enumerate(runs):
        run.save_pretrained(tmp_path / str(index))
    many, few = toy_maps(), toy_maps(8)
    for name, kept in (("many", (many, many)), ("few", (few,))):
        (place := tmp_path / "cache" / f"maps-{name}-{early_digest(runs[0])}").mkdir(parents=True)
        for number, maps in enumerate(kept):
            np.savez(place / f"maps-{number:05d}.npz", grids=maps.grids, maps=maps.maps)
        (place / "maps-00009.partial.npz").write_bytes(b"of a run that was killed")
    options = [f"--weights={tmp_path / str(index)}" for index in (1, 2)]
    options += ["--share=0.25", f"--standing={tmp_path / '0'}", f"--out={tmp_path / 'mean'}"]
    done = CliRunner().invoke(main, [*options, f"--cache={tmp_path / 'cache'}"])
    assert done.exit_code == 0, done.output
    loaded = TinyBioMoE.from_pretrained(tmp_path / "mean")
    both = KeptMaps(np.concatenate([many.grids] * 2), np.concatenate([many.maps] * 2))
    expected = mean_weights(runs[1:], both, runs[0], 0.25)
    for name, tensor in {**dict(expected.named_parameters()), **running(expected)}.items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)
    assert (torch.tensor([1e-40]) * 1).item() > 0  # the process computes as before
    refused = CliRunner().invoke(main, [*options, f"--cache={tmp_path}"])
    assert refused.exit_code == 2
    assert "holds no maps of these early stages" in refused.output
