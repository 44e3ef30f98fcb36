"""Images a second of pretraining, side by side in one run: the multitask loop (18 whole images or small ones) in both
precisions, and the late stages on kept maps.

`python benchmarks/training_speed.py --rounds 3` prints a table. Rounds take turns, so that other work on the machine
slows all rows alike; seconds are of the processor (all threads), and the medians of ratios are the result.

With `--base CHECKOUT` (of commit 2b6f5ba, say) the loop of that code takes turns with this one, each in a process of
its own on the same batches, and with `--loss-steps 300` their losses after so many steps stand beside each other, two
seeds each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a file: its neighbours are pretraining.<name>

from pretraining.batches import Batch
from pretraining.descriptors import COUNT as FACTS
from pretraining.examples import WAVE, Drawing, Examples, draw_examples
from pretraining.late import KeptMaps, keep_maps, late_loss
from pretraining.objectives import MultitaskModel, Objectives, read_loss
from pretraining.precision import FUSED, LAYOUT, quick_precision
from pretraining.profiles import COUNT as PROFILE
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
    model = MultitaskModel(Network(Config(), size), [4, 22, 2]).train().to(memory_format=LAYOUT)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-4, fused=FUSED)
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
        batch.levels, np.zeros(LATE_IMAGES, np.int64), batch.representations, batch.labels, targets, batch.spectra,
        np.zeros((LATE_IMAGES, WAVE), np.float16),
    )  # fmt: skip
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


class Loop:
    """The multitask loop of one checkout, in a process of its own."""

    def __init__(self, checkout: Path, batches: Path):
        script = Path(__file__).with_name("training_loop.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(batches)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
        )  # fmt: skip

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def run(self, size: int, precision: str, images: int, steps: int, seed: int = 0) -> tuple[float, list[float]]:
        """Images a second of the processor's time over some steps more, and their losses."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"size": size, "precision": precision, "images": images, "seed": seed, "steps": steps}
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise click.ClickException("a training loop ended before it answered; its error stands above")
        answer = json.loads(line)
        return steps * images / answer["seconds"], answer["losses"]


def keep_batches(folder: Path) -> Path:
    """Pictures of made windows and of a toy source, with what is to be read of them, for both loops."""
    examples = draw_examples([toy_source()], Drawing(0), 250, folder)
    facts, profiles = np.split(examples.targets[:, : FACTS + PROFILE], [FACTS], axis=1)
    path = folder / "batches.npz"
    np.savez(
        path, levels=examples.levels, tasks=np.zeros(len(facts), np.int64), representations=examples.representations,
        labels=examples.labels, facts=facts, profiles=profiles, spectra=examples.spectra,
    )  # fmt: skip
    return path


@contextmanager
def two_loops(base: Path) -> Iterator[dict[str, Loop]]:
    """The loop of another checkout, and this one, on the same batches."""
    with TemporaryDirectory() as folder:
        batches = keep_batches(Path(folder))
        with Loop(base, batches) as theirs, Loop(Path(__file__).parent.parent, batches) as ours:
            yield {"that checkout": theirs, "this one": ours}


def speeds(loops: dict[str, Loop], rounds: int, steps: int, sizes: tuple[int, ...], images: int, slow: bool) -> None:
    """Rows of a table: the loop of the other checkout in each precision, and this one in the quick one."""
    precisions = ["bfloat16", "float32"] if slow else [quick_precision()]
    asked = [("that checkout", precision) for precision in precisions] + [("this one", quick_precision())]
    for size in sizes:
        for name, precision in asked:
            loops[name].run(size, precision, images, 1)
        rates = np.array(
            [[loops[name].run(size, precision, images, steps)[0] for name, precision in asked] for _ in range(rounds)]
        )
        for index, (name, precision) in enumerate(asked):
            ratio = np.median(rates[:, -1] / rates[:, index])
            click.echo(f"| {name}, {precision} | {size} | {images} | {np.median(rates[:, index]):.2f} | {ratio:.2f} |")


def losses(loops: dict[str, Loop], steps: int, size: int, images: int) -> None:
    """Rows of a table: mean loss on facts over the last tenth of the steps, two seeds each, in the quick precision."""
    tenth = max(1, steps // 10)
    for name, each in loops.items():
        for seed in (1, 2):  # 0 has begun for its speed
            _, found = each.run(size, quick_precision(), images, steps, seed)
            first, last = np.mean(found[:tenth]), np.mean(found[-tenth:])
            click.echo(f"| {name} | {size} | {seed} | {first:.4f} | {last:.4f} |")


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--steps", default=2, show_default=True, help="Of each row in a round.")
@click.option("--size", "sizes", default=(112, 224), multiple=True, show_default=True, help="Pixels a side.")
@click.option("--images", default=LOOP_IMAGES, show_default=True, help="Of a step of the whole network.")
@click.option("--skip-slow", is_flag=True, help="Leave out a precision that this processor is slow in.")
@click.option("--base", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Another checkout.")
@click.option("--loss-steps", default=0, help="After which losses are compared with that checkout's; 0: not at all.")
def main(
    rounds: int, steps: int, sizes: tuple[int, ...], images: int, skip_slow: bool, base: Path | None, loss_steps: int
) -> None:
    """Print the table."""
    if wrong := [size for size in sizes if IMAGE_SIZE % size]:
        raise click.BadParameter(
            f"{wrong[0]} does not divide {IMAGE_SIZE}: pictures are shrunk by whole numbers", param_hint="--size"
        )
    torch.set_num_threads(1)
    if base is not None:
        click.echo(f"{torch.cpu.get_capabilities()['cpu_name']}, one thread, torch {torch.__version__}\n")
        click.echo("| loop | pixels | images a step | images a second | this one over it |\n|---|---|---|---|---|")
        with two_loops(base) as loops:
            speeds(loops, rounds, steps, sizes, images, not skip_slow)
            if loss_steps:
                head = f"first and last tenth of {loss_steps} steps of {images} images, {quick_precision()}"
                click.echo(f"\n| loss on facts, {head} | pixels | seed | first | last |\n|---|---|---|---|---|")
                losses(loops, loss_steps, sizes[0], images)
        return
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
