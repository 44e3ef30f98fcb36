"""Reading speed beside another checkout of this library, in turns and in one run.

`git worktree add /tmp/before 2b6f5ba; python benchmarks/reading.py --before /tmp/before` makes 1000 small CSV files and
one EDF of 1 GB, reads them in processes of either checkout in turn, and prints a part of RESULTS.md: seconds of CPU
time, the least of three in each process, and the ratio of the smallest. Reading needs no compiled program, so a
worktree is enough.
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
READ = """
import sys, time, warnings
from pathlib import Path
from tiny_biomoe.recordings import find, read
warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
paths, _ = find(folder)
read(paths[0])
taken = []
for _ in range(3):
    begin = time.process_time()
    found, _ = find(folder)
    samples = sum(each.signal.size for path in found for each in read(path, root=folder))
    taken.append(time.process_time() - begin)
print(min(taken), samples)
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


def seconds(checkout: Path, folder: Path) -> tuple[float, int]:
    """What reading a folder takes in a new process of a checkout, its imports apart, and how many samples there are."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder)], env=environment, cwd=checkout, capture_output=True, text=True
    )
    if done.returncode:
        raise click.ClickException(f"{checkout}: {done.stderr[-2000:]}")
    taken, samples = done.stdout.split()[-2:]
    return float(taken), int(samples)


@click.command()
@click.option("--before", type=click.Path(exists=True, path_type=Path), required=True, help="Another checkout.")
@click.option("--files", default=1000, show_default=True, help="Small CSV files.")
@click.option("--gigabytes", default=1.0, show_default=True, help="Of one EDF file.")
@click.option("--turns", default=5, show_default=True)
def main(before: Path, files: int, gigabytes: float, turns: int) -> None:
    """Read with both, and print a table for RESULTS.md."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        made = {f"{files} CSV files": Path(place, "csv"), f"an EDF of {gigabytes:g} GB": Path(place, "edf")}
        for folder in made.values():
            folder.mkdir()
        small_files(Path(place, "csv"), files, rng)
        large_edf(Path(place, "edf", "a.edf"), gigabytes, rng)
        print("| read | before, s | now, s | ratio of the smallest |", "|---|---|---|---|", sep="\n", flush=True)
        for name, folder in made.items():
            taken: dict[Path, list[float]] = {before: [], ROOT: []}
            counts = set()
            for turn in range(turns):
                for checkout in list(taken)[:: 1 if turn % 2 else -1]:
                    each, samples = seconds(checkout, folder)
                    taken[checkout].append(each)
                    counts.add(samples)
            if len(counts) > 1:
                raise click.ClickException(f"{name}: the checkouts read {sorted(counts)} samples")
            one, two = (sorted(each) for each in taken.values())
            shown = (f"{each[0]:.3f} to {each[-1]:.3f}" for each in (one, two))
            print(f"| {name} | {' | '.join(shown)} | {two[0] / one[0]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
