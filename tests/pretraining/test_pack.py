"""The pack: every source of both folders of archives, at the rates that pictures need, with who is to be credited."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from toy_pretraining import toy_source, toy_task

from pretraining import pack
from pretraining.credits import CREDITS, KNOWN
from pretraining.dataset_readers import DATA_SETS
from pretraining.sources import read_pack


def test_a_task_is_reduced_to_the_rate_that_pictures_need():
    task = toy_task("ecg", 300.0)
    source = pack.reduced(task)
    assert (source.name, source.modality, source.fs, source.classes) == ("ecg", "ecg", 125.0, ("slow", "fast"))
    assert np.array_equal(source.labels, task.labels)
    assert np.array_equal(source.people, task.groups)
    assert np.array_equal(source.held_out, task.held_out)
    assert source.durations == pytest.approx([2.0] * 12)
    t, inner = np.arange(250) / 125, slice(25, -25)
    wanted = np.interp(t, np.arange(600) / 300, task.recording(0))
    assert np.corrcoef(source.recording(0)[inner], wanted[inner])[0, 1] > 0.99


def test_emg_keeps_its_rate_and_its_samples():
    task = toy_task("emg", 200.0)
    source = pack.reduced(task)
    assert source.fs == 200
    assert np.abs(source.recording(3) - task.recording(3)).max() <= source.steps[3] / 2 * (1 + 1e-6)


def test_the_command_writes_a_pack_with_its_credits_and_tells_what_it_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "load_tasks", lambda archives, cache: [toy_task("eeg", 100.0)])
    monkeypatch.setattr(pack, "read_sources", lambda archives: iter([toy_source()]))
    done = CliRunner().invoke(pack.main, ["--archives", str(tmp_path), "--out", str(tmp_path / "pack")])
    assert done.exit_code == 0, done.output
    assert "| toy-resp | 8 | 4 | 1 | 8 | 0.27 | 32 | slow, fast |" in done.output
    assert [source.name for source in read_pack(tmp_path / "pack")] == ["eeg", "toy-resp"]
    about = json.loads((tmp_path / "pack" / "pack.json").read_text())["about"]
    assert about["wise"]["licence"] == "ODC-By 1.0"


def test_every_data_set_is_credited():
    credited = {name.split("-")[0] for name in CREDITS}
    assert credited == {*DATA_SETS, "ecg", "emg", "eeg"}
    assert all(credit.authors and credit.reference and credit.licence for credit in CREDITS.values())
    assert {name for name, credit in CREDITS.items() if credit.seen == KNOWN} == {
        "ecg", "eeg", "nurse", "fantasia", "drivedb", "wrist",
    }  # fmt: skip
