"""The windows nearest to one: the same as by brute force, among those that are allowed, of comparable vectors alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from explored_study import EVIL, embed_explored
from stub_study import Stub

from tiny_biomoe import ConfigError, SignalError, explore, load_embeddings
from tiny_biomoe.explore.neighbours import SearchableWindows


@pytest.fixture(scope="module")
def loaded(folder):
    return load_embeddings(folder, "waveform")


def by_brute_force(loaded, id, allowed):
    """Ids and similarities of the allowed windows, the nearest first."""
    ids, vectors, table = loaded
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    similarity = unit @ unit[ids.index(id)]
    rows = [row for row in range(len(ids)) if allowed({name: table[name][row].as_py() for name in table.column_names})]
    rows.sort(key=lambda row: -similarity[row])
    return [ids[row] for row in rows], similarity[rows]


BVP, OTHER = "P1/BVP.csv#BVP@20", "P1/BVP.csv"


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({}, lambda row: row["modality"] == "bvp" and row["source"] != OTHER),
        ({"same_recording": True}, lambda row: row["modality"] == "bvp"),
        ({"any_modality": True}, lambda row: row["source"] != OTHER),
        ({"where": {"label": EVIL}}, lambda r: r["label"] == EVIL and r["modality"] == "bvp" and r["source"] != OTHER),
        ({"where": {"subject": ["S01", "S02"], "modality": "gsr"}}, lambda r: r["subject"] in ("S01", "S02")
         and r["modality"] == "eda"),
        ({"where": {"room": "2", "start": [0.0, "10"]}}, lambda row: row["room"] == 2 and row["start"] <= 10
         and row["modality"] == "bvp"),
        ({"where": {"room": [0, 2.5]}}, lambda row: row["room"] == 0 and row["modality"] == "bvp"),
    ],
)  # fmt: skip
def test_the_nearest_are_those_of_brute_force(folder, loaded, options, allowed):
    ids, similarity = by_brute_force(loaded, BVP, allowed)
    hits = explore.search(BVP, folder, k=5, **options)
    assert hits["id"].to_pylist() == ids[:5]
    np.testing.assert_allclose(hits["similarity"].to_numpy(), similarity[:5], rtol=0, atol=1e-6)
    row = dict(zip(loaded[2].column_names, zip(*loaded[2].to_pydict().values(), strict=True), strict=False)) and {
        name: loaded[2][name][loaded[0].index(ids[0])].as_py() for name in loaded[2].column_names
    }
    found = hits.drop_columns(["id", "similarity"]).slice(0, 1).to_pylist()[0]
    assert found == {name: row[name] for name in found}


def test_more_are_not_found_than_there_are(folder):
    hits = explore.search(BVP, folder, k=1000)
    assert hits.num_rows == 12
    assert np.all(np.diff(hits["similarity"].to_numpy()) <= 0)


def test_a_vector_is_searched_for_with_its_provenance(folder, loaded):
    ids, vectors, _ = loaded
    provenance = Stub().provenance(64, "bvp", "waveform")
    hits = explore.search(vectors[ids.index(BVP)], folder, k=1, provenance=provenance)
    assert hits["id"].to_pylist() == [BVP]
    assert hits["similarity"][0].as_py() == pytest.approx(1, abs=1e-7)
    with pytest.raises(ConfigError, match="pass provenance="):
        explore.search(vectors[0], folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"tensors_sha256": "f" * 64, "weights": "mine"},
            r"weights: mine \(ffffffffffff\.\.\.\) here, stub \(stub\) in",
        ),
        ({"recipe_sha256": "0" * 64}, "recipe: 000000000000... here, "),
        ({"scale": (0.0, 20.0)}, r"scale: .* here, window in the folder"),
        ({"tensors_sha256": None}, "does not name its weights"),
    ],
)
def test_other_weights_recipes_and_scales_are_refused_with_the_difference(folder, loaded, changed, message):
    provenance = {**Stub().provenance(64, "bvp", "waveform"), **changed}
    with pytest.raises(ConfigError, match=message):
        explore.search(loaded[1][0], folder, provenance=provenance)


@pytest.mark.parametrize(
    ("query", "options", "error", "message"),
    [
        ("P1/BVP.csv#BVP@21", {}, ConfigError, "holds no window 'P1/BVP.csv#BVP@21'"),
        (BVP, {"k": 0}, ConfigError, "k=0"),
        (BVP, {"where": {"colour": "red"}}, ConfigError, "no column 'colour': choose from id, source"),
        (
            BVP,
            {"where": {"label": "none such"}},
            ConfigError,
            "no window of bvp and with label=.none such. and",
        ),
        (BVP, {"where": {"start": "soon"}}, ConfigError, "start='soon': the column holds double"),
        (BVP, {"where": {"room": "hall"}}, ConfigError, "room='hall': the column holds int64"),
        (BVP, {"representation": "psd"}, ConfigError, "holds waveform, scalogram, no psd"),
        (np.zeros(192, np.float32), {"provenance": ...}, SignalError, "zero or not finite"),
        (np.full(192, np.nan), {"provenance": ...}, SignalError, "zero or not finite"),
        (np.ones(191), {"provenance": ...}, SignalError, "has 191 numbers, and the folder's vectors have 192"),
        (np.ones((2, 192)), {"provenance": ...}, SignalError, r"shape \(2, 192\)"),
    ],
)
def test_queries_that_cannot_be_answered_say_why(folder, query, options, error, message):
    if "provenance" in options:
        options = {"provenance": Stub().provenance(64, "bvp", "waveform")}
    with pytest.raises(error, match=message):
        explore.search(query, folder, **options)


def test_a_folder_that_is_none_damaged_or_empty_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="manifest.json is not there"):
        explore.search(BVP, tmp_path)
    out = embed_explored(tmp_path)
    shard = next((out / "embeddings").iterdir())
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ConfigError, match="is damaged: run the command"):
        explore.search(BVP, out)


def test_windows_in_memory_are_searched_many_times(folder, loaded):
    windows = SearchableWindows.open(folder, "waveform")
    assert windows.vectors.tobytes() == loaded[1].tobytes()
    for id in loaded[0][::6]:
        assert windows.search(id, 4).equals(explore.search(id, folder, k=4, representation="waveform"))


def test_an_index_finds_the_same_and_knows_what_it_was_built_from(folder, tmp_path):
    pytest.importorskip("usearch", reason="no usearch")
    windows = SearchableWindows.open(folder, "waveform")
    index = explore.ApproximateIndex.open(tmp_path / "study.index", windows)
    assert index.recall == 1.0
    again = explore.ApproximateIndex.open(tmp_path / "study.index", windows)
    assert again.recall == 1.0
    assert windows.search(BVP, 4, index=again).equals(windows.search(BVP, 4))
    with pytest.raises(ConfigError, match="is no index of these vectors"):
        explore.ApproximateIndex.open(tmp_path / "study.index", SearchableWindows.open(folder, "scalogram"))


def test_an_index_of_many_windows_keeps_to_what_is_allowed(folder):
    pytest.importorskip("usearch", reason="no usearch")
    random = np.random.default_rng(0)
    vectors = random.standard_normal((4000, 192)).astype(np.float32)
    base = SearchableWindows.open(folder, "waveform")
    norms = np.linalg.norm(vectors, axis=1)
    many = SearchableWindows(base.folder, "waveform", vectors, norms, base.sources, base.modalities)
    index = explore.ApproximateIndex._build(many)
    assert index.recall > 0.5
    mask = np.arange(4000) % 2 == 0
    rows, similarity = index.nearest(many, vectors[10], 5, mask)
    assert rows[0] == 10
    assert similarity[0] == pytest.approx(1)
    assert mask[rows].all()


def test_one_window_of_a_recording_is_embedded_as_the_folder_was(folder, loaded):
    study = folder.parent / "study"
    query = explore.query_recording(study / "P1" / "BVP.csv", folder, start=20, model=Stub())
    np.testing.assert_allclose(query.vector, loaded[1][loaded[0].index(BVP)], rtol=0, atol=1e-4)
    assert query.sources == {"P1/BVP.csv"}
    assert query.facts[3] == ("time", "20 to 30 s")
    assert explore.search(query, folder, k=3).equals(explore.search(query, folder, k=3, representation="waveform"))
    assert "P1/BVP.csv" not in explore.search(query, folder, k=99)["source"].to_pylist()


def test_a_copy_under_another_name_is_the_same_recording(folder, tmp_path):
    copy = tmp_path / "BVP.csv"
    copy.write_bytes((folder.parent / "study" / "P1" / "BVP.csv").read_bytes())
    assert explore.query_recording(copy, folder, model=Stub).sources == {"P1/BVP.csv"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"start": 51}, SignalError, "starts at 50 s at the latest, not at 51 s"),
        ({"start": -1}, ConfigError, "start=-1"),
        ({"start": np.nan}, ConfigError, "start=nan"),
        ({"representation": "psd"}, ConfigError, "no psd"),
        ({"model": Stub("other")}, ConfigError, r"weights: other \(other\) here, stub \(stub\) in the folder"),
    ],
)
def test_a_recording_that_cannot_be_a_query_says_why(folder, options, error, message):
    options = {"model": Stub(), **options}
    with pytest.raises(error, match=message):
        explore.query_recording(folder.parent / "study" / "P1" / "BVP.csv", folder, **options)


def test_a_flat_window_and_a_file_of_nothing_known_are_no_queries(folder, tmp_path):
    with pytest.raises(SignalError, match="is flat"):
        explore.query_recording(folder.parent / "study" / "P2" / "EDA.csv", folder, start=20, model=Stub())
    (tmp_path / "numbers.csv").write_text("".join(f"{t % 7}\n" for t in range(3000)))
    with pytest.raises(SignalError, match="does not say what it measures"):
        explore.query_recording(tmp_path / "numbers.csv", folder, model=Stub(), fs=64)
    (tmp_path / "two.csv").write_text("BVP,EDA\n" + "".join(f"{t % 7},{t % 11}\n" for t in range(3000)))
    with pytest.raises(SignalError, match=r"holds 2 channels \(BVP, EDA\): choose one"):
        explore.query_recording(tmp_path / "two.csv", folder, model=Stub(), fs=64)


def test_row_116_what_is_missing_elsewhere_does_not_keep_a_window_from_being_a_query(folder, tmp_path):
    lines = (folder.parent / "study" / "P1" / "BVP.csv").read_text().splitlines()[2:]
    whole = explore.query_recording(folder.parent / "study" / "P1" / "BVP.csv", folder, start=40, model=Stub())
    timed = [f"{at / 64:.6f},{value}" for at, value in enumerate(lines)]
    for name, rows in {
        "empty": [row.split(",")[0] + "," if 5 * 64 <= at < 8 * 64 else row for at, row in enumerate(timed)],
        "hole": timed[: 5 * 64] + timed[8 * 64 :],
    }.items():
        (tmp_path / f"{name}.csv").write_text("time [s],BVP\n" + "\n".join(rows) + "\n")
        found = explore.query_recording(tmp_path / f"{name}.csv", folder, start=40, model=Stub())
        assert np.corrcoef(found.trace, whole.trace)[0, 1] > 0.99
        with pytest.raises(
            SignalError, match=r"samples are missing for 3 s from 5 s on|lies in or beside missing samples"
        ):
            explore.query_recording(tmp_path / f"{name}.csv", folder, start=0, model=Stub())


def test_whole_recordings_are_compared_as_a_whole(tmp_path):
    out = embed_explored(tmp_path, window=None)
    recording = tmp_path / "study" / "P0" / "BVP.csv"
    assert explore.query_recording(recording, out, model=Stub()).facts[3] == ("time", "0 to 60 s")
    with pytest.raises(ConfigError, match="holds whole recordings: leave start out"):
        explore.query_recording(recording, out, model=Stub(), start=5)


def test_searching_loads_no_network_and_no_pages(folder):
    import subprocess
    import sys

    script = (
        "import sys; from tiny_biomoe import explore; "
        f"explore.search({BVP!r}, {str(folder)!r}); "
        "print(json.dumps([n for n in ('torch', 'bokeh', 'matplotlib', 'umap') if n in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import json; {script}"], capture_output=True, text=True, check=True, cwd=folder
    )
    assert json.loads(done.stdout) == []
