"""Embed a recording window by window, and find the two windows that are most alike.

Run it from the repository's root: python examples/embed_recording.py
"""

from pathlib import Path

import numpy as np

from tiny_biomoe import TinyBioMoE
from tiny_biomoe.recordings import read

(recording,) = read(Path(__file__).parent / "recordings" / "respiration.csv")
model = TinyBioMoE.from_pretrained()
found = model.embed_windows(recording.signal, recording.fs, "resp", window=20, stride=5)

unit = found.embeddings / np.linalg.norm(found.embeddings, axis=1, keepdims=True)
similarity = unit @ unit.T - np.eye(len(unit))
a, b = np.unravel_index(similarity.argmax(), similarity.shape)
print(f"{len(unit)} windows of 20 s, {unit.shape[1]} numbers each")
print(f"most alike: {found.starts[a]:g}-{found.stops[a]:g} s and {found.starts[b]:g}-{found.stops[b]:g} s")
print(f"made by {found.provenance['weights']}, filter {found.provenance['filter']}")
