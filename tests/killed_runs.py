"""Run an embedding, kill it with SIGKILL at random moments, run it again, and compare with a run that nobody killed.

A fresh process that forks: the libraries are loaded once, and no thread of a test runner is alive when it forks. The
study makes several groups of files, with two modalities and two representations. Some of the runs that are killed draw
in a process of their own, and are gone on with by one that does not, or the other way round.

`python -c "from killed_runs import main; main(FOLDER, KILLS, 'stub' or 'real')"`: the drawing process would load the
libraries of a script anew.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import traceback
from pathlib import Path

from stub_study import Stub, digests, make_study
from toy_networks import NARROW, randomised

from tiny_biomoe.batch import plan as shard_plan
from tiny_biomoe.batch.run import embed_study

DRAWING = 12  # of so many runs that are killed one draws in a process of its own
GROUPS = 3


def run(study: Path, out: Path, model: object, workers: int) -> int:
    """Embed the study; its exit code."""
    summary = embed_study(
        study, out, ["waveform", "psd"], model=lambda: model, window=10, shard_windows=3, threads=1, workers=workers
    )
    return summary.exit_code


def start(study: Path, out: Path, model: object, workers: int) -> int:
    """A child that embeds the study; its process id."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        code = run(study, out, model, workers)
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def timed(study: Path, out: Path, model: object, workers: int, expected: dict[str, str]) -> float:
    """Seconds of a whole run, which starts from nothing and leaves nothing."""
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(start(study, out, model, workers), 0)[1]) == 2
    took = time.monotonic() - began
    assert digests(out) == expected, f"the bytes of a run with workers={workers} are others"
    shutil.rmtree(out)
    return took


def main(folder: str, kills: int, network: str, seed: int = 20251123) -> None:
    """Print how often runs were killed, of which kind, and how many were completed in spite of it."""
    shard_plan.GROUP_FILES = 2
    model = Stub() if network == "stub" else randomised(**NARROW)
    study, out = make_study(Path(folder) / "study"), Path(folder) / "out"
    run(study, out, model, 0)  # warms this process up; all threads it started are gone when it returns
    expected = digests(out)
    assert len({name[:33] for name in expected if name.startswith("embeddings")}) >= GROUPS
    shutil.rmtree(out)
    whole = [timed(study, out, model, workers, expected) for workers in (0, 1)]
    moments, killed, drawing, middle, completed = random.Random(seed), 0, 0, 0, 0
    while killed < kills or out.exists():
        workers = int(killed < kills and killed % DRAWING == DRAWING // 2)
        child = start(study, out, model, workers)
        if killed < kills:
            time.sleep(moments.uniform(0, whole[workers] / (1 if workers else 2)))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            killed += 1
            drawing += workers
            middle += any((out / "embeddings").glob("*.parquet")) if out.exists() else 0
            continue
        assert os.waitstatus_to_exitcode(status) == 2
        assert digests(out) == expected, "the bytes differ from those of a run that nobody killed"
        completed += 1
        shutil.rmtree(out)
    print(
        f"{whole[0]:.2f} s a run, {whole[1]:.2f} with a drawing process: {killed} kills, {drawing} of them of a run "
        f"with one, {middle} after the first shard, {completed} runs completed"
    )
