"""Study files and folders: what they list, and what is refused."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas
import polars
import pytest
from made_files import write
from pyarrow import parquet
from stub_study import Stub, e4, make_study, pulse

from tiny_biomoe import ConfigError, Recipe, SignalError, SignalWarning, embed_study, load_embeddings
from tiny_biomoe.batch.loading import read_manifest
from tiny_biomoe.batch.plan import GROUP_FILES, File, groups, scan
from tiny_biomoe.batch.segments import Segment, Settings, survey
from tiny_biomoe.batch.shards import Notice
from tiny_biomoe.batch.study_making import study_rows
from tiny_biomoe.batch.study_table import Input, is_study_file, open_study, read_study


def test_all_columns(tmp_path):
    study = read_study(
        write(
            tmp_path / "study.csv",
            "# made by hand\nPath;Modality;fs;column;subject;label;start;stop;age;note\n"
            "S2/x.csv;GSR;4;EDA;S2;calm;0;90.5;31;\nS1/y.csv;;;;;;;;;=cmd()\n",
        )
    )
    assert study.further == ("age", "note")
    first, second = study.inputs
    assert (first.source, first.modality, first.fs, first.further) == ("S1/y.csv", None, None, ("", "=cmd()"))
    assert second == Input("S2/x.csv", tmp_path / "S2/x.csv", "EDA", "eda", 4.0, 0.0, 90.5, "S2", "calm", ("31", ""))


TYPED = {  # cells of a column, and what they are
    "int64": (["31", "-2", ""], [31, -2, None]),
    "double": (["1e3", "0.5", "n/a"], [1000.0, 0.5, None]),
    "bool": (["true", "False", "NaN"], [True, False, None]),
    "string": (["007", "8", ""], ["007", "8", None]),
}


def test_columns_of_your_own_keep_their_types_as_the_study_grows(tmp_path):
    study, out = make_study(tmp_path / "study"), tmp_path / "out"
    names, rows = list(TYPED), [list(row) for row in zip(*(cells for cells, _ in TYPED.values()), strict=True)]
    paths = ["S01/EDA.csv", "S01/BVP.csv", "S02/EDA.csv"]
    text = "\n".join(
        [",".join(["path", *names]), *(",".join([path, *row]) for path, row in zip(paths, rows, strict=True))]
    )
    assert open_study(write(study / "study.csv", text)).types == tuple(names)
    embed_study(study / "study.csv", out, "waveform", model=Stub(), window=10)
    first = load_embeddings(out)[2]
    inputs = {row["source"]: row for row in parquet.read_table(out / "inputs.parquet").to_pylist()}
    for name, (_, values) in TYPED.items():
        assert first.schema.field(name).type == name
        found = dict(zip(first["source"].to_pylist(), first[name].to_pylist(), strict=True))
        assert [found[path] for path in paths] == values
        assert [inputs[path][name] for path in paths] == values
    assert set(load_embeddings(out, int64=[31])[2]["source"].to_pylist()) == {"S01/EDA.csv"}
    with pytest.raises(ConfigError, match="int64='x': the column holds int64"):
        load_embeddings(out, int64="x")
    write(study / "study.csv", text + "\nS02/BVP.csv,x,,,\n")  # which makes text of the whole numbers
    embed_study(study / "study.csv", out, "waveform", model=Stub(), window=10)
    embed_study(study / "study.csv", tmp_path / "fresh", "waveform", model=Stub(), window=10)
    grown, fresh = load_embeddings(out), load_embeddings(tmp_path / "fresh")
    assert grown[2]["int64"].type == "string"
    assert (grown[0], grown[2]) == (fresh[0], fresh[2])
    write(study / "study.csv", text)
    embed_study(study / "study.csv", tmp_path / "other", "waveform", model=Stub(), window=10)
    both = load_embeddings([out, tmp_path / "other"])[2]  # one column of numbers in one, and of text in the other
    assert both["int64"].type == "string"
    assert both["double"].type == "double"


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """Runs of one recording each, whose columns of one name are of several types."""
    place = tmp_path_factory.mktemp("typed")

    def run(name, **cells):
        path = e4(place / name / "EDA.csv", 2 + pulse(20, 4, 0.05), 4)
        columns = {"path": [str(path)], **{column: [cell] for column, cell in cells.items()}}
        embed_study(columns, place / f"{name} out", "waveform", model=Stub(), window=10)
        return place / f"{name} out"

    return {
        "whole": run("whole", age=31, big=2**60 + 1, sure=True),
        "half": run("half", age=31.5, big=0.5, sure=None),
        "empty": run("empty", age=None, big=None, sure="maybe"),
        "text": run("text", age="31", big="x"),
    }


@pytest.mark.parametrize(
    ("names", "where", "ages"),
    [
        (["whole"], {"age": 31}, [31]),
        (["whole"], {"age": "31"}, [31]),
        (["whole"], {"age": np.float32(31)}, [31]),
        (["whole"], {"age": [31.5, 2**70, "1e400"]}, []),  # no cell holds one
        (["whole"], {"sure": "TRUE"}, [31]),
        (["whole"], {"sure": False}, []),
        (["half"], {"age": ["31.5"]}, [31.5]),
        (["half"], {"age": 31}, []),
        (["empty"], {"age": [None]}, [None]),
        (["empty"], {"age": float("nan")}, [None]),
        (["whole", "half"], {"age": [31, 31.5]}, [31.0, 31.5]),
        (["whole", "half"], {"age": 31.5}, [31.5]),
        (["whole", "empty"], {}, [31, None]),  # a column without a cell makes text of none
        (["empty", "half"], {"age": [None, 31.5]}, [None, 31.5]),
        (["whole", "text", "half"], {}, ["31", "31", "31.5"]),
        (["whole", "text", "half"], {"age": [31, "x"]}, ["31", "31"]),
    ],
)
def test_typed_columns_are_filtered_and_put_together(typed, names, where, ages):
    folders = [typed[name] for name in names]
    if len(names) > 1 and "half" in names and "whole" in names and "text" not in names:
        with pytest.raises(ConfigError, match="no value of the type .*Integer value 1152921504606846977"):
            load_embeddings(folders, **where)  # of the column `big`
        return
    table = load_embeddings(folders, **where)[2]
    assert table["age"].to_pylist() == [age for age in ages for _ in range(2)]


@pytest.mark.parametrize("wrong", [{"age": "old"}, {"age": True}, {"sure": 1}, {"sure": "yes"}])
def test_values_of_another_type_are_refused(typed, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError, match=f"{name}={value!r}: the column holds (int64|bool)"):
        load_embeddings(typed["whole"], **wrong)


def test_others_read_typed_columns_as_they_are(typed):
    folder = typed["whole"] / "embeddings"
    for table in (
        pandas.read_parquet(folder).to_dict("list"),
        polars.read_parquet(folder / "*.parquet").to_dict(as_series=False),
        duckdb.sql(f"select age, big, sure from '{folder}/*.parquet'").arrow().read_all().to_pydict(),
    ):
        assert [table[name] for name in ("age", "big", "sure")] == [[31, 31], [2**60 + 1] * 2, [True, True]]


def test_the_manifest_names_the_columns(typed):
    manifest = read_manifest(typed["whole"])
    assert manifest["fingerprint"]["arguments"]["further"] == ["age", "big", "sure"]


def test_numbers_that_no_type_holds_stay_text(tmp_path):
    path = make_study(tmp_path / "study") / "S01" / "EDA.csv"
    columns = {
        "path": [str(path), str(path.with_name("BVP.csv"))],
        "nanoseconds": [1_700_000_000_123_456_789, 0],
        "hash": np.array([2**64 - 1, 1], np.uint64),
        "dose": [1e20, 1.0],
        "mixed": ["9007199254740993", "0.5"],
    }
    assert open_study(columns).types == ("int64", "string", "double", "string")
    text = "path,long,mixed,huge\nEDA.csv,1700000000123456789,9007199254740993,1e400\nBVP.csv,0,0.5,1\n"
    assert read_study(write(path.with_name("study.csv"), text)).types == ("int64", "string", "string")
    embed_study(columns, tmp_path / "out", "waveform", model=Stub(), window=10)
    table = load_embeddings(tmp_path / "out", modality="eda")[2]
    assert [table[name][0].as_py() for name in list(columns)[1:]] == [
        1_700_000_000_123_456_789, "18446744073709551615", 1e20, "9007199254740993",
    ]  # fmt: skip


def test_a_column_of_text_in_a_table_is_text(tmp_path):
    path = make_study(tmp_path / "study") / "S01" / "EDA.csv"
    columns = {"path": [str(path)], "room": ["3"], "age": [31.0], "calm": [True]}
    assert open_study(pandas.DataFrame(columns)).types == ("string", "int64", "bool")
    assert open_study(columns).types == ("string", "int64", "bool")


def test_rows_are_sorted_whatever_their_order(tmp_path):
    rows = [f"S{n}/x.csv,{start}\n" for n in (3, 1, 2) for start in (20, 0)]
    one = read_study(write(tmp_path / "one.csv", "path,start\n" + "".join(rows)))
    other = read_study(write(tmp_path / "other.csv", "path,start\n" + "".join(rows[::-1])))
    assert one.inputs == other.inputs
    assert [(each.source, each.start) for each in one.inputs][:3] == [
        ("S1/x.csv", 0),
        ("S1/x.csv", 20),
        ("S2/x.csv", 0),
    ]


def test_a_folder_in_a_row_stands_for_its_files(tmp_path):
    for name in ("BVP", "EDA"):
        e4(tmp_path / "S01" / f"{name}.csv", pulse(10, 4), 4)
    write(tmp_path / "S01" / "README.md", "x")
    study = read_study(write(tmp_path / "study.csv", "path,subject\nS01,one\n"))
    assert [(each.source, each.subject) for each in study.inputs] == [("S01/BVP.csv", "one"), ("S01/EDA.csv", "one")]
    assert [each.source for each in study.skipped] == ["S01/README.md"]


def test_a_path_outside_the_study_keeps_its_whole_name(tmp_path):
    study = read_study(write(tmp_path / "deep" / "study.csv", f"path\n../x.csv\n{tmp_path}/deep/y.csv\n"))
    assert {each.source for each in study.inputs} == {f"{tmp_path}/x.csv", "y.csv"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,fs\nx.csv,abc\n", r"study\.csv, row 2: fs='abc' is not a number"),
        ("path,fs\nx.csv,0\n", "row 2: fs=0: a sampling rate is positive"),
        ("path,fs\nx.csv,1_0\n", "fs='1_0' is not a number"),
        ("path,fs\nx.csv,inf\n", "fs='inf' is not a number"),
        ("path,start,stop\nx.csv,5,5\n", "stop after start"),
        ("path,start\nx.csv,-1\n", "start=-1.0"),
        ("path,modality\nx.csv,edaa\n", r"row 2: unknown modality 'edaa': .*did you mean 'eda'"),
        ("path,fs\n,5\n", "row 2: the path is empty"),
        ("path,fs\nx.csv\n", "row 2: 1 cells under 2 names"),
        ("path\nx.csv\ny.csv\nx.csv\n", "row 4: x.csv is asked for a second time"),
        ("path,fs\n\nx.csv,5\n", "row 2 is blank"),
        ("path\n", "no rows"),
        ("", "no samples"),
        ("file,fs\nx.csv,5\n", "has a column 'path'; this one has 'file', 'fs'"),
        ("path,path\nx,y\n", "two columns are called 'path'"),
        ("path,id\nx,y\n", "a column called 'id' cannot be carried along"),
        ("path,psd\nx,y\n", "a column called 'psd' cannot"),
        ("path,outcome\nx,y\n", "a column called 'outcome' cannot"),  # which `inputs.parquet` has
        ("path,windows\nx,y\n", "a column called 'windows' cannot"),
        ("path,folder\nx,y\n", "a column called 'folder' cannot"),  # which a table of several folders has
        ("path,similarity\nx,y\n", "a column called 'similarity' cannot"),  # which hits of a search have
        ("path,\nx,y\n", "a column called '' cannot"),
        ('path,note\n"x,y\n', "quote that is not closed"),
    ],
)
def test_what_is_refused(tmp_path, text, message):
    with pytest.raises((SignalError, ConfigError), match=message):
        read_study(write(tmp_path / "study.csv", text))


def test_what_is_a_study_file(tmp_path):
    assert is_study_file(write(tmp_path / "a.csv", "\ufeffsubject\tpath\nx\ty\n"))
    assert not is_study_file(write(tmp_path / "b.csv", "time,EDA\n0,1\n"))
    assert not is_study_file(tmp_path / "missing.csv")
    (tmp_path / "c.csv").write_bytes(b"\xff\xfe\x00")
    assert not is_study_file(tmp_path / "c.csv")


def test_a_single_recording_is_a_study_of_one(tmp_path):
    path = e4(tmp_path / "BVP.csv", pulse(10, 64), 64)
    assert open_study(path).inputs == [Input("BVP.csv", path)]


def test_a_study_file_in_a_folder_is_no_recording(tmp_path):
    e4(tmp_path / "BVP.csv", pulse(10, 64), 64)
    write(tmp_path / "study.csv", "path\nBVP.csv\n")
    study = open_study(tmp_path)
    assert [each.source for each in study.inputs] == ["BVP.csv"]
    assert [str(each) for each in study.skipped] == ["study.csv: a study file, which is embedded by its own name"]


def test_wide_files_with_a_trial_a_column(tmp_path):
    rng = np.random.default_rng(1)
    names = [f"7_{tag}_{k}" for tag in ("Baseline", "LOW", "high") for k in (1, 2)]
    lengths = [1000, 990, 1000, 910, 1000, 1000]
    columns = [rng.standard_normal(length).cumsum() for length in lengths]
    rows = [",".join(f"{c[i]:.4f}" if i < len(c) else "" for c in columns) for i in range(1000)]
    write(tmp_path / "train" / "Bvp" / "7.csv", "\n".join([",".join(names), *rows]) + "\n")
    listed = "".join(f"train/Bvp/7.csv,{name},bvp,100,7,{name.split('_')[1].lower()}\n" for name in names)
    study = read_study(write(tmp_path / "study.csv", "path,column,modality,fs,subject,label\n" + listed))
    settings = Settings(("waveform",)).check(Recipe())
    found = list(survey(study, settings, Recipe()))
    assert [(each.recording.channel, each.input.label) for each in found] == [
        (name, name.split("_")[1].lower()) for name in sorted(names)
    ]
    sizes = {each.recording.channel: each.filtered.raw.size for each in found}
    assert sizes == dict(zip(names, lengths, strict=True))


def test_a_survey_says_what_would_be_embedded(tmp_path):
    e4(tmp_path / "BVP.csv", pulse(35, 64), 64)
    write(tmp_path / "bad.csv", "1\n2\nthree\n")
    found = list(survey(open_study(tmp_path), Settings(("psd",), window=10).check(Recipe()), Recipe()))
    assert [type(each) for each in found] == [Segment, Notice]
    assert (len(found[0].spans), found[0].recording.fs, found[0].recording.modality) == (3, 64.0, "bvp")


def test_a_plan_groups_files_by_number_and_size(tmp_path):
    def plan(*files):
        listed = [File((Input(name, tmp_path),), at, size, "0") for at, (name, size) in enumerate(files)]
        return [[(file.source, file.size) for file in group.files] for group in groups(listed)]

    assert plan() == []
    small = [(f"{number}.csv", 1) for number in range(3 * GROUP_FILES)]
    found = plan(*small)
    assert [file for group in found for file in group] == small
    assert 3 <= len(found) <= 20
    assert max(map(len, found)) <= GROUP_FILES
    assert plan(("a", 2**27), ("b", 1), ("c", 2**27)) == [[("a", 2**27)], [("b", 1)], [("c", 2**27)]]
    more = plan(*sorted([*small, ("1000a.csv", 1)]))  # one that came leaves all groups but its own as they were
    assert len([group for group in more if group not in plan(*sorted(small))]) <= 2


def test_the_hash_of_a_wfdb_header_covers_its_samples(tmp_path, recordings):
    for name in ("100_3chan.hea", "100_3chan.dat"):
        (tmp_path / name).write_bytes((recordings / "wfdb" / name).read_bytes())
    (before,) = scan(open_study(tmp_path))
    data = bytearray((tmp_path / "100_3chan.dat").read_bytes())
    data[100] ^= 1
    (tmp_path / "100_3chan.dat").write_bytes(data)
    (after,) = scan(open_study(tmp_path))
    assert before.size == after.size > len(data)
    assert before.sha256 != after.sha256


@pytest.mark.parametrize(
    ("misspelt", "meant"), [("subjet", "subject"), ("lable", "label"), ("strat", "start"), ("stopp", "stop")]
)
def test_a_misspelt_column_is_warned_of(tmp_path, misspelt, meant):
    (tmp_path / "study.csv").write_text(f"path,{misspelt},age\na.csv,1,30\n")
    with pytest.warns(SignalWarning, match=f"{misspelt}.*did you mean '{meant}'") as caught:
        study = read_study(tmp_path / "study.csv")
    assert len(caught) == 1
    assert study.further == (misspelt, "age")


def test_a_table_whose_path_is_misspelt_is_no_recording(tmp_path):
    (tmp_path / "study.csv").write_text("paht,subject,label\na.csv,S1,rest\n")
    with pytest.raises(ConfigError, match="no column 'path'"):
        open_study(tmp_path / "study.csv")


def test_channels_of_one_name_are_parted_by_their_numbers(tmp_path):
    write(tmp_path / "a.csv", "x,x\n" + "\n".join(f"{i % 7},{i % 9}" for i in range(200)))
    study = write(tmp_path / "study.csv", "path,modality,fs,column\na.csv,eda,4,x #0\na.csv,resp,4,x #1\n")
    found = list(survey(open_study(study), Settings(("psd",), window=10).check(Recipe()), Recipe()))
    assert [(type(each), each.recording.channel) for each in found] == [(Segment, "x #0"), (Segment, "x #1")]


def test_patterns_choose_before_one_of_two_exports_is_left_out(tmp_path, rng):
    frame = pandas.DataFrame({"time": np.arange(400) / 4, "EDA": rng.standard_normal(400).cumsum()})
    folder = tmp_path / "recordings"
    folder.mkdir()
    frame.to_csv(folder / "a.csv", index=False)
    frame.to_parquet(folder / "a.parquet")
    frame.to_parquet(folder / "b.parquet")
    table = write(tmp_path / "study.csv", "path\nrecordings\n")
    for source, prefix in ((folder, ""), (table, "recordings/"), ([folder], ""), ({"path": [str(folder)]}, "")):
        for patterns in ({"exclude": ["*.csv"]}, {"include": ["*.parquet"]}):
            found = [each.source for each in open_study(source, **patterns).inputs]
            assert [name.rpartition("/")[2] for name in found] == ["a.parquet", "b.parquet"], (source, patterns)
            assert all(name.startswith(prefix) for name in found)
    assert [Path(row["path"]).name for row in study_rows(folder, exclude=["*.csv"]).rows] == ["a.parquet", "b.parquet"]


def test_a_file_that_a_study_names_later_by_itself_fails_as_in_a_fresh_run(tmp_path, rng):
    (tmp_path / "in").mkdir()
    for name in ("EDA", "ECG"):
        pandas.DataFrame({name: rng.standard_normal(200).cumsum()}).to_csv(tmp_path / "in" / f"{name}.csv", index=False)
    outcomes = []
    for rows, out in (
        ("in,eda\n", "out"),
        ("in/ECG.csv,eda\nin/EDA.csv,eda\n", "out"),
        ("in/ECG.csv,eda\nin/EDA.csv,eda\n", "new"),
    ):
        study = write(tmp_path / "study.csv", f"path,modality\n{rows}")
        summary = embed_study(study, tmp_path / out, model=Stub(), fs=20, window=10)
        outcomes.append((summary.windows, summary.failed, summary.skipped))
    assert outcomes == [(1, 0, 1), (1, 1, 0), (1, 1, 0)]
