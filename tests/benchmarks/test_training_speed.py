"""The bench of training speed: its rows compute, and it compares within a size."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from click import ClickException
from click.testing import CliRunner
from conftest import ROOT

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


def test_another_checkout_takes_turns_on_the_same_batches_and_learns_alike():
    here = str(Path(training_speed.__file__).parent.parent)
    options = ["--rounds", "1", "--steps", "1", "--size", "32", "--images", "2", "--base", here, "--loss-steps", "2"]
    result = CliRunner().invoke(training_speed.main, [*options, "--skip-slow"], catch_exceptions=False)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.output.splitlines() if "|" in line]
    speeds, losses = rows[2:4], rows[6:]
    assert [row[0].split(",")[0] for row in speeds] == ["that checkout", "this one"]
    assert float(speeds[1][4]) == 1
    assert [row[2] for row in losses] == ["1", "2", "1", "2"]
    assert losses[0][1:] == losses[2][1:]  # the same code learns the same
    assert losses[0][3:] != losses[1][3:]


def test_a_loop_that_dies_is_an_error(tmp_path):
    with (
        training_speed.Loop(tmp_path, tmp_path / "none.npz") as loop,
        pytest.raises(ClickException, match="ended before"),
    ):
        loop.run(32, "float32", 2, 1)


@pytest.mark.parametrize("name", ["ablation", "late_ablation", "training_speed", "quality"])
def test_benches_of_pretraining_run_as_files(name, monkeypatch, capsys):
    """As in a process of their own, which finds nothing but installed packages and the folder of the file."""
    script = ROOT / "benchmarks" / f"{name}.py"
    ours = [key for key in sys.modules if key.split(".")[0] in {"benchmarks", "pretraining"}]
    kept = {key: sys.modules.pop(key) for key in ours}
    elsewhere = [each for each in sys.path if not Path(each or ".").resolve().is_relative_to(ROOT) or ".venv" in each]
    monkeypatch.setattr(sys, "path", [str(script.parent), *elsewhere])
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    try:
        with pytest.raises(SystemExit) as done:
            runpy.run_path(str(script), run_name="__main__")
    finally:
        for key in [key for key in sys.modules if key.split(".")[0] in {"benchmarks", "pretraining"}]:
            del sys.modules[key]
        sys.modules.update(kept)
    assert done.value.code == 0
    assert "Usage:" in capsys.readouterr().out
