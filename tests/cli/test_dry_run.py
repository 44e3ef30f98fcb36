"""A dry run of a folder names every file below it once or more, and reads every recording once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_files import edf, edf_signal, gdf
from real_files import DEVICES


def told(out: str, folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The lines of each file, and those of windows."""
    lines = out.splitlines()[1:-1]
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    of = {
        file: [line for line in lines if f" {file}" in line and line.split(f" {file}")[1][:2] in ("", "  ")]
        for file in files
    }
    return of, [line for line in lines if not line.lstrip().startswith("0 ")]


def test_a_folder_of_many_kinds(run, tmp_path, rng):
    eda = 2 + np.cumsum(rng.standard_normal(240)) / 50
    rows = "".join(f"{n / 4},{value:.5f},{value * 30:.1f}\n" for n, value in enumerate(eda))
    (tmp_path / "a.csv").write_text("time [s],EDA,heart rate [bpm]\n" + rows)
    (tmp_path / "no_rate.csv").write_text("EDA\n" + rows.replace(",", ";"))
    edf(
        tmp_path / "b.edf",
        [edf_signal("EDA", range(400), spr=200), edf_signal("Event", range(400), spr=200, pmin=0, pmax=0)],
    )
    gdf(tmp_path / "c.gdf", ["Fp1", "C3"], [4275, 4275], rng.integers(-900, 900, (2, 400)), 0.5)
    (tmp_path / "d.hea").write_text("d 1 100 400\nd.dat 16 100(0)/mV 16 0 0 0 0 ECG\n")
    (tmp_path / "d.dat").write_bytes(rng.integers(-99, 99, 400).astype("<i2").tobytes())
    (tmp_path / "wide.txt").write_bytes(b",".join([b"1"] * 170_000))
    (tmp_path / "e.tar.xz").write_bytes(b"\xfd7zXZ\0" + bytes(40))
    for name in ("README.md", "a.json", "participants.tsv"):
        (tmp_path / name).write_text("{}")
    code, out, _ = run("embed", tmp_path, "--dry-run")
    of, windows = told(out, tmp_path)
    assert code == 2
    assert [file for file, lines in of.items() if not lines] == []
    assert sorted(line.split()[-1] for line in windows) == ["a.csv", "b.edf", "c.gdf", "c.gdf", "d.hea"]
    reasons = {file: line.split(f"{file}  ")[1] for file, lines in of.items() for line in lines if f"{file}  " in line}
    assert reasons.pop("no_rate.csv").startswith("failed: ")
    assert {file: reason[:50] for file, reason in reasons.items()} == {
        "README.md": "skipped: a note by its name, not a recording",
        "a.csv": "skipped: derived or beside a signal by its name (r",
        "a.json": "skipped: notes beside recordings, not samples",
        "b.edf": "skipped: derived or beside a signal by its name (e",
        "d.dat": "skipped: read through d.hea",
        "e.tar.xz": "failed: the file is an archive (.xz): unpack it",
        "participants.tsv": "skipped: a table of the data set, not samples",
        "wide.txt": "failed: row 1 has 170000 cells, more than 20000: a",
    }


def test_the_real_files_of_devices(run):
    if not DEVICES.is_dir():
        pytest.skip(f"no real files in {DEVICES}")
    code, out, _ = run("embed", DEVICES, "--dry-run")
    of, windows = told(out, DEVICES)
    assert code == 2
    assert [file for file, lines in of.items() if not lines] == []
    assert len(set(windows)) == len(windows) > 100
