"""What the bench found, as tables for RESULTS.md and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAPER = """The paper's numbers are of other data, the AI4PAIN challenge (three classes of pain, chance 33.3 %, 12
validation subjects), and of a network fine-tuned as a whole, so only their order of magnitude can be set beside these:
accuracy of the scalogram 71.2 % (EDA), 67.1 % (BVP), 73.5 % (respiration), 74.3 % (SpO2); two representations of EDA
77.9 %; all four modalities 82.4 %; mean of 24 experiments 52.1 % from scratch and 54.0 % pretrained."""
COLOURS = {"plain": "#31688e", "per person": "#d1700f"}
TITLES = {"plain": "plain", "per person": "standardised per person"}


def markdown(results: dict[str, Any], picture: str) -> str:
    """A section of RESULTS.md."""
    lines = [
        "## What frozen embeddings know of people never seen",
        "",
        f"`{results['command']}`",
        "",
        results["setting"],
        "Balanced accuracy of a linear probe, with its 95 % interval over persons, and macro F1 (F).",
        "",
        f"![scores]({picture})",
    ]
    for name, task in results["tasks"].items():
        lines += ["", f"### {name}", "", *_task(task)]
    return "\n".join([*lines, "", *summary(results), "", PAPER, ""])


def _task(task: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{size} {name}" for name, size in zip(task["classes"], task["sizes"], strict=True))
    if len(task["classes"]) > 6:
        counts = f"{len(task['classes'])} classes of {min(task['sizes'])} to {max(task['sizes'])}"
    split = (
        "five folds by person" if task["cross_validated"] else f"{task['tested']} of them of held-out people, tested"
    )
    lines = [
        f"{sum(task['sizes'])} windows of {task['persons']} persons ({counts}), {split}. Chance {task['chance']:.3f}."
    ]
    if not task["by_person"]:
        lines[0] += " Too few persons are tested for an interval over persons: it is over windows, and too narrow."
    if task["flat"]:
        lines[0] += f" {task['flat']} windows are flat in a modality and are a blank image at the window's own scale."
    kinds = task["protocols"]
    for kind in kinds:
        parts = [f"{name} {value[0]:.3f}" for name, value in task["controls"].get(kind, {}).items()]
        if parts:
            lines += ["", f"Controls, {TITLES[kind]}: {', '.join(parts)}."]
    heads = [f"{TITLES[kind]} | F" for kind in kinds]
    lines += ["", f"| features | {' | '.join(heads)} | dimensions | s / 1000 windows |"]
    lines += ["|---" * (2 * len(kinds) + 3) + "|"]
    for row in task["rows"]:
        scores = [f"{interval(row[kind]['accuracy'])} | {row[kind]['f1'][0]:.3f}" for kind in kinds]
        dims = row["dims"] or "varies"
        lines.append(f"| {row['label']} | {' | '.join(scores)} | {dims} | {row['seconds']:.2f} |")
    if task["differences"]:
        lines += ["", "Paired differences of balanced accuracy:", "", "| protocol | first | second | first - second |"]
        lines += ["|---|---|---|---|"]
        for row in task["differences"]:
            shown = interval([row["value"], row["low"], row["high"]], sign="+")
            lines.append(f"| {TITLES[row['protocol']]} | {row['first']} | {row['second']} | {shown} |")
    return lines


def summary(results: dict[str, Any]) -> list[str]:
    """Ours against each other row, over all tasks and protocols: where it lies above, level, or below.

    Above and below mean beyond the 95 % interval of the paired difference.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for task in results["tasks"].values():
        for row in task["differences"]:
            if "(best in the table)" not in row["first"] and "mean of" not in row["first"]:
                found.setdefault((row["first"], row["second"]), []).append(row)
    if not found:
        return []
    lines = [
        "### Ours against each",
        "",
        "Lines are tasks and protocols; above and below: beyond the 95 % interval of the paired difference.",
        "",
        "| ours | against | above | level | below | mean difference |",
        "|---|---|---|---|---|---|",
    ]
    for (first, second), rows in found.items():
        above, below = sum(row["low"] > 0 for row in rows), sum(row["high"] < 0 for row in rows)
        mean = sum(row["value"] for row in rows) / len(rows)
        lines.append(f"| {first} | {second} | {above} | {len(rows) - above - below} | {below} | {100 * mean:+.1f} |")
    return lines


def interval(estimate: list[float], sign: str = "") -> str:
    """A value and its interval.

    >>> interval([0.5, 0.45, 0.55])
    '.500 [.450, .550]'
    >>> interval([0.05, -0.01, 0.11], "+")
    '+.050 [-.010, +.110]'
    """
    value, low, high = (f"{number:{sign}.3f}".replace("0.", ".", 1) for number in estimate)
    return f"{value} [{low}, {high}]"


def draw(results: dict[str, Any], path: Path) -> None:
    """Scores and intervals of every row, a panel a task, with lines at chance and at what the clock alone knows."""
    from matplotlib.figure import Figure

    tasks = results["tasks"]
    columns = min(3, len(tasks))
    lines = -(-len(tasks) // columns)
    rows = max(len(task["rows"]) for task in tasks.values())
    figure = Figure(figsize=(6.5 * columns, lines * (1.5 + 0.24 * rows)), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel in panels[len(tasks) :]:
        panel.set_axis_off()
    for panel, (name, task) in zip(panels, tasks.items(), strict=False):
        for offset, kind in zip((-0.15, 0.15), task["protocols"], strict=False):
            scores = [row[kind]["accuracy"] for row in task["rows"]]
            values = [score[0] for score in scores]
            errors = [[v - low for v, low, _ in scores], [high - v for v, _, high in scores]]
            place = [index + offset for index in range(len(scores))]
            panel.errorbar(values, place, xerr=errors, fmt="o", ms=4, lw=1, color=COLOURS[kind], label=TITLES[kind])
        panel.axvline(task["chance"], color="grey", ls=":", label="chance")
        if clock := task["controls"].get("plain", {}).get("clock"):
            panel.axvline(clock[0], color="firebrick", ls="--", lw=1, label="the clock alone")
        panel.set_yticks(range(len(task["rows"])), [row["label"] for row in task["rows"]], fontsize=8)
        panel.invert_yaxis()
        panel.set(title=name, xlabel="balanced accuracy")
        panel.grid(axis="x", alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, dpi=90)
