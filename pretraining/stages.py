"""The network in two halves: early stages that stay as they are, and late stages that learn from their kept maps.

Rates are read as well from the maps of an untrained encoder 1, averaged over time alone, as from the best published
features; training of its early stages on few windows took from that. So these stages are left alone, their maps are
computed once an image, and a step on them costs a small part of what one on images costs.
"""

from __future__ import annotations

from torch import Tensor, nn

from tiny_biomoe.inference.torch_backend import to_pixels
from tiny_biomoe.network.network import Network

EARLY = (
    "image_norm", "spectral_encoder.stem", "spectral_encoder.blocks.0", "spectral_encoder.blocks.1",
    "spectral_encoder.blocks.2", "spectral_encoder.stage_norms", "spectral_encoder.downsamples",
    "waterfall_encoder.patch_embedding", "waterfall_encoder.blocks.0", "waterfall_encoder.blocks.1",
    "waterfall_encoder.merges",
)  # fmt: skip


def early_maps(network: Network, levels: Tensor) -> tuple[Tensor, Tensor]:
    """What the late stages are given, of images (B, 224, 224): (B, 7, 7, 96) of encoder 1, (B, 96, 4, 4) of 2."""
    image = network.image_norm(to_pixels(levels, network.gate.weight.device))
    spectral, waterfall = network.spectral_encoder, network.waterfall_encoder
    grid = spectral.blocks[0](spectral.stem(image))
    for norm, downsample, block in zip(
        spectral.stage_norms, spectral.downsamples, [*spectral.blocks[1:3], None], strict=True
    ):
        grid = downsample(norm(grid))
        grid = block(grid) if block is not None else grid
    x = waterfall.blocks[0](waterfall.patch_embedding(image))
    return grid, waterfall.merges[1](waterfall.blocks[1](waterfall.merges[0](x)))


def late_vectors(network: Network, grid: Tensor, x: Tensor) -> Tensor:
    """Embeddings from the maps of the early stages: (B, 192)."""
    spectral, waterfall = network.spectral_encoder, network.waterfall_encoder
    z1 = spectral.norm(spectral.class_block(spectral.blocks[3](grid)))
    z2 = waterfall.blocks[2](x).mean((2, 3))
    return network.fuse(z1, z2)["embedding"]


def late_parameters(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Parameters that are not of the early stages, by name."""
    return [(n, p) for n, p in network.named_parameters() if not n.startswith(tuple(f"{part}." for part in EARLY))]


def statistics_anew(network: nn.Module) -> None:
    """Let the BatchNorms that are in training mode forget their statistics, and take means over the batches to come."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.training:
            module.reset_running_stats()
            module.momentum = None


def set_training(network: Network, norm_momentum: float) -> None:
    """Late stages learn: their BatchNorms use and gather statistics of batches; early stages stay in eval mode."""
    network.eval()
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and not f"{name}.".startswith(tuple(f"{part}." for part in EARLY)):
            module.train()
            module.momentum = norm_momentum
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(f"{part}." for part in EARLY)))
