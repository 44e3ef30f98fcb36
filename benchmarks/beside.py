"""A grid search, and runs into a folder, beside another checkout: wall time, processor time and peak memory, in turn.

    python benchmarks/beside.py search --base OTHER [--windows 144] [--repetitions 3]
    python benchmarks/beside.py run    --base OTHER [--windows 400] [--repetitions 3]
    python benchmarks/beside.py many   --base OTHER [--windows 1000000] [--repetitions 3]
    python benchmarks/beside.py inputs --base OTHER [--windows 100000] [--repetitions 3]

`search`: 2 representations, 9 fits of a logistic regression behind the transformer. `run`: windows of 10 s of a pulse,
one thread, one drawing process; memory is that of the largest process of a run. `many`, and `inputs` with a file a
window: blank pictures and constant vectors, by `benchmarks/batch.py` of each tree. Both trees need native programs
(`pip install --no-deps -e .` in each builds them).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
SEARCH = """
import warnings; warnings.simplefilter("ignore")
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from tiny_biomoe.estimators import TinyBioMoEEmbedder
rng, t = np.random.default_rng(0), np.arange(640) / 64
labels = np.arange({windows}) % 2
signals = np.sin(2 * np.pi * (1 + labels[:, None]) * t + rng.uniform(0, 6, ({windows}, 1)))
signals = signals + 0.1 * rng.standard_normal(signals.shape)
steps = make_pipeline(TinyBioMoEEmbedder(64, "bvp", ["scalogram", "waveform"]), LogisticRegression())
GridSearchCV(steps, {{"logisticregression__C": [0.1, 1.0, 10.0]}}, cv=3, refit=False).fit(signals, labels)
"""
RUN = """
if __name__ == "__main__":
    from tiny_biomoe import embed_study
    embed_study({study!r}, {out!r}, window=10, fs=64, modality="bvp", workers=1, threads=1)
"""
MANY = """
import sys; sys.path.insert(0, {tree!r} + "/benchmarks")
if __name__ == "__main__":
    from batch import stub_out
    from tiny_biomoe import TinyBioMoE, embed_study
    stub_out(); model = TinyBioMoE.from_pretrained()
    embed_study({study!r}, {out!r}, model=model, window=10, stride=1, fs=4, modality="eda")
"""
CODE = {"search": SEARCH, "run": RUN, "many": MANY, "inputs": MANY}
WINDOWS = {"search": 144, "run": 400, "many": 1_000_000, "inputs": 100_000}
FILES = {"run": (64.0, 10.0, 200), "many": (4.0, 1.0, 10_000), "inputs": (4.0, 1.0, 1)}  # rate, stride, windows a file


def measured(code: str, tree: Path) -> tuple[float, float, float]:
    """Seconds of wall and of processor time and MiB at the peak, of a new process and of what it starts."""
    with tempfile.TemporaryDirectory() as name:
        script = Path(name) / "script.py"
        script.write_text(code)
        watcher = (
            "import json, resource, subprocess, sys, time; began = time.perf_counter();"
            "subprocess.run([sys.executable, sys.argv[1]], check=True, stdout=subprocess.DEVNULL);"
            "used = resource.getrusage(resource.RUSAGE_CHILDREN); spent = used.ru_utime + used.ru_stime;"
            "print(json.dumps([time.perf_counter() - began, spent, used.ru_maxrss / 1024]))"
        )
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        command = [sys.executable, "-c", watcher, str(script)]
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=True)
    seconds, spent, memory = json.loads(done.stdout)
    return seconds, spent, memory


def main() -> None:
    """Print a table of medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(CODE))
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--windows", type=int)
    parser.add_argument("--repetitions", type=int, default=3)
    chosen = parser.parse_args()
    windows = chosen.windows or WINDOWS[chosen.what]
    found: dict[str, list[tuple[float, float, float]]] = {"before": [], "now": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.what in FILES:
            sys.path.insert(0, str(ROOT / "benchmarks"))
            from batch import make_files

            make_files(folder / "study", windows, *FILES[chosen.what])
        for number in range(chosen.repetitions):
            for tree, which in ((chosen.base.resolve(), "before"), (ROOT, "now")):
                out = str(folder / f"{which}{number}")
                code = CODE[chosen.what].format(windows=windows, study=str(folder / "study"), out=out, tree=str(tree))
                found[which].append(measured(code, tree))
    print(f"{chosen.what}, {windows} windows, medians of {chosen.repetitions}")
    for place, unit in enumerate(("s", "s of processor time", "MiB at the peak of one process")):
        before, now = (median(each[place] for each in found[which]) for which in ("before", "now"))
        print(f"{before:.1f} to {now:.1f} {unit}: {now / before:.2f}")


if __name__ == "__main__":
    sys.exit(main())
