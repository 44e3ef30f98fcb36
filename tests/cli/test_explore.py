"""`tiny-biomoe explore`, `similar` and `report`, as a person meets them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT
from explored_study import embed_explored
from stub_study import Stub

from tiny_biomoe import explore
from tiny_biomoe.embedding import Embedder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return embed_explored(tmp_path_factory.mktemp("explored"))


@pytest.fixture
def run(run, monkeypatch):
    """Run the command line with the stub network."""
    monkeypatch.setattr(Embedder, "from_pretrained", lambda weights=None: Stub(weights or "stub"))
    return run


def test_a_map_and_an_atlas(run, folder, tmp_path):
    code, out, err = run(
        "explore", folder, "-o", tmp_path / "map", "--atlas", tmp_path / "map.parquet", "--sample", 8,
        "--color", "room", "--representation", "waveform",
    )  # fmt: skip
    assert code == 0
    assert out.splitlines() == [
        f"table for Embedding Atlas: {tmp_path}/map.parquet",
        f"map: open {tmp_path}/map/map.html in a browser",
    ]
    assert "8 windows are too few for UMAP" in err
    assert "8 of 35 windows" in (tmp_path / "map" / "map.html").read_text()
    code, out, _ = run("explore", folder, "--atlas", tmp_path / "again.parquet", "--no-pictures")
    assert (code, out) == (0, f"table for Embedding Atlas: {tmp_path}/again.parquet\n")


def test_a_report(run, folder, tmp_path):
    code, out, err = run("report", folder, "-o", tmp_path / "report.html", "--method", "pca")
    assert (code, out, err) == (0, f"report: {tmp_path}/report.html\n", "")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_windows_like_one_of_a_file(run, folder, tmp_path):
    recording = folder.parent / "study" / "P1" / "BVP.csv"
    code, out, err = run("similar", recording, "--in", folder, "-k", 3, "--start", 20, "--html", tmp_path / "s.html")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "windows like BVP.csv: BVP, 20 s, by cosine similarity of waveform embeddings"
    assert lines[1].split() == ["similarity", "start,", "s", "stop,", "s", "modality", "subject", "label", "id"]
    query = explore.query_recording(recording, folder, start=20, model=Stub())
    expected = explore.search(query, folder, k=3)
    assert [line.split()[-1] for line in lines[2:5]] == expected["id"].to_pylist()
    assert lines[2].startswith(f"{expected['similarity'][0].as_py():.4f}  ")
    assert lines[5] == f"pictures: {tmp_path}/s.html"
    assert (tmp_path / "s.html").read_text().count("<img") == 4


def test_windows_like_one_of_the_study(run, folder, tmp_path):
    pytest.importorskip("usearch", reason="no usearch")
    code, out, err = run(
        "similar", "P1/BVP.csv#BVP@20", "--in", folder, "--where", "room=0", "--where", "room=2", "-k", 4,
        "--index", tmp_path / "study.index", "--representation", "scalogram",
    )  # fmt: skip
    assert code == 0
    expected = explore.search("P1/BVP.csv#BVP@20", folder, k=4, where={"room": ["0", "2"]}, representation="scalogram")
    assert [line.split()[-1] for line in out.splitlines()[2:]] == expected["id"].to_pylist()
    assert err == "Found by an index that knows 100.0% of the true 10 nearest.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.csv"], "there is no such file, and it is no id of a window"),
        (["P1/BVP.csv#BVP@20", "--start", "3"], "--start and how to read a file do not apply"),
        (["P1/BVP.csv#BVP@20", "--where", "room"], "write COLUMN=VALUE"),
        (["{study}/P1/BVP.csv", "--weights", "other"], "weights: other (other) here, stub (stub) in the folder"),
        (["{study}/P1/BVP.csv", "--html", "hits.txt"], "the output ends in .html"),
    ],
)
def test_errors_are_one_line_and_exit_1(run, folder, arguments, message):
    arguments = [each.format(study=folder.parent / "study") for each in arguments]
    code, _, err = run("similar", *arguments, "--in", folder)
    assert code == 1
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_commands_are_listed_and_say_what_to_install(run, folder, tmp_path):
    code, out, _ = run("--help")
    assert code == 0
    for name in ("explore", "similar", "report"):
        assert f"  {name} " in out
    script = (
        "import importlib.util, sys; find = importlib.util.find_spec; "
        "importlib.util.find_spec = lambda name, package=None: None if name == 'bokeh' else find(name, package); "
        f"from tiny_biomoe.cli.main import main; main(['report', {str(folder)!r}, '-o', 'r.html'])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == 'error: exploring embeddings needs bokeh: pip install "tiny-biomoe[explore]"\n'
