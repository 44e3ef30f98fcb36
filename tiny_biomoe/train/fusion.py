"""Several modalities or images of a sample, some perhaps missing, through one network, joined before the head.

Paper, sections 4.2 and 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError, unknown
from ..model import TinyBioMoE
from ..signals.request import FUSIONS
from .samples import MISSING

ATTENTION_WIDTH = 64  # numbers that a window's attention is computed from
PARTS = ("whole", "last", "head")  # of the network that learn
# What "last" means: the end of both encoders, from their last change of resolution on, and all that follows.
LAST = (
    "spectral_encoder.downsamples.2.", "spectral_encoder.stage_norms.2.", "spectral_encoder.blocks.3.",
    "spectral_encoder.class_block.", "spectral_encoder.norm.", "waterfall_encoder.merges.1.",
    "waterfall_encoder.blocks.2.", "embedding_norm.", "gate.", "output_norm.",
)  # fmt: skip


class FusionClassifier(nn.Module):
    """Images of a sample to one number a class, or to one number; several samples to one answer where they are pooled.

    Parameters
    ----------
    backbone : the embedding model, shared by all views
    views : images a sample
    outputs : classes, or 1 of a regression
    fusion : "concat" (views * 192 numbers before the head) or "add" (192)
    missing : "error", or "mask" views that a sample lacks: a missing view is a block of zeros under "concat", and under
        "add" the sum of those present is scaled up to all of them
    pooling : None; or "attention" or "mean" of the samples of a bag. Attention is w^T tanh(V h), with a softmax over
        the bag (Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018, Eq. 8)
    """

    def __init__(
        self,
        backbone: TinyBioMoE,
        views: int,
        outputs: int,
        fusion: str = "concat",
        missing: str = "error",
        pooling: str | None = None,
    ):
        super().__init__()
        if fusion not in FUSIONS:
            raise unknown("fusion", fusion, FUSIONS)
        if missing not in MISSING:
            raise unknown("missing", missing, MISSING)
        self.backbone = backbone
        self.views, self.fusion, self.missing, self.pooling = views, fusion, missing, pooling
        self.dropout = nn.Dropout(0.0)  # after the encoder; Eq. 9 sets its rate each epoch
        single = backbone.architecture.embedding_dim
        width = single if fusion == "add" else views * single
        self.head = nn.Linear(width, outputs)
        self.attention = (
            nn.Sequential(nn.Linear(width, ATTENTION_WIDTH), nn.Tanh(), nn.Linear(ATTENTION_WIDTH, 1))
            if pooling == "attention"
            else None
        )

    def forward(self, pixels: Tensor, present: Tensor) -> Tensor:
        """Classify.

        Parameters
        ----------
        pixels : (P, 3, 224, 224), the images that are there: sample by sample, in the order of the views
        present : (B, views) bool, which those are; P of them are true

        Returns
        -------
        logits : (B, classes)
        """
        return self.classify(self.backbone(pixels).float(), present)

    def classify(self, embeddings: Tensor, present: Tensor) -> Tensor:
        """What follows the network that is shared: (P, 192) and (B, views) to (B, classes)."""
        return self.head(self.fuse(self.dropout(embeddings), present))

    def pool(self, fused: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Bags of successive samples, (n, width), to (bags, width), and the share of each sample in its bag, (n,)."""
        pooled, shares = [], []
        for part in fused.split(list(sizes)):
            if self.attention is None:
                share = part.new_full((len(part),), 1 / len(part))
            else:
                share = self.attention(part)[:, 0].softmax(0)
            pooled.append(share @ part)
            shares.append(share)
        return torch.stack(pooled), torch.cat(shares)

    def learnt_head(self) -> dict[str, Tensor]:
        """All tensors that follow the backbone, by name."""
        attention = {} if self.attention is None else self.attention.state_dict(prefix="attention.")
        return {**self.head.state_dict(), **attention}

    def load_head(self, tensors: dict[str, Tensor]) -> None:
        """Take what `learnt_head` gave."""
        self.head.load_state_dict({name: x for name, x in tensors.items() if not name.startswith("attention.")})
        if self.attention is not None:
            start = "attention."
            own = {name.removeprefix(start): x for name, x in tensors.items() if name.startswith(start)}
            self.attention.load_state_dict(own)

    def fuse(self, embeddings: Tensor, present: Tensor) -> Tensor:
        """Join the embeddings of each sample: (P, 192) and (B, views) to (B, 192) or (B, views * 192)."""
        if self.missing == "error" and not present.all():
            raise ConfigError('a sample lacks a view: leave it out, or build the classifier with missing="mask"')
        every = embeddings.new_zeros((*present.shape, embeddings.shape[1]))  # (B, views, 192)
        every = every.masked_scatter(present[..., None], embeddings)
        if self.fusion == "concat":
            return every.flatten(1)
        return every.sum(1) * (self.views / present.sum(1, keepdim=True))

    def let_learn(self, part: str) -> None:
        """Free the parameters of a part: the "whole" network, the "last" stages of both encoders, or the "head"."""
        if part not in PARTS:
            raise unknown("part", part, PARTS)
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(part == "whole" or (part == "last" and name.startswith(LAST)))

    def learning(self) -> None:
        """Train mode for what learns. Frozen layers stay in eval mode, or their running statistics would drift."""
        self.training = True
        for part in self.children():
            _let_learn(part)


def _let_learn(module: nn.Module) -> None:
    """Train mode for a module, but eval mode for those parts that have parameters of which none learns."""
    own = list(module.parameters())
    if own and not any(parameter.requires_grad for parameter in own):
        module.eval()
        return
    module.training = True
    for part in module.children():
        _let_learn(part)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, list[nn.Parameter] | float]]:
    """What an optimizer takes: matrices and kernels decay; norms, biases and frozen parameters do not."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim > 1 and "image_norm" not in name and "position_bias" not in name
            (decayed if matrix else free).append(parameter)
    groups: list[dict[str, list[nn.Parameter] | float]] = []
    for parameters, decay in ((decayed, weight_decay), (free, 0.0)):
        if parameters:
            groups.append({"params": parameters, "weight_decay": decay})
    return groups


def class_weights(labels: Tensor, classes: int, wanted: str | tuple[float, ...] | None) -> Tensor | None:
    """Weight of each class in the loss: "balanced" for n / (classes * count), numbers of one's own, or None.

    >>> class_weights(torch.tensor([0, 0, 0, 1]), 2, "balanced")
    tensor([0.6667, 2.0000])
    """
    if wanted is None:
        return None
    if isinstance(wanted, str):
        if wanted != "balanced":
            raise unknown("class_weights", wanted, ["balanced"])
        counts = torch.bincount(labels, minlength=classes)
        if not counts.all():
            raise ConfigError(f"class {int(counts.argmin())} has no training sample: there is nothing to balance")
        return len(labels) / (classes * counts.float())
    if len(wanted) != classes or not all(weight > 0 for weight in wanted):
        raise ConfigError(f"class_weights={wanted!r}: expected {classes} positive numbers, one a class")
    return torch.tensor(wanted, dtype=torch.float32)
