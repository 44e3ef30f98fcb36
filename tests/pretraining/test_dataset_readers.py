"""Readers of the ten data sets: each on a small archive in its layout, with its known defects."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest

from pretraining import dataset_readers
from pretraining.dataset_readers import DATA_SETS, capped, long_runs, valid_runs
from pretraining.sources import NO_LABEL, Row


def archive(path, files):
    """A .tar.xz of bytes, or of arrays as .npz."""
    with tarfile.open(path, "w:xz") as tar:
        for name, content in files.items():
            data = content
            if isinstance(content, dict):
                buffer = io.BytesIO()
                np.savez(buffer, **content)
                data = buffer.getvalue()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def read(name, tmp_path, files):
    """What a reader finds: (modality, row) pairs."""
    return list(DATA_SETS[name].read(archive(tmp_path / DATA_SETS[name].file, files)))


def wave(n, fs, rate, scale=1.0):
    return np.round(1000 * np.sin(2 * np.pi * rate * np.arange(n) / fs) * scale).astype(np.int16)


def test_wise_gives_sessions_as_labels_without_start_up_and_dry_stretches(tmp_path):
    eda = np.full(4 * 200, 500, np.int16) + wave(800, 4, 0.01, 0.1)
    eda[400:420] = 1  # no contact for five seconds
    files = {
        "wise_e4/AEROBIC/S08.npz": {"eda": eda, "eda_scale": 0.002, "eda_fs": 4.0},
        "wise_e4/STRESS/f02.npz": {"bvp": wave(64 * 100, 64, 1.2), "bvp_scale": 0.1, "bvp_fs": 64.0},
        "wise_e4/STRESS/f02.tags.csv": b"2013-02-24",
    }
    (first, before), (_, after), (pulse, bvp) = read("wise", tmp_path, files)
    assert (first, pulse) == ("eda", "bvp")
    assert (before.label, before.person, before.held_out) == (1, 8, True)
    assert np.allclose(before.samples, eda[20:398] * 0.002)  # five seconds and two samples beside the gap left out
    assert np.allclose(after.samples, eda[422:] * 0.002)
    assert (bvp.label, bvp.person, bvp.held_out) == (0, 102, False)
    assert bvp.samples.size == 95 * 16
    assert bvp.samples[100:-100].std() == pytest.approx(100 / np.sqrt(2), rel=0.02)  # 16 Hz hold the pulse whole


def test_ds000210_gives_both_signals_and_leaves_out_what_its_sensors_lost(tmp_path):
    breath = wave(50 * 200, 50, 0.25) - 1500
    breath[5000:5030] = 0  # the belt's unit dropped out
    table = "\n".join(f"{p}\t{b}" for p, b in zip(wave(10000, 50, 1.1), breath, strict=True)).encode()
    name = "ds000210_resp_ppg/sub-{0}/func/sub-{0}_task-{1}_run-01_physio.tsv"
    found = read("ds000210", tmp_path, {name.format("03", "rest"): table, name.format("12", "cuedSGT"): table})
    assert [(modality, row.person, row.label, row.held_out) for modality, row in found] == [
        ("bvp", 3, 0, True), ("resp", 3, 0, True), ("resp", 3, 0, True),
        ("resp", 12, 1, True), ("resp", 12, 1, True),
    ]  # fmt: skip
    assert found[0][1].samples.size == 200 * 16
    assert found[1][1].samples.size + found[2][1].samples.size == pytest.approx((10000 - 34) / 50 * 8, abs=2)
    assert found[1][1].samples.max() < -400  # nothing of the dropout is left


def test_oximetry_gives_four_devices_and_both_hands_without_what_is_missing(tmp_path):
    spo2 = np.full(200, 970, np.int16) - np.arange(200, dtype=np.int16)
    spo2[0] = -1
    light = np.stack([np.full(3000, 20000), 24000 + wave(3000, 30, 1.0), np.zeros(3000)]).astype(np.int16)
    light[:, 1500] = -1
    held = {f"spo2_{device}": spo2 for device in (1, 2, 4, 5)} | {"ppg_left": light, "ppg_right": light}
    held |= {"spo2_scale": 0.1, "ppg_scale": 1 / 120, "ppg_fs": 30.0, "spo2_fs": 1.0}
    found = read("oximetry", tmp_path, {"oximetry_phonecam/100002.npz": held})
    assert [modality for modality, _ in found] == ["spo2"] * 4 + ["bvp"] * 2
    assert all(row.held_out and row.person == 100002 and row.label == NO_LABEL for _, row in found)
    assert np.allclose(found[0][1].samples, spo2[3:] * 0.1)
    assert found[4][1].samples.min() > 22000 / 120  # the missing frame is bridged
    assert found[4][1].samples.size == 1600


def test_welltory_reads_uneven_frames_of_the_clean_colour(tmp_path):
    time = np.cumsum(np.random.default_rng(0).uniform(25, 42, 3000)) - 25
    red, green = 250 + np.sin(2 * np.pi * time / 1000), 20 + np.sin(2 * np.pi * time / 500)
    table = "time,R,G,B\n" + "\n".join(f"{t:.0f},{r:.4f},{g:.4f},0" for t, r, g in zip(time, red, green, strict=True))
    name = "welltory_ppg/data/subject_{}/PPG.csv"
    found = read("welltory", tmp_path, {name.format("03"): table.encode(), name.format("20"): table.encode()})
    assert [row.person for _, row in found] == [3, 20]
    assert not any(row.held_out for _, row in found)
    for (_, row), (level, period) in zip(found, ((250, 1.0), (20, 0.5)), strict=True):
        t = np.round(time[0]) / 1000 + np.arange(row.samples.size) / 16
        inner = slice(32, -32)
        assert np.abs(row.samples - level - np.sin(2 * np.pi * t / period))[inner].max() < 0.05


def test_welltory_is_cut_at_a_long_gap_between_frames(tmp_path):
    time = np.concatenate([np.arange(0, 45000, 33), np.arange(45600, 100000, 33)])
    table = "time,R,G,B\n" + "\n".join(f"{t},{250 + np.sin(t / 150):.4f},0,0" for t in time)
    found = read("welltory", tmp_path, {"welltory_ppg/data/subject_19/PPG.csv": table.encode()})
    assert [row.samples.size / 16 for _, row in found] == pytest.approx([44.9, 54.3], abs=0.3)


def test_nurses_come_in_blocks_and_exams_without_labels(tmp_path):
    block = {"eda": np.full((2, 480), 200, np.int16) + wave(480, 4, 0.02, 0.05), "eda_scale": 0.002, "eda_fs": 4}
    block |= {"bvp": np.stack([wave(64 * 60, 64, 1.0)] * 3), "bvp_scale": 0.1, "bvp_fs": 64}
    found = read("nurse", tmp_path, {"nurse_e4/15.npz": block, "nurse_e4/E4.npz": block})
    assert [modality for modality, _ in found] == (["eda"] * 2 + ["bvp"] * 3) * 2
    assert [row.held_out for _, row in found] == [False] * 5 + [True] * 5
    assert {row.label for _, row in found} == {NO_LABEL}
    exam = {"eda": block["eda"][0], "eda_scale": 0.002, "eda_fs": 4.0, "t0": "1.0", "eda_start_s": 60.0}
    ((modality, row),) = read("exam", tmp_path, {"exam_e4/S3_Final.npz": exam})
    assert (modality, row.person, row.held_out, row.samples.size) == ("eda", 3, True, 460)


def test_drives_wrists_fantasia_and_the_small_ones(tmp_path):
    drive = {
        "hand_gsr": np.full(4000, 5000, np.int16) + wave(4000, 31, 0.05),
        "hand_gsr_scale": 0.001,
        "hand_gsr_fs": 31.0,
    }
    drive |= {"resp": wave(4000, 31, 0.3), "resp_scale": 0.01, "resp_fs": 31.0, "hr": wave(9, 1, 1), "hr_fs": 15.5}
    found = read("drivedb", tmp_path, {"drivedb_gsr_resp/drive17a.npz": drive})
    assert [(m, r.person, r.samples.size) for m, r in found] == [("eda", 17, 2000), ("resp", 17, 1033)]
    wrist = {"ppg": wave(128 * 60, 128, 1.0), "ppg_scale": 1.0, "ppg_fs": 128.0}
    ((_, row),) = read("wrist", tmp_path, {"wrist_ppg_exercise/s8_low_resistance_bike.npz": wrist})
    assert (row.person, row.label, row.held_out, row.samples.size) == (8, 2, True, 960)
    chest = {"resp": wave(50 * 100, 50, 0.2), "resp_scale": 0.001, "resp_fs": 50.0}
    ((_, row),) = read("fantasia", tmp_path, {"fantasia_resp/f1o03.npz": chest})
    assert (row.person, row.held_out, row.samples.size) == (3, True, 800)
    ppg = {"ppg": wave(50 * 60, 50, 1.0), "ppg_scale": 1.0, "ppg_fs": 50.0}
    small = {f"small_mixed/{name}.npz": ppg for name in ("agenticai_595_rotate", "cinc2010_a01", "biobss_polar_sense")}
    small |= {"small_mixed/physio_resp2_airflow.npz": chest, "small_mixed/mimicdb_03700181.npz": chest}
    assert [(m, r.person) for m, r in read("small", tmp_path, small)] == [("bvp", 2595), ("resp", 1002)]


def test_every_set_and_modality_becomes_a_source(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_readers, "DATA_SETS", {"fantasia": DATA_SETS["fantasia"]})
    chest = {"resp": wave(50 * 100, 50, 0.2), "resp_scale": 0.001, "resp_fs": 50.0}
    archive(tmp_path / "fantasia_resp.tar.xz", {f"fantasia_resp/f1o0{n}.npz": chest for n in (2, 3)})
    (source,) = dataset_readers.read_sources(tmp_path)
    assert (source.name, source.modality, source.fs, source.classes) == ("fantasia-resp", "resp", 8.0, ())
    assert source.held_out.tolist() == [False, True]
    assert np.abs(source.recording(0)[50:-50]).max() == pytest.approx(1, abs=0.01)


def test_nobody_gives_more_than_the_cap_and_the_blocks_are_spread():
    rows = [Row(np.full(n, value), person) for value, (n, person) in enumerate([(100, 0), (700, 1), (300, 1), (40, 2)])]
    kept = list(capped(rows, 200, 50))
    assert [sum(row.samples.size for row in kept if row.person == person) for person in range(3)] == [100, 200, 40]
    assert [row.samples[0] for row in kept] == [0, 1, 1, 1, 2, 3]


def test_runs_end_before_what_is_not_valid_and_short_ones_are_dropped():
    x, valid = np.arange(400), np.ones(400, bool)
    valid[[100, 340]] = False
    runs = valid_runs(x, valid, 1.0, "eda")
    assert [(run[0], run[-1]) for run in runs] == [(0, 97), (103, 337)]
    assert long_runs(np.array([True, True, False, True]), 2).tolist() == [True, True, False, False]


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ds000210_resp_ppg.tar.xz"):
        next(dataset_readers.read_sources(tmp_path))
