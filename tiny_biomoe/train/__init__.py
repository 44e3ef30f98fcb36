"""Training, the optional half of the library: `pip install "tiny-biomoe[train]"`.

>>> from tiny_biomoe.train import Settings, TrainedClassifier, Window, draw_samples, finetune, split_subjects
>>> Settings().epochs, Settings(part="head").part
(200, 'head')
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import need

need("sklearn", "matplotlib", "edfio", "kornia", extra="train", what="training")

if TYPE_CHECKING:
    from .augment import Augmentation
    from .classifier import TrainedClassifier
    from .cross_validation import CrossValidation, cross_validate
    from .drawing import Drawing, Window, draw_samples
    from .evaluation import Evaluation, RegressionEvaluation
    from .finetuning import finetune
    from .samples import Samples, View, fold_subjects, split_subjects
    from .settings import Settings
    from .vectors import VectorCache

_MODULES = {
    "Augmentation": ".augment",
    "CrossValidation": ".cross_validation",
    "Drawing": ".drawing",
    "Evaluation": ".evaluation",
    "RegressionEvaluation": ".evaluation",
    "Samples": ".samples",
    "Settings": ".settings",
    "TrainedClassifier": ".classifier",
    "VectorCache": ".vectors",
    "View": ".samples",
    "Window": ".drawing",
    "cross_validate": ".cross_validation",
    "draw_samples": ".drawing",
    "finetune": ".finetuning",
    "fold_subjects": ".samples",
    "split_subjects": ".samples",
}

__all__ = [
    "Augmentation",
    "CrossValidation",
    "Drawing",
    "Evaluation",
    "RegressionEvaluation",
    "Samples",
    "Settings",
    "TrainedClassifier",
    "VectorCache",
    "View",
    "Window",
    "cross_validate",
    "draw_samples",
    "finetune",
    "fold_subjects",
    "split_subjects",
]


def __getattr__(name: str) -> Any:  # pretraining waits for the import of neither kornia nor scikit-learn
    if name in _MODULES:
        return getattr(import_module(_MODULES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
