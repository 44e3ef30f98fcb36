"""Run an embedding, kill it with SIGKILL at random moments, run it again, and compare with a run that nobody killed.

A fresh process that forks: the libraries are loaded once, and no thread of a test runner is alive when it forks.
`python killed_runs.py FOLDER KILLS stub|real`
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from stub_study import Stub, digests, make_study

from tiny_biomoe import TinyBioMoE
from tiny_biomoe.batch import embed_study


def run(study: Path, out: Path, model: object) -> int:
    """Embed the study; its exit code."""
    return embed_study(study, out, "waveform", model=lambda: model, window=10, shard_windows=3, threads=1).exit_code


def start(study: Path, out: Path, model: object) -> int:
    """A child that embeds the study; its process id."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        code = run(study, out, model)
    finally:
        os._exit(code)


def main(folder: Path, kills: int, network: str) -> None:
    """Print how often a run was killed and how many runs were completed in spite of it."""
    model = Stub() if network == "stub" else TinyBioMoE.from_pretrained()
    study, out = make_study(folder / "study"), folder / "out"
    run(study, out, model)  # warms this process up; all threads it started are gone when it returns
    expected = digests(out)
    shutil.rmtree(out)
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(start(study, out, model), 0)[1]) == 2
    whole = time.monotonic() - began
    assert digests(out) == expected
    shutil.rmtree(out)
    moments, killed, completed, middle = random.Random(20251123), 0, 0, 0
    while killed < kills or out.exists():
        child = start(study, out, model)
        if killed < kills:
            time.sleep(moments.uniform(0, whole / 2))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            killed += 1
            middle += any((out / "embeddings").glob("*.parquet")) if out.exists() else 0
            continue
        assert os.waitstatus_to_exitcode(status) == 2
        assert digests(out) == expected, "the bytes differ from those of a run that nobody killed"
        completed += 1
        shutil.rmtree(out)
    print(f"{whole:.2f} s a run: {killed} kills, {middle} of them after the first shard, {completed} runs completed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
