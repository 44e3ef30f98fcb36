"""The bench of mutants: whole files are read alike, the same number makes the same mutant, faults are seen."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

from benchmarks import fuzz_readers
from benchmarks.fuzz_readers import KINDS, Maker, compare, judge
from tiny_biomoe.readers.channel import Channel


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read_alike(kind, tmp_path, monkeypatch):
    if kind == "edf":
        pytest.importorskip("pyedflib")
    monkeypatch.setattr(fuzz_readers, "mutate", lambda data, end, rng: data)
    maker, stage = Maker(kind, 1, tmp_path), multiprocessing.Value("i", 0)
    found = {judge(maker, number, stage) for number in range(12)}
    rest = {("read otherwise by specification", "skews"), ("only ours accepts", "")} if kind == "wfdb" else set()
    assert ("both, equal", "") in found
    assert found - rest == {("both, equal", "")}


def test_a_number_makes_one_mutant(tmp_path):
    for kind in KINDS:
        one, two = (Maker(kind, 1, tmp_path / name) for name in "ab" if not (tmp_path / name).mkdir(exist_ok=True))
        one.write(9)
        assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} != {}
        mutants = []
        for maker, number in ((one, 3), (two, 3), (two, 4)):
            maker.write(number)
            mutants.append({path.name: path.read_bytes() for path in maker.folder.glob("a.*")})
        assert mutants[0] == mutants[1] != mutants[2]


def test_faults_are_seen():
    samples = np.arange(9.0)
    channel = Channel("EDA", samples, fs=4.0)
    assert compare([channel], [(4.0, samples)]) == ("both, equal", "")
    assert compare([channel], [(4.0, samples + (samples == 3))])[0] == "values differ"
    assert compare([channel], [(5.0, samples)])[0] == "values differ"
    assert compare([channel], [(4.0, samples[:-1])])[0] == "values differ"
    assert compare([channel], [])[0] == "values differ"
    assert compare([channel], [(4.0, np.where(samples == 2, np.nan, samples))])[0] == "values differ"
