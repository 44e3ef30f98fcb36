"""How far a vector moves where one thing about a run differs: cosine similarity of the same window, both ways.

    python benchmarks/mixing.py [FILE ...] [--windows 20]

Files are recordings of a modality that they say; otherwise PyWavelets' ECG and the recordings in examples/. "Another
window of the recording" and "the same time, half as long" say what the other numbers are to be compared with.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pywt
from numpy.typing import NDArray

from tiny_biomoe.embedding import Embedder
from tiny_biomoe.recordings import find, read

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "recordings"
WINDOW = {"eda": 30.0, "resp": 30.0}  # seconds; 10 of any other modality
HELD = 4  # times that each value stands in an export whose rate is higher than the sensor's


def cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of the rows of two arrays, (n,)."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    found: NDArray[np.float64] = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return found


def recordings(paths: list[Path]) -> list[tuple[NDArray[np.float64], float, str]]:
    """Signals with rate and modality."""
    if paths:
        return [(r.signal, r.fs, r.modality) for path in paths for r in read(path) if r.modality]
    found = [(pywt.data.ecg().astype(float), 360.0, "ecg")]
    files, _ = find(EXAMPLES)
    return found + [(r.signal, r.fs, r.modality) for path in files for r in read(path) if r.modality]


def _vectors(
    signal: NDArray[np.float64], fs: float, modality: str, cut: dict[str, Any], by: Embedder, **options: Any
) -> NDArray[np.float32]:
    return by.embed_windows(signal, fs, modality, **{**cut, **options}).embeddings


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--windows", type=int, default=20, help="of each recording, at most")
    chosen = parser.parse_args()
    model, half = Embedder.from_pretrained(), Embedder.from_pretrained(precision="bfloat16")
    other = Embedder.from_pretrained(backend="torch")
    found: dict[str, list[NDArray[np.float64]]] = {}
    for signal, fs, modality in recordings(chosen.files):
        window = min(WINDOW.get(modality, 10.0), signal.size / fs / 2)
        stride = max(window / 2, (signal.size / fs - window) / chosen.windows)

        cut = {"window": window, "stride": stride, "representation": "scalogram"}
        vectors = partial(_vectors, signal, fs, modality, cut)
        plain = vectors(model)
        high = min(0.8 * fs / 2, 20.0)
        cases = {
            "backend torch": vectors(other),
            "precision bfloat16": vectors(half),
            "on_held, each value held four times": _vectors(np.repeat(signal, HELD), HELD * fs, modality, cut, model),
            "scale recording": vectors(model, scale="recording"),
            "no band": vectors(model, band=None),
            "another band": vectors(model, band=(high / 20, high)),
            "the same time, half as long": vectors(model, window=window / 2),
            "another representation, psd": vectors(model, representation="psd"),
            "another window of the recording": np.roll(plain, 1, axis=0),
        }
        for name, moved in cases.items():
            n = min(len(plain), len(moved))
            found.setdefault(name, []).append(cosines(plain[:n], moved[:n]))
    print("| what differs | median cosine | least |\n|---|---|---|")
    for name, parts in found.items():
        every = np.concatenate(parts)
        print(f"| {name} | {np.median(every):.5f} | {every.min():.5f} |")


if __name__ == "__main__":
    sys.exit(main())
