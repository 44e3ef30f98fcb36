"""The map, the atlas and the hit list as files; how they look and work is in test_browser."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as parquet
import pytest
from explored_study import EVIL
from PIL import Image

from tiny_biomoe import ConfigError, explore, load_embeddings
from tiny_biomoe.explore import map_page
from tiny_biomoe.explore.shown_windows import choose_rows


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("map") / "map"
    return out, explore.write_map(folder, out)


class Outside(HTMLParser):
    """Addresses that the tags of a page name, but for what they hold themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attributes):
        named = [str(value) for name, value in attributes if name in ("src", "href", "srcset")]
        self.addresses += [value for value in named if not value.startswith("data:")]


def facts(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="facts">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_knows_the_study_and_needs_no_network(written):
    page = (written[0] / "map.html").read_text()
    found = facts(page)
    assert found["representations"] == ["waveform", "scalogram"]
    assert found["modalities"] == ["bvp", "eda"]
    assert [each["title"] for each in found["columns"]][:6] == [
        "label", "subject", "modality", "channel", "recording", "room",
    ]  # fmt: skip
    assert found["first"] == 0
    assert found["columns"][0]["labels"] == [EVIL, "rest"]
    assert EVIL not in page
    outside = Outside()
    outside.feed(page)
    assert outside.addresses == []
    assert 1_000_000 < len(page) < 2_000_000


def test_every_window_has_its_pictures(written):
    pictures = sorted(path.relative_to(written[0]).as_posix() for path in written[0].rglob("*.png"))
    assert len(pictures) == 2 * 35
    assert pictures[0] == "pictures/scalogram/0/0.png"
    assert written[1] == ["Projected by principal components: 35 windows are too few for UMAP, which needs 100."]


def test_an_earlier_map_is_replaced_and_nothing_else(folder, tmp_path):
    out = tmp_path / "map"
    for size in (10, 5):
        explore.write_map(folder, out, sample=size, representation="waveform")
        assert len(list(out.rglob("*.png"))) == size
    assert "5 of 35 windows" in (out / "map.html").read_text()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds files that are no map"):
        explore.write_map(folder, tmp_path / "other")


def test_without_recordings_the_map_has_no_pictures_and_says_so(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    remarks = explore.write_map(folder, tmp_path / "map", sample=6, recordings=tmp_path / "empty")
    assert remarks[1].startswith("6 windows without a picture: the recording cannot be read (No such file")
    assert len(remarks) == 2
    assert list((tmp_path / "map").rglob("*.png")) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"color": "age"}, "no column 'age': choose from id, source"),
        ({"color": "unix_start"}, "unknown color 'unix_start'"),
        ({"modality": "ecg"}, "holds no window of ecg"),
        ({"representation": "psd"}, "no psd"),
        ({"sample": 0}, "sample=0"),
    ],
)
def test_what_is_not_in_the_study_cannot_be_shown(folder, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        explore.write_map(folder, tmp_path / "map", **options)
    assert not (tmp_path / "map").exists()


def test_a_map_that_was_stopped_is_written_again(folder, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(map_page, "draw_pictures", stopped)
        with pytest.raises(KeyboardInterrupt):
            explore.write_map(folder, tmp_path / "map", sample=5)
    assert "run it again" in (tmp_path / "map" / "map.html").read_text()
    explore.write_map(folder, tmp_path / "map", sample=5, pictures=False)
    assert "5 of 35 windows" in (tmp_path / "map" / "map.html").read_text()


def test_a_sample_is_the_same_for_the_same_seed(folder):
    opened = explore.EmbeddingFolder.open(folder)
    rows = choose_rows(opened, 12, 1)
    assert rows.tolist() == choose_rows(opened, 12, 1).tolist() != choose_rows(opened, 12, 2).tolist()
    assert (np.diff(rows) > 0).all()
    assert len(choose_rows(opened, 100, 1)) == 35
    ids, vectors, table = load_embeddings(folder, "scalogram")
    assert opened.take(rows[::-1])["id"].to_pylist() == [ids[row] for row in rows[::-1]]
    assert opened.vectors("scalogram", rows).tobytes() == vectors[rows].tobytes()
    modality = table["modality"].to_pylist()
    assert {modality[row] for row in choose_rows(opened, 9, 1, "gsr")} == {"eda"}


def test_an_atlas_holds_places_neighbours_and_pictures(folder, tmp_path):
    explore.write_atlas(folder, tmp_path / "map.parquet", representation="scalogram")
    table = parquet.read_table(tmp_path / "map.parquet")
    ids, vectors, facts = load_embeddings(folder, "scalogram")
    assert table["id"].to_pylist() == ids
    assert set(facts.column_names) < set(table.column_names)
    row = table.slice(7, 1).to_pylist()[0]
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    assert row["neighbors"]["ids"][0] == 7
    expected = np.sort(1 - unit @ unit[7])[:15]
    np.testing.assert_allclose(row["neighbors"]["distances"], expected, atol=1e-6)
    assert Image.open(io.BytesIO(row["picture"]["bytes"])).size == (296, 112)
    assert np.isfinite([row["x"], row["y"]]).all()
    with pytest.raises(ConfigError, match=r"the output ends in \.parquet"):
        explore.write_atlas(folder, tmp_path / "map.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["map.parquet"]


def test_a_hit_list_of_a_vector_has_no_picture_of_it(folder, tmp_path):
    hits = explore.search("P1/BVP.csv#BVP@20", folder, k=2)
    query = explore.Query(np.ones(192, np.float32), "bvp", "waveform", {}, "<i>mine</i>")
    explore.write_similar(query, hits, folder, tmp_path / "s.html", remark="Found by hand.")
    page = (tmp_path / "s.html").read_text()
    assert "&lt;i&gt;mine&lt;/i&gt;" in page
    assert page.count("<img") == 2
    assert f"{hits['similarity'][0].as_py():.4f}" in page
    assert "Found by hand." in page
