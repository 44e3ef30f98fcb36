"""Pretraining after the paper (section 3.3): three supervised tasks, their losses balanced by Eq. 8.

Unlike the paper, a step shows one of the six representations of each window, which are as many windows; each
representation has heads of its own; and facts of the window are learnt beside its label (`descriptors`).

Run it with `python -m tiny_biomoe.train.multitask --archives FOLDER --out FOLDER`. It is deterministic, and
a run that was killed goes on from its last checkpoint to the same weights, bit for bit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..errors import ConfigError, WeightsError
from ..model import TinyBioMoE
from ..representations import REPRESENTATIONS
from ..runtime import to_pixels
from .archives import Task, load_tasks
from .checkpoints import load_checkpoint, save_checkpoint
from .descriptors import COUNT
from .draws import Augmentation, Batch, TrainingBatches
from .metrics import draw_metrics, forget_after, log_row
from .schedules import cosine_with_warmup

STANDARDISING_STEPS = 20  # batches whose windows give the descriptors' mean and spread


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run gives; a checkpoint of other settings is refused."""

    steps: int = 2800
    images: int = 18  # a step, over all tasks, each of another window
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    norm_momentum: float = 0.02  # of BatchNorm statistics: batches are small and mixed, so that they are averaged long
    clip: float = 1.0  # largest norm of the gradient
    seed: int = 20251123
    descriptor_weight: float = 3.0  # of the loss on `descriptors`; with 0 the labels alone are learnt
    precision: str = "bfloat16"
    threads: int = 2  # of the CPU: sums are taken in another order with another number
    augmentation: Augmentation = field(default_factory=Augmentation)


class Heads(nn.Linear):
    """A linear head for each representation of one task: six pictures of a window need not be read alike."""

    def __init__(self, width: int, outputs: int):
        super().__init__(width, len(REPRESENTATIONS) * outputs)

    def forward(self, embeddings: Tensor, representations: Tensor) -> Tensor:  # type: ignore[override]  # (n, 192), (n,)
        every = super().forward(embeddings).unflatten(1, (len(REPRESENTATIONS), -1))  # (n, 6, outputs)
        return every[torch.arange(len(every)), representations]  # (n, outputs)


class MultitaskModel(nn.Module):
    """The embedding model with linear heads a task, others for its descriptors, and the learnt weights of losses."""

    descriptor_mean: Tensor
    descriptor_std: Tensor

    def __init__(self, embedder: TinyBioMoE, classes: list[int]):
        super().__init__()
        self.embedder = embedder
        width = embedder.architecture.embedding_dim
        self.heads = nn.ModuleList(Heads(width, n) for n in classes)
        self.descriptor_heads = nn.ModuleList(Heads(width, COUNT) for _ in classes)
        self.register_buffer("descriptor_mean", torch.zeros(len(classes), COUNT))  # over training windows of a task
        self.register_buffer("descriptor_std", torch.ones(len(classes), COUNT))
        self.loss_weights = nn.Parameter(torch.zeros(len(classes)))


def multitask_loss(losses: Tensor, weights: Tensor) -> Tensor:
    """`sum_i exp(w_i) L_i + w_i` (Eq. 8): (n_tasks,), (n_tasks,) to a scalar.

    As printed it has no minimum in w: every w falls steadily, and with Adam, whose steps do not depend on the
    gradient's size, all fall together, so the tasks stay nearly evenly weighted.
    """
    return (weights.exp() * losses + weights).sum()


def train(
    tasks: list[Task], out: Path, settings: Settings, device: str = "cpu", workers: int = 1, every: int = 100
) -> TinyBioMoE:
    """Pretrain from scratch, or from the newest checkpoint in `out`; returns the embedding model in eval mode.

    Parameters
    ----------
    tasks : what `archives.load_tasks` gives
    out : folder of checkpoints, `metrics.csv` and `metrics.png`
    workers : processes that draw images
    every : steps between checkpoints

    Raises
    ------
    WeightsError
        The folder holds checkpoints of other settings, or only damaged ones, or the loss is no longer finite.
    """
    with _reproducible(settings):
        return _train(tasks, out, settings, device, workers, every)


@contextmanager
def _reproducible(settings: Settings) -> Iterator[None]:
    """Seed, threads and deterministic algorithms for a run, and the caller's own again afterwards."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_flush_denormal(True)  # tiny activations make bfloat16 on a CPU ten times slower
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def _train(tasks: list[Task], out: Path, settings: Settings, device: str, workers: int, every: int) -> TinyBioMoE:
    out.mkdir(parents=True, exist_ok=True)
    model = MultitaskModel(TinyBioMoE(), [len(task.classes) for task in tasks]).to(device)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = settings.norm_momentum
    optimizer = torch.optim.AdamW(_parameter_groups(model, settings.weight_decay), lr=settings.learning_rate)
    scheduler = cosine_with_warmup(optimizer, settings.steps)
    start = _resume(out, settings, model, optimizer, scheduler)
    batches = TrainingBatches(tasks, model.embedder.recipe, settings.images, settings.seed, settings.augmentation)
    loader = DataLoader(
        batches, sampler=range(start, settings.steps), batch_size=None, num_workers=workers,
        prefetch_factor=4 if workers else None,
    )  # fmt: skip
    if settings.images % len(tasks):
        raise ConfigError(f"images={settings.images} must be a multiple of the {len(tasks)} tasks")
    _standardise(model, batches)
    model.train()
    progress = tqdm(loader, total=settings.steps, initial=start, unit="step", smoothing=0.05)
    for step, batch in enumerate(progress, start):
        facts = _step(model, batch, tasks, settings, device, optimizer, step)
        scheduler.step()
        log_row(out / "metrics.csv", {"step": step, "lr": float(scheduler.get_last_lr()[0]), **facts})
        progress.set_postfix({name: f"{value:.3f}" for name, value in facts.items() if name.endswith("accuracy")})
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            state = {"settings": asdict(settings), "step": step + 1, "model": model.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
            save_checkpoint(out, step + 1, state)
    draw_metrics(out / "metrics.csv", out / "metrics.png")
    return model.embedder.eval()


def _step(
    model: MultitaskModel,
    batch: Batch,
    tasks: list[Task],
    settings: Settings,
    device: str,
    optimizer: Optimizer,
    step: int,
) -> dict[str, float]:
    """One update; loss and accuracy of each task before it."""
    loss, facts = _loss(model, batch, tasks, settings, device)
    if not math.isfinite(loss.item()):
        raise WeightsError(f"the loss is {loss.item()} at step {step}: stopped; the last good checkpoint is kept")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    optimizer.step()
    return facts


def _loss(
    model: MultitaskModel, batch: Batch, tasks: list[Task], settings: Settings, device: str
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one batch (Eq. 8), and loss and accuracy of each task in it."""
    levels = torch.from_numpy(batch.levels)  # (n, 224, 224)
    labels, which = torch.from_numpy(batch.labels).to(device), torch.from_numpy(batch.tasks).to(device)
    half = settings.precision == "bfloat16"
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
        embeddings = model.embedder(to_pixels(levels, device)).float()  # (n, 192)
    described = torch.from_numpy(batch.facts).to(device)  # (n, 30)
    losses: list[Tensor] = []
    misses: list[Tensor] = []
    facts: dict[str, float] = {}
    for index, (task, heads, describers) in enumerate(zip(tasks, model.heads, model.descriptor_heads, strict=True)):
        mine = which == index
        shown = torch.from_numpy(batch.representations).to(device)[mine]
        logits = heads(embeddings[mine], shown)
        losses.append(F.cross_entropy(logits, labels[mine]))
        facts[f"{task.name}_loss"] = losses[-1].item()
        facts[f"{task.name}_accuracy"] = (logits.argmax(1) == labels[mine]).float().mean().item()
        wanted = (described[mine] - model.descriptor_mean[index]) / model.descriptor_std[index]
        told = describers(embeddings[mine], shown)
        misses.append(F.smooth_l1_loss(told, wanted.clamp(-4, 4)))
        facts[f"{task.name}_descriptor_loss"] = misses[-1].item()
    labelled = multitask_loss(torch.stack(losses), model.loss_weights)
    return labelled + settings.descriptor_weight * torch.stack(misses).mean(), facts


def _standardise(model: MultitaskModel, batches: TrainingBatches) -> None:
    """Mean and spread of each task's descriptors, over the windows of the first batches."""
    first = [batches[step] for step in range(STANDARDISING_STEPS)]
    facts, tasks = np.concatenate([b.facts for b in first]), np.concatenate([b.tasks for b in first])
    for index in range(len(batches.tasks)):
        mine = torch.from_numpy(facts[tasks == index])
        model.descriptor_mean[index] = mine.mean(0)
        model.descriptor_std[index] = mine.std(0).clamp_min(1e-3)


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels decay; norms, biases and the weights of the losses do not."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (decayed if parameter.ndim > 1 and "image_norm" not in name and "position_bias" not in name else free).append(
            parameter
        )
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def _resume(out: Path, settings: Settings, model: nn.Module, optimizer: Any, scheduler: Any) -> int:
    state = load_checkpoint(out)
    if state is None:
        return 0
    theirs, ours = state["settings"], _plain(asdict(settings))
    if differing := [key for key in ours if _plain(theirs).get(key) != ours[key]]:
        key = differing[0]
        raise WeightsError(f"{out} holds a run with {key}={theirs.get(key)}, not {ours[key]}: choose another folder")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    forget_after(out / "metrics.csv", state["step"])
    return int(state["step"])


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


@click.command()
@click.option("--archives", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--steps", default=Settings.steps, show_default=True, help="Batches in all.")
@click.option("--images", default=Settings.images, show_default=True, help="Images a batch.")
@click.option("--learning-rate", default=Settings.learning_rate, show_default=True)
@click.option("--precision", default=Settings.precision, type=click.Choice(["bfloat16", "float32"]), show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--workers", default=1, show_default=True, help="Processes that draw images.")
@click.option("--every", default=100, show_default=True, help="Steps between checkpoints.")
def main(archives: Path, out: Path, device: str, workers: int, every: int, **settings: Any) -> None:
    """Pretrain on the three archives and write OUT/model, loadable by TinyBioMoE.from_pretrained."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, CUDA's products are not deterministic
    tasks = load_tasks(archives, out / "data")
    model = train(tasks, out, Settings(**settings), device, workers, every)
    model.save_pretrained(out / "model")
    click.echo(f"weights: {out / 'model'}")


if __name__ == "__main__":
    main()
