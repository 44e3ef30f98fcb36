"""Training checkpoints that a kill at any moment leaves loadable."""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from ..errors import WeightsError
from ..sealed_files import write_whole

KEPT = 2  # the newest, and the one before in case the newest is damaged
DIGEST = 64  # hexadecimal digits of sha256, in front of the tensors


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `state` as `checkpoint-<step>.pt`: whole, or not at all; older ones are removed after it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    path = folder / f"checkpoint-{step:08d}.pt"
    write_whole(path, hashlib.sha256(data).hexdigest().encode() + data)
    for old in (*_checkpoints(folder)[KEPT:], *folder.glob(".checkpoint-*.partial")):  # the latter of a killed save
        old.unlink()
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is whole, or None where there is none; a damaged one is warned of.

    Raises
    ------
    WeightsError
        There are checkpoints, and all of them are damaged.
    """
    found = _checkpoints(folder)
    for path in found:
        data = path.read_bytes()
        if hashlib.sha256(data[DIGEST:]).hexdigest().encode() == data[:DIGEST]:
            return _read(path, data[DIGEST:])
        warnings.warn(f"{path} is damaged (its sha256 differs): going on from the checkpoint before", stacklevel=2)
    if found:
        raise WeightsError(f"every checkpoint in {folder} is damaged: remove them to start anew")
    return None


def _read(path: Path, data: bytes) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} holds objects that are not tensors or plain values: it is not loaded") from error
    return state


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.pt"), reverse=True)
