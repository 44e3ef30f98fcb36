"""A folder of embeddings -> ids, vectors and facts in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, need
from ..sealed_files import read_sealed, sha256_of
from ..signals.filters import modality_name
from ..signals.request import representation_name
from .parts import FORMAT, MANIFEST, NAME, NAME_1, READ, SHARDS

need("pyarrow", extra="batch", what="embedding folders")

import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
from pyarrow import parquet  # noqa: E402


def load_embeddings(
    folder: str | os.PathLike[str], representation: str | Sequence[str] | None = None, *, modality: str | None = None
) -> tuple[list[str], NDArray[np.float32], pa.Table]:
    """Read what `embed_study` wrote, each shard verified by its sha256.

    Parameters
    ----------
    representation
        One or several of those in the folder; all of them otherwise.
    modality
        Leave out the windows of any other.

    Returns
    -------
    ids : (n,) path#channel@start of each window
    matrix : (n, n_representations * 192) float32, the representations side by side
    table : the other columns, n rows

    Raises
    ------
    ConfigError
        Not such a folder, a run that is not complete, or a damaged file: which, and what to do.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    held = manifest["fingerprint"]["arguments"]["representations"]
    wanted = held if representation is None else [representation] if isinstance(representation, str) else representation
    names = [representation_name(name) for name in wanted]
    if missing := [name for name in names if name not in held]:
        raise ConfigError(f"{str(folder)!r} holds {', '.join(held)}, no {missing[0]}: embed the study again for it")
    drop = [name for name in held if name not in names]
    tables = [_shard(folder, each, drop, modality) for each in manifest["shards"]]
    table = pa.concat_tables([each.replace_schema_metadata(None) for each in tables])
    parts = [_vectors(table, name) for name in names]
    return table["id"].to_pylist(), np.concatenate(parts, axis=1), table.drop_columns(["id", *names])


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `manifest.json` of a complete run holds.

    Raises
    ------
    ConfigError
        Not such a folder, or a run that is not complete: what to do.
    """
    manifest = read_sealed(folder / MANIFEST)
    if manifest is None:
        state = "is damaged" if (folder / MANIFEST).exists() else "is not there"
        raise ConfigError(f"{str(folder)!r}: {MANIFEST} {state}: run the command that made the folder, to its end")
    if manifest.get("format") not in READ:
        raise ConfigError(f"{str(folder)!r}: format {manifest.get('format')!r}, expected {FORMAT!r}")
    return manifest


def verified_shard(folder: Path, facts: dict[str, Any]) -> Path:
    """Where a shard that the manifest names lies, once its sha256 is found right.

    Raises
    ------
    ConfigError
        It is damaged, gone, or no shard by its name: what to do.
    """
    name = str(facts["name"])
    if not (NAME.fullmatch(name) or NAME_1.fullmatch(name)):  # a stranger's manifest names no other file
        raise ConfigError(f"{str(folder / MANIFEST)!r} names {name[:80]!r}, which is no shard: the folder is refused")
    path = folder / SHARDS / name
    try:
        if sha256_of(path) != facts["sha256"]:
            raise ConfigError(f"{str(path)!r} is damaged: run the command that made the folder again, to mend it")
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be read ({error.strerror}): run the command again") from error
    return path


def _shard(folder: Path, facts: dict[str, Any], drop: list[str], modality: str | None) -> pa.Table:
    path = verified_shard(folder, facts)
    kept = [name for name in parquet.read_schema(path).names if name not in drop]
    table = parquet.read_table(path, columns=kept)
    return table if modality is None else table.filter(pc.equal(table["modality"], modality_name(modality)))


def _vectors(table: pa.Table, name: str) -> NDArray[np.float32]:
    width = table.schema.field(name).type.list_size
    parts = [chunk.flatten().to_numpy() for chunk in table[name].chunks]
    return np.concatenate(parts or [np.empty(0, np.float32)]).reshape(-1, width)
