"""The model card of a classifier: what it tells apart, what it learnt from, how good it is, and what it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..version import __version__
from .evaluation import Evaluation

if TYPE_CHECKING:
    from .classifier import TrainedClassifier


def model_card(classifier: TrainedClassifier, evaluation: Evaluation | None) -> str:
    """Text of `README.md` beside a saved classifier."""
    about = classifier.about
    views = ", ".join(map(str, classifier.views))
    joined = f", joined by {classifier.model.fusion}" if len(classifier.views) > 1 else ""
    return f"""---
library_name: tiny-biomoe
tags: [biosignals, classification]
---
# A classifier of {", ".join(classifier.classes)}

Fine-tuned from {_origin(about)} with tiny-biomoe {__version__}. It looks at {views}{joined}.

```python
from tiny_biomoe.train import TrainedClassifier

classifier = TrainedClassifier.load("this folder")
```

## What it learnt from

{_rows(about.get("training", {}))}

## How it was trained

{_rows(about.get("settings", {}))}

## How good it is

{_scores(evaluation, about)}

## What it is not

It tells apart what the labels above told apart, in people and devices like those it learnt from. It is no medical
device, and its probabilities have not been calibrated. Check it on people of your own before you rely on it.
"""


def _origin(about: dict[str, Any]) -> str:
    model = about.get("model", {})
    return f"the weights {model.get('name', '?')!r} ({model.get('source', '?')})"


def _rows(facts: dict[str, Any]) -> str:
    if not facts:
        return "Not recorded."
    return "\n".join(["| | |", "|---|---|", *(f"| {key.replace('_', ' ')} | {_cell(x)} |" for key, x in facts.items())])


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return str(value).replace("|", "\\|")


def _scores(evaluation: Evaluation | None, about: dict[str, Any]) -> str:
    if evaluation is None:
        return "It was not evaluated."
    n, k = int(evaluation.confusion.sum()), len(evaluation.classes)
    told = " | ".join(_cell(name) for name in evaluation.classes)
    rows = [
        f"| {_cell(name)} | {' | '.join(map(str, row))} |"
        for name, row in zip(evaluation.classes, evaluation.confusion.tolist(), strict=True)
    ]
    table = "\n".join([f"| true \\ told | {told} |", "|---" * (k + 1) + "|", *rows])
    unseen = " of people it had not learnt from" if about.get("tested_on") else ""
    return (
        f"On {n} samples{unseen}: macro accuracy {evaluation.accuracy:.3f} (chance "
        f"{1 / k:.3f}), macro precision {evaluation.precision:.3f}, macro F1 {evaluation.f1:.3f}.\n\n{table}"
    )
