"""The network of `network.py`, for inference: the same function to rounding, from bytes to vectors, without gradients.

What differs: BatchNorms are folded into their convolutions, and residual sums into products and depthwise kernels;
1 x 1 convolutions are matrix products on a grid; every map is channels-last from the first to the last; the image is
coloured and normed in one step. The plain network stays the reference.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..images.rendering import PALETTE
from ..network.network import Network
from .fast_spectral import FastSpectralEncoder
from .fast_waterfall import FastWaterfallEncoder
from .packed import Norm


class Image(nn.Module):
    """Levels or RGB bytes to the normed image: colour, scale to [0, 1] and `Network.image_norm`."""

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype):
        super().__init__()
        self.dtype, self.eps = dtype, norm.eps
        device = norm.weight.device
        self.palette = torch.tensor(PALETTE, device=device).float() / 255  # (256, 3)
        self.weight = norm.weight.detach().permute(1, 2, 0).contiguous()  # (224, 224, 3)
        self.bias = norm.bias.detach().permute(1, 2, 0).contiguous()

    def forward(self, levels: Tensor) -> Tensor:
        """Levels (B, 224, 224), or (B, 224, 224, 3), uint8, to normed pixels (B, 224, 224, 3)."""
        pixels = F.embedding(levels.int(), self.palette) if levels.ndim == 3 else levels.float() / 255
        return F.layer_norm(pixels, self.weight.shape, self.weight, self.bias, self.eps).to(self.dtype)


class FastNetwork(nn.Module):
    """`Network` as it stands, in eval mode: bytes to embeddings, (B, 224, 224[, 3]) uint8 to (B, 192) float32.

    Later changes of the network's weights do not reach it.
    """

    def __init__(self, network: Network, dtype: torch.dtype = torch.float32):
        super().__init__()
        with torch.inference_mode():
            size = network.image_norm.weight.shape[-1]
            self.image = Image(network.image_norm, dtype)
            self.spectral_encoder = FastSpectralEncoder(network.spectral_encoder, dtype, size)
            self.waterfall_encoder = FastWaterfallEncoder(network.waterfall_encoder, dtype, size)
            self.embedding_norm = Norm(network.embedding_norm, torch.float32)
            self.output_norm = Norm(network.output_norm, torch.float32)
            self.weight, self.bias = network.gate.weight.detach().clone(), network.gate.bias.detach().clone()
        self.order = network.architecture.gate

    def forward(self, levels: Tensor) -> Tensor:
        """(B, 224, 224[, 3]) uint8 to (B, 192) float32."""
        image = self.image(levels)
        return self.join(self.spectral_encoder(image), self.waterfall_encoder(image))

    def join(self, z1: Tensor, z2: Tensor) -> Tensor:  # (B, 96) each
        """The fusion: both encoders' outputs to the embedding (Eqs. 5 to 7)."""
        z = torch.stack([z1, z2], dim=1)  # (B, 2, 96): both encoders share norm and gate
        logits = F.linear(z if self.order == "paper" else F.elu(z), self.weight, self.bias)
        gate = F.hardtanh(F.elu(logits) if self.order == "paper" else logits, 0.0, 1.0)
        return self.output_norm((gate * self.embedding_norm(z)).flatten(1))  # (B, 192)
