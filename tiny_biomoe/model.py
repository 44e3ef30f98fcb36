"""TinyBioMoE: the network as a PyTorch module and Hub model, with the main path's `embed`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelHubMixin
from numpy.typing import NDArray
from torch import nn

from .config import Architecture, Config, Recipe
from .embedding import Embedder, SignalEmbedding
from .errors import ConfigError
from .images.rendering import Levels
from .inference import many_images
from .inference.backends import Backend, check_backend, default_backend, make_backend
from .inference.torch_backend import TorchNetwork, check_device, is_plain, require_float32, usual_defaults
from .network.network import Network, Uninitialised
from .weights import loading

COMPILED = {True: "native", False: "torch", None: None}  # what the deprecated compile= stands for


class TinyBioMoE(SignalEmbedding, Network, ModelHubMixin, library_name="tiny-biomoe"):
    """The embedding model: a signal, or an image, to 192 numbers.

    As a module it maps pixels to embeddings, and gradients flow. `embed` freezes its weights, and anew after
    `load_state_dict`, `.to`, a training step or any other change that PyTorch counts; after writing through `.data`,
    which it does not count, call `refresh`.

    Parameters
    ----------
    architecture, recipe
        The network's and the images' numbers; the defaults are the paper's.
    name
        Of the weights, as provenance reports it.

    Attributes
    ----------
    precision, backend
        What `embed` computes with; see `from_pretrained`. Both may be changed.

    Examples
    --------
    >>> import pywt
    >>> model = TinyBioMoE.from_pretrained()
    >>> model.embed(pywt.data.ecg(), fs=360, modality="ecg").shape
    (192,)
    """

    def __init__(
        self, architecture: Architecture = Architecture(), recipe: Recipe = Recipe(), name: str = "untrained"
    ) -> None:
        super().__init__(Config(name, architecture, recipe))
        self.precision = "float32"
        self.backend: str | None = None
        self.source = "untrained"  # where the weights were loaded from
        self._loaded = ("", "")  # sha256 of the weights' file, and digest of the tensors it gave
        self._frozen: tuple[Any, Embedder] | None = None

    def frozen(self) -> Embedder:
        """What `embed` uses: the weights as they are now, on the device where they are; made anew if they changed."""
        state = self._state()
        if self._frozen is None or self._frozen[0] != state:
            self._frozen = state, self._freeze()
        return self._frozen[1]

    def refresh(self) -> None:
        """Freeze the weights anew at the next `embed`, after a change that PyTorch does not count (through `.data`)."""
        self._frozen = None

    def _state(self) -> tuple[Any, ...]:
        """What decides a frozen copy, as far as PyTorch counts it."""
        tensors = [*self.parameters(), *self.buffers()]
        hooks = tuple(bool(part._forward_hooks or part._forward_pre_hooks) for part in self.modules())
        versions = tuple((id(t), t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
        return versions, hooks, self.precision, self.backend

    def _freeze(self) -> Embedder:
        check_backend(self.precision, self.backend)
        require_float32(self)
        digest = loading.tensor_digest(self.state_dict())
        unchanged = digest == self._loaded[1]
        backend = backend_of(self)
        source = self.source if unchanged else f"{self.source}, then changed"
        return Embedder(
            self.config, backend, source, self._loaded[0] if unchanged else None, digest,
            partial(loading.arrays, self.state_dict()),  # not `self`, which keeps the Embedder
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_frozen": None}  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        device: str | torch.device = "cpu",
        precision: str = "float32",
        backend: str | None = None,
        compile: bool | None = None,
    ) -> TinyBioMoE:
        """Load weights, verified, and return the model in eval mode.

        Parameters
        ----------
        pretrained_model_name_or_path
            None for the weights that come with the package (no network); a folder that `save_pretrained` wrote; the
            authors' `Tiny-BioMoE.pth`; or "owner/name" on the Hugging Face Hub.
        revision, token, cache_dir, force_download, local_files_only
            For the Hub: branch, tag or commit; access token; where files are kept; fetch again; never connect.
        device
            Where the model shall run.
        precision
            What `embed` computes with: "float32", or "bfloat16" (faster; vectors differ in the second digit).
        backend
            On a CPU: "native" (our own program, built at installation), "onnx" (ONNX Runtime) or "torch"; None for the
            first of them that this machine has. An accelerator runs PyTorch. Vectors differ by rounding, and provenance
            says what computed them.
        compile
            Deprecated: True for backend="native", False for backend="torch".

        Raises
        ------
        WeightsError
            Not found, damaged, unsafe, or of another architecture; the message says what to do.
        """
        if compile is not None:
            named = COMPILED[compile]
            warnings.warn(f"compile={compile} is deprecated: use backend={named!r}", DeprecationWarning, stacklevel=2)
            backend = backend or named
        check_backend(precision, backend)
        place = check_device(device)
        loaded = loading.load(
            pretrained_model_name_or_path, revision=revision, token=token, cache_dir=cache_dir,
            force_download=force_download, local_files_only=local_files_only,
        )  # fmt: skip
        own = cls is TinyBioMoE  # a subclass may have layers that no file holds, and weights that are tied
        with usual_defaults(), Uninitialised() if own else nullcontext():
            model = cls(loaded.config.architecture, loaded.config.recipe, loaded.config.name)
            tensors = {name: torch.from_numpy(tensor) for name, tensor in loaded.tensors.items()}
            model.load_state_dict(tensors, strict=False, assign=own)  # but for batch counters, all checked
        model.source, model.precision, model.backend = loaded.source, precision, backend
        model._loaded = (loaded.sha256, loading.tensor_digest(loaded.tensors))
        return model.eval().to(place)

    def _save_pretrained(self, save_directory: Path) -> None:
        loading.save(save_directory, self.state_dict(), self.config)


def backend_of(module: nn.Module) -> Backend:
    """What computes a module: a backend of its weights where it is the plain network on a CPU, else PyTorch, as it is.

    It is never exported by itself: a module may change, and what is saved and loaded again keeps its bytes.

    Raises
    ------
    ConfigError
        Another backend than PyTorch is asked for, and the module is not the plain network.
    """
    precision, backend = getattr(module, "precision", "float32"), getattr(module, "backend", None)
    if (
        is_plain(module)
        and isinstance(module, Network)
        and (backend or default_backend(module.config, precision, changes=True)) != "torch"
    ):
        return make_backend(loading.arrays(module.state_dict()), module.config, precision, backend)
    if backend not in (None, "torch"):
        raise ConfigError(
            f'backend="{backend}" cannot run this module, which has a hook, another layer, an own forward, or lies on '
            'an accelerator: leave backend out, or use "torch"'
        )
    network = TorchNetwork(module, precision)
    return Backend("torch", precision, network, batches=network.batches)


def embed_levels(
    module: nn.Module, images: Iterable[Levels], batch_size: int, rows: bool = False
) -> NDArray[np.float32]:
    """Run a module over images: `many_images.embed_levels` with its backend; a `TinyBioMoE` keeps its own."""
    backend = module.frozen().backend if isinstance(module, TinyBioMoE) else backend_of(module)
    return many_images.embed_levels(backend, images, batch_size, rows)
