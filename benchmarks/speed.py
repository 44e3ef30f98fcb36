"""What one vector costs: drawing and the network apart, memory, and the size of the wheel.

`python benchmarks/speed.py` prints a Markdown section for RESULTS.md. Repetitions of all cases are interleaved and
the medians reported, so that a noisy moment of the machine does not fall on one case alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch

from tiny_biomoe import REPRESENTATIONS, Recipe, TinyBioMoE, __version__
from tiny_biomoe.calls import Call
from tiny_biomoe.images import draw
from tiny_biomoe.runtime import embed_levels, to_pixels

ROOT = Path(__file__).parent.parent
CASES = (("ecg", 100.0, 1000), ("ecg", 1000.0, 10_000), ("eda", 4.0, 120), ("bvp", 64.0, 640), ("emg", 1000.0, 1500))


def medians(cases: dict[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Median milliseconds of each case, after one call to warm it up."""
    times: dict[str, list[float]] = defaultdict(list)
    for case in cases.values():
        case()
    for _ in range(repetitions):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: float(np.median(values)) for name, values in times.items()}


def drawing(repetitions: int) -> list[str]:
    """Lines of the table of rendering times."""
    rng = np.random.default_rng(0)
    cases: dict[str, Callable[[], object]] = {}
    for modality, fs, n in CASES:
        call = Call.check(Recipe(), fs, modality, list(REPRESENTATIONS))
        filtered, _ = call.prepare(np.cumsum(rng.standard_normal(n)))
        for name in REPRESENTATIONS:
            cases[f"{modality} {n} {name}"] = lambda f=filtered, c=call, r=name: draw(f, c.fs, c.edges, r, c.recipe)  # type: ignore[misc]
    found = medians(cases, repetitions)
    lines = ["| signal | " + " | ".join(REPRESENTATIONS) + " |", "|---|" + "---|" * len(REPRESENTATIONS)]
    for modality, fs, n in CASES:
        row = " | ".join(f"{found[f'{modality} {n} {name}']:.2f}" for name in REPRESENTATIONS)
        lines.append(f"| {modality}, {n} samples at {fs:g} Hz | {row} |")
    return lines


def network(repetitions: int) -> list[str]:
    """Lines of the table of network times, per image."""
    model = TinyBioMoE.from_pretrained()
    levels = np.random.default_rng(0).integers(0, 256, (32, 224, 224), np.uint8)
    batch = to_pixels(torch.from_numpy(levels), "cpu")

    def together() -> None:
        with torch.inference_mode():
            model(batch)

    found = medians(
        {
            "alone": lambda: embed_levels(model, levels[:1], 32),
            "by 32": lambda: embed_levels(model, levels, 32),
            "as one": together,
        },
        repetitions,
    )
    alone, by_32, as_one = found["alone"], found["by 32"] / 32, found["as one"] / 32
    return [
        "| images | ms an image | ratio to one image alone |",
        "|---|---|---|",
        f"| one, as `embed` runs it | {alone:.1f} | 1 |",
        f"| 32, as `embed` runs them | {by_32:.1f} | {by_32 / alone:.2f} |",
        f"| 32 as one batch, `model(pixels)` | {as_one:.1f} | {as_one / alone:.2f} |",
    ]


def memory() -> list[str]:
    """Peak resident memory of a process that embeds one signal, and of one that embeds many windows."""
    program = (
        "import numpy as np, resource, tiny_biomoe as t, sys\n"
        "m = t.TinyBioMoE.from_pretrained()\n"
        "x = np.random.default_rng(0).standard_normal(int(sys.argv[1]) * 100)\n"
        "m.embed_windows(x, 100, 'eda', window=10, stride=1)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    lines = ["| windows | peak memory, MiB |", "|---|---|"]
    for seconds in (10, 100, 500):
        done = subprocess.run([sys.executable, "-c", program, str(seconds)], capture_output=True, text=True, check=True)
        lines.append(f"| {seconds - 9} | {float(done.stdout):.0f} |")
    return lines


def wheel() -> str:
    """Size of the wheel."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            folder,
            str(ROOT),
        ]
        subprocess.run(command, check=True)
        (file,) = Path(folder).glob("*.whl")
        return f"{file.stat().st_size / 1e6:.1f} MB"


@click.command()
@click.option("--repetitions", default=15, show_default=True)
def main(repetitions: int) -> None:
    """Measure, and print a section of RESULTS.md."""
    print(
        f"tiny-biomoe {__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads",
        end="\n\n",
    )
    print("Drawing, ms an image (median; filtering not counted):\n", *drawing(repetitions * 2), sep="\n")
    print("\nNetwork, float32:\n", *network(repetitions), sep="\n")
    print("\nMemory of a whole process, torch included:\n", *memory(), sep="\n")
    print(f"\nWheel: {wheel()}.")


if __name__ == "__main__":
    main()
