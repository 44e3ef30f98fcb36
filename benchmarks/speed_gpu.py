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
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from tiny_biomoe import TinyBioMoE, __version__
from tiny_biomoe.inference.engine import Engine, exactly
from tiny_biomoe.inference.fast_network import FastNetwork
from tiny_biomoe.inference.runtime import embed_levels

PRODUCTS = {
    "conv2d",
    "linear",
    "matmul",
    "baddbmm",
    "scaled_dot_product_attention",
}  # operations, as the layers call them
PRODUCTS |= {"_convolution_pointwise", "_linear_pointwise"}  # packed, on a CPU
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


def products_alone(network: FastNetwork, levels: Tensor) -> Case:
    """The products and convolutions of one batch, one after another, and nothing between them."""
    with exactly(levels.device), Products() as products:
        network(levels)

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


def rates(device: torch.device, batch: int, windows: int, compiled: bool, repetitions: int) -> Iterator[str]:
    """Lines of the table for one batch size."""
    rng = np.random.default_rng(0)
    signals = np.cumsum(rng.standard_normal((windows, 1000)), axis=1)
    levels = rng.integers(0, 256, (windows, 224, 224), np.uint8)
    one = torch.from_numpy(np.resize(levels, (batch, 224, 224))).to(device)
    for precision, dtype, allowed in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        model = TinyBioMoE.from_pretrained(device=device)
        model.engine = Engine("bfloat16" if dtype == torch.bfloat16 else "float32", compiled)
        with tf32(allowed):
            fast = FastNetwork(model, dtype).eval()
            limit = batch / seconds(products_alone(fast, one), device, repetitions)
            drawn = windows / seconds(lambda m=model: embed_levels(m, levels, batch), device, repetitions)  # type: ignore[misc]
            whole = windows / seconds(
                lambda m=model: m.embed(signals, fs=100, modality="ecg", batch_size=batch),  # type: ignore[misc]
                device,
                repetitions,
            )
        yield f"| {batch} | {precision} | {limit:.0f} | {drawn:.0f} | {drawn / limit:.0%} | {whole:.0f} |"


@click.command()
@click.option("--device", default="cuda", show_default=True)
@click.option("--batch", "batches", type=int, multiple=True, default=[1, 32, 1024], show_default=True)
@click.option("--windows", default=2048, show_default=True, help="Of each measurement; a batch of 1 gets a sixteenth.")
@click.option("--compiled/--not-compiled", default=True, show_default=True)
@click.option("--repetitions", default=5, show_default=True)
def main(device: str, batches: tuple[int, ...], windows: int, compiled: bool, repetitions: int) -> None:
    """Measure, and print a table."""
    place = torch.device(device)
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else place.type
    print(f"tiny-biomoe {__version__}, torch {torch.__version__}, {name}, compile={compiled}\n")
    print("| batch | precision | products alone, windows a second | network | share of it | signal to vector |")
    print("|---|---|---|---|---|---|")
    for batch in batches:
        for line in rates(place, batch, max(batch, windows // 16 if batch == 1 else windows), compiled, repetitions):
            print(line, flush=True)


if __name__ == "__main__":
    main()
