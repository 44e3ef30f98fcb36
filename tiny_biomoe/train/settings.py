"""The numbers of a fine-tuning run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..config import PRECISIONS
from ..errors import ConfigError, unknown
from .augment import NONE, Augmentation

LEVELS = ("window", "recording", "subject")  # what has one label
POOLINGS = ("attention", "mean")
LOSSES = ("mse", "huber")


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run gives, beside the model and the samples. Batch, rate and epochs are the
    paper's; where it gives no number it is ours."""

    epochs: int = 200
    batch_size: int = 32  # samples
    learning_rate: float = 1e-4  # at the top of the cosine
    warmup: float = 0.05  # share of all steps in which the rate rises
    cooldown: float = 0.05  # share of all steps at its lowest
    weight_decay: float = 0.05
    clip: float = 1.0  # largest norm of the gradient
    part: str = "whole"  # that learns: "whole", "last" (stages of both encoders) or "head"
    fusion: str = "concat"  # of a sample's views, or "add"
    missing: str = "error"  # for a sample that lacks a view, or "mask"
    dropout: tuple[float, float] = (0.0, 0.3)  # after the encoder, at the first and last epoch (Eq. 9)
    smoothing: tuple[float, float] = (0.1, 0.0)  # of the labels, likewise
    class_weights: str | tuple[float, ...] | None = None  # "balanced", or one a class
    patience: int | None = None  # epochs without a lower validation loss before the run stops; the best is kept
    precision: str = "float32"  # or "bfloat16": mixed, with float32 weights
    seed: int = 0
    augmentation: Augmentation = None  # type: ignore[assignment]  # the paper's; none where only the head learns
    loss: str = "mse"  # of a regression: squared error, or "huber" (1 standard deviation of the target)
    level: str = "window"  # that a label belongs to; windows of a "recording" or "subject" are pooled
    pooling: str = "attention"  # of those windows (Ilse et al. 2018), or "mean"

    def __post_init__(self) -> None:
        if self.augmentation is None:
            object.__setattr__(self, "augmentation", NONE if self.part == "head" else Augmentation())
        choices = {"precision": PRECISIONS, "loss": LOSSES, "level": LEVELS, "pooling": POOLINGS}
        for name, among in choices.items():
            if getattr(self, name) not in among:
                raise unknown(name, getattr(self, name), among)
        if self.level != "window" and (self.part != "head" or self.augmentation != NONE):
            raise ConfigError(
                f"level={self.level!r} pools hundreds of windows, whose vectors are computed once: it needs "
                'part="head" (--part head) and no augmentation'
            )
        possible = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 1,
            "learning_rate": 0 < self.learning_rate < math.inf,
            "warmup": self.warmup >= 0 and self.warmup + self.cooldown <= 1,
            "cooldown": self.cooldown >= 0,
            "weight_decay": 0 <= self.weight_decay < math.inf,
            "clip": self.clip > 0,
            "dropout": all(0 <= rate < 1 for rate in self.dropout),
            "smoothing": all(0 <= rate < 1 for rate in self.smoothing),
            "patience": self.patience is None or self.patience >= 1,
            "seed": self.seed >= 0,
        }
        for name, usable in possible.items():
            if not usable:
                raise ConfigError(f"settings: {name}={getattr(self, name)!r} cannot be trained with")


def plain(value: Any) -> Any:
    """With lists for tuples, as JSON and checkpoints give them back."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
