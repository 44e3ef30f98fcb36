"""TinyBioMoE: two encoders, one gate, 192 numbers (paper, section 3.1.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import IMAGE_SIZE, Architecture, Recipe
from .spectral_encoder import SpectralEncoder
from .waterfall_encoder import WaterfallEncoder


class TinyBioMoE(nn.Module):
    def __init__(self, architecture: Architecture = Architecture(), recipe: Recipe = Recipe()):
        super().__init__()
        width = architecture.spectral_widths[-1]
        self.architecture = architecture
        self.recipe = recipe
        self.image_norm = nn.LayerNorm((3, IMAGE_SIZE, IMAGE_SIZE))
        self.spectral_encoder = SpectralEncoder(architecture)
        self.waterfall_encoder = WaterfallEncoder(architecture)
        self.embedding_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, width)
        self.output_norm = nn.LayerNorm(2 * width)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.encode(pixels)["embedding"]

    def encode(self, pixels: Tensor) -> dict[str, Tensor]:
        image = self.image_norm(pixels)  # (B, 3, 224, 224)
        z1, z2 = self.spectral_encoder(image), self.waterfall_encoder(image)  # (B, 96) each
        gate1, gate2 = self._gate(z1), self._gate(z2)  # (B, 96), in [0, 1]
        gated = torch.cat([gate1 * self.embedding_norm(z1), gate2 * self.embedding_norm(z2)], dim=1)  # Eqs. 6 and 7
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
