"""The same shards from a Ray cluster of this machine, also when actors and the driver are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ray
from conftest import ROOT
from stub_study import Stub, digests, make_study, pulse

from tiny_biomoe import ConfigError, TinyBioMoE, cluster
from tiny_biomoe.batch.run import embed_study
from tiny_biomoe.batch.worker import InputFailed, Observer


@pytest.fixture(scope="module", autouse=True)
def started():
    """A cluster of two processors on this machine, which opens no dashboard and reports to nobody."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr("tiny_biomoe.batch.plan.GROUP_FILES", 2)


def embed(study, out, **options):
    said = {"window": 10, "shard_windows": 3, "threads": 1, "model": Stub, **options}
    return embed_study(study, out, ["waveform", "psd"], **said)


def test_shards_of_a_cluster_are_those_of_one_process(tmp_path):
    study = make_study(tmp_path / "study")
    summary = embed(study, tmp_path / "here")
    assert embed(study, tmp_path / "cluster", engine=cluster.OnRay(actors=2)) == summary
    assert digests(tmp_path / "cluster") == digests(tmp_path / "here")


def test_actors_are_killed_on_the_way(tmp_path):
    class Killer(Observer):
        killed = 0

        def embedded(self, windows, input_bytes):
            if self.killed < 3:
                for pid in actors():
                    os.kill(pid, signal.SIGKILL)
                    self.killed += 1

    study, killer = make_study(tmp_path / "study"), Killer()
    embed(study, tmp_path / "here")
    embed(study, tmp_path / "cluster", engine=cluster.OnRay(actors=2), observer=killer)
    assert killer.killed >= 1
    assert digests(tmp_path / "cluster") == digests(tmp_path / "here")


def actors() -> list[int]:
    """Processes of this machine's actors that embed."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                command = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if command.startswith(b"ray::_Actor"):
                found.append(int(entry))
    return found


def test_the_driver_is_killed_on_the_way(tmp_path):
    study = make_study(tmp_path / "study")
    embed(study, tmp_path / "here")
    program = f"""
import tiny_biomoe.batch.plan, sys
tiny_biomoe.batch.plan.GROUP_FILES = 2
from stub_study import Stub
from tiny_biomoe.batch.run import embed_study
from tiny_biomoe.cluster import OnRay
embed_study({str(study)!r}, {str(tmp_path / "cluster")!r}, ["waveform", "psd"], model=Stub, window=10, shard_windows=3,
            threads=1, engine=OnRay(address={ray.get_runtime_context().gcs_address!r}, actors=1))
"""
    driver = subprocess.Popen([sys.executable, "-c", program])
    shards = tmp_path / "cluster" / "embeddings"
    deadline = time.monotonic() + 600
    try:
        while not (shards.is_dir() and any(shards.glob("*.parquet"))) and driver.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        driver.kill()
        driver.wait()
    assert not (tmp_path / "cluster" / "manifest.json").exists()
    embed(study, tmp_path / "cluster", engine=cluster.OnRay(actors=2))
    assert digests(tmp_path / "cluster") == digests(tmp_path / "here")


def test_errors_of_actors_are_those_of_one_process(tmp_path):
    study = make_study(tmp_path / "study")
    with pytest.raises(InputFailed, match=r"S02/EDA\.csv: EDA: 20-30 s, is flat"):
        embed(study, tmp_path / "out", engine=cluster.OnRay(actors=1), on_error="stop")
    with pytest.raises(ConfigError, match="actors=-1"):
        embed(study, tmp_path / "other", engine=cluster.OnRay(actors=-1))


def test_no_actor_outlives_a_run(tmp_path):
    embed(make_study(tmp_path / "study"), tmp_path / "out", engine=cluster.OnRay(actors=2))
    deadline = time.monotonic() + 20
    while actors():
        assert time.monotonic() < deadline, "an actor lives on"
        time.sleep(0.1)


def test_row_75_ctrl_c_keeps_the_whole_shards_and_gives_up_those_begun(tmp_path):
    class Interrupt(Observer):
        def embedded(self, windows, input_bytes):
            os.kill(os.getpid(), signal.SIGINT)

    study = make_study(tmp_path / "study")
    embed(study, tmp_path / "here")
    with pytest.raises(KeyboardInterrupt):
        embed(study, tmp_path / "cluster", engine=cluster.OnRay(actors=1), observer=Interrupt())
    assert not (tmp_path / "cluster" / "manifest.json").exists()
    expected, found = digests(tmp_path / "here"), digests(tmp_path / "cluster")
    shards = {name: sha256 for name, sha256 in found.items() if "shard-" in name and "old" not in name}
    assert shards.items() <= expected.items()
    embed(study, tmp_path / "cluster", engine=cluster.OnRay(actors=1))
    assert digests(tmp_path / "cluster") == expected


def test_a_row_that_cannot_be_embedded_says_why():
    stage = cluster._Embedder(["waveform"], ("fs", "modality", "signal"), None, {})
    signals = np.empty(3, object)
    signals[:] = [pulse(10, 64), pulse(10, 64), None]
    found = stage({"signal": signals, "fs": np.array([64, 64, 64]), "modality": np.array(["bvp", "voice", "bvp"])})
    errors = found["error"].to_pylist()
    assert errors[0] is None
    assert "voice" in errors[1]
    assert errors[2]


def test_a_data_set_is_embedded_as_a_stage(tmp_path):
    signals = [pulse(10, 64, pitch) for pitch in (1.1, 1.2, 1.3)] + [np.full(640, 2.0)]
    rows = [{"name": f"s{index}", "fs": 64, "signal": signal} for index, signal in enumerate(signals)]
    found = cluster.embed_dataset(ray.data.from_items(rows), "waveform", modality="ppg").take_all()
    found.sort(key=lambda row: row["name"])
    model = TinyBioMoE.from_pretrained()
    for row, signal_ in zip(found[:3], signals, strict=False):
        expected = model.embed(signal_, 64, "bvp", "waveform")
        assert np.asarray(row["waveform"], np.float32).tobytes() == expected.tobytes()
        assert row["error"] is None
    assert found[3]["waveform"] is None
    assert "is flat" in found[3]["error"]
    assert set(found[0]) == {"name", "fs", "waveform", "error"}
