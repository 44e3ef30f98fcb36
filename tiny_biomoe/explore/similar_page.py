"""A query and its hits as one page with pictures, which any browser opens from the disk."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ..sealed_files import write
from .folder import EmbeddingFolder
from .pictures import draw_pictures, to_png
from .query import Query
from .templates import check_page, page

ENDINGS = (".html", ".htm")


def write_similar(
    query: Query,
    hits: pa.Table,
    folder: str | os.PathLike[str] | EmbeddingFolder,
    output: str | os.PathLike[str],
    *,
    recordings: str | os.PathLike[str] | None = None,
    remark: str = "",
) -> None:
    """Write what `search` found as HTML, the pictures within it.

    Parameters
    ----------
    query
        What `query_recording` made.
    hits
        What `search` gave for it.
    folder
        That was searched.
    recordings
        The folder that was embedded, where it has moved since.
    remark
        Something more to say, such as the recall of an index.

    Raises
    ------
    ConfigError
        The output does not end in .html or cannot be written.
    """
    path, opened = check_page(output, *ENDINGS), EmbeddingFolder.open(folder)
    ids, sources = hits["id"].to_pylist(), hits["source"].to_pylist()
    drawn = draw_pictures(opened, ids, sources, [query.representation], recordings=recordings)
    pictures = {each.number: each for each in drawn}
    shown = [
        {**_card(row), "picture": as_data(pictures[number].images), "reason": pictures[number].reason}
        for number, row in enumerate(hits.to_pylist())
    ]
    if query.levels is not None and query.trace is not None:
        own: Sequence[bytes] = [to_png(query.levels, query.trace)]
    elif query.sources:  # a window of the folder
        found = draw_pictures(opened, [query.name], list(query.sources), [query.representation], recordings=recordings)
        own = next(found).images
    else:
        own = []
    data = page(
        "similar.html", query=query, picture=as_data(own), hits=shown, title=opened.path.absolute().name,
        remark=remark, n=opened.n,
    )  # fmt: skip
    write(path, data, "")


def as_data(images: Sequence[bytes]) -> str | None:
    """The first of some PNG files as an address that holds it; None of none."""
    return f"data:image/png;base64,{base64.b64encode(images[0]).decode()}" if images else None


def _card(row: dict[str, Any]) -> dict[str, Any]:
    """What a person reads of a hit."""
    facts = [("time", f"{row['start']:g} to {row['stop']:g} s"), ("modality", row["modality"])]
    facts += [(name, row[name]) for name in ("subject", "label") if row[name] is not None]
    facts += [(name, f"{row[name]:.1%}") for name in ("missing", "flat", "clipped") if row[name] > 0]
    return {"id": row["id"], "similarity": f"{row['similarity']:.4f}", "facts": facts}
