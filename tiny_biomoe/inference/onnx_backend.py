"""The ONNX Runtime backend: `pip install "tiny-biomoe[onnx]"`. It needs torch only to export the network, once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Config, config_digest
from ..errors import need
from ..images.rendering import colour
from ..sealed_files import read_checked, write_checked
from ..version import __version__
from ..weights.loading import tensor_digest
from ..weights.tensor_files import Tensors

need("onnx", "onnxruntime", extra="onnx", what="ONNX")

VERSION = version("onnxruntime")
OUTPUTS = ["embedding", "rows"]  # of the exported network
EXPORT = "2"  # another number where the same weights are exported otherwise, so that no kept file of before is used


class OnnxNetwork:
    """ONNX Runtime with one set of weights, on one thread an image; several threads may call it at once."""

    def __init__(self, tensors: Tensors, config: Config):
        self._run = run_onnx(kept_onnx(tensors, config))

    def __call__(self, images: NDArray[np.uint8], threads: int, rows: bool = False) -> NDArray[np.float32]:
        """Levels, (B, 224, 224), or RGB bytes, (B, 224, 224, 3), to (B, embedding_dim), and rows behind each."""
        return self._run(images, rows)


def run_onnx(data: bytes) -> Callable[..., NDArray[np.float32]]:
    """A function from levels or RGB bytes to vectors, perhaps with rows behind them, by ONNX Runtime on one thread."""
    session = session_of(data)

    def run(images: NDArray[np.uint8], rows: bool = False) -> NDArray[np.float32]:
        return np.concatenate(session.run(OUTPUTS[: 1 + rows], {"pixels": to_pixels(images)}), axis=1)

    return run


def session_of(data: bytes) -> Any:
    """An ONNX file, ready to run on one thread of the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def to_pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Levels, (B, 224, 224), or RGB bytes, (B, 224, 224, 3), to (B, 3, 224, 224) in [0, 1]."""
    rgb = colour(images) if images.ndim == 3 else images
    return np.ascontiguousarray(rgb.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


def kept_onnx(tensors: Tensors, config: Config) -> bytes:
    """The exported network, made once for the same tensors, config and versions, and kept in the Hugging Face cache.

    A kept file that is damaged, or that others could have written, is exported again.
    """
    key = [tensor_digest(tensors), config_digest(config)[:16], *OUTPUTS, EXPORT, __version__, VERSION]
    home = Path(os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser())
    path = home / "tiny-biomoe" / f"{'-'.join(key)}.sha256-onnx"
    if (kept := read_checked(path)) is not None:
        return kept
    from .onnx_export import to_onnx

    data = to_onnx(tensors, config)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_checked(path, data)
    except OSError as error:
        warnings.warn(f"the exported network could not be kept for the next time ({error})", stacklevel=2)
    return data
