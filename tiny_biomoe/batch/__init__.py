"""Batches: a study of many recordings -> a folder of embeddings, which can be stopped at any moment and run again."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import load_embeddings
    from .run import embed_study
    from .study_making import study_rows

__all__ = ["embed_study", "load_embeddings", "study_rows"]

_MODULES = {"embed_study": ".run", "load_embeddings": ".loading", "study_rows": ".study_making"}


def __getattr__(name: str) -> Any:  # these need pyarrow, which reading one recording does not
    if name in _MODULES:
        return getattr(import_module(_MODULES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
