"""The batch road: windows a second and how well its stages overlap, memory, resuming, and ten million windows.

    python benchmarks/batch.py speed  [--representation scalogram] [--workers 1] [--threads 1] [--windows 400]
    python benchmarks/batch.py memory [--counts 10000 100000 1000000]
    python benchmarks/batch.py resume [--windows 100000]
    python benchmarks/batch.py many   [--windows 10000000]

`speed` uses the bundled weights and real drawing. In the others a window is read, filtered, cut, its quality measured
and its row written as ever, but its picture is blank and its vector a constant: what they measure is the engine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow import parquet

from tiny_biomoe import TinyBioMoE, pipeline
from tiny_biomoe import embed_groups as engine
from tiny_biomoe.batch import embed_study
from tiny_biomoe.recording_windows import draw_windows
from tiny_biomoe.runtime import embed_levels
from tiny_biomoe.segments import Chunk, Settings, stream
from tiny_biomoe.shard_plan import groups, scan
from tiny_biomoe.studies import open_study

WINDOW = 10.0  # seconds


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


def speed(folder: Path, representation: str, workers: int, threads: int, windows: int) -> dict[str, Any]:
    """Each stage alone, and all together, in windows a second."""
    torch.set_num_threads(threads)
    model = TinyBioMoE.from_pretrained()
    make_files(folder / "study", windows, 64.0, WINDOW, 200)
    reading = {"modality": "bvp"}
    settings = Settings((representation,), WINDOW, reading=reading).check(model.recipe)
    (group,) = groups(scan(open_study(folder / "study")))
    began = time.perf_counter()
    chunks = [each for each in stream(group, settings, model.recipe, None) if isinstance(each, Chunk)]
    read = windows / (time.perf_counter() - began)
    jobs = [chunk.job() for chunk in chunks]
    with ProcessPoolExecutor(max(workers, 1), multiprocessing.get_context("spawn")) as pool:
        list(pool.map(draw_windows, *zip(*jobs[:4], strict=True)))  # the workers have started
        began = time.perf_counter()
        pictures = [each for some in pool.map(draw_windows, *zip(*jobs, strict=True)) for each in some]
        drawn = windows / (time.perf_counter() - began)
    levels = [each[0] for each in pictures if not isinstance(each, str)]
    embed_levels(model, levels[:8], 32)
    began = time.perf_counter()
    embed_levels(model, levels, 32)
    embedded = windows / (time.perf_counter() - began)

    class FirstPicture(engine.Observer):
        came = 0.0

        def embedded(self, windows: int, input_bytes: float) -> None:
            self.came = self.came or time.perf_counter()

    watch = FirstPicture()
    began = time.perf_counter()
    embed_study(
        folder / "study", folder / "out", representation, model=model, window=WINDOW, workers=workers, threads=threads,
        observer=watch, **reading,
    )  # fmt: skip
    ended = time.perf_counter()
    whole, steady = windows / (ended - began), windows / (ended - watch.came)  # with the workers' start, and without
    return {
        "windows": windows, "workers": workers, "threads": threads, "read and filtered": read, "drawn": drawn,
        "embedded": embedded, "end to end": whole, "end to end, once started": steady,
        "overlap efficiency": steady / min(read, drawn, embedded),
    }  # fmt: skip


def stub_out() -> None:
    """Blank pictures and constant vectors from here on, in this process."""

    def blank(call: Any, limits: Any, noise: Any, windows: Any) -> list[Any]:
        return [np.full((len(call.representations), 224, 224), 7, np.uint8) for _ in windows]

    def constant(model: Any, pictures: Iterator[Any], batch_size: int) -> Any:
        count = 0
        while batch := list(islice(pictures, batch_size)):
            count += len(batch)
        return np.ones((count, 192), np.float32)

    pipeline.draw_windows = blank  # type: ignore[assignment]
    engine.embed_levels = constant  # type: ignore[assignment]


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
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        if said.what == "speed":
            found = speed(folder, said.representation, said.workers, said.threads, said.windows or 400)
            print(json.dumps(found, indent=1))
        elif said.what == "many":
            windows = said.windows or 10_000_000
            found = in_fresh_process(folder, windows)
            print(json.dumps({**found, "every id once": ids_are_unique(folder / "out", windows)}, indent=1))
        else:
            for windows in said.counts if said.what == "memory" else [said.windows or 100_000]:
                place = folder / str(windows)
                place.mkdir()
                print(json.dumps(in_fresh_process(place, windows), indent=1))


if __name__ == "__main__":
    sys.exit(main())
