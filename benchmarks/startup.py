"""What a new process costs until its first vector, and what commands cost, side by side with another checkout.

`python benchmarks/startup.py --base ../other` runs each case in this tree and in the other in turn, with the same
Python, and prints CPU time, wall time and peak memory as a table of medians and ratios; the memory of the last two
cases is that of the process that draws or embeds, not of the one that was started. A second table has the network and
the drawing, the best of each tree. Both trees need their native
programs (`pip install --no-deps -e .` in each builds them).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click

ROOT = Path(__file__).parent.parent
FIRST = "import numpy as np, tiny_biomoe as t; t.embed(np.sin(np.arange(1000.0) / 16), fs=100, modality={!r})"
STUDY = """
if __name__ == "__main__":
    import json, resource, shutil, threading, time
    from pathlib import Path
    from tiny_biomoe import embed_study
    heights = {}
    def watch():
        while True:
            for status in Path("/proc").glob("[0-9]*/status"):
                try:
                    facts = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
                    line = (status.parent / "cmdline").read_bytes().decode()
                except OSError:
                    continue
                if facts["Name"].strip().startswith("ray::_Actor") or "ray::_Actor" in line:
                    heights[status] = int(facts.get("VmHWM", "0 kB").split()[0])
            time.sleep(0.05)
    engine = None
    if %(ray)r:
        from tiny_biomoe.cluster import OnRay
        engine = OnRay(actors=1)
        threading.Thread(target=watch, daemon=True).start()
    embed_study(%(recording)r, %(out)r, window=5, workers=%(workers)r, engine=engine)
    shutil.rmtree(%(out)r)
    print(max(heights.values()) if engine else resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
SPEED = """
import json, time
import numpy as np
from tiny_biomoe import REPRESENTATIONS, TinyBioMoE, render
images = list(np.random.default_rng(0).integers(0, 256, (32, 224, 224, 3), np.uint8))
signal = np.random.default_rng(0).standard_normal(1000)
def best(call, times):
    call()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return 1000 * min(seconds)
found = {}
for precision in ("float32", "bfloat16"):
    model = TinyBioMoE.from_pretrained(precision=precision)
    found[f"{precision}, one alone"] = best(lambda: model.embed_images(images[0]), 10)
    found[f"{precision}, 32"] = best(lambda: model.embed_images(images), 3) / 32
for kind in REPRESENTATIONS:
    found[f"drawing, {kind}"] = best(lambda: render(signal, 100, "ecg", kind), 50)
print(json.dumps(found))
"""
RECORDING = str(ROOT / "examples" / "recordings" / "ecg.csv")


class Cost(NamedTuple):
    """Of one process: seconds of CPU and of wall time, and MiB at its peak."""

    cpu: float
    wall: float
    memory: float


def cases(folder: str) -> dict[str, list[str]]:
    """The arguments of Python for each case."""
    command = ["-m", "tiny_biomoe"]
    study = {"recording": RECORDING, "out": f"{folder}/study"}
    return {
        "first vector, ECG": ["-c", FIRST.format("ecg")],
        "first vector, BVP (filtered)": ["-c", FIRST.format("bvp")],
        "embed FILE -o out.npz": [*command, "embed", RECORDING, "-o", f"{folder}/out.npz"],
        "weights info": [*command, "weights", "info"],
        "selfcheck": [*command, "selfcheck"],
        "--help": [*command, "--help"],
        "show": [*command, "show", RECORDING, "-o", f"{folder}/out.png"],
        "embed --dry-run": [*command, "embed", RECORDING, "--dry-run"],
        "a batch worker's memory": ["-c", STUDY % {**study, "ray": False, "workers": 2}],
        "a Ray actor's memory": ["-c", STUDY % {**study, "ray": True, "workers": 0}],
    }


def cost(tree: Path, arguments: list[str]) -> Cost:
    """Of one process that imports the package from a tree."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    written, errors = (stream.read().decode() for stream in (process.stdout, process.stderr) if stream)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{tree}: python {' '.join(arguments)} failed:\n{errors}")
    height = int(written.split()[-1]) if arguments[-1].startswith(STUDY[:20]) else used.ru_maxrss
    return Cost(used.ru_utime + used.ru_stime, time.perf_counter() - began, height / 1024)


def speeds(trees: list[Path], repetitions: int) -> dict[str, list[list[float]]]:
    """Milliseconds an image by name, tree and repetition, the trees in turn."""
    found: dict[str, list[list[float]]] = {}
    for _ in range(repetitions):
        for number, tree in enumerate(trees):
            environment = {**os.environ, "PYTHONPATH": str(tree)}
            done = subprocess.run(
                [sys.executable, "-c", SPEED], cwd=tree, env=environment, check=True, capture_output=True, text=True
            )
            for name, value in json.loads(done.stdout).items():
                found.setdefault(name, [[] for _ in trees])[number].append(value)
    return found


@click.command()
@click.option("--base", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--repetitions", default=5, show_default=True, help="Of each case in each tree, after one to warm up.")
def main(base: Path, repetitions: int) -> None:
    """Measure, and print a table for RESULTS.md."""
    print(
        "| a new process | CPU, s | ratio | wall, ratio | peak memory, MiB | ratio |",
        "|---|---|---|---|---|---|",
        sep="\n",
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in cases(folder).items():
            found: dict[Path, list[Cost]] = {base.resolve(): [], ROOT.resolve(): []}
            for _ in range(repetitions + 1):
                for tree, costs in found.items():
                    costs.append(cost(tree, arguments))
            before, now = (Cost(*map(median, zip(*costs[1:], strict=True))) for costs in found.values())
            print(
                f"| {name} | {before.cpu:.2f} to {now.cpu:.2f} | {now.cpu / before.cpu:.2f} "
                f"| {now.wall / before.wall:.2f} "
                f"| {before.memory:.0f} to {now.memory:.0f} | {now.memory / before.memory:.2f} |",
                flush=True,
            )
    print("", "| ms an image | before | now | ratio |", "|---|---|---|---|", sep="\n")
    for name, times in speeds([base.resolve(), ROOT.resolve()], repetitions).items():
        before, now = map(min, times)
        print(f"| {name} | {before:.2f} | {now:.2f} | {now / before:.2f} |", flush=True)


if __name__ == "__main__":
    main()
