"""Steps of the multitask loop of one checkout, as lines on the standard input ask; `training_speed.py` starts it.

`PYTHONPATH=CHECKOUT python benchmarks/training_loop.py BATCHES.npz` answers a line of JSON with `size`, `precision`,
`images`, `seed` and `steps` by one with the `seconds` of the processor that these steps took, and their `losses`. A
loop of the same size, precision, number and seed goes on where it was.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tiny_biomoe.config import Config

try:
    from pretraining.batches import Batch
    from pretraining.objectives import MultitaskModel, Objectives, read_loss
    from tiny_biomoe.network.network import Network
except ImportError:  # the layout of commit 2b6f5ba
    from tiny_biomoe.train.draws import Batch  # type: ignore[no-redef, import-not-found]
    from tiny_biomoe.train.reading import (  # type: ignore[no-redef, import-not-found]
        MultitaskModel,
        Objectives,
        read_loss,
    )

    from tiny_biomoe.network import Network  # type: ignore[no-redef, attr-defined]

try:
    from pretraining.precision import FUSED, LAYOUT
except ImportError:  # a checkout that has neither
    LAYOUT, FUSED = torch.contiguous_format, False

RATE, WEIGHT_DECAY, CLIP = 3e-4, 0.05, 1.0


def loop(kept: dict[str, NDArray[Any]], size: int, precision: str, images: int, seed: int) -> Callable[[], float]:
    """A function that does one more step, and gives its loss on facts: what every window has."""
    torch.manual_seed(seed)
    model = MultitaskModel(Network(Config(), size), [2]).train().to(memory_format=LAYOUT)
    wanted = torch.from_numpy(np.concatenate([kept["facts"], kept["profiles"]], 1))
    model.target_mean.copy_(wanted.mean(0))
    model.target_std.copy_(wanted.std(0).clamp_min(1e-3))
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=WEIGHT_DECAY, fused=FUSED)
    rng = np.random.default_rng(seed)

    def step() -> float:
        rows = rng.permutation(len(kept["labels"]))[:images]
        batch = Batch(**{name: column[rows] for name, column in kept.items()})
        loss, parts = read_loss(model, batch, ["toy"], Objectives(), precision == "bfloat16")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return parts["descriptor_loss"] + parts["profile_loss"]

    return step


def main() -> None:
    """Answer until the input ends."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    kept = dict(np.load(sys.argv[1]))
    loops: dict[tuple[object, ...], Callable[[], float]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        steps = asked.pop("steps")
        key = tuple(sorted(asked.items()))
        if key not in loops:
            loops[key] = loop(kept, **asked)
        start = time.process_time()
        losses = [loops[key]() for _ in range(steps)]
        print(json.dumps({"seconds": time.process_time() - start, "losses": losses}), flush=True)


if __name__ == "__main__":
    main()
