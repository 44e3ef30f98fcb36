"""Embedding a study: windows a second and how well its stages overlap, memory, resuming, and ten million windows.

    python benchmarks/batch.py speed [--representation scalogram] [--workers 1] [--threads 1] [--windows 400]
                                     [--rounds 3]
    python benchmarks/batch.py memory [--counts 10000 100000 1000000]
    python benchmarks/batch.py resume [--windows 100000]
    python benchmarks/batch.py many   [--windows 10000000]

`speed` uses the bundled weights and real drawing. In the others a window is read, filtered, cut, its quality measured
and its row written as ever, but its picture is blank and its vector a constant: what they measure is the run itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from pyarrow import parquet

from tiny_biomoe import TinyBioMoE
from tiny_biomoe.batch import pipeline, worker
from tiny_biomoe.batch.plan import groups, scan
from tiny_biomoe.batch.run import embed_study
from tiny_biomoe.batch.segments import Chunk, Settings, stream
from tiny_biomoe.batch.study_table import open_study
from tiny_biomoe.images.windows import draw_windows
from tiny_biomoe.model import embed_levels

WINDOW = 10.0  # seconds
STAGES = ("read and filtered", "drawn", "embedded")


def make_files(folder: Path, windows: int, fs: float, stride: float, per_file: int) -> None:
    """Recordings that hold so many windows in all, each of a signal of its own."""
    folder.mkdir()
    random = np.random.default_rng(20251123)
    for number, first in enumerate(range(0, windows, per_file)):
        n = min(per_file, windows - first)
        seconds = WINDOW + (n - 1) * stride
        t = np.arange(round(seconds * fs)) / fs
        signal = np.sin(2 * np.pi * 1.2 * t) + 0.1 * random.standard_normal(t.size)
        np.savez(folder / f"{number:06d}.npz", signal=signal.astype(np.float32), fs=fs)


class FirstPicture(worker.Observer):
    """When the network got its first picture: the workers have started."""

    came = 0.0

    def embedded(self, windows: int, input_bytes: float) -> None:
        """Note the first."""
        self.came = self.came or time.perf_counter()


def processor_seconds() -> float:
    """What this process and the workers that have ended used up."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def measured(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, and processor-seconds, that something takes."""
    began, used = time.perf_counter(), processor_seconds()
    work()
    return time.perf_counter() - began, processor_seconds() - used


def workers_of(count: int) -> ProcessPoolExecutor:
    """Processes as a run starts them."""
    return ProcessPoolExecutor(max(count, 1), multiprocessing.get_context("spawn"))


def speed(folder: Path, representation: str, workers: int, threads: int, windows: int, rounds: int) -> dict[str, Any]:
    """Each stage alone, and all together, in turn: medians of so many rounds.

    The stages share the processors: a window takes what reading, drawing and network take together, so
    "processors allow" is what no overlap can exceed, however fast the slowest stage is when it has them to itself.
    """
    torch.set_num_threads(threads)
    model, reading = TinyBioMoE.from_pretrained(), {"modality": "bvp"}
    make_files(folder / "study", windows, 64.0, WINDOW, 200)
    settings = Settings((representation,), WINDOW, reading=reading).check(model.recipe)
    plan = list(groups(scan(open_study(folder / "study"))))

    def read() -> list[tuple[Any, ...]]:
        found = (each for group in plan for each in stream(group, settings, model.recipe, None))
        return [each.job() for each in found if isinstance(each, Chunk)]

    jobs = read()
    drawn = [each for job in jobs for each in draw_windows(*job)]
    levels = [each[0] for each in drawn if not isinstance(each, str)]
    embed_levels(model, levels[:8], 32)

    def start() -> None:
        with workers_of(workers) as fresh:
            list(fresh.map(draw_windows, *zip(*jobs[:1], strict=True)))

    def everything() -> float:
        watch, out = FirstPicture(), folder / "out"
        embed_study(
            folder / "study", out, representation, model=model, window=WINDOW, workers=workers, threads=threads,
            observer=watch, **reading,
        )  # fmt: skip
        shutil.rmtree(out)
        return watch.came

    starting = measured(start)[1] if workers else 0.0
    rates: dict[str, list[float]] = {name: [] for name in (*STAGES, "end to end", "end to end, once started")}
    used: dict[str, list[float]] = {name: [] for name in (*STAGES, "end to end")}
    with workers_of(workers) as pool:
        list(pool.map(draw_windows, *zip(*jobs[: 4 * max(workers, 1)], strict=True)))
        for _ in range(rounds):
            read_in, read_used = measured(read)
            drawn_in, _ = measured(lambda: list(pool.map(draw_windows, *zip(*jobs, strict=True))))
            _, drawn_used = measured(lambda: [draw_windows(*job) for job in jobs])
            embedded_in, embedded_used = measured(lambda: embed_levels(model, levels, 32))
            began, before = time.perf_counter(), processor_seconds()
            came = everything()
            ended = time.perf_counter()
            seconds = (read_in, drawn_in, embedded_in, ended - began, ended - came)
            for name, took in zip(rates, seconds, strict=True):
                rates[name].append(windows / took)
            whole = processor_seconds() - before - starting
            for name, took in zip(used, (read_used, drawn_used, embedded_used, whole), strict=True):
                used[name].append(1e3 * took / windows)
    facts = {"windows": windows, "workers": workers, "threads": threads, "rounds": rounds}
    return facts | overlap(rates, used)


def overlap(rates: dict[str, list[float]], used: dict[str, list[float]]) -> dict[str, Any]:
    """Medians over rounds, and how near the whole comes to its slowest stage and to what the processors allow.

    Parameters
    ----------
    rates : windows a second of each stage and of the whole, a number a round
    used : processor-milliseconds a window, likewise
    """
    cores = len(os.sched_getaffinity(0))
    slowest = [min(stages) for stages in zip(*(rates[name] for name in STAGES), strict=True)]
    allowed = [1e3 * cores / sum(stages) for stages in zip(*(used[name] for name in STAGES), strict=True)]
    steady = rates["end to end, once started"]
    return {
        "processors": cores,
        "windows a second": {name: median(values) for name, values in rates.items()},
        "processor-ms a window": {name: median(values) for name, values in used.items()},
        "overlap efficiency, of the slowest stage": median(s / most for s, most in zip(steady, slowest, strict=True)),
        "processors allow, windows a second": median(allowed),
        "of what stages and processors allow": median(
            s / min(both) for s, *both in zip(steady, slowest, allowed, strict=True)
        ),
        "processors at work": median(
            whole * rate / 1e3 / cores for whole, rate in zip(used["end to end"], steady, strict=True)
        ),
    }  # fmt: skip


def stub_out() -> None:
    """Blank pictures and constant vectors from here on, in this process."""

    def blank(call: Any, limits: Any, noise: Any, windows: Any) -> list[Any]:
        return [np.full((len(call.representations), 224, 224), 7, np.uint8) for _ in windows]

    def constant(backend: Any, parts: Any, batch_size: int, *more: Any) -> Any:
        for part in parts:
            yield np.ones((sum(1 for _ in part), 192), np.float32)

    pipeline.draw_windows = blank  # type: ignore[assignment]
    worker.embed_in_turn = constant  # type: ignore[assignment]


def stubbed(folder: Path, windows: int) -> dict[str, Any]:
    """A run without drawing and network: rate, memory, and the time to find that all of it is there."""
    stub_out()
    model = TinyBioMoE.from_pretrained()
    make_files(folder / "study", windows, 4.0, 1.0, 10_000)

    def run() -> float:
        began = time.perf_counter()
        summary = embed_study(
            folder / "study", folder / "out", model=model, window=WINDOW, stride=1.0, fs=4.0, modality="eda"
        )
        assert summary.windows == windows
        return time.perf_counter() - began

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = sum(path.stat().st_size for path in (folder / "out" / "embeddings").iterdir())
    return {
        "windows": windows, "windows a second": windows / took, "peak memory, MB": peak / 1024,
        "of it before the run, MB": before / 1024, "shards, MB": size / 1e6, "verified again in s": run(),
    }  # fmt: skip


def in_fresh_process(folder: Path, windows: int) -> dict[str, Any]:
    """`stubbed` in a process of its own, whose peak of memory is nobody else's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(stubbed, folder, windows).result()


def ids_are_unique(out: Path, windows: int) -> bool:
    """Whether every id is there once; 8 bytes of a hash stand for each."""
    hashes = np.empty(windows, np.uint64)
    place = 0
    for path in sorted((out / "embeddings").iterdir()):
        for each in parquet.read_table(path, columns=["id"])["id"].to_pylist():
            hashes[place] = int.from_bytes(hashlib.blake2b(each.encode(), digest_size=8).digest(), "little")
            place += 1
    hashes.sort()
    return place == windows and bool((np.diff(hashes) > 0).all())


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory", "resume", "many"])
    parser.add_argument("--representation", default="scalogram")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--windows", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        if chosen.what == "speed":
            found = speed(
                folder, chosen.representation, chosen.workers, chosen.threads, chosen.windows or 400, chosen.rounds
            )
            print(json.dumps(found, indent=1))
        elif chosen.what == "many":
            windows = chosen.windows or 10_000_000
            found = in_fresh_process(folder, windows)
            print(json.dumps({**found, "every id once": ids_are_unique(folder / "out", windows)}, indent=1))
        else:
            for windows in chosen.counts if chosen.what == "memory" else [chosen.windows or 100_000]:
                place = folder / str(windows)
                place.mkdir()
                print(json.dumps(in_fresh_process(place, windows), indent=1))


if __name__ == "__main__":
    sys.exit(main())
