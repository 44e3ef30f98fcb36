"""BIDS physio: sidecars and their inheritance, missing samples, starts (rows 42, 110, 111, 114)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from real_files import channels, device, faults_of_damage, listed

from tiny_biomoe.errors import SignalError
from tiny_biomoe.readers.formats import parts_of, recognise
from tiny_biomoe.readers.read import read

FACTS = {
    "Columns": ["cardiac", "respiratory", "trigger", "skin_conductance"],
    "SamplingFrequency": 50.0,
    "StartTime": -1.5,
    "cardiac": {"Description": "finger pulse oximeter", "Units": "mV"},
    "skin_conductance": {"Units": "microsiemens"},
}


@pytest.fixture
def dataset(tmp_path):
    """Write a recording of a run below a dataset, and the sidecars that are named; gives the recording."""

    def write(sidecars: dict[str, dict], rows: str = "1\t10\t0\t5\nn/a\t11\t1\t6\n3\t12\t0\t7\n") -> Path:
        folder = tmp_path / "sub-01" / "func"
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dataset_description.json").write_text("{}")
        for name, facts in sidecars.items():
            (tmp_path / name).write_text(json.dumps(facts))
        path = folder / "sub-01_task-rest_run-1_physio.tsv.gz"
        path.write_bytes(gzip.compress(rows.encode()))
        return path

    return write


BESIDE = "sub-01/func/sub-01_task-rest_run-1_physio.json"


def test_columns_rate_and_units_of_the_sidecar(dataset):
    path = dataset({BESIDE: FACTS})
    found = channels(path)
    assert recognise(path) == "bids"
    assert list(found) == FACTS["Columns"]
    np.testing.assert_equal(found["cardiac"].samples, [1, np.nan, 3])
    assert found["respiratory"].samples.tolist() == [10, 11, 12]
    assert [each.unit for each in found.values()] == ["mV", None, None, "microsiemens"]
    read_ones = {each.channel: each.modality for each in read(path)}
    assert read_ones == {"cardiac": "bvp", "respiratory": "resp", "skin_conductance": "eda"}
    assert {each.fs for each in read(path)} == {50}


@pytest.mark.parametrize("name", ["sub-01/sub-01_task-rest_physio.json", "task-rest_physio.json", "physio.json"])
def test_sidecars_are_inherited(dataset, name):
    near = {"SamplingFrequency": 25}
    path = dataset({name: FACTS, BESIDE: near})
    assert {each.fs for each in read(path)} == {25}  # the nearer one counts more
    assert parts_of(path)[1:] == [path.parents[2] / name, path.parents[2] / BESIDE]


@pytest.mark.parametrize("name", ["task-work_physio.json", "sub-02_physio.json", "task-rest_bold.json"])
def test_sidecars_of_other_runs_do_not_apply(dataset, name):
    with pytest.raises(SignalError, match="no sidecar says what it holds: BIDS wants Columns and SamplingFrequency in"):
        read(dataset({name: FACTS}))


def test_a_sidecar_outside_the_dataset_does_not_apply(dataset, tmp_path):
    path = dataset({})
    (tmp_path.parent / "task-rest_physio.json").write_text(json.dumps(FACTS))
    with pytest.raises(SignalError, match="no sidecar"):
        read(path)
    (tmp_path.parent / "task-rest_physio.json").unlink()


@pytest.mark.parametrize(
    ("description", "modality"),
    [("ECG, lead II", "ecg"), ("photoplethysmogram", "bvp"), ("heart", None), ("ECG and pulse", None)],
)
def test_cardiac_is_a_pulse_or_an_ecg_by_its_description(dataset, description, modality):
    path = dataset({BESIDE: {**FACTS, "cardiac": {"Description": description}}})
    assert read(path, column="cardiac")[0].modality == modality


def test_the_start_is_that_of_the_scan_and_the_start_time(dataset, tmp_path):
    path = dataset({BESIDE: FACTS})
    assert read(path)[0].start is None
    rows = "func/sub-01_task-rest_run-2_bold.nii.gz\t1999-01-01T00:00:00\n"
    rows += "func/sub-01_task-rest_run-1_bold.nii.gz\t2024-05-06T07:08:09\n"
    (tmp_path / "sub-01" / "sub-01_scans.tsv").write_text(f"filename\tacq_time\n{rows}")
    assert read(path)[0].start == 1714979289 - 1.5
    (tmp_path / "sub-01" / "sub-01_scans.tsv").write_text(f"filename\tacq_time\n{rows.replace('2024-05-06T07', 'n/a')}")
    assert read(path)[0].start is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Columns": ["cardiac"]}, "the sidecar names 1 columns, the rows have 4: mend the sidecar"),
        ({"Columns": "cardiac"}, "no sidecar says what it holds"),
        ({"SamplingFrequency": "fast"}, "its sidecar gives SamplingFrequency 'fast' and StartTime"),
        ({"SamplingFrequency": 0}, "its sidecar gives SamplingFrequency '0' and StartTime"),
        ({"StartTime": "early"}, "and StartTime 'early'"),
    ],
)
def test_sidecars_that_cannot_be(dataset, change, message):
    with pytest.raises(SignalError, match=message):
        read(dataset({BESIDE: {**FACTS, **change}}))


def test_a_damaged_sidecar(dataset, tmp_path):
    path = dataset({})
    (tmp_path / BESIDE).write_text("{")
    with pytest.raises(SignalError, match=r"its sidecar sub-01_task-rest_run-1_physio\.json cannot be read"):
        read(path)


def test_row_110_a_rate_that_contradicts_the_sidecar(dataset):
    with pytest.raises(SignalError, match="the file is sampled at 50 Hz, not at fs=100"):
        read(dataset({BESIDE: FACTS}), fs=100)


def test_a_cut_last_row(dataset):
    with pytest.raises(SignalError, match="row 2 has 2 cells, the first row has 4"):
        read(dataset({BESIDE: FACTS}, "1\t2\t3\t4\n5\t6"))


@pytest.mark.parametrize(
    ("name", "fs", "columns"),
    [
        ("bids/acq_physio.tsv", 500, ["cardiac", "respiratory", "GSR", "trigger"]),
        ("bids/dcm_cardiac.tsv", 200, ["cardiac", "trigger"]),
        ("bids/ds210/sub-01/func/sub-01_task-rest_run-01_physio.tsv.gz", 50, ["cardiac", "respiratory"]),
    ],
)
def test_real_files_equal_what_numpy_reads(name, fs, columns):
    path = device(name)
    found = listed(path)
    assert [each.name for each in found] == columns
    assert {each.fs for each in found} == {fs}
    reference = np.genfromtxt(path, delimiter="\t")
    np.testing.assert_array_equal(np.stack([each.samples for each in found], 1), reference)


def test_damaged_files_give_signals_or_errors(dataset, tmp_path, rng):
    path = dataset({BESIDE: FACTS})
    assert faults_of_damage(path, rng) == []


def test_what_dates_and_rates_a_recording_is_hashed_with_it(dataset, tmp_path):
    """Also of a suffix that BIDS is known by through its sidecar alone: else its windows would be kept as they are."""
    dataset({})
    scans = tmp_path / "sub-01" / "sub-01_scans.tsv"
    scans.write_text("filename\tacq_time\n")
    path, sidecar = (tmp_path / "sub-01" / "func" / f"sub-01_task-rest_eda.{ending}" for ending in ("tsv", "json"))
    path.write_text("5\n6\n7\n")
    sidecar.write_text(json.dumps({"SamplingFrequency": 10, "Columns": ["eda"]}))
    assert recognise(path) == "bids"
    assert parts_of(path) == [path, sidecar, scans]
