"""Studies to folders: what is written, that it is the same however a run went, and what stops one."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset as pa_dataset
import pyarrow.parquet as parquet
import pytest
from conftest import ROOT
from stub_study import START, Stub, digests, e4, make_study, pulse

import tiny_biomoe
from tiny_biomoe import ConfigError, SignalError, TinyBioMoE, TinyBioMoEError, load_embeddings
from tiny_biomoe.batch.pipeline import Drawers
from tiny_biomoe.batch.plan import groups, scan
from tiny_biomoe.batch.run import embed_study, held
from tiny_biomoe.batch.segments import Chunk, Settings, stream
from tiny_biomoe.batch.study_table import open_study
from tiny_biomoe.batch.worker import InputFailed, Observer
from tiny_biomoe.readers.channel import NO_MODALITY
from tiny_biomoe.readers.read import read

BOTH = ["waveform", "psd"]


@pytest.fixture
def study(tmp_path) -> Path:
    return make_study(tmp_path / "study")


def embed(study, out, model=None, representation="waveform", **options):
    """A run with small shards and the stub, unless said otherwise."""
    chosen = model or Stub()
    return embed_study(
        study, out, representation, model=lambda: chosen, **{"window": 10, "shard_windows": 5, **options}
    )


def reasons(out) -> dict[str, str]:
    """Why something of each file was not embedded."""
    return {row["source"]: row["reason"] for row in parquet.read_table(out / "failures.parquet").to_pylist()}


@pytest.fixture(scope="session")
def done(tmp_path_factory) -> tuple[Path, Path]:
    """A study, and the folder of a run that nothing disturbed; for reading only."""
    folder = tmp_path_factory.mktemp("done")
    embed(make_study(folder / "study"), folder / "out")
    return folder / "study", folder / "out"


@pytest.fixture
def half(done, tmp_path) -> tuple[Path, Path]:
    """A study and the folder of a run of it that was stopped after two shards."""

    class StopAfterTwo(Observer):
        windows = 0

        def embedded(self, windows, input_bytes):
            self.windows += windows
            if self.windows == 12:
                raise KeyboardInterrupt

    study = shutil.copytree(done[0], tmp_path / "study")
    with pytest.raises(KeyboardInterrupt):
        embed(study, tmp_path / "out", observer=StopAfterTwo())
    assert len(list((tmp_path / "out" / "embeddings").iterdir())) == 2
    return study, tmp_path / "out"


# What is written


def test_what_a_killed_process_of_a_run_left_is_gone_when_the_run_ends(done, tmp_path):
    class Litter(Observer):
        def embedded(self, windows, input_bytes):
            for place in (out, out / "embeddings", out / ".run"):
                (place / ".shard.parquet.1-2.partial").write_bytes(b"half a shard")

    out = tmp_path / "out"
    embed(done[0], out, observer=Litter())
    assert not list(out.rglob("*.partial"))
    assert digests(out) == digests(done[1])


def test_a_row_a_window(study, tmp_path):
    summary = embed(study, tmp_path / "out", representation=BOTH)
    table = pa_dataset.dataset(tmp_path / "out" / "embeddings").to_table()
    assert table.schema.names == [
        *("id", "source", "channel", "modality", "subject", "label", "start", "stop", "fs", "unix_start"),
        *("missing", "flat", "clipped", *BOTH),
    ]
    assert {str(table.schema.field(name).type) for name in BOTH} == {"fixed_size_list<element: float>[192]"}
    assert len(set(table["id"].to_pylist())) == len(table) == summary.windows == 23
    first, last = table.to_pylist()[0], table.to_pylist()[-1]
    assert (first["id"], first["source"], first["channel"]) == ("S01/BVP.csv#BVP@0", "S01/BVP.csv", "BVP")
    assert (first["start"], first["stop"], first["fs"], first["unix_start"]) == (0.0, 10.0, 64.0, START)
    assert (last["id"], last["modality"], last["unix_start"]) == ("S02/EDA.csv#EDA@50", "eda", START + 50)


def test_vectors_are_those_of_the_model(study, tmp_path):
    model = TinyBioMoE.from_pretrained()
    embed(study / "S02" / "EDA.csv", tmp_path / "out", model, BOTH, scale="recording", readout="rows")
    ids, matrix, table = load_embeddings(tmp_path / "out")
    (recording,) = read(study / "S02" / "EDA.csv")
    expected = model.embed_windows(recording.signal, recording.fs, "eda", BOTH, window=10, scale="recording")
    assert ids[-1] == "EDA.csv#EDA@50"
    assert matrix.tobytes() == expected.embeddings.tobytes()
    rows = model.embed(recording.signal, recording.fs, "eda", BOTH, window=10, scale="recording", readout="rows")
    assert load_embeddings(tmp_path / "out", readout="rows")[1].tobytes() == rows.tobytes()
    assert table["flat"].to_pylist() == expected.flat.tolist()
    metadata = parquet.read_schema(next((tmp_path / "out" / "embeddings").iterdir())).metadata
    (provenance,) = json.loads(metadata[b"tiny_biomoe"]).values()
    assert {key: provenance[key] for key in ("tensors_sha256", "filter", "scale", "window")} == {
        key: expected.provenance[key] for key in ("tensors_sha256", "filter", "scale", "window")
    }


def test_what_became_of_every_input(done):
    summary = json.loads((done[1] / "manifest.json").read_text())["summary"]
    assert (summary["inputs"], summary["embedded"], summary["failed"], summary["skipped"]) == (6, 4, 1, 1)
    assert (summary["in_part"], summary["windows"], summary["windows_failed"], summary["shards"]) == (1, 23, 1, 5)
    inputs = {row["source"]: row for row in parquet.read_table(done[1] / "inputs.parquet").to_pylist()}
    assert {name: row["outcome"] for name, row in inputs.items()} == {
        "S01/BVP.csv": "embedded",
        "S01/EDA.csv": "embedded",
        "S02/BVP.csv": "embedded",
        "S02/EDA.csv": "in part",
        "bad.csv": "failed",
    }
    assert [row["windows"] for row in inputs.values()] == [6, 6, 6, 5, 0]
    failures = {row["source"]: row for row in parquet.read_table(done[1] / "failures.parquet").to_pylist()}
    assert set(failures) == {"README.md", "S02/EDA.csv", "bad.csv"}
    assert failures["README.md"]["outcome"] == "skipped"
    assert (failures["S02/EDA.csv"]["start"], failures["S02/EDA.csv"]["channel"]) == (20.0, "EDA")
    assert re.match(r"20-30 s, is flat", failures["S02/EDA.csv"]["reason"])
    assert re.match(r"column '0', row 3: 'three' is not a number", failures["bad.csv"]["reason"])


@pytest.mark.parametrize(("keep", "code"), [(["S01"], 0), (["S01", "S02"], 2), (["bad.csv"], 1)])
def test_exit_codes(study, tmp_path, keep, code):
    for path in study.iterdir():
        if path.name not in keep:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert embed(study, tmp_path / "out").exit_code == code


def test_whole_recordings_and_those_shorter_than_a_window(study, tmp_path):
    assert embed(study / "S01", tmp_path / "whole", window=None).windows == 2
    e4(study / "S01" / "EDA_short.csv", 1 + pulse(8, 4, 0.3), 4)
    summary = embed(study / "S01", tmp_path / "dropped", short="drop")
    assert (summary.embedded, summary.skipped, summary.exit_code) == (2, 1, 0)
    summary = embed(study / "S01", tmp_path / "padded", short="pad")
    assert (summary.embedded, summary.windows) == (3, 13)
    summary = embed(study / "S01", tmp_path / "refused")
    assert (summary.embedded, summary.failed) == (2, 1)


def test_a_padded_segment_holds_nothing_from_beyond_its_end(study, tmp_path):
    rows = "path,label,start,stop\nS01/EDA.csv,rest,0,8\n"
    (study / "study.csv").write_text(rows)
    vectors = []
    for level in (0, 50):  # what follows the segment, a step of which would be seen in the window and its quality
        signal_ = 2 + pulse(60, 4, 0.05)
        signal_[4 * 8 : 4 * 10] = np.linspace(signal_[31], signal_[31] + level, 8) if level else signal_[31]
        e4(study / "S01" / "EDA.csv", signal_, 4)
        chunk = first_chunk(study / "study.csv", Stub(), short="pad")
        ((_, part),) = chunk.job()[3]
        assert np.ptp(part[32:]) == 0
        assert part[31] == part[32] == chunk.segment.filtered.filtered[31]
        embed(study / "study.csv", tmp_path / f"out{level}", short="pad")
        ids, _, table = load_embeddings(tmp_path / f"out{level}")
        assert ids == ["S01/EDA.csv#EDA@0"]
        assert table["missing"].to_pylist() == [0.2]  # of the window's 10 s
        vectors.append(table["flat"].to_pylist())
    assert vectors[0] == vectors[1]
    assert vectors[0][0] > 0.15


def with_hole(folder: Path, *, rows: bool) -> Path:
    """A study of one recording of 80 s, of which 20 s to 50 s are missing: rows of the file, or the numbers in them."""
    times, signal = np.arange(0, 80, 0.25), 2 + pulse(80, 4, 0.1)
    lost = (times >= 20) & (times < 50)
    lines = [f"{t:.2f},{'' if gone else f'{value:.5f}'}\n" for t, value, gone in zip(times, signal, lost, strict=True)]
    kept = [line for line, gone in zip(lines, lost, strict=True) if not (rows and gone)]
    folder.mkdir(exist_ok=True)
    (folder / "a.csv").write_text("time [s],EDA\n" + "".join(kept))
    (folder / "study.csv").write_text("path,label,start,stop\na.csv,rest,0,10\na.csv,stress,60,70\n")
    return folder


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("on_hole", ["error", "split", "nan"])
def test_row_116_what_is_missing_outside_start_and_stop_costs_nothing(tmp_path, on_hole, rows):
    study = with_hole(tmp_path / "study", rows=rows)
    for window in (10, None):
        summary = embed(study / "study.csv", tmp_path / f"out{window}", window=window, on_hole=on_hole)
        ids, _, table = load_embeddings(tmp_path / f"out{window}")
        assert (summary.failed, ids) == (0, ["a.csv#EDA@0", "a.csv#EDA@60"])
        assert table["label"].to_pylist() == ["rest", "stress"]
        assert table["missing"].to_pylist() == [0, 0]


@pytest.mark.parametrize(
    ("rows", "on_hole", "starts", "reason"),
    [
        (True, "error", [], "samples are missing for 30 s from 20 s on, the first of 1 holes"),
        (True, "nan", [55, 65], "lies in or beside missing samples"),
        (True, "split", [50, 60], "lasts 5 s, less than one window of 10 s"),
        (False, "error", [55, 65], "lies in or beside missing samples"),
        (False, "split", [50, 60], "lasts 5 s, less than one window of 10 s"),
    ],
)
def test_row_116_what_is_missing_within_start_and_stop_costs_what_on_hole_says(tmp_path, rows, on_hole, starts, reason):
    study = with_hole(tmp_path / "study", rows=rows)
    (study / "study.csv").write_text("path,start,stop\na.csv,15,75\n")
    summary = embed(study / "study.csv", tmp_path / "out", on_hole=on_hole)
    assert summary.windows == len(starts)
    if starts:
        assert load_embeddings(tmp_path / "out")[2]["start"].to_pylist() == starts
    assert reason in reasons(tmp_path / "out")["a.csv"]


def test_a_stretch_within_a_hole_fails(tmp_path):
    study = with_hole(tmp_path / "study", rows=True)
    (study / "study.csv").write_text("path,start,stop\na.csv,0,10\na.csv,25,35\n")
    assert embed(study / "study.csv", tmp_path / "out", on_hole="split").failed == 1
    assert reasons(tmp_path / "out") == {"a.csv": "all samples of the segment are missing"}


def test_a_whole_recording_with_a_hole_fails_beside_a_stretch_of_it(tmp_path):
    study = with_hole(tmp_path / "study", rows=True)
    (study / "study.csv").write_text("path,label,start,stop\na.csv,all,,\na.csv,rest,0,10\n")
    assert embed(study / "study.csv", tmp_path / "out").failed == 1
    assert load_embeddings(tmp_path / "out")[2]["label"].to_pylist() == ["rest"]


def test_sensors_of_no_modality_are_skipped_and_those_that_say_nothing_fail(study, tmp_path):
    e4(study / "S01" / "TEMP.csv", 30 + pulse(60, 4), 4)
    (study / "S01" / "both.csv").write_text(
        "time [s],ECG,other\n" + "".join(f"{t / 100},{t % 7},{t % 5}\n" for t in range(2000))
    )
    (study / "S01" / "odd.csv").write_text("time [s],odd\n" + "".join(f"{t / 100},{t % 7}\n" for t in range(2000)))
    summary = embed(study / "S01", tmp_path / "out")
    assert (summary.embedded, summary.failed, summary.skipped, summary.in_part) == (3, 1, 1, 0)
    said = reasons(tmp_path / "out")
    assert (said["TEMP.csv"], said["both.csv"]) == ("measures temperature", NO_MODALITY)
    assert "pass modality= (--modality)" in said["odd.csv"]


def test_windows_that_would_be_one_are_refused(study, tmp_path):
    summary = embed(study / "S01" / "EDA.csv", tmp_path / "out", stride=0.2)
    assert (summary.windows, summary.failed) == (0, 1)
    assert (
        "less than one sample at 4 Hz" in parquet.read_table(tmp_path / "out" / "failures.parquet")["reason"][0].as_py()
    )


def test_an_output_within_the_study_is_no_input(study, done):
    assert embed(study, study / "out").inputs == 6
    assert embed(study, study / "out").inputs == 6
    with pytest.raises(SignalError, match="all files lie in the output"):
        embed(study / "out", study / "out")


def test_stop_at_the_first_failure(study, tmp_path):
    with pytest.raises(InputFailed, match=r"S02/EDA\.csv: EDA: 20-30 s, is flat"):
        embed(study, tmp_path / "out", on_error="stop")
    with pytest.raises(ConfigError, match="on_error='halt'"):
        embed(study, tmp_path / "out", on_error="halt")


def test_what_was_whole_before_the_first_failure_is_on_the_disk(tmp_path):
    for number in range(7):
        e4(tmp_path / "study" / f"S{number}" / "EDA.csv", pulse(20, 4), 4)
    (tmp_path / "study" / "S6" / "EDA.csv").write_text("damaged")
    with pytest.raises(InputFailed):
        embed(tmp_path / "study", tmp_path / "out", on_error="stop", shard_windows=2)
    assert len(list((tmp_path / "out" / "embeddings").glob("*.parquet"))) == 5  # the sixth is not known to be whole


def test_the_rows_of_a_study_file(study, tmp_path):
    (study / "study.csv").write_text(
        "path,subject,label,start,stop,room\n"
        "S02/BVP.csv,two,calm,0,20,A\nS02/BVP.csv,two,late,30.5,60,B\nS02/BVP.csv,two,twice,10,20,C\n"
        "S01,one,,,,A\nmissing.csv,three,,,,A\nS01/EDA.csv,one,long,0,99,A\n"
    )
    summary = embed(study / "study.csv", tmp_path / "out")
    _, _, table = load_embeddings(tmp_path / "out")
    found = [tuple(row[name] for name in ("source", "subject", "label", "start", "room")) for row in table.to_pylist()]
    assert [row for row in found if row[1] == "two"] == [
        *(("S02/BVP.csv", "two", "calm", start, "A") for start in (0.0, 10.0)),
        *(("S02/BVP.csv", "two", "late", start, "B") for start in (30.5, 40.5)),
    ]
    assert len([row for row in found if row[1:3] == ("one", None)]) == 12
    assert (summary.inputs, summary.embedded, summary.failed) == (7, 4, 3)
    failures = parquet.read_table(tmp_path / "out" / "failures.parquet").to_pylist()
    assert [(row["source"], row["reason"]) for row in failures] == [
        ("S01/EDA.csv", "the recording ends at 60 s, before the segment that is asked for does"),
        ("S02/BVP.csv", "a window of this channel and start is asked for by another row of the study"),
        ("missing.csv", "there is no such file"),
    ]


def test_a_recording_is_read_once_and_each_channel_filtered_once(study, tmp_path, monkeypatch):
    calls: list[str] = []
    for module, name in (("readers.wide_files", "read"), ("images.windows", "fill_gaps")):
        target = f"tiny_biomoe.{module}.{name}"
        genuine = getattr(sys.modules[f"tiny_biomoe.{module}"], name)
        monkeypatch.setattr(target, lambda *a, _f=genuine, _n=name, **k: (calls.append(_n), _f(*a, **k))[1])
    (study / "study.csv").write_text("path,start,stop\nS01/BVP.csv,0,20\nS01/BVP.csv,20,40\nS01/BVP.csv,40,60\n")
    assert embed(study / "study.csv", tmp_path / "out", representation=BOTH).windows == 6
    assert sorted(calls) == ["fill_gaps", "read"]


# The bytes are the same however the run went


def test_neither_batches_nor_workers_nor_chance_change_a_byte(done, tmp_path):
    embed(done[0], tmp_path / "out", workers=1)
    assert digests(tmp_path / "out") == digests(done[1])


def test_a_complete_run_is_verified_and_not_repeated(done, tmp_path):
    out, model = shutil.copytree(done[1], tmp_path / "out"), Stub()
    assert embed(done[0], out, model).windows == 23
    assert model.seen == 0
    assert digests(out) == digests(done[1])


def test_a_stopped_run_goes_on_behind_its_last_shard(half, done):
    model = Stub()
    embed(*half, model)
    assert model.seen == 23 - 10
    assert digests(half[1]) == digests(done[1])


@pytest.mark.parametrize(("network", "kills"), [("stub", 36), ("real", 4)])
def test_row_74_killed_at_random_moments(tmp_path, network, kills):
    program = f"from killed_runs import main; main({str(tmp_path)!r}, {kills}, {network!r})"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    counted = r"(\d+) kills, (\d+) of them of a run with one, (\d+) after the first shard, (\d+) runs completed"
    killed, drawing, middle, completed = map(int, re.search(counted, done.stdout).groups())
    assert killed == kills
    assert drawing >= kills // 12
    assert middle >= kills / 4
    assert completed >= 1


def test_row_57_a_file_changes_or_goes_between_two_halves(half, tmp_path):
    study, out = half
    e4(study / "S01" / "EDA.csv", 3 + pulse(60, 4, 0.06), 4)  # its windows are in both finished shards
    (study / "S02" / "EDA.csv").unlink()
    summary = embed(study, out)
    assert (summary.inputs, summary.embedded, summary.failed, summary.windows) == (5, 3, 1, 18)
    embed(study, tmp_path / "fresh")
    assert digests(out) == digests(tmp_path / "fresh")


def test_row_57_a_file_that_changes_while_a_run_is_at_work_fails_and_is_embedded_by_the_next(study, tmp_path):
    class Change(Observer):
        def planned(self, files, outlook):
            e4(study / "S02" / "EDA.csv", 3 + pulse(60, 4, 0.06), 4)

    summary = embed(study, tmp_path / "out", observer=Change())
    assert (summary.embedded, summary.failed, summary.windows) == (3, 2, 18)
    assert reasons(tmp_path / "out")["S02/EDA.csv"] == "the file changed since the run began"
    assert embed(study, tmp_path / "out").windows == 24
    embed(study, tmp_path / "fresh")
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh")


@pytest.mark.parametrize(
    "victim",
    [
        "embeddings/shard-*-00001.parquet",
        ".run/shard-*-00001.json",
        ".run/shard-*-00000.json",
        ".run/plan.json",
        "manifest.json",
        "failures.parquet",
        "inputs.parquet",
    ],
)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_row_85_damage_is_found_by_hash_and_mended(done, tmp_path, victim, damage):
    out, model = shutil.copytree(done[1], tmp_path / "out"), Stub()
    (path,) = out.glob(victim)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    if damage == "remove":
        path.unlink()
    embed(done[0], out, model)
    assert digests(out) == digests(done[1])
    assert model.seen == (5 if "shard" in victim else 0)


def test_row_85_a_shard_computed_anew_that_ends_elsewhere_moves_those_behind_it(done, tmp_path, monkeypatch):
    def starved(path, **options):
        if path.name == "BVP.csv" and path.parent.name == "S01":
            raise MemoryError
        return read(path, **options)

    monkeypatch.setattr("tiny_biomoe.readers.wide_files.read", starved)
    assert embed(done[0], tmp_path / "out").windows == 17
    monkeypatch.undo()
    next((tmp_path / "out" / "embeddings").glob("shard-*-00000.parquet")).unlink()
    assert embed(done[0], tmp_path / "out").windows == 23
    assert digests(tmp_path / "out") == digests(done[1])


@pytest.mark.parametrize("kept", range(1, 11))
def test_row_74_killed_while_shards_of_a_changed_study_are_set_aside(done, tmp_path, monkeypatch, kept):
    class Killed(BaseException):
        pass

    def move(source, target):
        if "old" in str(target):
            moved.append(source)
            if len(moved) > kept:
                raise Killed
        os.rename(source, target)

    moved: list[Path] = []
    study, out = shutil.copytree(done[0], tmp_path / "study"), shutil.copytree(done[1], tmp_path / "out")
    (study / "S02" / "EDA.csv").unlink()
    (study / "S01" / "EDA.csv").unlink()  # 12 windows are left of 24: three shards of five
    monkeypatch.setattr("tiny_biomoe.batch.study_changes.os.replace", move)
    try:
        embed(study, out)
    except Killed:
        assert not (out / "manifest.json").exists()
    assert len(moved) == min(kept + 1, 10)
    monkeypatch.undo()
    assert embed(study, out).windows == 12
    shards = sorted(path.name for path in (out / "embeddings").iterdir())
    assert [name[-13:] for name in shards] == [f"00{part:03d}.parquet" for part in range(3)]
    assert sorted(path.stem for path in (out / ".run").glob("shard-*")) == [name.split(".")[0] for name in shards]
    assert not list((out / ".run" / "old").iterdir())


def test_row_85_plan_and_manifest_damaged_together(done, tmp_path):
    out = shutil.copytree(done[1], tmp_path / "out")
    for name in (".run/plan.json", "manifest.json"):
        (out / name).write_text("{}")
    with pytest.raises(ConfigError, match="both damaged: delete the folder"):
        embed(done[0], out, window=20)  # nothing says what the shards were made with
    embed(done[0], out)  # their records do
    assert digests(out) == digests(done[1])


def test_row_86_a_moved_folder_resumes(half, done, tmp_path):
    moved = tmp_path / "elsewhere" / "out"
    moved.parent.mkdir()
    shutil.move(half[1], moved)
    embed(half[0], moved)
    assert digests(moved) == digests(done[1])


def test_row_83_a_clock_that_jumps_changes_nothing(study, done, tmp_path, monkeypatch):
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 1e9 + 1e6 * (-1) ** next(jumps))
    embed(study, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(done[1])


# What stops a run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_row_75_signals_finish_the_shard(half, done, number, code):
    class Interrupt(Observer):
        def embedded(self, windows, input_bytes):
            if windows and not self.sent:
                self.sent = True
                os.kill(os.getpid(), number)

        sent = False

    study, out = half
    before = signal.getsignal(number)
    with pytest.raises((KeyboardInterrupt, SystemExit)) as stop:
        embed(study, out, observer=Interrupt())
    assert getattr(stop.value, "code", 130) == code
    assert signal.getsignal(number) is before
    assert len(list((out / "embeddings").iterdir())) == 3
    embed(study, out)
    assert digests(out) == digests(done[1])


def test_row_75_a_second_ctrl_c_does_not_wait(half):
    class Impatient(Observer):
        def embedded(self, windows, input_bytes):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        embed(*half, observer=Impatient())
    assert len(list((half[1] / "embeddings").iterdir())) == 2


def test_row_76_a_full_disk(half, done):
    study, out = half
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # no file may grow beyond it: the write itself fails
    try:
        with pytest.raises(
            ConfigError, match=r"00002\.parquet' cannot be written \(.*; \d+ bytes are needed\)"
        ) as full:
            embed(study, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    needed = int(re.search(r"(\d+) bytes", str(full.value))[1])
    assert len(list((out / "embeddings").iterdir())) == 2
    embed(study, out)
    assert next((out / "embeddings").glob("*-00002.parquet")).stat().st_size == needed
    assert digests(out) == digests(done[1])


def test_row_76_a_file_system_without_room(done, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root alone")
    try:
        with pytest.raises(ConfigError, match="No space left on device; [0-9]+ bytes are needed"):
            embed(done[0], place / "out")
        whole = digests(place / "out")
        expected = digests(done[1])
        assert whole
        assert all(expected[name] == sha256 for name, sha256 in whole.items())
        assert subprocess.run(["mount", "-o", "remount,size=8m", place]).returncode == 0
        embed(done[0], place / "out")
        assert digests(place / "out") == expected
    finally:
        subprocess.run(["umount", place], check=True)


def test_row_77_a_shard_that_does_not_reach_the_disk_is_not_committed(half, done, monkeypatch):
    study, out = half
    genuine, calls = os.fsync, []

    def fail_at_the_third_shard(handle):
        if "-00002.parquet" in os.readlink(f"/proc/self/fd/{handle}"):
            calls.append(handle)
            raise OSError(errno.EIO, "Input/output error")
        genuine(handle)

    monkeypatch.setattr("tiny_biomoe.sealed_files.os.fsync", fail_at_the_third_shard)
    with pytest.raises(ConfigError, match=r"Input/output error"):
        embed(study, out)
    monkeypatch.undo()
    assert len(calls) == 1
    assert not [path for path in out.rglob("*00002*")]
    embed(study, out)
    assert digests(out) == digests(done[1])


def test_row_78_an_output_that_cannot_be_written_is_refused_before_the_model_is_loaded(study, tmp_path):
    def never() -> TinyBioMoE:
        raise AssertionError("the model was loaded")

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    for out, message in (
        (tmp_path / "no" / "such", "No such file or directory"),
        (Path("/proc/out"), "cannot be written to"),
        (study / "bad.csv", "cannot be written to"),
        (tmp_path / "other", "holds files that are no embeddings"),
    ):
        with pytest.raises(ConfigError, match=message):
            embed_study(study, out, model=never, window=10)
    assert (tmp_path / "other" / "thesis.tex").read_text() == "x"


def first_chunk(study: Path, model: Stub, **options) -> Chunk:
    (group,) = groups(scan(open_study(study)))
    settings = Settings(("waveform",), window=10, **options).check(model.recipe)
    return next(each for each in stream(group, settings, model.recipe, None) if isinstance(each, Chunk))


def test_row_79_a_killed_worker_is_replaced(study):
    chunk, drawers = first_chunk(study, Stub()), Drawers(1)
    here = Drawers(0)
    try:
        expected = here.result(chunk, here.submit(chunk))
        drawers.result(chunk, drawers.submit(chunk))
        (worker,) = drawers._executor._processes
        os.kill(worker, signal.SIGKILL)
        again = drawers.result(chunk, drawers.submit(chunk))
        assert np.array_equal(np.stack(again), np.stack(expected))
        assert worker not in drawers._executor._processes
    finally:
        drawers.close()
        here.close()


def test_row_79_workers_that_always_die_are_an_error(study, monkeypatch):
    class Dying:
        def submit(self, function, *arguments):
            future = tiny_biomoe.batch.pipeline.Future()
            future.set_exception(tiny_biomoe.batch.pipeline.BrokenExecutor("killed"))
            return future

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(Drawers, "_start", lambda self: Dying())
    drawers = Drawers(1)
    chunk = first_chunk(study, Stub())
    with pytest.raises(TinyBioMoEError, match=r"S01/BVP\.csv: BVP: a worker died 3 times"):
        drawers.result(chunk, drawers.submit(chunk))


def test_row_79_workers_do_not_outlive_a_killed_parent():
    program = (
        "import os, time\nfrom tiny_biomoe.batch.pipeline import Drawers\n"
        "if __name__ == '__main__':\n"
        "    drawers = Drawers(1)\n"
        "    print(drawers._executor.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    status = Path(f"/proc/{int(parent.stdout.readline())}/stat")
    assert status.exists()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.1)
    parent.stdout.close()


def test_row_80_a_file_that_does_not_fit_into_memory(study, tmp_path, monkeypatch):
    def starved(path, **options):
        if path.name == "EDA.csv":
            raise MemoryError
        return read(path, **options)

    monkeypatch.setattr("tiny_biomoe.readers.wide_files.read", starved)
    summary = embed(study, tmp_path / "out")
    assert (summary.embedded, summary.failed) == (2, 3)
    failures = reasons(tmp_path / "out")
    assert failures["S01/EDA.csv"] == "not enough memory"


def test_row_81_two_runs_on_one_output(study, tmp_path):
    with held(tmp_path / "out"), pytest.raises(ConfigError, match=f"another run .*process {os.getpid()}"):
        embed(study, tmp_path / "out")
    assert embed(study, tmp_path / "out").windows == 23


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 20}, "arguments.window was 10, now 20"),
        ({"representation": "psd"}, r"arguments.representations was \['waveform'\], now \['psd'\]"),
        ({"scale": "recording"}, "arguments.image.scale was window, now recording"),
        ({"readout": "rows"}, "arguments.readout was embedding, now rows"),
        ({"threads": 7}, r"threads was \d+, now 7"),
        ({"model": Stub("other")}, "weights.tensors_sha256 was stub, now other"),
        ({"model": Stub(precision="bfloat16")}, "backend.precision was float32, now bfloat16"),
        ({"fs": 64}, "arguments.reading.fs was None, now 64"),
    ],
)
def test_row_82_another_model_or_other_arguments(half, change, message):
    before = digests(half[1])
    with pytest.raises(ConfigError, match=message):
        embed(*half, **change)
    assert digests(half[1]) == before


def test_row_126_batches_and_threads_that_change_no_byte_do_not_stop_a_run(half, done, monkeypatch):
    study, out = half
    embed(study, out, batch_size=8)
    assert {name: sha for name, sha in digests(out).items() if "shard" in name} == {
        name: sha for name, sha in digests(done[1]).items() if "shard" in name
    }
    real = tiny_biomoe.embedding.Embedder.from_pretrained()
    assert real.backend.parallel  # of the native program, whose threads compute an image each
    embed(study / "S02" / "EDA.csv", out.parent / "other", real, threads=1)
    assert embed(study / "S02" / "EDA.csv", out.parent / "other", real, threads=2).windows == 5


def test_row_82_the_same_weights_from_another_folder_go_on_to_the_same_bytes(half, done):
    assert embed(*half, Stub(source="/elsewhere")).windows == 23
    assert digests(half[1]) == digests(done[1])


def test_the_same_weights_in_two_folders_give_the_same_bytes(study, tmp_path):
    TinyBioMoE.from_pretrained().save_pretrained(tmp_path / "weights")
    shutil.copytree(tmp_path / "weights", tmp_path / "moved")
    found = []
    for place in ("weights", "moved"):
        model = TinyBioMoE.from_pretrained(tmp_path / place)
        embed(study / "S01" / "EDA.csv", tmp_path / f"of {place}", model)
        found.append(digests(tmp_path / f"of {place}"))
        assert str(tmp_path / place) == model.source
    assert found[0] == found[1]
    shards = (tmp_path / "of weights").rglob("*.parquet")
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in shards)


@pytest.mark.parametrize("workers", [0, 1])
def test_row_84_a_poor_environment(study, tmp_path, workers):
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40));"
        "from tiny_biomoe.cli.main import main;"
        f"main(['embed', {str(study / 'S01')!r}, '-o', {str(tmp_path / 'out')!r}, "
        f"'--window', '30', '--workers', '{workers}', '--threads', '1'])"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LC_ALL": "xx_YY.odd", "OMP_NUM_THREADS": "1"}
    closed = ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, program]
    done = subprocess.run(closed, env=environment, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    assert len(load_embeddings(tmp_path / "out")[0]) == 4


def test_arguments_are_checked_before_anything_is_embedded(study, tmp_path):
    for wrong, message in (
        ({"workers": -1}, "workers=-1"),
        ({"threads": 0}, "threads=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"shard_windows": 0}, "shard_windows=0"),
        ({"representation": "psdd"}, "did you mean 'psd'"),
        ({"window": None, "stride": 5}, "need window="),
        ({"window": -1}, "window=-1"),
        ({"window": None, "scale": "recording"}, "needs windows"),
        ({"colum": "EDA"}, "did you mean 'column'"),
        ({"on_hole": "splitt"}, "did you mean 'split'"),
        ({"encoding": "klingon"}, "unknown encoding 'klingon'"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            embed(study, tmp_path / "out", **wrong)
    assert embed(study, tmp_path / "out").windows == 23  # no mistake locks the folder
    (tmp_path / "empty").mkdir()
    with pytest.raises(SignalError, match="holds no files to read"):
        embed(tmp_path / "empty", tmp_path / "nothing")


def test_a_run_without_a_row_can_be_begun_anew_with_other_arguments(study, tmp_path):
    assert embed(study, tmp_path / "out", window=600).windows == 0
    assert embed(study, tmp_path / "out").windows == 23
    with pytest.raises(ConfigError, match="window was 10, now 20"):
        embed(study, tmp_path / "out", window=20)


# Hostile names


def test_row_104_and_105_odd_names_are_harmless_and_kept(study, tmp_path):
    signal_ = pulse(20, 64)
    e4(study / "=cmd()#BVP.csv", signal_, 64)
    e4(study / "a\x1b[31m_BVP.csv", signal_, 64)
    embed(study, tmp_path / "out")
    ids, _, _ = load_embeddings(tmp_path / "out", modality="bvp")
    assert ids[:2] == ["=cmd()%23BVP.csv#=cmd()#BVP@0", "=cmd()%23BVP.csv#=cmd()#BVP@10"]
    assert [each for each in ids if "x1b" in each][0].startswith(r"a\x1b[31m_BVP.csv#")
    assert not any("\x1b" in each for each in ids)
