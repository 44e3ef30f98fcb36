"""The report: numbers that are right, everything that a study holds escaped, one file."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from explored_study import EVIL, embed_explored

from tiny_biomoe import ConfigError, explore
from tiny_biomoe.explore.report_facts import (
    nearest_distances,
    quality_over_time,
    seconds_covered,
    subjects_apart,
    sums,
)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words += f" {data}"


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    remarks = explore.write_report(folder, path)
    return path.read_text(), remarks


def test_overlapping_windows_count_once():
    table = pa.table(
        {
            "source": ["a", "a", "b", "a", "a"], "channel": ["x", "x", "x", "y", "x"],
            "start": [0.0, 5.0, 5.0, 5.0, 30.0], "stop": [10.0, 15.0, 15.0, 15.0, 40.0],
        }
    )  # fmt: skip
    assert seconds_covered(table).tolist() == [10, 5, 10, 10, 10]


def test_sums_keep_what_is_zero_apart_from_what_is_not_there():
    found = sums(["s", "t"], ["x", "y"], np.array([0.0, 2.0]))
    assert found == {"s": {"x": 0.0}, "t": {"y": 2.0}}


def test_quality_is_averaged_along_the_recordings():
    table = pa.table(
        {
            "modality": ["ecg"] * 4, "start": [0.0, 60.0, 0.0, 60.0], "missing": [0.0, 0.2, 0.0, 0.4],
            "flat": [0.1] * 4, "clipped": [0.0] * 4,
        }
    )  # fmt: skip
    (found,) = quality_over_time(table)
    np.testing.assert_allclose(found.minutes, [0.25, 0.75])
    np.testing.assert_allclose(found.shares["missing"], [0, 0.3])
    assert found.means["flat"] == pytest.approx(0.1)


def test_the_nearest_other_window_is_not_the_window_itself():
    unit = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    np.testing.assert_allclose(nearest_distances(unit), [0, 0, 1, 1])


def test_the_silhouette_is_that_of_scikit_learn(rng):
    from sklearn.metrics import silhouette_samples

    vectors = rng.standard_normal((60, 192)) + np.repeat(2 * rng.standard_normal((3, 192)), 20, axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    subjects = np.repeat(np.array(["a", "b", "c"], object), 20)
    expected = silhouette_samples(vectors, subjects.astype(str), metric="cosine")
    found = subjects_apart(vectors.astype(np.float32), subjects, "ecg")
    assert [each.subject for each in found] == ["a", "b", "c"]
    for place, each in enumerate(found):
        assert each.silhouette == pytest.approx(expected[20 * place : 20 * place + 20].mean(), abs=1e-5)
        assert each.windows == 20


def test_one_subject_alone_is_not_apart():
    assert subjects_apart(np.eye(6, 192, dtype=np.float32), np.array(["a"] * 6, object), "ecg") == []


def test_the_numbers_of_the_study_are_on_the_page(written):
    page = Page(written[0])
    words = re.sub(r"\s+", " ", page.words)
    assert "Of 13 inputs 12 were embedded (1 of them in part), 1 failed and 0 were skipped." in words
    assert "35 windows of 6 recordings, embedded with" in words  # of which 12 rows are stretches
    assert "is flat: all 40 samples are 2.5" in words
    assert "column '0', row 3" in words
    assert "All: bvp 3 min, eda 2.8 min." in words
    assert "rest 17 48.6% 2.8 min 3" in words
    assert "weights stub" in words
    assert written[1] == ["Projected by principal components: 35 windows are too few for UMAP, which needs 100."]


def test_what_a_study_holds_is_escaped_and_nothing_is_fetched(written):
    page = Page(written[0])
    assert "script" not in {tag for tag, _ in page.tags}
    assert EVIL in page.words
    assert "<b>S03</b>" in page.words
    for tag, attributes in page.tags:
        for name in ("src", "srcset", "href"):
            if name in attributes:
                assert str(attributes[name]).startswith(("data:", "#")), (tag, attributes)
        if tag == "img":
            assert attributes["alt"]
    assert sum(tag == "img" for tag, _ in page.tags) == 2 + 1 + 3  # quality of two modalities, map, outliers


def test_the_same_folder_gives_the_same_report(folder, written, tmp_path):
    explore.write_report(folder, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == written[0]


def test_without_recordings_the_report_says_why_it_has_no_pictures(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    remarks = explore.write_report(folder, tmp_path / "r.html", recordings=tmp_path / "empty")
    assert "cannot be read (No such file or directory)" in remarks[-1]
    assert "No picture: " in Page((tmp_path / "r.html").read_text()).words


def test_a_study_of_whole_recordings_has_a_report(tmp_path):
    out = embed_explored(tmp_path, window=None)
    explore.write_report(out, tmp_path / "r.html", representation="scalogram", color="room")
    words = Page((tmp_path / "r.html").read_text()).words
    assert "whole recordings" in words
    assert "coloured by\nroom" in words


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("report.txt", {}, "the output ends in .html or .htm"),
        ("no/such/report.html", {}, "does not exist: create it first"),
        ("r.html", {"representation": "psd"}, "no psd"),
        ("r.html", {"color": "age"}, "no column 'age'"),
        ("r.html", {"recordings": "/no/such/folder"}, "there is no such folder"),
    ],
)
def test_what_cannot_be_written_is_refused(folder, tmp_path, output, options, message):
    with pytest.raises(ConfigError, match=message):
        explore.write_report(folder, tmp_path / output, **options)
    assert list(tmp_path.iterdir()) == []
