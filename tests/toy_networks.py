"""What the tests of inference share: what the plain network gives, and a network in which no two layers are alike."""

from __future__ import annotations

import torch

from tiny_biomoe import Architecture, TinyBioMoE
from tiny_biomoe.inference.torch_backend import evaluating, to_pixels


def plain(network, pictures):
    """What the plain network gives, image by image."""
    with evaluating(network), torch.inference_mode():
        rows = [network(to_pixels(torch.tensor(pictures[i : i + 1]), "cpu")) for i in range(len(pictures))]
    return torch.cat(rows).numpy()


def randomised(gate="released", **architecture):
    """A model in which no two layers, running statistics and biases included, are alike."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TinyBioMoE(Architecture(gate=gate, **architecture))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim < 2 and not name.startswith("image_norm"):
                tensor.add_(0.3 * torch.rand(tensor.shape, generator=generator))
    return model.eval()
