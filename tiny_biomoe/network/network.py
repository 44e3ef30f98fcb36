"""The network: two encoders, one gate, 192 numbers (paper, section 3.1.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..config import IMAGE_SIZE, Architecture, Config, Recipe
from .spectral_encoder import SpectralEncoder
from .waterfall_encoder import WaterfallEncoder


class Network(nn.Module):
    """Image to embedding. `TinyBioMoE` adds signals on one side and weights on the other.

    Its images are 224 pixels a side; only pretraining builds it smaller, to see more of them (`pretraining.growth`).
    """

    def __init__(self, config: Config, image_size: int = IMAGE_SIZE) -> None:
        super().__init__()
        architecture = config.architecture
        width = architecture.spectral_widths[-1]
        self.config = config
        self.image_norm = nn.LayerNorm((3, image_size, image_size))
        self.spectral_encoder = SpectralEncoder(architecture, image_size)
        self.waterfall_encoder = WaterfallEncoder(architecture, image_size)
        self.embedding_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, width)
        self.output_norm = nn.LayerNorm(2 * width)
        nn.init.constant_(self.gate.bias, 0.5)  # half open: a gate that starts at 0 or 1 has no gradient

    @property
    def architecture(self) -> Architecture:
        """The network's numbers."""
        return self.config.architecture

    @property
    def recipe(self) -> Recipe:
        """The images' numbers."""
        return self.config.recipe

    def forward(self, pixels: Tensor) -> Tensor:
        """Embed images: (B, 3, 224, 224) in [0, 1] to (B, 192); gradients flow."""
        return self.encode(pixels)["embedding"]

    def encode(self, pixels: Tensor, rows: bool = False) -> dict[str, Tensor]:
        """What `forward` computes, by name.

        Parameters
        ----------
        pixels : (B, 3, 224, 224), float, in [0, 1]
        rows : whether readout "rows" is computed as well, from the same maps

        Returns
        -------
        dict
            `encoder1`, `encoder2` (B, 96), raw; `gate1`, `gate2` (B, 96), in [0, 1]; `embedding` (B, 192); and with
            `rows` also `rows` (B, 1056): of encoder 1's last map each row's mean over its columns, (7, 96), then of
            encoder 2's, (4, 96).
        """
        image = self.image_norm(pixels)  # (B, 3, 224, 224)
        if not rows:
            return self.fuse(self.spectral_encoder(image), self.waterfall_encoder(image))
        (z1, rows1), (z2, rows2) = self.spectral_encoder(image, rows=True), self.waterfall_encoder(image, rows=True)
        return {**self.fuse(z1, z2), "rows": torch.cat([rows1.flatten(1), rows2.flatten(1)], dim=1)}

    def fuse(self, z1: Tensor, z2: Tensor) -> dict[str, Tensor]:
        """Raw vectors of the encoders, (B, 96) each, to what `encode` gives (Eqs. 5 to 7)."""
        gate1, gate2 = self._gate(z1), self._gate(z2)  # (B, 96), in [0, 1]
        gated = torch.cat([gate1 * self.embedding_norm(z1), gate2 * self.embedding_norm(z2)], dim=1)
        return {
            "encoder1": z1,
            "encoder2": z2,
            "gate1": gate1,
            "gate2": gate2,
            "embedding": self.output_norm(gated),  # (B, 192)
        }

    def _gate(self, z: Tensor) -> Tensor:
        """How much of each channel passes (Eq. 5; the released network applies the ELU before W instead)."""
        logits = F.elu(self.gate(z)) if self.architecture.gate == "paper" else self.gate(F.elu(z))
        return F.hardtanh(logits, 0.0, 1.0)


class Uninitialised(TorchFunctionMode):
    """The initialisers that our layers use (uniform, normal, constant, Kaiming's uniform) do nothing within.

    For weights that are loaded next, or that have no memory: there the first one would import PyTorch's compiler.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return None
        return func(*args, **(kwargs or {}))
