"""What one vector costs: drawing, network, the whole way, a cold start, memory, the wheel; beside limit and baselines.

`python benchmarks/speed.py --picture benchmarks/speed.png` prints a Markdown section for RESULTS.md and draws it.
Repetitions of all cases of a table are interleaved and the medians reported, so that a noisy moment of the machine
does not fall on one case alone; take the ratios. On a quiet machine of two cores it takes less than ten minutes.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
import speed_baselines as baselines
import torch
from speed_baselines import GFLOP, SIDE, Case

from tiny_biomoe import REPRESENTATIONS, Recipe, TinyBioMoE, __version__
from tiny_biomoe.images.rendering import draw
from tiny_biomoe.inference.threads import use_threads
from tiny_biomoe.inference.torch_backend import to_pixels
from tiny_biomoe.model import embed_levels
from tiny_biomoe.signals.request import Call

ROOT = Path(__file__).parent.parent
DRAWN = (("ecg", 100.0, 1000), ("ecg", 1000.0, 10_000), ("eda", 4.0, 120), ("bvp", 64.0, 640), ("emg", 1000.0, 1500))
BATCH = 32
BACKENDS = {
    "float32": ("float32", None),
    "bfloat16": ("bfloat16", None),
    "float32, PyTorch": ("float32", "torch"),
}


def medians(cases: dict[str, Case], repetitions: int) -> dict[str, float]:
    """Median milliseconds of each case, after one call to warm it up.

    Right before it is timed each case runs once more: what the case before it left behind (a cold cache, a library's
    threads that look for more work) is nobody's cost.
    """
    times: dict[str, list[float]] = defaultdict(list)
    for case in cases.values():
        case()
    for _ in range(repetitions):
        for name, case in cases.items():
            case()
            start = time.perf_counter()
            case()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: float(np.median(values)) for name, values in times.items()}


def machine() -> str:
    """What the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")] or [platform.processor()]
    return (
        f"tiny-biomoe {__version__}, torch {torch.__version__} with {torch.get_num_threads()} threads, numpy "
        f"{np.__version__}, Python {platform.python_version()}; {names[0]}, {os.cpu_count()} cores, "
        f"{torch.backends.cpu.get_cpu_capability()}, load {os.getloadavg()[0]:.1f} at the start"
    )


def present(*packages: str) -> bool:
    """Whether a baseline can run; a printed line where not."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        print(f"skipped: {', '.join(missing)} not installed", file=sys.stderr)
    return not missing


def drawing(repetitions: int) -> list[str]:
    """Lines of the table of rendering times."""
    rng = np.random.default_rng(0)
    cases: dict[str, Case] = {}
    for modality, fs, n in DRAWN:
        call = Call.check(Recipe(), fs, modality, list(REPRESENTATIONS))
        filtered, _ = call.prepare(np.cumsum(rng.standard_normal(n)))
        for name in REPRESENTATIONS:
            cases[f"{modality} {n} {name}"] = lambda f=filtered, c=call, r=name: draw(f, c.fs, c.edges, r, c.recipe)  # type: ignore[misc]
    with use_threads(1):
        found = medians(cases, repetitions)
    lines = ["| signal | " + " | ".join(REPRESENTATIONS) + " |", "|---|" + "---|" * len(REPRESENTATIONS)]
    for modality, fs, n in DRAWN:
        row = " | ".join(f"{found[f'{modality} {n} {name}']:.2f}" for name in REPRESENTATIONS)
        lines.append(f"| {modality}, {n} samples at {fs:g} Hz | {row} |")
    return lines


def models() -> dict[str, TinyBioMoE]:
    """One model a precision and backend."""
    return {name: TinyBioMoE.from_pretrained(precision=p, backend=b) for name, (p, b) in BACKENDS.items()}


def network_cases(engines: dict[str, TinyBioMoE]) -> tuple[dict[str, Case], dict[str, int]]:
    """What runs the network, and on how many images."""
    levels = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224), np.uint8)
    pixels = to_pixels(torch.from_numpy(levels), "cpu")
    plain = torch.inference_mode()(engines["float32"].forward)
    cases: dict[str, Case] = baselines.limits()
    images = dict.fromkeys(cases, 0)

    def add(name: str, n: int, run: Callable[[slice], object]) -> None:
        """All images at once; or, of `n` = 1, the same ones one after the other, each by itself."""
        calls = [slice(i, i + n) for i in range(0, BATCH, n)]
        name = f"{name}, {'one alone' if n == 1 else n}"
        cases[name], images[name] = lambda: [run(call) for call in calls], n * len(calls)

    for n in (1, BATCH):
        add("plain network, eager", n, lambda some: plain(pixels[some]))
        for name, model in engines.items():
            add(name, n, lambda some, m=model: embed_levels(m, levels[some], BATCH))  # type: ignore[misc]
    if present("onnx", "onnxruntime"):
        from tiny_biomoe.inference.onnx_backend import kept_onnx
        from tiny_biomoe.weights import load

        data, given = kept_onnx(load().tensors, load().config), pixels.contiguous().numpy()
        runtimes: dict[str, Callable[[bytes, int], Callable[[np.ndarray], object]]]
        runtimes = {"ONNX Runtime": baselines.onnxruntime_network}
        if present("openvino"):
            runtimes["OpenVINO"] = baselines.openvino_network
        for name, start in runtimes.items():
            run = start(data, torch.get_num_threads())
            for n in (1, BATCH):
                add(name, n, lambda some, run=run: run(given[some]))  # type: ignore[misc]
    return cases, images


def network(repetitions: int, engines: dict[str, TinyBioMoE]) -> tuple[list[str], dict[str, float]]:
    """Lines of the table of network times, per image, and the times."""
    cases, images = network_cases(engines)
    found = medians(cases, repetitions)
    limit = {name: found[name] * GFLOP / (2 * SIDE**3 / 1e9) for name, n in images.items() if n == 0}
    lines = [
        "| network, images | ms an image | times the float32 limit | times the bfloat16 limit |",
        "|---|---|---|---|",
    ]
    per_image = limit | {name: found[name] / n for name, n in images.items() if n}
    for name, ms in per_image.items():
        ratios = " | ".join(f"{ms / limit[f'limit {precision}']:.2f}" for precision in ("float32", "bfloat16"))
        lines.append(f"| {name} | {ms:.1f} | {ratios} |")
    for name in engines:
        ratio = per_image[f"{name}, one alone"] / per_image[f"{name}, {BATCH}"]
        lines.append(f"| {name}: one alone over one of {BATCH} | {ratio:.2f} | | |")
    return lines, per_image


def whole_way(repetitions: int, engines: dict[str, TinyBioMoE]) -> list[str]:
    """Lines of the table of the way from 32 signals of 1000 samples to 32 vectors, scalogram."""
    signals = np.cumsum(np.random.default_rng(0).standard_normal((BATCH, 1000)), axis=1)
    cases: dict[str, Case] = {}
    if present("matplotlib"):
        for n in (1, BATCH):
            name = f"drawn by matplotlib, saved as PNG, opened; plain network, {n} at a time"
            cases[name] = lambda n=n: baselines.authors_route(engines["float32"], signals, 100.0, n)  # type: ignore[misc]
    routes = list(cases)
    for name, model in engines.items():
        cases[f"embed, {name}"] = lambda m=model: m.embed(signals, 100, "ecg", batch_size=BATCH)  # type: ignore[misc]
    if present("aeon"):
        cases["MiniRocket features (aeon)"] = baselines.minirocket(signals, torch.get_num_threads())
    if present("tsfel"):
        cases["all features of TSFEL"] = baselines.tsfel_features(signals, 100.0)
    found = {name: ms / BATCH for name, ms in medians(cases, repetitions).items()}
    quickest = min((found[name] for name in routes), default=float("nan"))
    lines = [
        "| 32 signals of 1000 samples to features | ms a signal | quicker than the quicker drawn route |",
        "|---|---|---|",
    ]
    return [*lines, *(f"| {name} | {ms:.1f} | {quickest / ms:.1f} x |" for name, ms in found.items())]


def cold(repetitions: int) -> list[str]:
    """Lines of the table of what a new process needs until its first vector."""
    first = "import numpy as np, tiny_biomoe as t; t.embed(np.sin(np.arange(1000.0) / 16), fs=100, modality='{}')"
    programs = {"import torch": "import torch", "import tiny_biomoe": "import tiny_biomoe"}
    programs |= {"first vector, ECG": first.format("ecg"), "first vector, BVP (filtered)": first.format("bvp")}
    cases: dict[str, Case] = {}
    for name, program in programs.items():
        cases[name] = lambda p=program: subprocess.run([sys.executable, "-c", p], check=True)  # type: ignore[misc]
    found = medians(cases, repetitions)
    allowed = 1.5 * found["import torch"] + 500
    lines = ["| a new process | ms |", "|---|---|", *(f"| {name} | {ms:.0f} |" for name, ms in found.items())]
    return [*lines, f"| (1.5 times `import torch`, and half a second) | {allowed:.0f} |"]


def memory() -> list[str]:
    """Peak resident memory of a process that imports NumPy, that embeds one window, and that embeds many."""
    program = (
        "import numpy as np, re, sys\n"
        "if n := int(sys.argv[1]):\n"
        "    from tiny_biomoe.embedding import Embedder\n"
        "    m = Embedder.from_pretrained(precision=sys.argv[2])\n"
        "    x = np.random.default_rng(0).standard_normal((n + 9) * 100)\n"
        "    m.embed_windows(x, 100, 'eda', window=10, stride=1, batch_size=32)\n"
        "status = open('/proc/self/status').read()\n"  # getrusage would count this process, which starts it
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) / 1024)\n"
    )
    lines = ["| windows | precision | peak memory, MiB |", "|---|---|---|"]
    for n, precision in ((0, "float32"), (1, "float32"), (100, "float32"), (500, "float32"), (100, "bfloat16")):
        command = [sys.executable, "-c", program, str(n), precision]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        lines.append(f"| {n or 'NumPy alone'} | {precision if n else ''} | {float(done.stdout):.0f} |")
    return lines


def wheel() -> str:
    """Size of the wheel."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder]
        subprocess.run([*command, str(ROOT)], check=True)
        (file,) = Path(folder).glob("*.whl")
        return f"{file.stat().st_size / 1e6:.1f} MB"


def draw_picture(per_image: dict[str, float], path: Path) -> None:
    """Bars of the network's times, an image, with the limits as lines."""
    from matplotlib.figure import Figure

    bars = {name: ms for name, ms in per_image.items() if not name.startswith("limit")}
    figure = Figure(figsize=(8, 0.32 * len(bars) + 1), layout="constrained")
    axes = figure.add_subplot()
    own = ["#21918c" if name.startswith(tuple(BACKENDS)) else "#b0b0b0" for name in bars]
    axes.barh(list(bars), list(bars.values()), color=own)
    for name, style in (("limit float32", "-"), ("limit bfloat16", ":")):
        axes.axvline(per_image[name], color="#440154", linestyle=style, label=name)
    axes.invert_yaxis()
    axes.set_xlabel("ms an image (median)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=90)


@click.command()
@click.option("--repetitions", default=7, show_default=True, help="Of each case; drawing gets four times as many.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the network's times, .png")
def main(repetitions: int, picture: Path | None) -> None:
    """Measure, and print a section of RESULTS.md."""
    warnings.simplefilter("ignore")
    started = time.perf_counter()
    engines = models()
    print(machine(), end="\n\n")
    computed = [f"`{name}` by {model.frozen().backend.program or 'PyTorch'}" for name, model in engines.items()]
    print(f"Computed: {'; '.join(computed)}.", end="\n\n")
    print("Drawing on one core, ms an image (median; filtering not counted):\n", *drawing(repetitions * 4), sep="\n")
    lines, per_image = network(repetitions, engines)
    print(f"\nNetwork ({GFLOP} GFLOP an image; the limit is a {SIDE}^3 matrix product's rate):\n", *lines, sep="\n")
    print("\nThe whole way:\n", *whole_way(max(3, repetitions // 2), engines), sep="\n")
    print("\nA cold start:\n", *cold(max(3, repetitions // 2)), sep="\n")
    print("\nMemory of a whole process:\n", *memory(), sep="\n")
    packages = [name for name in ("onnxruntime", "openvino", "aeon", "tsfel") if importlib.util.find_spec(name)]
    print(f"\nWheel: {wheel()}. Baselines: {', '.join(f'{name} {version(name)}' for name in packages)}.", end=" ")
    print(f"Measured in {time.perf_counter() - started:.0f} s.")
    if picture is not None:
        draw_picture(per_image, picture)


if __name__ == "__main__":
    main()
