"""Drawings of a page, each a function from arrays to SVG text; needs matplotlib, so only reports import it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("svg")  # no display is needed, nor looked for

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure as Drawing

ACCENT, SECOND, SOFT = "#0b6e99", "#d1732b", "#9aa7b4"
# One hue from light to dark, for what is ordered.
ORDERED = "YlGnBu"
_STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6eaee",
    "axes.edgecolor": SOFT,
    "axes.axisbelow": True,
    "legend.frameon": False,
    # Text as outlines: the page looks the same wherever it is opened, and needs no font.
    "svg.fonttype": "path",
    "svg.hashsalt": "hwbench",
}


def new_axes(width: float, height: float) -> tuple[Drawing, Axes]:
    """An empty drawing in our style; width, height in inches."""
    with plt.style.context(_STYLE):
        drawing = plt.figure(figsize=(width, height), layout="constrained")
        return drawing, drawing.add_subplot()


def as_svg(drawing: Drawing) -> str:
    """The drawing as SVG text, and done with; equal drawings give equal text."""
    text = io.StringIO()
    with plt.style.context(_STYLE):
        # A date would make equal runs differ.
        drawing.savefig(text, format="svg", metadata={"Date": None})
    plt.close(drawing)
    return text.getvalue()


def residuals(measured: np.ndarray, series: Mapping[str, np.ndarray], label: str) -> str:
    """Error of predicted networks, percent, over their measured value (n,); one colour a kind of prediction."""
    drawing, axes = new_axes(7.6, 3.2)
    axes.axhline(0, color=SOFT, lw=1)
    for (name, predicted), colour in zip(series.items(), (SECOND, ACCENT), strict=False):
        axes.scatter(measured, 100 * (predicted / measured - 1), s=22, color=colour, label=name)
    axes.set_xlabel(f"measured {label}")
    axes.set_ylabel("error of the prediction, %")
    axes.legend()
    return as_svg(drawing)


def heat_map(values: np.ndarray, rows: Sequence[str], columns: Sequence[str], label: str) -> str:
    """Values (R, C) on a logarithmic scale, each with its number; NaN stays white and without one."""
    drawing, axes = new_axes(4.2 + 1.0 * len(columns), 1.6 + 0.24 * len(rows))
    known = values[np.isfinite(values)]
    norm = LogNorm(known.min(), max(known.max(), known.min() * 1.01))
    # Edges, so that each cell is a rectangle of its own and the page scales.
    image = axes.pcolormesh(values, cmap=ORDERED, norm=norm, edgecolors="white", linewidth=0.6)
    for (r, c), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = norm(value) > 0.6
            axes.text(c + 0.5, r + 0.5, f"{value:.3g}", ha="center", va="center", fontsize=7.5,
                      color="white" if dark else "#1b2a36")  # fmt: skip
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=30, ha="left", fontsize=8.5)
    axes.xaxis.tick_top()
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize=7.5)
    axes.invert_yaxis()
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    drawing.colorbar(image, ax=axes, label=label, shrink=0.6, aspect=30)
    return as_svg(drawing)


def operating_points(
    latency_ms: np.ndarray, energy_mj: np.ndarray, clock_mhz: np.ndarray, clock: str, found: np.ndarray
) -> str:
    """Latency and energy of one network at n operating points, coloured by a clock; found (n,): rows of the table."""
    drawing, axes = new_axes(7.6, 4.2)
    order = np.lexsort((energy_mj, latency_ms))
    best = np.minimum.accumulate(np.append(np.inf, energy_mj[order]))[:-1]
    edge = order[energy_mj[order] < best]
    axes.plot(latency_ms[edge], energy_mj[edge], color=SECOND, lw=1.2, label="nothing is both faster and thriftier")
    image = axes.scatter(latency_ms, energy_mj, c=clock_mhz, s=np.where(found, 46, 16), cmap=ORDERED, edgecolor=SOFT,
                         linewidth=0.5)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("latency, ms")
    axes.set_ylabel("energy, mJ")
    axes.legend()
    drawing.colorbar(image, ax=axes, label=f"{clock}, MHz", aspect=30)
    return as_svg(drawing)
