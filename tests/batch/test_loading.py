"""A folder of embeddings, read by this library and by others."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import datasets
import duckdb
import numpy as np
import pandas
import polars
import pyarrow.parquet as parquet
import pytest
from conftest import ROOT
from stub_study import Stub, make_study

from tiny_biomoe import ConfigError, load_embeddings
from tiny_biomoe.batch.run import embed_study
from tiny_biomoe.sealed_files import sealed, unsealed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("loading")
    embed_study(make_study(place / "study"), place / "out", ["waveform", "psd"], model=Stub, window=10, shard_windows=5)
    return place / "out"


@pytest.fixture(scope="module")
def loaded(folder):
    return load_embeddings(folder)


def test_ids_matrix_and_table(loaded):
    ids, matrix, table = loaded
    assert (len(ids), matrix.shape, matrix.dtype, len(table)) == (23, (23, 384), np.float32, 23)
    assert table.column_names[:3] == ["source", "channel", "modality"]
    assert not {"id", "waveform", "psd"} & set(table.column_names)


def test_a_choice_of_representations_and_modality(folder, loaded):
    ids, matrix, table = load_embeddings(folder, "spectrogram-psd", modality="gsr")
    assert len(ids) == 11
    assert set(table["modality"].to_pylist()) == {"eda"}
    rows = [loaded[0].index(each) for each in ids]
    np.testing.assert_array_equal(matrix, loaded[1][rows, 192:])
    both = load_embeddings(folder, ["psd", "waveform"])[1]
    np.testing.assert_array_equal(both, np.roll(loaded[1], 192, axis=1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is not there: run the command"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json is damaged"),
        (lambda folder: next((folder / "embeddings").iterdir()).write_bytes(b"PAR1"), "is damaged: run the command"),
        (lambda folder: next((folder / "embeddings").iterdir()).unlink(), "cannot be read"),
    ],
)
def test_what_is_not_whole_is_refused(folder, tmp_path, spoil, message):
    copy = shutil.copytree(folder, tmp_path / "copy")
    spoil(copy)
    with pytest.raises(ConfigError, match=message):
        load_embeddings(copy)


def test_a_representation_that_is_not_there(folder):
    with pytest.raises(ConfigError, match="holds waveform, psd, no angle"):
        load_embeddings(folder, "angle")


@pytest.mark.parametrize("name", ["/etc/passwd", "../shard-00000-00000.parquet", "shard-00000-00000.parquet/.."])
def test_row_101_a_manifest_names_shards_and_nothing_else(folder, tmp_path, name):
    manifest = unsealed((folder / "manifest.json").read_bytes())
    manifest["shards"][0]["name"] = name
    (tmp_path / "manifest.json").write_bytes(sealed(manifest))
    with pytest.raises(ConfigError, match="which is no shard: the folder is refused"):
        load_embeddings(tmp_path)


def test_provenance_is_in_every_shard(folder):
    kinds = set()
    for path in (folder / "embeddings").iterdir():
        kinds |= set(json.loads(parquet.read_schema(path).metadata[b"tiny_biomoe"]))
    assert kinds == {"bvp 64 Hz", "eda 4 Hz"}


def test_pandas_reads_it(folder, loaded):
    frame = pandas.read_parquet(folder / "embeddings").sort_values("id")
    order = np.argsort(loaded[0])
    np.testing.assert_array_equal(np.stack(frame["waveform"]), loaded[1][order, :192])
    assert len(pandas.read_parquet(folder / "failures.parquet")) == 3


def test_polars_reads_it(folder, loaded):
    frame = polars.read_parquet(folder / "embeddings" / "*.parquet").sort("id")
    order = np.argsort(loaded[0])
    np.testing.assert_array_equal(frame["psd"].to_numpy(), loaded[1][order, 192:])


def test_duckdb_reads_it(folder, loaded):
    rows = duckdb.sql(
        f"select id, psd from read_parquet('{folder}/embeddings/*.parquet') where modality = 'eda' order by id"
    ).fetchall()
    expected = {each: vector[192:] for each, vector in zip(*loaded[:2], strict=True) if "EDA" in each}
    assert [row[0] for row in rows] == sorted(expected)
    np.testing.assert_array_equal(np.array([row[1] for row in rows], np.float32), [expected[row[0]] for row in rows])


def test_datasets_reads_it(folder, loaded, tmp_path):
    files = sorted(map(str, (folder / "embeddings").glob("*.parquet")))
    found = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    assert found["id"][:] == loaded[0]
    np.testing.assert_array_equal(np.array(found.with_format("numpy")["waveform"][:]), loaded[1][:, :192])


def test_the_function_is_what_the_package_gives_whatever_was_imported_before():
    script = "import tiny_biomoe.batch.loading, tiny_biomoe; print(callable(tiny_biomoe.load_embeddings))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
