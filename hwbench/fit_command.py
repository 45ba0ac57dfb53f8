"""What `hwbench table fit` does: read, fit each metric, judge, write, and say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hwbench.errors import ConfigError
from hwbench.fit_networks import MINIMUM_NETWORKS, Checked, check, fit_networks
from hwbench.fitted_file import SUFFIX, read_fitted, read_sources, write_fitted
from hwbench.judged import Judged
from hwbench.network_model import NetworkModel, Source
from hwbench.networks_file import Networks, read_networks


def fit(
    file: Path, validate: Path | None, out: Path | None, boards: Sequence[Path] = ()
) -> tuple[Path, list[tuple[NetworkModel, Checked | None]]]:
    """Fit every metric of a file; the file written, and each model with its figures on other networks.

    boards: what was fitted before to other boards; the metrics that they have may lean on them.
    """
    networks, others = read_networks(file), read_networks(validate) if validate is not None else None
    sources = _sources(boards, networks)
    found = [_judge(fit_networks(networks, metric, sources[metric]), others) for metric in networks.values]
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
                "sources": [_plain(asdict(t)) for t in model.tried],
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
        for tried in model.tried:
            before, after = tried.without, tried.beside
            yield (
                f"  {tried.name} beside, left out: mape {before.mape:.2f} -> {after.mape:.2f} %, spearman "
                f"{before.spearman:.4f} -> {after.spearman:.4f}: {'kept' if tried.kept else 'not kept, no clear gain'}"
            )
        few = model.error.n < MINIMUM_NETWORKS
        what = "left out of choosing, too: " if few else "counts alone, left out:    "
        yield f"  {what}{_figures(model.counts_error)}"
        if model.correction is not None:
            yield f"  with correction, left out: {_figures(model.error)}"
        elif few:
            yield f"  no correction: fewer than {MINIMUM_NETWORKS} networks cannot judge one"
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


def _sources(files: Sequence[Path], networks: Networks) -> Mapping[str, list[Source]]:
    """By metric, the models that these files hold of it; ConfigError for a file that helps with none."""
    found: dict[str, list[Source]] = {metric: [] for metric in networks.values}
    for file, name in _names(files):
        models = read_sources(file, name)
        other = next((s.model.family for s in models if s.model.family != networks.family), None)
        if other is not None:
            raise ConfigError(f"--from {file}: fitted to {other}, the networks to fit are {networks.family}")
        useful = [s for s in models if s.model.metric in found]
        if not useful:
            had = ", ".join(s.model.metric for s in models) or "nothing"
            raise ConfigError(f"--from {file}: has {had}, the networks to fit have {', '.join(found)}")
        for source in useful:
            found[source.model.metric].append(source)
    return found


def _names(files: Sequence[Path]) -> list[tuple[Path, str]]:
    """Each file and what to call it: its own name, with its folder's where two have the same."""
    beside = [f.with_name(f.name + SUFFIX) for f in files]
    found = [b if b.is_file() and not f.is_file() else f for f, b in zip(files, beside, strict=True)]
    own = [f.name.removesuffix(SUFFIX) for f in found]
    names = [f"{f.resolve().parent.name}/{o}" if own.count(o) > 1 else o for f, o in zip(found, own, strict=True)]
    name, times = Counter(names).most_common(1)[0] if names else ("", 0)
    if times > 1:
        raise ConfigError(f"--from: {times} files are called {name}; give each board once, or rename one")
    return list(zip(found, names, strict=True))


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
