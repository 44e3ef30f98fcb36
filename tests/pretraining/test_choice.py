"""The rule by which weights replace others."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from pretraining.choice import countable, main, table, verdict
from pretraining.sources import Row, gather, write_pack


def read(*shares: float, people: int = 8) -> np.ndarray:
    """Counts of ten windows a class and person, of two classes, of which such shares are read: one a protocol."""
    return np.stack([np.full((people, 2, 2), (10 * share, 10.0)) for share in shares])


def mixed(good: float, bad: float, people: int = 8) -> np.ndarray:
    """The same in one protocol, half of the people read well."""
    found = np.full((1, people, 2, 2), 10.0)
    found[0, : people // 2, :, 0], found[0, people // 2 :, :, 0] = 10 * good, 10 * bad
    return np.concatenate([found, found])


def test_what_nobody_reads_does_not_count():
    assert [which.tolist() for which in countable([read(0.5, 0.6), mixed(0.9, 0.2), mixed(0.9, 0.6)])] == [
        [False, True],
        [False, False],
        [True, True],
    ]


def test_a_gain_beyond_the_interval_passes_unless_a_trial_is_lost():
    all_count = [np.array([True, True])] * 2
    standing = [read(0.5, 0.5), read(0.7, 0.7)]
    better = verdict([read(0.7, 0.6), read(0.7, 0.7)], standing, all_count, 1)
    assert better.passes
    assert better.gain == pytest.approx((0.075, 0.075, 0.075))
    assert better.mean == pytest.approx(0.675)
    assert better.scores == [[0.7, 0.6], [0.7, 0.7]]
    lost = verdict([read(0.9, 0.9), read(0.6, 0.6)], standing, all_count, 1)
    assert lost.gain[1] > 0
    assert lost.trials[1] == pytest.approx((-0.1, -0.1, -0.1))
    assert not lost.passes
    not_counted = verdict([read(0.9, 0.9), read(0.6, 0.6)], standing, [all_count[0], np.array([False, False])], 1)
    assert not_counted.passes
    assert not_counted.trials[1] is None
    assert not verdict(standing, standing, all_count, 1).passes


def test_more_candidates_ask_for_a_wider_interval():
    taken, standing = [np.array([True, True])], [read(0.5, 0.5)]
    alone, of_many = (verdict([mixed(0.8, 0.4)], standing, taken, candidates) for candidates in (1, 20))
    assert of_many.gain[0] == alone.gain[0]
    assert of_many.gain[1] < alone.gain[1]
    assert of_many.gain[2] > alone.gain[2]


def test_the_command_writes_the_table_and_goes_on(tmp_path, monkeypatch):
    t = np.arange(16 * 120) / 16
    rows = [
        Row(np.sin(2 * np.pi * rate * t) + 0.02 * np.cos(t), person, held_out=True)
        for person in range(3)
        for rate in (0.9, 1.2, 1.5)
    ]
    pulse = gather("ds000210-bvp", "bvp", 16.0, (), (15.0, 40.0), 30.0, rows, 256.0)
    write_pack(tmp_path / "pack", [pulse], {})
    from tiny_biomoe import TinyBioMoE

    TinyBioMoE().save_pretrained(tmp_path / "new")
    options = ["--data", str(tmp_path / "pack"), "--most", "3", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, [*options, "--candidate", f"A={tmp_path / 'new'}"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "out/choice.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["the weights that stand", "A"]
    assert "+0.0 [+0.0, +0.0] | no |" in lines[2]
    monkeypatch.setattr("pretraining.choice.embed_levels", None)  # vectors are kept
    assert CliRunner().invoke(main, [*options, "--candidate", f"A={tmp_path / 'new'}"]).output == result.output
    assert CliRunner().invoke(main, [*options, "--candidate", "A"]).exit_code == 2


def test_numbers_that_do_not_count_stand_in_brackets():
    one = verdict([read(0.7, 0.6)], [read(0.5, 0.5)], [np.array([True, False])], 1)
    assert "| new | 0.700 / (0.600) | 0.700 | +20.0 [+20.0, +20.0] | yes |" in table(
        ["pulse"], [np.array([True, False])], {"new": one}
    )
