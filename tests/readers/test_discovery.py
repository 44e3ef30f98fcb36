"""Folders: which files are found, what is skipped and why, and that copies are read once (rows 53-55, 58)."""

from __future__ import annotations

import gzip
import json
import os
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from made_files import write

from tiny_biomoe.errors import SignalError
from tiny_biomoe.readers import discovery
from tiny_biomoe.readers.discovery import Skipped, find
from tiny_biomoe.readers.read import read

NAN = np.nan
DATA = ROOT.parent / "shared" / "data"


def test_files_are_found_in_the_order_of_their_relative_paths(tmp_path):
    for name in ("b.csv", "a/z.csv", "a.csv", "a/b/c.csv"):
        write(tmp_path / name)
    paths, skipped = find(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["a.csv", "a/b/c.csv", "a/z.csv", "b.csv"]
    assert skipped == []
    assert find(tmp_path / "b.csv") == ([tmp_path / "b.csv"], [])


def test_what_lies_beside_recordings_is_reported_as_skipped(tmp_path):
    for name in (
        "LICENSE",
        "README.md",
        "w/Rec1.hea",
        "w/Rec1.dat",
        "w/Rec1.atr",
        "w/other.dat",
        "e/BVP.csv",
        "e/tags.csv",
    ):
        write(tmp_path / name)
    paths, skipped = find(tmp_path)
    assert [path.name for path in paths] == ["BVP.csv", "Rec1.hea", "other.dat"]
    assert list(map(str, skipped)) == [
        "LICENSE: a note by its name, not a recording",
        "README.md: a note by its name, not a recording",
        "e/tags.csv: events or notes of an Empatica E4, not samples",
        "w/Rec1.atr: read through Rec1.hea",
        "w/Rec1.dat: read through Rec1.hea",
    ]


def test_row_111_a_table_that_was_exported_twice(tmp_path, rng):
    frame = pd.DataFrame({"time": np.arange(400) / 4, "EDA": rng.standard_normal(400).cumsum(), "n": "a"})
    frame.loc[7, "EDA"] = np.nan
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    frame[["n", "EDA", "time"]].to_csv(tmp_path / "a.tsv.gz", sep="\t", index=False)
    np.savez(tmp_path / "a.npz", EDA=frame["EDA"], fs=4)  # whose rate is said, and its times are not
    frame.assign(EDA=frame["EDA"].round(3)).to_parquet(tmp_path / "b.parquet")
    frame.to_csv(tmp_path / "b.csv", index=False)
    frame.assign(time=frame["time"] / 2).to_parquet(tmp_path / "c.parquet")
    frame.to_csv(tmp_path / "c.csv", index=False)
    (tmp_path / "d.csv").write_text("not, a\ntable\n")
    frame.to_parquet(tmp_path / "d.parquet")
    (tmp_path / "copies").mkdir()
    frame.to_parquet(tmp_path / "copies" / "a.parquet")
    paths, skipped = find(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        *("a.csv", "a.npz", "b.csv", "b.parquet", "c.csv", "c.parquet", "copies/a.parquet", "d.csv", "d.parquet")
    ]
    assert list(map(str, skipped)) == ["a.parquet: the same samples as a.csv", "a.tsv.gz: the same samples as a.csv"]


def test_row_111_of_two_exports_the_one_that_says_more_is_read(tmp_path, rng):
    signal = rng.standard_normal(400).cumsum()
    np.savetxt(tmp_path / "s1_physio.csv", signal, header="skin", comments="")
    np.savetxt(tmp_path / "s1_physio.tsv.gz", signal)
    about = {"SamplingFrequency": 50, "StartTime": -22.3, "Columns": ["skin"], "skin": {"Units": "uS"}}
    (tmp_path / "s1_physio.json").write_text(json.dumps(about))
    paths, skipped = find(tmp_path)
    assert [path.name for path in paths] == ["s1_physio.tsv.gz"]  # whose unit and start the other does not have
    assert "s1_physio.csv: the same samples as s1_physio.tsv.gz" in map(str, skipped)


def test_row_111_a_copy_is_read_where_the_other_is_not_wanted(tmp_path, rng):
    frame = pd.DataFrame({"time": np.arange(400) / 4, "EDA": rng.standard_normal(400).cumsum()})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "b.csv.gz", index=False)
    frame.to_csv(tmp_path / "b.csv", index=False)
    paths, skipped = find(tmp_path, lambda path: path.suffix != ".csv")
    assert [path.name for path in paths] == ["a.csv", "a.parquet", "b.csv", "b.csv.gz"]
    assert not skipped


def test_row_111_a_large_table_beside_notes_is_not_read_to_be_compared(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("EDA\n" + "1\n" * 50)
    (tmp_path / "a.txt").write_text("calm\n")
    monkeypatch.setattr(
        discovery, "_content", lambda path, content=discovery._content: read_ones.append(path.name) or content(path)
    )
    read_ones: list[str] = []
    assert [path.name for path in find(tmp_path)[0]] == ["a.csv", "a.txt"]
    assert read_ones == ["a.txt"]


def test_row_111_only_files_of_one_stem_are_compared(tmp_path, monkeypatch):
    for name in ("a.csv", "b.csv", "c/a.parquet", "c/b.edf", "c/b.csv"):
        write(tmp_path / name)
    monkeypatch.setattr(discovery, "channels_of", None)  # which reads
    assert len(find(tmp_path)[0]) == 5


@pytest.mark.parametrize(
    ("name", "source"),
    [
        (b"caf\xe9.csv", r"caf\udce9.csv"),
        ("Müller 1;=x.csv".encode(), "Müller 1;=x.csv"),
        (rb"a\xff.csv", r"a\\xff.csv"),
        (b"x" * 251 + b".csv", "x" * 251 + ".csv"),
        (b"-rf.csv", "-rf.csv"),
    ],
    ids=["latin-1", "umlaut", "backslash", "long", "dash"],
)
def test_row_53_odd_names_are_read_and_printable(tmp_path, name, source):
    with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
        file.write(b"1\n2\n")
    paths, _ = find(tmp_path)
    (recording,) = read(paths[0], root=tmp_path, fs=100)
    assert recording.source == source
    recording.source.encode()  # what Parquet and JSON need


def test_row_54_links_are_not_followed_and_reported(tmp_path):
    outside = write(tmp_path / "outside" / "secret.csv").parent
    root = write(tmp_path / "root" / "a.csv").parent
    (root / "loop").symlink_to(root)
    (root / "out").symlink_to(outside)
    (root / "file.csv").symlink_to(outside / "secret.csv")
    (root / "dangling.csv").symlink_to("nowhere")
    paths, skipped = find(root)
    assert paths == [root / "a.csv"]
    assert skipped == [
        Skipped(name, "a symbolic link, which is not followed") for name in ("dangling.csv", "file.csv", "loop", "out")
    ]


def test_row_55_pipes_and_sockets_are_skipped_and_never_opened(tmp_path, monkeypatch):
    write(tmp_path / "a.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.csv")
        paths, skipped = find(tmp_path)
    assert [path.name for path in paths] == ["a.csv"]
    assert [each.source for each in skipped] == ["pipe.csv", "socket.csv"]
    assert {each.reason for each in skipped} == {"a pipe, socket or device, which is not opened"}
    for name in ("pipe.csv", "/dev/null"):
        with pytest.raises(SignalError, match="not a plain file: .* pipes and devices are never opened"):
            read(name, fs=100)


def test_a_folder_that_cannot_be_opened_is_reported(tmp_path, monkeypatch):
    write(tmp_path / "a.csv")
    closed = write(tmp_path / "closed" / "b.csv").parent
    scandir = os.scandir

    def refuse(folder):
        if Path(folder) == closed:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    paths, skipped = find(tmp_path)
    assert [path.name for path in paths] == ["a.csv"]
    assert list(map(str, skipped)) == ["closed: the folder cannot be opened (Permission denied)"]


def test_row_58_a_folder_without_files(tmp_path):
    with pytest.raises(SignalError, match=r": the folder holds no files to read$"):
        find(tmp_path)
    (tmp_path / "link.csv").symlink_to("nowhere")
    with pytest.raises(SignalError, match=r"no files to read; skipped: link\.csv: a symbolic link"):
        find(tmp_path)
    with pytest.raises(SignalError, match="there is no such file or folder"):
        find(tmp_path / "missing")


def test_row_111_a_file_and_its_packed_copy_are_one_recording(tmp_path):
    text = "time [s],EDA\n0,1\n0.25,2\n0.5,4\n"
    (tmp_path / "a.csv").write_text(text)
    for name in ("a.csv.gz", "b.csv.gz"):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    paths, skipped = find(tmp_path)
    assert [each.name for each in paths] == ["a.csv", "b.csv.gz"]
    assert [(each.source, each.reason) for each in skipped] == [("a.csv.gz", "read through a.csv")]


def test_row_114_only_files_that_are_called_so_are_notes_of_an_e4(tmp_path):
    for name in ("EDA.csv", "info_ecg.csv", "tagset.csv", "tags_S1.csv", "IBI.csv", "info_S1.txt"):
        (tmp_path / name).write_text("time [s],EDA\n0,1\n0.25,2\n0.5,4\n")
    paths, skipped = find(tmp_path)
    assert [each.name for each in paths] == ["EDA.csv", "info_ecg.csv", "tagset.csv"]
    assert len(skipped) == 3


def test_row_114_what_belongs_to_a_recording_is_skipped(tmp_path):
    (tmp_path / "a.csv").write_text("time [s],EDA\n0,1\n0.25,2\n0.5,4\n")
    for name in (
        "a.json",
        "participants.tsv",
        "sub-1_scans.tsv",
        "README",
        "study.LICENSE",
        "RECORDS",
        ".DS_Store",
        "~$a.xlsx",
    ):
        (tmp_path / name).write_text("{}")
    paths, skipped = find(tmp_path)
    assert [each.name for each in paths] == ["a.csv"]
    assert len(skipped) == 8
