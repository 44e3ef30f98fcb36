"""The network as an ONNX file, pixels to embedding: `pip install "tiny-biomoe[onnx]"`. Writing it needs torch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ..config import IMAGE_SIZE, Config
from ..errors import WeightsError, need
from ..network.network import Network
from ..network.spectral_encoder import SpectralFilter
from ..network.spectral_matrices import MatrixFilter
from ..version import __version__
from ..weights.loading import tensor_digest
from ..weights.tensor_files import Tensors
from .onnx_backend import OUTPUTS, run_onnx, to_pixels
from .torch_backend import built, usual_defaults, vectors_and_rows

need("onnx", "onnxruntime", extra="onnx", what="ONNX")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402

OPSET = 18  # of ONNX: old enough for any runtime of the last years
TOLERANCE = 1e-4  # between the file's embeddings and the plain network's: both round, as a rule by 1e-5


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
    """The network, changed: its spectral filters become matrix products, and its first norm keeps its digits."""
    network.image_norm = cast(nn.LayerNorm, ImageNorm(network.image_norm))
    for block in network.spectral_encoder.blocks:
        if isinstance(block.mixer, SpectralFilter):
            block.mixer = MatrixFilter(block.mixer)
    return network.eval()


class _Exported(nn.Module):
    """Pixels to embeddings and rows."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = exportable(network)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 224, 224) to (B, embedding_dim) and (B, rows_dim)."""
        parts = self.network.encode(pixels, rows=True)
        return parts["embedding"], parts["rows"]


def to_onnx(tensors: Tensors, config: Config, **facts: str) -> bytes:
    """The network as an ONNX file: `pixels`, (batch, 3, 224, 224) in [0, 1], to `embedding`, (batch, embedding_dim).

    And to `rows`, (batch, rows_dim), the vectors of readout "rows". Its metadata hold the library's version, `config`
    (the recipe of the images and the architecture, as in `config.json`), `tensors_sha256`, and `facts`.

    Raises
    ------
    WeightsError
        What ONNX Runtime computes from the file is not, to 1e-4, what the network gives.
    """
    with usual_defaults():
        module = _Exported(built(tensors, config)).eval()
        pixels = torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    metadata = {"config": config.to_json(), "tensors_sha256": tensor_digest(tensors), **facts}
    data = write_onnx(module, {"pixels": pixels}, OUTPUTS, metadata)
    with usual_defaults():
        difference = largest_difference(built(tensors, config), data, config.architecture.embedding_dim)
    if not difference <= TOLERANCE:
        raise WeightsError(
            f"the exported network differs from its original by {difference:.1e}, over {TOLERANCE:.0e}: it is not "
            "written; update onnx and onnxruntime"
        )
    return data


def write_onnx(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], metadata: Mapping[str, str]
) -> bytes:
    """A module as an ONNX file, for any batch: its inputs by name, with examples of a batch.

    PyTorch's older exporter, which records one call, takes 3 s where `dynamo=True` takes a minute, and ONNX Runtime
    is quicker with what it writes. What does not depend on the input is then computed once, by ONNX Runtime.
    """
    axes = {name: {0: "batch"} for name in (*inputs, *outputs)}
    with usual_defaults(), warnings.catch_warnings(), TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # of conditions on shapes that only the batch could change
        written, folded = Path(folder, "written.onnx"), Path(folder, "folded.onnx")
        torch.onnx.export(
            module, tuple(inputs.values()), written, input_names=list(inputs), output_names=list(outputs),
            dynamic_axes=axes, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
        fold_constants(written, folded)
        file = onnx.load(folded)
    del file.opset_import[:]
    file.opset_import.add(version=OPSET)
    onnx.helper.set_model_props(file, {"library": f"tiny-biomoe {__version__}", **metadata})
    onnx.checker.check_model(file, full_check=True)
    return file.SerializeToString()


def fold_constants(written: Path, folded: Path) -> None:
    """Write the same file with fewer nodes, all of plain ONNX: else ONNX Runtime does that whenever it is loaded."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])


def largest_difference(network: Network, data: bytes, dim: int) -> float:
    """Between the file's vectors of three pictures, as one batch, and the plain network's, on the CPU.

    Rows follow no norm, so theirs is a share of the largest of them.
    """
    grid = np.add.outer(np.arange(IMAGE_SIZE), np.arange(IMAGE_SIZE))
    noise = np.random.RandomState(0).randint(0, 256, (IMAGE_SIZE, IMAGE_SIZE))
    pictures = np.stack([noise, grid // 2, grid // 8 % 2 * 255]).astype(np.uint8)
    found = run_onnx(data)(pictures, True)
    with torch.no_grad():
        expected = torch.cat([vectors_and_rows(network, torch.from_numpy(to_pixels(each[None]))) for each in pictures])
    difference = np.abs(found - expected.numpy())
    return float(max(difference[:, :dim].max(), difference[:, dim:].max() / max(1.0, expected[:, dim:].abs().max())))
