"""What pretraining reads from the network's vectors: labels and facts of the window, and the loss on both (Eq. 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..network import Network
from ..representations import REPRESENTATIONS
from ..runtime import to_pixels
from .descriptors import COUNT as FACTS
from .draws import NO_LABEL, Batch
from .growth import shrink
from .kernels import COUNT as SHARES

READ = ("embedding", "encoder1", "encoder2")  # the vectors that are read


@dataclass(frozen=True)
class Objectives:
    """What is learnt beside the tasks' labels, whose losses weigh 1; with zeros the paper's three tasks alone."""

    descriptors: float = 10.0  # weight of the loss on `descriptors`
    shares: float = 10.0  # of the loss on `kernels`
    encoders: float = 0.5  # of all losses, read once more from each encoder's own vector


class Heads(nn.Linear):
    """A linear head for each representation: six pictures of a window need not be read alike."""

    def __init__(self, width: int, outputs: int):
        super().__init__(width, len(REPRESENTATIONS) * outputs)

    def forward(self, vectors: Tensor, representations: Tensor) -> Tensor:  # type: ignore[override]  # (n, width), (n,)
        every = super().forward(vectors).unflatten(1, (len(REPRESENTATIONS), -1))  # (n, 6, outputs)
        return every[torch.arange(len(every)), representations]  # (n, outputs)


class Reader(nn.Module):
    """What is read, linearly, from one vector: the label of each task, and the descriptors and shares."""

    labels: nn.ModuleList
    targets: Heads

    def __init__(self, width: int, classes: list[int]):
        super().__init__()
        self.labels = nn.ModuleList(Heads(width, n) for n in classes)
        self.targets = Heads(width, FACTS + SHARES)


class MultitaskModel(nn.Module):
    """The network, its readers, and the learnt weights of the losses."""

    target_mean: Tensor
    target_std: Tensor

    def __init__(self, network: Network, classes: list[int]):
        super().__init__()
        self.network = network
        width = network.architecture.embedding_dim
        self.readers = nn.ModuleDict(
            {name: Reader(width if name == "embedding" else width // 2, classes) for name in READ}
        )
        self.register_buffer("target_mean", torch.zeros(FACTS + SHARES))  # over training windows
        self.register_buffer("target_std", torch.ones(FACTS + SHARES))
        self.loss_weights = nn.Parameter(torch.zeros(len(classes) + 1))  # w of Eq. 8: the tasks', the targets' last


def multitask_loss(losses: Tensor, weights: Tensor) -> Tensor:
    """`sum_i exp(w_i) L_i + w_i` (Eq. 8): (n_losses,), (n_losses,) to a scalar.

    As printed it has no minimum in w: every w falls steadily, and with Adam, whose steps do not depend on the
    gradient's size, all fall together, so the losses keep the weights they began with.
    """
    return (weights.exp() * losses + weights).sum()


def read_loss(
    model: MultitaskModel, batch: Batch, names: list[str], objectives: Objectives, half: bool
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one batch, and its parts: loss and accuracy of each task, loss on the descriptors and on the shares.

    Parameters
    ----------
    names : the tasks', in the order of their heads
    half : compute in bfloat16 where it is safe
    """
    device = model.loss_weights.device
    levels = shrink(torch.from_numpy(batch.levels), model.network.image_norm.normalized_shape[-1])  # (n, size, size)
    labels, shown = torch.from_numpy(batch.labels).to(device), torch.from_numpy(batch.representations).to(device)
    which, wanted = torch.from_numpy(batch.tasks).to(device), targets(batch).to(device)  # (n,), (n, 158)
    wanted = ((wanted - model.target_mean) / model.target_std).clamp(-4, 4)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        vectors = model.network.encode(to_pixels(levels, device))
    parts: dict[str, float] = {}
    total = torch.zeros((), device=device)
    for name in READ:
        weight = 1.0 if name == "embedding" else objectives.encoders
        reader = cast(Reader, model.readers[name])
        vector = vectors[name].float()
        losses = []
        for index, task in enumerate(names):
            mine = (which == index) & (labels != NO_LABEL)
            count = max(1, int(mine.sum()))
            logits = reader.labels[index](vector[mine], shown[mine])
            losses.append(F.cross_entropy(logits, labels[mine], reduction="sum") / count)
            if name == "embedding":
                parts[f"{task}_loss"] = losses[-1].item()
                parts[f"{task}_accuracy"] = (logits.argmax(1) == labels[mine]).sum().item() / count
        missed = F.smooth_l1_loss(reader.targets(vector, shown), wanted, reduction="none").mean(0)  # (158,)
        of_facts, of_shares = missed[:FACTS].mean(), missed[FACTS:].mean()
        parts |= {f"{name}_descriptor_loss": of_facts.item(), f"{name}_share_loss": of_shares.item()}
        told = objectives.descriptors * of_facts + objectives.shares * of_shares
        total = total + weight * multitask_loss(torch.stack([*losses, told]), model.loss_weights)
    return total, parts


def targets(batch: Batch) -> Tensor:
    """Descriptors and shares of a batch's windows, (n, 158)."""
    return torch.from_numpy(np.concatenate([batch.facts, batch.shares], axis=1))
