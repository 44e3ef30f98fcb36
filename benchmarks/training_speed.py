"""Images a second of pretraining, side by side in one run: the loop of weights 0.6 (bfloat16, 18 whole images or small
ones), the same loop in the precision that this processor is quick in, and the late stages on kept maps.

`python benchmarks/training_speed.py --rounds 3` prints a table. Rounds take turns, so that other work on the machine
slows all rows alike; seconds are of the processor (all threads), and the medians of ratios are the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch

from pretraining.batches import Batch
from pretraining.examples import Examples
from pretraining.late import KeptMaps, keep_maps, late_loss
from pretraining.objectives import MultitaskModel, Objectives, read_loss
from pretraining.precision import quick_precision
from pretraining.readout import TARGETS, Readout, Weights
from pretraining.sources import Row, Source, gather
from pretraining.stages import late_parameters, set_training
from tiny_biomoe.config import IMAGE_SIZE, Config
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.network.network import Network

LOOP_IMAGES = 18  # of a step and process of the loop that made weights 0.6
LATE_IMAGES = 64
Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One row: what a step is, and of how many images."""

    name: str
    size: int  # pixels a side
    images: int
    step: Step

    def rate(self, steps: int) -> float:
        """Images a second of the processor's time."""
        start = time.process_time()
        for _ in range(steps):
            self.step()
        return steps * self.images / (time.process_time() - start)


def toy_source() -> Source:
    """Two minutes of breathing of two people."""
    t = np.arange(0, 120, 1 / 8)
    rows = [Row(np.sin(2 * np.pi * (0.2 + 0.1 * i) * t), i, i) for i in range(2)]
    return gather("toy-resp", "resp", 8.0, ("slow", "fast"), (15.0, 40.0), 32.0, rows, 128.0)


def noise_batch(images: int) -> Batch:
    """A batch of noise: its contents do not change the time that a step takes."""
    rng = np.random.default_rng(0)
    spectra = rng.random((images, 40), dtype=np.float32)
    return Batch(
        rng.integers(0, 256, (images, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8), np.arange(images) % 3,
        np.arange(images) % len(REPRESENTATIONS), np.arange(images) % 2,
        rng.standard_normal((images, 32), dtype=np.float32), rng.standard_normal((images, 88), dtype=np.float32),
        spectra / spectra.sum(1, keepdims=True),
    )  # fmt: skip


def loop(size: int, precision: str, images: int) -> Step:
    """A step of `multitask.train`, without drawing."""
    torch.manual_seed(0)
    model = MultitaskModel(Network(Config(), size), [4, 22, 2]).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-4)
    batch = noise_batch(images)

    def step() -> None:
        loss, _ = read_loss(model, batch, ["ecg", "emg", "eeg"], Objectives(), precision == "bfloat16")
        _learn(model, optimizer, loss)

    return step


def late(folder: Path) -> Step:
    """A step of `late.train_late`, whose maps are kept."""
    torch.manual_seed(0)
    network, source = Network(Config()), toy_source()
    rng = np.random.default_rng(0)
    some = keep_maps(network, rng.integers(0, 256, (2, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8), folder)
    maps = KeptMaps(*(np.repeat(part, LATE_IMAGES // 2, axis=0) for part in (some.grids, some.maps)))
    batch = noise_batch(LATE_IMAGES)
    targets = rng.standard_normal((LATE_IMAGES, TARGETS), dtype=np.float32)
    examples = Examples(
        batch.levels, np.zeros(LATE_IMAGES, np.int64), batch.representations, batch.labels, targets, batch.spectra
    )
    model = Readout(network, [2], shared=True)
    set_training(network, 0.02)
    learnt = [p for _, p in late_parameters(network)]
    learnt += [p for name, p in model.named_parameters() if not name.startswith("network.")]
    optimizer = torch.optim.AdamW(learnt, 1e-3)
    rows = np.arange(LATE_IMAGES)

    def step() -> None:
        loss, _ = late_loss(model, [source], examples, maps, rows, Weights())
        _learn(model, optimizer, loss)

    return step


def keeping(folder: Path) -> Step:
    """Computing the maps that are kept, once an image."""
    torch.manual_seed(0)
    network, count = Network(Config()), iter(range(10**9))
    levels = np.random.default_rng(0).integers(0, 256, (8, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    return lambda: keep_maps(network, levels, folder / f"keeping-{next(count)}")


def _learn(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def cases(folder: Path, sizes: tuple[int, ...], images: int, slow: bool) -> list[Case]:
    """All rows; those in bfloat16 that the processor is not quick in only where `slow`."""
    found = []
    for size in sizes:
        for precision in ("bfloat16", "float32"):
            if slow or precision == quick_precision():
                found.append(Case(f"whole network, {precision}", size, images, loop(size, precision, images)))
    found.append(Case("late stages on kept maps, float32", IMAGE_SIZE, LATE_IMAGES, late(folder / "late")))
    found.append(Case("keeping maps (once an image)", IMAGE_SIZE, 8, keeping(folder)))
    return found


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--steps", default=2, show_default=True, help="Of each row in a round.")
@click.option("--size", "sizes", default=(112, 224), multiple=True, show_default=True, help="Pixels a side.")
@click.option("--images", default=LOOP_IMAGES, show_default=True, help="Of a step of the whole network.")
@click.option("--skip-slow", is_flag=True, help="Leave out a precision that this processor is slow in.")
def main(rounds: int, steps: int, sizes: tuple[int, ...], images: int, skip_slow: bool) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    with TemporaryDirectory() as folder:
        rows = cases(Path(folder), sizes, images, not skip_slow)
        for case in rows:
            case.step()
        rates = np.array([[case.rate(steps) for case in rows] for _ in range(rounds)])  # (rounds, rows)
    click.echo(f"{torch.cpu.get_capabilities()['cpu_name']}, one thread, torch {torch.__version__}\n")
    click.echo(
        "| loop | pixels | images a step | images a second | times the first row of its size |\n|---|---|---|---|---|"
    )
    for index, case in enumerate(rows):
        first = next(number for number, other in enumerate(rows) if other.size == case.size)
        ratio = np.median(rates[:, index] / rates[:, first])
        click.echo(f"| {case.name} | {case.size} | {case.images} | {np.median(rates[:, index]):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
