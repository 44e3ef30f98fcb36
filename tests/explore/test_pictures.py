"""Small pictures: of the windows that were embedded, small enough, and never of a file that has changed."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
from explored_study import embed_explored
from PIL import Image

from tiny_biomoe import explore, load_embeddings, render
from tiny_biomoe.explore.pictures import INK, MAX_BYTES, SIDE, draw_pictures, draw_trace, to_png
from tiny_biomoe.images.rendering import PALETTE
from tiny_biomoe.readers.read import read


def shown(png: bytes) -> np.ndarray:
    """The picture on white, (height, width, 3)."""
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(ground, picture).convert("RGB")).astype(int)


def all_pictures(folder, representations=("waveform", "scalogram"), **options):
    opened = explore.EmbeddingFolder.open(folder)
    ids, _, table = load_embeddings(folder)
    found = draw_pictures(opened, ids, table["source"].to_pylist(), representations, **options)
    return ids, sorted(found, key=lambda each: each.number)


def test_every_window_has_its_image_and_trace(folder):
    ids, found = all_pictures(folder)
    assert [each.number for each in found] == list(range(len(ids))) == list(range(35))
    assert all(each.reason is None and len(each.images) == 2 for each in found)
    assert all(len(image) <= MAX_BYTES for each in found for image in each.images)


def test_the_image_is_that_of_render(folder):
    ids, found = all_pictures(folder, ["scalogram"])
    (recording,) = read(folder.parent / "study" / "P1" / "BVP.csv")
    # the run filters the whole recording, `render` the window alone: they agree but for the edges
    image = render(recording.signal[20 * 64 : 30 * 64], 64, "bvp", "scalogram")
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)
    mine = shown(found[ids.index("P1/BVP.csv#BVP@20")].images[0])[:, :SIDE]
    assert np.abs(mine - np.asarray(small)).mean() < 20
    assert np.abs(mine - np.asarray(small)[::-1]).mean() > 40


def test_the_trace_is_the_signal(folder):
    ids, found = all_pictures(folder, ["waveform"])
    ink = (shown(found[ids.index("P1/BVP.csv#BVP@20")].images[0])[:, SIDE:] == INK).all(axis=2)
    turns = np.diff(np.flatnonzero(ink[:6].any(axis=0)))
    assert (turns > 3).sum() + 1 == pytest.approx(13, abs=1)  # beats of 1.3 Hz in ten seconds


def test_a_trace_reaches_from_lowest_to_highest_and_has_no_gap():
    signal = np.sin(np.linspace(0, 40 * np.pi, 5000)) * np.linspace(0, 1, 5000)
    grid = draw_trace(signal, 100, 50)
    assert grid.any(axis=0).all()
    assert grid[1].any()
    assert grid[-2:].any()
    for left, right in zip(grid.T, grid.T[1:], strict=False):
        rows, others = np.flatnonzero(left), np.flatnonzero(right)
        assert max(rows.min(), others.min()) <= min(rows.max(), others.max()) + 1
    assert draw_trace(np.ones(4), 100, 50).any(axis=0).all()


def test_noise_stays_within_the_size():
    random = np.random.default_rng(0)
    levels = random.integers(0, 256, (224, 224)).astype(np.uint8)
    png = to_png(levels, random.standard_normal(5000))
    assert len(png) <= MAX_BYTES
    assert Image.open(io.BytesIO(png)).size == (296, 112)


def test_a_smooth_image_keeps_its_colours():
    levels = np.tile(np.arange(224, dtype=np.uint8)[:, None], (1, 224))
    picture = shown(to_png(levels, np.arange(10.0)))[:, :SIDE]
    expected = PALETTE[np.arange(224).reshape(SIDE, 2).mean(axis=1).astype(int)]
    assert np.abs(picture[:, 0] - expected).max() <= 18


def test_a_file_that_changed_or_is_gone_has_a_reason_and_no_picture(folder, tmp_path):
    shutil.copytree(folder.parent / "study", tmp_path / "study")
    with (tmp_path / "study" / "P0" / "BVP.csv").open("a") as file:
        file.write("0.5\n")
    (tmp_path / "study" / "P1" / "BVP.csv").unlink()
    ids, found = all_pictures(folder, recordings=tmp_path / "study")
    reasons = {ids[each.number].split("#")[0]: each.reason or "" for each in found}
    assert reasons["P0/BVP.csv"] == "the recording has changed since it was embedded"
    assert "cannot be read (No such file" in reasons["P1/BVP.csv"]
    assert reasons["P2/BVP.csv"] == ""


def test_a_folder_that_does_not_know_its_recordings_says_so(tmp_path):
    out = embed_explored(tmp_path)
    (out / ".run" / "root").unlink()
    _, found = all_pictures(out)
    assert {each.reason for each in found} == {
        "the run did not note where its recordings lie: name their folder (--recordings)"
    }
    assert all(each.images for each in all_pictures(out, recordings=tmp_path / "study")[1])


def test_processes_draw_the_same(folder, monkeypatch):
    alone = [each.images for each in all_pictures(folder)[1]]
    monkeypatch.setattr("tiny_biomoe.explore.pictures.FEW", 0)
    assert [each.images for each in all_pictures(folder, workers=2)[1]] == alone
