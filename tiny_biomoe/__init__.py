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
from .images.rendering import contact_sheet, render
from .images.representations import REPRESENTATIONS
from .signals.filters import MODALITIES
from .version import __version__

if TYPE_CHECKING:
    from .batch.load_embeddings import load_embeddings
    from .batch.run import embed_study
    from .embedding import WindowEmbeddings, embed
    from .model import TinyBioMoE

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


_MODULES = {
    "TinyBioMoE": ".model",
    "WindowEmbeddings": ".embedding",
    "embed": ".embedding",
    "embed_study": ".batch",
    "load_embeddings": ".batch",
}


def __getattr__(name: str) -> Any:  # `TinyBioMoE` needs torch and files need pyarrow: imported when used
    if name in _MODULES:
        return getattr(import_module(_MODULES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
