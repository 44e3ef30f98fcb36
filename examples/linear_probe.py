"""How much do embeddings know? A linear probe on frozen vectors, scored on people it has never seen.

The signals are generated: breathing of ten made-up people, each with a pace of their own, at rest and after climbing
stairs. Run it from anywhere: python examples/linear_probe.py
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tiny_biomoe.estimators import TinyBioMoEEmbedder

rng = np.random.default_rng(0)
fs, t = 25, np.arange(30 * 25) / 25  # Hz, 30 s


def breathing(rate: float) -> np.ndarray:
    """Thirty seconds at `rate` breaths a minute, with a drifting pace and some noise."""
    pace = rate / 60 * (1 + 0.1 * np.sin(2 * np.pi * t / 30 + rng.uniform(0, 6)))
    return np.sin(2 * np.pi * np.cumsum(pace) / fs) + 0.1 * rng.standard_normal(t.size)


signals, labels, people = [], [], []
for person, rest in enumerate(rng.uniform(10, 15, 10)):
    for label, rate in (("rest", rest), ("rest", rest), ("stairs", rest + 7), ("stairs", rest + 7)):
        signals.append(breathing(rate + rng.normal()))
        labels.append(label)
        people.append(person)

embedder = TinyBioMoEEmbedder(fs=fs, modality="resp", representation="scalogram")
vectors = embedder.fit_transform(np.array(signals))  # once: nothing in it learns from labels
probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
scores = cross_val_score(probe, vectors, labels, groups=people, cv=GroupKFold(5), scoring="balanced_accuracy")
print(f"{len(vectors)} vectors of {vectors.shape[1]} numbers, {len(set(people))} people, 5 folds by person")
print(f"balanced accuracy {scores.mean():.2f} (chance 0.50) with {embedder.provenance_['weights']}")
