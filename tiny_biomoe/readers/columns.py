"""Which columns of a file are signals, and of what: name, unit and content judged together, for every format alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..errors import SignalError, excerpt, listed, printable, warn
from ..signals.filters import MODALITIES
from ..signals.validation import Signal
from .channel import Channel
from .timestamps import counter_clock, names_time

FEWEST = 32  # samples; of fewer the content proves nothing
LINES = 256  # rows that rise one after another; no signal does that for so long
EQUAL = 0.9  # share of equal steps that makes a clock or counter; the others are holes
HEAD = 4096  # samples that are looked at first; a signal shows there that it is one

# Words of names -> what is measured. Sources: BITalino and biosignalsplux (OpenSignals), BIOPAC AcqKnowledge, Empatica,
# Shimmer, NeuroKit2, PhysioNet (MIMIC, BIDMC, Sleep-EDF, SHHS), BIDS; see tests/readers/test_columns.py.
WORDS: dict[str, tuple[str, ...]] = {
    **{name: (name, *row.aliases) for name, row in MODALITIES.items()},
    "eda": ("eda", "gsr", "edabit", "edabitrev", "electrodermal", "galvanic"),
    "bvp": ("bvp", "ppg", "ppgbit", "pleth", "plethysmogram", "photoplethysmogram", "cardiacppg"),
    "resp": ("resp", "rsp", "respiration", "respiratory", "respbit", "rip", "pzt", "airflow", "breathing"),
    "spo2": ("spo2", "sao2", "o2sat", "osat"),
    "ecg": ("ecg", "ekg", "electrocardiogram", "ecgbit", "mlii", "mcl1", "avr", "avl", "avf", "avlecg"),
    "emg": ("emg", "emgbit"),
    "eeg": ("eeg", "eegbit"),
}
WEAK: dict[str, tuple[str, ...]] = {  # the same where no other word of the name says anything
    "resp": ("flow", "thorax", "thoracic", "thor", "chest", "abdomen", "abdominal", "abdo", "abd", "nasal", "cannula"),
}
PHRASES = {"skin conductance": "eda", "blood volume pulse": "bvp", "pulse wave": "bvp", "pulse waveform": "bvp"}
OTHERS = {  # measured, and no modality
    "acceleration": ("acc", "accel", "accelerometer", "acceleration"),
    "rotation": ("gyro", "gyroscope"),
    "magnetic field": ("mag", "magnetometer"),
    "temperature": ("temp", "temperature"),
    "heart rate": ("hr", "bpm", "heartrate"),
    "eye movement": ("eog",),
    "skin resistance": ("resistance",),
}
KINDS = {word: kind for table in (WORDS, OTHERS) for kind, words in table.items() for word in words}
WEAK_KINDS = {word: kind for kind, words in WEAK.items() for word in words}

LEAD = re.compile(r"(ML)?I{1,3}|AV[RLF]|V[1-9]?|V[XYZ]|MCL\d?", re.IGNORECASE)  # leads of an ECG ...
ELECTRODE = re.compile(  # ... and of an EEG, one or two, in the 10-10 system
    r"(?:EEG )?(?:(?:Fp|AF|F|FC|FT|C|CP|TP|T|P|PO|O|A|M|N)(?:z|\d{1,2})[-/ ]?){1,2}(?:-?(?:Ref|LE|AVG|[AM][12]))?",
    re.IGNORECASE,
)
VOLTS = {"v", "mv", "uv", "nv", "volts", "volt", "millivolts", "microvolts"}

DERIVED = {  # words of quantities that are computed from a signal, or stand beside one
    *("rate", "hr", "hrv", "bpm", "quality", "sqi", "phase", "amplitude", "rr", "ibi", "status", "battery"),
    *("temperature", "derived", "derivative", "differentiated", "integrated", "rms", "envelope", "score", "stage"),
    *("tonic", "phasic", "rvt", "symmetry", "activity", "height", "recovery", "completion", "risetime", "range"),
    *("baseline", "template", "confidence", "resistance"),
}
COUNTED = {
    "peak",
    "onset",
    "offset",
    "interval",
    "event",
    "marker",
    "trigger",
    "counter",
    "index",
    "trough",
    "annotation",
}
DERIVED |= COUNTED | {f"{word}s" for word in COUNTED} | {"indices", "rates"}
TIMED = {"time", "times", "timestamp", "timestamps", "t0", "start", "stop", "clock"}  # beside what they belong to
ANYWAY = "; to read it all the same name it, column= (--column)"
UNIT_IN = re.compile(r"[\[(]([^\[\]()]+)[\])]\s*$")
ONE_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

UNITS = {  # how units are written -> one spelling
    **dict.fromkeys(("us", "µs", "μs", "microsiemens", "microsiemen", "µsiemens", "μsiemens", "umho", "µmho"), "uS"),
    **dict.fromkeys(("bpm", "beats/min", "1/min", "/min", "pm", "rpm", "brpm", "breaths/min"), "a minute"),
    **dict.fromkeys(("%", "percent"), "%"),
    **dict.fromkeys(("ms", "s", "sec", "msec", "seconds"), "time"),
    **dict.fromkeys(("count",), "count"),
    **dict.fromkeys(("kohm", "kohms", "ohm", "ohms", "kω", "kΩ", "mohm"), "ohm"),
    **dict.fromkeys(("degc", "°c", "celsius", "degrees celsius", "degf", "°f"), "temperature"),
}
UNIT_REASONS = {
    "a minute": "a rate by its unit",
    "%": "a share by its unit",
    "time": "a time by its unit",
    "count": "a count by its unit",
    "ohm": "a resistance by its unit, not a conductance",
    "temperature": "a temperature by its unit",
}


@dataclass(frozen=True)
class LeftOut:
    """A channel of a file that is not among its recordings, and why."""

    channel: str
    reason: str
    failed: bool = False  # it cannot be read, although it may be a signal


class NoSignal(SignalError):
    """Nothing is wrong with a file, but nothing in it is a signal; `left_out` says what it holds."""

    def __init__(self, message: str, left_out: Sequence[LeftOut] = ()) -> None:
        super().__init__(message)
        self.left_out = list(left_out)


class OtherModality(NoSignal):
    """Every channel of a file says that it measures something else than what is wanted."""


@lru_cache(maxsize=4096)  # the files of a study name their columns alike
def kind_of(name: str, unit: str | None = None) -> str | None:
    """What a channel of this name and unit measures: a modality, or something that is none, or None where neither says.

    >>> kind_of("EEG Fp1"), kind_of("EMG0"), kind_of("CH1"), kind_of("Chin EMG", "uV")
    ('eeg', 'emg', None, 'emg')
    """
    spelled = UNITS.get((unit or "").strip().lower())
    words = _words(name)
    if any(word in OTHER_WORDS for word in words):
        return next(KINDS[word] for word in words if word in OTHER_WORDS)
    text = " ".join(words)
    if phrase := next((kind for phrase, kind in PHRASES.items() if phrase in text), None):
        return phrase
    if found := [KINDS[word] for word in words if word in KINDS]:
        return "bvp" if found[0] == "spo2" and "bvp" in found else found[0]  # the waveform of an oximeter
    if spelled == "uS":
        return "eda"
    bare = UNIT_IN.sub("", name).strip(" ,;.")
    if (unit or "").strip().lower().replace("µ", "u").replace("μ", "u") in VOLTS:
        if LEAD.fullmatch(bare) and not (bare.upper() in ("I", "V") and (unit or "").strip().lower()[:1] == "v"):
            return "ecg"
        if ELECTRODE.fullmatch(bare) and not re.fullmatch(r"[AMN]\d+", bare):
            return "eeg"
        if bare.lower() in ("pulse", "pulse signal"):  # in no unit it may be a rate
            return "bvp"
    if re.fullmatch(rf"v[xyz]|lead[\s_-]*({LEAD.pattern})", bare, re.IGNORECASE):
        return "ecg"
    return next((WEAK_KINDS[word] for word in words if word in WEAK_KINDS), None)


OTHER_WORDS = {word for words in OTHERS.values() for word in words}


def _words(name: str) -> list[str]:
    """The words of a name in lower case: parted by what is neither letter nor digit, by capitals, and from a number.

    >>> _words("ECG_R_Peaks"), _words("EMG0"), _words("SpO2 quality"), _words("pulseRate")
    (['ecg', 'r', 'peaks'], ['emg'], ['spo2', 'quality'], ['pulserate', 'pulse', 'rate'])
    """
    words: list[str] = []
    for token in re.findall(r"[^\W_]+", re.sub(r"(?i)\br-r\b", "rr", name)):
        lower = token.lower()
        whole = lower if lower in KINDS or lower in TIMED else lower.rstrip("0123456789") or lower
        words.append(whole)
        parts = [part.lower() for part in ONE_WORD.findall(token) if not part.isdigit()]
        if len(parts) > 1 and whole not in KINDS:
            words += parts
    return words


class Doubt(NamedTuple):
    """Why a column is no signal."""

    reason: str
    by_name: bool = False  # alone, which may mislead: `ANYWAY` says what to do

    def __str__(self) -> str:
        return self.reason


@lru_cache(maxsize=4096)
def veto(name: str, unit: str | None, kind: str | None) -> Doubt | None:
    """Why name and unit say that a column is no signal of a modality, if they do."""
    if word := next((word for word in _words(name) if word in DERIVED), None):
        return Doubt(f"derived or beside a signal by its name ({word})", by_name=True)
    if kind == "spo2" and {"pulse", "puls", "pr"} & set(_words(name)):
        return Doubt("a pulse rate beside spo2 by its name")
    if (kind is None and names_time(name)) or TIMED & set(_words(name)):
        return Doubt("a time or a counter by its name")
    spelled = UNITS.get((unit or "").strip().lower())
    if spelled == "uS" and kind in MODALITIES and kind != "eda":
        return Doubt(f"a conductance by its unit, not {kind}")
    allowed = (spelled == "%" and kind == "spo2") or (spelled == "count" and kind in MODALITIES)  # an ADC's own numbers
    if spelled in UNIT_REASONS and not allowed:
        return Doubt(f"{UNIT_REASONS[spelled]} ({printable((unit or '').strip())})")
    return None


def content(samples: Signal) -> str | None:
    """Why its samples say that a column is no signal, if they do.

    Returns
    -------
    "clock" where the samples rise or fall by equal steps, or rise with every row; "constant"; "mark" where they have
    two values; None
    """
    head = samples[:HEAD]
    there = head[np.isfinite(head)]
    if samples.size < FEWEST or not there.size:
        return None
    several = len(set(there[:FEWEST].tolist())) > 2
    if several and not _steady(head[:LINES]):
        return None  # as nearly every signal shows at once
    finite = samples[np.isfinite(samples)]
    if not several and (count := np.unique(finite).size) <= 2:
        return "constant" if count == 1 else "mark"
    return "clock" if _steady(finite) else None


def _steady(samples: Signal) -> bool:
    """Whether samples rise or fall by equal steps, holes and wraps apart, or rise with every row."""
    if samples.size < FEWEST:
        return False
    steps = samples[1:] - samples[:-1]  # np.diff and np.median take five times as long for a few
    step = float(np.partition(steps, steps.size // 2)[steps.size // 2])
    if not step or not np.isfinite(step):
        return False
    if _are_equal(steps, step, samples):
        return True
    if (steps < 0).any():
        return False
    line = samples[0] + np.arange(samples.size) * (samples[-1] - samples[0]) / (samples.size - 1)
    return bool(np.abs(samples - line).max() <= abs(step) or (samples.size >= LINES and (steps > 0).all()))


def _is_ramp(samples: Signal) -> bool:
    """Whether samples advance by equal steps, a few apart, for longer than any sensor's do."""
    head = samples[:LINES]
    if samples.size < LINES or not _may_have_equal_steps(head) or not _has_equal_steps(head):
        return False
    finite = samples[np.isfinite(samples)]
    return finite.size >= LINES and _has_equal_steps(finite)


def _may_have_equal_steps(samples: Signal) -> bool:
    """Whether a quarter of the steps are as long as the one before, as all but a few equal ones are: it costs less."""
    steps = samples[1:] - samples[:-1]
    bound = 3e-4 * np.abs(steps).max() + 16 * np.spacing(np.abs(samples).max())
    return bool(np.count_nonzero(np.abs(steps[1:] - steps[:-1]) <= bound) * 4 >= steps.size)


def _has_equal_steps(samples: Signal) -> bool:
    steps = samples[1:] - samples[:-1]
    step = float(np.partition(steps, steps.size // 2)[steps.size // 2])
    return bool(step and np.isfinite(step)) and _are_equal(steps, step, samples)


def _are_equal(steps: Signal, step: float, samples: Signal) -> bool:
    """Whether the steps between samples are the usual one, to rounding, but for a few."""
    rounding = 1e-4 * abs(step) + 4 * np.spacing(np.abs(samples[1:]))
    return bool(np.count_nonzero(np.abs(steps - step) <= rounding) >= EQUAL * steps.size)


CONTENT_DOUBTS = {
    "clock": Doubt("a clock or counter: it advances steadily from row to row"),
    "constant": Doubt("constant: it holds one value only"),
    "mark": Doubt("a mark: it holds two values only"),
}


def _why_not(channel: Channel) -> Doubt | None:
    """Why a channel is no signal, if so; its content counts where name and unit do not say that it is one."""
    if doubt := veto(channel.name, channel.unit, channel.kind):
        return doubt
    if channel.kind in MODALITIES:
        return None  # a flat or empty sensor is a failure that its owner must see
    found = content(channel.samples)
    if not np.isfinite(channel.samples[:HEAD]).any() and np.isnan(channel.samples).all():
        return None if channel.problem else Doubt("empty")
    return CONTENT_DOUBTS[found] if found else None


def settle(
    channels: Sequence[Channel], modality: str | None, column: Any, read_times: bool = True
) -> tuple[list[Channel], list[LeftOut]]:
    """The channels that are signals, those that measure `modality` where one is wanted, and what is left out.

    Parameters
    ----------
    column : what the caller names, who is right: it is read, with a warning where it looks like no signal
    read_times : whether a column that is a clock by its content is used as one

    Raises
    ------
    SignalError
        Nothing is left, or several columns may be the one that is wanted.
    """
    if not channels:
        raise SignalError("the file holds no channels")
    known = _with_leads([_with_kind(each) for each in _numbered(channels, column)])
    left = [_left_out(each) for each in known if each.problem]
    whole = [each for each in known if not each.problem]
    if column is not None and column != "*":
        _warn_of_doubtful(whole)
        return _or_error(whole, left)
    judged = _without_ramps([(each, _why_not(each)) for each in whole])
    left += [LeftOut(printable(each.name), doubt.reason + ANYWAY * doubt.by_name) for each, doubt in judged if doubt]
    signals = [each for each, doubt in judged if not doubt]
    if read_times:
        others = [each for each, doubt in judged if doubt]
        signals = _with_clock(signals, [each for each in others if content(each.samples) == "clock"])
    kept, left = _or_error(signals, left)
    wanted = _of_modality(kept, modality, column)
    taken = {each.name for each in wanted}
    for each in kept:
        if each.name not in taken:
            left.append(_other(each, modality))
    return wanted, left


def _other(channel: Channel, modality: str | None) -> LeftOut:
    """A channel that is read, but for the modality that is wanted."""
    says = f"measures {channel.kind}, not {modality}" if channel.kind else f"does not say that it measures {modality}"
    return LeftOut(printable(channel.name), says)


def _without_ramps(judged: list[tuple[Channel, Doubt | None]]) -> list[tuple[Channel, Doubt | None]]:
    """The same with doubt about counters that bear the name of a signal, "ECG sample" beside "ECG"."""
    signals = [each for each, doubt in judged if doubt is None and each.kind in MODALITIES]
    ramps = {id(each) for each in signals if _is_ramp(each.samples)} if len(signals) > 1 else set()
    true = {each.kind for each in signals if id(each) not in ramps}
    return [
        (each, CONTENT_DOUBTS["clock"] if id(each) in ramps and each.kind in true else doubt) for each, doubt in judged
    ]


def _with_kind(channel: Channel) -> Channel:
    unit = channel.unit or _unit_in(channel.name)
    return replace(channel, unit=unit, kind=channel.kind or kind_of(channel.name, unit))


def _with_leads(channels: list[Channel]) -> list[Channel]:
    """The channels; several that are called as leads are an ECG.

    I and V alone may be a current and its voltage, V1 and V2 alone the columns that R writes of a table without names.
    """
    names = [each.name.strip(" ,;.").upper() for each in channels]
    leads = {name for name, each in zip(names, channels, strict=True) if LEAD.fullmatch(name) and _may_be_volts(each)}
    if len(leads) < 2 or all(re.fullmatch(r"I|V\d?", name) for name in leads):
        return channels
    return [replace(each, kind="ecg") if name in leads else each for name, each in zip(names, channels, strict=True)]


def _may_be_volts(channel: Channel) -> bool:
    unit = (channel.unit or "").lower().replace("µ", "u").replace("μ", "u")
    return channel.kind in (None, "ecg") and unit in VOLTS | {""}


def _unit_in(name: str) -> str | None:
    """The unit that a name ends with, as in "HR [bpm]" or "EDA (uS)"."""
    found = UNIT_IN.search(name)
    return found[1].strip() if found else None


def _left_out(channel: Channel) -> LeftOut:
    """A channel that cannot be read; one that is no signal anyway is no failure."""
    doubt = _why_not(channel)
    return LeftOut(printable(channel.name), str(doubt or channel.problem), doubt is None)


def _numbered(channels: Sequence[Channel], column: Any) -> Iterable[Channel]:
    """The channels under names that differ: a nameless one is called by its number, those of one name are numbered.

    A channel that was chosen as "NAME #2", or by its number, keeps that number, whatever is read beside it.
    """
    names = [each.name or str(index) for index, each in enumerate(channels)]
    counts = Counter(names)
    asked = column if isinstance(column, list | tuple) else [column]
    items = asked if len(asked) == len(channels) else [None] * len(channels)
    for index, (each, name, item) in enumerate(zip(channels, names, items, strict=True)):
        number = re.fullmatch(rf"(?:{re.escape(name)} #)?(\d+)", str(item).strip())
        several = counts[name] > 1 or (number is not None and "#" in str(item))
        label = f"{name} #{number[1] if number else index}" if several and not each.problem else name
        yield each if label == each.name else replace(each, name=label, kind=each.kind or kind_of(name, each.unit))


def _warn_of_doubtful(channels: Sequence[Channel]) -> None:
    doubtful = [f"{excerpt(each.name)} is {doubt}" for each in channels if (doubt := _why_not(each))]
    if doubtful:
        warn(f"read because it was named, although {listed(doubtful, 3, ', and {} more', '; ')}")


def _or_error(signals: list[Channel], left: list[LeftOut]) -> tuple[list[Channel], list[LeftOut]]:
    """Both, where there is a signal at all."""
    if signals:
        return signals, left
    failed = [each for each in left if each.failed]
    if failed:
        more = f" (and {len(failed) - 1} more columns cannot be read)" if len(failed) > 1 else ""
        comma = "," if failed[0].reason.startswith("row ") else ":"
        raise SignalError(f"column {excerpt(failed[0].channel)}{comma} {failed[0].reason}{more}")
    reasons = (f"{excerpt(each.channel)} is not read: {each.reason.removesuffix(ANYWAY)}" for each in left)
    known = listed(reasons, 5, "; and {} more", "; ")
    raise NoSignal(
        f"no column is a signal that can be read: {known}; to read one all the same name it, column= (--column)",
        left,
    )


def _with_clock(signals: list[Channel], clocks: list[Channel]) -> list[Channel]:
    """The signals with the first column that is a clock by its content as theirs, where they have none."""
    found = [(each, clock) for each in clocks if (clock := counter_clock(each.name, each.samples)) is not None]
    with_clocks = []
    for each in signals:
        fits = [
            clock for channel, clock in found if channel.samples.size == each.samples.size and channel.fs == each.fs
        ]
        with_clocks.append(replace(each, clock=fits[0]) if fits and each.clock is None else each)
    return with_clocks


def _of_modality(channels: list[Channel], modality: str | None, column: Any) -> list[Channel]:
    """The channels that measure what the caller wants: by their names, or the only one that may."""
    if modality is None:
        return channels
    if wanted := [each for each in channels if each.kind == modality]:
        return wanted
    names = listed((excerpt(each.name) for each in channels), 50, ", ...")
    names_another = any(each.kind in MODALITIES for each in channels)
    open_ones = [each for each in channels if each.kind is None]
    fitting = [each for each in open_ones if _fits(each, modality)] or ([] if names_another else open_ones)
    if not fitting:
        kinds = ", ".join(sorted({each.kind for each in channels if each.kind}))
        message = (
            f"the file says that it measures {kinds}, not {modality}: if one is, choose it, column= (--column), of "
            f"{names}"
        )
        if open_ones:  # one of which may be the wanted one
            raise SignalError(message)
        raise OtherModality(message, [_other(each, modality) for each in channels])
    if len({each.array or each.name for each in fitting}) > 1 and column != "*" and not _fits(fitting[0], modality):
        raise SignalError(
            f"{len(fitting)} columns may be {modality} and nothing tells them apart: choose, column= (--column), of "
            f'{names}; for all of them, such as trials side by side, column="*" (--column "*")'
        )
    return fitting


def _fits(channel: Channel, modality: str) -> bool:
    """Whether a name that says nothing by itself is one that the wanted modality's channels bear."""
    pattern = {"ecg": LEAD, "eeg": ELECTRODE}.get(modality)
    return bool(pattern and pattern.fullmatch(channel.name.strip(" ,;.")))
