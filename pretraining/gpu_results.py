"""What `pretraining.gpu` leaves behind: folders of weights, scores on people held out, and a table of both."""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from pretraining.device_drawing import plan
from pretraining.validation import Trial, score
from tiny_biomoe.config import Config, Recipe, config_digest
from tiny_biomoe.errors import WeightsError
from tiny_biomoe.network.network import Network
from tiny_biomoe.sealed_files import write_whole
from tiny_biomoe.signals.filters import apply_filter, passband

LIMIT = 16 * 2**20  # bytes of a file of weights
SHOWN = "scalogram"  # representation that weights are scored on
AT_ONCE = 32  # windows drawn and embedded at once


def weights_folder(folder: Path, network: Network, config: Config) -> None:
    """Write `model.safetensors`, float16, and `config.json`, which `TinyBioMoE.from_pretrained` loads.

    Raises
    ------
    WeightsError
        A weight does not fit float16, or the file is larger than 16 MiB.
    """
    kept = {name: t for name, t in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    stored = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in kept.items()}
    if wrong := [name for name, tensor in stored.items() if not torch.isfinite(tensor).all()]:
        raise WeightsError(f"{wrong[0]} does not fit float16: the checkpoint is kept")
    data = safetensors.torch.save(stored, {"config_sha256": config_digest(config)})
    if len(data) > LIMIT:
        raise WeightsError(f"the weights take {len(data)} bytes, over {LIMIT}")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "model.safetensors", data)
    write_whole(folder / "config.json", config.to_json(sha256=hashlib.sha256(data).hexdigest()).encode())


@torch.no_grad()
def scores(
    embed: Callable[[Tensor], Tensor], measured: Sequence[Trial], recipe: Recipe, device: torch.device, deadline: float
) -> dict[str, tuple[float, float]]:
    """Balanced accuracy on each trial, plain and standardised per person; what is not done by `deadline` is left out.

    Parameters
    ----------
    embed : levels on the device (n, 224, 224) to vectors (n, dim)
    deadline : of `time.monotonic`
    """
    found = {}
    for trial in measured:
        vectors = []
        for start in range(0, len(trial.windows), AT_ONCE):
            if time.monotonic() > deadline:
                return found
            vectors.append(embed(_levels(trial, slice(start, start + AT_ONCE), recipe, device)).cpu())
        together = torch.cat(vectors).numpy()
        found[trial.name] = (score(together, trial), score(together, trial, per_person=True))
    return found


def _levels(trial: Trial, some: slice, recipe: Recipe, device: torch.device) -> Tensor:
    edges = passband(trial.fs, trial.modality, recipe)
    filtered = np.stack([apply_filter(window, trial.fs, edges, recipe) for window in trial.windows[some]])
    limits = np.array([each or (np.nan, np.nan) for each in trial.limits[some]], np.float64)
    drawing = plan(trial.modality, trial.fs, filtered.shape[1], recipe, str(device))
    return drawing.draw(torch.from_numpy(filtered).to(device), torch.from_numpy(limits).to(device), SHOWN)


def read_log(path: Path) -> list[dict[str, float]]:
    """Rows of `metrics.csv`; none where the run was too short to log any."""
    if not path.exists():
        return []
    with open(path) as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def table(
    facts: dict[str, str],
    results: dict[str, dict[str, tuple[float, float]]],
    measured: Sequence[str],
    log: Sequence[dict[str, float]],
) -> str:
    """The table of a run, in Markdown: facts, speed, losses of the last tenth, scores of each trial."""
    lines = ["| run | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]
    for size in sorted({row["size"] for row in log}):
        rows = [row for row in log if row["size"] == size]
        if len(rows) > 1:
            speed = (rows[-1]["views"] - rows[0]["views"]) / (rows[-1]["seconds"] - rows[0]["seconds"])
            lines.append(f"| image views a second, {size:g} pixels | {speed:.0f} |")
    last = log[-max(1, len(log) // 10) :]
    for name in list(log[0])[5:] if log else []:
        known = [row[name] for row in last if not np.isnan(row[name])]
        lines.append(f"| {name} | {np.mean(known):.4g} |" if known else f"| {name} | |")
    lines += ["", f"| balanced accuracy on people held out: plain / standardised per person | {' | '.join(results)} |"]
    lines.append("|---" * (1 + len(results)) + "|")
    for trial in measured:
        known = [found.get(trial) for found in results.values()]
        cells = [f"{pair[0]:.3f} / {pair[1]:.3f}" if pair else "out of time" for pair in known]
        lines.append(f"| {trial} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
