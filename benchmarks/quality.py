"""What frozen embeddings know of people never seen, beside what one would use instead.

`python benchmarks/quality.py --downstream FOLDER --pretraining FOLDER --cache FOLDER [--weights FOLDER] -o OUT`

writes `OUT/quality.json`, `OUT/quality.md` (a section of RESULTS.md) and `OUT/quality.png`. Everything dear is kept in
the cache: a killed run goes on where it was, and scoring again costs seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a file: its neighbours are benchmarks.<name>

from benchmarks import protocol, quality_report
from benchmarks.baselines import hand
from benchmarks.datasets import PRETRAINING, TASKS, Dataset, load
from benchmarks.embedding_cache import SCALES, Embedder, all_embeddings, flat_windows
from benchmarks.scoring import Row, Scorer
from tiny_biomoe import TinyBioMoE, __version__
from tiny_biomoe.errors import need, unknown
from tiny_biomoe.images.representations import REPRESENTATIONS
from tiny_biomoe.inference.backends import BACKENDS

GROUPS = ("ours", "untrained", "baselines", "controls")
PER_PERSON = 20  # windows of a downstream task; 0 for all
SEEDS = 3  # untrained networks
ALONE = (
    "scalogram",
    "window",
)  # whose halves are shown, and what MiniRocket is joined with


def networks(
    weights: str | None, groups: list[str], device: str, seeds: int = SEEDS, **backend: Any
) -> dict[str, TinyBioMoE]:
    """The weights to score, and the same network with the same recipe as it is built, by several seeds."""
    model = TinyBioMoE.from_pretrained(weights, device=device, **backend)
    found = {"ours": model} if "ours" in groups else {}
    for seed in range(seeds if "untrained" in groups else 0):
        torch.manual_seed(seed)
        untrained = TinyBioMoE(model.architecture, model.recipe, "untrained").eval().to(device)
        untrained.precision, untrained.backend = model.precision, model.backend
        found[f"untrained {seed}"] = untrained
    return found


def score_task(
    dataset: Dataset,
    groups: list[str],
    embedders: dict[str, Embedder],
    cache: Path,
    scales: Sequence[str] = SCALES,
    representations: Sequence[str] = tuple(REPRESENTATIONS),
) -> dict[str, Any]:
    """All rows, controls and differences of one task, as plain values."""
    scorer = Scorer(dataset, cache)
    scales = scales if dataset.held_out is None else SCALES[:1]
    rows: list[Row] = []
    for group, embedder in embedders.items():
        rows += scorer.network(group, all_embeddings(embedder, dataset, scales, representations))
        rows += scorer.readings(group, "rows", all_embeddings(embedder, dataset, scales, representations, "rows"))
        if ALONE[0] in representations and ALONE[1] in scales:
            for reading in ("encoder 1", "encoder 2"):
                rows += scorer.readings(group, reading, {ALONE: embedder.embed(dataset, ALONE[1], ALONE[0], reading)})
            if group == "ours" and "baselines" in groups:
                for reading, name in (("embedding", ", ".join(ALONE)), ("rows", f"{', '.join(ALONE)}, rows")):
                    rows.append(scorer.joined(group, name, embedder.embed(dataset, ALONE[1], ALONE[0], reading)))
    if "baselines" in groups:
        rows += scorer.baselines()
    sizes = np.bincount(dataset.labels, minlength=len(dataset.classes))
    return {
        "classes": list(dataset.classes),
        "sizes": sizes.tolist(),
        "persons": int(np.unique(dataset.persons).size),
        "tested": int(sum(test.size for _, test in scorer.folds)),
        "cross_validated": dataset.held_out is None,
        "by_person": scorer.by_person,
        "chance": 1 / int((sizes > 0).sum()),
        "flat": flat_windows(dataset),
        "protocols": list(scorer.protocols),
        "rows": [_row(scorer, row) for row in rows],
        "controls": scorer.controls(hand(dataset)) if "controls" in groups else {},
        "differences": scorer.differences(rows),
    }


def _row(scorer: Scorer, row: Row) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "group": row.group, "name": row.name, "label": row.label, "dims": row.dims, "seconds": row.seconds,
    }  # fmt: skip
    for kind in scorer.protocols:
        plain[kind] = {
            "accuracy": list(vars(scorer.estimate(row, kind)).values()),
            "f1": list(vars(scorer.estimate(row, kind, protocol.macro_f1)).values()),
            "picked": row.picked.get(kind, []),
        }
    return plain


def _names(context: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    choices = {"tasks": TASKS, "groups": GROUPS, "scales": SCALES, "representations": tuple(REPRESENTATIONS)}[
        str(parameter.name)
    ]
    for name in (names := value.split(",")):
        if name not in choices:
            raise click.BadParameter(str(unknown(str(parameter.name), name, choices)))
    return names


FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--downstream", type=FOLDER, help="Folder of bidmc, noneeg, stress_predict: .tar.xz, or extracted.")
@click.option("--pretraining", type=FOLDER, help="Folder of the three pretraining archives.")
@click.option("--cache", type=FOLDER, required=True, help="Where archives are unpacked and embeddings are kept.")
@click.option("--weights", help="Folder or Hub id; the bundled weights otherwise.")
@click.option("--tasks", default=",".join(TASKS), show_default=True, callback=_names)
@click.option("--rows", "groups", default=",".join(GROUPS), show_default=True, callback=_names)
@click.option("--scales", default=",".join(SCALES), show_default=True, callback=_names, help="Of images, downstream.")
@click.option("--representations", default=",".join(REPRESENTATIONS), show_default=True, callback=_names)
@click.option("--seeds", default=SEEDS, show_default=True, help="Untrained networks.")
@click.option("--per-person", default=PER_PERSON, show_default=True, help="Windows a person downstream; 0 for all.")
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--backend", type=click.Choice(BACKENDS), help="As of `tiny-biomoe embed`.")
@click.option("--device", default="cpu", show_default=True)
@click.option("-o", "--output", type=FOLDER, required=True)
def main(
    downstream: Path | None, pretraining: Path | None, cache: Path, weights: str | None, tasks: list[str],
    groups: list[str], scales: list[str], representations: list[str], seeds: int, per_person: int, precision: str,
    backend: str | None, device: str, output: Path,
) -> None:  # fmt: skip
    """Score weights, frozen, by linear probes on people that no training has seen."""
    if "baselines" in groups:
        need("pycatch22", "tsfel", "aeon", "kymatio", extra="bench", what="the baselines")
    for name in tasks:
        if (pretraining if name in PRETRAINING else downstream) is None:
            raise click.UsageError(f"{name} needs --{'pretraining' if name in PRETRAINING else 'downstream'} FOLDER")
    models = networks(weights, groups, device, seeds, precision=precision, backend=backend)
    embedders = {group: Embedder(model, cache) for group, model in models.items()}
    found = {}
    for name in tqdm(tasks, "tasks"):
        archives = pretraining if name in PRETRAINING else downstream
        dataset = load(name, archives, cache / "archives")  # type: ignore[arg-type]  # checked above
        if per_person and dataset.held_out is None:
            dataset = dataset.thin(per_person)
        found[name] = score_task(dataset, groups, embedders, cache, scales, representations)
    names = {group: model.config.name for group, model in models.items()}
    computed = {model.frozen().backend.program or "PyTorch" for model in models.values()}
    setting = (
        f"tiny-biomoe {__version__}, torch {torch.__version__}, {precision} by "
        f"{' and '.join(sorted(computed)) or 'nothing'} on {device}, {torch.get_num_threads()} threads; "
        f"weights {names.get('ours', 'none')}; at most {per_person or 'all'} windows a person downstream, "
        "the same for every row."
    )
    digests = {group: embedder.digest for group, embedder in embedders.items()}
    command = "python benchmarks/quality.py " + " ".join(sys.argv[1:])
    results = {"command": command, "setting": setting, "networks": digests, "per_person": per_person, "tasks": found}
    output.mkdir(parents=True, exist_ok=True)
    (output / "quality.json").write_text(json.dumps(results, indent=1) + "\n")
    (output / "quality.md").write_text(quality_report.markdown(results, "quality.png"))
    quality_report.draw(results, output / "quality.png")
    click.echo(f"{output / 'quality.md'}\n{output / 'quality.png'}\n{output / 'quality.json'}")


if __name__ == "__main__":
    main()
