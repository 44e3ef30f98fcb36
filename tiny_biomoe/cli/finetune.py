"""The command `tiny-biomoe finetune`: a table of recordings to a trained classifier or regression with its scores."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import click
import torch

from ..batch.study_table import open_study
from ..config import PRECISIONS
from ..errors import ConfigError, SignalError, counted
from ..images.representations import REPRESENTATIONS
from ..model import TinyBioMoE
from ..signals.filters import modality_name
from ..signals.request import FUSIONS
from ..train.augment import NONE, Augmentation
from ..train.classifier import TrainedClassifier
from ..train.cross_validation import cross_validate
from ..train.drawing import Drawing, draw_samples
from ..train.evaluation import Scores
from ..train.finetuning import finetune as train
from ..train.fusion import PARTS
from ..train.labelled_study import Cutting, cut_study, remembering
from ..train.samples import MISSING, TASKS, Samples, split_subjects
from ..train.settings import LEVELS, LOSSES, POOLINGS, Settings
from ..train.vectors import VectorCache
from .messages import fitting
from .options import IMAGE_OPTIONS, MISSING_OPTIONS, PATTERN_OPTIONS, PATTERNS, READING, READING_OPTIONS, options

LAYOUT = [name for name in READING if name != "modality"]
HOLE_OPTION = click.option(
    "--on-hole",
    type=click.Choice(["error", "nan"]),
    default="error",
    help="Rows missing in time: nan loses the windows that they touch.",
)


class FoldsType(click.ParamType):  # type: ignore[type-arg]
    """`loso`, or a number of folds."""

    name = "loso|NUMBER"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "loso" or str(value).isdecimal():
            return value if value == "loso" else int(value)
        self.fail(f"{value!r} is neither loso nor a number of folds", param, ctx)


def learning_options() -> list[Any]:
    """What is learnt, and how."""
    pick = click.Choice
    return [
        click.option("--weights", help="Folder, Tiny-BioMoE.pth or owner/name on the Hub; bundled otherwise."),
        click.option("--untrained", is_flag=True, help="Begin with the network as it is built."),
        click.option("--part", type=pick(PARTS), default="whole", show_default=True,
                     help="What learns; the head alone learns from vectors that are computed once, in seconds."),
        click.option("--fusion", type=pick(FUSIONS), default="concat", show_default=True, help="Of several images."),
        click.option("--level", type=pick(LEVELS), default="window", show_default=True,
                     help="What has one label; windows of a recording (a row of STUDY) or subject are pooled."),
        click.option("--pooling", type=pick(POOLINGS), default="attention", show_default=True, help="Of windows."),
        click.option("--epochs", default=Settings.epochs, show_default=True),
        click.option("--batch-size", default=Settings.batch_size, show_default=True, help="Samples."),
        click.option("--learning-rate", default=Settings.learning_rate, show_default=True),
        click.option("--loss", type=pick(LOSSES), default="mse", show_default=True, help="Of a regression."),
        click.option("--patience", type=int, help="Stop after so many epochs without progress on people set aside."),
        click.option("--balance", is_flag=True, help="Weight the classes so that each counts alike."),
        click.option("--augmentation/--no-augmentation", default=None,
                     help="Vary the images while learning; by default where more than the head learns."),
        click.option("--precision", type=pick(PRECISIONS), default="float32", show_default=True),
        click.option("--seed", default=0, show_default=True),
        click.option("--device", default="cpu", show_default=True),
        click.option("--held-out", default=0.2, show_default=True, help="Share of the people that are scored."),
        click.option("--folds", type=FoldsType(), help="Score each person once, leaving one out (loso) or in folds."),
    ]  # fmt: skip


def sample_options() -> list[Any]:
    """What a sample is."""
    pick = click.Choice
    return [
        click.option("--label", default="label", show_default=True, help="Column of the classes."),
        click.option("--target", help="Column of the numbers to predict, by regression."),
        click.option("--task", type=pick(TASKS), help="What the label is; of --target a regression."),
        click.option("--group", default="subject", show_default=True, help="Column of the people, never divided."),
        click.option("--join", help="Column whose cells the rows of one sample share, of several modalities."),
        click.option("--modality", "modalities", multiple=True, help="To look at; all that the files hold otherwise."),
        click.option("--representation", "representations", multiple=True, default=["scalogram"], show_default=True,
                     help=f"Of each modality: {', '.join(REPRESENTATIONS)}; repeatable."),
        click.option("--window", type=float, help="Cut windows of so many seconds; each row is one sample otherwise."),
        click.option("--stride", type=float, help="Seconds between the starts of two windows; the window otherwise."),
        click.option("--missing", type=pick(MISSING), default="error", help="Where a sample lacks a modality."),
        click.option("--bad", type=pick(["error", "drop"]), default="error", help="Samples that cannot be used."),
        click.option("--unlabelled", type=pick(["error", "drop"]), default="error", help="Rows without a label."),
    ]  # fmt: skip


def layout_options() -> list[Any]:
    """How files are laid out; the modality is the study's to say, and holes cannot split a labelled stretch."""
    known = {**dict(zip(READING, READING_OPTIONS, strict=True)), "on_hole": HOLE_OPTION}
    return [known[name] for name in LAYOUT]


@click.command()
@click.argument("study", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@options(sample_options(), IMAGE_OPTIONS, MISSING_OPTIONS, layout_options(), PATTERN_OPTIONS, learning_options())
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="A folder.")
def finetune(study: Path, output: Path, weights: str | None, untrained: bool, **chosen: Any) -> None:
    """Train a classifier on the recordings that the table STUDY lists, and score it on people set aside.

    With --target it is a regression. With --folds each person is scored by a classifier trained on others, and the one
    that is saved is trained on all. A run that was stopped goes on where it was when the same command is given again.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, CUDA's products are not deterministic
    settings = _settings(chosen)
    if untrained and weights is not None:
        raise ConfigError(f"--untrained and --weights {weights}: begin with one of them")
    if chosen["target"] is not None and chosen["task"] == "classification":
        raise ConfigError(f"--target {chosen['target']} is a regression: leave out --task classification")
    torch.manual_seed(chosen["seed"])  # the network as it is built, and nothing else, depends on it
    model = TinyBioMoE() if untrained else TinyBioMoE.from_pretrained(weights)
    samples, cutting = _samples(study, model, settings, chosen)
    label = chosen["target"] or chosen["label"]
    about = {"cutting": cutting.to_dict(), "label": label}
    run = _in_folds if chosen["folds"] is not None else _held_out
    classifier, scores, extra = run(model, samples, settings, output / "checkpoints", chosen)
    classifier = dataclasses.replace(classifier, about={**classifier.about, **about, **extra})
    classifier.save(output, scores)
    click.echo(f"{scores.summary()}; the classifier, its card and pictures are in {output}")


def _held_out(
    model: TinyBioMoE, samples: Samples, settings: Settings, checkpoints: Path, chosen: dict[str, Any]
) -> tuple[TrainedClassifier, Scores, dict[str, Any]]:
    """Trained on most people, and scored on those set aside."""
    share, seed = chosen["held_out"], chosen["seed"]
    rest, test = split_subjects(samples, share, seed)
    learnt, watched = (rest, test) if settings.patience is None else split_subjects(rest, share, seed)
    scored = sorted(set(test.subjects))
    _say(samples, f"{len(learnt)} to learn from, {len(test)} of {', '.join(scored)} to score on")
    vectors = _vectors(model, settings, checkpoints, chosen["device"])
    classifier = train(
        model, learnt, validation=watched, settings=settings, out=checkpoints, device=chosen["device"], progress=True,
        vectors=vectors,
    )  # fmt: skip
    return classifier, classifier.evaluate(test, vectors=vectors), {"tested_on": scored}


def _in_folds(
    model: TinyBioMoE, samples: Samples, settings: Settings, checkpoints: Path, chosen: dict[str, Any]
) -> tuple[TrainedClassifier, Scores, dict[str, Any]]:
    """Trained on all people; scored are classifiers like it that had not seen whom they are scored on."""
    folds, share, device = chosen["folds"], chosen["held_out"], chosen["device"]
    _say(samples, f"folds: {folds}")
    vectors = _vectors(model, settings, checkpoints, chosen["device"])
    found = cross_validate(
        model, samples, folds, settings=settings, held_out=share, out=checkpoints, device=device, progress=True,
        vectors=vectors,
    )  # fmt: skip
    learnt, watched = (samples, None)
    if settings.patience is not None:
        learnt, watched = split_subjects(samples, share, chosen["seed"])
    classifier = train(
        model, learnt, validation=watched, settings=settings, out=checkpoints, device=device, progress=True,
        vectors=vectors,
    )  # fmt: skip
    how = "leave one person out" if folds == "loso" else f"{folds} folds of people"
    how += ", each scored by a classifier like this one that was trained without them"
    return classifier, found.scores, {"folds": how, "tested_on": sorted(set(samples.subjects))}


def _vectors(model: TinyBioMoE, settings: Settings, folder: Path, device: str) -> VectorCache | None:
    """Where the vectors of a frozen network are kept, for all that a command trains and scores."""
    frozen = settings.part == "head" and settings.augmentation == NONE
    return VectorCache(model, folder, device) if frozen else None


def _say(samples: Samples, more: str) -> None:
    views, people = ", ".join(map(str, samples.views)), counted(len(set(samples.subjects)), "person", "people")
    click.echo(f"{counted(len(samples), 'sample')} of {people} as {views}: {more}")


def _settings(chosen: dict[str, Any]) -> Settings:
    names = {field.name for field in dataclasses.fields(Settings)} - {"augmentation"}
    varied = {None: None, True: Augmentation(), False: NONE}[chosen["augmentation"]]
    return Settings(
        **{name: value for name, value in chosen.items() if name in names},
        class_weights="balanced" if chosen["balance"] else None,
        augmentation=varied,  # type: ignore[arg-type]
    )


def _samples(path: Path, model: TinyBioMoE, settings: Settings, chosen: dict[str, Any]) -> tuple[Samples, Cutting]:
    """The samples of a study, drawn in every view that is asked for, and how they were cut."""
    modalities = [modality_name(name) for name in chosen["modalities"]] or None
    reading = {name: chosen[name] for name in LAYOUT if chosen[name] is not None}
    cutting = Cutting(chosen["window"], chosen["stride"], reading=reading)
    drawing = Drawing(**{name: chosen[name] for name in ("band", "scale", "nan_policy", "max_gap", "max_missing")})
    stretches, failures = cut_study(
        open_study(path, *(chosen[name] for name in PATTERNS)), modalities, model.recipe, cutting, drawing,
        label=chosen["target"] or chosen["label"],
        group=chosen["group"], join=chosen["join"], unlabelled=chosen["unlabelled"], missing=chosen["missing"],
    )  # fmt: skip
    if failures and (chosen["bad"] == "error" or not stretches.windows):
        how_many = counted(len(failures), "input")
        raise SignalError(f"{failures[0]} ({how_many} cannot be used; --bad drop leaves such inputs out)")
    for line in (*stretches.notes, *failures):
        click.echo(f"left out: {fitting(line)}", err=True)
    held = modalities or sorted({name for windows in stretches.windows for name in windows})
    samples = draw_samples(
        stretches.windows, stretches.labels, stretches.subjects,
        [(modality, representation) for modality in held for representation in chosen["representations"]], model.recipe,
        task=chosen["task"] or ("regression" if chosen["target"] else "classification"), missing=chosen["missing"],
        bad=chosen["bad"], sources=stretches.sources,
        bags=stretches.recordings if settings.level == "recording" else (), **drawing.options(),
    )  # fmt: skip
    return samples, remembering(cutting, stretches)
