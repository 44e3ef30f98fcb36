"""Whether memory grows with the number of windows that one process embeds.

`python benchmarks/memory.py --windows 100000` embeds that many windows of 10 s, a thousand of one recording after the
other, in batches of 32, and prints resident memory as it goes on, as a Markdown table. On two cores it takes about a
quarter of an hour in bfloat16.

`python benchmarks/memory.py --recording 100000000` embeds a hundred windows of one long recording instead, 28 hours at
1 kHz, under both scales, each in a process of its own; it takes half a minute.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np

from tiny_biomoe.embedding import Embedder
from tiny_biomoe.inference.backends import BACKENDS

PART = 1000  # windows of one recording
FS, SECONDS = 64.0, 10
SCALES = "window", "recording"


@click.command()
@click.option(
    "--windows",
    type=click.IntRange(PART),
    default=100_000,
    show_default=True,
    help="In all; only whole thousands are embedded.",
)
@click.option("--precision", default="bfloat16", show_default=True)
@click.option("--backend", type=click.Choice(BACKENDS), help="As of `tiny-biomoe embed`.")
@click.option("--recording", type=int, help="Samples of one recording, instead of many windows.")
@click.option("--scale", type=click.Choice(SCALES), help="Of one recording, which this process embeds.")
def main(windows: int, precision: str, backend: str | None, recording: int | None, scale: str | None) -> None:
    """Embed, and print a section of RESULTS.md."""
    if recording and scale:
        return long_recording(recording, scale)
    if recording:
        print(
            "| samples | scale | the samples themselves, MiB | the most memory, MiB |",
            "|---|---|---|---|",
            sep="\n",
            flush=True,
        )
        for each in SCALES:
            subprocess.run([sys.executable, __file__, "--recording", str(recording), "--scale", each], check=True)
        return
    model = Embedder.from_pretrained(precision=precision, backend=backend)
    rng = np.random.default_rng(0)
    print("| windows | resident memory, MiB | the most so far, MiB |", "|---|---|---|", sep="\n")
    reported = 1
    for part in range(1, windows // PART + 1):
        t = np.arange(PART * SECONDS * FS) / FS
        beats = np.sin(2 * np.pi * rng.uniform(0.8, 2.0) * t) + 0.3 * rng.standard_normal(t.size)
        found = model.embed_windows(beats, FS, "bvp", window=SECONDS, stride=SECONDS, batch_size=32)
        if len(found.embeddings) != PART or not np.isfinite(found.embeddings).all():
            raise SystemExit(f"part {part}: {len(found.embeddings)} rows instead of {PART} finite ones")
        if part >= reported or part == windows // PART:
            now, most = resident("VmRSS"), resident("VmHWM")
            print(f"| {part * PART:,} | {now:.0f} | {most:.0f} |".replace(",", " "), flush=True)
            reported *= 2


def long_recording(samples: int, scale: str) -> None:
    """A hundred windows of one recording of float32, and the most memory that took."""
    model = Embedder.from_pretrained()
    signal = np.random.default_rng(0).standard_normal(samples, np.float32)
    stride = (samples / 1000 - SECONDS) / 99.5
    found = model.embed_windows(signal, 1000, "ecg", window=SECONDS, stride=stride, scale=scale)
    if len(found.embeddings) != 100 or not np.isfinite(found.embeddings).all():
        raise SystemExit(f"{len(found.embeddings)} rows instead of 100 finite ones")
    print(
        f"| {samples:,} | {scale} | {signal.nbytes / 2**20:.0f} | {resident('VmHWM'):.0f} |".replace(",", " "),
        flush=True,
    )


def resident(field: str) -> float:
    """Of this process, MiB; VmRSS is what it holds now, VmHWM the most it ever held."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


if __name__ == "__main__":
    main()
