"""The same shards from a Ray cluster of this machine, also when actors and the driver are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
from conftest import ROOT
from stub_study import Stub, digests, make_study, pulse

from tiny_biomoe import ConfigError, SignalError, TinyBioMoE, cluster
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


def stage(table, names=("waveform",), columns=("fs", "modality", "signal"), **options):
    """The stage of a data set, on one batch."""
    return cluster._Embedder(list(names), columns, None, options)(pa.table(table))


def test_a_row_that_cannot_be_embedded_says_why():
    whole = pulse(10, 64).tolist()
    signals = [whole, whole, None, whole, whole[:3], [2.0] * 640]
    found = stage({"signal": signals, "fs": [64, 64, 64, None, 64, 64], "modality": ["bvp", "voice", *["bvp"] * 4]})
    errors = found["error"].to_pylist()
    assert errors[0] is None
    assert [message[:20] for message in errors[1:4]] == [
        "unknown modality 'vo",
        "the row has no signa",
        "fs is missing: give ",
    ]
    assert "too short" in errors[4]
    assert "is flat" in errors[5]
    assert [each is None for each in found["waveform"].to_pylist()] == [False, *[True] * 5]
    nested = stage({"signal": [[whole, whole]]}, columns=(64, "bvp", "signal"))
    assert nested["error"].to_pylist() == ["the row holds several signals, and one is meant: give each a row"]


def test_a_fault_that_is_no_rows_is_raised(monkeypatch):
    def broken(*_, **__):
        raise MemoryError

    monkeypatch.setattr(cluster.Embedder, "embed", broken)
    with pytest.raises(MemoryError):
        stage({"signal": [pulse(10, 64).tolist()]}, columns=(64, "bvp", "signal"))


def test_row_137_columns_pass_as_they_are():
    athens = pa.timestamp("us", "Europe/Athens")
    carried = {
        "id": pa.array([2**60 + 1, None], pa.int64()),
        "when": pa.array([datetime(2024, 10, 27, 1, tzinfo=UTC)] * 2, athens),
        "day": pa.array([date(2024, 1, 1), None]),
        "label": pa.array([None, None], pa.string()),
        "kind": pa.array(["a", "b"]).dictionary_encode(),
        "nested": pa.array([[1, 2], []]),
    }
    found = stage({"signal": [pulse(10, 64).tolist()] * 2, **carried}, columns=(64, "bvp", "signal"))
    assert found.column_names == [*carried, "waveform", "error"]
    for name, values in carried.items():
        assert found.schema.field(name).type == values.type
        assert found[name].combine_chunks().equals(values) or found[name].to_pylist() == values.to_pylist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandd": 3}, "unknown option 'bandd': .*did you mean 'band'"),
        ({"band": (40, 2)}, "band"),
        ({"scale": "huge"}, "scale='huge'"),
        ({"fusion": "add"}, "every representation has a column of its own"),
        ({"window": 2}, "a row is one signal; embed_study cuts"),
        ({"representation": "psdd"}, "did you mean 'psd'"),
        ({"fs": -1}, "fs=-1"),
        ({"fs": "rate"}, "unknown column 'rate'"),
        ({"modality": "kind"}, "unknown column 'kind'"),
        ({"signal": "samples"}, "unknown column 'samples'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"representation": "psd"}, "has a column 'psd', which the result has as well"),
    ],
)
def test_row_137_wrong_options_and_collisions_are_errors_before_the_first_row(options, message):
    made = ray.data.from_arrow(pa.table({"signal": [[1.0, 2.0]], "fs": [64], "psd": [1]}))
    chosen = {"representation": "waveform", "modality": "bvp", **options}
    with pytest.raises((ConfigError, SignalError), match=message):
        cluster.embed_dataset(made, **chosen)


def test_row_137_as_many_rows_come_out_where_actors_are_killed_and_none_loads_torch(monkeypatch):
    class Watched(cluster._Embedder):
        def __call__(self, table):
            found = super().__call__(table)
            if not os.path.exists(mark):
                open(mark, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return found.append_column("torch", pa.array(["torch" in sys.modules] * len(found)))

    mark = f"/tmp/{os.getpid()}-{time.time_ns()}.killed"
    monkeypatch.setattr(cluster, "_Embedder", Watched)
    rows = pa.table({"row": list(range(24)), "signal": [pulse(10, 64, 1 + n / 100).tolist() for n in range(24)]})
    try:
        made = cluster.embed_dataset(ray.data.from_arrow(rows), "waveform", fs=64, modality="bvp", batch_size=6)
        found = made.take_all()
        assert os.path.exists(mark)
    finally:
        os.unlink(mark)
    assert sorted(row["row"] for row in found) == list(range(24))
    assert [row["error"] for row in found] == [None] * 24
    assert not any(row["torch"] for row in found)


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
