"""Embeddings as files: each kind gives back what went in, whole or not at all."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow.parquet as parquet
import pytest

from tiny_biomoe import ConfigError
from tiny_biomoe.cli.output_files import WRITERS, Table, check_output, neutral


@pytest.fixture
def table() -> Table:
    vectors = np.random.default_rng(0).standard_normal((2, 192)).astype(np.float32)
    return Table(
        ["a.csv", "=cmd()"], ["ECG", "ECG"], [0.0, 10.0], [10.0, 20.0], [250.0] * 2, ["ecg"] * 2,
        [0.0, 0.2], [0.0, 0.5], [0.0, 0.1], list(vectors), {"ecg 250 Hz": {"recipe": "1"}},
    )  # fmt: skip


def test_csv_round_trip_to_the_last_bit_and_row_105_formula_ids(table, tmp_path):
    path = tmp_path / "out.csv"
    WRITERS[check_output(path)](table, path)
    assert json.loads((tmp_path / "out.csv.json").read_text()) == table.provenance
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["source"] for row in rows] == ["a.csv", "'=cmd()"]
    vectors = np.array([[float(row[f"e{i}"]) for i in range(192)] for row in rows], np.float32)
    assert vectors.tobytes() == np.array(table.embeddings).tobytes()
    assert [float(row["stop"]) for row in rows] == [10.0, 20.0]


def test_rows_have_a_column_of_their_own_name(table, tmp_path):
    rows = Table(**{**vars(table), "embeddings": [np.arange(1056, dtype=np.float32)] * 2, "readout": "rows"})
    for ending in WRITERS:
        WRITERS[ending](rows, tmp_path / f"out{ending}")
    assert (
        (tmp_path / "out.csv")
        .read_text()
        .splitlines()[0]
        .endswith(",clipped," + ",".join(f"r{i}" for i in range(1056)))
    )
    with np.load(tmp_path / "out.npz") as read:
        assert (read["rows"].shape, "embedding" in read) == ((2, 1056), False)
    assert parquet.read_table(tmp_path / "out.parquet").column_names[-1] == "rows"


def test_row_105_numbers_and_nothing_are_left_alone():
    for text in ("", "-1", "+1", "-0.5", "S01", "a=b"):
        assert neutral(text) == text
    for text in ("=1", "+cmd", "-1+2", "@SUM(1)", "\t1", "-"):
        assert neutral(text) == "'" + text


def test_npz_round_trip(table, tmp_path):
    path = tmp_path / "out.npz"
    WRITERS[check_output(path)](table, path)
    with np.load(path) as read:
        assert read["embedding"].tobytes() == np.array(table.embeddings).tobytes()
        assert read["source"].tolist() == table.sources
        assert json.loads(str(read["provenance"])) == table.provenance


def test_parquet_round_trip_with_provenance_in_its_schema(table, tmp_path):
    path = tmp_path / "out.parquet"
    WRITERS[check_output(path)](table, path)
    read = parquet.read_table(path)
    vectors = np.stack(read["embedding"].to_numpy())
    assert vectors.dtype == np.float32
    assert vectors.tobytes() == np.array(table.embeddings).tobytes()
    assert read["source"].to_pylist() == table.sources
    assert json.loads(read.schema.metadata[b"tiny_biomoe"]) == table.provenance
    assert str(read.schema.field("embedding").type) == "fixed_size_list<element: float>[192]"


@pytest.mark.parametrize(("name", "message"), [("out.xlsx", "ends in one of"), ("no/such/out.csv", "does not exist")])
def test_row_78_an_output_that_cannot_be_written_is_refused_first(tmp_path, name, message):
    with pytest.raises(ConfigError, match=message):
        check_output(tmp_path / name)


def test_a_failed_write_leaves_the_old_file(table, tmp_path, monkeypatch):
    path = tmp_path / "out.npz"
    WRITERS[check_output(path)](table, path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tiny_biomoe.cli.output_files.os.replace", full)
    with pytest.raises(ConfigError, match=r"No space left on device; \d+ bytes are needed"):
        WRITERS[check_output(path)](table, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["out.npz"]
