"""Pretraining as the paper does it: three supervised tasks on six images a window (section 3.3).

Run it with `python -m tiny_biomoe.train.multitask --archives FOLDER --out FOLDER`. It is deterministic, and
a run that was killed goes on from its last checkpoint to the same weights, bit for bit.
"""

from __future__ import annotations

import csv
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..errors import WeightsError
from ..model import TinyBioMoE
from ..representations import REPRESENTATIONS
from ..runtime import to_pixels
from .archives import Task, load_tasks
from .checkpoints import load_checkpoint, save_checkpoint
from .draws import Augmentation, Batch, TrainingBatches
from .schedules import cosine_with_warmup


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run gives; a checkpoint of other settings is refused."""

    steps: int = 1700
    windows: int = 6  # a step, over all tasks; each is six images
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    clip: float = 1.0  # largest norm of the gradient
    seed: int = 20251123
    precision: str = "bfloat16"
    threads: int = 2  # of the CPU: sums are taken in another order with another number
    augmentation: Augmentation = field(default_factory=Augmentation)


class MultitaskModel(nn.Module):
    """The embedding model with a linear head a task, and the learnt weight of each task's loss."""

    def __init__(self, embedder: TinyBioMoE, classes: list[int]):
        super().__init__()
        self.embedder = embedder
        self.heads = nn.ModuleList(nn.Linear(embedder.architecture.embedding_dim, n) for n in classes)
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
    torch.set_flush_denormal(True)  # tiny activations make bfloat16 on a CPU ten times slower
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    model = MultitaskModel(TinyBioMoE(), [len(task.classes) for task in tasks]).to(device)
    optimizer = torch.optim.AdamW(_parameter_groups(model, settings.weight_decay), lr=settings.learning_rate)
    scheduler = cosine_with_warmup(optimizer, settings.steps)
    start = _resume(out, settings, model, optimizer, scheduler)
    batches = TrainingBatches(tasks, model.embedder.recipe, settings.windows, settings.seed, settings.augmentation)
    loader = DataLoader(
        batches, sampler=range(start, settings.steps), batch_size=None, num_workers=workers, prefetch_factor=4
    )
    model.train()
    progress = tqdm(loader, total=settings.steps, initial=start, unit="step", smoothing=0.05)
    for step, batch in enumerate(progress, start):
        loss, facts = _loss(model, batch, tasks, settings, device)
        if not math.isfinite(loss.item()):
            raise WeightsError(
                f"the loss is {loss.item()} at step {step}: stopped; the last good checkpoint is in {out}"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        scheduler.step()
        _log(out / "metrics.csv", {"step": step, "lr": float(scheduler.get_last_lr()[0]), **facts})
        progress.set_postfix({name: f"{value:.3f}" for name, value in facts.items() if name.endswith("accuracy")})
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            state = {"settings": asdict(settings), "step": step + 1, "model": model.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
            save_checkpoint(out, step + 1, state)
    draw_metrics(out / "metrics.csv", out / "metrics.png")
    return model.embedder.eval()


def _loss(
    model: MultitaskModel, batch: Batch, tasks: list[Task], settings: Settings, device: str
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one batch (Eq. 8), and loss and accuracy of each task in it. Every image is a sample of its own."""
    levels = torch.from_numpy(batch.levels).flatten(0, 1)  # (n_windows * 6, 224, 224)
    labels = torch.from_numpy(batch.labels).repeat_interleave(len(REPRESENTATIONS)).to(device)
    which = torch.from_numpy(batch.tasks).repeat_interleave(len(REPRESENTATIONS)).to(device)
    half = settings.precision == "bfloat16"
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
        embeddings = model.embedder(to_pixels(levels, device)).float()  # (n_windows * 6, 192)
    losses: list[Tensor] = []
    facts: dict[str, float] = {}
    for index, (task, head) in enumerate(zip(tasks, model.heads, strict=True)):
        mine = which == index
        logits = head(embeddings[mine])
        losses.append(F.cross_entropy(logits, labels[mine]) if mine.any() else embeddings.new_zeros(()))
        facts[f"{task.name}_loss"] = losses[-1].item()
        facts[f"{task.name}_accuracy"] = (logits.argmax(1) == labels[mine]).float().mean().item()
    return multitask_loss(torch.stack(losses), model.loss_weights), facts


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
    _truncate(out / "metrics.csv", state["step"])
    return int(state["step"])


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _log(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" for key, value in row.items()})


def _truncate(path: Path, step: int) -> None:
    """Forget the rows that a killed run logged after its last checkpoint."""
    if path.exists():
        path.write_text("".join(path.read_text().splitlines(keepends=True)[: step + 1]))


def draw_metrics(source: Path, picture: Path) -> None:
    """Loss and accuracy of each task over the steps, smoothed, as a picture."""
    from matplotlib.figure import Figure

    with open(source) as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name in (key for key in rows[0] if key.endswith(kind)):
            values = np.array([float(row[name]) for row in rows])
            width = max(1, len(values) // 50)
            smooth = np.convolve(values, np.ones(width) / width, "valid")
            axes.plot(np.arange(smooth.size) + width, smooth, label=name.removesuffix(f"_{kind}"))
        axes.set(xlabel="step", ylabel=kind)
        axes.legend()
    figure.savefig(picture, dpi=110)


@click.command()
@click.option("--archives", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--steps", default=Settings.steps, show_default=True, help="Batches in all.")
@click.option("--windows", default=Settings.windows, show_default=True, help="Windows a batch, six images each.")
@click.option("--learning-rate", default=Settings.learning_rate, show_default=True)
@click.option("--precision", default=Settings.precision, type=click.Choice(["bfloat16", "float32"]), show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--workers", default=1, show_default=True, help="Processes that draw images.")
@click.option("--every", default=100, show_default=True, help="Steps between checkpoints.")
def main(archives: Path, out: Path, device: str, workers: int, every: int, **settings: Any) -> None:
    """Pretrain on the three archives and write OUT/model, loadable by TinyBioMoE.from_pretrained."""
    tasks = load_tasks(archives, out / "data")
    model = train(tasks, out, Settings(**settings), device, workers, every)
    model.save_pretrained(out / "model")
    click.echo(f"weights: {out / 'model'}")


if __name__ == "__main__":
    main()
