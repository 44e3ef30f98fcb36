"""Looking at a study: windows like this one, a map of all of them, a report to send to a colleague. Offline.

>>> from tiny_biomoe import explore                                                            # doctest: +SKIP
>>> explore.search("S01/EDA.csv#EDA@120", "embeddings/", k=3).to_pandas()                      # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import need

need("pyarrow", "filelock", "bokeh", "jinja2", "matplotlib", extra="explore", what="exploring embeddings")

if TYPE_CHECKING:
    from .approximate_index import ApproximateIndex
    from .atlas import write_atlas
    from .folder import EmbeddingFolder
    from .map_page import write_map
    from .neighbours import SearchableWindows, search
    from .query import Query, query_recording
    from .report import write_report
    from .similar_page import write_similar

__all__ = [
    "ApproximateIndex",
    "EmbeddingFolder",
    "Query",
    "SearchableWindows",
    "query_recording",
    "search",
    "write_atlas",
    "write_map",
    "write_report",
    "write_similar",
]

_MODULES = {
    "ApproximateIndex": ".approximate_index",
    "EmbeddingFolder": ".folder",
    "Query": ".query",
    "SearchableWindows": ".neighbours",
    "query_recording": ".query",
    "search": ".neighbours",
    "write_atlas": ".atlas",
    "write_map": ".map_page",
    "write_report": ".report",
    "write_similar": ".similar_page",
}


def __getattr__(name: str) -> Any:  # searching loads neither bokeh nor matplotlib
    if name in _MODULES:
        return getattr(import_module(_MODULES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
