"""A table for Apple's Embedding Atlas: place, neighbours, picture and facts of each window.

The atlas is a program of its own, installed in an environment of its own: `embedding-atlas map.parquet --x x --y y
--neighbors neighbors`. It needs a browser with WebGPU.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from ..errors import ConfigError, counted
from .folder import EmbeddingFolder
from .pictures import draw_pictures
from .shown_windows import Sample, choose_rows, take_sample
from .templates import check_page

AT_ONCE = 20_000  # windows whose pictures are in memory together


def write_atlas(
    folder: str | os.PathLike[str] | EmbeddingFolder,
    output: str | os.PathLike[str],
    *,
    representation: str | None = None,
    modality: str | None = None,
    sample: int = 1_000_000,
    seed: int = 0,
    method: str = "auto",
    recordings: str | os.PathLike[str] | None = None,
    pictures: bool = True,
    workers: int | None = None,
) -> list[str]:
    """Write a folder of embeddings as one Parquet table for Embedding Atlas; arguments as in `write_map`.

    Columns: those of the folder, `x` and `y`, `neighbors` (struct of `ids`, numbers of rows, and `distances`, cosine)
    and `picture` (struct of `bytes`, a PNG, and `path`; null where the recording was not at hand).

    Returns
    -------
    list of str
        What a person should know, as `write_map` gives it.

    Raises
    ------
    ConfigError
        Not such a folder, damaged, or without the modality or representation; an output that cannot be written.
    """
    path, opened = check_page(output, ".parquet"), EmbeddingFolder.open(folder)
    rows = choose_rows(opened, sample, seed, modality)
    name = opened.representation(representation)
    found = take_sample(opened, rows, [name], seed=seed, method=method, neighbours=True)
    if taken := [name for name in ("x", "y", "neighbors", "picture") if name in opened.columns]:
        raise ConfigError(f"the study has a column {taken[0]!r}, which the atlas needs for itself: rename it")
    table = _with_places(found)
    partial = path.with_name(f".{path.name}.partial")
    missing = 0
    try:
        with parquet.ParquetWriter(partial, _schema(table.schema)) as writer:
            for start in range(0, len(table), AT_ONCE):
                part = table.slice(start, AT_ONCE)
                cells = _pictures(found, part, recordings, workers) if pictures else [None] * len(part)
                missing += cells.count(None)
                column = pa.array(cells, writer.schema.field("picture").type)
                writer.write_table(part.append_column("picture", column))
        os.replace(partial, path)
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be written ({error.strerror}): choose another output") from error
    finally:
        Path(partial).unlink(missing_ok=True)
    return [*found.remarks, *([f"{counted(missing, 'window')} without a picture."] if missing else [])]


def _schema(schema: pa.Schema) -> pa.Schema:
    return schema.append(pa.field("picture", pa.struct([("bytes", pa.binary()), ("path", pa.string())])))


def _with_places(sample: Sample) -> pa.Table:
    (projection,) = sample.projections
    nearest = zip(projection.neighbours.tolist(), projection.distances.tolist(), strict=True)
    kind = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])
    cells = pa.array([{"ids": ids, "distances": distances} for ids, distances in nearest], kind)
    table = sample.facts.append_column("x", pa.array(projection.points[:, 0]))
    return table.append_column("y", pa.array(projection.points[:, 1])).append_column("neighbors", cells)


def _pictures(
    sample: Sample, part: pa.Table, recordings: str | os.PathLike[str] | None, workers: int | None
) -> list[dict[str, bytes | str] | None]:
    """A picture a row, or None."""
    cells: list[dict[str, bytes | str] | None] = [None] * len(part)
    ids, sources = part["id"].to_pylist(), part["source"].to_pylist()
    for each in draw_pictures(
        sample.folder, ids, sources, sample.representations, recordings=recordings, workers=workers
    ):
        if each.reason is None:
            cells[each.number] = {"bytes": each.images[0], "path": f"{each.number}.png"}
    return cells
