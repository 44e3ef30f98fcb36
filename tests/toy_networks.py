"""What the tests of inference share: what the plain network gives, and a network in which no two layers are alike."""

from __future__ import annotations

import numpy as np
import torch

from tiny_biomoe import Architecture, TinyBioMoE
from tiny_biomoe.inference.torch_backend import evaluating, to_pixels

NARROW = {  # every kind of layer, on few channels
    "spectral_widths": (32, 64, 64, 32), "spectral_mlp_ratios": (2, 2, 1, 1), "spectral_heads": (0, 0, 2, 1),
    "waterfall_widths": (64, 96, 32), "waterfall_heads": (2, 3, 1),
}  # fmt: skip


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


def hooked_rows(model, pictures):
    """The last maps as hooks on the plain network find them, averaged over their columns: (n, 7 * 96 + 4 * 96)."""
    maps = {}
    blocks = {"grid": model.spectral_encoder.blocks[-1], "map": model.waterfall_encoder.blocks[-1]}
    hooks = [
        block.register_forward_hook(lambda module, given, gave, name=name: maps.update({name: gave}))
        for name, block in blocks.items()
    ]
    found = []
    for picture in pictures:
        with torch.inference_mode():
            model(to_pixels(torch.tensor(picture[None]), "cpu"))
        grid, map = maps["grid"][0].numpy(), maps["map"][0].numpy()  # (rows, columns, channels), (channels, ...)
        found.append(np.concatenate([grid.mean(1).ravel(), map.mean(2).T.ravel()]))
    for hook in hooks:
        hook.remove()
    return np.stack(found)
