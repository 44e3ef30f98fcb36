"""A classifier's head on made-up people: processor seconds of drawing, embedding once, one head, and all folds.

    python benchmarks/heads.py [--people 60] [--windows 8] [--epochs 200]

`windows` of 10 s of a pulse a person, half of them of a faster one. `finetune(part="head")` with and without vectors
that are there, then `cross_validate(folds="loso")`, which leaves each person out once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from tiny_biomoe import TinyBioMoE
from tiny_biomoe.train import Settings, Window, cross_validate, draw_samples, finetune
from tiny_biomoe.train.augment import NONE
from tiny_biomoe.train.vectors import VectorCache


def took(what: str, work: Callable[[], Any]) -> Any:
    """Do it, and print the processor seconds."""
    began = time.process_time()
    done = work()
    print(f"{what}: {time.process_time() - began:.1f} s of one processor", flush=True)
    return done


def main() -> None:
    """Print a line a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("people", 60), ("windows", 8), ("epochs", 200)):
        parser.add_argument(f"--{name}", type=int, default=number)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    random, count = np.random.default_rng(0), chosen.people * chosen.windows
    labels, t = np.arange(count) % 2, np.arange(640) / 64
    windows = [
        {"bvp": Window(np.sin(2 * np.pi * ((1 + 0.3 * label) * t + random.random())) + random.normal(0, 0.5, 640), 64)}
        for label in labels
    ]
    people, model = np.arange(count) // chosen.windows, TinyBioMoE.from_pretrained()
    settings = Settings(part="head", augmentation=NONE, epochs=chosen.epochs)
    view = [("bvp", "scalogram")]
    samples = took(f"draw {count} windows", lambda: draw_samples(windows, labels, people, view, model.recipe))
    with TemporaryDirectory() as name:
        vectors = VectorCache(model, Path(name))
        took("embed each once", lambda: vectors.of(samples.levels[samples.present], False))
        took(
            f"learn {chosen.epochs} epochs of a head",
            lambda: finetune(model, samples, settings=settings, vectors=vectors),
        )
        took(
            f"leave each of {chosen.people} people out",
            lambda: cross_validate(model, samples, "loso", settings=settings, vectors=vectors),
        )


if __name__ == "__main__":
    main()
