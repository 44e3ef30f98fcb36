"""Pretraining after the paper (section 3.3): three supervised tasks, their losses balanced by Eq. 8.

Unlike the paper, a step shows one of the six representations of each window (`--views 6` for all six); each
representation has heads of its own; facts of the window are learnt beside its label (`descriptors`, `profiles`); and a
quarter of all windows are made (`synthetic`).

Run it with `python -m pretraining.multitask --archives FOLDER --out FOLDER`. It is deterministic, and
a run that was killed goes on from its last checkpoint to the same weights, bit for bit. Under torchrun every process
learns from batches of its own (`ranks`).
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm import tqdm

from pretraining.archives import Task, load_tasks, recordings_digest
from pretraining.batches import Augmentation, Batch, TrainingBatches
from pretraining.growth import take_over
from pretraining.metrics import draw_metrics, forget_after, log_row
from pretraining.objectives import MultitaskModel, Objectives, read_loss, targets
from pretraining.precision import FUSED, LAYOUT, quick_precision, reproducible
from pretraining.ranks import Ranks, process_group
from tiny_biomoe.config import IMAGE_SIZE, Architecture, Config
from tiny_biomoe.errors import WeightsError
from tiny_biomoe.model import TinyBioMoE
from tiny_biomoe.network.network import Network
from tiny_biomoe.train.checkpoints import load_checkpoint, save_checkpoint
from tiny_biomoe.train.schedules import cosine_with_warmup
from tiny_biomoe.weights.loading import tensor_digest

STANDARDISING_STEPS = 20  # batches whose windows give the targets' mean and spread


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run gives; a checkpoint of other settings is refused."""

    steps: int = 2800
    images: int = 18  # a step and process, over all tasks
    processes: int = field(default_factory=lambda: Ranks.started().world)  # torchrun's
    views: int = 1  # images of one window; the paper's 6 are so alike that they teach little more than one
    image_size: int = IMAGE_SIZE  # pixels a side; with half of them a step costs a quarter (`growth`)
    start: str = ""  # sha256 of the tensors that the run began with, where it did not begin from scratch
    learning_rate: float = 3e-4
    spectral_rate: float = 0.3  # of the learning rate, for encoder 1: at the full rate its loss rises again
    weight_decay: float = 0.05
    norm_momentum: float = 0.02  # of BatchNorm statistics: batches are small and mixed, so that they are averaged long
    clip: float = 1.0  # largest norm of the gradient, that of the losses' weights apart: it is never small
    seed: int = 20251123
    precision: str = field(default_factory=quick_precision)  # that the processor is quick in
    threads: int = 2  # of the CPU: sums are taken in another order with another number
    objectives: Objectives = field(default_factory=Objectives)
    augmentation: Augmentation = field(default_factory=Augmentation)
    architecture: Architecture = field(default_factory=Architecture)


def train(
    tasks: list[Task],
    out: Path,
    settings: Settings,
    device: str = "cpu",
    workers: int = 1,
    every: int = 100,
    start: dict[str, Tensor] | None = None,
) -> Network:
    """Pretrain from the newest checkpoint in `out`, or from `start`, or from scratch; returns the network in eval mode.

    Parameters
    ----------
    tasks : what `archives.load_tasks` gives
    out : folder of checkpoints, `metrics.csv` and `metrics.png`
    workers : processes that draw images
    every : steps between checkpoints
    start : what `finished` gives of an earlier run, on images of this size or smaller ones

    Raises
    ------
    WeightsError
        The folder holds checkpoints of other settings, or only damaged ones; or the loss or its gradient is no
        longer finite.
    """
    if start is not None:
        settings = replace(settings, start=tensor_digest(start))
    with reproducible(settings.threads, settings.seed), process_group(device) as (ranks, own_device):
        return _train(tasks, out, settings, own_device, workers, every, start, ranks)


def finished(run: Path) -> dict[str, Tensor]:
    """The tensors of the network and of its heads that a run ended with, or has got to.

    Raises
    ------
    WeightsError
        The folder holds no checkpoint, or only damaged ones.
    """
    state = load_checkpoint(run)
    if state is None:
        raise WeightsError(f"{run} holds no checkpoint to start from")
    return dict(state["model"])


def _train(
    tasks: list[Task],
    out: Path,
    settings: Settings,
    device: str,
    workers: int,
    every: int,
    begin: dict[str, Tensor] | None,
    ranks: Ranks,
) -> Network:
    out.mkdir(parents=True, exist_ok=True)
    network = Network(Config(architecture=settings.architecture), settings.image_size)
    model = MultitaskModel(network, [len(task.classes) for task in tasks])
    goes_on = begin is not None and take_over(model, begin)
    model.to(device)
    model.network.to(memory_format=LAYOUT)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = settings.norm_momentum
    optimizer = torch.optim.AdamW(_parameter_groups(model, settings), fused=FUSED)
    scheduler = cosine_with_warmup(optimizer, settings.steps)
    data = recordings_digest(tasks)
    start = _resume(out, settings, data, model, optimizer, scheduler)
    if ranks.writes and start:
        forget_after(out / "metrics.csv", start)
    batches = TrainingBatches(
        tasks, network.recipe, settings.images, settings.seed, settings.augmentation, settings.views
    )
    loader = DataLoader(
        batches, sampler=ranks.batches(start, settings.steps), batch_size=None, num_workers=workers,
        prefetch_factor=4 if workers else None,
    )  # fmt: skip
    if not goes_on:
        _standardise(model, batches)
    model.train()
    progress = tqdm(loader, total=settings.steps, initial=start, unit="step", smoothing=0.05, disable=not ranks.writes)
    for step, batch in enumerate(progress, start):
        facts = _step(model, batch, tasks, settings, optimizer, step, ranks)
        scheduler.step()
        if ranks.writes:
            log_row(out / "metrics.csv", {"step": step, "lr": float(scheduler.get_last_lr()[0]), **facts})
        progress.set_postfix({name: f"{value:.3f}" for name, value in facts.items() if name.endswith("accuracy")})
        if (step + 1) % every and step + 1 != settings.steps:
            continue
        ranks.average_statistics(model)
        if ranks.writes:
            state = {"settings": asdict(settings), "data": data, "step": step + 1, "model": model.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
            save_checkpoint(out, step + 1, state)
        ranks.wait()
    if ranks.writes:
        draw_metrics(out / "metrics.csv", out / "metrics.png")
    return network.eval()


def _step(
    model: MultitaskModel,
    batch: Batch,
    tasks: list[Task],
    settings: Settings,
    optimizer: Optimizer,
    step: int,
    ranks: Ranks,
) -> dict[str, float]:
    """One update; what `read_loss` tells of this process's batch before it."""
    half = settings.precision == "bfloat16"
    loss, facts = read_loss(model, batch, [task.name for task in tasks], settings.objectives, half)
    _require_finite("loss", loss, step)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    ranks.average_gradients(model)
    norm = nn.utils.clip_grad_norm_([p for p in model.parameters() if p is not model.loss_weights], settings.clip)
    _require_finite("norm of the gradient", norm, step)  # clipped, an infinite one gives NaN weights
    optimizer.step()
    return facts


def _require_finite(what: str, value: Tensor, step: int) -> None:
    if not math.isfinite(value.item()):
        raise WeightsError(f"the {what} is {value.item()} at step {step}: stopped; the last good checkpoint is kept")


def _standardise(model: MultitaskModel, batches: TrainingBatches) -> None:
    """Mean and spread of the targets, over the windows of the first batches."""
    wanted = torch.cat([targets(batches[step]) for step in range(STANDARDISING_STEPS)])
    model.target_mean.copy_(wanted.mean(0))
    model.target_std.copy_(wanted.std(0).clamp_min(1e-3))


def _parameter_groups(model: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Matrices and kernels decay; norms, biases and the weights of the losses do not. Encoder 1 learns slower."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and "image_norm" not in name and "position_bias" not in name
        rate = settings.learning_rate * (settings.spectral_rate if "spectral_encoder" in name else 1.0)
        groups.setdefault((settings.weight_decay if decays else 0.0, rate), []).append(parameter)
    return [{"params": params, "weight_decay": decay, "lr": rate} for (decay, rate), params in groups.items()]


def _resume(
    out: Path, settings: Settings, data: str, model: nn.Module, optimizer: Optimizer, scheduler: LambdaLR
) -> int:
    state = load_checkpoint(out)
    if state is None:
        return 0
    theirs, ours = state["settings"], _plain(asdict(settings))
    if differing := [key for key in ours if _plain(theirs).get(key) != ours[key]]:
        key = differing[0]
        raise WeightsError(f"{out} holds a run with {key}={theirs.get(key)}, not {ours[key]}: choose another folder")
    if state["data"] != data:
        raise WeightsError(f"{out} holds a run on other recordings: choose another folder")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    return int(state["step"])


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


@click.command()
@click.option("--archives", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option(  # not --start: torchrun takes it for one of its own
    "--from", "start", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A run to go on from."
)
@click.option("--steps", default=Settings.steps, show_default=True, help="Batches in all.")
@click.option("--images", default=Settings.images, show_default=True, help="Images a batch.")
@click.option("--views", default=Settings.views, show_default=True, help="Images of each window, of all six.")
@click.option(
    "--image-size", default=str(IMAGE_SIZE), show_default=True, type=click.Choice(["112", "224"]),
    callback=lambda context, option, value: int(value), help="Pixels a side.",
)  # fmt: skip
@click.option("--labels-alone", is_flag=True, help="Learn the paper's three tasks and nothing beside them.")
@click.option("--learning-rate", default=Settings.learning_rate, show_default=True)
@click.option("--seed", default=Settings.seed, show_default=True, help="A run that goes on from another needs its own.")
@click.option("--threads", default=Settings.threads, show_default=True, help="Of the CPU.")
@click.option(
    "--precision", type=click.Choice(["bfloat16", "float32"]), default=None, help="The one this processor is quick in."
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--workers", default=1, show_default=True, help="Processes that draw images.")
@click.option("--every", default=100, show_default=True, help="Steps between checkpoints.")
def main(
    archives: Path, out: Path, start: Path | None, labels_alone: bool, device: str, workers: int, every: int,
    **options: Any,
) -> None:  # fmt: skip
    """Pretrain on the three archives and write OUT/model, loadable by TinyBioMoE.from_pretrained.

    With images of 112 pixels there is no model to write yet: go on from it with --from OUT.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, CUDA's products are not deterministic
    tasks = load_tasks(archives, out / "data")
    begin = finished(start) if start is not None else None
    options["precision"] = options["precision"] or quick_precision(device)
    settings = Settings(**options, objectives=Objectives(0, 0, 0) if labels_alone else Objectives())
    network = train(tasks, out, settings, device, workers, every, begin)
    if network.image_norm.normalized_shape[-1] == IMAGE_SIZE and Ranks.started().writes:
        model = TinyBioMoE()
        model.load_state_dict(network.state_dict())
        model.save_pretrained(out / "model")
        click.echo(f"weights: {out / 'model'}")


if __name__ == "__main__":
    main()
