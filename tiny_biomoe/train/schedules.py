"""Schedules over training: the learning rate's cosine with warm-up and cool-down, and the linear one of Eq. 9."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def linear(start: float, end: float, share: float) -> float:
    """p(t) = p0 + t/T (p1 - p0), where `share` is t/T in [0, 1] (Eq. 9)."""
    return start + share * (end - start)


def cosine_factor(step: int, total: int, warmup: float = 0.02, cooldown: float = 0.05, floor: float = 0.01) -> float:
    """Learning rate at `step`, as a share of its peak.

    It rises linearly over the share `warmup` of all steps, falls by a half cosine to `floor`, and stays there
    for the last share `cooldown`.

    >>> [round(cosine_factor(step, 100), 3) for step in (0, 1, 2, 95, 99)]
    [0.5, 1.0, 1.0, 0.01, 0.01]
    """
    rising, resting = max(1, round(warmup * total)), round(cooldown * total)
    if step < rising:
        return (step + 1) / rising
    progress = min(1.0, (step - rising) / max(1, total - rising - resting))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def cosine_with_warmup(optimizer: Optimizer, total: int, **shape: float) -> LambdaLR:
    """`cosine_factor` as a torch scheduler, stepped once a batch."""
    return LambdaLR(optimizer, lambda step: cosine_factor(step, total, **shape))
