"""Which backend computes the network: the native program, ONNX Runtime, or PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..config import PRECISIONS, Config
from ..errors import ConfigError, need, unknown
from ..weights.tensor_files import Tensors

if TYPE_CHECKING:
    from .native_program import Program

BACKENDS = ("native", "onnx", "torch")
ONNX_PACKAGES = ("onnx", "onnxruntime")  # to export the network and to run it


@dataclass(frozen=True, eq=False)
class Backend:
    """The network with one set of weights, ready to run.

    run : images, (B, 224, 224) levels or (B, 224, 224, 3) RGB bytes, a number of threads, and whether readout "rows" is
        wanted, to (B, embedding_dim), with the rows behind each embedding where they are: + rows_dim
    parallel : whether several threads may run it at once, an image each; then B is 1
    batches : whether it takes many images at once, as accelerators do; one image at a time otherwise
    """

    name: str
    precision: str
    run: Callable[[NDArray[np.uint8], int, bool], NDArray[np.float32]]
    program: str | None = None  # what computes in PyTorch's place, and decides a vector's last digits
    parallel: bool = False
    batches: bool = False

    def facts(self) -> dict[str, Any]:
        """What provenance holds of it."""
        return {"precision": self.precision, "backend": self.name, "program": self.program}


def check_backend(precision: Any, backend: Any) -> None:
    """Refuse names that are none, and what cannot be had together.

    Raises
    ------
    ConfigError
    """
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if backend is not None and backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if backend == "onnx":
        need(*ONNX_PACKAGES, extra="onnx", what='backend="onnx"')
        if precision != "float32":
            raise ConfigError(f'backend="onnx" computes in float32: leave out precision={precision!r}, or use "native"')


def default_backend(config: Config, precision: str, *, changes: bool = False) -> str:
    """The backend for a CPU: the native program where one was built for this processor and fits the network, else ONNX
    Runtime where it is installed, else PyTorch.

    changes : whether the weights are still being changed: exporting them, which takes seconds, is then not worth it
    """
    from .native_backend import fits
    from .native_program import native_program

    if fits(config.architecture) and native_program(precision) is not None:
        return "native"
    exports = precision == "float32" and not changes
    return "onnx" if exports and all(find_spec(name) for name in ONNX_PACKAGES) else "torch"


def make_backend(tensors: Tensors, config: Config, precision: str = "float32", backend: str | None = None) -> Backend:
    """The network with these weights, for this machine's CPU.

    Parameters
    ----------
    tensors : our names, float32; the native backend takes them out of the dictionary
    precision : "float32", or "bfloat16" (faster; vectors differ in the second digit)
    backend : "native", "onnx" or "torch"; None for `default_backend`

    Raises
    ------
    ConfigError
        What is asked for cannot be had here: why, and what to use instead.
    """
    check_backend(precision, backend)
    match backend or default_backend(config, precision):
        case "native":
            return _native(tensors, config, precision)
        case "onnx":
            from .onnx_backend import VERSION, OnnxNetwork

            return Backend("onnx", precision, OnnxNetwork(tensors, config), f"onnxruntime {VERSION}", parallel=True)
        case _:
            from .torch_backend import TorchNetwork, built

            return Backend("torch", precision, TorchNetwork(built(tensors, config), precision))


def require_native(precision: str) -> Program:
    """The native program for this processor.

    Raises
    ------
    ConfigError
        This installation has none.
    """
    from .native_program import native_program

    if (program := native_program(precision)) is None:
        raise ConfigError(
            'backend="native": this installation has no native program for this processor (they are built where '
            "tiny-biomoe is installed with a C++ compiler, for 64-bit x86 with AVX2 on Linux, and for 64-bit ARM on "
            'Linux and macOS): use backend="onnx" or "torch"'
        )
    return program


def _native(tensors: Tensors, config: Config, precision: str) -> Backend:
    from .native_backend import NativeNetwork

    program = require_native(precision)
    network = NativeNetwork(tensors, config.architecture, precision, program)

    def run(images: NDArray[np.uint8], threads: int, rows: bool) -> NDArray[np.float32]:
        return network(images[0], threads, rows)[None]

    return Backend("native", precision, run, str(program), parallel=True)
