"""The results of `experiments` as tables, beside those of the paper, with what was reduced."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.ai4pain import NAME

# The paper's accuracies on AI4PAIN's validation people, in percent: from scratch (Table 3) and pretrained (Table 4).
PAPER = {
    ("bvp", "angle"): (45.24, 46.06), ("bvp", "phase"): (39.30, 40.39), ("bvp", "psd"): (42.58, 43.04),
    ("bvp", "recurrence"): (42.09, 47.43), ("bvp", "scalogram"): (66.53, 67.13), ("bvp", "waveform"): (42.90, 43.67),
    ("eda", "angle"): (63.02, 61.36), ("eda", "phase"): (53.94, 51.29), ("eda", "psd"): (53.06, 52.57),
    ("eda", "recurrence"): (59.37, 55.48), ("eda", "scalogram"): (73.41, 71.15), ("eda", "waveform"): (61.48, 63.46),
    ("resp", "angle"): (45.61, 44.78), ("resp", "phase"): (40.96, 40.47), ("resp", "psd"): (43.42, 45.29),
    ("resp", "recurrence"): (36.16, 38.18), ("resp", "scalogram"): (71.91, 73.53), ("resp", "waveform"): (36.62, 33.33),
    ("spo2", "angle"): (51.59, 55.80), ("spo2", "phase"): (48.12, 52.19), ("spo2", "psd"): (47.86, 54.97),
    ("spo2", "recurrence"): (55.18, 68.64), ("spo2", "scalogram"): (75.93, 74.31), ("spo2", "waveform"): (54.87, 70.49),
}  # fmt: skip
PAPER_MEAN = (52.13, 53.96)  # as the text of the paper gives them

Result = dict[str, Any]


def tables(facts: Result, results: list[Result]) -> str:
    """Markdown of all cells that are done."""
    chance = 100 / len(facts["classes"])
    said = (
        f"{facts['windows']} windows, classes {', '.join(facts['classes'])} (chance {chance:.1f} %), scored on "
        f"{len(facts['test_people'])} people who are in no training part: {', '.join(facts['test_people'])}. "
        f"Pretrained: {facts['weights']}. Budget {facts['budget']:g} s a cell; images scaled by {facts['scale']}."
    )
    if facts["data"] != NAME:
        said += " The paper's numbers are of AI4PAIN, another data set: compare the gains alone."
    parts = [_reductions(results), _pretraining(results), _fusions(results)]
    lines = [f"## Tables 3 to 6 on {facts['data']}", "", said, *(line for part in parts for line in ["", *part])]
    return "\n".join(lines).rstrip() + "\n"


def _reductions(results: list[Result]) -> list[str]:
    """What was reduced, once for each size of cell; a range where its cells differ, as flat windows make them."""
    by_size: dict[int, list[Result]] = {}
    for result in results:
        by_size.setdefault(len(result["views"]), []).append(result["reduced"])
    said = []
    for n, cells in sorted(by_size.items()):
        images = "1 image" if n == 1 else f"{n} images"
        parts = (
            f"{_range(cells, key)} of {_range(cells, key + '_of')}" for key in ("epochs", "samples", "test_samples")
        )
        said.append("- Of {} a sample: {} epochs, {} training samples, {} test samples.".format(images, *parts))
    return ["Reduced to fit the budget:", "", *said]


def _range(cells: list[Result], key: str) -> str:
    """A count, or the least and the greatest where cells differ."""
    low, high = (end(cell[key] for cell in cells) for end in (min, max))
    return f"{low}" if low == high else f"{low} to {high}"


def _pretraining(results: list[Result]) -> list[str]:
    """Tables 3 and 4 side by side, and the claim that pretraining helps on average."""
    by_view: dict[tuple[str, str], dict[str, Result]] = {}
    for result in results:
        if result["table"] in (3, 4):
            modality, representation = result["views"][0]
            by_view.setdefault((modality, representation), {})[result["start"]] = result
    lines = [
        "| modality | representation | scratch: accuracy | precision | F1 | pretrained: accuracy | precision | F1 "
        "| gain | paper: scratch | pretrained | gain |",
        "|" + "---|" * 12,
    ]
    gains: list[float] = []
    pairs: list[tuple[float, float]] = []
    for view, pair in by_view.items():
        if set(pair) != {"scratch", "pretrained"}:
            continue
        scratch, pretrained = pair["scratch"], pair["pretrained"]
        pairs.append((100 * scratch["accuracy"], 100 * pretrained["accuracy"]))
        gains.append(pairs[-1][1] - pairs[-1][0])
        paper = PAPER.get(view)
        told = f"{paper[0]:.2f} | {paper[1]:.2f} | {paper[1] - paper[0]:+.2f}" if paper else "| |"
        lines.append(
            f"| {view[0]} | {view[1]} | {_scores(scratch)} | {_scores(pretrained)} | {gains[-1]:+.2f} | {told} |"
        )
    if not gains:
        return lines
    n = len(gains)
    means = [sum(column) / n for column in zip(*pairs, strict=True)]
    spread = math.sqrt(sum((gain - sum(gains) / n) ** 2 for gain in gains) / max(n - 1, 1) / n)
    wins = sum(gain > 0 for gain in gains)
    return [
        *lines,
        "",
        f"Mean accuracy over {n} cells: {means[0]:.2f} from scratch, {means[1]:.2f} pretrained: a gain of "
        f"{means[1] - means[0]:+.2f} points (standard error over the cells {spread:.2f}; better in {wins} of {n}). In "
        f"the paper, over 24 cells: {PAPER_MEAN[0]:.2f}, {PAPER_MEAN[1]:.2f}, {PAPER_MEAN[1] - PAPER_MEAN[0]:+.2f}.",
    ]


def _fusions(results: list[Result]) -> list[str]:
    """Tables 5 and 6."""
    fused = [result for result in results if result["table"] in (5, 6)]
    if not fused:
        return []
    lines = ["| table | fused | images | by | accuracy | precision | F1 |", "|" + "---|" * 7]
    for result in fused:
        images = ", ".join("/".join(view) for view in result["views"])
        lines.append(f"| {result['table']} | {result['title']} | {images} | {result['fusion']} | {_scores(result)} |")
    note = 'The "best" images are those of highest accuracy above, on the same people, as in the paper: that flatters.'
    return [*lines, "", note]


def _scores(result: Result) -> str:
    return " | ".join(f"{100 * result[name]:.2f}" for name in ("accuracy", "precision", "f1"))
