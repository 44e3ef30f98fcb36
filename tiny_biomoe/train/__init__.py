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
    from .evaluation import Evaluation
    from .finetuning import finetune
    from .sample_images import Window, draw_samples
    from .samples import Samples, View, fold_subjects, split_subjects
    from .settings import Settings

__all__ = [
    "Augmentation",
    "Evaluation",
    "Samples",
    "Settings",
    "TrainedClassifier",
    "View",
    "Window",
    "draw_samples",
    "finetune",
    "fold_subjects",
    "split_subjects",
]

_MODULES = {
    "Augmentation": ".augment",
    "Evaluation": ".evaluation",
    "Samples": ".samples",
    "Settings": ".settings",
    "TrainedClassifier": ".classifier",
    "View": ".samples",
    "Window": ".sample_images",
    "draw_samples": ".sample_images",
    "finetune": ".finetuning",
    "fold_subjects": ".samples",
    "split_subjects": ".samples",
}


def __getattr__(name: str) -> Any:  # pretraining waits for the import of neither kornia nor scikit-learn
    if name in _MODULES:
        return getattr(import_module(_MODULES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
