"""`tiny-biomoe finetune` and `tiny-biomoe predict`."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..batch.study_table import Input, Study, open_study
from ..config import PRECISIONS
from ..errors import ConfigError, SignalError
from ..images.representations import REPRESENTATIONS
from ..model import TinyBioMoE
from ..readers.recording import printable
from ..sealed_files import write_whole
from ..signals.filters import modality_name
from ..signals.request import FUSIONS
from ..signals.validation import NAN_POLICIES
from ..train.augment import NONE, Augmentation
from ..train.classifier import DESCRIPTION, TrainedClassifier
from ..train.evaluation import Evaluation
from ..train.finetuning import finetune as train
from ..train.fusion import PARTS
from ..train.labelled_study import SCALES, Cutting, Stretches, cut_study
from ..train.sample_images import draw_samples
from ..train.samples import MISSING, Samples, check_labelled, split_subjects
from ..train.settings import Settings
from .options import once
from .output_files import check_output, check_spares, neutral


@click.command()
@click.argument("study", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--label", default="label", show_default=True, help="Column of the classes.")
@click.option("--group", default="subject", show_default=True, help="Column of the people, who are never divided.")
@click.option("--join", help="Column whose cells the rows of one sample share, where it has several modalities.")
@click.option("--modality", "modalities", multiple=True, help="To look at; all that the files hold otherwise.")
@click.option(
    "--representation", "representations", multiple=True, default=["scalogram"], show_default=True,
    help=f"Of each modality: {', '.join(REPRESENTATIONS)}; repeatable.",
)  # fmt: skip
@click.option("--window", type=float, help="Cut windows of so many seconds; each row is one sample otherwise.")
@click.option("--stride", type=float, help="Seconds between the starts of two windows; the window otherwise.")
@click.option("--scale", type=click.Choice(SCALES), default="window", show_default=True, help="What an image spans.")
@click.option("--nan-policy", type=click.Choice(NAN_POLICIES), default="error", help="What to do with empty cells.")
@click.option("--missing", type=click.Choice(MISSING), default="error", help="Where a sample lacks a modality.")
@click.option("--bad", type=click.Choice(["error", "drop"]), default="error", help="Samples that cannot be used.")
@click.option("--held-out", default=0.2, show_default=True, help="Share of the people that the result is scored on.")
@click.option("--weights", help="Folder, Tiny-BioMoE.pth or owner/name on the Hub; the bundled weights otherwise.")
@click.option("--untrained", is_flag=True, help="Begin with the network as it is built.")
@click.option("--part", type=click.Choice(PARTS), default="whole", show_default=True, help="What learns.")
@click.option("--fusion", type=click.Choice(FUSIONS), default="concat", show_default=True, help="Of several images.")
@click.option("--epochs", default=Settings.epochs, show_default=True)
@click.option("--batch-size", default=Settings.batch_size, show_default=True, help="Samples.")
@click.option("--learning-rate", default=Settings.learning_rate, show_default=True)
@click.option("--patience", type=int, help="Stop after so many epochs without progress on people set aside for that.")
@click.option("--balance", is_flag=True, help="Weight the classes so that each counts alike.")
@click.option("--augmentation/--no-augmentation", default=True, help="Vary the images while learning.")
@click.option("--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="A folder.")
def finetune(study: Path, output: Path, weights: str | None, untrained: bool, device: str, **options: Any) -> None:
    """Train a classifier on the recordings that the table STUDY lists, and score it on people set aside.

    A run that was stopped goes on where it was when the same command is given again.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, CUDA's products are not deterministic
    settings, cutting = _settings(options), _cutting(options)
    if untrained and weights is not None:
        raise ConfigError(f"--untrained and --weights {weights}: begin with one of them")
    torch.manual_seed(options["seed"])  # the network as it is built, and nothing else, depends on it
    model = TinyBioMoE() if untrained else TinyBioMoE.from_pretrained(weights)
    samples = _samples(study, model, cutting, options)
    rest, test = split_subjects(samples, options["held_out"], options["seed"])
    learnt, watched = (
        (rest, test) if settings.patience is None else split_subjects(rest, options["held_out"], options["seed"])
    )
    click.echo(
        f"{len(samples)} samples of {len(set(samples.subjects))} people as {', '.join(map(str, samples.views))}: "
        f"{len(learnt)} to learn from, {len(test)} of {', '.join(sorted(set(test.subjects)))} to score on"
    )
    checkpoints = output / "checkpoints"
    classifier = train(
        model,
        learnt,
        validation=watched,
        settings=settings,
        out=checkpoints,
        device=device,
        progress=sys.stderr.isatty(),
    )
    about = {**classifier.about, "cutting": cutting.to_dict(), "tested_on": sorted(set(test.subjects))}
    classifier = dataclasses.replace(classifier, about=about)
    evaluation = classifier.evaluate(test)
    classifier.save(output, evaluation)
    click.echo(f"{_told(evaluation)}; the classifier, its card and pictures are in {output}")


@click.command()
@click.argument("classifier", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--fs", type=float, help="Sampling rate in Hz, where neither the files nor the study say it.")
@click.option("--modality", multiple=True, callback=once, help="Where neither the files nor the study say it.")
@click.option("--column", multiple=True, callback=once, help="Name or 0-based number of the column to read.")
@click.option("--label", default="label", show_default=True, help="Column of the classes, where they are known.")
@click.option("--group", default="subject", show_default=True, help="Column of the people.")
@click.option("--join", help="Column whose cells the rows of one sample share, where it has several modalities.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A table, .csv")
def predict(classifier: Path, source: Path, output: Path, label: str, group: str, **options: Any) -> None:
    """Ask CLASSIFIER, a folder that `finetune` wrote, about SOURCE: a study, a recording or a folder of them."""
    check_output(output, [".csv"])
    study = open_study(source)
    check_spares(output, [source, *(each.path for each in study.inputs)])
    loaded = TrainedClassifier.load(classifier)
    if not isinstance(loaded.about.get("cutting"), dict):
        raise ConfigError(
            f"{classifier / DESCRIPTION} does not say how recordings are cut, which the command `tiny-biomoe finetune` "
            "notes: use TrainedClassifier.load(folder).predict(samples) in Python"
        )
    cutting = Cutting(**loaded.about["cutting"])
    study = _filled(study, options)
    modalities = list(dict.fromkeys(view.modality for view in loaded.views))
    stretches, failures = cut_study(
        study, modalities, loaded.backbone.recipe, cutting, label=label, group=group, join=options["join"],
        labelled=False,
    )  # fmt: skip
    told: dict[int, NDArray[np.float64]] = {}  # probabilities of each sample that could be drawn
    for index, windows in enumerate(tqdm(stretches.windows, unit="sample", disable=not sys.stderr.isatty())):
        try:
            sample = loaded.draw([windows], sources=[stretches.sources[index]], band=cutting.band)
            (told[index],) = loaded.predict_proba(sample)
        except SignalError as error:
            failures.append(str(error))
    if not told:
        raise SignalError("; ".join(failures))
    kept, probabilities = list(told), np.stack(list(told.values()))
    write_whole(output, _table(loaded, stretches, kept, probabilities).encode())
    for failure in failures:
        click.echo(f"not classified: {failure}", err=True)
    click.echo(f"{len(kept)} samples classified in {output}, {len(failures)} inputs or samples failed")
    labels = [stretches.labels[index] for index in kept]
    if all(name in loaded.classes for name in labels):
        truth = np.array([loaded.classes.index(str(name)) for name in labels])
        click.echo(_told(Evaluation.of(truth, probabilities.argmax(1), loaded.classes)))
    if failures:
        raise SystemExit(2)


def _settings(options: dict[str, Any]) -> Settings:
    names = {field.name for field in dataclasses.fields(Settings)} - {"augmentation"}
    return Settings(
        **{name: value for name, value in options.items() if name in names},
        class_weights="balanced" if options["balance"] else None,
        augmentation=Augmentation() if options["augmentation"] else NONE,
    )


def _cutting(options: dict[str, Any]) -> Cutting:
    return Cutting(**{name: options[name] for name in ("window", "stride", "scale", "nan_policy")})


def _samples(path: Path, model: TinyBioMoE, cutting: Cutting, options: dict[str, Any]) -> Samples:
    """The samples of a study, drawn in every view that is asked for."""
    modalities = [modality_name(name) for name in options["modalities"]] or None
    stretches, failures = cut_study(
        open_study(path), modalities, model.recipe, cutting, label=options["label"], group=options["group"],
        join=options["join"],
    )  # fmt: skip
    if failures and (options["bad"] == "error" or not stretches.windows):
        raise SignalError(f"{failures[0]} ({len(failures)} inputs cannot be used; --bad drop leaves them out)")
    for failure in failures:
        click.echo(f"left out: {failure}", err=True)
    held = modalities or sorted({name for windows in stretches.windows for name in windows})
    views = [(modality, representation) for modality in held for representation in options["representations"]]
    samples = draw_samples(
        stretches.windows, stretches.labels, stretches.subjects, views, model.recipe, missing=options["missing"],
        bad=options["bad"], band=cutting.band, sources=stretches.sources,
    )  # fmt: skip
    check_labelled(samples)
    return samples


def _filled(study: Study, options: dict[str, Any]) -> Study:
    """A study whose rows say what the command line says of all."""
    modality = modality_name(options["modality"]) if options["modality"] else None

    def fill(row: Input) -> Input:
        return dataclasses.replace(
            row, fs=row.fs or options["fs"], modality=row.modality or modality, column=row.column or options["column"]
        )

    return dataclasses.replace(study, inputs=[fill(row) for row in study.inputs])


def _table(
    classifier: TrainedClassifier, stretches: Stretches, kept: list[int], probabilities: NDArray[np.float64]
) -> str:
    """One row a sample: where it lies, whose it is, the class told, and the probability of each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [neutral(name) for name in classifier.classes]
    writer.writerow(["source", "start", "stop", "subject", "label", "predicted", *(f"p({name})" for name in names)])
    for index, row in zip(kept, probabilities, strict=True):
        facts = [neutral(printable(stretches.files[index])), stretches.starts[index], stretches.stops[index]]
        of_whom = [neutral(stretches.subjects[index]), neutral(stretches.labels[index] or "")]
        writer.writerow([*facts, *of_whom, names[int(row.argmax())], *(f"{p:.6f}" for p in row)])
    return text.getvalue()


def _told(evaluation: Evaluation) -> str:
    scores = {name: f"{value:.3f}" for name, value in evaluation.to_dict().items() if isinstance(value, float)}
    chance = 1 / len(evaluation.classes)
    return f"macro {json.dumps(scores)[1:-1]}".replace('"', "") + f" (chance {chance:.3f})"
