"""The results of `experiments` as tables, beside those of the paper, with what was reduced."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from benchmarks.ai4pain import NAME
from tiny_biomoe.train.samples import Samples

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
DRAWS = 10_000  # of people, for an interval
FEWEST_PEOPLE = 5  # that an interval is a verdict of

Result = dict[str, Any]


def by_person(samples: Samples, predicted: NDArray[np.int64]) -> dict[str, list[list[int]]]:
    """Confusion matrix of each person, row: the true class."""
    belongs = np.array(samples.subjects)
    return {
        person: confusion_matrix(
            samples.labels[belongs == person], predicted[belongs == person], labels=range(len(samples.classes))
        ).tolist()
        for person in sorted(set(samples.subjects))
    }


def tables(facts: Result, results: list[Result]) -> str:
    """Markdown of all cells that are done."""
    chance = 100 / len(facts["classes"])
    lead = (
        f"{facts['windows']} windows, classes {', '.join(facts['classes'])} (chance {chance:.1f} %), scored on "
        f"{len(facts['test_people'])} people who are in no training part: {', '.join(facts['test_people'])}. "
        f"Pretrained: {facts['weights']} ({facts['weights_sha256'][:12]}). Budget {facts['budget']:g} s a cell; images "
        f"scaled by {facts['scale']}."
    )
    if facts["data"] != NAME:
        lead += " The paper's numbers are of AI4PAIN, another data set: compare the gains alone."
    planned = len(facts["digests"]) * len(facts["representations"])
    parts = [_reductions(facts, results), _pretraining(results, planned), _fusions(results)]
    lines = [f"## Tables 3 to 6 on {facts['data']}", "", lead, *(line for part in parts for line in ["", *part])]
    return "\n".join(lines).rstrip() + "\n"


def _reductions(facts: Result, results: list[Result]) -> list[str]:
    """What was reduced, once for each size of cell; a range where its cells differ, as flat windows make them."""
    by_size: dict[tuple[int, str], list[Result]] = {}
    for result in results:
        by_size.setdefault((len(result["views"]), result["part"]), []).append(result["reduced"])
    settings = facts["settings"]
    lead = [
        f"- One division of the people. Batches of {settings['batch_size']}, learning rate "
        f"{settings['learning_rate']:g}, {settings['precision']}. The paper: batches of 32, 0.0001."
    ]
    for (n, part), cells in sorted(by_size.items()):
        images = "1 image" if n == 1 else f"{n} images"
        learns = "" if part == "whole" else f" (the {part} alone learns, on images that are not varied)"
        parts = (
            f"{_range(cells, key)} of {_range(cells, key + '_of')}" for key in ("epochs", "samples", "test_samples")
        )
        lead.append(
            "- Of {} a sample{}: {} epochs, {} training samples, {} test samples.".format(images, learns, *parts)
        )
    return ["Reduced to fit the machine:", "", *lead]


def _range(cells: list[Result], key: str) -> str:
    """A count, or the least and the greatest where cells differ."""
    low, high = (end(cell[key] for cell in cells) for end in (min, max))
    return f"{low}" if low == high else f"{low} to {high}"


def _pretraining(results: list[Result], planned: int) -> list[str]:
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
    pairs: list[tuple[Result, Result]] = []
    for view, pair in sorted(by_view.items()):
        if set(pair) != {"scratch", "pretrained"}:
            continue
        pairs.append((pair["scratch"], pair["pretrained"]))
        gain = 100 * (pairs[-1][1]["accuracy"] - pairs[-1][0]["accuracy"])
        paper = PAPER.get(view)
        beside = f"{paper[0]:.2f} | {paper[1]:.2f} | {paper[1] - paper[0]:+.2f}" if paper else "| |"
        scores = " | ".join(map(_scores, pairs[-1]))
        lines.append(f"| {view[0]} | {view[1]} | {scores} | {gain:+.2f} | {beside} |")
    if pairs and len(pairs) < planned:
        lines += ["", f"Not finished: {len(pairs)} of {planned} pairs of cells are done."]
    return [*lines, "", _claim(pairs)] if pairs else lines


def _claim(pairs: list[tuple[Result, Result]]) -> str:
    """Whether pretraining helps on average, and how sure that is."""
    scratch, pretrained = (100 * np.array([pair[i]["accuracy"] for pair in pairs]) for i in (0, 1))
    gains = pretrained - scratch
    low, high = 100 * gain_interval(pairs)
    people = len(people_of(pairs))
    if people < FEWEST_PEOPLE:
        verdict = f"Fewer than {FEWEST_PEOPLE} people tell nothing of others: no verdict"
    elif low > 0:
        verdict = "Pretrained beats scratch on average here"
    elif high < 0:
        verdict = "Scratch beats pretrained on average here"
    else:
        verdict = "The interval holds zero: whether pretraining helps on average is not settled here"
    return (
        f"Mean accuracy over {len(pairs)} cells: {scratch.mean():.2f} from scratch, {pretrained.mean():.2f} "
        f"pretrained: a gain of {gains.mean():+.2f} points (better in {(gains > 0).sum()} of {len(pairs)}). "
        f"95 % interval {low:+.2f} to {high:+.2f}, from {DRAWS} draws with replacement of the {people} people scored, "
        f"drawn alike for every cell; it does not hold how much another seed or division would change. {verdict}. In "
        f"the paper, over 24 cells: {PAPER_MEAN[0]:.2f}, {PAPER_MEAN[1]:.2f}, {PAPER_MEAN[1] - PAPER_MEAN[0]:+.2f}."
    )


def gain_interval(pairs: list[tuple[Result, Result]]) -> np.ndarray[Any, Any]:
    """2.5th and 97.5th percentile of the mean gain in macro accuracy, over draws of people with replacement: (2,)."""
    names = people_of(pairs)
    times = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    gains = np.mean(
        [_redrawn(pretrained, names, times) - _redrawn(scratch, names, times) for scratch, pretrained in pairs], 0
    )
    return np.nanpercentile(gains, [2.5, 97.5])


def people_of(pairs: list[tuple[Result, Result]]) -> list[str]:
    """All who are scored in any of the cells."""
    return sorted(set().union(*(cell["people"] for pair in pairs for cell in pair)))


def _redrawn(cell: Result, names: list[str], times: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Macro accuracy of a cell with each person counted so many times: (draws, people) to (draws,)."""
    nobody = np.zeros_like(cell["confusion"])
    confusion = np.stack([cell["people"].get(name, nobody) for name in names])  # (people, classes, classes)
    right = times @ np.diagonal(confusion, axis1=1, axis2=2)
    of = times @ confusion.sum(2)
    recalls = np.divide(right, of, out=np.full(of.shape, np.nan), where=of > 0)
    return np.asarray(np.nanmean(recalls, 1))


def _fusions(results: list[Result]) -> list[str]:
    """Tables 5 and 6."""
    fused = [result for result in results if result["table"] in (5, 6)]
    if not fused:
        return []
    lines = ["| table | fused | images | by | accuracy | precision | F1 |", "|" + "---|" * 7]
    for result in fused:
        images = ", ".join("/".join(view) for view in result["views"])
        how = result["fusion"] if len(result["views"]) > 1 else ""
        lines.append(f"| {result['table']} | {result['title']} | {images} | {how} | {_scores(result)} |")
    note = 'The "best" images are those of highest accuracy above, on the same people, as in the paper: that flatters.'
    if any(len(result["views"]) == 1 for result in fused):
        note += " They are chosen among, and compare with, those alone in this table, of which the same part learns."
    return [*lines, "", note]


def _scores(result: Result) -> str:
    return " | ".join(f"{100 * result[name]:.2f}" for name in ("accuracy", "precision", "f1"))
