"""Study tables from the names of files and from files of events, and studies that are no file (row 139)."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest
from stub_study import Stub, e4, make_study, pulse

from tiny_biomoe import ConfigError, SignalError, load_embeddings
from tiny_biomoe.batch.run import embed_study
from tiny_biomoe.batch.study_making import study_rows
from tiny_biomoe.batch.study_table import open_study, read_study


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two people; S02's events lie in a folder above the recording."""
    for name in ("S01", "S02"):
        e4(tmp_path / "data" / name / "wrist" / f"{name}_EDA.csv", 2 + pulse(60, 4, 0.05), 4)
        e4(tmp_path / "data" / name / "wrist" / f"{name}_BVP.csv", pulse(60, 64), 64)
    (tmp_path / "data" / "S01" / "wrist" / "S01_events.csv").write_text(
        "onset;duration;trial_type\n0;20;calm\n20.5;30;stress\n55;0;tap\n58;n/a;cough\n"
    )
    (tmp_path / "data" / "S02" / "S02_events.csv").write_text("label,start,stop\nstress,10,30\nn/a,30,40\n")
    return tmp_path / "data"


def cells(found, *names):
    return [tuple(row[name] for name in names) for row in found.rows]


def test_people_from_names(folder):
    found = study_rows(folder, r"S(\d+)", include=["*_EDA.csv"])
    assert found.columns == ("path", "subject")
    assert cells(found, "path", "subject") == [
        (str(folder / "S01" / "wrist" / "S01_EDA.csv"), "01"),
        (str(folder / "S02" / "wrist" / "S02_EDA.csv"), "02"),
    ]
    named = study_rows(folder, r"(?P<subject>S\d+)/(?P<place>\w+)/\w+_(?P<label>\w+)\.csv", exclude=["*events*"])
    assert named.columns == ("path", "subject", "place", "label")
    assert cells(named, "subject", "place", "label")[:2] == [("S01", "wrist", "BVP"), ("S01", "wrist", "EDA")]
    assert cells(study_rows(folder, r"S\d+", include=["*EDA*"]), "subject") == [("S01",), ("S02",)]


def test_labels_from_events(folder):
    found = study_rows(folder, r"(S\d+)", events="*_events.csv")
    assert found.columns == ("path", "subject", "start", "stop", "label")
    eda = [row for row in found.rows if row["path"].endswith("EDA.csv")]
    assert [tuple(row.values())[1:] for row in eda] == [
        ("S01", "0", "20", "calm"),
        ("S01", "20.5", "50.5", "stress"),
        ("S02", "10", "30", "stress"),
        ("S02", "30", "40", ""),
    ]
    assert found.notes == ["2 events left out, for want of a length"]
    assert len(found.rows) == 8


def test_events_whose_labels_are_in_no_known_column_are_noted(folder):
    for path in folder.rglob("*events.csv"):
        path.write_text("onset,duration,lable\n0,20,calm\n")
    found = study_rows(folder, r"(S\d+)", events="*_events.csv", include=["*EDA.csv"])
    (note,) = (each for each in found.notes if "label" in each)
    assert note.startswith("no row has a label: S0")
    assert note.endswith("has the columns 'onset', 'duration', 'lable', and label= (--label) names one")
    named = study_rows(folder, r"(S\d+)", events="*_events.csv", include=["*EDA.csv"], label="lable")
    assert {row["label"] for row in named.rows} == {"calm"}
    assert not any("no row has a label" in each for each in named.notes)


def test_the_table_is_a_study(folder, tmp_path):
    table = folder / "tables" / "study.csv"
    table.parent.mkdir()
    table.write_text(study_rows(folder, r"(S\d+)", events="*_events.csv").text(table.parent))
    study = read_study(table)
    assert [(each.subject, each.label, each.start, each.stop) for each in study.inputs[2:4]] == [
        ("S01", "calm", 0.0, 20.0),
        ("S01", "stress", 20.5, 50.5),
    ]
    assert all(each.path.is_file() for each in study.inputs)


def test_events_listed_twice_or_before_the_recording_are_noted_and_rows_are_a_study(folder, tmp_path):
    (folder / "S01" / "wrist" / "S01_events.csv").write_text(
        "onset,duration,trial_type\n0,20,calm\n0,20,calm\n-30,20,early\n20,30,stress\n"
    )
    made = study_rows(folder, r"S(\d+)", include=["*S01_EDA.csv"], events="*_events.csv")
    assert cells(made, "label", "start") == [("calm", "0"), ("stress", "20")]
    assert made.notes == [
        "1 event left out, ended before the recording began", "1 event listed twice, and taken once",
    ]  # fmt: skip
    assert embed_study(made.rows, tmp_path / "out", "waveform", model=Stub(), window=10).windows == 5


def test_events_without_people_and_recordings_without_events(folder):
    e4(folder / "S03" / "EDA.csv", pulse(20, 4), 4)
    e4(folder / "pilot" / "EDA.csv", pulse(20, 4), 4)
    found = study_rows(folder, r"S(\d+)", events="*_events.csv", include=["*EDA.csv"])
    assert found.notes[0] == r"1 recording kept without a person, for 'S(\d+)' is not in the path (pilot/EDA.csv)"
    assert found.notes[1] == "2 recordings left out, for want of events (S03/EDA.csv, pilot/EDA.csv)"
    (folder / "S03" / "P_events.csv").write_text("start,stop\n0,10\n")
    found = study_rows(folder, events="*_events.csv", include=["*EDA.csv"])
    assert found.notes[1].startswith("1 file of events without a recording of that name (P_events.csv): a name")
    (folder / "S03" / "P_events.csv").rename(folder / "S03" / "_events.csv")
    found = study_rows(folder, events="*_events.csv", include=["*EDA.csv"])
    assert found.notes[0] == "1 recording left out, for want of events (pilot/EDA.csv)"


def test_bids_as_it_is(tmp_path):
    folder = tmp_path / "ds" / "sub-07" / "func"
    folder.mkdir(parents=True)
    (tmp_path / "ds" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    name = "sub-07_task-rest_recording-eda_physio"
    facts = {"SamplingFrequency": 10, "StartTime": -5.0, "Columns": ["eda"]}
    (folder / f"{name}.json").write_text(json.dumps(facts))
    (folder / f"{name}.tsv").write_text("".join(f"{value:.4f}\n" for value in pulse(60, 10, 0.1)))
    (folder / "sub-07_task-rest_events.tsv").write_text("onset\tduration\ttrial_type\n-9\t2\tearly\n3\t20\tpain\n")
    (folder / "sub-07_task-other_events.tsv").write_text("onset\tduration\ttrial_type\n0\t20\tother\n")
    found = study_rows(tmp_path / "ds", r"sub-(\w+?)/", events="*_events.tsv")
    assert cells(found, "subject", "start", "stop", "label") == [("07", "8", "28", "pain")]  # 5 s before the scan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("when,what\n1,2\n", r"S01_events.csv: its columns are 'when', 'what': start \(or onset\) and stop"),
        ("start,stop\n5,3\n", "row 2: it stops at 3 s, before it starts at 5 s"),
        ("start,stop\n2020-01-01 10:00,3\n", "row 2: start '2020-01-01 10:00' is no number of seconds"),
        ("start,stop\n1600000000,1600000020\n", "is no number of seconds from the first sample"),
        ("start,stop\n1,2,3\n", "row 2: 3 cells under 2 names"),
    ],
)
def test_events_that_cannot_be_used(folder, text, message):
    (folder / "S01" / "wrist" / "S01_events.csv").write_text(text)
    with pytest.raises((ConfigError, SignalError), match=message):
        study_rows(folder, events="*_events.csv")


def test_expressions_that_cannot_be_used(folder):
    with pytest.raises(ConfigError, match=r"subject= \(--subject\): 'S\(' is no regular expression"):
        study_rows(folder, "S(")
    with pytest.raises(ConfigError) as error:
        study_rows(folder, r"P\d+")
    listed = "S01/wrist/S01_BVP.csv, S01/wrist/S01_EDA.csv, S01/wrist/S01_events.csv"
    wrong = rf"subject= (--subject): 'P\d+' is in no path below {folder}, such as {listed}"
    assert str(error.value) == f"{wrong}: change the expression, or leave it out"
    with pytest.raises(ConfigError, match=r"no file below .* has such a name"):
        study_rows(folder, events="*_marks.csv")
    with pytest.raises(ConfigError, match="no input fits"):
        study_rows(folder, include=["*.edf"])


# Studies that are no file


def test_a_list_of_paths(tmp_path, monkeypatch):
    study = make_study(tmp_path / "study")
    monkeypatch.chdir(tmp_path)
    found = open_study([study / "S02" / "EDA.csv", "study/S01/EDA.csv"])
    assert [each.source for each in found.inputs] == ["study/S01/EDA.csv", "study/S02/EDA.csv"]
    with pytest.raises(SignalError, match=r"the list, item 1: study/S01/EDA\.csv is asked for a second time"):
        open_study(["study/S01/EDA.csv"] * 2)
    with pytest.raises(ConfigError, match="3 is no path"):
        open_study([3])
    with pytest.raises(ConfigError, match="float is no study"):
        open_study(0.5)
    with pytest.raises(SignalError, match="the list: the study has no rows"):
        open_study([])


COLUMNS = {
    "path": ["S02/EDA.csv", "S01/EDA.csv"],
    "subject": [2.0, 1.0],  # as pandas has whole numbers beside missing ones
    "label": ["calm", None],
    "start": [0, None],
    "stop": [30.5, None],
    "age": [31, 40],
}


@pytest.mark.parametrize(
    "made",
    [dict, pa.table, polars.DataFrame, lambda columns: pandas.DataFrame(columns, index=[7, 7])],
    ids=["dict", "arrow", "polars", "pandas"],
)
def test_a_table_in_memory(tmp_path, monkeypatch, made):
    study = make_study(tmp_path / "study")
    monkeypatch.chdir(study)
    found = open_study(made(COLUMNS))
    assert [(e.source, e.subject, e.label, e.start, e.stop, e.further) for e in found.inputs] == [
        ("S01/EDA.csv", "1", None, None, None, ("40",)),
        ("S02/EDA.csv", "2", "calm", 0.0, 30.5, ("31",)),
    ]
    embed_study(made(COLUMNS), tmp_path / "out", "waveform", model=Stub(), window=10)
    assert load_embeddings(tmp_path / "out")[2]["age"].to_pylist() == [40] * 6 + [31] * 2


def test_tables_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match="a study file has a column 'path'; this one has 'file'"):
        open_study(pandas.DataFrame({"file": ["a.csv"]}))
    with pytest.raises(ConfigError, match="the table cannot be read"):
        open_study({"path": ["a", "b"], "label": ["x"]})


@pytest.mark.parametrize("header", ["filename,subject,age", "subject,label,start,stop", "Recording;subject"])
def test_a_study_table_without_path_says_so(tmp_path, header):
    (tmp_path / "study.csv").write_text(f"{header}\n{','.join('a' * (header.count(',') + 1))}\n")
    with pytest.raises(ConfigError, match="looks like a study table, .* has no column 'path'"):
        open_study(tmp_path / "study.csv")
    (tmp_path / "signal.csv").write_text("EDA,label\n1,0\n2,0\n")
    assert [each.source for each in open_study(tmp_path / "signal.csv").inputs] == ["signal.csv"]


def test_people_spelt_in_two_ways_are_one_with_a_warning(tmp_path):
    (tmp_path / "study.csv").write_text("path,subject\na.csv,S01\nb.csv,s01\nc.csv,n/a\n")
    with pytest.warns(match="'s01' as 'S01'"):
        study = read_study(tmp_path / "study.csv")
    assert [each.subject for each in study.inputs] == ["S01", "S01", None]


def test_patterns(tmp_path):
    study = make_study(tmp_path / "study")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [each.source for each in open_study(study, ["*EDA*"], ["S02/*"]).inputs] == ["S01/EDA.csv"]
    with pytest.raises(ConfigError, match="no input fits: .* leave none of 5, the first of which is S01/BVP.csv"):
        open_study(study, ["*.edf"])
    with pytest.raises(ConfigError, match=r"lists of patterns: \['\*EDA\*'\]"):
        open_study(study, "*EDA*")
    summary = embed_study(study, tmp_path / "out", "waveform", model=Stub(), window=10, include=["EDA.csv"])
    assert (summary.embedded, summary.windows) == (2, 11)


def test_a_study_is_checked_before_a_folder_is_made(tmp_path):
    with pytest.raises(SignalError, match="no such file or folder"):
        embed_study(tmp_path / "nothing", tmp_path / "out", model=Stub())
    with pytest.raises(ConfigError, match="has a column 'path'"):
        embed_study({"file": np.array(["a"])}, tmp_path / "out", model=Stub())
    assert not (tmp_path / "out").exists()


def test_rows_have_the_types_of_the_file_that_they_become(folder, tmp_path):
    found = study_rows(folder, r"(?P<subject>S0(?P<number>\d))/(?P<place>\w+)/", include=["*EDA.csv"])
    (tmp_path / "study.csv").write_text(found.text(tmp_path))
    assert open_study(found.rows).carried == read_study(tmp_path / "study.csv").carried
    assert open_study(found.rows).carried == (("number", "int64"), ("place", "string"))
    assert open_study(pandas.DataFrame(found.rows)).types == ("string", "string")
