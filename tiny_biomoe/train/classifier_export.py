"""A classifier or regression as one ONNX file, its head included: `pip install "tiny-biomoe[onnx]"`."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config import IMAGE_SIZE
from ..errors import ConfigError, WeightsError
from ..inference.onnx_export import TOLERANCE, exportable, write_onnx
from ..inference.torch_backend import built, usual_defaults
from ..weights.loading import arrays
from .classifier import TrainedClassifier
from .samples import Samples


class _Exported(nn.Module):
    """Images of samples, and which are there, to probabilities (B, classes) or numbers (B, 1)."""

    def __init__(self, classifier: TrainedClassifier):
        super().__init__()
        backbone = classifier.backbone
        self.backbone = exportable(built(arrays(backbone.state_dict()), backbone.config))
        self.head, self.target = classifier.model.head, classifier.target
        self.views, self.adds = classifier.model.views, classifier.model.fusion == "add"

    def forward(self, pixels: Tensor, present: Tensor) -> Tensor:
        """(B, views, 3, 224, 224) in [0, 1] and (B, views), 1 or 0, to (B, outputs)."""
        vectors = self.backbone(pixels.reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE)).reshape(-1, self.views, self.width)
        vectors = vectors * present[..., None]
        scale = self.views / present.sum(1, keepdim=True)
        outputs = self.head(vectors.sum(1) * scale if self.adds else vectors.flatten(1))
        if self.target is not None:
            return outputs * self.target.std + self.target.mean
        return outputs.softmax(1)

    @property
    def width(self) -> int:
        """Numbers of one embedding."""
        return self.head.in_features if self.adds else self.head.in_features // self.views


def classifier_to_onnx(classifier: TrainedClassifier, **facts: str) -> bytes:
    """The whole classifier as an ONNX file.

    Inputs are `pixels`, (batch, views, 3, 224, 224) in [0, 1], zeros where a view is missing, and `present`, (batch,
    views), 1 where there is an image and 0 otherwise. The output is `probabilities`, (batch, classes), or of a
    regression `number`, (batch, 1). The metadata hold views, classes, how windows are drawn, the config and `facts`.

    Raises
    ------
    ConfigError
        It pools windows, whose number a file of one batch does not know.
    WeightsError
        What ONNX Runtime makes of the file is not, to 1e-4 of a probability or standard deviation, what PyTorch does.
    """
    if classifier.level != "window":
        raise ConfigError(
            f"this classifier pools the windows of a {classifier.level}, and such a head is not exported: export its "
            "embedding network (--embedding)"
        )
    name = "number" if classifier.target else "probabilities"
    with usual_defaults():
        module = _Exported(classifier).eval()
        pixels, present = torch.zeros(2, module.views, 3, IMAGE_SIZE, IMAGE_SIZE), torch.ones(2, module.views)
    description: dict[str, Any] = {
        "views": [list(view) for view in classifier.views], "classes": list(classifier.classes),
        "drawing": None if classifier.drawing is None else classifier.drawing.to_dict(),
        "missing": classifier.model.missing,
    }  # fmt: skip
    metadata = {"config": classifier.backbone.config.to_json(), "classifier": json.dumps(description), **facts}
    data = write_onnx(module, {"pixels": pixels, "present": present}, [name], metadata)
    with usual_defaults():
        difference = _difference(classifier, data, name)
    if not difference <= TOLERANCE:
        raise WeightsError(
            f"the exported classifier differs from its original by {difference:.1e}, over {TOLERANCE:.0e}: it is not "
            "written; update onnx and onnxruntime"
        )
    return data


def run_classifier(data: bytes, samples: Samples) -> NDArray[np.float32]:
    """What ONNX Runtime makes of samples with a file of `classifier_to_onnx`: (n, outputs)."""
    from ..inference.onnx_backend import session_of, to_pixels

    session = session_of(data)
    n, views = samples.present.shape
    pixels = to_pixels(samples.levels.reshape(-1, IMAGE_SIZE, IMAGE_SIZE)).reshape(n, views, 3, IMAGE_SIZE, IMAGE_SIZE)
    inputs = {"pixels": pixels, "present": samples.present.astype(np.float32)}
    outputs: NDArray[np.float32] = session.run(None, {each.name: inputs[each.name] for each in session.get_inputs()})[0]
    return outputs


def _difference(classifier: TrainedClassifier, data: bytes, name: str) -> float:
    """Between the file's answers about two samples of made-up images and the classifier's own."""
    grid = np.add.outer(np.arange(IMAGE_SIZE), np.arange(IMAGE_SIZE))
    pictures = np.stack([np.random.RandomState(0).randint(0, 256, grid.shape), grid // 2]).astype(np.uint8)
    levels: NDArray[np.uint8] = np.stack([np.roll(pictures, view, 0) for view in range(len(classifier.views))], 1)
    present = np.ones((2, len(classifier.views)), bool)
    if classifier.model.missing == "mask" and present.shape[1] > 1:
        present[1, 0] = False
    samples = Samples(levels, present, np.full(2, -1), ("a", "b"), classifier.views, classifier.classes)
    if classifier.target is not None:
        samples = Samples(levels, present, np.full(2, np.nan), ("a", "b"), classifier.views, ())
    answers = classifier.answers(classifier.outputs(samples)[0])
    scale = classifier.target.std if classifier.target else 1.0
    return float(np.abs(run_classifier(data, samples).reshape(answers.shape) - answers).max()) / scale
