"""What `speed.py` is measured against: the processor's limit, the authors' route, other runtimes, other features."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from tiny_biomoe import TinyBioMoE

SIDE = 4096  # of the matrices whose product is the limit
GFLOP = 3.08  # of the network, an image
Case = Callable[[], object]


def limits() -> dict[str, Case]:
    """One large matrix product by PyTorch, in both precisions."""
    cases: dict[str, Case] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
        cases[f"limit {name}"] = lambda a=a, b=b: a @ b  # type: ignore[misc]
    return cases


def authors_picture(signal: np.ndarray, fs: float, frequencies: np.ndarray) -> torch.Tensor:
    """A scalogram as plotting libraries make it: drawn, saved as PNG, opened, resized, (3, 224, 224) in [0, 1]."""
    import pywt
    from matplotlib.figure import Figure

    scales = pywt.frequency2scale("morl", frequencies / fs)
    coefficients, _ = pywt.cwt(signal, scales, "morl", 1 / fs, method="fft")
    figure = Figure(figsize=(2.24, 2.24), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(np.abs(coefficients), aspect="auto", cmap="viridis")
    axes.set_axis_off()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    with Image.open(file) as opened:
        picture = np.array(opened.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


def authors_route(model: TinyBioMoE, signals: np.ndarray, fs: float, batch_size: int) -> np.ndarray:
    """Signals to vectors by pictures on their way through PNG and the plain network, batch by batch."""
    frequencies = np.geomspace(0.2, 50.0, 224)[::-1]
    rows = []
    with torch.inference_mode():
        for start in range(0, len(signals), batch_size):
            pictures = [authors_picture(signal, fs, frequencies) for signal in signals[start : start + batch_size]]
            rows.append(model(torch.stack(pictures)))
    return torch.cat(rows).numpy()


def openvino_network(data: bytes, threads: int) -> Callable[[np.ndarray], Any]:
    """The exported network, compiled by OpenVINO: (B, 3, 224, 224) float32 to (B, 192)."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(data), "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    )
    return lambda pixels: compiled([pixels])[0]


def onnxruntime_network(data: bytes, threads: int) -> Callable[[np.ndarray], Any]:
    """The exported network in ONNX Runtime, all threads on one batch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def minirocket(signals: np.ndarray, threads: int) -> Case:
    """9996 random convolution features of each signal (fitted beforehand)."""
    from aeon.transformations.collection.convolution_based import MiniRocket

    transform = MiniRocket(n_jobs=threads, random_state=0).fit(signals[:, None])
    return lambda: transform.transform(signals[:, None])


def tsfel_features(signals: np.ndarray, fs: float) -> Case:
    """All temporal, statistical and spectral features of TSFEL."""
    import tsfel

    settings = tsfel.get_features_by_domain()
    return lambda: [tsfel.time_series_features_extractor(settings, row, fs=fs, verbose=0) for row in signals]
