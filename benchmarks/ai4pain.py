"""AI4PAIN as its challenge gives it out (Fernandez Rojas et al. 2023), to participants alone.

Layout: `{train,validation}/{Bvp,Eda,Resp,SpO2}/<subject>.csv`, one column a trial named `<subject>_<TAG>_<k>`, 100 Hz,
where TAG is Baseline, LOW, HIGH or REST in any case, and shorter columns end in empty cells. Every trial is filtered on
its own. No-pain windows are cut from the baseline, as many as there are of low pain; rest between stimuli is not used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.datasets import Dataset, Window
from tiny_biomoe.calls import Call, Limits, recording_limits
from tiny_biomoe.channels import Options
from tiny_biomoe.config import Recipe
from tiny_biomoe.csv_files import read_csv
from tiny_biomoe.errors import SignalError
from tiny_biomoe.signals import Signal

FS = 100.0  # Hz
SECONDS = 10.0  # of a no-pain window; trials of pain last about as long
FOLDERS = {"bvp": "Bvp", "eda": "Eda", "resp": "Resp", "spo2": "SpO2"}
CLASSES = ("no pain", "low pain", "high pain")
PEOPLE = {"train": 41, "validation": 12}
TRIALS = 12  # of low and of high pain, each person
NAME, OTHER = "AI4PAIN", "a tree of AI4PAIN's layout that is not AI4PAIN"


@dataclass(frozen=True)
class _Trial:
    tag: str  # upper case
    signals: dict[str, Signal]  # by modality, raw


def load_ai4pain(root: Path) -> Dataset:
    """Windows of the training and validation people, who are the held-out ones.

    A tree that does not hold what the challenge gives out, person by person and trial by trial, is read all the same,
    but its data set is not called AI4PAIN, so that no score of it can pass for one.

    Raises
    ------
    SignalError
        A folder or a file of the layout is missing, or a column's name is not of its form.
    """
    windows, held_out = [], []
    counts: list[bool] = []
    for split, people in PEOPLE.items():
        found = _people(root / split)
        counts.append(len(found) == people)
        for person in found:
            trials = _trials(root / split, person)
            tags = [trial.tag for trial in trials]
            counts.append(tags.count("LOW") == tags.count("HIGH") == TRIALS and "BASELINE" in tags)
            own = _windows(trials, person)
            windows += own
            held_out += [split == "validation"] * len(own)
    name = NAME if all(counts) else OTHER
    return Dataset(name, SECONDS, dict.fromkeys(FOLDERS, FS), CLASSES, tuple(windows), np.array(held_out))


def _people(folder: Path) -> list[str]:
    """Who is in a split; each must have a file of every modality."""
    held = {modality: {path.stem for path in (folder / name).glob("*.csv")} for modality, name in FOLDERS.items()}
    everybody = sorted(set().union(*held.values()))
    if not everybody:
        raise SignalError(f"{folder} holds no {'/'.join(FOLDERS.values())}/<subject>.csv: name the folder above it")
    for modality, people in held.items():
        if missing := sorted(set(everybody) - people):
            raise SignalError(
                f"{folder / FOLDERS[modality]}/{missing[0]}.csv is missing, and others of that person are there"
            )
    return everybody


def _trials(folder: Path, person: str) -> list[_Trial]:
    """The trials of one person that every modality has, in the order of the columns."""
    by_modality: dict[str, dict[tuple[str, int], Signal]] = {}
    for modality, name in FOLDERS.items():
        path = folder / name / f"{person}.csv"
        columns: dict[tuple[str, int], Signal] = {}
        form = re.compile(rf"{re.escape(person)}_(baseline|low|high|rest)_(\d+)", re.IGNORECASE)
        for channel in read_csv(path, Options(header=True)):
            match = form.fullmatch(channel.name.strip())
            if not match:
                wanted = f"{person}_<Baseline|LOW|HIGH|REST>_<k>"
                raise SignalError(f"{path}: a column is called {channel.name!r}, not {wanted}")
            columns[match[1].upper(), int(match[2])] = _unpadded(channel.samples)
        by_modality[modality] = columns
    shared = [key for key in by_modality["bvp"] if all(key in columns for columns in by_modality.values())]
    return [_Trial(tag, {m: columns[tag, k] for m, columns in by_modality.items()}) for tag, k in shared]


def _unpadded(samples: Signal) -> Signal:
    """Without the empty cells that fill a short column up to the longest."""
    known = np.flatnonzero(~np.isnan(samples))
    return samples[: known[-1] + 1] if known.size else samples[:0]


def _windows(trials: list[_Trial], person: str) -> list[Window]:
    """Trials of pain whole, and as many windows of the baseline as there are trials of low pain."""
    low = [trial for trial in trials if trial.tag == "LOW"]
    made = []
    baseline = [trial for trial in trials if trial.tag == "BASELINE"]
    for index, trial in enumerate(baseline):
        wanted = len(low) * (index + 1) // len(baseline) - len(low) * index // len(baseline)
        made += _cut(trial, wanted, person)
    for tag, label in (("LOW", 1), ("HIGH", 2)):
        made += [_window(_prepared(trial), None, label, person) for trial in trials if trial.tag == tag]
    return made


Prepared = dict[str, tuple[Signal, Limits | None]]  # by modality: filtered, and what recording-scaled images span


def _prepared(trial: _Trial) -> Prepared:
    prepared: Prepared = {}
    for modality, raw in trial.signals.items():
        call = Call.check(Recipe(), FS, modality)
        filtered, _ = call.prepare(raw, f"{trial.tag} {modality}")
        prepared[modality] = filtered, _limits(filtered)
    return prepared


def _limits(filtered: Signal) -> Limits | None:
    """None for a trial that rests on one value, as SpO2 often does for ten seconds."""
    try:
        return recording_limits(filtered, Recipe())
    except SignalError:
        return None


def _cut(trial: _Trial, count: int, person: str) -> list[Window]:
    """So many windows of a filtered baseline, evenly from its start to its end; they overlap where it is short."""
    size = round(SECONDS * FS)
    prepared = _prepared(trial)
    shortest = min(filtered.size for filtered, _ in prepared.values())
    starts = np.linspace(0, max(0, shortest - size), count).round().astype(int)
    return [_window(prepared, (start, start + size), 0, person) for start in starts]


def _window(prepared: Prepared, span: tuple[int, int] | None, label: int, person: str) -> Window:
    begin, end = span or (0, min(filtered.size for filtered, _ in prepared.values()))
    signals = {modality: filtered[begin:end] for modality, (filtered, _) in prepared.items()}
    limits = {modality: limits for modality, (_, limits) in prepared.items()}
    return Window(signals, limits, label, person, (begin + end) / 2 / FS)
