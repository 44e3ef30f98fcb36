"""Windows a second on an accelerator, beside what its matrix and convolution work takes alone.

`python benchmarks/speed_gpu.py` prints a section for RESULTS.md; `--device cpu` runs the same on a CPU, slowly, to see
that it works. In tf32 matrix products are rounded so; convolutions are not, for the library does not let them be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from tiny_biomoe import TinyBioMoE, __version__
from tiny_biomoe.inference.torch_backend import exactly, to_pixels
from tiny_biomoe.model import embed_levels

PRODUCTS = {
    "conv2d",
    "linear",
    "matmul",
    "baddbmm",
    "scaled_dot_product_attention",
}  # operations, as the layers call them
Case = Callable[[], object]


class Products(TorchDispatchMode):
    """Keeps what the products and convolutions within are called with, as calls that can be made again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Case] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split("::")[1].split(".")[0]
        if name in PRODUCTS:
            kept = tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, (args, kwargs or {}))
            self.calls.append(lambda: func(*kept[0], **kept[1]))
        return func(*args, **(kwargs or {}))


def products_alone(network: nn.Module, levels: Tensor, half: bool) -> Case:
    """The products and convolutions of one batch, one after another, and nothing between them."""
    with exactly(levels.device, half), Products() as products:
        network(to_pixels(levels, levels.device))

    def again() -> None:
        with exactly(levels.device):
            for call in products.calls:
                call()

    return again


def seconds(case: Case, device: torch.device, repetitions: int) -> float:
    """Median of a call, the device's work included, after two to warm it up."""

    def wait() -> None:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    times = []
    for repetition in range(repetitions + 2):
        wait()
        start = time.perf_counter()
        case()
        wait()
        if repetition >= 2:
            times.append(time.perf_counter() - start)
    return float(np.median(times))


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Float32 products of the whole process in TF32, or not."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def rates(device: torch.device, batch: int, windows: int, repetitions: int) -> Iterator[str]:
    """Lines of the table for one batch size."""
    rng = np.random.default_rng(0)
    signals = np.cumsum(rng.standard_normal((windows, 1000)), axis=1)
    levels = rng.integers(0, 256, (windows, 224, 224), np.uint8)
    one = torch.from_numpy(np.resize(levels, (batch, 224, 224))).to(device)
    for name in ("float32", "tf32", "bfloat16"):
        precision = "bfloat16" if name == "bfloat16" else "float32"
        model = TinyBioMoE.from_pretrained(device=device, precision=precision, backend="torch")
        with tf32(name == "tf32"):
            limit = batch / seconds(products_alone(model, one, name == "bfloat16"), device, repetitions)
            drawn = windows / seconds(lambda m=model: embed_levels(m, levels, batch), device, repetitions)  # type: ignore[misc]
            whole = windows / seconds(
                lambda m=model: m.embed(signals, fs=100, modality="ecg", batch_size=batch),  # type: ignore[misc]
                device,
                repetitions,
            )
        yield f"| {batch} | {name} | {limit:.2f} | {drawn:.2f} | {drawn / limit:.0%} | {whole:.2f} |"


@click.command()
@click.option("--device", default="cuda", show_default=True)
@click.option("--batch", "batches", type=int, multiple=True, default=[1, 32, 1024], show_default=True)
@click.option("--windows", default=2048, show_default=True, help="Of each measurement; a batch of 1 gets a sixteenth.")
@click.option("--repetitions", default=5, show_default=True)
def main(device: str, batches: tuple[int, ...], windows: int, repetitions: int) -> None:
    """Measure, and print a table."""
    place = torch.device(device)
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else place.type
    print(f"tiny-biomoe {__version__}, torch {torch.__version__}, {name}\n")
    print("| batch | precision | products alone, windows a second | network | share of it | signal to vector |")
    print("|---|---|---|---|---|---|")
    for batch in batches:
        for line in rates(place, batch, max(batch, windows // 16 if batch == 1 else windows), repetitions):
            print(line, flush=True)


if __name__ == "__main__":
    main()
