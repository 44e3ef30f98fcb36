"""The command `tiny-biomoe predict`: what a trained classifier or regression answers about recordings."""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource
from numpy.typing import NDArray
from tqdm import tqdm

from ..batch.labels import as_classes, check_targets
from ..batch.study_table import Input, Study, open_study
from ..errors import ConfigError, SignalError, counted, printable
from ..sealed_files import write_whole
from ..signals.filters import modality_name
from ..train.classifier import DESCRIPTION, TrainedClassifier
from ..train.drawing import Drawing
from ..train.labelled_study import Stretches, cut_study, restored
from ..train.samples import Samples, concatenate
from .finetune import LAYOUT, layout_options
from .messages import fitting
from .options import IMAGE_OPTIONS, MISSING_OPTIONS, PATTERN_OPTIONS, PATTERNS, once, options
from .output_files import check_output, check_spares, neutral

COMMANDLINE = ParameterSource.COMMANDLINE
DRAWN = ("band", "scale", "nan_policy", "max_gap", "max_missing")


@dataclasses.dataclass
class _Answers:
    """What is written, one item a sample that could be drawn."""

    kept: list[int] = dataclasses.field(default_factory=list)  # its place among the stretches
    answers: list[Any] = dataclasses.field(default_factory=list)  # of its unit: probabilities, or one number
    attention: list[float] = dataclasses.field(default_factory=list)  # within its unit
    first: list[int] = dataclasses.field(default_factory=list)  # of each unit, its first place among `kept`


@click.command()
@click.argument("classifier", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--modality", multiple=True, callback=once, help="Where neither the files nor the study say it.")
@options(IMAGE_OPTIONS, MISSING_OPTIONS, layout_options(), PATTERN_OPTIONS)
@click.option("--label", help="Column of the labels, where they are known; as in training otherwise.")
@click.option("--group", default="subject", show_default=True, help="Column of the people.")
@click.option("--join", help="Column whose cells the rows of one sample share, where it has several modalities.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A table, .csv")
def predict(classifier: Path, source: Path, output: Path, label: str | None, group: str, **chosen: Any) -> None:
    """Ask CLASSIFIER, a folder that `finetune` wrote, about SOURCE: a study, a recording or a folder of them.

    Recordings are read, cut and drawn as those that it learnt from; the options here replace how they are read, and
    what is done about missing samples. Another band or scale is refused: the classifier has not seen such images.
    """
    check_output(output, [".csv"])
    study = open_study(source, *(chosen[name] for name in PATTERNS))
    check_spares(output, [source, *(each.path for each in study.inputs)])
    loaded = TrainedClassifier.load(classifier)
    if not isinstance(loaded.about.get("cutting"), dict):
        raise ConfigError(
            f"{classifier / DESCRIPTION} does not say how recordings are cut, which the command `tiny-biomoe finetune` "
            "writes: use TrainedClassifier.load(folder).predict(samples) in Python"
        )
    cutting, drawing = restored(loaded.about["cutting"], loaded.drawing)
    context = click.get_current_context()
    given = {n: chosen[n] for n in LAYOUT if context.get_parameter_source(n) == COMMANDLINE}
    drawing = _drawn(drawing, {n: chosen[n] for n in DRAWN if context.get_parameter_source(n) == COMMANDLINE})
    cutting = dataclasses.replace(cutting, reading={**cutting.reading, **given})
    stretches, failures = cut_study(
        _filled(study, chosen), list(dict.fromkeys(view.modality for view in loaded.views)), loaded.backbone.recipe,
        cutting, drawing, label=label or loaded.about.get("label", "label"), group=group, join=chosen["join"],
        labelled=False, missing=loaded.model.missing,
    )  # fmt: skip
    found = _asked(loaded, stretches, failures)
    if not found.kept:
        raise SignalError("; ".join(failures[:5]) or "there is no sample to ask about")
    write_whole(output, _table(loaded, stretches, found).encode())
    done = "classified" if loaded.target is None else "predicted"
    for line in (*stretches.notes, *failures):
        click.echo(f"not {done}: {fitting(line)}", err=True)
    click.echo(
        f"{counted(len(found.kept), 'sample')} {done} in {output}, "
        f"{counted(len(failures), 'input or sample', 'inputs or samples')} failed"
    )
    _score(loaded, stretches, found)
    if failures:
        raise SystemExit(2)


def _drawn(learnt: Drawing, given: dict[str, Any]) -> Drawing:
    """The options of drawing that a classifier remembers, with what is asked of missing samples here."""
    for name in ("band", "scale"):
        if name in given and given[name] != getattr(learnt, name):
            raise ConfigError(
                f"--{name} {given[name]}: the classifier learnt from images with {name} {getattr(learnt, name)}, and "
                "answers about such alone: leave the option out, or train another"
            )
    return dataclasses.replace(learnt, **given)


def _filled(study: Study, chosen: dict[str, Any]) -> Study:
    """A study whose rows say what the command line says of all."""
    modality = modality_name(chosen["modality"]) if chosen["modality"] else None

    def fill(row: Input) -> Input:
        return dataclasses.replace(row, fs=row.fs or chosen["fs"], modality=row.modality or modality)

    return dataclasses.replace(study, inputs=[fill(row) for row in study.inputs])


def _asked(loaded: TrainedClassifier, stretches: Stretches, failures: list[str]) -> _Answers:
    """The answers about all samples, unit by unit; those that cannot be drawn are added to the failures."""
    shared = {"recording": stretches.recordings, "subject": stretches.subjects}.get(loaded.level)
    units: dict[Any, list[int]] = {}
    for index in range(len(stretches.windows)):
        units.setdefault(shared[index] if shared else index, []).append(index)
    found = _Answers()
    for name, members in tqdm(units.items(), unit=loaded.level, disable=not sys.stderr.isatty()):
        kept: list[int] = []
        drawn: list[Samples] = []
        for index in members:
            try:
                drawn.append(
                    loaded.draw(
                        [stretches.windows[index]],
                        subjects=[stretches.subjects[index]],
                        sources=[stretches.sources[index]],
                        bags=[str(name)] if loaded.level == "recording" else (),
                    )  # fmt: skip
                )
                kept.append(index)
            except SignalError as error:
                failures.append(str(error))
        if kept:
            given, attention = loaded.outputs(concatenate(drawn))
            (answer,) = loaded.answers(given)
            found.first.append(len(found.kept))
            found.kept += kept
            found.answers += [answer] * len(kept)
            found.attention += attention.tolist()
    return found


def _table(loaded: TrainedClassifier, stretches: Stretches, found: _Answers) -> str:
    """One row a sample: where it lies, whose it is, what is predicted, the probability of each class, attention."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [neutral(str(name)) for name in loaded.classes]
    pooled = loaded.level != "window"
    header = ["source", "start", "stop", "subject", "label", "predicted", *(f"p({name})" for name in names)]
    writer.writerow([*header, *(["recording", "attention"] if pooled else [])])
    for index, answer, share in zip(found.kept, found.answers, found.attention, strict=True):
        facts = [neutral(printable(stretches.files[index])), stretches.starts[index], stretches.stops[index]]
        of_whom = [neutral(stretches.subjects[index]), neutral(stretches.labels[index] or "")]
        row = [f"{answer:.6g}"] if loaded.target else [names[int(answer.argmax())], *(f"{p:.6f}" for p in answer)]
        extra = [neutral(printable(stretches.recordings[index])), f"{share:.6f}"] if pooled else []
        writer.writerow([*facts, *of_whom, *row, *extra])
    return text.getvalue()


def _score(loaded: TrainedClassifier, stretches: Stretches, found: _Answers) -> None:
    """Scores where labels are known, one label a unit."""
    places = [found.kept[first] for first in found.first]
    labels: Sequence[Any] = [stretches.labels[place] for place in places]
    if all(label is None for label in labels):
        return
    if loaded.target is not None:
        numbers = check_targets(labels, len(labels))
        labels = [None if np.isnan(number) else number for number in numbers]
    elif not any(label in loaded.classes for label in as_classes(labels, loaded.classes)):
        shown = ", ".join(sorted({str(label) for label in labels if label is not None})[:5])
        click.echo(f"not scored: no label ({shown}) is one that was learnt ({', '.join(map(str, loaded.classes))})")
        return
    answers: NDArray[np.float64] = np.array([found.answers[first] for first in found.first])
    click.echo(loaded.score(answers, labels, [stretches.subjects[place] for place in places]).summary())
