"""What `hwbench table fit` does: read, fit each metric, judge, write, and say it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hwbench.fit_networks import Checked, Judged, NetworkModel, check, fit_networks
from hwbench.fitted_file import read_fitted, write_fitted
from hwbench.networks_file import Networks, read_networks


def fit(file: Path, validate: Path | None, out: Path | None) -> tuple[Path, list[tuple[NetworkModel, Checked | None]]]:
    """Fit every metric of a file; the file written, and each model with its figures on other networks."""
    networks, others = read_networks(file), read_networks(validate) if validate is not None else None
    found = [_judge(fit_networks(networks, metric), others) for metric in networks.values]
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    written = write_fitted(out or file.with_suffix(""), [m for m, _ in found], source=networks.source, created=created)
    return written, found


def as_json(written: Path, found: list[tuple[NetworkModel, Checked | None]]) -> dict[str, Any]:
    """Every figure; NaN, which JSON lacks, becomes null."""
    return {
        "file": str(written),
        "models": [
            {
                "family": model.family,
                "metric": model.metric,
                "evidence": str(model.evidence),
                "reading": model.counts.reading,
                "base": model.counts.base,
                "cost": dict(model.counts.cost),
                "corrected": model.correction is not None,
                "constant": model.constant,
                "counts_left_out": _plain(asdict(model.counts_error)),
                "left_out": _plain(asdict(model.error)),
                "runs_right": model.runs_right,
                "validated": None if checked is None else _plain(asdict(checked)),
            }
            for model, checked in found
        ],
    }


def lines(written: Path, found: list[tuple[NetworkModel, Checked | None]]) -> Iterator[str]:
    """For people."""
    for model, checked in found:
        unit = model.metric.rpartition("_")[2]
        largest = sorted(model.counts.cost.items(), key=lambda c: -c[1])
        told = ", ".join(f"{op} {cost:.4g}" for op, cost in largest[:8])
        more = f", and {len(largest) - 8} more" if len(largest) > 8 else ""
        yield (
            f"{model.metric} of {model.family} ({model.evidence}), operations counted "
            f"{model.counts.reading.replace('_', ' ')}"
        )
        yield f"  {unit} each: base {model.counts.base:.4g}, {told}{more}"
        yield f"  counts alone, left out:    {_figures(model.counts_error)}"
        if model.correction is not None:
            yield f"  with correction, left out: {_figures(model.error)}"
        else:
            yield "  no correction: none predicted networks left out better"
        if model.runs_right is not None:
            yield f"  whether a network runs: {model.runs_right:.1%} right of those left out"
        if checked is not None:
            yield f"  networks it never saw:     {_figures(checked.error)}"
            yield f"  95 % intervals hold {checked.covered:.1%}; {checked.refused} refused as out of range" + (
                "" if checked.runs_right is None else f"; whether they run: {checked.runs_right:.1%} right"
            )
    yield f"written: {written}"


def predicted(file: Path, archs: Sequence[str]) -> list[dict[str, Any]]:
    """What fitted models say of architectures: value and 95 % interval, `cannot run`, or `refused` out of range."""
    told = []
    for model in read_fitted(file):
        found = model.predict(archs)
        for i, arch in enumerate(archs):
            verdict = "ok" if found.runs[i] else "cannot run"
            verdict = verdict if found.known[i] else "refused: unlike the networks fitted on"
            entry: dict[str, Any] = {"arch": arch, "metric": model.metric, "verdict": verdict}
            if verdict == "ok":
                entry |= {"value": float(found.value[i]), "low": float(found.low[i]), "high": float(found.high[i])}
                entry["evidence"] = str(model.evidence)
            told.append(entry)
    return told


def _judge(model: NetworkModel, others: Networks | None) -> tuple[NetworkModel, Checked | None]:
    return model, None if others is None else check(model, others)


def _figures(error: Judged) -> str:
    return (
        f"mape {error.mape:.2f} %, rmse {error.rmse:.4g}, spearman {error.spearman:.4f}, kendall {error.kendall:.4f}, "
        f"within 5 % {error.within_5:.1%}, within 10 % {error.within_10:.1%}, n {error.n}"
    )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """The same with None for NaN."""
    return {
        k: _plain(v) if isinstance(v, dict) else None if isinstance(v, float) and v != v else v
        for k, v in values.items()
    }
