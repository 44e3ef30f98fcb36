"""A small study with people, labels and names that would be code on a page, embedded by the stub network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stub_study import Stub, e4, pulse

from tiny_biomoe.batch.run import embed_study

EVIL = "</script><script>window.executed = 1</script>"
WINDOW = 10  # seconds


def make_explored(folder: Path) -> Path:
    """Three people, a pulse and a skin conductance of a minute each, two labels: 36 windows, of which one is flat."""
    lines = ["path,subject,label,start,stop,room"]
    for person, name in enumerate(("S01", "S02", "<b>S03</b>")):
        path = f"P{person}"
        eda = 2 + pulse(60, 4, 0.05 + person / 50)
        if person == 2:
            eda[4 * 20 : 4 * 30] = 2.5
        e4(folder / path / "BVP.csv", pulse(60, 64, 1.2 + person / 10), 64)
        e4(folder / path / "EDA.csv", eda, 4)
        for sensor in ("BVP", "EDA"):
            lines.append(f"{path}/{sensor}.csv,{name},rest,0,30,{person}")
            lines.append(f"{path}/{sensor}.csv,{name},{EVIL},30,60,{person}")
    (folder / "bad.csv").write_text("1\n2\nthree\n")
    lines.append("bad.csv,S01,rest,,,0")
    (folder / "study.csv").write_text("\n".join(lines) + "\n")
    return folder / "study.csv"


def embed_explored(folder: Path, **options: Any) -> Path:
    """The study, embedded: 35 windows in two representations, in shards of 7."""
    study = make_explored(folder / "study")
    options = {"window": WINDOW, "shard_windows": 7, **options}
    embed_study(study, folder / "out", ["waveform", "scalogram"], model=Stub, **options)
    return folder / "out"
