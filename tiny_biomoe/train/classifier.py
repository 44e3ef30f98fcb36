"""A classifier that was trained: ask it, score it, save it, load it verified."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from ..errors import ConfigError, SignalError, WeightsError
from ..images.rendering import Levels
from ..inference.torch_backend import evaluating
from ..model import TinyBioMoE, embed_levels
from ..sealed_files import write_whole
from ..version import __version__
from ..weights import loading as weights
from ..weights.tensor_files import read_safetensors, require_finite
from .evaluation import Evaluation, Progress, draw_learning_curve
from .fusion import FusionClassifier
from .sample_images import Window, draw_samples
from .samples import Samples, View, check_labelled

FORMAT = "tiny-biomoe-classifier/1"  # layout of classifier.json
DESCRIPTION, HEAD, CURVE = "classifier.json", "head.safetensors", "learning_curve.png"
SCORES, CONFUSION = "evaluation.json", "confusion.png"
MAX_DESCRIPTION = 4 << 20  # bytes; ours grow by 150 an epoch
KEYS = {"format", "views", "classes", "fusion", "missing", "about", "history", "backbone_sha256", "head_sha256"}


@dataclass(frozen=True)
class TrainedClassifier:
    """What `finetune` gives.

    Each answer is the same to the last bit whatever other samples are asked about at once, on a CPU.
    """

    model: FusionClassifier = field(repr=False)
    views: tuple[View, ...]  # what it looks at
    classes: tuple[str, ...]
    about: dict[str, Any] = field(default_factory=dict, repr=False)  # settings, samples and model it came from
    history: tuple[Progress, ...] = field(default=(), repr=False)  # one row an epoch

    @property
    def backbone(self) -> TinyBioMoE:
        """The fine-tuned embedding model."""
        return self.model.backbone

    def draw(
        self,
        windows: Sequence[Mapping[str, Window]],
        labels: Sequence[Any] | None = None,
        subjects: Sequence[Any] | None = None,
        sources: Sequence[str] = (),
        **drawing: Any,
    ) -> Samples:
        """Draw samples as this classifier looks at them; arguments as in `draw_samples`."""
        return draw_samples(
            windows, labels, ["unknown"] * len(windows) if subjects is None else subjects, self.views,
            self.backbone.recipe, classes=self.classes, missing=self.model.missing, sources=sources, **drawing,
        )  # fmt: skip

    def predict_proba(self, samples: Samples, *, batch_size: int = 32) -> NDArray[np.float64]:
        """Probability of each class: (n, classes), rows sum to 1.

        Raises
        ------
        ConfigError
            The samples do not hold the views that this classifier looks at.
        SignalError
            A sample has none of the views, or lacks one and the classifier was not trained to do without.
        """
        if samples.views != self.views:
            blind = ~samples.present[:, samples.columns(self.views)].any(1)
            if blind.any():
                name, views = samples.name(int(blind.argmax())), ", ".join(map(str, self.views))
                raise SignalError(f"{name} has no image of {views}, which the classifier looks at: leave it out")
            samples = samples.look(self.views)
        whole = samples.present.all(1)
        if self.model.missing == "error" and not whole.all():
            name = samples.name(int((~whole).argmax()))
            raise SignalError(f'{name} lacks a view: leave it out, or train with missing="mask" (--missing mask)')

        def images() -> Iterator[Levels]:
            for levels, present in zip(samples.levels, samples.present, strict=True):
                yield from levels[present]

        vectors = torch.from_numpy(embed_levels(self.backbone, images(), batch_size))  # (P, 192)
        rows, begin = [], 0
        head = self.model.head
        with evaluating(self.model), torch.inference_mode():
            for present in torch.from_numpy(samples.present):
                end = begin + int(present.sum())
                fused = self.model.fuse(vectors[begin:end].to(head.weight.device), present[None].to(head.weight.device))
                rows.append(head(fused).double().softmax(1).cpu())
                begin = end
        return np.asarray(torch.cat(rows).numpy())

    def predict(self, samples: Samples, *, batch_size: int = 32) -> NDArray[np.str_]:
        """The most probable class of each sample, by name: (n,)."""
        return np.array(self.classes)[self.predict_proba(samples, batch_size=batch_size).argmax(1)]

    def evaluate(self, samples: Samples, *, batch_size: int = 32) -> Evaluation:
        """Macro accuracy, precision and F1, and the confusion matrix, on samples whose labels are known."""
        check_labelled(samples)
        if samples.classes != self.classes:
            raise ConfigError(f"the samples' classes are {samples.classes}, and the classifier tells {self.classes}")
        told = self.predict_proba(samples, batch_size=batch_size).argmax(1)
        return Evaluation.of(samples.labels, told, self.classes)

    def save(self, folder: str | os.PathLike[str], evaluation: Evaluation | None = None) -> None:
        """Write a folder: weights, description, model card and pictures.

        The card and a picture show `evaluation`, which is to be of people that the classifier did not learn from.

        `TinyBioMoE.from_pretrained` reads the same folder, and gives the fine-tuned embedding model without its head.

        Raises
        ------
        WeightsError
            A weight is not finite, or the folder cannot be written.
        """
        from .classifier_card import model_card

        folder = Path(folder)
        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.head.state_dict().items()}
        head = safetensors.torch.save({n: require_finite(t, f"head.{n}", str(folder)) for n, t in stored.items()})
        card = model_card(self, evaluation)
        saved = weights.save(folder, self.backbone.state_dict(), self.backbone.config, card=card)
        description = {
            "format": FORMAT,
            "views": [list(view) for view in self.views],
            "classes": list(self.classes),
            "fusion": self.model.fusion,
            "missing": self.model.missing,
            "about": {**self.about, "library": f"tiny-biomoe {__version__}"},
            "history": list(self.history),
            "backbone_sha256": saved.sha256,
            "head_sha256": hashlib.sha256(head).hexdigest(),
        }
        try:
            if self.history:
                draw_learning_curve(self.history, folder / CURVE)
            else:
                (folder / CURVE).unlink(missing_ok=True)  # of what was saved here before, and so below
            if evaluation is None:
                (folder / CONFUSION).unlink(missing_ok=True)
                (folder / SCORES).unlink(missing_ok=True)
            else:
                evaluation.picture(folder / CONFUSION)
                write_whole(folder / SCORES, json.dumps(evaluation.to_dict(), indent=2).encode() + b"\n")
            write_whole(folder / HEAD, head)
            write_whole(
                folder / DESCRIPTION, json.dumps(description, indent=2).encode() + b"\n"
            )  # last: it seals the rest
        except OSError as error:
            raise WeightsError(f"{folder}: cannot be written ({error}); make room, or choose another folder") from error

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TrainedClassifier:
        """Read what `save` wrote; every file is checked against the sha256 that the description states.

        Raises
        ------
        WeightsError
            A file is missing, damaged, from another classifier, or of other shapes.
        """
        folder = Path(folder)
        data = _description(folder / DESCRIPTION)
        backbone = TinyBioMoE.from_pretrained(folder)
        if (found := weights.load(folder).sha256) != data["backbone_sha256"]:
            raise WeightsError(
                f"{folder}: sha256 of the backbone is {found}, and {data['backbone_sha256']} was stated: save it again"
            )
        views = tuple(View(*view) for view in data["views"])
        model = FusionClassifier(backbone, len(views), len(data["classes"]), data["fusion"], data["missing"])
        model.head.load_state_dict(_head(folder / HEAD, data["head_sha256"], model))
        return cls(model.eval(), views, tuple(data["classes"]), data["about"], tuple(data["history"]))


def _description(path: Path) -> dict[str, Any]:
    """`classifier.json`, of our format and with our keys, each of its own kind."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_DESCRIPTION + 1)
        if len(text) > MAX_DESCRIPTION:
            raise ValueError(f"longer than {MAX_DESCRIPTION} bytes")
        data = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path}: cannot be read ({error}); give a folder that TrainedClassifier.save wrote"
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT or set(data) != KEYS:
        raise WeightsError(f"{path}: not a description of a classifier in the format {FORMAT!r}; save it again")
    kinds = {"views": list, "classes": list, "about": dict, "history": list}
    right = all(isinstance(data[key], kind) for key, kind in kinds.items())
    views = data["views"] if right else []
    if not right or not all(isinstance(v, list) and len(v) == 2 and all(isinstance(x, str) for x in v) for v in views):
        raise WeightsError(f"{path}: views, classes, about or history is not of its kind; save the classifier again")
    if not views or not all(isinstance(name, str) for name in data["classes"]):
        raise WeightsError(f"{path}: there is no view, or a class is not a name; save the classifier again")
    return data


def _head(path: Path, stated: str, model: FusionClassifier) -> dict[str, torch.Tensor]:
    shapes = {name: tuple(tensor.shape) for name, tensor in model.head.state_dict().items()}
    limit = 4 * sum(int(np.prod(shape)) for shape in shapes.values()) + (1 << 16)
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error}); copy the whole folder again") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != stated:
        raise WeightsError(
            f"{path}: its sha256 is {digest}, and {stated} was stated: the file is damaged, or not the one that "
            f"{DESCRIPTION} describes. Copy or save the classifier again"
        )
    return {name: torch.from_numpy(array) for name, array in read_safetensors(data, shapes, str(path)).items()}
