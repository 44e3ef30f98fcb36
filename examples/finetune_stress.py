"""Fine-tune a classifier of stress, score it on people set aside, save it, load it, and ask it.

The signals are generated: skin conductance of twenty made-up people at the 4 Hz of a wristband, calm with few responses
and stressed with many. Only the last stages learn, for four epochs, on images that are not varied, so that it takes
seconds; a study of your own wants `Settings()` as it is, or `tiny-biomoe finetune study.csv`. Run it, with a folder to
save in: python examples/finetune_stress.py stress-classifier
"""

import sys
import tempfile

import numpy as np

from tiny_biomoe import TinyBioMoE
from tiny_biomoe.train import Settings, TrainedClassifier, Window, draw_samples, finetune, split_subjects
from tiny_biomoe.train.augment import NONE

rng = np.random.default_rng(0)
fs, t = 4, np.arange(60 * 4) / 4  # Hz, 60 s


def conductance(responses: int, level: float) -> np.ndarray:
    """A slow drift with so many responses, each of which rises fast and falls slowly, in microsiemens."""
    signal = level - 0.01 * t + 0.01 * rng.standard_normal(t.size)
    for onset in rng.uniform(0, 55, responses):
        after = np.maximum(t - onset, 0)
        signal += rng.uniform(0.2, 0.6) * (np.exp(-after / 4) - np.exp(-after / 0.7))
    return signal


windows, labels, people = [], [], []
for person in range(20):
    level = rng.uniform(2, 8)
    for label, responses in (("calm", 2), ("stress", 14)):
        windows.append({"eda": Window(conductance(responses + int(rng.integers(3)), level), fs)})
        labels.append(label)
        people.append(f"person {person}")

model = TinyBioMoE.from_pretrained()
samples = draw_samples(windows, labels, people, [("eda", "scalogram")], model.recipe)
train, test = split_subjects(samples, 0.33)
settings = Settings(epochs=4, batch_size=4, learning_rate=2e-3, part="last", dropout=(0.0, 0.0), augmentation=NONE)
classifier = finetune(model, train, validation=test, settings=settings)
for row in classifier.history:
    print(f"epoch {row['epoch'] + 1}: loss {row['train_loss']:.2f}, on other people {row['validation_loss']:.2f}")

with tempfile.TemporaryDirectory() as place:
    folder = sys.argv[1] if len(sys.argv) > 1 else place
    classifier.save(folder, classifier.evaluate(test))  # weights, card, learning curve, confusion matrix
    loaded = TrainedClassifier.load(folder)
print(f"of {sorted(set(test.subjects))}: {loaded.evaluate(test)}")
(chances,) = loaded.predict_proba(loaded.draw([{"eda": Window(conductance(13, 5.0), fs)}]))
print(
    f"a new window: {', '.join(f'{name} {chance:.2f}' for name, chance in zip(loaded.classes, chances, strict=True))}"
)
