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

from tiny_biomoe import ConfigError, SignalWarning, load_embeddings
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


def test_rows_stand_beside_the_embeddings_in_columns_of_their_own(folder, loaded, tmp_path):
    out = tmp_path / "out"
    embed_study(folder.parent / "study", out, ["waveform", "psd"], readout="rows", model=Stub, window=10)
    ids, matrix, table = load_embeddings(out)
    assert (ids, matrix.tobytes(), table) == (loaded[0], loaded[1].tobytes(), loaded[2])
    same, rows, facts = load_embeddings(out, readout="rows")
    assert (same, rows.shape, facts) == (ids, (23, 2112), table)
    np.testing.assert_array_equal(rows[:, :192], matrix[:, :192] + 1)
    np.testing.assert_array_equal(rows[:, -96:], matrix[:, 192:288] + 2)
    np.testing.assert_array_equal(load_embeddings(out, "psd", readout="rows")[1], rows[:, 1056:])
    schema = parquet.read_schema(next((out / "embeddings").iterdir()))
    assert schema.names[-4:] == ["waveform", "psd", "waveform_rows", "psd_rows"]
    assert {tuple(facts["readout"]) for facts in json.loads(schema.metadata[b"tiny_biomoe"]).values()} == {
        ("embedding", "rows")
    }
    with pytest.raises(ConfigError, match=r"holds no rows: .* \(--readout rows\)"):
        load_embeddings(folder, readout="rows")
    with pytest.raises(ConfigError, match="unknown readout 'row'"):
        load_embeddings(out, readout="row")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is not there: run the command"),
        (shutil.rmtree, "there is no such folder"),
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


@pytest.mark.parametrize("representation", [[], ["waveform", "waveform"]])
def test_representations_are_named_once_each(folder, representation):
    with pytest.raises(ConfigError, match="once at most"):
        load_embeddings(folder, representation)


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


def test_any_column_filters(folder, loaded, tmp_path):
    ids = load_embeddings(folder, source=["S01/EDA.csv", "S02/BVP.csv"])[0]
    assert ids == [each for each in loaded[0] if each.startswith(("S01/EDA", "S02/BVP"))]
    assert len(load_embeddings(folder, fs=4, start=[0, 10])[0]) == 4
    assert load_embeddings(folder, modality="gsr", subject=None)[0] == load_embeddings(folder, modality="eda")[0]
    assert len(load_embeddings(folder, subject=[None])[0]) == 23
    with pytest.warns(SignalWarning, match="no window of .* has label='stress': without that"):
        ids, matrix, table = load_embeddings(folder, label="stress")
    assert (ids, matrix.shape, len(table)) == ([], (0, 384), 0)
    with pytest.raises(ConfigError, match="unknown column 'lable': .*did you mean 'label'"):
        load_embeddings(folder, lable="stress")
    with pytest.raises(ConfigError, match="unknown column 'psd'"):
        load_embeddings(folder, psd=1)
    with pytest.raises(ConfigError, match="fs='fast': the column holds double"):
        load_embeddings(folder, fs="fast")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another study, with a column of its own, by the same weights; one representation alone."""
    place = tmp_path_factory.mktemp("other")
    study = make_study(place / "study")
    (study / "study.csv").write_text("path,label,room\nS01/EDA.csv,calm,A\n")
    embed_study(study / "study.csv", place / "out", "psd", model=Stub, window=10, stride=5)
    return place / "out"


def test_several_folders(folder, other, loaded):
    ids, matrix, table = load_embeddings([folder, other], "psd", modality="eda")
    assert (len(ids), matrix.shape) == (11 + 11, (22, 192))
    assert table["folder"].to_pylist() == [str(folder)] * 11 + [str(other)] * 11
    assert table["room"].to_pylist() == [None] * 11 + ["A"] * 11
    assert sorted(json.loads(table.schema.metadata[b"tiny_biomoe"])) == [
        "bvp 64 Hz", "eda 4 Hz", f"eda 4 Hz in {other}"
    ]  # whose strides differ  # fmt: skip
    with pytest.raises(ConfigError, match="holds psd, no waveform: name those that all folders hold"):
        load_embeddings([folder, other])
    with pytest.raises(ConfigError, match="name each folder of embeddings once"):
        load_embeddings([folder, folder])


def test_folders_that_do_not_mix_are_refused(folder, tmp_path):
    study = make_study(tmp_path / "study")
    embed_study(study, tmp_path / "out", ["waveform", "psd"], model=Stub("other"), window=20, scale="recording")
    with pytest.raises(
        ConfigError,
        match=r"may not be mixed: weights: stub \(stub\) and other \(other\); scale: window and recording; window: 10",
    ):
        load_embeddings([folder, tmp_path / "out"])


def test_a_run_that_gave_no_vector_says_so(tmp_path):
    study = make_study(tmp_path / "study")
    embed_study(study, tmp_path / "out", model=Stub, window=600)
    with pytest.raises(ConfigError, match=r"holds no vector: of 6 inputs none could be embedded; .*failures\.parquet"):
        load_embeddings(tmp_path / "out")


def test_the_provenance_of_all_parts_is_in_the_manifest_and_the_table(folder, loaded):
    manifest = unsealed((folder / "manifest.json").read_bytes())
    assert set(manifest["provenance"]) == {"bvp 64 Hz", "eda 4 Hz"}
    assert json.loads(loaded[2].schema.metadata[b"tiny_biomoe"]) == manifest["provenance"]
    assert manifest["provenance"]["eda 4 Hz"]["tensors_sha256"] == "stub"


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


def test_duckdb_compares_vectors_by_the_cast_that_the_docs_show(folder, loaded):
    ((found,),) = duckdb.sql(
        "select array_cosine_similarity(a.psd::FLOAT[192], b.psd::FLOAT[192]) from "
        f"read_parquet('{folder}/embeddings/*.parquet') a, read_parquet('{folder}/embeddings/*.parquet') b "
        f"where a.id = '{loaded[0][0]}' and b.id = '{loaded[0][1]}'"
    ).fetchall()
    first, second = loaded[1][:2, 192:].astype(np.float64)
    assert found == pytest.approx(first @ second / np.linalg.norm(first) / np.linalg.norm(second), abs=1e-6)


def test_a_folder_as_a_whole_is_read_or_says_which_to_give(folder, loaded, tmp_path):
    found = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path))
    assert sorted(found["id"][:]) == sorted(loaded[0])
    with pytest.raises(Exception, match=r"README\.md|manifest\.json"):
        pandas.read_parquet(folder)
    assert "folder `embeddings`" in (folder / "README.md").read_text()


def test_datasets_reads_it(folder, loaded, tmp_path):
    files = sorted(map(str, (folder / "embeddings").glob("*.parquet")))
    found = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    assert found["id"][:] == loaded[0]
    np.testing.assert_array_equal(np.array(found.with_format("numpy")["waveform"][:]), loaded[1][:, :192])


def test_the_function_is_what_the_package_gives_whatever_was_imported_before():
    script = "import tiny_biomoe.batch.loading, tiny_biomoe; print(callable(tiny_biomoe.load_embeddings))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
