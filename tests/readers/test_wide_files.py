"""Many columns of one file: each as if it were read alone, in few passes."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from stub_study import Stub

from tiny_biomoe import ConfigError, SignalError
from tiny_biomoe.batch.run import embed_study
from tiny_biomoe.readers import csv_files
from tiny_biomoe.readers.read import read
from tiny_biomoe.readers.wide_files import read_each


@pytest.fixture
def passes(monkeypatch):
    """How many columns each pass over a table took; a pass that failed counts too."""
    counted: list[int] = []
    genuine = csv_files.pa_csv.read_csv

    def count(body, reading, parsing, converting):
        counted.append(len(converting.include_columns))
        return genuine(body, reading, parsing, converting)

    monkeypatch.setattr(csv_files.pa_csv, "read_csv", count)
    return counted


def one_by_one(path, wishes, **common):
    for wish in wishes:
        try:
            yield read(path, **{**common, **wish})
        except SignalError as error:
            yield error


def plain(result):
    """A result that can be compared, to the byte."""
    if isinstance(result, SignalError):
        return type(result), str(result)
    return [(each.signal.tobytes(), *astuple(each)[1:]) for each in result]


def wide(path, columns, rng):
    names = ",".join(f"trial {number}" for number in range(columns))
    rows = (",".join(f"{value:.6g}" for value in row) for row in rng.standard_normal((200, columns)))
    path.write_text("\n".join([names, *rows]) + "\n")
    return path


def test_a_wide_table_is_parsed_once_for_every_64_columns(tmp_path, rng, passes):
    path = wide(tmp_path / "wide.csv", 150, rng)
    wishes = [{"column": f"trial {number}"} for number in range(150)]
    found = list(read_each(path, wishes, fs=4, modality="eda"))
    assert passes == [64, 64, 22]
    assert list(map(plain, found)) == list(map(plain, one_by_one(path, wishes, fs=4, modality="eda")))


def test_columns_of_several_modalities_and_rates_are_one_pass(tmp_path, rng, passes):
    path = wide(tmp_path / "wide.csv", 4, rng)
    wishes = [
        {"column": str(n), "modality": m, "fs": fs} for n, m, fs in ((0, "eda", 4), (1, "ppg", 64), (1, "ecg", 64))
    ]
    first, second, third = read_each(path, wishes)
    assert passes == [2]
    assert [(each.modality, each.fs) for each in (*first, *second, *third)] == [("eda", 4), ("bvp", 64), ("ecg", 64)]
    assert second[0].signal.tobytes() == third[0].signal.tobytes()


TABLE = """time [s],good,late,text,padded,empty,odd
0.00,1,,1,1,,1
0.25,2,2,2,2,,2
0.50,3,3,x,3,,3
0.75,4,4,4,,,4
"""


@pytest.mark.parametrize(
    "columns", [("good", "late"), ("good", "1"), ("good", "text", "late"), ("good", "no", "padded")]
)
@pytest.mark.parametrize("times", [None, "", "odd"])
def test_no_column_fails_or_changes_for_anothers_sake(tmp_path, columns, times):
    path = tmp_path / "mixed.csv"
    path.write_text(TABLE)
    wishes = [{"column": column, "fs": 4} for column in (*columns, "empty")] + [{"modality": "eda"}]
    common = {"time_column": times, "on_hole": "split"}
    found = list(map(plain, read_each(path, wishes, **common)))
    assert found == list(map(plain, one_by_one(path, wishes, **common)))
    assert sum(isinstance(each, list) for each in found) >= (times != "odd")


def test_what_concerns_the_whole_file_is_said_of_every_column(tmp_path):
    path = tmp_path / "ragged.csv"
    path.write_text("a,b\n1,2\n3\n")
    found = list(read_each(path, [{"column": "a"}, {"column": "b"}], fs=4))
    assert [str(each) for each in found] == [str(each) for each in one_by_one(path, [{"column": "a"}] * 2, fs=4)]
    assert "row 3 has 1 cells" in str(found[0])


def test_an_archive_of_arrays(tmp_path, rng):
    path = tmp_path / "many.npz"
    np.savez(path, fs=64, **{name: rng.standard_normal(100) for name in ("a", "b", "c")})
    wishes = [{"column": name, "modality": "bvp"} for name in "cab"]
    assert list(map(plain, read_each(path, wishes))) == list(map(plain, one_by_one(path, wishes)))


def test_a_study_that_names_every_column_reads_the_file_once(tmp_path, rng, passes):
    wide(tmp_path / "wide.csv", 30, rng)
    kinds = ("eda", "bvp", "resp")
    rows = [f"wide.csv,trial {number},{kinds[number % 3]},20" for number in range(30)]
    (tmp_path / "study.csv").write_text("\n".join(["path,column,modality,fs", *rows]) + "\n")
    summary = embed_study(tmp_path / "study.csv", tmp_path / "out", "waveform", model=Stub, window=10)
    assert (summary.inputs, summary.embedded, summary.windows) == (30, 30, 30)
    assert passes == [30]


def test_what_read_refuses_is_refused_and_its_names_are_kept(tmp_path, rng):
    path = wide(tmp_path / "wide.csv", 3, rng)
    wishes = [{"column": f"trial {number}"} for number in range(3)]
    with pytest.raises(ConfigError, match="unknown argument 'delimeter'"):
        list(read_each(path, wishes, fs=4, delimeter=";"))
    with pytest.raises(ConfigError, match="unknown format 'nope'"):
        list(read_each(path, wishes, fs=4, format="nope"))
    found = list(read_each(path, wishes, fs=4, modality="eda", root=tmp_path))
    assert [each.source for (each,) in found] == ["wide.csv"] * 3
