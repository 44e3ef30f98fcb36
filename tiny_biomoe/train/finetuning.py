"""From labelled samples to a classifier (paper, sections 3.4 and 4): the network is trained on, and a head with it.

A run is deterministic: each step seeds its own draws from (seed, step), so a run that was killed and resumed gives the
same weights as one that was not, bit for bit on a CPU.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..errors import ConfigError, WeightsError
from ..inference.torch_backend import check_device, to_pixels
from ..model import TinyBioMoE, embed_levels
from ..weights.loading import tensor_digest
from .augment import NONE, augment
from .checkpoints import load_checkpoint, save_checkpoint
from .classifier import TrainedClassifier
from .evaluation import Progress
from .fusion import FusionClassifier, class_weights, parameter_groups
from .samples import Samples, check_apart, check_labelled
from .schedules import cosine_with_warmup, linear
from .settings import Settings, plain


def finetune(
    model: TinyBioMoE,
    dataset: Samples,
    *,
    validation: Samples | None = None,
    settings: Settings = Settings(),
    out: Path | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> TrainedClassifier:
    """Train a classifier that begins with `model`; the caller's model stays as it is.

    Parameters
    ----------
    model : pretrained, or as it was built ("from scratch" in the paper's Table 3)
    dataset : what is learnt from; its views are what the classifier will look at
    validation : samples of other people, scored after each epoch; needed for early stopping
    out : folder of checkpoints, one after each epoch; a run that finds one goes on from it
    device : where to train; the classifier returned is on the CPU
    progress : show a bar

    Raises
    ------
    ConfigError
        A person is in both sets, a label is unknown, or the settings do not fit the samples.
    WeightsError
        `out` holds a run of another model, data or settings, or damaged checkpoints alone; or the loss or its gradient
        is no longer finite, in which case the last good checkpoint stays.
    """
    check_labelled(dataset)
    if validation is not None:
        check_labelled(validation)
        check_apart(dataset, validation)
    elif settings.patience is not None:
        raise ConfigError(f"patience={settings.patience} needs validation samples, of other people")
    with _reproducible(settings.seed):
        run = _Run(model, dataset, validation, settings, check_device(device), out)
        return run.train(progress)


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Deterministic algorithms and a random state of our own for a run, and the caller's again afterwards."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warned)


class _Run:
    """One run: what `finetune` sets up, an epoch, and what a checkpoint holds."""

    def __init__(
        self,
        model: TinyBioMoE,
        dataset: Samples,
        validation: Samples | None,
        settings: Settings,
        device: torch.device,
        out: Path | None,
    ):
        self.dataset, self.validation, self.settings, self.device, self.out = dataset, validation, settings, device, out
        self.facts = plain(asdict(settings)) | {
            "model": tensor_digest(model.state_dict()),
            "dataset": dataset.sha256,
            "validation": validation.sha256 if validation else None,
            "views": [str(view) for view in dataset.views],
            "classes": list(dataset.classes),
            "backend": model.frozen().backend.facts(),  # which embeds images that are not varied
            "threads": torch.get_num_threads(),  # with another number, sums are taken in another order
        }
        self.origin = {"name": model.config.name, "source": model.source, "tensors_sha256": self.facts["model"]}
        self.model = FusionClassifier(
            copy.deepcopy(model), len(dataset.views), len(dataset.classes), settings.fusion, settings.missing
        ).to(device)
        self.model.let_learn(settings.part)
        labels = torch.from_numpy(dataset.labels)
        weights = class_weights(labels, len(dataset.classes), settings.class_weights)
        self.weights = None if weights is None else weights.to(device)
        groups = parameter_groups(self.model, settings.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        self.steps = math.ceil(len(dataset) / settings.batch_size)  # an epoch
        self.scheduler = cosine_with_warmup(
            self.optimizer, settings.epochs * self.steps, warmup=settings.warmup, cooldown=settings.cooldown
        )
        self.still: dict[str, Tensor] = {}  # by sha256 of the samples: their embeddings, where these never change
        self.history: list[Progress] = []
        self.best: dict[str, Tensor] = {}  # weights of the epoch with the lowest validation loss
        self.best_epoch = -1

    def train(self, progress: bool) -> TrainedClassifier:
        """Learn the epochs that are left, and keep the best where there is something to judge by."""
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            self._resume(self.out)
        bar = tqdm(total=self.settings.epochs, initial=len(self.history), unit="epoch", disable=not progress)
        while len(self.history) < self.settings.epochs and not self._stalled():
            epoch = len(self.history)
            measured = self._epoch(epoch) | self._validate()
            self.history.append({"epoch": epoch, **measured})
            if self.settings.patience is not None and self._is_best(epoch):
                self.best_epoch = epoch
                self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            if self.out is not None:
                save_checkpoint(self.out, epoch + 1, self._state())
            bar.set_postfix({name: f"{value:.3f}" for name, value in measured.items() if "accuracy" in name})
            bar.update()
        bar.close()
        if self.best:
            self.model.load_state_dict(self.best)
        return TrainedClassifier(
            self.model.eval().cpu(), self.dataset.views, self.dataset.classes,
            self._about(), tuple(self.history),
        )  # fmt: skip

    def _about(self) -> dict[str, Any]:
        """What the classifier says of its making."""
        training: dict[str, Any] = {"samples": len(self.dataset), "subjects": len(set(self.dataset.subjects))}
        counts = np.bincount(self.dataset.labels, minlength=len(self.dataset.classes)).tolist()
        training |= {"samples_of_each_class": dict(zip(self.dataset.classes, counts, strict=True))}
        training |= {"sha256": self.dataset.sha256, "epochs_run": len(self.history)}
        if self.validation is not None:
            training |= {"validation_samples": len(self.validation)}
            training |= {"validation_subjects": len(set(self.validation.subjects))}
        return {"model": self.origin, "training": training, "settings": plain(asdict(self.settings))}

    def _epoch(self, epoch: int) -> dict[str, float]:
        """All training samples once, in an order of the epoch's own; mean loss and share of right answers."""
        share = epoch / max(1, self.settings.epochs - 1)
        self.model.dropout.p = linear(*self.settings.dropout, share)
        smoothing = linear(*self.settings.smoothing, share)
        order = np.random.default_rng([self.settings.seed, epoch, 1]).permutation(len(self.dataset))
        loss_sum = right = 0.0
        self.model.learning()
        for step, rows in enumerate(np.array_split(order, self.steps)):
            loss, hits = self._step(epoch * self.steps + step, rows, smoothing)
            loss_sum, right = loss_sum + loss * len(rows), right + hits
        return {"train_loss": loss_sum / len(order), "train_accuracy": right / len(order)}

    def _step(self, step: int, rows: NDArray[np.int64], smoothing: float) -> tuple[float, int]:
        """One update; the loss before it, and how many samples were told right."""
        torch.manual_seed(int(np.random.default_rng([self.settings.seed, step, 2]).integers(2**62)))  # for dropout
        draws = np.random.default_rng([self.settings.seed, step, 3])
        logits, labels = self._logits(self.dataset, rows, draws)
        loss = F.cross_entropy(logits, labels, self.weights, label_smoothing=smoothing)
        self._require_finite("loss", loss, step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self._require_finite("norm of the gradient", norm, step)  # clipped, an infinite one gives NaN weights
        self.optimizer.step()
        self.scheduler.step()
        return loss.item(), int((logits.argmax(1) == labels).sum())

    def _require_finite(self, what: str, value: Tensor, step: int) -> None:
        if not math.isfinite(value.item()):
            kept = f"; the last good checkpoint is in {self.out}" if self.out is not None else ""
            raise WeightsError(f"the {what} is {value.item()} at step {step}: stopped{kept}. Try a lower learning rate")

    def _logits(
        self, samples: Samples, rows: NDArray[np.int64], draws: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """What is told of some samples (B, classes), and their true classes (B,); images are varied by the draws."""
        present = torch.from_numpy(samples.present[rows])
        labels, there = torch.from_numpy(samples.labels[rows]).to(self.device), present.to(self.device)
        mixed = torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16")
        if self.settings.part == "head" and (draws is None or self.settings.augmentation == NONE):
            vectors = self._still(samples)[rows][present].to(self.device)
            with mixed:
                return self.model.classify(vectors, there).float(), labels
        pixels = to_pixels(torch.from_numpy(samples.levels[rows])[present], self.device)
        if draws is not None:
            with torch.no_grad():
                pixels = augment(pixels, self.settings.augmentation, draws)
        with mixed:
            return self.model(pixels, there).float(), labels

    def _still(self, samples: Samples) -> Tensor:
        """Embeddings of samples whose images and network stay as they are, computed once: (n, views, 192)."""
        if samples.sha256 not in self.still:
            vectors = embed_levels(self.model.backbone, iter(samples.levels[samples.present]), 32)
            every = torch.zeros(*samples.present.shape, vectors.shape[1])
            every[torch.from_numpy(samples.present)] = torch.from_numpy(vectors)
            self.still[samples.sha256] = every
        return self.still[samples.sha256]

    def _validate(self) -> dict[str, float]:
        """Loss and macro accuracy of the validation samples, without augmentation, dropout or smoothing."""
        if self.validation is None:
            return {}
        self.model.eval()
        every = []
        with torch.no_grad():
            for rows in np.array_split(np.arange(len(self.validation)), math.ceil(len(self.validation) / 32)):
                every.append(self._logits(self.validation, rows)[0].cpu())
        logits, labels = torch.cat(every), torch.from_numpy(self.validation.labels)
        hits = logits.argmax(1) == labels
        recalls = [hits[labels == k].float().mean().item() for k in labels.unique()]
        return {
            "validation_loss": F.cross_entropy(logits, labels).item(),
            "validation_accuracy": sum(recalls) / len(recalls),
        }

    def _is_best(self, epoch: int) -> bool:
        losses = [row["validation_loss"] for row in self.history]
        return losses[epoch] == min(losses) and losses.index(losses[epoch]) == epoch

    def _stalled(self) -> bool:
        patience = self.settings.patience
        return patience is not None and len(self.history) - 1 - self.best_epoch >= patience and self.best_epoch >= 0

    def _state(self) -> dict[str, Any]:
        return {
            "facts": self.facts, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(), "history": self.history, "best": self.best,
            "best_epoch": self.best_epoch,
        }  # fmt: skip

    def _resume(self, out: Path) -> None:
        state = load_checkpoint(out)
        if state is None:
            return
        theirs = state.get("facts", {})
        for key, ours in self.facts.items():
            if theirs.get(key) != ours:
                raise WeightsError(
                    f"{out} holds a run with {key}={theirs.get(key)!r}, not {ours!r}: choose another folder, or go on "
                    "with the same model, samples and settings"
                )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.history, self.best, self.best_epoch = state["history"], state["best"], state["best_epoch"]
