"""Pretraining on one GPU (or, for tests, a CPU) in as many minutes as are given.

`python -m pretraining.gpu --data PACK --minutes 9 --out OUT` needs torch >= 2.10, numpy, scipy and safetensors. Worker
processes cut, vary and filter windows; pictures are drawn on the device. The learning rate falls by a cosine in time,
so that the run ends well whatever the machine; a run that was stopped goes on with the minutes it had left. Then
OUT/last and OUT/average hold weights (float16) that `TinyBioMoE.from_pretrained` loads, and OUT/metrics.md a table.
"""

from __future__ import annotations

import argparse
import copy
import io
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretraining.batches import Augmentation
from pretraining.device_batches import Batch, Rounds
from pretraining.gpu_results import read_log, scores, table, weights_folder
from pretraining.groups import Groups
from pretraining.growth import take_over
from pretraining.metrics import forget_after, log_row
from pretraining.precision import FUSED, LAYOUT
from pretraining.readout import Readout, Weights
from pretraining.sources import Source, read_pack, sources_digest
from pretraining.stages import statistics_anew
from pretraining.validation import trials
from tiny_biomoe.config import IMAGE_SIZE, Config
from tiny_biomoe.errors import WeightsError
from tiny_biomoe.images.rendering import PALETTE
from tiny_biomoe.network.network import Network
from tiny_biomoe.sealed_files import write_whole

CHECKPOINT, LOG, TABLE = "checkpoint.pt", "metrics.csv", "metrics.md"
LOG_EVERY = 20  # steps
SAVE_EVERY = 60.0  # seconds
KEPT = ("step", "round", "views", "averaged", "average")  # of a run, in a checkpoint


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run gives, but for the machine's speed."""

    minutes: float = 9.0  # from start to finish, start-up, scores and files included
    images: int = 512  # of a step
    windows: int = 32  # of a group
    views: int = 3  # pictures of a window
    per_round: int = 16  # groups whose pictures are mixed
    small_share: float = 0.6  # of the time, in which pictures have 112 pixels a side
    finish_share: float = 0.06  # of the time, kept for the average, scores and files
    average_from: float = 0.8  # share of the training time from which on weights are averaged
    learning_rate: float = 1e-3
    spectral_rate: float = 0.1  # of the learning rate, for encoder 1
    weight_decay: float = 0.05
    norm_momentum: float = 0.02  # of BatchNorm statistics
    clip: float = 1.0  # largest norm of the gradient, that of the losses' weights apart
    most: int = 60  # windows a person and trial that weights are scored on
    seed: int = 20251207
    weights: Weights = field(default_factory=Weights)
    augmentation: Augmentation = field(default_factory=Augmentation)


# As large as a test can wait for
ON_CPU = {"images": 12, "windows": 3, "views": 2, "per_round": 4, "finish_share": 0.25, "most": 3}


def rate_at(share: float, warmup: float = 0.03, cooldown: float = 0.04, floor: float = 0.01) -> float:
    """Learning rate at a share of the training time, as a share of its peak.

    >>> [round(rate_at(share), 3) for share in (0, 0.015, 0.03, 0.96, 1, 1.2)]
    [0.0, 0.5, 1.0, 0.01, 0.01, 0.01]
    """
    if share < warmup:
        return share / warmup
    progress = min(1.0, (share - warmup) / (1 - warmup - cooldown))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


class Run:
    """One run: its model, optimizer, average of weights, and how much of its time is spent.

    Parameters
    ----------
    sources : of a pack
    out : folder of the checkpoint, `metrics.csv` and the results
    workers : processes that prepare windows
    start : folder of weights to begin with, in pictures of 224 pixels; None for a network as it is built

    Raises
    ------
    WeightsError
        The folder holds a run of other settings or recordings.
    """

    def __init__(
        self, sources: list[Source], out: Path, settings: Settings, device: str, workers: int, start: Path | None = None
    ):
        if settings.small_share > settings.average_from:
            raise ValueError(f"small_share={settings.small_share} is over average_from: averaged weights have one size")
        self.began = time.monotonic()
        self.sources, self.out, self.settings, self.device = sources, out, settings, torch.device(device)
        self.half = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.config = Config(name="pretraining.gpu")
        groups = Groups(sources, settings.windows, settings.seed, settings.augmentation, self.config.recipe)
        self.rounds = Rounds(
            groups, settings.views, settings.images, settings.per_round, self.config.recipe, device, workers
        )
        self.with_classes = {index: source.name for index, source in enumerate(sources) if source.classes}
        self.palette = torch.tensor(PALETTE, device=self.device).float() / 255
        self.step = self.round = self.views = self.averaged = 0
        self.spent = 0.0
        self.average: dict[str, Tensor] = {}
        self.digest = sources_digest(sources)
        torch.manual_seed(settings.seed)
        self._build(IMAGE_SIZE // 2 if settings.small_share > 0 else IMAGE_SIZE)
        if start is not None:
            self._begin_with(start)
        out.mkdir(parents=True, exist_ok=True)
        self._resume()

    @property
    def seconds(self) -> float:
        """Spent in all, in this process and those before it."""
        return self.spent + time.monotonic() - self.began

    @property
    def share(self) -> float:
        """Of the training time that is spent."""
        return self.seconds / (60 * self.settings.minutes * (1 - self.settings.finish_share))

    @property
    def size(self) -> int:
        """Pixels a side of the pictures."""
        return int(self.model.network.image_norm.normalized_shape[-1])

    def train(self) -> None:
        """Until the training time is spent; a checkpoint is written every minute."""
        saved, kept = self.seconds, []
        rounds = self._rounds()
        while self.share < 1:
            if self.size < IMAGE_SIZE and self.share >= self.settings.small_share:
                self._grow()
                rounds = self._rounds()
            for batch in next(rounds):
                if self.share >= 1:
                    break
                kept.append(self._update(batch))
                if self.step % LOG_EVERY == 0:
                    self._log(kept)
                    kept = []
            self.round += 1
            if self.seconds - saved > SAVE_EVERY:
                self.save()
                saved = self.seconds
        if kept:
            self._log(kept)
        self.save()

    def vectors(self, network: Network, levels: Tensor) -> Tensor:
        """Embeddings of pictures on the device: (n, size, size) uint8 to (n, 192) float32."""
        pixels = F.embedding(levels.int(), self.palette).permute(0, 3, 1, 2)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            found = network(pixels)
        return found.float()

    def finish(self) -> str:
        """Write weights, their average and the table of metrics, within the minutes that were asked for."""
        now = time.monotonic()
        deadline = max(now, self.began + 60 * self.settings.minutes - self.spent)
        if self.size < IMAGE_SIZE:
            self._grow()
        batches = next(self.rounds.run(self.round, IMAGE_SIZE))
        networks = {"last": self.model.network, "average": self._averaged()}
        for number, (name, network) in enumerate(networks.items(), 1):
            self._statistics(network, batches, now + (deadline - now) * number / 5)
            weights_folder(self.out / name, network.eval(), self.config)
        measured = trials(self.sources, self.config.recipe, self.settings.most)
        results = {
            name: scores(partial(self.vectors, network), measured, self.config.recipe, self.device, deadline)
            for name, network in networks.items()
        }
        text = table(self._facts(), results, [trial.name for trial in measured], read_log(self.out / LOG))
        write_whole(self.out / TABLE, text.encode())
        return text

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            raise WeightsError(f"weights are not finite at step {self.step}: the last checkpoint in {self.out} is kept")
        state = {"settings": str(asdict(self.settings)), "data": self.digest, "size": self.size}
        state |= {key: getattr(self, key) for key in KEPT}
        state |= {"seconds": self.seconds, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_whole(self.out / CHECKPOINT, buffer.getvalue())

    def _rounds(self) -> Iterator[list[Batch]]:
        rounds = self.rounds.run(self.round, self.size)
        if self.step == 0:
            self.model.standardise(torch.cat([batch.wanted.targets for batch in next(rounds)]))
            self.round += 1
        return rounds

    def _update(self, batch: Batch) -> dict[str, Tensor]:
        """One step; its loss and the parts of it."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate_at(self.share)
        model = self.model
        vectors = self.vectors(model.network, batch.levels)
        loss, parts = model.loss(vectors, batch.wanted, self.with_classes, self.settings.weights)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        learnt = [parameter for parameter in model.parameters() if parameter is not model.loss_weights]
        norm = nn.utils.clip_grad_norm_(learnt, self.settings.clip)
        self.optimizer.step()
        self.step += 1
        self.views += len(batch.levels)
        if self.size == IMAGE_SIZE and self.share >= self.settings.average_from:
            self._average()
        return {"loss": loss.detach(), "gradient": norm.detach(), **parts}

    @torch.no_grad()
    def _average(self) -> None:
        """Count the weights as they are into the average."""
        named = dict(self.model.network.named_parameters())
        if not self.averaged:
            self.average = {name: parameter.detach().clone() for name, parameter in named.items()}
        else:
            torch._foreach_lerp_(list(self.average.values()), list(named.values()), 1 / (self.averaged + 1))
        self.averaged += 1

    def _averaged(self) -> Network:
        network = copy.deepcopy(self.model.network)
        network.load_state_dict(self.average, strict=False)  # without statistics, which come anew
        return network

    @torch.no_grad()
    def _statistics(self, network: Network, batches: list[Batch], deadline: float) -> None:
        """Take the statistics of BatchNorm anew, as means over batches, of which one at least is seen."""
        network.train()
        statistics_anew(network)
        for batch in batches:
            self.vectors(network, batch.levels)
            if time.monotonic() > deadline:
                break

    def _build(self, size: int) -> None:
        """A new model and optimizer for pictures of `size` pixels."""
        network = Network(self.config, size)
        self.model = Readout(network, [len(self.sources[index].classes) for index in self.with_classes])
        self._place()

    def _place(self) -> None:
        """The model onto the device, with an optimizer that knows nothing yet."""
        self.model.to(self.device).train()
        self.model.network.to(memory_format=LAYOUT)
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = self.settings.norm_momentum
        groups = parameter_groups(self.model, self.settings)
        self.optimizer = torch.optim.AdamW(groups, fused=FUSED)

    def _grow(self) -> None:
        """Go on in whole pictures."""
        begin = {name: tensor.detach().cpu() for name, tensor in self.model.state_dict().items()}
        self._build(IMAGE_SIZE)
        self.model.cpu()
        take_over(self.model, begin)
        self._place()

    def _begin_with(self, folder: Path) -> None:
        if self.size < IMAGE_SIZE:
            raise ValueError("weights know pictures of 224 pixels: begin with them under --small-share 0")
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        missing = self.model.network.load_state_dict({n: t.float() for n, t in tensors.items()}, strict=False)[0]
        if missing := [name for name in missing if not name.endswith("num_batches_tracked")]:
            raise WeightsError(f"{folder} lacks {missing[0]}: these are no weights of this network")

    def _resume(self) -> None:
        if not (self.out / CHECKPOINT).exists():
            return
        state = torch.load(self.out / CHECKPOINT, weights_only=True, map_location=self.device)
        if state["settings"] != str(asdict(self.settings)) or state["data"] != self.digest:
            raise WeightsError(f"{self.out} holds a run of other settings or recordings: choose another folder")
        if state["size"] != self.size:
            self._build(state["size"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for key in KEPT:
            setattr(self, key, state[key])
        self.spent = state["seconds"]
        forget_after(self.out / LOG, sum(row["step"] <= self.step for row in read_log(self.out / LOG)))

    def _log(self, kept: list[dict[str, Tensor]]) -> None:
        """One row of the log: means over steps."""
        means = torch.stack([torch.stack(list(parts.values())) for parts in kept]).nanmean(0).tolist()
        row = {"seconds": self.seconds, "step": self.step, "views": self.views, "size": self.size}
        row |= {"rate": self.settings.learning_rate * rate_at(self.share), **dict(zip(kept[0], means, strict=True))}
        log_row(self.out / LOG, row)
        print(f"{self.seconds:6.0f} s  step {self.step}  {self.views} views  loss {row['loss']:.3f}", flush=True)

    def _facts(self) -> dict[str, str]:
        """What the table says of the run as a whole."""
        on = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return {
            "device": on, "precision": "bfloat16" if self.half else "float32", "torch": torch.__version__,
            "minutes": f"{self.seconds / 60:.1f} of {self.settings.minutes:g}", "steps": str(self.step),
            "image views": str(self.views), "weights averaged": str(self.averaged), "seed": str(self.settings.seed),
        }  # fmt: skip


def parameter_groups(model: Readout, settings: Settings) -> list[dict[str, Any]]:
    """Matrices and kernels decay; norms, biases and the weights of the losses do not. Encoder 1 learns slower."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and not name.endswith("bias") and "image_norm" not in name
        peak = settings.learning_rate * (settings.spectral_rate if "spectral_encoder" in name else 1.0)
        groups.setdefault((settings.weight_decay if decays else 0.0, peak), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "peak": peak, "lr": peak}
        for (decay, peak), parameters in groups.items()
    ]


def main(arguments: list[str] | None = None) -> None:
    """Pretrain and write OUT/last, OUT/average and OUT/metrics.md."""
    parser = argparse.ArgumentParser(prog="python -m pretraining.gpu", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that pretraining.pack wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, weights and metrics")
    parser.add_argument("--start", type=Path, help="folder of weights to begin with (under --small-share 0)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=min(16, os.cpu_count() or 1), help="processes that cut windows")
    plain = {name: each for name, each in Settings.__dataclass_fields__.items() if each.type in ("int", "float")}
    for name, each in plain.items():
        kind = float if each.type == "float" else int
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"{each.default} unless given")
    given = vars(parser.parse_args(arguments))
    device = given["device"]
    chosen = {name: given[name] for name in plain if given[name] is not None}
    settings = Settings(**{**(ON_CPU if torch.device(device).type == "cpu" else {}), **chosen})
    torch.backends.cudnn.benchmark = True  # shapes are few
    torch.set_float32_matmul_precision("high")  # of heads; pictures are drawn in float64
    began = time.monotonic()
    run = Run(read_pack(given["data"]), given["out"], settings, device, given["workers"], given["start"])
    run.began = began  # the minutes hold the reading as well
    run.train()
    print(run.finish())


if __name__ == "__main__":
    main()
