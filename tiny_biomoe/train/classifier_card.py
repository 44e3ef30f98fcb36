"""The model card of a classifier or regression: what it predicts, what it learnt from, how good it is, its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import counted
from ..version import __version__
from .evaluation import Evaluation, Scores

if TYPE_CHECKING:
    from .classifier import TrainedClassifier


def model_card(classifier: TrainedClassifier, evaluation: Scores | None) -> str:
    """Text of `README.md` beside a saved classifier."""
    about = classifier.about
    views = ", ".join(map(str, classifier.views))
    joined = f", joined by {classifier.model.fusion}" if len(classifier.views) > 1 else ""
    regression = classifier.target is not None
    title = f"A regression of {about.get('label', 'a number')}" if regression else (
        f"A classifier of {', '.join(map(str, classifier.classes))}")  # fmt: skip
    pooled = f", one answer a {classifier.level} by {classifier.model.pooling}" if classifier.level != "window" else ""
    training = {key: value for key, value in about.get("training", {}).items() if not key.endswith("people")}
    return f"""---
library_name: tiny-biomoe
tags: [biosignals, {"regression" if regression else "classification"}]
---
# {title}

Fine-tuned from {_origin(about)} with tiny-biomoe {__version__}. It looks at {views}{joined}{pooled}.

```python
from tiny_biomoe.train import TrainedClassifier

classifier = TrainedClassifier.load("this folder")
```

## What it learnt from

{_rows(training)}

## How it was trained

{_rows(about.get("settings", {}))}

## What its windows are

{_rows({} if classifier.drawing is None else classifier.drawing.to_dict())}

## How good it is

{_scores(evaluation, about)}

## What it is not

It predicts what the labels above say, in people and devices like those it learnt from. It is no medical
device{"" if regression else ", and its probabilities have not been calibrated"}. Check it on people of your own before
you rely on it.
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


def _scores(evaluation: Scores | None, about: dict[str, Any]) -> str:
    if evaluation is None:
        return "It was not evaluated."
    n = int(evaluation.confusion.sum()) if isinstance(evaluation, Evaluation) else len(evaluation.truth)
    how = f", {about['folds']}" if about.get("folds") else ""
    unseen = " of people it had not learnt from" if about.get("tested_on") and not how else ""
    notes = "".join(f"\n\n- {note}" for note in evaluation.notes)
    intervals = " In brackets, 95 % intervals over people." if evaluation.intervals else ""
    return f"On {counted(n, 'sample')}{unseen}{how}: {evaluation.summary()}.{intervals}\n\n{evaluation.table()}{notes}"
