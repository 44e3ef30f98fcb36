"""Vectors of images that a frozen network gave: each image is embedded once, however often it is learnt from."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..images.rendering import Levels
from ..inference.torch_backend import check_device
from ..model import TinyBioMoE, embed_levels
from ..sealed_files import plain_json, write_whole
from ..weights.loading import tensor_digest
from .progress import Progress

TOGETHER = 512  # images embedded before what is known is written down again
KEY = 32  # bytes: sha256 of an image


class VectorCache:
    """Vectors by the sha256 of the image, in memory, and in a file of a folder where one is given.

    The file's name holds what the vectors depend on beside the images, and its first 32 bytes the sha256 of the rest;
    a damaged one is computed anew. 800 bytes an image.

    Parameters
    ----------
    model : whose network stays as it is
    folder : None to keep the vectors in memory alone
    device : where they are computed; where the model is otherwise
    """

    def __init__(self, model: TinyBioMoE, folder: Path | None = None, device: str | torch.device | None = None):
        at = next(model.parameters()).device
        place = at if device is None else check_device(device)
        self.model = model if place == at else copy.deepcopy(model).to(place)
        self.width = model.architecture.embedding_dim
        self.digest = tensor_digest(model.state_dict())
        facts = plain_json([self.digest, self.model.frozen().backend.facts(), place.type])
        self.path = None if folder is None else folder / f"vectors-{hashlib.sha256(facts).hexdigest()[:16]}.bin"
        self.known: dict[bytes, NDArray[np.float32]] = {}
        self._read()
        self.written = len(self.known)

    def of(self, images: Iterable[Levels], progress: bool = False) -> NDArray[np.float32]:
        """The vectors of images, (n, width), in their order; those that are not known are computed and kept."""
        keys: list[bytes] = []
        new: dict[bytes, Levels] = {}
        for image in images:
            keys.append(hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest())
            if keys[-1] not in self.known:
                new.setdefault(keys[-1], image)
        with Progress("embedding", "image", len(new), progress and bool(new)) as report:
            wanted = list(new)
            for begin in range(0, len(wanted), TOGETHER):
                part = wanted[begin : begin + TOGETHER]
                vectors = embed_levels(self.model, iter([new[key] for key in part]), 32)
                self.known.update(zip(part, vectors, strict=True))
                if begin + TOGETHER >= len(wanted) or len(self.known) >= 1.25 * self.written:
                    self._write()
                report.to(begin + len(part))
        return np.stack([self.known[key] for key in keys]) if keys else np.zeros((0, self.width), np.float32)

    def _read(self) -> None:
        try:
            data = self.path.read_bytes() if self.path is not None else b""
        except OSError:
            return
        if hashlib.sha256(data[KEY:]).digest() != data[:KEY]:
            return
        record = KEY + 4 * self.width
        for at in range(KEY, len(data), record):
            vector = np.frombuffer(data[at + KEY : at + record], "<f4")
            self.known[data[at : at + KEY]] = vector.astype(np.float32)

    def _write(self) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = b"".join(key + vector.astype("<f4").tobytes() for key, vector in self.known.items())
        self.written = len(self.known)
        write_whole(self.path, hashlib.sha256(data).digest() + data)
