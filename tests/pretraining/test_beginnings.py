"""What training of the late stages begins with."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from pretraining.beginnings import main, untrained_spectral_encoder
from tiny_biomoe import Config, TinyBioMoE
from tiny_biomoe.inference.torch_backend import to_pixels
from tiny_biomoe.network.network import Network


def test_encoder_1_is_as_built_and_encoder_2_as_trained_but_for_a_ramp_it_hardly_sees():
    torch.manual_seed(7)
    trained = Network(Config()).eval()
    network = untrained_spectral_encoder(trained.state_dict(), seed=3)
    torch.manual_seed(3)
    built = Network(Config()).state_dict()
    for name, tensor in network.state_dict().items():
        if name != "image_norm.bias":
            origin = trained.state_dict() if name.startswith(("image_norm", "waterfall")) else built
            assert torch.equal(tensor, origin[name]), name
    ramp = network.image_norm.bias - trained.image_norm.bias
    assert ramp.square().sum(0).sqrt().max().item() == pytest.approx(0.8, rel=1e-5)
    assert torch.allclose(ramp[:, 0], -ramp[:, -1])
    assert torch.allclose(ramp[..., 0], ramp[..., -1])
    levels = torch.randint(0, 256, (4, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first = trained.waterfall_encoder.patch_embedding[0].conv

    def change(mixture: torch.Tensor) -> float:
        """Share of the first convolution's spread that the ramp adds, in a mixture of colours."""
        with torch.inference_mode():
            image = trained.image_norm(to_pixels(levels, "cpu"))
            heights = torch.linspace(-1, 1, 224)[:, None].expand(224, 224)
            moved = first(image + 0.8 * mixture[:, None, None] * heights) - first(image)
            return (moved.var() / first(image).var()).item()

    mixture = ramp[:, -1, 0] / 0.8
    others = torch.linalg.svd(mixture[None])[2][1:]
    assert change(mixture) < min(change(other) for other in others)


def test_without_a_ramp_the_image_norm_is_as_trained():
    trained = Network(Config()).eval()
    network = untrained_spectral_encoder(trained.state_dict(), ramp=0.0)
    assert torch.equal(network.image_norm.bias, trained.image_norm.bias)


def test_the_callers_random_numbers_are_left_alone():
    trained = Network(Config()).state_dict()
    torch.manual_seed(1)
    untrained_spectral_encoder(trained)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)


def test_it_is_written_as_weights(tmp_path):
    result = CliRunner().invoke(main, ["--out", str(tmp_path / "start"), "--seed", "2", "--ramp", "0.5"])
    assert result.exit_code == 0, result.output
    written = TinyBioMoE.from_pretrained(tmp_path / "start").state_dict()
    expected = untrained_spectral_encoder(TinyBioMoE.from_pretrained().state_dict(), seed=2, ramp=0.5).state_dict()
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
