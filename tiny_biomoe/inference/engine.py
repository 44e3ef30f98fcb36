"""How a network is run: which precision, whether compiled, and the fast copy that this needs, never a stale one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config import IMAGE_SIZE, PRECISIONS, Architecture, Config
from ..errors import ConfigError, unknown
from ..network.network import Network, outline
from .fast_network import FastNetwork
from .fast_threads import Run, tried_later
from .recorded import Recorded
from .threads import callers_threads, threads
from .witness import Witness

if TYPE_CHECKING:
    from .program import Program

BACKENDS = ["torch", "onnx"]
Vector = Callable[[], NDArray[np.float32]]  # of one image, (1, embedding_dim)


@dataclass(frozen=True)
class Engine:
    """What changes speed, and no more than the rounding of a vector.

    precision : "float32", or "bfloat16" (products and wide maps; norms, the sum of each block and fusion stay float32,
        and so does attention, but for encoder 1's in our own program; by PyTorch the small maps as well)
    compile : on a CPU, whether our own program (`native`) computes: the one that came with the package for this kind of
        processor. None: if one did and the network fits it, else PyTorch. True: it must; where none came a C++ compiler
        makes one, which takes some seconds, once. False: PyTorch. Elsewhere True is PyTorch's compiler
    backend : "torch", or "onnx": ONNX Runtime, in float32, on a CPU
    """

    precision: str = "float32"
    compile: bool | None = None
    backend: str = "torch"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.compile is not None and not isinstance(self.compile, bool):
            raise ConfigError(f"compile={self.compile!r}: expected None, True or False")
        if self.backend not in BACKENDS:
            raise unknown("backend", self.backend, BACKENDS)
        if self.backend == "onnx" and (self.compile or self.precision != "float32"):
            raise ConfigError(
                'backend="onnx" computes in float32 and is not compiled: leave precision and compile alone'
            )

    @property
    def needs_copy(self) -> bool:
        """Whether only the fast copy of a network gives what is asked for, not the network as it is."""
        return bool(self.compile) or (self.precision, self.backend) != ("float32", "torch")

    def ready(self, device: torch.device) -> None:
        """Make what is asked for, if it takes long, or refuse now what is not to be had (ConfigError)."""
        if self.backend == "onnx":
            from .onnx_export import run_onnx  # noqa: F401
        elif self.compile:
            self.program(device)

    def program(self, device: torch.device) -> Program | None:
        """Our own program, where it shall compute.

        Raises
        ------
        ConfigError
            It must, none came with the package, and none can be compiled.
        """
        if device.type != "cpu" or self.backend != "torch" or self.compile is False:
            return None
        from .program import compiled_program, shipped_program

        return shipped_program(self.precision) or (compiled_program() if self.compile else None)


def engine_facts(network: nn.Module, device: torch.device | None = None) -> dict[str, Any]:
    """A network's engine, and in `program` what computes in PyTorch's place and so decides the last digits.

    `compile` is then whether anything compiled computes, however that was asked for.

    device : where the network will be, if that is elsewhere
    """
    engine: Engine = getattr(network, "engine", Engine())
    program = None
    if engine.backend == "onnx":
        from .onnx_export import VERSION

        program = f"onnxruntime {VERSION}"
    elif (
        isinstance(network, Network)
        and (found := _own_program(engine, network, device or network.image_norm.weight.device))
        and own_parts(network) is not None
        and mirrors(network)
    ):
        program = str(found)
    compiled = bool(engine.compile or (program and engine.backend == "torch"))
    return {**asdict(engine), "compile": compiled, "program": program}


def _own_program(engine: Engine, network: Network, device: torch.device) -> Program | None:
    """Our own program, where it shall compute and, unless it must, fits the network."""
    from .native import fits

    possible = engine.compile or fits(network.architecture)
    return engine.program(device) if possible else None


class MadeOf(NamedTuple):
    """What decides a fast copy beside the network's numbers."""

    engine: Engine
    config: Config
    threads: int  # the caller's
    kinds: list[type]  # of all modules


@dataclass(frozen=True, eq=False)
class FastCopy:
    """A network's fast copy, and what tells that the network has changed since.

    run : a function from bytes to vectors
    threads_for_one : how many threads shall compute one image alone; to be asked once for each
    made_of, witness : what the copy was made of, beside numbers; and the numbers
    begin : lets helpers begin with one image, (1, 224, 224[, 3]), whose vector is then to be called for; None where
        that is not possible
    """

    run: Run
    threads_for_one: Callable[[], int]
    made_of: MadeOf
    witness: Witness
    begin: Callable[[NDArray[np.uint8]], AbstractContextManager[Vector | None]] = lambda images: nullcontext()


_COPIES: WeakKeyDictionary[nn.Module, FastCopy] = WeakKeyDictionary()  # not in the module: it is no part of its state

_BUILDING = RLock()


def kept_copy(network: nn.Module) -> FastCopy | None:
    """The fast copy that was made last, if any, whatever has changed since."""
    return _COPIES.get(network)


def fast_copy(network: nn.Module) -> FastCopy | None:
    """The fast copy of a network as it is now; made anew where a weight, the engine or the threads have changed.

    None where the network is not `Network` as it stands in its file (other layers, an own forward, hooks): such a
    network is run as it is.
    """
    if not isinstance(network, Network):
        return None
    with _BUILDING:  # calls at once share one copy
        if kept := current_copy(network):
            return kept
        if (found := own_parts(network)) is None or not mirrors(network):
            return None
        witness = Witness(found[0])  # before the copy: later writes are seen next time
        kept = _COPIES[network] = build(network, _made_of(network, found[1]), witness)
        return kept


def current_copy(network: nn.Module) -> FastCopy | None:
    """The fast copy that was made last, if nothing has changed since; one that no longer holds is forgotten."""
    if not isinstance(network, Network):
        return None
    with _BUILDING:
        kept, found = _COPIES.get(network), own_parts(network)
        if kept and found and kept.made_of == _made_of(network, found[1]) and kept.witness.unchanged(found[0]):
            return kept
        _COPIES.pop(network, None)
        return None


def _made_of(network: Network, kinds: list[type]) -> MadeOf:
    return MadeOf(getattr(network, "engine", Engine()), network.config, callers_threads(), kinds)


def own_parts(network: nn.Module) -> tuple[list[Tensor], list[type]] | None:
    """Every parameter and buffer, and every module's type; None where a hook or an own forward changes what they do."""
    tensors: list[Tensor | None] = []
    modules: list[nn.Module | None] = [network]
    for module in modules:  # grows while it is walked
        if module is None:
            continue
        own = vars(module)
        if "_forward_hooks" not in own:  # a scripted module
            return None
        if own["_forward_hooks"] or own["_forward_pre_hooks"] or "forward" in own or "encode" in own:
            return None
        tensors.extend(own["_parameters"].values())
        tensors.extend(own["_buffers"].values())
        modules.extend(own["_modules"].values())
    return [tensor for tensor in tensors if tensor is not None], [type(module) for module in modules]


def mirrors(network: Network) -> bool:
    """Whether a network is made of the modules of its file, of 32-bit numbers, for images of the usual size."""
    weight = network.image_norm.weight
    return (
        (type(network).forward, type(network).encode) == (Network.forward, Network.encode)
        and [(name, type(module)) for name, module in network.named_modules()][1:] == _modules(network.architecture)
        and weight.dtype == torch.float32
        and weight.shape[-1] == IMAGE_SIZE
    )


@lru_cache(maxsize=8)
def _modules(architecture: Architecture) -> list[tuple[str, type]]:
    return [(name, type(module)) for name, module in outline(architecture).named_modules()][1:]


def build(network: Network, made_of: MadeOf, witness: Witness) -> FastCopy:
    """The fast copy that an engine wants."""
    engine, device = made_of.engine, network.image_norm.weight.device
    if engine.backend == "onnx":
        from .onnx_export import kept_onnx, run_onnx

        if device.type != "cpu":
            raise ConfigError(f'backend="onnx" runs on the CPU, and the model is on {device}: move it with .to("cpu")')
        return FastCopy(run_onnx(kept_onnx(network)), lambda: 1, made_of, witness)
    if program := _own_program(engine, network, device):
        return native_copy(network, made_of, witness, program)
    with threads(1):  # hundreds of small tensors
        fast = FastNetwork(network, getattr(torch, engine.precision)).eval()
    function: Callable[[Tensor], Tensor] = torch.compile(fast) if engine.compile else fast
    if device.type == "cpu":
        function = Recorded(fast)

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with exactly(device):
            return function(torch.tensor(images).to(device)).cpu().numpy()

    return FastCopy(run, tried_later(run) if device.type == "cpu" else lambda: 1, made_of, witness)


def native_copy(network: Network, made_of: MadeOf, witness: Witness, program: Program) -> FastCopy:
    """Our own program as a fast copy: the number of threads changes no byte."""
    from .native import NativeImage, NativeNetwork

    with threads(1):  # hundreds of small tensors
        native = NativeNetwork(network, made_of.engine.precision, program.library)

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.stack([native(image, torch.get_num_threads()) for image in images])

    @contextmanager
    def begin(images: NDArray[np.uint8]) -> Iterator[Vector]:
        with closing(NativeImage(native, images[0], callers_threads())) as image:
            yield lambda: image()[None]

    return FastCopy(run, callers_threads, made_of, witness, begin)


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """No gradients, no autocast of the caller's, and on CUDA no TF32 in float32 convolutions."""
    cudnn = torch.backends.cudnn
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            kept = cudnn.enabled, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic
            stack.enter_context(cudnn.flags(*kept, allow_tf32=False))
        yield
