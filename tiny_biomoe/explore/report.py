"""A report of a study: one HTML file that needs no network and no script, to read, print or send to a colleague."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..config import config_digest
from ..errors import counted
from ..sealed_files import write
from .colouring import class_colour, classes_of
from .folder import EmbeddingFolder
from .pictures import draw_pictures
from .report_facts import (
    APART,
    NO_LABEL,
    NO_SUBJECT,
    PER_MODALITY,
    Apart,
    Outlier,
    cells,
    compare_windows,
    quality_over_time,
    seconds_covered,
    sums,
)
from .report_figures import map_figure, quality_figure
from .shown_windows import choose_rows, take_sample
from .similar_page import as_data
from .templates import check_page, page

REASONS = 40  # lines of what was not embedded; failures.parquet holds all
WORST = 8  # recordings of the lowest quality
COLUMNS = ["source", "channel", "modality", "subject", "label", "start", "stop", "missing", "flat", "clipped"]


def write_report(
    folder: str | os.PathLike[str] | EmbeddingFolder,
    output: str | os.PathLike[str],
    *,
    representation: str | None = None,
    color: str | None = None,
    sample: int = 10_000,
    seed: int = 0,
    method: str = "auto",
    recordings: str | os.PathLike[str] | None = None,
) -> list[str]:
    """Write a report of a folder of embeddings as one HTML file.

    Parameters
    ----------
    folder
        What `embed_study` wrote.
    output
        A file that ends in .html.
    representation
        Whose vectors are compared; the folder's first otherwise.
    color
        Column that the map is coloured by; label, or modality where there are no labels, otherwise.
    sample
        Windows on the map.
    seed, method
        Of the map, as in `write_map`.
    recordings
        The folder that was embedded, where it has moved since.

    Returns
    -------
    list of str
        What a person should know: pictures that are missing, and why; that the projection is PCA, and why.

    Raises
    ------
    ConfigError
        Not such a folder, damaged, or without the column or representation; an output that cannot be written.
    """
    path, opened = check_page(output, ".html", ".htm"), EmbeddingFolder.open(folder)
    name = opened.representation(representation)
    table = opened.facts(COLUMNS)
    found = take_sample(opened, choose_rows(opened, sample, seed), [name], seed=seed, method=method)
    labelled = table["label"].null_count < len(table)
    coloured = color or ("label" if labelled else "modality")
    opened.check_columns([coloured])
    outliers, apart = compare_windows(opened, table, name, seed)
    shown, missing = _outliers(opened, outliers, name, recordings)
    remarks = [*found.remarks, *missing]
    values = _of_the_table(table)
    data = page(
        "report.html", folder=opened, title=opened.path.absolute().name, summary=opened.manifest["summary"],
        representation=name, n_map=len(found.rows), method=found.methods, remarks=found.remarks,
        map=map_figure(found, classes_of(found.facts, coloured)), coloured=coloured, outliers=shown,
        apart=_by_modality(apart), reasons=_reasons(opened.failures), provenance=_provenance(opened), **values,
    )  # fmt: skip
    write(Path(path), data, "")
    return remarks


def _of_the_table(table: pa.Table) -> dict[str, Any]:
    """What the facts of the windows give: hours, quality, labels."""
    labelled = table["label"].null_count < len(table)
    return {
        **_hours(table),
        "n_recordings": len(table["source"].unique()),  # of which rows of a study may be stretches
        "quality": [quality_figure(each) for each in quality_over_time(table)],
        "worst": _worst(table),
        "labels": _labels(table) if labelled else [],
        "threshold": APART,
        "per_modality": PER_MODALITY,
    }


def _reasons(failures: pa.Table) -> dict[str, Any]:
    """What was not embedded, by outcome and reason, the most frequent first."""
    rows = failures.to_pylist()
    counts = Counter((row["outcome"], row["reason"]) for row in rows)
    first = {(row["outcome"], row["reason"]): row for row in reversed(rows)}
    listed = sorted(counts, key=lambda key: (key[0] != "failed", -counts[key], key[1]))
    lines = [{"outcome": key[0], "reason": key[1], "count": counts[key], "first": first[key]} for key in listed]
    return {"lines": lines[:REASONS], "more": sum(line["count"] for line in lines[REASONS:]), "total": len(rows)}


def _hours(table: pa.Table) -> dict[str, Any]:
    """Hours of signal by subject and modality."""
    covered = seconds_covered(table) / 3600
    subjects, modalities = cells(table, "subject", NO_SUBJECT), cells(table, "modality", "")
    by_subject = sums(subjects, modalities, covered)
    totals = sums(["all"] * len(table), modalities, covered)["all"]
    longest = max(hours for row in by_subject.values() for hours in row.values())
    return {
        "hours": by_subject, "hours_total": totals, "hours_longest": longest or 1.0, "modalities": sorted(totals),
        "n_subjects": len(set(subjects) - {NO_SUBJECT}), "hours_all": float(covered.sum()),
    }  # fmt: skip


def _labels(table: pa.Table) -> list[dict[str, Any]]:
    """Windows, hours and subjects of each label."""
    labels, subjects = np.array(cells(table, "label", NO_LABEL), object), cells(table, "subject", NO_SUBJECT)
    hours, windows = seconds_covered(table) / 3600, Counter(labels)
    people = {label: {who for who, what in zip(subjects, labels, strict=True) if what == label} for label in windows}
    largest = max(windows.values())
    return [
        {
            "label": label, "windows": windows[label], "share": windows[label] / len(labels),
            "width": windows[label] / largest, "hours": float(hours[labels == label].sum()),
            "subjects": len(people[label] - {NO_SUBJECT}), "colour": class_colour(place),
        }
        for place, label in enumerate(sorted(windows))
    ]  # fmt: skip


def _worst(table: pa.Table) -> list[dict[str, Any]]:
    """Channels with the largest share of missing, flat or clipped samples."""
    grouped = table.group_by(["source", "channel", "modality"]).aggregate(
        [(name, "mean") for name in ("missing", "flat", "clipped")] + [("start", "count")]
    )
    rows = grouped.to_pylist()
    for row in rows:
        row["worst"] = max(row["missing_mean"], row["flat_mean"], row["clipped_mean"])
    rows.sort(key=lambda row: (-row["worst"], row["source"], row["channel"]))
    return [row for row in rows[:WORST] if row["worst"] > 0]


def _outliers(
    folder: EmbeddingFolder,
    outliers: Sequence[Outlier],
    representation: str,
    recordings: str | os.PathLike[str] | None,
) -> tuple[list[dict[str, Any]], list[str]]:
    rows = folder.take(np.array([each.row for each in outliers], np.int64)).to_pylist()
    ids, sources = [row["id"] for row in rows], [row["source"] for row in rows]
    drawn = {each.number: each for each in draw_pictures(folder, ids, sources, [representation], recordings=recordings)}
    shown = [
        {"row": row, "outlier": each, "picture": as_data(drawn[place].images), "reason": drawn[place].reason}
        for place, (row, each) in enumerate(zip(rows, outliers, strict=True))
    ]
    reasons = Counter(each.reason for each in drawn.values() if each.reason is not None)
    return shown, [
        f"{counted(count, 'window')} without a picture: {reason}." for reason, count in reasons.most_common()
    ]


def _by_modality(apart: Sequence[Apart]) -> dict[str, list[Apart]]:
    return {name: [each for each in apart if each.modality == name] for name in sorted({a.modality for a in apart})}


def _provenance(folder: EmbeddingFolder) -> dict[str, Any]:
    """What made the vectors."""
    made = folder.manifest["fingerprint"]
    arguments = folder.arguments
    facts = {
        "weights": made["weights"]["weights"],
        "sha256 of the weights": made["weights"]["weights_sha256"] or made["weights"]["tensors_sha256"],
        "recipe of the images": f"{folder.recipe.version} ({config_digest(folder.recipe)})",
        "representations": ", ".join(folder.representations),
        "window": "whole recordings" if arguments["window"] is None else f"{arguments['window']:g} s",
        "stride": "the window" if arguments["stride"] is None else f"{arguments['stride']:g} s",
        **{name: str(value) for name, value in arguments["image"].items()},
        "software": ", ".join(f"{name} {number}" for name, number in made["library"].items()),
        "computed by": ", ".join(f"{name} {value}" for name, value in made["backend"].items() if value is not None),
    }
    filters = [
        {"name": name, "filter": each.get("filter"), "dropped": each.get("filter_dropped") or []}
        for name, each in sorted(folder.provenance.items())
        if each.get("filter")
    ]
    return {"facts": facts, "filters": filters}
