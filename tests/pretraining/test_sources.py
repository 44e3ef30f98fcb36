"""Sources and packs: what is kept to which step, who is drawn how often, and what a damaged pack says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from toy_pretraining import toy_source

from pretraining import sources
from pretraining.sources import COLUMNS, Row, gather, quantise, read_pack, sources_digest, write_pack


@pytest.fixture
def pack(tmp_path):
    held = [toy_source("resp", 8.0), toy_source("bvp", 16.0, ())]
    write_pack(tmp_path / "pack", held, {"toy": {"licence": "CC0 1.0"}})
    return tmp_path / "pack", held


def test_samples_come_back_to_half_a_step_whatever_the_offset(rng):
    x = 1e4 + np.cumsum(rng.standard_normal(5000))
    step, level, kept = quantise(x, 256)
    assert np.abs(kept * step + level - x).max() <= step / 2 * (1 + 1e-9)
    assert step < np.median([piece.std() for piece in np.array_split(x, 19)]) / 200


def test_one_artefact_does_not_coarsen_a_recording(rng):
    x = rng.standard_normal(5000)
    clean, (step, _, _) = quantise(x, 64)[0], quantise(np.append(x, 300.0), 64)
    assert step == pytest.approx(clean, rel=0.1)


def test_a_constant_recording_is_kept_as_it_is():
    step, level, kept = quantise(np.full(100, 3.5), 64)
    assert (kept * step + level == 3.5).all()


def test_a_pack_is_read_as_it_was_written(pack):
    folder, held = pack
    found = read_pack(folder)
    assert [source.name for source in found] == ["toy-resp", "toy-bvp"]
    for ours, theirs in zip(held, found, strict=True):
        assert (ours.modality, ours.fs, ours.classes, ours.seconds) == (
            theirs.modality, theirs.fs, theirs.classes, theirs.seconds,
        )  # fmt: skip
        assert all(np.array_equal(getattr(ours, key), getattr(theirs, key)) for key in ("samples", *COLUMNS))
    assert sources_digest(held) == sources_digest(found)
    assert json.loads((folder / "pack.json").read_text())["about"]["toy"]["licence"] == "CC0 1.0"


@pytest.mark.parametrize("order", [0, 1])
def test_pieces_hold_every_int16(order, monkeypatch, rng):
    monkeypatch.setattr(sources, "PIECE", 1000)
    samples = np.append(rng.integers(-(2**15), 2**15, 2500), [-(2**15), 2**15 - 1, 0]).astype(np.int16)
    pieces = [sources.bz2.compress(piece) for piece in sources._planes(samples, order)]
    assert len(pieces) == 3
    assert np.array_equal(np.concatenate([sources._unfolded(piece, order) for piece in pieces]), samples)


def test_smooth_samples_are_kept_as_differences_and_white_ones_are_not(rng):
    assert sources._order((3000 * np.sin(np.arange(9999) / 50)).astype(np.int16)) == 1
    assert sources._order((300 * rng.standard_normal(9999)).astype(np.int16)) == 0


def test_a_recording_and_a_cut_of_it_agree():
    source = toy_source()
    assert np.array_equal(source.recording(3)[100:150], source.cut(3, 100, 50))
    assert source.durations.tolist() == [120.0] * 8


def test_people_held_out_are_never_drawn_and_the_others_by_the_root_of_their_time():
    rows = [
        Row(np.arange(n) % 7.0, person, held_out=person == 2) for n, person in ((100, 0), (300, 1), (100, 1), (99, 2))
    ]
    odds = gather("s", "resp", 1.0, (), (1.0, 2.0), 2.0, rows, 64.0).odds()
    assert odds[3] == 0
    assert odds.sum() == pytest.approx(1)
    assert odds[1:3].sum() / odds[0] == pytest.approx(2)  # four times the time
    assert odds[1] / odds[2] == pytest.approx(3)


def test_a_folder_without_a_pack_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m pretraining.pack"):
        read_pack(tmp_path)


def test_a_damaged_pack_is_refused(pack):
    path = pack[0] / "toy-resp.samples.bz2"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"toy-resp.samples.bz2 is damaged"):
        read_pack(pack[0])


def test_a_pack_of_another_format_is_refused(pack):
    (pack[0] / "pack.json").write_text('{"format": "tiny-biomoe-pack/0"}')
    with pytest.raises(ValueError, match="format is 'tiny-biomoe-pack/0'"):
        read_pack(pack[0])


def test_a_pack_is_not_written_over_another(pack):
    with pytest.raises(ValueError, match="holds a pack already"):
        write_pack(pack[0], pack[1], {})


def test_a_pack_that_is_too_large_is_no_pack(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SIZE_LIMIT", 1000)
    with pytest.raises(ValueError, match="MiB, over"):
        write_pack(tmp_path, [toy_source()], {})
    assert not (tmp_path / "pack.json").exists()
