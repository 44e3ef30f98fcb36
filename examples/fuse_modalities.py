"""Join several modalities and representations of a sample through one network, and go on where one of them is missing.

The signals are generated: pulse and breathing of six made-up people at rest and in exercise; one sensor fell off once.
Only the head learns, on images that are not varied: each is embedded once, so that it takes seconds. Run it from
anywhere: python examples/fuse_modalities.py
"""

import numpy as np

from tiny_biomoe import TinyBioMoE
from tiny_biomoe.train import Settings, View, Window, draw_samples, finetune, split_subjects
from tiny_biomoe.train.augment import NONE

rng = np.random.default_rng(0)


def rhythm(hertz: float, fs: int, seconds: int = 20) -> Window:
    """A rhythm with its second harmonic and some noise."""
    phase = 2 * np.pi * hertz * np.arange(seconds * fs) / fs + rng.uniform(0, 6)
    return Window(np.sin(phase) + 0.3 * np.sin(2 * phase) + 0.1 * rng.standard_normal(phase.size), fs)


windows, labels, people = [], [], []
for person in range(6):
    for label, pulse, breath in (("rest", 1.0, 0.2), ("exercise", 1.6, 0.4)):
        windows.append({"bvp": rhythm(pulse + rng.normal(0, 0.05), 64), "resp": rhythm(breath, 25)})
        labels.append(label)
        people.append(f"person {person}")
del windows[3]["resp"]

model = TinyBioMoE.from_pretrained()
views = [("bvp", "scalogram"), ("resp", "scalogram"), ("resp", "recurrence")]
samples = draw_samples(windows, labels, people, views, model.recipe, missing="mask")
train, test = split_subjects(samples, 0.33)
base = {"epochs": 15, "batch_size": 8, "learning_rate": 0.02, "part": "head", "missing": "mask", "augmentation": NONE}
for chosen, fusion in (([View("bvp", "scalogram")], "concat"), (samples.views, "add"), (samples.views, "concat")):
    classifier = finetune(model, train.look(chosen), settings=Settings(**base, fusion=fusion))
    scores = classifier.evaluate(test)
    print(f"{len(chosen)} images by {fusion}: macro accuracy {scores.accuracy:.2f}, F1 {scores.f1:.2f} (chance 0.50)")
