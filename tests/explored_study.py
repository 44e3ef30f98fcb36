"""A small study with people, labels and names that would be code on a page, embedded by the stub network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from stub_study import Stub, e4, pulse

from tiny_biomoe.batch.run import embed_study
from tiny_biomoe.config import config_digest

EVIL = "</script><script>window.executed = 1</script>"
WINDOW = 10  # seconds


class Model(Stub):
    """The stub with what `query_recording` asks of a model."""

    def embed_images(self, image: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
        return self(pixels)[0].detach().numpy()

    def provenance(self, fs: float, modality: str, representation: Any, **options: Any) -> dict[str, Any]:
        facts = super().provenance(fs, modality, representation)
        scale = options.get("scale", "window")
        return {**facts, "representation": representation, "recipe_sha256": config_digest(self.recipe), "scale": scale}


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
    embed_study(study, folder / "out", ["waveform", "scalogram"], model=lambda: Model(), **options)
    return folder / "out"
