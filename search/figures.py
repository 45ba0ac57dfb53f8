"""The drawings of a report, each a function from arrays to SVG text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt

from hwbench.drawing import ACCENT, ORDERED, SECOND, SOFT, as_svg, new_axes


def front(
    cost: np.ndarray,
    accuracy: np.ndarray,
    oracle: np.ndarray,
    dominated_cost: np.ndarray,
    dominated_accuracy: np.ndarray,
    label: str,
) -> str:
    """Accuracy over cost: the front (n,), its oracle accuracies (n,), and backbones without exits (m,) behind it."""
    drawing, axes = new_axes(7.6, 4.2)
    axes.scatter(dominated_cost, 100 * dominated_accuracy, s=14, color=SOFT, label="whole backbones, no exits")
    order = np.argsort(cost)
    axes.plot(
        cost[order], 100 * oracle[order], color=SECOND, lw=1, ls="--", label="front, oracle routing (upper bound)"
    )
    axes.plot(cost[order], 100 * accuracy[order], color=ACCENT, lw=1.2, marker="o", ms=4, label="front, deployable")
    axes.set_xlabel(label)
    axes.set_ylabel("accuracy on val, %")
    axes.legend(loc="lower right")
    return as_svg(drawing)


def promise(
    predicted: np.ndarray, measured: np.ndarray, low: np.ndarray, high: np.ndarray, label: str, band: float
) -> str:
    """Promise against measurement, each (n,), with the measurement's interval; the band is ±`band` (relative)."""
    drawing, axes = new_axes(7.6, 4.6)
    most = float(max(predicted.max(), measured.max(), high.max())) * 1.05
    line = np.array([0.0, most])
    axes.fill_between(line, line * (1 - band), line * (1 + band), color="#e3eef4", label=f"±{100 * band:.0f} %")
    axes.plot(line, line, color=SOFT, lw=1)
    error = np.clip([measured - low, high - measured], 0, None)
    axes.errorbar(predicted, measured, yerr=error, fmt="o", ms=5, color=ACCENT, ecolor=ACCENT, capsize=2)
    axes.set_xlim(0, most)
    axes.set_ylim(0, most)
    axes.set_xlabel(f"promised {label}")
    axes.set_ylabel(f"measured {label}")
    axes.legend(loc="upper left")
    return as_svg(drawing)


def exits_by_difficulty(stage: np.ndarray, difficulty: np.ndarray, names: Sequence[str], bins: int = 6) -> str:
    """Where inputs leave, by how hard they are: stage (N,) index into `names`, difficulty (N,) in any unit."""
    edges = np.quantile(difficulty, np.linspace(0, 1, bins + 1))
    bucket = np.clip(np.searchsorted(edges, difficulty, side="right") - 1, 0, bins - 1)
    share = np.array([[np.mean(stage[bucket == b] == s) for b in range(bins)] for s in range(len(names))])
    drawing, axes = new_axes(7.6, 3.6)
    base = np.zeros(bins)
    colours = plt.get_cmap(ORDERED)(np.linspace(0.35, 0.95, len(names)))
    for row, name, colour in zip(share, names, colours, strict=True):
        axes.bar(range(bins), 100 * row, bottom=100 * base, color=colour, width=0.82, label=name)
        base = base + row
    axes.set_xticks(range(bins), ["easiest", *[""] * (bins - 2), "hardest"])
    axes.set_ylabel("share of inputs, %")
    axes.grid(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="leaves at")
    return as_svg(drawing)


def threshold_curve(
    threshold: np.ndarray, accuracy: np.ndarray, cost: np.ndarray, chosen: float, moved: str, label: str
) -> str:
    """Accuracy and expected cost, each (n,), as the threshold that `moved` names moves; `chosen` is marked."""
    drawing, axes = new_axes(7.6, 3.6)
    axes.plot(threshold, 100 * accuracy, color=ACCENT)
    axes.set_xlabel(moved)
    axes.set_ylabel("accuracy on val, %", color=ACCENT)
    axes.axvline(chosen, color=SOFT, ls=":", lw=1.2)
    other = axes.twinx()
    other.plot(threshold, cost, color=SECOND)
    other.set_ylabel(f"expected {label}", color=SECOND)
    other.grid(False)
    other.spines["right"].set_visible(True)
    return as_svg(drawing)


def progress(evaluations: np.ndarray, hypervolume: np.ndarray) -> str:
    """Hypervolume of the archive over evaluations, each (n,)."""
    drawing, axes = new_axes(7.6, 3.0)
    axes.step(evaluations, hypervolume, where="post", color=ACCENT)
    axes.set_xlabel("evaluations")
    axes.set_ylabel("hypervolume")
    return as_svg(drawing)
