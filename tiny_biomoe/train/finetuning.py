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

from ..errors import ConfigError, WeightsError
from ..inference.torch_backend import check_device, to_pixels, training_defaults
from ..model import TinyBioMoE
from ..weights.loading import tensor_digest
from .augment import NONE, augment
from .checkpoints import load_checkpoint, save_checkpoint
from .classifier import Target, TrainedClassifier
from .evaluation import Progress as Epoch
from .fusion import FusionClassifier, class_weights, parameter_groups
from .progress import Progress
from .samples import Samples, check_apart, check_labelled
from .schedules import cosine_with_warmup, linear
from .settings import Settings, plain
from .vectors import VectorCache


def finetune(
    model: TinyBioMoE,
    dataset: Samples,
    *,
    validation: Samples | None = None,
    settings: Settings = Settings(),
    out: Path | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
    vectors: VectorCache | None = None,
) -> TrainedClassifier:
    """Train a classifier, or a regression, that begins with `model`; the caller's model stays as it is.

    Parameters
    ----------
    model : pretrained, or as it was built ("from scratch" in the paper's Table 3)
    dataset : what is learnt from; its views are what the classifier will look at, and its task what is learnt
    validation : samples of other people, scored after each epoch; needed for early stopping
    out : folder of checkpoints, one after each epoch; a run that finds one goes on from it
    device : where to train; the classifier returned is on the CPU
    progress : show a bar on a terminal, and lines in a log
    vectors : of the same model, where several runs of a head share them; otherwise kept in `out`

    Raises
    ------
    ConfigError
        A person is in both sets, a label is unknown, or the settings do not fit the samples.
    WeightsError
        `out` holds a run of another model, data or settings, or damaged checkpoints alone; or the loss or its gradient
        is no longer finite, in which case the last good checkpoint stays.
    """
    check_labelled(dataset)
    dataset = dataset.at_level(settings.level)
    if validation is not None:
        check_labelled(validation)
        validation = validation.at_level(settings.level)
        check_apart(dataset, validation)
    elif settings.patience is not None:
        raise ConfigError(f"patience={settings.patience} needs validation samples, of other people")
    with training_defaults(), _reproducible(settings.seed):
        run = _Run(model, dataset, validation, settings, check_device(device), out, vectors)
        run.progress = progress
        return run.train()


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Deterministic algorithms and a random state of our own for a run, and the caller's again afterwards."""
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)


class _Part:
    """Samples of one part of the data, what has one label among them, and those labels."""

    def __init__(self, samples: Samples):
        self.samples, self.units = samples, samples.units()
        first = torch.from_numpy(samples.labels[[rows[0] for rows in self.units]])
        self.labels = first.float() if samples.task == "regression" else first

    def __len__(self) -> int:
        return len(self.units)


class _Run:
    """One run: what `finetune` sets up, an epoch, and what a checkpoint holds."""

    progress = False

    def __init__(
        self,
        model: TinyBioMoE,
        dataset: Samples,
        validation: Samples | None,
        settings: Settings,
        device: torch.device,
        out: Path | None,
        vectors: VectorCache | None = None,
    ):
        self.dataset, self.settings, self.device, self.out = _Part(dataset), settings, device, out
        self.validation = None if validation is None else _Part(validation)
        self.facts = plain(asdict(settings)) | {
            "model": tensor_digest(model.state_dict()),
            "dataset": dataset.sha256,
            "validation": validation.sha256 if validation else None,
            "views": [str(view) for view in dataset.views],
            "classes": list(dataset.classes),
            "backend": model.frozen().backend.facts(),  # which embeds images that are not varied
            "threads": torch.get_num_threads(),  # with another number, sums are taken in another order
        }
        if vectors is not None and vectors.digest != self.facts["model"]:
            raise ConfigError("vectors= are of another model: make VectorCache(model) of the one that is trained")
        self.origin = {"name": model.config.name, "source": model.source, "tensors_sha256": self.facts["model"]}
        self.target = Target.of(self.dataset.labels) if dataset.task == "regression" else None
        if self.target is not None and settings.class_weights is not None:
            raise ConfigError("class_weights= (--balance) weights classes, and a regression has none: leave it out")
        if self.target is None and len(dataset.classes) < 2:
            raise ConfigError(f"a classifier tells at least two classes apart, and there are {len(dataset.classes)}")
        self.model = FusionClassifier(
            copy.deepcopy(model), len(dataset.views), 1 if self.target else len(dataset.classes), settings.fusion,
            settings.missing, None if settings.level == "window" else settings.pooling,
        ).to(device)  # fmt: skip
        self.model.let_learn(settings.part)
        weights = None
        if self.target is None:
            weights = class_weights(self.dataset.labels, len(dataset.classes), settings.class_weights)
        self.weights = None if weights is None else weights.to(device)
        groups = parameter_groups(self.model, settings.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        self.steps = math.ceil(len(self.dataset) / settings.batch_size)  # an epoch
        self.scheduler = cosine_with_warmup(
            self.optimizer, settings.epochs * self.steps, warmup=settings.warmup, cooldown=settings.cooldown
        )
        self.vectors = vectors
        self.still: dict[str, Tensor] = {}  # by sha256 of the samples: their embeddings, where these never change
        self.history: list[Epoch] = []
        self.best: dict[str, Tensor] = {}  # weights of the epoch with the lowest validation loss
        self.best_epoch = -1

    def train(self) -> TrainedClassifier:
        """Learn the epochs that are left, and keep the best where there is something to judge by."""
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            self._resume(self.out)
        with Progress("training", "epoch", self.settings.epochs, self.progress, len(self.history)) as report:
            while len(self.history) < self.settings.epochs and not self._stalled():
                epoch = len(self.history)
                measured = self._epoch(epoch) | self._validate()
                self.history.append({"epoch": epoch, **measured})
                if self.settings.patience is not None and self._is_best(epoch):
                    self.best_epoch = epoch
                    self.best = {name: value.detach().clone() for name, value in self._learning_state().items()}
                if self.out is not None and self._is_due(epoch):
                    save_checkpoint(self.out, epoch + 1, self._state())
                report.to(epoch + 1, measured)
        if self.best:
            self.model.load_state_dict(self.best, strict=False)
        samples = self.dataset.samples
        return TrainedClassifier(
            self.model.eval().cpu(), samples.views, samples.classes, self._about(), tuple(self.history),
            samples.drawing, self.target, self.settings.level,
        )  # fmt: skip

    def _is_due(self, epoch: int) -> bool:
        """Whether a checkpoint is written: after each epoch, or each tenth where an epoch takes milliseconds."""
        ends = epoch + 1 == self.settings.epochs or self._stalled()
        return not self._frozen or ends or epoch % 10 == 9

    @property
    def _frozen(self) -> bool:
        """Whether each image has one vector, whatever the epoch."""
        return self.settings.part == "head" and self.settings.augmentation == NONE

    def _about(self) -> dict[str, Any]:
        """What the classifier says of its making."""
        samples = self.dataset.samples
        people = sorted(set(samples.subjects))
        training: dict[str, Any] = {"samples": len(samples), "subjects": len(people), "people": people}
        if self.target is None:
            counts = np.bincount(samples.labels, minlength=len(samples.classes)).tolist()
            training |= {"samples_of_each_class": dict(zip(map(str, samples.classes), counts, strict=True))}
        if samples.bags:
            training |= {f"{self.settings.level}s": len(self.dataset)}
        training |= {"sha256": samples.sha256, "epochs_run": len(self.history)}
        if self.validation is not None:
            training |= {"validation_samples": len(self.validation.samples)}
            training |= {"validation_subjects": len(set(self.validation.samples.subjects))}
            if self.settings.patience is not None:
                training |= {"watched_people": sorted(set(self.validation.samples.subjects))}
        return {"model": self.origin, "training": training, "settings": plain(asdict(self.settings))}

    def _epoch(self, epoch: int) -> dict[str, float]:
        """All training samples once, in an order of the epoch's own; mean loss, and share of right answers or error."""
        share = epoch / max(1, self.settings.epochs - 1)
        self.model.dropout.p = linear(*self.settings.dropout, share)
        smoothing = linear(*self.settings.smoothing, share)
        order = np.random.default_rng([self.settings.seed, epoch, 1]).permutation(len(self.dataset))
        loss_sum = score_sum = 0.0
        self.model.learning()
        for step, chosen in enumerate(np.array_split(order, self.steps)):
            loss, score = self._step(epoch * self.steps + step, chosen, smoothing)
            loss_sum, score_sum = loss_sum + loss * len(chosen), score_sum + score
        return {"train_loss": loss_sum / len(order), f"train_{self._score_name}": score_sum / len(order)}

    @property
    def _score_name(self) -> str:
        return "accuracy" if self.target is None else "mae"

    def _step(self, step: int, chosen: NDArray[np.int64], smoothing: float) -> tuple[float, float]:
        """One update; the loss before it, and how many samples were right, or the sum of their errors."""
        on_cpu = self.device.type == "cpu"  # where torch.manual_seed takes 1 ms, for devices that are not there
        seed_dropout = torch.default_generator.manual_seed if on_cpu else torch.manual_seed
        seed_dropout(int(np.random.default_rng([self.settings.seed, step, 2]).integers(2**62)))
        draws = np.random.default_rng([self.settings.seed, step, 3])
        outputs, labels = self._outputs(self.dataset, chosen, draws)
        if self.target is None:
            loss = F.cross_entropy(outputs, labels, self.weights, label_smoothing=smoothing)
        else:
            loss = self._error(self.target, outputs, labels)
        self._require_finite("loss", loss, step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        learning = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(learning, self.settings.clip)
        self._require_finite("norm of the gradient", norm, step)  # clipped, an infinite one gives NaN weights
        self.optimizer.step()
        self.scheduler.step()
        return loss.item(), self._score(outputs.detach(), labels)

    def _error(self, target: Target, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss of a regression, of numbers that are measured in standard deviations of the target."""
        scaled = (labels - target.mean) / target.std
        return (F.huber_loss if self.settings.loss == "huber" else F.mse_loss)(outputs[:, 0], scaled)

    def _score(self, outputs: Tensor, labels: Tensor) -> float:
        if self.target is None:
            return float((outputs.argmax(1) == labels).sum())
        return float((outputs[:, 0] * self.target.std + self.target.mean - labels).abs().sum())

    def _require_finite(self, what: str, value: Tensor, step: int) -> None:
        if not math.isfinite(value.item()):
            kept = f"; the last good checkpoint is in {self.out}" if self.out is not None else ""
            raise WeightsError(f"the {what} is {value.item()} at step {step}: stopped{kept}. Try a lower learning rate")

    def _outputs(
        self, part: _Part, chosen: NDArray[np.int64], draws: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the model gives for some units (B, outputs), and their labels (B,); images are varied by the draws."""
        members = [part.units[i] for i in chosen]
        rows = np.concatenate(members)
        present = torch.from_numpy(part.samples.present[rows])
        labels, there = part.labels[chosen].to(self.device), present.to(self.device)
        mixed = torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16")
        if self.settings.part == "head" and (draws is None or self.settings.augmentation == NONE):
            vectors = self._still(part.samples)[rows][present].to(self.device)
            with mixed:
                fused = self.model.fuse(self.model.dropout(vectors), there)
                if part.samples.bags:
                    fused, _ = self.model.pool(fused, [len(each) for each in members])
                return self.model.head(fused).float(), labels
        pixels = to_pixels(torch.from_numpy(part.samples.levels[rows])[present], self.device)
        if draws is not None:
            with torch.no_grad():
                pixels = augment(pixels, self.settings.augmentation, draws)
        with mixed:
            return self.model(pixels, there).float(), labels

    def _still(self, samples: Samples) -> Tensor:
        """Embeddings of samples whose images and network stay as they are, computed once: (n, views, 192)."""
        if samples.sha256 not in self.still:
            if self.vectors is None:
                self.vectors = VectorCache(self.model.backbone, self.out)
            found = self.vectors.of(samples.levels[samples.present], self.progress)
            every = torch.zeros(*samples.present.shape, found.shape[1])
            every[torch.from_numpy(samples.present)] = torch.from_numpy(found)
            self.still[samples.sha256] = every
        return self.still[samples.sha256]

    def _validate(self) -> dict[str, float]:
        """Loss and score of the validation samples, without augmentation, dropout or smoothing."""
        if self.validation is None:
            return {}
        self.model.eval()
        every = []
        with torch.no_grad():
            for chosen in np.array_split(np.arange(len(self.validation)), math.ceil(len(self.validation) / 32)):
                every.append(self._outputs(self.validation, chosen)[0].cpu())
        outputs, labels = torch.cat(every), self.validation.labels
        if self.target is not None:
            mae = self._score(outputs, labels) / len(labels)
            return {"validation_loss": self._error(self.target, outputs, labels).item(), "validation_mae": mae}
        hits = outputs.argmax(1) == labels
        recalls = [hits[labels == k].float().mean().item() for k in labels.unique()]
        return {
            "validation_loss": F.cross_entropy(outputs, labels).item(),
            "validation_accuracy": sum(recalls) / len(self.validation.samples.classes),
        }

    def _is_best(self, epoch: int) -> bool:
        losses = [row["validation_loss"] for row in self.history]
        return losses[epoch] == min(losses) and losses.index(losses[epoch]) == epoch

    def _stalled(self) -> bool:
        patience = self.settings.patience
        return patience is not None and len(self.history) - 1 - self.best_epoch >= patience and self.best_epoch >= 0

    def _learning_state(self) -> dict[str, Tensor]:
        """The tensors of the model; of a frozen network those of the head, which alone change."""
        state = self.model.state_dict()
        return {n: x for n, x in state.items() if not self._frozen or not n.startswith("backbone.")}

    def _state(self) -> dict[str, Any]:
        return {
            "facts": self.facts, "model": self._learning_state(), "optimizer": self.optimizer.state_dict(),
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
        self.model.load_state_dict(state["model"], strict=not self._frozen)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.history, self.best, self.best_epoch = state["history"], state["best"], state["best_epoch"]
