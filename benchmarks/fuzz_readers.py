"""Damaged files: does a reader crash, hang, or give another value than the library that its format is read by?

`python benchmarks/fuzz_readers.py --count 20000` makes so many mutants of each kind of file, reads each with this
library and with the reference reader, and prints a table. Mutant n of a kind depends on n and the seed alone, so a run
may be stopped and goes on where it was; `--only wfdb --mutant 123` looks at one of them again. It needs the extra
`[bench]`, and Linux or macOS.

A mutant has one to four changes: of bytes, of whole fields, of lines; the file is sometimes cut. They are read in a
process apart: where it dies, or computes for longer than 5 s, that is counted and a new one goes on.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the makers of files that the tests have

from made_files import acqknowledge, avro, avro_session, edf, edf_signal, xdf, xdf_stream

from tiny_biomoe.errors import TinyBioMoEError
from tiny_biomoe.readers.channel import Channel, Options
from tiny_biomoe.readers.formats import FORMATS
from tiny_biomoe.readers.read import read

SEED = 20260601
LONGEST = 5  # seconds of computing for one reader and one mutant
WAIT = 600  # seconds by the clock, for what waits without computing; much, for a busy machine is slow
MEMORY = 6 << 30  # bytes of address space of the process that reads
SAVED_EVERY = 250
NUMBERS = [
    *(b"0", b"1", b"-1", b"2", b"7", b"255", b"256", b"32767", b"65536", b"99999999", b"2147483648", b"99999999999"),
    *(b"1e2", b"1E2", b"1e308", b"1e400", b"-1e-300", b"nan", b"inf", b".5", b"5.", b"1,5", b"1_0", b"0x10", b"+3"),
    *(b"1.5(3)", b"x4", b"~", b"", b" ", b"\0", b"\xb5", b"--1", b"1.2.3", b"\xff\xff"),
]

Signals = list[tuple[float | None, np.ndarray]]  # rate in Hz, where the format has one, and samples


class Refused(Exception):
    """A reader does not accept a file, or a comparison has no ground."""


# Files to begin with: name -> content, the first of which is the one that is read.


def wfdb_files(folder: Path, rng: np.random.Generator) -> list[dict[str, bytes]]:
    data = rng.bytes(4096)
    one = [
        "a 2 360 200 10:00:00 01/02/2020\na.dat 16 200(5)/mV 12 0 3 -17 0 ECG I\n"
        "a.dat 16 1000/uS 12 10 4 9 0 EDA\n# note\n",
        "a 3 62.5/100(3) 100\na.dat 212 200(-5)/mV 12 0 3 -17 0 MLII\na.dat 212 100/NU 12 0 0 0 0 RESP\n"
        "a.dat 212 10/mmHg 12 2048 0 0 0 ABP\n",
        "a 2 25 150\na.dat 16x4:2+8 10(0)/mV 16 0 11 0 0 BVP\na.dat 16 10(0)/uS 16 0 1000 0 0 EDA\n",
        "a 1 100\na.dat 80 100\n",
        "a 1 500 300\na.dat 24 1000(0)/mV 24 0 0 0 0 I\n",
        "a 2 250 120\na.dat 310 50/mV 10 0 0 0 0 II\na.dat 310 50/mV 10 0 0 0 0 V\n",
        "a 1 128 64\na.dat 32 4e3/uV 32 0 0 0 0 C3\n",
    ]
    layout = "l 2 100 0\n~ 0 1000(0)/mV 16 0 0 0 0 II\n~ 0 10(0)/uS 16 0 0 0 0 EDA\n"
    segment = "s 2 100 50\ns.dat 16 1000(0)/mV 16 0 0 0 0 II\ns.dat 16 10(0)/uS 16 0 0 0 0 EDA\n"
    many = {"a.hea": b"a/3 2 100 110\nl 0\ns 50\n~ 60\n", "l.hea": layout.encode(), "s.hea": segment.encode()}
    return [*({"a.hea": each.encode(), "a.dat": data} for each in one), {**many, "s.dat": data}]


def edf_files(folder: Path, rng: np.random.Generator) -> list[dict[str, bytes]]:
    data = rng.integers(-3000, 3000, 16)
    made = []
    marks = [b"+0\x14\x14\0", b"+1\x14\x14\0+1.5\x150.5\x14stress\x14\0"]
    notes = edf_signal("EDF Annotations", marks, dim="", pmin=-1, pmax=1, spr=30)
    ecg = edf_signal("ECG II", rng.integers(-99, 99, 40), dim="mV", pmin=-5, pmax=5, dmin=-2048, dmax=2047, spr=20)
    for signals, more in [
        ([edf_signal("EDA", data)], {}),
        ([edf_signal("EDA", data), ecg, edf_signal("SpO2", data, dim="%", pmin=0, pmax=100)], {}),
        ([edf_signal("EDA", data), ecg, notes], {"reserved": "EDF+C"}),
        ([ecg, edf_signal("EDA", data)], {"records": -1, "duration": 0.5}),
    ]:
        made.append({"a.edf": edf(folder / "a.edf", signals, **more).read_bytes()})
    return made


def csv_files(folder: Path, rng: np.random.Generator) -> list[dict[str, bytes]]:
    eda, ecg = 2 + np.cumsum(rng.standard_normal(60)) / 50, rng.standard_normal(60)
    times = np.arange(60) / 4
    rows = list(zip(times, eda, ecg, strict=True))
    return [
        {"a.csv": "\n".join(["time [s],EDA,ECG", *(f"{t:.2f},{a:.4f},{b:.6f}" for t, a, b in rows)]).encode()},
        {"a.csv": "\r\n".join(["EDA;RESP", *(f"{a:.4f};{b:.3f}".replace(".", ",") for _, a, b in rows)]).encode()},
        {"a.csv": "\n".join(["# fs: 4", "EDA", *(f"{a:.5e}" for _, a, _ in rows)]).encode() + b"\n"},
        {"a.csv": "\n".join(["EDA\tPPG", *(f"{a:.3f}\t{round(b * 99)}" for _, a, b in rows)]).encode()},
        {
            "a.csv": "\n".join(
                ['"t","EDA (uS)"', *(f'{t},"{a:.3f}"' if t % 3 else f"{t}," for t, a, _ in rows)]
            ).encode()
        },
    ]


def avro_files(folder: Path, rng: np.random.Generator) -> list[dict[str, bytes]]:
    sessions = [[avro_session(1_700_000_000, 4, rng)], [avro_session(1_700_000_000 + 4 * at, 4, rng) for at in (0, 1)]]
    codecs = ("null", "deflate")
    return [{"a.avro": avro(folder / "a.avro", each, codec).read_bytes()} for each in sessions for codec in codecs]


def acq_files(folder: Path, rng: np.random.Generator) -> list[dict[str, bytes]]:
    made = []
    for packed in (False, True):
        acqknowledge(folder / "a.acq", rng, packed=packed)
        made.append({"a.acq": (folder / "a.acq").read_bytes()})
    return made


def xdf_files(folder: Path, rng: np.random.Generator) -> list[dict[str, bytes]]:
    label = (
        "<channels><channel><label>Fp1</label><unit>uV</unit></channel><channel><label>C3</label></channel></channels>"
    )
    amplifier = list(
        xdf_stream(1, "amp", "EEG", 100, 50 + np.arange(90) / 100, rng.standard_normal((90, 2)), label, clocks=(100.0,))
    )
    band = list(
        xdf_stream(2, "band", "EDA", 4, 50 + np.arange(30) / 4, rng.integers(0, 99, 30), form="int16", clocks=(100.0,))
    )
    marks = list(xdf_stream(3, "marks", "Markers", 0, [51.0, 52.0], np.array([["go"], ["no"]], object), form="string"))
    irregular = list(xdf_stream(4, "slow", "SpO2", 0, 50 + np.cumsum(rng.random(20)), np.arange(20), form="double64"))
    made = [(amplifier,), (band, marks), (amplifier, band, irregular)]
    return [{"a.xdf": xdf(folder / "a.xdf", *streams).read_bytes()} for streams in made]


# What the reference readers give.


def wfdb_reference(path: Path, ours: list[Channel]) -> Signals:
    import wfdb

    for header in path.parent.glob("*.hea"):  # what wfdb-python reads otherwise than header(5) says
        if reason := _misread(header.read_bytes().decode("latin-1")):
            raise Refused(reason)
    record = wfdb.rdrecord(str(path.with_suffix("")), smooth_frames=False)
    single = isinstance(record, wfdb.Record)
    values = record.e_p_signal if single and record.e_p_signal is not None else list(np.asarray(record.p_signal).T)
    frames = record.samps_per_frame if single else [1] * len(values)
    return [(record.fs * frame, np.asarray(each, float)) for frame, each in zip(frames, values, strict=True)]


def _misread(text: str) -> str | None:
    """Why wfdb-python 4.3 reads a header otherwise than its specification says, if it does."""
    from wfdb.io.header import rx_record, rx_segment, rx_signal

    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text) if line.strip() and not line.startswith("#")]
    record = rx_record.match(lines[0]) if lines else None
    if (
        record
        and _fields(record, "{record_name}/{n_seg} {n_sig} {fs}/{counter_freq}({base_counter}) {sig_len}")
        != lines[0].split()[:4]
    ):
        return "a record line that its pattern reads in part"
    for line in lines[1:]:
        segment, found = rx_segment.fullmatch(line), rx_signal.match(line)
        if segment:
            continue
        pattern = "{file_name} {fmt}x{samps_per_frame}:{skew}+{byte_offset} {adc_gain}({baseline})/{units}"
        pattern += " {adc_res} {adc_zero} {init_value} {checksum} {block_size}"
        if found is None or _fields(found, pattern) != line.split()[:8]:
            return "a signal line that its pattern reads in part"
        fields = found.groupdict()
        if fields["skew"] not in ("", "0"):
            return "skews"
        if fields["fmt"] == "8" and not fields["init_value"]:
            return "format 8 without an initial value"
    return None


def _fields(match: re.Match[str], pattern: str) -> list[str]:
    """The words that a match stands for, without the marks of what it lacks."""
    for name, value in match.groupdict().items():
        lacking = rf"[/x:+(]?\{{{name}\}}\)?"
        pattern = re.sub(lacking, "", pattern) if not value else pattern.replace(f"{{{name}}}", value)
    return pattern.split()


def edf_reference(path: Path, ours: list[Channel]) -> Signals:
    import edfio

    file = edfio.read_edf(path, header_encoding="latin-1")
    found = [(float(each.sampling_frequency), np.asarray(each.data, float)) for each in file.signals]
    other = _pyedflib(path)
    if other is not None and len(other) == len(found):
        for channel, (fs, samples), (rate, values) in zip(ours, found, other, strict=True):
            if channel.problem is None and not (np.isclose(fs, rate, rtol=1e-6) and _close(samples, values, 1e-6)):
                raise AssertionError(f"edfio and pyedflib differ in channel {channel.name!r}")
    return found


def _pyedflib(path: Path) -> Signals | None:
    import pyedflib

    try:
        with pyedflib.EdfReader(str(path)) as file:
            return [(file.getSampleFrequency(at), file.readSignal(at)) for at in range(file.signals_in_file)]
    except (OSError, ValueError, RuntimeError, IndexError, ZeroDivisionError, OverflowError, MemoryError):
        return None  # stricter than the standard demands


def csv_reference(path: Path, ours: list[Channel]) -> Signals:
    """pandas parts the cells by the mark that our reader found, Python's float() reads them."""
    import pandas as pd

    from tiny_biomoe.readers.csv_files import MISSING, open_table

    table = open_table(path, Options())
    skipped = len(table.comments) + table.titled
    if table.titled and table.first_row == len(table.comments) + 1:
        skipped -= 1  # the names stand in the last comment
    frame = pd.read_csv(
        path, sep=table.delimiter if table.delimiter != " " else r"\s+", header=None, names=range(len(table.names)),
        skiprows=skipped, dtype=str, keep_default_na=False, index_col=False, skip_blank_lines=False,
        engine="c" if table.delimiter != " " else "python",
    )  # fmt: skip
    named = {name or str(at): at for at, name in enumerate(table.names)}
    clocks = [each.clock for each in ours if each.clock is not None]
    if clocks and clocks[0].name in named and not table.is_dated(named[clocks[0].name]):
        ours.append(Channel(clocks[0].name, clocks[0].times))
    found: Signals = []
    for channel in ours:
        if channel.problem is not None:
            found.append((None, channel.samples))
            continue
        cells = [str(cell).strip() for cell in frame[named[channel.name]]]
        samples = np.array([np.nan if cell in MISSING else float(cell.replace(table.decimal, ".")) for cell in cells])
        if np.isnan(samples[channel.samples.size :]).all():  # a padded end
            samples = samples[: channel.samples.size]
        found.append((None, samples))
    return found


def avro_reference(path: Path, ours: list[Channel]) -> Signals:
    import fastavro

    with path.open("rb") as file:
        records = [each["rawData"] for each in fastavro.reader(file)]
    found: Signals = []
    for channel in ours:
        key, _, axis = channel.name.partition("_")
        pieces = [each[key] for each in records if each.get(key) and each[key][axis or "values"]]
        samples = np.concatenate([np.asarray(piece[axis or "values"], float) for piece in pieces])
        if axis:
            scales = [piece["imuParams"] for piece in pieces]
            steps = [
                (each["physicalMax"] - each["physicalMin"]) / (each["digitalMax"] - each["digitalMin"])
                for each in scales
            ]
            samples = samples * np.repeat(steps, [len(piece[axis]) for piece in pieces])
        found.append((float(pieces[0]["samplingFrequency"]) if len(pieces) == 1 else None, samples))
    return found


def acq_reference(path: Path, ours: list[Channel]) -> Signals:
    import bioread

    channels = bioread.read_file(str(path)).channels
    return [(float(each.samples_per_second), np.asarray(each.data, float)) for each in channels]


def xdf_reference(path: Path, ours: list[Channel]) -> Signals:
    import pyxdf

    streams, _ = pyxdf.load_xdf(str(path), dejitter_timestamps=False)
    kept = [each for each in streams if each["info"]["channel_format"][0] != "string" and len(each["time_stamps"])]
    return [(None, np.asarray(row, float)) for each in kept for row in np.asarray(each["time_series"]).T]


# Each kind: its format, its files, its reference reader, and which of the files are changed, up to which byte.
KINDS: dict[str, tuple[str, Callable[..., Any], Callable[..., Signals], Callable[[str, bytes], int]]] = {
    "wfdb": ("wfdb", wfdb_files, wfdb_reference, lambda name, data: len(data) if name.endswith(".hea") else 0),
    "edf": ("edf", edf_files, edf_reference, lambda name, data: 256 + 256 * int(data[252:256])),
    "csv": ("csv", csv_files, csv_reference, lambda name, data: len(data)),
    "avro": ("embraceplus", avro_files, avro_reference, lambda name, data: len(data)),
    "acq": ("acq", acq_files, acq_reference, lambda name, data: len(data)),
    "xdf": ("xdf", xdf_files, xdf_reference, lambda name, data: len(data)),
}


def mutate(data: bytes, end: int, rng: np.random.Generator) -> bytes:
    """One to four changes within the first `end` bytes; one time in twenty the whole is cut as well."""
    head, tail = bytearray(data[:end]), data[end:]
    for _ in range(min(int(rng.geometric(0.6)), 4)):
        head = bytearray(CHANGES[int(rng.integers(len(CHANGES)))](head, rng))
    changed = bytes(head) + tail
    return changed[: int(rng.integers(len(changed) + 1))] if rng.random() < 0.05 else changed


def _at(head: bytearray, rng: np.random.Generator) -> int:
    return int(rng.integers(max(len(head), 1)))


def _one_byte(head: bytearray, rng: np.random.Generator) -> bytearray:
    if head:
        head[_at(head, rng)] = int(rng.integers(256))
    return head


def _one_bit(head: bytearray, rng: np.random.Generator) -> bytearray:
    if head:
        head[_at(head, rng)] ^= 1 << int(rng.integers(8))
    return head


def _extreme(head: bytearray, rng: np.random.Generator) -> bytearray:
    """A whole number of 1 to 8 bytes that is an edge of its kind."""
    width, at = int(rng.choice([1, 2, 4, 8])), _at(head, rng)
    value = int(rng.choice([0, 1, 2, 3])), bool(rng.integers(2))
    edges = [0, 1, (1 << 8 * width) - 1, 1 << (8 * width - 1)]
    number = edges[value[0]].to_bytes(width, "little")
    head[at : at + width] = number if value[1] else number[::-1]
    return head


def _without(head: bytearray, rng: np.random.Generator) -> bytearray:
    at = _at(head, rng)
    del head[at : at + int(rng.integers(1, 24))]
    return head


def _with_more(head: bytearray, rng: np.random.Generator) -> bytearray:
    at = _at(head, rng)
    head[at:at] = rng.bytes(int(rng.integers(1, 24)))
    return head


def _twice(head: bytearray, rng: np.random.Generator) -> bytearray:
    at, to = _at(head, rng), _at(head, rng)
    head[to:to] = head[at : at + int(rng.integers(1, 64))]
    return head


def _another_field(head: bytearray, rng: np.random.Generator) -> bytearray:
    """Another number in the place of one, or of a word; of the same width half of the time."""
    fields = [each.span() for each in re.finditer(rb"[-+.\w(]{1,16}", bytes(head))]
    if not fields:
        return head
    begin, stop = fields[int(rng.integers(len(fields)))]
    new = NUMBERS[int(rng.integers(len(NUMBERS)))]
    if rng.random() < 0.5:
        new = new[: stop - begin].ljust(stop - begin)
    head[begin:stop] = new
    return head


def _fields_change_places(head: bytearray, rng: np.random.Generator) -> bytearray:
    fields = [each.span() for each in re.finditer(rb"[-+.\w(]{1,16}", bytes(head))]
    if len(fields) < 2:
        return head
    one, two = sorted(rng.choice(len(fields), 2, replace=False).tolist())
    (a, b), (c, d) = fields[one], fields[two]
    return bytearray(bytes(head[:a] + head[c:d] + head[b:c] + head[a:b] + head[d:]))


def _lines(head: bytearray, rng: np.random.Generator) -> bytearray:
    """A line less, twice, or at another place."""
    lines = bytes(head).split(b"\n")
    at, to, what = int(rng.integers(len(lines))), int(rng.integers(len(lines))), int(rng.integers(3))
    line = lines[at] if what == 1 else lines.pop(at)
    if what:
        lines.insert(to, line)
    return bytearray(b"\n".join(lines))


CHANGES = [
    *(_one_byte, _one_bit, _extreme, _without, _with_more, _twice),
    *(_another_field, _another_field, _fields_change_places, _lines),
]


class Maker:
    """The mutants of a kind."""

    def __init__(self, kind: str, seed: int, folder: Path) -> None:
        self.kind, self.seed, self.folder = kind, seed, folder
        self.format, files, self.reference, self.changed = KINDS[kind]
        self.files = files(folder, np.random.default_rng(seed))

    def write(self, number: int) -> Path:
        """One mutant, by its number; gives the path to read."""
        rng = np.random.default_rng([self.seed, number, *self.kind.encode()])
        files = self.files[int(rng.integers(len(self.files)))]
        open_to_change = [name for name, data in files.items() if self.changed(name, data)]
        chosen = open_to_change[int(rng.integers(len(open_to_change)))]
        for stale in self.folder.glob("[a-z].*"):
            stale.unlink()
        for name, data in files.items():
            content = mutate(data, self.changed(name, data), rng) if name == chosen else data
            (self.folder / name).write_bytes(content)
        return self.folder / next(iter(files))


def judge(maker: Maker, number: int, stage: Any) -> tuple[str, str]:
    """What becomes of a mutant: a class of the table, and where it is a fault of some kind what is to be said."""
    path = maker.write(number)
    stage.value = 1
    try:
        with limited():
            channels = FORMATS[maker.format].read(path, Options())
    except TinyBioMoEError:
        channels = None
    except Exception as error:
        return "another error", f"{type(error).__name__}: {error}"[:300]
    try:
        with limited():
            found = read(path, format=maker.format, on_hole="split", on_jitter="resample")
        if wrong := [each for each in found if each.signal.dtype != np.float64 or not 0 < each.fs < np.inf]:
            return "another error", f"recording of {wrong[0].signal.dtype} at {wrong[0].fs} Hz"
    except TinyBioMoEError:
        pass
    except Exception as error:
        return "another error", f"read: {type(error).__name__}: {error}"[:300]
    stage.value = 2
    try:
        with limited():
            reference = maker.reference(path, channels or [])
    except Refused as reason:
        return ("read otherwise by specification" if channels else "both refuse"), str(reason) if channels else ""
    except AssertionError as error:
        return "values differ", str(error)
    except Exception:
        return ("only ours accepts" if channels else "both refuse"), ""
    if channels is None:
        return "only the reference accepts", ""
    return compare(joined(channels) if maker.format == "acq" else channels, reference)


def joined(channels: list[Channel]) -> list[Channel]:
    """Channels that were parted at pauses, whole again."""
    whole: dict[str, Channel] = {}
    for at, each in enumerate(channels):
        name, parted, _ = each.name.partition(" (segment ")
        key = name if parted else f"{name} {at}"
        before = whole.get(key)
        samples = each.samples if before is None else np.append(before.samples, each.samples)
        whole[key] = Channel(name, samples, fs=each.fs, problem=each.problem)
    return list(whole.values())


def compare(channels: list[Channel], reference: Signals) -> tuple[str, str]:
    """Whether the channels that our reader gives hold the reference's values."""
    if len(channels) != len(reference):
        return "values differ", f"{len(channels)} channels, the reference has {len(reference)}"
    for each, (fs, samples) in zip(channels, reference, strict=True):
        if each.problem is not None:
            continue
        if fs is not None and each.fs is not None and not np.isclose(fs, each.fs, rtol=1e-6):
            return "values differ", f"{each.name!r}: {each.fs:g} Hz, the reference has {fs:g} Hz"
        if not _close(each.samples, samples, 1e-9):
            return (
                "values differ",
                f"{each.name!r}: {each.samples[:5]} ({each.samples.size}), {samples[:5]} ({samples.size})",
            )
    return "both, equal", ""


def _close(one: np.ndarray, two: np.ndarray, tolerance: float) -> bool:
    """Whether samples are the same but for rounding of the last digits."""
    if one.shape != two.shape:
        return False
    with np.errstate(all="ignore"):
        span = np.nanmax(np.abs(two)) if np.isfinite(two).any() else 1.0
        equal = (one == two) | (np.isnan(one) & np.isnan(two)) | (np.abs(one - two) <= tolerance * span)
    return bool(equal.all())


@contextmanager
def limited() -> Iterator[None]:
    """End this process where what is within computes, or waits, for too long: a library in C hears nothing else."""
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    signal.setitimer(signal.ITIMER_REAL, WAIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def work(kind: str, seed: int, first: int, last: int, results: Any, stage: Any) -> None:
    """Judge mutants, one after another, in a process that may die of it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # what libraries in C print
    os.dup2(null, 2)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        maker = Maker(kind, seed, Path(folder))
        for number in range(first, last):
            stage.value = 0
            results.send((number, *judge(maker, number, stage)))


def run(kind: str, seed: int, count: int, state: Path) -> dict[str, Any]:
    """Judge the mutants of a kind that are not yet judged; gives what became of all."""
    path = state / f"{kind}-{seed}.json"
    known = json.loads(path.read_text()) if path.is_file() else {"next": 0, "classes": {}, "findings": []}
    classes, findings = Counter(known["classes"]), known["findings"]
    context = multiprocessing.get_context("fork")
    while known["next"] < count:
        receive, send = context.Pipe(duplex=False)
        stage = context.Value("i", 0)
        child = context.Process(target=work, args=(kind, seed, known["next"], count, send, stage))
        child.start()
        send.close()
        try:
            while known["next"] < count:
                number, name, reason = receive.recv()
                _note(known, classes, findings, number, name, reason)
                if known["next"] % SAVED_EVERY == 0:
                    _save(path, known, classes)
        except EOFError:
            child.join()
            whose = {1: "ours", 2: "the reference"}.get(stage.value, "the maker")
            hung = child.exitcode in (-signal.SIGPROF, -signal.SIGALRM)
            name = f"{'hang' if hung else 'crash'} in {whose}"
            _note(known, classes, findings, known["next"], name, f"exit code {child.exitcode}")
        finally:
            if child.is_alive() and known["next"] < count:
                child.kill()
            child.join()
    _save(path, known, classes)
    return {**known, "classes": dict(classes)}


def _note(
    known: dict[str, Any], classes: Counter[str], findings: list[Any], number: int, name: str, reason: str
) -> None:
    known["next"] = number + 1
    classes[name] += 1
    if name not in ("both, equal", "both refuse", "only ours accepts", "only the reference accepts"):
        findings.append([number, name, reason])


def _save(path: Path, known: dict[str, Any], classes: Counter[str]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({**known, "classes": dict(classes)}))
    partial.replace(path)


COLUMNS = (
    *("both, equal", "values differ", "read otherwise by specification", "only ours accepts"),
    *("only the reference accepts", "both refuse", "another error", "crash in ours", "hang in ours"),
    *("crash in the reference", "hang in the reference"),
)


@click.command()
@click.option("--count", default=20_000, show_default=True, help="Mutants of each kind.")
@click.option("--seed", default=SEED, show_default=True)
@click.option("--only", type=click.Choice(list(KINDS)), multiple=True, help="A kind; all otherwise.")
@click.option(
    "--state", type=click.Path(path_type=Path), default=Path("runs/fuzz"), show_default=True, help="A folder."
)
@click.option("--mutant", type=int, help="Keep and judge this one of the kind that --only names.")
def main(count: int, seed: int, only: tuple[str, ...], state: Path, mutant: int | None) -> None:
    """Judge mutants of files, and print a table for RESULTS.md."""
    state.mkdir(parents=True, exist_ok=True)
    if mutant is not None:
        maker = Maker(only[0], seed, state)
        print(maker.write(mutant), flush=True)
        print(*judge(maker, mutant, multiprocessing.Value("i", 0)))
        return
    print(f"seed {seed}, {count} mutants of each kind")
    print(f"| file | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|", sep="\n", flush=True)
    faults = []
    for kind in only or KINDS:
        found = run(kind, seed, count, state)
        print(f"| {kind} | {' | '.join(str(found['classes'].get(name, 0)) for name in COLUMNS)} |", flush=True)
        faults += [(kind, *each) for each in found["findings"] if each[1] != "read otherwise by specification"]
    for kind, number, name, reason in faults:
        print(f"{kind} {number}: {name}: {reason}")


if __name__ == "__main__":
    main()
