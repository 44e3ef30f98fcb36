"""AI4PAIN as its challenge gives it out (Fernandez Rojas et al. 2023), to participants alone.

Layout: `{train,validation}/{Bvp,Eda,Resp,SpO2}/<subject>.csv`, one column a trial named `<subject>_<TAG>_<k>`, 100 Hz,
where TAG is Baseline, LOW, HIGH or REST in any case, and shorter columns end in empty cells. Every trial is filtered on
its own. No-pain windows are cut from the baseline, as many as there are of low pain; rest between stimuli is not used.

Another data set in that layout is read as well, but under another name, and is refused where it is called AI4PAIN:
`differences` says what of the published facts does not hold. Units are none of these facts: levels are not checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import periodogram

from benchmarks.datasets import Dataset, Window
from tiny_biomoe.config import Recipe
from tiny_biomoe.errors import SignalError
from tiny_biomoe.readers.channel import Options
from tiny_biomoe.readers.csv_files import read_csv
from tiny_biomoe.signals.request import Call, Limits, recording_limits
from tiny_biomoe.signals.validation import Signal

FS = 100.0  # Hz
SECONDS = 10.0  # of a no-pain window; trials of pain last about as long
FOLDERS = {"bvp": "Bvp", "eda": "Eda", "resp": "Resp", "spo2": "SpO2"}
CLASSES = ("no pain", "low pain", "high pain")
PEOPLE = {"train": 41, "validation": 12}
TRIALS = 12  # of low and of high pain, each person
NAME, OTHER = "AI4PAIN", "a tree of AI4PAIN's layout"
TRIAL_SECONDS = (8.0, 12.0)  # every trial of pain, which the paper has last about ten
TYPICAL_SECONDS = (9.0, 11.0)  # their median
# What people's rhythms are, as medians over the trials of pain: where they are searched, and where they must lie, Hz.
# A tree of another sampling rate, or of noise, has others.
RHYTHMS = {"bvp": ((0.5, 5.0), (0.8, 2.0)), "resp": ((0.05, 2.0), (0.1, 0.5))}
CLEAR = 0.3  # least share of the power that lies within twice the resolution of a rhythm's peak


@dataclass(frozen=True)
class _Trial:
    tag: str  # upper case
    signals: dict[str, Signal]  # by modality, raw


def load_ai4pain(root: Path, *, claimed: bool = True) -> Dataset:
    """Windows of the training and validation people, who are the held-out ones.

    Parameters
    ----------
    root : folder that holds train and validation
    claimed : whether the tree is said to be AI4PAIN; one that is not is read under the name `OTHER`, so that no score
        of it can pass for one

    Raises
    ------
    SignalError
        A folder or a file of the layout is missing, a column's name is not of its form, or the tree is claimed to be
        AI4PAIN and differs from what the challenge gives out.
    """
    tree = {split: {person: _trials(root / split, person) for person in _people(root / split)} for split in PEOPLE}
    if claimed and (found := differences(tree)):
        raise SignalError(
            f"{root} is not AI4PAIN: {'; '.join(found)}. Give the folder as the challenge gives it out, or call it "
            "AI4PAIN-layout, and its scores will not be called AI4PAIN's"
        )
    windows, held_out = [], []
    for split, people in tree.items():
        for person, trials in people.items():
            own = _windows(trials, person)
            windows += own
            held_out += [split == "validation"] * len(own)
    name = NAME if claimed else OTHER
    return Dataset(name, SECONDS, dict.fromkeys(FOLDERS, FS), CLASSES, tuple(windows), np.array(held_out))


Tree = dict[str, dict[str, list[_Trial]]]  # by split and person


def differences(tree: Tree) -> list[str]:
    """What of the published facts of AI4PAIN does not hold of a tree; empty where all do."""
    counts = [
        f"{split} holds {len(tree[split])} people, not {people}"
        for split, people in PEOPLE.items()
        if len(tree[split]) != people
    ]
    both = sorted(set(tree["train"]) & set(tree["validation"]))
    shared = [f"person {both[0]} is in train and in validation"] if both else []
    everybody = [(person, trials) for people in tree.values() for person, trials in people.items()]
    checks: tuple[Callable[[list[_Trial]], str], ...] = (_trials_differ, _lengths_differ)
    own = [f"of person {person}, {said}" for person, trials in everybody for check in checks if (said := check(trials))]
    several = [f"and {len(own) - 3} more of that kind"] if len(own) > 3 else []
    pain = [trial for _, trials in everybody for trial in trials if trial.tag in ("LOW", "HIGH")]
    return [*counts, *shared, *own[:3], *several, *_typical_differ(pain), *_copies(everybody)]


def _trials_differ(trials: list[_Trial]) -> str:
    """Twelve of low pain, twelve of high pain, and a baseline to cut no pain from."""
    tags = [trial.tag for trial in trials]
    found = {tag: tags.count(tag) for tag in ("LOW", "HIGH")}
    if found != dict.fromkeys(found, TRIALS):
        return (
            f"all four modalities hold {found['LOW']} trials of LOW and {found['HIGH']} of HIGH, not {TRIALS} of each"
        )
    return "" if "BASELINE" in tags else "there is no Baseline"


def _lengths_differ(trials: list[_Trial]) -> str:
    """Ten seconds at 100 Hz, about, and a baseline of at least one window."""
    for trial in trials:
        low, high = TRIAL_SECONDS if trial.tag in ("LOW", "HIGH") else (SECONDS, np.inf)
        for modality, signal in trial.signals.items():
            if trial.tag != "REST" and not low <= signal.size / FS <= high:
                return (
                    f"a trial of {trial.tag} has {signal.size} samples of {modality}, not {low * FS:g} to {high * FS:g}"
                )
    return ""


def _typical_differ(pain: list[_Trial]) -> list[str]:
    """The typical length of a trial, and the typical pulse and breath in it."""
    if not pain:
        return []
    seconds = float(np.median([trial.signals["bvp"].size for trial in pain])) / FS
    low, high = TYPICAL_SECONDS
    found = [] if low <= seconds <= high else [f"a trial of pain lasts {seconds:.1f} s, not {low:g} to {high:g}"]
    for modality, (band, (low, high)) in RHYTHMS.items():
        peak, share = np.median([_rhythm(trial.signals[modality], *band) for trial in pain], 0)
        if not (low <= peak <= high and share >= CLEAR):
            found.append(
                f"the typical rhythm of {modality} is {peak:.2f} Hz with {share:.0%} of the power, not {low:g} to "
                f"{high:g} Hz with {CLEAR:.0%} or more"
            )
    return found


def _rhythm(signal: Signal, low: float, high: float) -> tuple[float, float]:
    """Frequency of the highest peak of the spectrum between two frequencies, Hz, and its share of the power there."""
    known = signal[np.isfinite(signal)]
    if known.size < FS:
        return np.nan, 0.0
    frequencies, power = periodogram(known, FS, window="hann", detrend="linear", nfft=max(1 << 13, known.size))
    inside = (frequencies >= low) & (frequencies <= high)
    frequencies, power = frequencies[inside], power[inside]
    if not power.any():
        return np.nan, 0.0
    peak = frequencies[power.argmax()]
    near = np.abs(frequencies - peak) <= 2 * FS / known.size
    return float(peak), float(power[near].sum() / power.sum())


def _copies(everybody: list[tuple[str, list[_Trial]]]) -> list[str]:
    """Two recordings of one content, as where people were copied to make up the number; a steady SpO2 may recur."""
    owners: dict[bytes, str] = {}
    for person, trials in everybody:
        for number, trial in enumerate(trials):
            for modality in ("bvp", "eda", "resp"):
                here = f"{modality} of person {person}, trial {number}"
                there = owners.setdefault(trial.signals[modality].tobytes(), here)
                if there != here:
                    return [f"{here}, is that of {there}"]
    return []


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
            key = match[1].upper(), int(match[2])
            if key in columns:
                raise SignalError(f"{path}: {key[0]} {key[1]} is there twice, as {channel.name!r} and before")
            columns[key] = _unpadded(channel.samples)
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
