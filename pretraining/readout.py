"""What a run reads from the network's vectors by linear heads, and the loss on it: classes, and facts of the window.

Facts are read from the 192 numbers, and beside them from each encoder's 96 alone, so that neither encoder can leave to
the other what it held before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretraining.descriptors import COUNT as FACTS
from pretraining.picture_targets import COUNT as DRAWN
from pretraining.picture_targets import PICTURE
from pretraining.profiles import BANDS
from pretraining.profiles import COUNT as PROFILE
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.network.network import Network

PARTS = {  # of the targets, which of them each is
    "descriptors": slice(0, FACTS),
    "profile": slice(FACTS, FACTS + PROFILE),
    "picture": slice(FACTS + PROFILE, FACTS + PROFILE + PICTURE),
    "rows": slice(FACTS + PROFILE + PICTURE, FACTS + PROFILE + DRAWN),
}
TARGETS = FACTS + PROFILE + DRAWN
COMPONENTS = 256  # of each teacher
FARTHEST = 4.0  # standard deviations that a target may lie from its mean


@dataclass(frozen=True)
class Weights:
    """Weights of the losses."""

    descriptors: float = 10.0
    profile: float = 10.0
    picture: float = 10.0
    rows: float = 10.0
    spectrum: float = 1.0
    halves: float = 0.5  # of the same losses, read from each encoder's half alone
    teachers: float = 10.0  # of what other features say (`distillation`), where it is given
    classes: float = 1.0  # of the losses on classes
    smoothing: float = 0.0  # of their labels


@dataclass(frozen=True)
class Wanted:
    """What is to be read of each image of a batch."""

    representations: Tensor  # (n,), index of the representation
    sources: Tensor  # (n,), index of the source, or -1
    labels: Tensor  # (n,), class within the source, or -1
    targets: Tensor  # (n, 1304)
    spectra: Tensor  # (n, 40)
    taught: Tensor | None = None  # (n, teachers, 256), of length 1


class Heads(nn.Module):
    """A linear head for each representation: six pictures of a window need not be read alike."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(len(REPRESENTATIONS), outputs, width))
        self.bias = nn.Parameter(torch.zeros(len(REPRESENTATIONS), outputs))
        nn.init.normal_(self.weight, std=width**-0.5 / 3)

    def forward(self, vectors: Tensor, representations: Tensor) -> Tensor:
        """(n, width), and the representation of each row (n,), to (n, outputs)."""
        outputs = vectors.new_zeros(len(vectors), self.bias.shape[1])
        for index in range(len(REPRESENTATIONS)):
            shown = (representations == index)[:, None]
            outputs = torch.where(shown, F.linear(vectors, self.weight[index], self.bias[index]), outputs)
        return outputs


class SharedHead(nn.Linear):
    """One linear head for all representations, which must say the same of a window whatever image was shown."""

    def forward(self, vectors: Tensor, representations: Tensor) -> Tensor:  # type: ignore[override]
        """(n, width) to (n, outputs)."""
        return super().forward(vectors)


class Readout(nn.Module):
    """The network, linear heads on its vectors and on their halves, and the learnt weights of the losses (Eq. 8).

    Parameters
    ----------
    classes : of each source that has some, how many
    shared : read facts by one head for all representations instead of one for each: where windows are few
    teachers : how many kinds of other features are read as well
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, network: Network, classes: Sequence[int], shared: bool = False, teachers: int = 0):
        super().__init__()
        self.network = network
        width = network.architecture.embedding_dim
        of_facts = SharedHead if shared else Heads
        self.labels = nn.ModuleList(Heads(width, n) for n in classes)
        self.targets = nn.ModuleList(of_facts(part, TARGETS) for part in (width, width // 2, width // 2))
        self.spectra = nn.ModuleList(of_facts(part, BANDS) for part in (width, width // 2, width // 2))
        self.taught = nn.ModuleList(
            nn.Linear(part, teachers * COMPONENTS) for part in (width, width // 2, width // 2) if teachers
        )
        self.register_buffer("mean", torch.zeros(TARGETS))
        self.register_buffer("spread", torch.ones(TARGETS))
        self.loss_weights = nn.Parameter(torch.zeros(len(classes) + 1))  # w of Eq. 8, the facts' last

    def standardise(self, targets: Tensor) -> None:
        """Take mean and spread of the targets from some windows: (n, 1304)."""
        self.mean.copy_(targets.mean(0))
        self.spread.copy_(targets.std(0).clamp_min(1e-3))

    def standardised(self, targets: Tensor) -> Tensor:
        """Targets less their mean, in standard deviations, none farther than four: (n, 1304)."""
        return ((targets - self.mean) / self.spread).clamp(-FARTHEST, FARTHEST)

    def loss(
        self, vectors: Tensor, wanted: Wanted, with_classes: Mapping[int, str], weights: Weights
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss on a batch, and its parts.

        Parameters
        ----------
        vectors : (n, 192), float32
        with_classes : indices and names of the sources that have classes, in the order of their heads
        """
        losses, parts = self._of_classes(vectors, wanted, with_classes, weights.smoothing)
        losses = [weights.classes * loss for loss in losses]
        targets = self.standardised(wanted.targets)
        half = vectors.shape[1] // 2
        facts = vectors.new_zeros(())
        for number, part in enumerate((vectors, vectors[:, :half], vectors[:, half:])):
            name = ("", "encoder1_", "encoder2_")[number]
            read = self.targets[number](part, wanted.representations)
            missed = F.smooth_l1_loss(read, targets, reduction="none").mean(0)  # (1304,)
            found = {key: missed[columns].mean() for key, columns in PARTS.items()}
            shares = self.spectra[number](part, wanted.representations).log_softmax(1)
            found["spectrum"] = F.kl_div(shares, wanted.spectra, reduction="batchmean")
            if wanted.taught is not None:
                said = self.taught[number](part).unflatten(1, wanted.taught.shape[1:])
                found["teachers"] = 1 - F.cosine_similarity(said, wanted.taught, dim=2).mean()
            weight = weights.halves if number else 1.0
            facts = facts + weight * torch.stack([getattr(weights, key) * value for key, value in found.items()]).sum()
            parts |= {f"{name}{key}": value.detach() for key, value in found.items()}
        every = torch.stack([*losses, facts])
        return (self.loss_weights.exp() * every + self.loss_weights).sum(), parts

    def _of_classes(
        self, vectors: Tensor, wanted: Wanted, with_classes: Mapping[int, str], smoothing: float
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Of each source that has classes, cross-entropy over its labelled images, 0 where there are none."""
        losses, parts = [], {}
        for head, (source, name) in zip(self.labels, with_classes.items(), strict=bool(with_classes)):
            mine = (wanted.sources == source) & (wanted.labels >= 0)
            logits = head(vectors, wanted.representations)
            labels = wanted.labels.clamp(0, logits.shape[1] - 1)
            missed = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing) * mine
            losses.append(missed.sum() / mine.sum().clamp_min(1))
            count = mine.sum()  # where it is 0 the parts are NaN: there is nothing to log
            right = ((logits.argmax(1) == labels) & mine).sum()
            parts |= {f"{name}_loss": missed.detach().sum() / count, f"{name}_accuracy": right / count}
        return losses, parts
