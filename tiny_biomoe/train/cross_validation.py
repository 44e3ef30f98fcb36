"""Scores of people whom each classifier had not seen: leave one person out, or folds of people."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import WeightsError, warn
from ..model import TinyBioMoE
from ..sealed_files import read_sealed, sealed, write
from ..weights.loading import tensor_digest
from .augment import NONE
from .evaluation import Evaluation, RegressionEvaluation, Scores
from .finetuning import finetune
from .progress import Progress
from .samples import Samples, check_labelled, fold_subjects, split_subjects
from .settings import Settings, plain
from .vectors import VectorCache


@dataclass(frozen=True)
class CrossValidation:
    """What `cross_validate` gives."""

    scores: Scores  # over all people, each scored once; `scores.people` holds the score of each
    folds: tuple[dict[str, Any], ...]  # of each: `people` that were scored, and the true `labels` and the `answers`


def cross_validate(
    model: TinyBioMoE,
    samples: Samples,
    folds: int | str = "loso",
    *,
    settings: Settings = Settings(),
    held_out: float = 0.2,
    out: Path | None = None,
    device: str = "cpu",
    progress: bool = False,
    vectors: VectorCache | None = None,
) -> CrossValidation:
    """Train once a fold, and score each on the people it was not trained on.

    Of a frozen network (`part="head"` without augmentation) each image is embedded once for all folds.

    Parameters
    ----------
    folds : "loso" to leave one person out at a time, or a number of folds of people (scikit-learn's GroupKFold)
    held_out : share of the other people who choose when to stop, where `settings.patience` is given
    out : folder that keeps each fold once it is scored; the same call again goes on with those that are missing

    Raises
    ------
    ConfigError
        Fewer people than folds, or a sample without a label.
    WeightsError
        `out` holds folds of another call.
    """
    check_labelled(samples)
    frozen = settings.part == "head" and settings.augmentation == NONE
    if frozen and vectors is None:
        vectors = VectorCache(model, out, device)
    if frozen and vectors is not None:
        vectors.of(samples.levels[samples.present], progress)
    facts = {"settings": plain(asdict(settings)), "model": tensor_digest(model.state_dict()), "samples": samples.sha256}
    facts |= {"held_out": held_out, "folds": folds}
    parts = list(fold_subjects(samples, folds))
    done = []
    with Progress("cross-validation", "fold", len(parts), progress) as report:
        for number, (rest, test) in enumerate(parts):
            path = None if out is None else out / f"fold-{number + 1:03}.json"
            kept = None if path is None else read_sealed(path)
            if kept is not None and kept.get("facts") != plain(facts):
                raise WeightsError(
                    f"{path} holds a fold of another model, other samples, folds or settings: choose another folder"
                )
            if kept is None:
                checkpoints = None if out is None or frozen else out / f"fold-{number + 1:03}"
                kept = {"facts": plain(facts)} | _fold(
                    model, rest, test, settings, held_out, checkpoints, device, vectors
                )
                if path is not None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write(path, sealed(kept))
                if checkpoints is not None:
                    shutil.rmtree(checkpoints, ignore_errors=True)
            done.append({key: kept[key] for key in ("people", "subjects", "labels", "answers")})
            report.to(number + 1)
    scores = _pooled(done, samples)
    for note in scores.notes:
        warn(note)
    return CrossValidation(scores, tuple(done))


def _fold(
    model: TinyBioMoE,
    rest: Samples,
    test: Samples,
    settings: Settings,
    held_out: float,
    out: Path | None,
    device: str,
    vectors: VectorCache | None,
) -> dict[str, Any]:
    """Train on some people, and what the classifier answers of the others."""
    learnt, watched = (rest, None) if settings.patience is None else split_subjects(rest, held_out, settings.seed)
    trained = finetune(model, learnt, validation=watched, settings=settings, out=out, device=device, vectors=vectors)
    test = test.at_level(settings.level)
    answers = trained.answers(trained.outputs(test, vectors=vectors)[0])
    first = [int(unit[0]) for unit in test.units()]
    return {
        "people": sorted(set(test.subjects)), "subjects": [test.subjects[i] for i in first],
        "labels": test.labels[first].tolist(), "answers": answers.tolist(),
    }  # fmt: skip


def _pooled(folds: list[dict[str, Any]], samples: Samples) -> Scores:
    """The scores of all folds together."""
    people = list(_each(folds, "subjects"))
    truth, answers = np.array(list(_each(folds, "labels"))), np.array(list(_each(folds, "answers")))
    if samples.task == "regression":
        return RegressionEvaluation.of(truth, answers, people)
    return Evaluation.of(truth, answers.argmax(1), samples.classes, people)


def _each(folds: list[dict[str, Any]], key: str) -> Iterator[Any]:
    for fold in folds:
        yield from fold[key]
