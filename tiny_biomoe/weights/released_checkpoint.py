"""The authors' checkpoint, `Tiny-BioMoE.pth`: a pickle in a zip, of which nothing is run, every shape checked.

It is read from bytes in memory, so that what was hashed and checked is what is parsed. Reading it needs torch.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import warnings
import zipfile
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from ..errors import WeightsError, listed
from .released_names import released_names
from .shapes import position_offsets
from .tensor_files import MAX_DIRECTORY, DamagedError, Shapes, Tensors, compare, quote, require_finite

SAFE_TORCH = "2.10"  # with earlier releases, torch.load(weights_only=True) can be made to run code
STATE_KEY = "model_state_dict"
COUNTER, TABLE = "num_batches_tracked", "attention_bias_idxs"  # released entries that are integers and have no use here
MALFORMED = (  # what a pickle that is not one of tensors can make torch's reader raise
    pickle.UnpicklingError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    struct.error,
)


def read_pth(data: bytes, shapes: Shapes, where: str) -> Tensors:
    """The network's tensors out of the authors' checkpoint, under our names.

    Parameters
    ----------
    data : the whole file, as `torch.save` of torch 1.6 or later writes it
    shapes : our names with their shapes
    where : the file, for messages

    Returns
    -------
    dict
        Our names to float32 arrays that share no memory with the file.

    Warns
    -----
    UserWarning
        The file holds more than the network, such as the state of an optimizer: that is left alone.

    Raises
    ------
    DamagedError
        Not a whole archive.
    WeightsError
        Torch is too old to read such files safely; the archive or its pickle could do harm; or the tensors are not
        those of the released network.
    """
    if TorchVersion(torch.__version__) < SAFE_TORCH:
        raise WeightsError(
            f"{where}: torch {torch.__version__} cannot read .pth files safely; install torch>={SAFE_TORCH}, "
            "or use weights in the safetensors format"
        )
    _check_archive(data, where)
    try:
        loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True, mmap=False)
    except MALFORMED as error:  # its text is left out of ours: it may advise to load without these precautions
        raise WeightsError(
            f"{where}: not a sound checkpoint of tensors alone ({type(error).__name__}); nothing was run. "
            "Use the file the authors released"
        ) from error
    return _under_our_names(_state(loaded, where), shapes, where)


def _check_archive(data: bytes, where: str) -> None:
    """Refuse what `torch.save` does not write: a legacy pickle, compression, odd names, a pickle of other things."""
    if not data.startswith(b"PK\x03\x04"):
        raise WeightsError(
            f"{where}: not a zip archive, so a legacy pickle or no checkpoint at all, and it is not opened; "
            "use the file the authors released"
        )
    if data[-22:-18] != b"PK\x05\x06":  # the end record; torch.save writes no comment behind it
        raise DamagedError(f"{where}: the archive is cut off, or has something behind its end; fetch it again")
    sizes = [data[-10:-6], data[-58:-50] if data[-98:-94] == b"PK\x06\x06" else b""]  # as the end records state them
    if max(int.from_bytes(size, "little") for size in sizes) > MAX_DIRECTORY:
        raise WeightsError(f"{where}: the archive's directory exceeds {MAX_DIRECTORY} bytes; it is not opened")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            pickled = _check_entries(archive.infolist(), len(data), where)
            if damaged := archive.testzip():  # torch does not compare
                raise DamagedError(f"{where}: {quote(damaged)} is not what its checksum says; fetch it again")
            _check_pickle(archive.read(pickled), where)
    except WeightsError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, ValueError, LookupError, EOFError, struct.error) as error:
        raise DamagedError(f"{where}: the archive is not sound ({error}); fetch it again") from error


def _check_entries(entries: list[zipfile.ZipInfo], size: int, where: str) -> str:
    """Name of the pickle in an archive whose every entry is as `torch.save` writes it."""
    names = [entry.filename.replace("\\", "/") for entry in entries]
    total = sum(entry.file_size for entry in entries)
    pickled = next((entry for entry in entries if entry.filename.endswith("/data.pkl")), None)
    refusals = {
        "compressed entries": any(entry.compress_type != zipfile.ZIP_STORED for entry in entries),
        "encrypted entries": any(entry.flag_bits & 1 for entry in entries),
        "an absolute name": any(name.startswith("/") for name in names),
        "a name with '..'": any(".." in name.split("/") for name in names),
        "a name that appears twice": len({name.lower() for name in names}) < len(names),  # torch ignores case
        "more than one folder": len({name.split("/")[0] for name in names}) > 1,
        f"entries of {total} bytes in a file of {size}": total > size,
        "no data.pkl, so no checkpoint": pickled is None,
        f"a data.pkl of more than {MAX_DIRECTORY} bytes": pickled is not None and pickled.file_size > MAX_DIRECTORY,
    }
    found = [reason for reason, holds in refusals.items() if holds]
    if pickled is None or found:
        raise WeightsError(f"{where}: the archive has {'; '.join(found)}. It is not opened; use the authors' file")
    return pickled.filename


def _check_pickle(pickled: bytes, where: str) -> None:
    """Refuse a pickle that names anything but torch's and collections' own, of which torch allows a few in turn.

    Torch alone would let through `bytearray(n)`, which fills any memory.
    """
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL" and str(argument).split(" ")[0].split(".")[0] not in ("torch", "collections"):
            asked = quote(str(argument).replace(" ", "."))
            raise WeightsError(
                f"{where}: it asks for {asked}, which no tensor needs; nothing was run: use the authors' file"
            )


def _state(loaded: Any, where: str) -> dict[str, Tensor]:
    """The network's state dict in what a checkpoint holds."""
    state = loaded
    if isinstance(loaded, dict) and STATE_KEY in loaded:
        state = loaded[STATE_KEY]
        if ignored := [quote(key) for key in loaded if key != STATE_KEY]:
            warnings.warn(f"{where}: only {STATE_KEY!r} is used; ignored: {listed(ignored, 10, ', ...')}", stacklevel=2)
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise WeightsError(f"{where}: holds neither {STATE_KEY!r} nor named tensors; use the file the authors released")
    return state


def _under_our_names(state: dict[str, Tensor], shapes: Shapes, where: str) -> Tensors:
    """The released tensors we have a use for, after every entry was checked."""
    for name, tensor in state.items():
        if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout != torch.strided or tensor.is_meta:
            raise WeightsError(f"{where}: {quote(name)} is not a plain tensor; use the file the authors released")
    layout = released_layout(shapes)
    compare({name: tuple(tensor.shape) for name, tensor in state.items()}, layout, where)
    for name, tensor in state.items():
        expected = torch.int64 if name.endswith((COUNTER, TABLE)) else torch.float32
        if tensor.dtype != expected:
            raise WeightsError(f"{where}: {name} is {tensor.dtype}, expected {expected}; use the authors' file")
        if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():  # a stride of 0
            raise WeightsError(f"{where}: {name} claims {tensor.numel()} values and holds fewer; use the authors' file")
        if name.endswith(TABLE) and not np.array_equal(tensor.numpy(), position_offsets(math.isqrt(len(tensor)))):
            raise WeightsError(f"{where}: {name} orders the position biases in another way: it is another network")
    ours = {name: state[released].detach() for name, released in released_names(shapes).items()}
    return {name: require_finite(tensor.numpy().copy(order="C"), name, where) for name, tensor in ours.items()}


def released_layout(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Every entry of the released checkpoint with its shape, from our names and shapes.

    Two kinds have no counterpart here: the counter of each BatchNorm, and the index table of each attention.
    """
    layout = {released: tuple(shapes[name]) for name, released in released_names(shapes).items()}
    for name, shape in list(layout.items()):
        if name.endswith("running_mean"):
            layout[name.replace("running_mean", COUNTER)] = ()
        if name.endswith("attention_biases"):  # (heads, tokens of a window)
            layout[name.replace("attention_biases", TABLE)] = (shape[1], shape[1])
    return layout
