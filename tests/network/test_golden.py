"""The network against what the authors' own gives, on weights and images made by rule, so that no file is needed.

`data/golden_embeddings.json` holds their encoder outputs, gates and embeddings, in float32 and eval mode.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tiny_biomoe.config import Architecture, Config
from tiny_biomoe.network.network import Network
from tiny_biomoe.weights.released_names import released_names
from tiny_biomoe.weights.shapes import tensor_shapes

DATA = Path(__file__).parents[1] / "data"
LAYOUT = json.loads((DATA / "released_layout.json").read_text())  # released name -> [dtype, *shape]
GOLDEN = json.loads((DATA / "golden_embeddings.json").read_text())
STAGES = ("encoder1", "encoder2", "gate1", "gate2", "embedding")
TOLERANCE = 2e-5  # absolute; rounding noise between machines is a third of it


def golden_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    r = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        values = 1 + 0.25 * abs(r)
    elif name.endswith("running_mean"):
        values = 0.1 * r
    elif name.endswith(("complex_weight", "attention_biases")):
        values = 0.5 * r
    elif len(shape) == 1 or name.startswith("ln_img"):
        values = 1 + 0.2 * r if name.endswith("weight") else 0.1 * r
    else:
        values = r / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, np.float32))


def golden_images() -> Tensor:
    y, x = np.mgrid[0:224, 0:224] / 223
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * (3 * x + y))
    smooth = np.stack([wave, 0.5 + 0.5 * np.cos(8 * np.pi * x * y), x * (1 - y)])
    noise = np.random.RandomState(20251123).rand(3, 224, 224)
    return torch.from_numpy(np.stack([noise, smooth, np.full_like(noise, 0.25)]).astype(np.float32))


def loaded(network: Network, tensors: dict[str, Tensor]) -> Network:
    result = network.load_state_dict(tensors, strict=False)
    assert not result.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in result.missing_keys)
    return network


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return {
        ours: golden_tensor(released, tuple(LAYOUT[released][1:]))
        for ours, released in released_names(tensor_shapes(Architecture())).items()
    }


@pytest.fixture(scope="module")
def network(tensors: dict[str, Tensor]) -> Network:
    return loaded(Network(Config()), tensors).eval()


@pytest.fixture(scope="module")
def stages(network: Network) -> dict[str, Tensor]:
    with torch.no_grad():
        return network.encode(golden_images())


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_is_the_authors(stages: dict[str, Tensor], stage: str) -> None:
    assert stages[stage].dtype == torch.float32
    np.testing.assert_allclose(stages[stage].numpy(), np.array(GOLDEN[stage]), rtol=0, atol=TOLERANCE)


def test_forward_is_the_embedding(network: Network, stages: dict[str, Tensor]) -> None:
    with torch.no_grad():
        assert torch.equal(network(golden_images()), stages["embedding"])


def test_parameters_are_counted_as_in_the_paper(network: Network) -> None:
    def count(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    fusion = (network.embedding_norm, network.gate, network.output_norm)
    assert count(network) == 7_337_278
    assert count(network.spectral_encoder) == 2_897_856
    assert count(network.waterfall_encoder) == 4_128_478
    assert count(network.image_norm) == 301_056
    assert sum(map(count, fusion)) == 9_888


def test_eps_of_every_norm(network: Network) -> None:
    """Two of them are too small to show in the golden numbers."""
    fine = ("mixer_norm", "mlp_norm", "stage_norms", "attention_norm", "spectral_encoder.norm")
    norms = {n: m for n, m in network.named_modules() if isinstance(m, nn.LayerNorm | nn.BatchNorm2d)}
    assert {name: norm.eps for name, norm in norms.items()} == {
        name: 1e-6 if any(part in name for part in fine) else 1e-5 for name in norms
    }
    assert network.spectral_encoder.norm.eps == 1e-6
    assert network.embedding_norm.eps == network.output_norm.eps == network.image_norm.eps == 1e-5
    assert sum(norm.eps == 1e-6 for norm in norms.values()) == 4 * 2 + 3 + 2 + 1


def test_position_biases_are_the_loaded_ones_whenever_eval_is_called(
    tensors: dict[str, Tensor], stages: dict[str, Tensor]
) -> None:
    """Loading after `.eval()` leaves the authors' biases at zero, 0.25 off in the embedding."""
    images = golden_images()
    network = Network(Config()).eval()
    with torch.no_grad():
        network(images[:1])
        assert torch.equal(loaded(network, tensors)(images), stages["embedding"])
        without = {name: torch.zeros_like(t) if "position_bias" in name else t for name, t in tensors.items()}
        change = (loaded(network, without)(images) - stages["embedding"]).abs().max().item()
    assert change == pytest.approx(0.25, abs=0.02)


def test_gradients_reach_every_parameter(tensors: dict[str, Tensor]) -> None:
    network = loaded(Network(Config()), tensors).eval()
    direction = torch.from_numpy(np.random.RandomState(0).standard_normal((3, 192)).astype(np.float32))
    (network(golden_images()) * direction).sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.abs().max() > 0] == []
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())


def by_hand(
    stages: dict[str, Tensor], tensors: dict[str, Tensor], gate: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The fusion in float64, from the raw outputs of both encoders."""
    own = {name: tensor.double().numpy() for name, tensor in tensors.items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(1, keepdims=True)
        return centred / np.sqrt(x.var(1, keepdims=True) + 1e-5) * own[f"{name}.weight"] + own[f"{name}.bias"]

    raw = [stages[name].double().numpy() for name in ("encoder1", "encoder2")]
    return norm(np.concatenate([gate(z) * norm(z, "embedding_norm") for z in raw], 1), "output_norm")


def test_gate_order_of_the_paper_and_of_the_release(stages: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    weight, bias = (tensors[f"gate.{part}"].double().numpy() for part in ("weight", "bias"))

    def elu(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))

    of_paper = by_hand(stages, tensors, lambda z: np.clip(elu(z @ weight.T + bias), 0, 1))
    of_release = by_hand(stages, tensors, lambda z: np.clip(elu(z) @ weight.T + bias, 0, 1))
    paper = loaded(Network(Config(architecture=Architecture(gate="paper"))), tensors).eval()
    with torch.no_grad():
        measured = paper(golden_images()).numpy()
    np.testing.assert_allclose(measured, of_paper, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(stages["embedding"].numpy(), of_release, rtol=0, atol=TOLERANCE)
    assert abs(of_paper - of_release).max() > 0.1
    assert tensor_shapes(Architecture(gate="paper")) == tensor_shapes(Architecture())


def test_an_image_alone_is_the_image_in_a_batch(network: Network, stages: dict[str, Tensor]) -> None:
    with torch.no_grad():
        alone = torch.cat([network(image[None]) for image in golden_images()])
    torch.testing.assert_close(alone, stages["embedding"], rtol=0, atol=1e-5)
