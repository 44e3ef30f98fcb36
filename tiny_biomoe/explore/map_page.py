"""A map of a study: `map.html`, which any browser opens from the disk, and beside it the pictures that it shows.

The page is Bokeh's (BSD-3), with its code in the page; the controls around it are templates/map.js.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.core.properties import field
from bokeh.embed import components
from bokeh.models import (
    BoxSelectTool,
    CDSView,
    ColumnDataSource,
    CustomJS,
    HoverTool,
    IndexFilter,
    LassoSelectTool,
    LinearColorMapper,
    PanTool,
    Plot,
    Range1d,
    ResetTool,
    Scatter,
    WheelZoomTool,
)
from bokeh.resources import Resources
from markupsafe import Markup
from numpy.typing import NDArray

from ..errors import ConfigError, counted, unknown
from ..images.representations import REPRESENTATIONS
from ..sealed_files import write
from .colouring import Classes, classes_of, shown
from .folder import EmbeddingFolder
from .pictures import GAP, SIDE, TRACE, draw_pictures
from .shown_windows import Sample, choose_rows, take_sample
from .templates import json_in_html, page, script

PAGE, PICTURES = "map.html", "pictures"
A_FOLDER = 1000  # pictures a folder
COLOURS = ("label", "subject", "modality", "channel", "source")  # text columns of every folder
NUMBERS = ("missing", "flat", "clipped", "start", "fs")
TEXTS = ("subject", "label")  # shown of each window, in full
UNFINISHED = b"<!doctype html><title>Not done</title><p>This map is being written; if that was stopped, run it again.\n"
NO_PICTURE = "no picture: the recording was not at hand when the map was made"


def write_map(
    folder: str | os.PathLike[str] | EmbeddingFolder,
    out: str | os.PathLike[str],
    *,
    representation: Sequence[str] | str | None = None,
    modality: str | None = None,
    color: str | None = None,
    sample: int = 50_000,
    seed: int = 0,
    method: str = "auto",
    recordings: str | os.PathLike[str] | None = None,
    pictures: bool = True,
    workers: int | None = None,
) -> list[str]:
    """Write a map of a folder of embeddings, for any browser and without a network.

    Parameters
    ----------
    folder
        What `embed_study` wrote.
    out
        The folder to write, `map.html` and `pictures/`; an earlier map in it is replaced.
    representation
        One or several of the folder's, between which the page chooses; all otherwise.
    modality
        Show windows of this one alone.
    color
        Column that the points are coloured by at first; label, or modality where there are no labels, otherwise.
    sample
        Windows to show; of more, so many are drawn at random.
    seed
        Of the sample and of the projection.
    method
        "auto", "umap" or "pca"; see `projection.project`.
    recordings
        The folder that was embedded, where it has moved since.
    pictures, workers
        Whether to draw the windows, and in how many processes; one a processor otherwise.

    Returns
    -------
    list of str
        What a person should know: windows without a picture, and why; that the projection is PCA, and why.

    Raises
    ------
    ConfigError
        Not such a folder, damaged, or without the column, modality or representation; an output that cannot be written.
    """
    opened = EmbeddingFolder.open(folder)
    opened.check_columns([color] if color is not None else [])
    if color not in (None, *_columns(opened)):
        raise unknown("color", color, _columns(opened))
    names = [representation] if isinstance(representation, str) else representation or opened.representations
    names, rows = [opened.representation(name) for name in names], choose_rows(opened, sample, seed, modality)
    target = _prepare(Path(out))
    found = take_sample(opened, rows, names, seed=seed, method=method)
    classes = [classes_of(found.facts, name) for name in _columns(opened)]
    first = _first(classes, color)
    drawn, remarks = _write_pictures(found, target, recordings, workers) if pictures else (_none(found), [])
    remarks = [*found.remarks, *remarks]
    write(target / PAGE, _page(found, classes, first, drawn, remarks, seed), "")
    return remarks


def _prepare(out: Path) -> Path:
    """The folder to write into, made and without the pictures of an earlier map.

    A page that says so stands in it until the map is done, by which a run that was stopped is known as one of ours.

    Raises
    ------
    ConfigError
        It holds something else than a map, or cannot be made.
    """
    try:
        out.mkdir(exist_ok=True)
        held = {path.name for path in out.iterdir()}
        if held - {PAGE, PICTURES} or (PICTURES in held and PAGE not in held):
            raise ConfigError(f"{str(out)!r} holds files that are no map: choose an empty or a new folder")
        write(out / PAGE, UNFINISHED, "")
        for name in REPRESENTATIONS:
            for picture in (out / PICTURES / name).glob("[0-9]*/[0-9]*.png"):
                picture.unlink()
    except OSError as error:
        raise ConfigError(f"{str(out)!r} cannot be written to ({error.strerror}): choose another output") from error
    return out


def _columns(folder: EmbeddingFolder) -> list[str]:
    return [*COLOURS, *folder.further, *NUMBERS]


def _first(classes: Sequence[Classes], color: str | None) -> int:
    """The place of the column that the points are coloured by at first."""
    names = [each.name for each in classes]
    if color is None:
        labelled = [label for label in classes[names.index("label")].labels if label != "no label"]
        return names.index("label" if labelled else "modality")
    return names.index(color)


def _none(sample: Sample) -> NDArray[np.uint8]:
    return np.zeros(len(sample.rows), np.uint8)


def _write_pictures(
    sample: Sample, out: Path, recordings: str | os.PathLike[str] | None, workers: int | None
) -> tuple[NDArray[np.uint8], list[str]]:
    """Write `pictures/REPRESENTATION/0/12.png` ...; gives which windows have one, and why others have none."""
    drawn, reasons = _none(sample), dict[str, int]()
    for name in sample.representations:
        for number in range(0, len(sample.rows), A_FOLDER):
            (out / PICTURES / name / str(number // A_FOLDER)).mkdir(parents=True, exist_ok=True)
    found = draw_pictures(
        sample.folder, sample.ids, sample.sources, sample.representations, recordings=recordings, workers=workers
    )
    for each in found:
        if each.reason is not None:
            reasons[each.reason] = reasons.get(each.reason, 0) + 1
            continue
        for name, data in zip(sample.representations, each.images, strict=True):
            path = out / PICTURES / name / str(each.number // A_FOLDER) / f"{each.number}.png"
            try:
                path.write_bytes(data)
            except OSError as error:
                raise ConfigError(
                    f"{str(path)!r} cannot be written ({error.strerror}): choose another place"
                ) from error
        drawn[each.number] = 1
    listed = sorted(reasons, key=lambda reason: -reasons[reason])
    more = [f"and {counted(len(listed) - 3, 'more reason')}."] if len(listed) > 3 else []
    return drawn, [f"{counted(reasons[reason], 'window')} without a picture: {reason}." for reason in listed[:3]] + more


def _page(
    sample: Sample,
    classes: Sequence[Classes],
    first: int,
    drawn: NDArray[np.uint8],
    remarks: Sequence[str],
    seed: int,
) -> bytes:
    data, facts = _data(sample, classes, drawn)
    plot = _plot(data, classes[first])
    plot_script, plot_div = components(plot, wrap_script=True)
    resources = Resources(mode="inline", components=["bokeh", "bokeh-gl"])
    total = sample.folder.n
    some = f"{len(sample.rows):,} of {total:,} windows" if len(sample.rows) < total else f"{total:,} windows"
    made_by = sample.folder.manifest["fingerprint"]["weights"]["weights"]
    return page(
        "map.html",
        title=sample.folder.path.absolute().name,
        summary=f"{some}, embedded by {made_by}, projected by {sample.methods} (seed {seed}).",
        remarks=remarks,
        bokeh_js=Markup(resources.render_js()),
        plot_div=Markup(plot_div),
        plot_script=Markup(plot_script),
        facts=json_in_html({**facts, "first": first}),
        map_js=script("map.js"),
    )


def _data(
    sample: Sample, classes: Sequence[Classes], drawn: NDArray[np.uint8]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """What the page knows: arrays of numbers a window, and the texts that they stand for."""
    table = sample.facts
    columns = {name: np.array(table[name].to_pylist()) for name in ("start", "stop")}
    columns |= {name: np.array(table[name].to_pylist(), np.float32) for name in ("missing", "flat", "clipped")}
    ids = sample.ids
    prefixes, columns["prefix"] = _coded([id[: id.rindex("@") + 1] for id in ids])
    modalities, columns["modality"] = _coded(table["modality"].to_pylist())
    texts: dict[str, list[str]] = {}
    for name in TEXTS:
        cells = ["" if value is None else shown(value) for value in table[name].to_pylist()]
        texts[name], columns[name] = _coded(cells)
    for place, projection in enumerate(sample.projections):
        columns[f"x{place}"], columns[f"y{place}"] = projection.points.T
    for place, each in enumerate(classes):
        columns[f"class{place}"] = each.codes
    columns |= {"drawn": drawn, "x": columns["x0"], "y": columns["y0"], "code": columns["class0"]}
    facts = {
        "prefixes": prefixes,
        "modalities": modalities,
        "texts": texts,
        "representations": sample.representations,
        "no_picture": NO_PICTURE,
        "picture_size": [SIDE + GAP + TRACE, SIDE],
        "columns": [
            {"key": f"class{place}", "title": each.title, "labels": each.labels, "colours": each.colours}
            for place, each in enumerate(classes)
        ],
    }
    return {name: np.ascontiguousarray(values) for name, values in columns.items()}, facts


def _coded(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int32]]:
    """The different texts, and the place of each among them."""
    values, codes = np.unique(np.array(texts, object), return_inverse=True)
    return values.tolist(), codes.astype(np.int32)


def _plot(data: dict[str, NDArray[Any]], classes: Classes) -> Plot:
    """The points; everything else that happens on the page is map.js."""
    source, view = ColumnDataSource(data, name="points"), CDSView(filter=IndexFilter(), name="view")
    colours = LinearColorMapper(
        palette=list(classes.colours), low=-0.5, high=len(classes.colours) - 0.5, name="colours"
    )
    plot = Plot(
        x_range=Range1d(), y_range=Range1d(), sizing_mode="stretch_both", output_backend="webgl", name="map",
        background_fill_alpha=0, border_fill_alpha=0, outline_line_color=None, min_border=4,
    )  # fmt: skip
    colour = field("code", transform=colours)
    size = float(np.clip(60 / np.sqrt(max(len(data["x"]), 1)) + 3, 4, 11))
    points = Scatter(x="x", y="y", size=size, fill_color=colour, line_color=None, fill_alpha=0.8)
    faint = Scatter(x="x", y="y", size=size, fill_color=colour, line_color=None, fill_alpha=0.08)
    renderer = plot.add_glyph(source, points, nonselection_glyph=faint, view=view)
    hover = HoverTool(
        renderers=[renderer], tooltips=None, callback=CustomJS(code="exploreHover(cb_data)"), visible=False
    )
    wheel = WheelZoomTool()
    plot.add_tools(PanTool(), wheel, BoxSelectTool(), LassoSelectTool(), ResetTool(), hover)
    plot.toolbar.active_scroll, plot.toolbar.logo = wheel, None
    return plot
