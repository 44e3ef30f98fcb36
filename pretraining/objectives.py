"""What pretraining reads from the network's vectors: labels and facts of the window, and the loss on both (Eq. 8)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretraining.batches import NO_LABEL, Batch
from pretraining.descriptors import COUNT as FACTS
from pretraining.growth import shrink
from pretraining.profiles import BANDS
from pretraining.profiles import COUNT as PROFILE
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.inference.torch_backend import to_pixels
from tiny_biomoe.network.network import Network


@dataclass(frozen=True)
class Objectives:
    """What is learnt beside the tasks' labels, whose losses weigh 1; with zeros the paper's three tasks alone."""

    descriptors: float = 10.0  # weight of the loss on `descriptors`
    profile: float = 10.0  # of the loss on `profiles.profile`
    spectrum: float = 1.0  # of the loss on `profiles.spectrum_shares`


class Heads(nn.Linear):
    """A linear head for each representation: six pictures of a window need not be read alike."""

    def __init__(self, width: int, outputs: int):
        super().__init__(width, len(REPRESENTATIONS) * outputs)

    def forward(self, vectors: Tensor, representations: Tensor) -> Tensor:  # type: ignore[override]
        """(n, width), and the representation of each row (n,), to (n, outputs)."""
        every = super().forward(vectors).unflatten(1, (len(REPRESENTATIONS), -1))  # (n, 6, outputs)
        return every[torch.arange(len(every)), representations]  # (n, outputs)


class MultitaskModel(nn.Module):
    """The network, what is read from its vectors, each by one linear head, and the learnt weights of the losses."""

    labels: nn.ModuleList
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, network: Network, classes: list[int]):
        super().__init__()
        self.network = network
        width = network.architecture.embedding_dim
        self.labels = nn.ModuleList(Heads(width, n) for n in classes)
        self.targets = Heads(width, FACTS + PROFILE)
        self.spectrum = Heads(width, BANDS)
        self.register_buffer("target_mean", torch.zeros(FACTS + PROFILE))  # over training windows
        self.register_buffer("target_std", torch.ones(FACTS + PROFILE))
        self.loss_weights = nn.Parameter(torch.zeros(len(classes) + 1))  # w of Eq. 8: the tasks', the targets' last


def multitask_loss(losses: Tensor, weights: Tensor) -> Tensor:
    """`sum_i exp(w_i) L_i + w_i` (Eq. 8): (n_losses,), (n_losses,) to a scalar.

    As printed it has no minimum in w where L_i is below 1: every w falls steadily. With Adam, whose steps do not depend
    on the gradient's size, all fall nearly together (after 4 750 steps -2.7 to -3.3), so that the losses nearly keep
    the weights they began with.
    """
    return (weights.exp() * losses + weights).sum()


def read_loss(
    model: MultitaskModel, batch: Batch, names: list[str], objectives: Objectives, half: bool
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one batch, and its parts: loss and accuracy of each task, loss on descriptors, profile and spectrum.

    Parameters
    ----------
    names : the tasks', in the order of their heads
    half : compute in bfloat16 where it is safe
    """
    device = model.loss_weights.device
    levels = shrink(torch.from_numpy(batch.levels), model.network.image_norm.normalized_shape[-1])  # (n, size, size)
    labels, shown = torch.from_numpy(batch.labels).to(device), torch.from_numpy(batch.representations).to(device)
    which, wanted = torch.from_numpy(batch.tasks).to(device), targets(batch).to(device)  # (n,), (n, 120)
    wanted = ((wanted - model.target_mean) / model.target_std).clamp(-4, 4)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        vectors = model.network(to_pixels(levels, device))
    vectors = vectors.float()  # (n, 192)
    losses, parts = [], {}
    for index, task in enumerate(names):
        mine = (which == index) & (labels != NO_LABEL)
        count = max(1, int(mine.sum()))
        logits = model.labels[index](vectors[mine], shown[mine])
        losses.append(F.cross_entropy(logits, labels[mine], reduction="sum") / count)
        told = mine.any().item()  # without a label there is nothing to log: not a loss of 0
        parts[f"{task}_loss"] = losses[-1].item() if told else math.nan
        parts[f"{task}_accuracy"] = (logits.argmax(1) == labels[mine]).sum().item() / count if told else math.nan
    missed = F.smooth_l1_loss(model.targets(vectors, shown), wanted, reduction="none").mean(0)  # (120,)
    of_facts, of_profile = missed[:FACTS].mean(), missed[FACTS:].mean()
    of_spectrum = _divergence(model.spectrum(vectors, shown), torch.from_numpy(batch.spectra).to(device))
    parts |= {"descriptor_loss": of_facts.item(), "profile_loss": of_profile.item()}
    parts["spectrum_loss"] = of_spectrum.item()
    beside = objectives.descriptors * of_facts + objectives.profile * of_profile + objectives.spectrum * of_spectrum
    return multitask_loss(torch.stack([*losses, beside]), model.loss_weights), parts


def targets(batch: Batch) -> Tensor:
    """Descriptors and profiles of a batch's windows, (n, 120)."""
    return torch.from_numpy(np.concatenate([batch.facts, batch.profiles], axis=1))


def _divergence(logits: Tensor, shares: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of the shares that are told from those that are, both (n, 40), in nats."""
    return F.kl_div(logits.log_softmax(1), shares, reduction="batchmean")
