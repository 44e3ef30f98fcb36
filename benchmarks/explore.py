"""Speed and memory of `tiny_biomoe.explore` beside what it rests on.

    python -m benchmarks.explore map        a map's projection beside umap-learn itself, 100 000 windows of 192 numbers
    python -m benchmarks.explore pictures   pictures a second beside `render`, two processes each
    python -m benchmarks.explore page       size of a map of 50 000 windows; seconds until Chromium drew it
    python -m benchmarks.explore search     seconds a query and peak memory, 1 000 000 windows, two threads

The studies are made up: vectors around 50 centres, and recordings of a real ECG (pywt.data) put end to end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from tiny_biomoe.batch.shards import FORMAT, MANIFEST, SHARDS, Row, Shard, columns, row_id, shard_name, to_parquet
from tiny_biomoe.config import Recipe
from tiny_biomoe.sealed_files import sealed, sha256_of

SEED, WIDTH, SHARD = 20251123, 192, 2048
FS, WINDOW = 360.0, 5.0  # of the ECG


def made_vectors(n: int) -> np.ndarray:
    """Vectors around 50 centres, (n, 192) float32."""
    random = np.random.default_rng(SEED)
    centres = 3 * random.standard_normal((50, WIDTH), np.float32)
    return centres[random.integers(0, 50, n)] + random.standard_normal((n, WIDTH), np.float32)


def made_folder(out: Path, n: int) -> None:
    """A folder of embeddings of n windows, 1000 a recording, as `embed_study` writes it."""
    (out / SHARDS).mkdir(parents=True)
    vectors, shards = made_vectors(n), []
    schema = columns({"scalogram": WIDTH}, [])
    for number, first in enumerate(range(0, n, SHARD)):
        rows = [_row(place) for place in range(first, min(first + SHARD, n))]
        shard = Shard(shard_name("0" * 16, number), rows=rows, provenance={"ecg 360 Hz": {}})
        path = out / SHARDS / shard.name
        path.write_bytes(to_parquet(shard, {"scalogram": vectors[first : first + SHARD]}, schema))
        shards.append({"name": shard.name, "sha256": sha256_of(path), "bytes": path.stat().st_size, "rows": len(rows)})
    arguments = {"representations": ["scalogram"], "further": [], "window": WINDOW, "stride": None, "short": "error"}
    arguments |= {"image": {"scale": "window"}, "reading": {}}
    weights = dict.fromkeys(("weights", "weights_sha256", "tensors_sha256"), "made up")
    facts = {"weights": weights, "recipe": asdict(Recipe()), "arguments": arguments}
    manifest = {"format": FORMAT, "fingerprint": facts, "summary": {}, "shards": shards}
    (out / MANIFEST).write_bytes(sealed(manifest))


def _row(place: int) -> Row:
    source, start = f"S{place // 1000:04d}/ECG.csv", WINDOW * (place % 1000)
    subject, label = f"S{place // 1000:04d}", ("rest", "task")[place % 2]
    return Row(
        row_id(source, "ECG", start), source, "ECG", "ecg", subject, label, start, start + WINDOW, FS, None, 0, 0, 0
    )


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the clock and of the processors that a call takes."""
    clock, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - processor


def measure_map(n: int) -> dict[str, Any]:
    """The projection, with its neighbours, and what umap-learn takes with the same settings.

    What the latter compiles for few windows counts, for it does so in every process; for many both need it, and it is
    compiled before.
    """
    from umap import UMAP

    from tiny_biomoe.explore import projection
    from tiny_biomoe.explore.projection import NEIGHBOURS, project

    vectors = made_vectors(n)
    project(vectors[:500])
    if n > projection.EXACT:
        projection._close_neighbours(vectors[:500], SEED)
    ours = timed(lambda: project(vectors, SEED, "umap", neighbours=True))
    settings = {"n_neighbors": NEIGHBOURS, "metric": "cosine", "random_state": SEED, "n_jobs": 1}
    theirs = timed(lambda: UMAP(**settings).fit_transform(vectors))
    return {
        "windows": n, "ours_s": ours[0], "umap_s": theirs[0], "ratio": ours[0] / theirs[0],
        "ratio_of_processor_time": ours[1] / theirs[1],
    }  # fmt: skip


def measure_pictures(n: int) -> dict[str, Any]:
    """Pictures a second, beside `render` of the same windows in as many processes."""
    import pywt

    from tiny_biomoe import embed_study, load_embeddings
    from tiny_biomoe.explore.folder import EmbeddingFolder
    from tiny_biomoe.explore.pictures import draw_pictures

    with tempfile.TemporaryDirectory() as name:
        study, out = Path(name) / "study", Path(name) / "out"
        study.mkdir()
        a_file = 250  # windows
        ecg = np.resize(pywt.data.ecg().astype(float), round(a_file * WINDOW * FS))
        for number in range(n // a_file):
            noisy = ecg + np.random.default_rng(number).standard_normal(ecg.size)
            np.savetxt(study / f"ecg{number}.csv", noisy, "%.3f", header="ECG", comments="")
        embed_study(study, out, window=WINDOW, fs=FS, modality="ecg", workers=1)
        ids, _, table = load_embeddings(out)
        folder, sources = EmbeddingFolder.open(out), table["source"].to_pylist()
        sizes: list[int] = []
        started = time.perf_counter()
        for each in draw_pictures(folder, ids, sources, ["scalogram"], workers=2):
            sizes.append(len(each.images[0]))
        ours = time.perf_counter() - started
        started = time.perf_counter()
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            list(pool.map(_render, [ecg] * (n // a_file)))
        theirs = time.perf_counter() - started
    return {
        "windows": len(ids), "ours_per_s": len(ids) / ours, "render_per_s": n / theirs, "ratio": theirs / ours,
        "largest_bytes": max(sizes),
    }  # fmt: skip


def _render(signal: np.ndarray) -> None:
    from tiny_biomoe import render

    size = round(WINDOW * FS)
    for start in range(0, len(signal), size):
        render(signal[start : start + size], FS, "ecg", "scalogram")


def measure_page(n: int) -> dict[str, Any]:
    """The page of a map in headless Chromium, opened from the disk."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    from tiny_biomoe.explore import write_map

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for switch in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(switch)
    with tempfile.TemporaryDirectory() as name:
        made_folder(Path(name) / "out", n)
        write_map(Path(name) / "out", Path(name) / "map", sample=n, method="pca", color="subject", pictures=False)
        page = Path(name) / "map" / "map.html"
        driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
        wait = WebDriverWait(driver, 60, 0.01)
        try:
            started = time.perf_counter()
            driver.get(page.as_uri())
            wait.until(lambda _: driver.execute_script("return document.body.dataset.ready"))
            driver.get_screenshot_as_png()  # waits for a drawn frame
            drawn = time.perf_counter() - started
            box = driver.find_element("id", "plot")
            started = time.perf_counter()
            ActionChains(driver, 0).move_to_element_with_offset(box, 3, 3).move_to_element(box).perform()
            wait.until(lambda _: driver.execute_script("return !document.getElementById('tip').hidden"))
            hovered = time.perf_counter() - started
        finally:
            driver.quit()
        return {"windows": n, "bytes": page.stat().st_size, "drawn_s": drawn, "hover_s": hovered}


def measure_search(n: int, queries: int = 20) -> dict[str, Any]:
    """Seconds a query and peak memory, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        made_folder(out, n)
        command = [
            sys.executable,
            "-m",
            "benchmarks.explore",
            "_search",
            "--folder",
            str(out),
            "--queries",
            str(queries),
        ]
        threads = {name: "2" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def search_here(folder: Path, queries: int) -> dict[str, Any]:
    """Open a folder and search it, with the memory that this process took at its height."""
    from tiny_biomoe.explore.neighbours import SearchableWindows

    started = time.perf_counter()
    windows = SearchableWindows.open(folder)
    opened, n = time.perf_counter() - started, len(windows.vectors)
    provenance = {"tensors_sha256": "made up", "modality": "ecg", "representation": "scalogram"}
    seconds = []
    for row in np.linspace(0, n - 1, queries).astype(int):
        vector = windows.vectors[row].copy()
        started = time.perf_counter()
        hits = windows.search(vector, provenance=provenance)
        seconds.append(time.perf_counter() - started)
        if hits["similarity"][0].as_py() < 1 - 1e-6:
            raise SystemExit("a window is not the nearest to itself")
    state = Path("/proc/self/status").read_text().splitlines()
    peak = 1024 * int(next(line.split()[1] for line in state if line.startswith("VmHWM")))
    return {
        "windows": n, "open_s": opened, "query_s_median": float(np.median(seconds)), "query_s_worst": max(seconds),
        "query_s_best": min(seconds), "peak_bytes": peak, "times_the_vectors": peak / windows.vectors.nbytes,
    }  # fmt: skip


def main() -> None:
    """Measure one thing and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["map", "pictures", "page", "search", "_search"])
    parser.add_argument("--n", type=int, help="windows: 100000, 2000, 50000 and 1000000 otherwise")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--queries", type=int, default=20)
    chosen = parser.parse_args()
    if chosen.what == "_search":
        found = search_here(chosen.folder, chosen.queries)
    elif chosen.what == "map":
        found = measure_map(chosen.n or 100_000)
    elif chosen.what == "pictures":
        found = measure_pictures(chosen.n or 2000)
    elif chosen.what == "page":
        found = measure_page(chosen.n or 50_000)
    else:
        found = measure_search(chosen.n or 1_000_000, chosen.queries)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
