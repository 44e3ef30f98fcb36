"""Tiny-BioMoE: embeddings of physiological signals.

>>> import pywt
>>> from tiny_biomoe import embed
>>> embed(pywt.data.ecg(), fs=360, modality="ecg").shape
(192,)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import Architecture, Config, ModalityRecipe, Recipe
from .errors import ConfigError, SignalError, SignalTypeError, SignalWarning, TinyBioMoEError, WeightsError
from .filters import MODALITIES
from .images import contact_sheet, render
from .representations import REPRESENTATIONS
from .version import __version__

if TYPE_CHECKING:
    from .batch import embed_study
    from .embedding import embed
    from .loading import load_embeddings
    from .model import TinyBioMoE
    from .runtime import WindowEmbeddings

__all__ = [
    "MODALITIES",
    "REPRESENTATIONS",
    "Architecture",
    "Config",
    "ConfigError",
    "ModalityRecipe",
    "Recipe",
    "SignalError",
    "SignalTypeError",
    "SignalWarning",
    "TinyBioMoE",
    "TinyBioMoEError",
    "WeightsError",
    "WindowEmbeddings",
    "__version__",
    "contact_sheet",
    "embed",
    "embed_study",
    "load_embeddings",
    "render",
]


_LATER = {
    "TinyBioMoE": ".model",
    "WindowEmbeddings": ".runtime",
    "embed": ".embedding",
    "embed_study": ".batch",
    "load_embeddings": ".loading",
}


def __getattr__(name: str) -> Any:  # the network's half brings torch with it and files bring pyarrow, so they come late
    if name in _LATER:
        return getattr(import_module(_LATER[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
