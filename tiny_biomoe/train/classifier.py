"""A classifier or regression that was trained: ask it, score it, save it, load it verified."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..batch.labels import Label, as_classes, check_labels, classes_of, person_key
from ..errors import ConfigError, SignalError, WeightsError, listed, warn
from ..images.rendering import Levels
from ..inference.torch_backend import evaluating, usual_defaults
from ..model import TinyBioMoE, embed_levels
from ..sealed_files import write_whole
from ..version import __version__
from ..weights import loading as weights
from ..weights.tensor_files import read_safetensors, require_finite
from .drawing import Drawing, Window, draw_samples
from .evaluation import Evaluation, Progress, RegressionEvaluation, Scores, draw_learning_curve
from .fusion import FusionClassifier
from .samples import Samples, View, check_labelled
from .settings import LEVELS, POOLINGS
from .vectors import VectorCache

FORMAT = "tiny-biomoe-classifier/2"  # layout of classifier.json
DESCRIPTION, HEAD, CURVE = "classifier.json", "head.safetensors", "learning_curve.png"
SCORES, CONFUSION = "evaluation.json", "confusion.png"
MAX_DESCRIPTION = 4 << 20  # bytes; ours grow by 150 an epoch
KEYS = {"format", "views", "classes", "fusion", "missing", "about", "history", "backbone_sha256", "head_sha256"}
ADDED = {"drawing": None, "target": None, "level": "window", "pooling": None}  # since tiny-biomoe-classifier/1
OPTIONS = ("band", "scale", "nan_policy", "max_gap", "max_missing")  # of drawing, that a classifier remembers


@dataclass(frozen=True)
class Target:
    """The number that a regression predicts, as training saw it."""

    mean: float
    std: float

    @classmethod
    def of(cls, labels: Tensor) -> Target:
        """Of what is learnt from.

        Raises
        ------
        ConfigError
            All numbers are one.
        """
        std = float(labels.double().std(correction=0))
        if not std > 1e-9 * max(1.0, float(labels.abs().max())):
            raise ConfigError(
                f"all {len(labels)} numbers to predict are {float(labels[0]):g}: there is nothing to learn"
            )
        return cls(float(labels.double().mean()), std)


@dataclass(frozen=True)
class TrainedClassifier:
    """What `finetune` gives: a classifier, or a regression where it has a `target`.

    Each answer is the same to the last bit whatever other samples are asked about at once, on a CPU. One answer is
    given a sample; or, where `level` is "recording" or "subject", one a bag of them, in the order of their first
    samples.
    """

    model: FusionClassifier = field(repr=False)
    views: tuple[View, ...]  # what it looks at
    classes: tuple[Label, ...]  # in the order of its outputs, of the type they were given in
    about: dict[str, Any] = field(default_factory=dict, repr=False)  # settings, samples and model it came from
    history: tuple[Progress, ...] = field(default=(), repr=False)  # one row an epoch
    drawing: Drawing | None = field(default=None, repr=False)  # how its images were made, and by which it draws
    target: Target | None = None
    level: str = "window"

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
        **options: Any,
    ) -> Samples:
        """Draw samples as this classifier looks at them; further arguments as in `draw_samples`.

        Band, scale, `nan_policy`, `max_gap` and `max_missing` are those of its training; labels that it did not learn
        are kept, as further classes.

        Raises
        ------
        SignalError
            A window is of another rate or length than those that it learnt from.
        ConfigError
            An option differs from that of its training.
        """
        for name in OPTIONS if self.drawing is not None else ():
            if name in options and options.pop(name) != getattr(self.drawing, name):
                raise ConfigError(
                    f"{name}= is not to be chosen: the classifier was trained with {getattr(self.drawing, name)!r}"
                )
        if self.target is None:
            plain = as_classes(check_labels([None] * len(windows) if labels is None else labels, len(windows)),
                               self.classes)  # fmt: skip
            others = classes_of([label for label in plain if label not in self.classes])
            options |= {"classes": (*self.classes, *others)}
            labels = plain
        return draw_samples(
            windows, labels, ["unknown"] * len(windows) if subjects is None else subjects, self.views,
            self.backbone.recipe, missing=self.model.missing, sources=sources, learnt=self.drawing,
            task="classification" if self.target is None else "regression", **options,
        )  # fmt: skip

    def outputs(
        self, samples: Samples, *, batch_size: int = 32, vectors: VectorCache | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the head gives for each unit, (units, outputs), and the attention of each sample within its unit (n,).

        Raises
        ------
        ConfigError
            The samples do not hold the views that this classifier looks at, or are in no bags and it pools those.
        SignalError
            A sample has none of the views, or lacks one and the classifier was not trained to do without.
        """
        samples = self._seen(samples).at_level(self.level)

        def images() -> Iterator[Levels]:
            for levels, present in zip(samples.levels, samples.present, strict=True):
                yield from levels[present]

        found = embed_levels(self.backbone, images(), batch_size) if vectors is None else vectors.of(images())
        ends = samples.present.sum(1).cumsum()
        device = self.model.head.weight.device
        every, present = torch.from_numpy(found).to(device), torch.from_numpy(samples.present).to(device)
        rows, attention = [], np.ones(len(samples))
        with evaluating(self.model), torch.inference_mode():
            fused = [
                self.model.fuse(every[end - int(there.sum()) : end], there[None])
                for end, there in zip(ends.tolist(), present, strict=True)
            ]
            for unit in samples.units():
                joined = torch.cat([fused[row] for row in unit])
                if self.level != "window":
                    joined, shares = self.model.pool(joined, [len(unit)])
                    attention[unit] = shares.double().cpu().numpy()
                rows.append(self.model.head(joined).double().cpu())
        return torch.cat(rows).numpy(), attention

    def _seen(self, samples: Samples) -> Samples:
        """The samples through the views of this classifier."""
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
        return samples

    def predict_proba(
        self, samples: Samples, *, batch_size: int = 32, vectors: VectorCache | None = None
    ) -> NDArray[np.float64]:
        """Probability of each class: (units, classes), rows sum to 1; errors as in `outputs`."""
        if self.target is not None:
            raise ConfigError("a regression has no probabilities: ask predict for its numbers")
        given, _ = self.outputs(samples, batch_size=batch_size, vectors=vectors)
        return self.answers(given)

    def answers(self, given: NDArray[np.float64]) -> NDArray[np.float64]:
        """`outputs` as probabilities, (units, classes), or as numbers in the target's unit, (units,)."""
        if self.target is not None:
            return given[:, 0] * self.target.std + self.target.mean
        return np.asarray(torch.from_numpy(given).softmax(1).numpy())

    def predict(self, samples: Samples, *, batch_size: int = 32) -> NDArray[Any]:
        """The most probable class of each unit, in the type of the labels; or the number of a regression: (units,)."""
        answers = self.answers(self.outputs(samples, batch_size=batch_size)[0])
        return answers if self.target is not None else np.array(self.classes)[answers.argmax(1)]

    def evaluate(self, samples: Samples, *, batch_size: int = 32, vectors: VectorCache | None = None) -> Scores:
        """Scores on samples whose labels are known, with what limits them as `notes`, which are warned of.

        Samples of a class that was never learnt are left out, and counted in the notes.

        Raises
        ------
        ConfigError
            A sample has no label, or none has one that was learnt.
        """
        check_labelled(samples)
        if (samples.task == "regression") != (self.target is not None):
            raise ConfigError(f"the samples are of a {samples.task}, and what was trained is another task")
        samples = samples.at_level(self.level)
        answers = self.answers(self.outputs(samples, batch_size=batch_size, vectors=vectors)[0])
        first = [int(unit[0]) for unit in samples.units()]
        return self.score(
            answers,
            [samples.labels[i] if self.target else samples.classes[samples.labels[i]] for i in first],
            [samples.subjects[i] for i in first],
        )

    def score(self, answers: NDArray[np.float64], labels: Sequence[Any], subjects: Sequence[str]) -> Scores:
        """Scores of `answers` beside the true labels; of those whose label is missing or was never learnt, none.

        Raises
        ------
        ConfigError
            None has a label that was learnt.
        """
        notes = self._seen_people(subjects)
        if self.target is not None:
            truth: NDArray[Any] = np.array([math.nan if label is None else label for label in labels], np.float64)
            known = ~np.isnan(truth)
        else:
            plain = as_classes(check_labels(labels, len(labels)), self.classes)
            known = np.array([label in self.classes for label in plain], bool)
            if strange := [label for label in plain if label is not None and label not in self.classes]:
                shown = ", ".join(str(label) for label in classes_of(strange)[:5])
                notes.append(f"{len(strange)} of {len(labels)} have a label that was never learnt ({shown}): left out")
            truth = np.array(
                [self.classes.index(x) for x, there in zip(plain, known, strict=True) if there and x is not None]
            )
        if unlabelled := len(labels) - int(known.sum()) - (len(strange) if self.target is None else 0):
            notes.append(f"{unlabelled} of {len(labels)} have no label: left out")
        if not known.any():
            raise ConfigError(f"no label is one that was learnt ({', '.join(map(str, self.classes)) or 'a number'})")
        people = [name for name, there in zip(subjects, known, strict=True) if there]
        scores: Scores
        if self.target is not None:
            scores = RegressionEvaluation.of(truth[known], answers[known], people, self.target.mean, notes)
        else:
            scores = Evaluation.of(truth, np.asarray(answers[known].argmax(1)), self.classes, people, notes)
        for note in scores.notes:
            warn(note)
        return scores

    def _seen_people(self, subjects: Sequence[str]) -> list[str]:
        """A note where scored people were learnt from, or chose when to stop."""
        training, scored = self.about.get("training", {}), {person_key(name): name for name in subjects}
        notes = []
        for key, role in (("people", "trained on"), ("watched_people", "used to choose when to stop")):
            if both := sorted({scored[k] for k in map(person_key, training.get(key, ())) if k in scored}):
                notes.append(
                    f"{len(both)} of {len(scored)} scored people were {role} ({listed(both, 3, ', ...')}): the scores "
                    "say nothing of people it has not seen"
                )
        return notes

    def save(self, folder: str | os.PathLike[str], evaluation: Scores | None = None) -> None:
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
        stored = {name: np.ascontiguousarray(array) for name, array in weights.arrays(self.model.learnt_head()).items()}
        head = safetensors.numpy.save({n: require_finite(t, f"head.{n}", str(folder)) for n, t in stored.items()})
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
            "drawing": None if self.drawing is None else self.drawing.to_dict(),
            "target": None if self.target is None else asdict(self.target),
            "level": self.level,
            "pooling": self.model.pooling,
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
        target = None if data["target"] is None else Target(**data["target"])
        outputs = 1 if target else len(data["classes"])
        with usual_defaults():
            model = FusionClassifier(backbone, len(views), outputs, data["fusion"], data["missing"], data["pooling"])
        model.load_head(_head(folder / HEAD, data["head_sha256"], model))
        drawing = None if data["drawing"] is None else Drawing(**data["drawing"])
        return cls(model.eval(), views, tuple(data["classes"]), data["about"], tuple(data["history"]), drawing,
                   target, data["level"])  # fmt: skip


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
    old = isinstance(data, dict) and data.get("format") == "tiny-biomoe-classifier/1" and set(data) == KEYS
    if old:
        data |= {**ADDED, "format": FORMAT}
    if not isinstance(data, dict) or data.get("format") != FORMAT or set(data) != KEYS | set(ADDED):
        raise WeightsError(f"{path}: not a description of a classifier in the format {FORMAT!r}; save it again")
    kinds = {"views": list, "classes": list, "about": dict, "history": list}
    right = all(isinstance(data[key], kind) for key, kind in kinds.items())
    views = data["views"] if right else []
    if not right or not all(isinstance(v, list) and len(v) == 2 and all(isinstance(x, str) for x in v) for v in views):
        raise WeightsError(f"{path}: views, classes, about or history is not of its kind; save the classifier again")
    if not views or not all(isinstance(name, str | bool | int | float) for name in data["classes"]):
        raise WeightsError(f"{path}: there is no view, or a class is not a name; save the classifier again")
    _check_added(data, path)
    return data


def _check_added(data: dict[str, Any], path: Path) -> None:
    """The parts of a description that say how windows are drawn, pooled, and what a regression predicts."""
    target, pooled = data["target"], data["level"] != "window"
    scaled = target is None or (
        isinstance(target, dict) and set(target) == {"mean", "std"}
        and all(isinstance(x, int | float) and math.isfinite(x) for x in target.values())
    )  # fmt: skip
    fitting = data["level"] in LEVELS and (data["pooling"] in POOLINGS if pooled else data["pooling"] is None)
    drawing = data["drawing"] is None or (
        isinstance(data["drawing"], dict) and set(data["drawing"]) == set(Drawing().to_dict())
    )
    if not (scaled and fitting and drawing):
        raise WeightsError(f"{path}: drawing, target, level or pooling is not of its kind; save the classifier again")


def _head(path: Path, stated: str, model: FusionClassifier) -> dict[str, torch.Tensor]:
    shapes = {name: tuple(tensor.shape) for name, tensor in model.learnt_head().items()}
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
