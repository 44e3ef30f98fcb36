"""Reading speed beside another checkout of this library, in turns and in one run.

`git worktree add /tmp/before 2b6f5ba; python benchmarks/reading.py --before /tmp/before` makes 1000 small CSV files and
one EDF of 1 GB and prints a part of RESULTS.md. One process of either checkout stays open; they read the same few files
one behind the other, first the one and then the other, so that a processor whose speed changes slows both. The ratio is
the median over all such pairs of CPU times, with its quartiles. Reading needs no compiled program, so a worktree is
enough.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

ROOT = Path(__file__).parents[1]
GROUP = 25  # files between two changes of turn
READER = """
import sys, time, warnings
from pathlib import Path
from tiny_biomoe.recordings import find, read
warnings.simplefilter("ignore")
for line in sys.stdin:
    root, begin = Path(line.strip()), time.process_time()
    samples = sum(each.signal.size for path in find(root)[0] for each in read(path, root=root))
    print(time.process_time() - begin, samples, flush=True)
"""


def small_files(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Tables as wearables write them: a time, EDA and a pulse, five minutes at 4 Hz."""
    times = np.arange(1200) / 4
    for number in range(count):
        eda, bvp = 2 + np.cumsum(rng.standard_normal(times.size)) / 50, rng.standard_normal(times.size)
        rows = "".join(f"{t:.2f},{a:.5f},{b:.5f}\n" for t, a, b in zip(times, eda, bvp, strict=True))
        (folder / f"s{number:04}.csv").write_text("time [s],EDA,BVP\n" + rows)


def large_edf(path: Path, gigabytes: float, rng: np.random.Generator) -> None:
    """Sixteen channels at 256 Hz, written record by record."""
    n, rate = 16, 256
    records = int(gigabytes * 1e9 / (2 * n * rate))

    def field(value: object, size: int) -> bytes:
        return str(value).encode().ljust(size)

    head = field(0, 8) + field("X X X X", 80) + field("Startdate X X X X", 80) + field("01.01.2010.00.00", 16)
    head += field(256 * (n + 1), 8) + field("", 44) + field(records, 8) + field(1, 8) + field(n, 4)
    names = ("Fp1", "Fp2", "F3", "F4", "F7", "F8", "C3", "C4", "T3", "T4", "P3", "P4", "O1", "O2", "Fz", "Cz")
    head += b"".join(field(f"EEG {name}", 16) for name in names) + b" " * 80 * n + field("uV", 8) * n
    head += field(-3200, 8) * n + field(3200, 8) * n + field(-32768, 8) * n + field(32767, 8) * n
    head += b" " * 80 * n + field(rate, 8) * n + b" " * 32 * n
    block = rng.integers(-999, 999, (64, n * rate), "<i2", True).astype("<i2")
    with path.open("wb") as file:
        file.write(head)
        for begin in range(0, records, len(block)):
            file.write(block[: records - begin].tobytes())


class Reader:
    """A process that reads folders with the library of one checkout."""

    def __init__(self, checkout: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._checkout = checkout
        self._process = subprocess.Popen([sys.executable, "-c", READER], env=environment, cwd=checkout, **pipes)

    def read(self, folder: Path) -> tuple[float, int]:
        """Seconds of CPU time, and how many samples there are."""
        print(folder, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().split()
        if len(answer) != 2:
            raise click.ClickException(f"{self._checkout}: the process ended before it had read {folder}")
        return float(answer[0]), int(answer[1])

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


@click.command()
@click.option("--before", type=click.Path(exists=True, path_type=Path), required=True, help="Another checkout.")
@click.option("--files", default=1000, show_default=True, help="Small CSV files.")
@click.option("--gigabytes", default=1.0, show_default=True, help="Of one EDF file.")
@click.option("--turns", default=5, show_default=True)
def main(before: Path, files: int, gigabytes: float, turns: int) -> None:
    """Read with both, and print a table for RESULTS.md."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        groups = [root / f"csv{first:05}" for first in range(0, files, GROUP)]
        for folder in (*groups, root / "edf"):
            folder.mkdir()
        for number, folder in enumerate(groups):
            small_files(folder, min(GROUP, files - number * GROUP), rng)
        large_edf(root / "edf" / "a.edf", gigabytes, rng)
        readers = [Reader(before), Reader(ROOT)]
        print(
            "| read | before, s | now, s | ratio, median | quartiles |", "|---|---|---|---|---|", sep="\n", flush=True
        )
        for name, folders in {f"{files} CSV files": groups, f"an EDF of {gigabytes:g} GB": [root / "edf"]}.items():
            for reader in readers:  # what is imported or cached at first
                reader.read(folders[0])
            taken = np.empty((turns, len(folders), 2))
            for turn in range(turns):
                for at, folder in enumerate(folders):
                    order = (0, 1) if (turn + at) % 2 else (1, 0)
                    counts = {}
                    for which in order:
                        taken[turn, at, which], counts[which] = readers[which].read(folder)
                    if counts[0] != counts[1]:
                        raise click.ClickException(f"{name}: the checkouts read {counts[0]} and {counts[1]} samples")
            seconds = np.median(taken.sum(1), axis=0)
            low, middle, high = np.quantile(taken[..., 1] / taken[..., 0], (0.25, 0.5, 0.75))
            print(
                f"| {name} | {seconds[0]:.3f} | {seconds[1]:.3f} | {middle:.3f} | {low:.3f} to {high:.3f} |", flush=True
            )
        for reader in readers:
            reader.close()


if __name__ == "__main__":
    main()
