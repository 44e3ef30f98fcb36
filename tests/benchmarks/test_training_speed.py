"""The bench of training speed: its rows compute, and it compares within a size."""

from __future__ import annotations

from click.testing import CliRunner

from benchmarks import training_speed


def test_a_row_counts_images_by_the_processors_seconds(monkeypatch):
    clock = iter((10.0, 14.0))
    monkeypatch.setattr(training_speed.time, "process_time", lambda: next(clock))
    done = []
    assert training_speed.Case("a row", 112, 18, lambda: done.append(1)).rate(6) == 6 * 18 / 4
    assert len(done) == 6


def test_it_prints_rows_of_every_loop(monkeypatch):
    monkeypatch.setattr(training_speed, "LATE_IMAGES", 4)
    options = ["--rounds", "1", "--steps", "1", "--size", "112", "--images", "3", "--skip-slow"]
    result = CliRunner().invoke(training_speed.main, options, catch_exceptions=False)
    rows = [line.split("|")[1:-1] for line in result.output.splitlines() if line.startswith("| ")]
    assert [row[0].split(",")[0].strip() for row in rows[1:]] == [
        "whole network", "late stages on kept maps", "keeping maps (once an image)",
    ]  # fmt: skip
    assert all(float(row[3]) > 0 for row in rows[1:])
    assert float(rows[1][4]) == 1
