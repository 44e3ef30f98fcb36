"""`load_embeddings`: folders of embeddings -> ids, vectors and facts in memory, as arrays or tables."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, counted, need, unknown, warn
from ..sealed_files import plain_json, read_sealed, sha256_of
from ..signals.request import READOUTS, check_readout, column_of, representation_name
from .compatibility import check_mixable
from .own_columns import wanted
from .shards import FAILURES, FORMAT, MANIFEST, METADATA, NAME, NAME_1, READ, SHARDS

need("pyarrow", extra="batch", what="embedding folders")

import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
from pyarrow import parquet  # noqa: E402


def load_embeddings(
    folder: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    representation: str | Sequence[str] | None = None,
    *,
    readout: str = "embedding",
    **where: Any,
) -> tuple[list[str], NDArray[np.float32], pa.Table]:
    """Read what `embed_study` wrote, each shard verified by its sha256.

    Parameters
    ----------
    folder
        One, or several whose vectors may be mixed; the table then has a column `folder`.
    representation
        One or several of those in the folders; all of them otherwise.
    readout
        "rows" for the 1056 numbers of runs that were asked for them.
    where
        Columns, each with the value or the list of values that is wanted: modality="eda", subject=["S01", "S02"],
        label="stress", or any column of your own; [None] where the cell is empty.

    Returns
    -------
    ids : (n,) path#channel@start of each window
    matrix : (n, n_representations * 192) float32, or * 1056 of rows; the representations side by side
    table : the other columns, n rows; `table.schema.metadata[b"tiny_biomoe"]` is the provenance of all of them as JSON

    Raises
    ------
    ConfigError
        No such folder, a run that is not complete or gave no vector, or a damaged file: which, and what to do.
        Folders whose vectors do not belong together: in what they differ. A column that there is not.
    """
    check_readout(readout)
    folders = [Path(folder)] if isinstance(folder, str | os.PathLike) else [Path(each) for each in folder]
    if not folders or len({os.path.realpath(each) for each in folders}) < len(folders):
        raise ConfigError(f"folder={list(map(str, folders))!r}: name each folder of embeddings once")
    manifests = [read_manifest(each) for each in folders]
    held = manifests[0]["fingerprint"]["arguments"]["representations"]
    asked = held if representation is None else [representation] if isinstance(representation, str) else representation
    names = [representation_name(name) for name in asked]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"representation={representation!r}: name each of {', '.join(held)} once at most")
    if missing := [name for name in names if name not in held]:
        raise ConfigError(f"{str(folders[0])!r} holds {', '.join(held)}, no {missing[0]}: embed the study again for it")
    check_mixable([(str(place), each) for place, each in zip(folders, manifests, strict=True)], names)
    columns = [column_of(name, readout) for name in names]
    for place, each in zip(folders, manifests, strict=True):
        if readout not in readouts_of(each):
            raise ConfigError(
                f'{str(place)!r} holds no rows: embed the study again with readout="rows" (--readout rows)'
            )
    places = list(zip(folders, manifests, strict=True))
    for place, manifest in places:
        _check_filled(place, manifest)
    types = _common_types(places) if len(places) > 1 else {}
    tables = [_folder(*pair, columns, where, types) for pair in places]
    if len(folders) > 1:
        if taken := [place for place, each in zip(folders, tables, strict=True) if "folder" in each.column_names]:
            raise ConfigError(
                f"{str(taken[0])!r} has a column 'folder' of its own, and so has a table of several folders: load each "
                "by itself, or embed the study again with that column renamed"
            )
        tables = [
            each.append_column("folder", pa.array([str(place)] * len(each), pa.string()))
            for place, each in zip(folders, tables, strict=True)
        ]
    table = pa.concat_tables(tables, promote_options="default")
    if not len(table):
        asked_for = ", ".join(f"{name}={value!r}" for name, value in where.items())
        warn(
            f"no window of {', '.join(map(str, folders))} has {asked_for}: without that, the table shows what there is"
        )
    about = provenance_of(
        dict(zip(map(str, folders), (_provenance(*e) for e in zip(folders, manifests, strict=True)), strict=True))
    )
    matrix = np.concatenate([_vectors(table, name) for name in columns], axis=1)
    facts = table.drop_columns(["id", *columns]).replace_schema_metadata({METADATA: plain_json(about)})
    return table["id"].to_pylist(), matrix, facts


def _common_types(places: Sequence[tuple[Path, Mapping[str, Any]]]) -> dict[str, pa.DataType]:
    """The types of columns that differ between folders: of whole and other numbers the latter, otherwise text."""
    found: dict[str, dict[pa.DataType, list[int]]] = {}
    for number, (folder, manifest) in enumerate(places):
        for field in parquet.read_schema(verified_shard(folder, manifest["shards"][0])):
            if pa.types.is_fixed_size_list(field.type):
                continue
            found.setdefault(field.name, {}).setdefault(field.type, []).append(number)
    common: dict[str, pa.DataType] = {}
    for name, kinds in found.items():
        if len(kinds) > 1:
            if pa.string() in kinds and all(_is_empty(*places[number], name) for number in kinds[pa.string()]):
                del kinds[pa.string()]
            numbers = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds)
            (common[name],) = kinds if len(kinds) == 1 else [pa.float64() if numbers else pa.string()]
    return common


def _is_empty(folder: Path, manifest: Mapping[str, Any], name: str) -> bool:
    """Whether no cell of a column is filled."""
    shards = (verified_shard(folder, each) for each in manifest["shards"])
    return all(
        column.null_count == len(column) for each in shards for column in parquet.read_table(each, columns=[name])
    )


def _cast(table: pa.Table, types: Mapping[str, pa.DataType], folder: Path) -> pa.Table:
    """The table, with columns of some types."""
    fields = [each.with_type(types.get(each.name, each.type)) for each in table.schema]
    try:
        return table.cast(pa.schema(fields)) if types else table
    except pa.ArrowInvalid as error:
        raise ConfigError(
            f"a column of {str(folder)!r} has no value of the type that it has in the other folders ({error}): embed "
            "the study again with that column as text"
        ) from error


def provenance_of(folders: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The provenance of several folders together; what is not the same in all is named after its folder."""
    found: dict[str, Any] = {}
    for name, about in folders.items():
        for key, facts in about.items():
            found[key if found.get(key, facts) == facts else f"{key} in {name}"] = facts
    return found


def _provenance(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Of each modality and rate in a folder, such as "ecg 360 Hz"; folders of format 1 hold it in the shards alone."""
    if "provenance" in manifest:
        return dict(manifest["provenance"])
    shards = (parquet.read_schema(folder / SHARDS / each["name"]) for each in manifest["shards"])
    return {
        key: facts for each in shards for key, facts in json.loads((each.metadata or {}).get(METADATA, b"{}")).items()
    }


def readouts_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """What a folder has columns of, for each representation."""
    return READOUTS if manifest["fingerprint"]["arguments"].get("readout") == "rows" else READOUTS[:1]


def _check_filled(folder: Path, manifest: Mapping[str, Any]) -> None:
    if not sum(each["rows"] for each in manifest["shards"]):
        inputs = counted(manifest["summary"]["inputs"], "input")
        raise ConfigError(
            f"{str(folder)!r} holds no vector: of {inputs} none could be embedded; {str(folder / FAILURES)!r} says why"
        )


def _folder(
    folder: Path,
    manifest: Mapping[str, Any],
    columns: Sequence[str],
    where: Mapping[str, Any],
    types: Mapping[str, pa.DataType],
) -> pa.Table:
    """The rows of one folder that are wanted, with some columns of vectors, and others of some types."""
    names = manifest["fingerprint"]["arguments"]["representations"]
    held = [column_of(name, readout) for name in names for readout in readouts_of(manifest)]
    drop = [name for name in held if name not in columns]
    shards = [_shard(folder, each, drop, where, types) for each in manifest["shards"]]
    return pa.concat_tables([each.replace_schema_metadata(None) for each in shards])


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `manifest.json` of a complete run holds.

    Raises
    ------
    ConfigError
        Not such a folder, or a run that is not complete: what to do.
    """
    if not folder.is_dir():
        raise ConfigError(f"{str(folder)!r}: there is no such folder")
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


def _shard(
    folder: Path, facts: dict[str, Any], drop: list[str], where: Mapping[str, Any], types: Mapping[str, pa.DataType]
) -> pa.Table:
    path = verified_shard(folder, facts)
    kept = [name for name in parquet.read_schema(path).names if name not in drop]
    table = _cast(parquet.read_table(path, columns=kept), types, folder)
    for name, value in where.items():
        if value is None:
            continue
        vectors = pa.types.is_fixed_size_list(table.schema.field(name).type) if name in kept else False
        if name not in kept or vectors:
            columns = [each for each in kept if not pa.types.is_fixed_size_list(table.schema.field(each).type)]
            raise unknown("column", name, columns)
        table = table.filter(_is_one_of(table[name], name, value))
    return table


def _is_one_of(column: pa.ChunkedArray, name: str, value: Any) -> pa.ChunkedArray:
    """Where a column holds a value, or one of several."""
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]
    return pc.is_in(column, wanted(values, column.type, name))


def _vectors(table: pa.Table, name: str) -> NDArray[np.float32]:
    width = table.schema.field(name).type.list_size
    parts = [chunk.flatten().to_numpy() for chunk in table[name].chunks]
    return np.concatenate(parts or [np.empty(0, np.float32)]).reshape(-1, width)
