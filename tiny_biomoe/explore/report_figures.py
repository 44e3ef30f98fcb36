"""The figures of a report, each drawn for a light and for a dark page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from .colouring import Classes
from .report_facts import QUALITY, QualityOverTime
from .shown_windows import Sample

INKS = {"light": "#1d2430", "dark": "#e8eaee"}
LINES = {"missing": "#4c78c8", "flat": "#f08535", "clipped": "#d64f55"}
DASHES = {"missing": "-", "flat": "--", "clipped": ":"}  # distinct without colours, too
MOST_ENTRIES = 12  # of a legend


@dataclass(frozen=True)
class Figure:
    """A figure of a page."""

    light: str  # data: addresses
    dark: str
    alt: str


def quality_figure(quality: QualityOverTime) -> Figure:
    """Shares of missing, flat and clipped samples along the recordings of a modality."""

    def draw(axes: Axes) -> None:
        """A line a kind of sample."""
        for name in QUALITY:
            axes.plot(
                quality.minutes, 100 * quality.shares[name], DASHES[name], color=LINES[name], label=name, marker=".",
                linewidth=2,
            )  # fmt: skip
        top = max(float(np.nanmax(quality.shares[name])) for name in QUALITY)
        axes.set_ylim(-0.02 * max(100 * top, 5), max(108 * top, 5))
        axes.set_xlabel("minutes within the recording")
        axes.set_ylabel("% of samples")
        axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), labelcolor="linecolor")

    means = ", ".join(f"{name} {share:.1%}" for name, share in quality.means.items())
    alt = f"{quality.modality}: missing, flat and clipped samples over the time of the recordings; on average {means}"
    return _figure(draw, alt, (4.6, 2.7))


def map_figure(sample: Sample, classes: Classes) -> Figure:
    """The windows, projected to two dimensions and coloured by their classes."""
    (projection,) = sample.projections
    sizes = np.bincount(classes.codes, minlength=len(classes.labels))
    order = [code for code in np.argsort(-sizes, kind="stable") if sizes[code]]

    def draw(axes: Axes) -> None:
        """Points, the classes of most windows first, for those lie underneath."""
        area = float(np.clip(20_000 / max(len(sample.rows), 1), 4, 45))
        for place, code in enumerate(order):
            points = projection.points[classes.codes == code]
            label = classes.labels[code] if place < MOST_ENTRIES else None
            axes.scatter(
                points[:, 0], points[:, 1], area, classes.colours[code], linewidths=0, alpha=0.75, label=label,
                rasterized=len(sample.rows) > 500,
            )  # fmt: skip
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(
            frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 0.0), handletextpad=0.2, fontsize=9
        ).set_in_layout(True)

    named = ", ".join(f"{classes.labels[code]} ({sizes[code]})" for code in order[:MOST_ENTRIES])
    alt = f"Map of {len(sample.rows)} windows by {projection.method}, coloured by {classes.title}: {named}"
    return _figure(draw, alt, (4.6, 4.8))


def _figure(draw: Callable[[Axes], None], alt: str, inches: tuple[float, float]) -> Figure:
    return Figure(_svg(draw, INKS["light"], inches), _svg(draw, INKS["dark"], inches), alt)


def _svg(draw: Callable[[Axes], None], ink: str, inches: tuple[float, float]) -> str:
    """A figure as SVG on a transparent ground, whose bytes depend on what it shows alone."""
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style: dict[Any, Any] = {
        **dict.fromkeys(inked, ink), "font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "tiny-biomoe",
        "font.family": "sans-serif", "axes.spines.top": False, "axes.spines.right": False,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        canvas = Canvas(inches, layout="constrained")
        axes = canvas.add_subplot()
        draw(axes)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="svg", transparent=True, dpi=160, metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
