"""The network as an ONNX file, pixels to embedding, and a function of it: `pip install "tiny-biomoe[onnx]"`."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import cast

import numpy as np
import torch
from huggingface_hub import constants
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config import IMAGE_SIZE, config_digest
from ..errors import WeightsError, need
from ..images.rendering import colour
from ..network.network import Network
from ..network.spectral_encoder import SpectralFilter
from ..sealed_files import write_whole
from ..version import __version__
from ..weights.loading import tensor_digest
from .matrix_filter import MatrixFilter

need("onnx", "onnxruntime", "onnxscript", extra="onnx", what="ONNX")

VERSION = version("onnxruntime")
OPSET = 18  # of ONNX: old enough for any runtime of the last years
TOLERANCE = 1e-5  # between the file's embeddings and the plain network's


class ImageNorm(nn.Module):
    """The LayerNorm of the whole image: a runtime's own adds 150 528 numbers up one by one, and loses three digits.

    Here means are of 224 numbers, then of those means; and the mean is taken off a second time.
    """

    def __init__(self, norm: nn.LayerNorm):
        super().__init__()
        self.eps, self.weight, self.bias = norm.eps, norm.weight, norm.bias

    def mean(self, x: Tensor) -> Tensor:
        return x.mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, 224, 224) to (B, 3, 224, 224)."""
        centred = pixels - self.mean(pixels)
        centred = centred - self.mean(centred)
        return centred * torch.rsqrt(self.mean(centred * centred) + self.eps) * self.weight + self.bias


def exportable(network: Network) -> Network:
    """A copy in eval mode whose spectral filters are matrix products and whose first norm keeps its digits."""
    copied = Network(network.config)
    copied.load_state_dict({name: tensor.cpu() for name, tensor in network.state_dict().items()})
    copied.image_norm = cast(nn.LayerNorm, ImageNorm(copied.image_norm))
    for block in copied.spectral_encoder.blocks:
        if isinstance(block.mixer, SpectralFilter):
            block.mixer = MatrixFilter(block.mixer)
    return copied.eval()


def to_onnx(network: Network, **facts: str) -> bytes:
    """The network as an ONNX file: `pixels`, (batch, 3, 224, 224) in [0, 1], to `embedding`, (batch, embedding_dim).

    Its metadata hold the library's version, `config` (the recipe of the images and the architecture, as in
    `config.json`), `tensors_sha256`, and `facts`.

    Raises
    ------
    WeightsError
        What ONNX Runtime makes of the file is not, to 1e-5, what the network gives.
    """
    example = torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            exportable(network), (example,), input_names=["pixels"], output_names=["embedding"], dynamo=True,
            dynamic_shapes={"pixels": {0: torch.export.Dim("batch")}}, opset_version=OPSET, verbose=False,
        )  # fmt: skip
    if program is None:
        raise WeightsError("PyTorch's exporter gave no program: update torch and onnxscript")
    metadata = {
        "library": f"tiny-biomoe {__version__}",
        "config": network.config.to_json(),
        "tensors_sha256": tensor_digest(network.state_dict()),
        **facts,
    }
    program.model.metadata_props.update(metadata)
    data = program.model_proto.SerializeToString()
    difference = largest_difference(network, data)
    if not difference <= TOLERANCE:
        raise WeightsError(
            f"the exported network differs from its original by {difference:.1e}, over {TOLERANCE:.0e}: it is not "
            "written; update onnx, onnxscript and onnxruntime"
        )
    return data


def largest_difference(network: Network, data: bytes) -> float:
    """Between the file's embeddings of three pictures, as one batch, and the plain network's, on the CPU."""
    grid = np.add.outer(np.arange(IMAGE_SIZE), np.arange(IMAGE_SIZE))
    noise = np.random.RandomState(0).randint(0, 256, (IMAGE_SIZE, IMAGE_SIZE))
    pictures = np.stack([noise, grid // 2, grid // 8 % 2 * 255]).astype(np.uint8)
    found = run_onnx(data)(pictures)
    reference = Network(network.config).eval()
    reference.load_state_dict({name: tensor.cpu() for name, tensor in network.state_dict().items()})
    with torch.no_grad():
        expected = torch.cat([reference(torch.from_numpy(to_pixels(picture[None]))) for picture in pictures])
    return float(np.abs(found - expected.numpy()).max())


def to_pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Levels, (B, 224, 224), or RGB bytes, (B, 224, 224, 3), to (B, 3, 224, 224) in [0, 1]."""
    rgb = colour(images) if images.ndim == 3 else images
    return np.ascontiguousarray(rgb.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


def run_onnx(data: bytes) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """A function from levels or RGB bytes to vectors, computed by ONNX Runtime on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["embedding"], {"pixels": to_pixels(images)})[0]


def kept_onnx(network: Network) -> bytes:
    """`to_onnx`, made once for the same tensors, config and versions, and kept in the folder of the Hugging Face cache.

    The kept file begins with the 32 bytes of the sha256 of the rest; where they disagree the network is exported again.
    """
    key = [tensor_digest(network.state_dict()), config_digest(network.config)[:16], __version__, VERSION]
    path = Path(constants.HF_HOME) / "tiny-biomoe" / f"{'-'.join(key)}.sha256-onnx"
    try:
        kept = path.read_bytes()
    except OSError:
        kept = b""
    if hashlib.sha256(kept[32:]).digest() == kept[:32]:
        return kept[32:]
    data = to_onnx(network)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, hashlib.sha256(data).digest() + data)
    except OSError as error:
        warnings.warn(f"the exported network could not be kept for the next time ({error})", stacklevel=2)
    return data


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter's remarks on its own progress are kept from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
