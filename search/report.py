"""The report of a run: one self-contained HTML page, from what the run folder holds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hwbench import drawing
from hwbench.fit import samples
from hwbench.page import Block, Fact, Figure, Page, Section, Table, Text
from hwbench.table import LatencyTable
from hwbench.target import SIMULATOR
from hwbench.view import calibration_lines
from search import by_source, figures, verify
from search.found import Found
from search.front import NEAR
from search.objective import Objective
from search.run import Run, write_whole
from search.verify import LATENCY_BAND

# Designs in the page's table; a front may have hundreds.
_SHOWN = 18


def write(run: Run) -> None:
    """Write report.html into the run folder."""
    write_whole(run.folder / "report.html", page(Found.of(run)).html())


def page(found: Found) -> Page:
    """The page: what was found, whether the board agrees, and where every number comes from."""
    config = found.run.config
    cost = " and ".join(o.name.rpartition("_")[0] or o.name for o in found.costs)
    sections = [
        Section(title="Front", blocks=[*_front(found), _designs(found)]),
        Section(title="Promise against measurement", blocks=_promise(found)),
        Section(title="Where inputs leave", blocks=_exits(found)),
        Section(title="Threshold", blocks=_threshold(found)),
        Section(title="From val to test", blocks=_gap(found)),
        Section(title="The table behind it", blocks=_residuals(found)),
        Section(title="Provenance", blocks=_provenance(found)),
    ]
    return Page(
        title=f"Accuracy against {cost}: {config.space} on {config.target}",
        subtitle=f"{config.problem} × {config.strategy}, seed {config.seed}, started {config.created}",
        facts=_facts(found),
        sections=[s for s in sections if s.blocks],
    )


def _facts(found: Found) -> list[Fact]:
    accuracy, chosen = found.metric("accuracy"), found.promises[found.chosen().key]
    surest = int(accuracy.argmax())
    facts = [
        Fact(value=str(len(found.designs)), label="designs on the front"),
        Fact(value=f"{100 * accuracy.max():.1f} %", label="surest design, on val", remark=_said(found, surest)),
    ]
    for objective in found.costs:
        values = found.metric(objective.name)
        share = float(chosen[objective.name]) / values[surest] if chosen[objective.name] else np.nan
        facts.append(
            Fact(
                value=f"{_number(chosen[objective.name])} {objective.unit}",
                label=f"{objective.name.rpartition('_')[0]} of the cheapest within {100 * NEAR:.0f} point of it",
                remark=f"{100 * share:.0f} % of the surest; {chosen.get(_evidence(objective.name), '') or 'counted'}",
            )
        )
    if found.verified:
        kept = sum(v.verdict == "kept" for v in found.verified)
        error = 100 * float(np.median([abs(v.latency_error) for v in found.verified]))
        facts.append(
            Fact(
                value=f"{kept} of {len(found.verified)}",
                label="promises kept on the board",
                remark=f"median latency error {error:.1f} %",
            )
        )
    return facts


def _front(found: Found) -> list[Block]:
    whole = {
        tuple(f.args["genes"]): r.values["accuracy"]
        for f in found.run.store.facts("answers")
        if f.args.get("exits") is False and (r := found.run.store.get(f.key))
    }
    static = found.problem.static(np.array(list(whole), dtype=np.int16)) if whole else {}
    accuracy, oracle = found.metric("accuracy"), found.metric("oracle_accuracy")
    blocks: list[Block] = []
    for objective in found.costs:
        svg = figures.front(
            found.metric(objective.name),
            accuracy,
            oracle,
            np.asarray(static.get(objective.name, np.empty(0))),
            np.array(list(whole.values())) if objective.name in static else np.empty(0),
            _axis(objective),
        )
        caption = (
            "Each dot is a dynamic network with its thresholds. The dashed line is what an ideal router would "
            "reach with the same exits: an upper bound that no deployable score attains."
        )
        blocks.append(Figure(svg=svg, caption=caption, alt=f"front of accuracy against {objective.name}"))
    return blocks


def _designs(found: Found) -> Table:
    verdicts = {v.design.key: v.verdict for v in found.verified}
    header = [
        "design",
        "exits",
        "accuracy %",
        "oracle %",
        "latency ms",
        "energy mJ",
        "size kB",
        "leave at each stage %",
    ]
    chosen = found.chosen()
    shown = {found.designs[i].key for i in verify.spread(len(found.designs), _SHOWN)} | {chosen.key, *verdicts}
    listed = [design for design in found.designs if design.key in shown]
    rows = []
    for design in listed:
        row = found.promises[design.key]
        rates = " / ".join(f"{100 * float(r):.0f}" for r in row["exit_rates"].split(";"))
        rows.append(
            [
                design.key,
                str(len(design.stages) - 1),
                _percent(row["accuracy"]),
                _percent(row["oracle_accuracy"]),
                _number(row["latency_ms"]),
                _number(row["energy_mj"]),
                _number(row["size_bytes"], 1e-3),
                rates,
                verdicts.get(design.key),
            ]
        )
    first = found.promises[found.designs[0].key]
    evidence = ", ".join(
        f"{name.rpartition('_')[0]} {said}" for name in ("latency_ms", "energy_mj") if (said := first[_evidence(name)])
    )
    return Table(
        header=[*header, "on the board"],
        rows=rows,
        marks=frozenset({listed.index(chosen)}),
        caption=f"{len(listed)} of {len(found.designs)} designs, all in front.csv; on val; {evidence}. "
        "Marked: the cheapest design within a point of the surest.",
    )


def _promise(found: Found) -> list[Block]:
    if not found.verified:
        if found.run.config.backend == SIMULATOR:
            return [
                Text(text="Simulated: an analytic board, nothing of this was measured, and nothing can be verified.")
            ]
        return [Text(text=f"Not verified yet: search verify {found.run.folder} --designs 10")]
    predicted = np.array([v.promised["latency_ms"] for v in found.verified])
    values = [v.latency_ms for v in found.verified]
    measured = np.array([i.value for i in values])
    low = np.array([i.value if i.low is None else i.low for i in values])
    high = np.array([i.value if i.high is None else i.high for i in values])
    rows = [
        [
            v.design.key,
            _number(v.promised["latency_ms"]),
            _number(v.latency_ms.value),
            f"{100 * v.latency_error:+.1f}",
            f"{100 * v.promised['accuracy']:.2f}",
            f"{100 * v.accuracy:.2f}",
            None if v.energy_mj is None else _number(v.energy_mj),
            v.verdict,
        ]
        for v in found.verified
    ]
    header = [
        *("design", "promised ms", "measured ms", "error %"),
        *("promised acc. %", "measured acc. %", "measured mJ", "verdict"),
    ]
    return [
        Text(text=verify.summary(found.verified) + "."),
        Figure(
            svg=figures.promise(predicted, measured, low, high, "mean latency, ms", LATENCY_BAND),
            caption="Mean latency of an input: composed from the table, and run sample by sample on the board.",
            alt="promised against measured latency",
        ),
        Table(header=header, rows=rows, caption="Both on the same val samples, batch 1, thresholds included."),
    ]


def _exits(found: Found) -> list[Block]:
    key = found.chosen().key
    ran = next((v for v in found.verified if v.design.key == key), None) or next(
        (v for v in found.verified if len(v.design.stages) > 1), None
    )
    if ran is None or "difficulty" not in ran.val[-1].arrays:
        return []
    arrays = ran.val[-1].arrays
    names = [f"exit {i + 1}" for i in range(len(ran.design.stages) - 1)] + ["final"]
    right = arrays["answer"] == arrays["label"]
    rows = [
        [
            name,
            f"{100 * share.mean():.1f}",
            None if not share.any() else f"{100 * right[share].mean():.2f}",
            None if not share.any() else f"{arrays['t_ns'][share].mean() / 1e6:.4g}",
            None if not share.any() else f"{arrays['difficulty'][share].mean():.2f}",
        ]
        for n, name in enumerate(names)
        for share in [arrays["node"] == n]
    ]
    return [
        Figure(
            svg=figures.exits_by_difficulty(arrays["node"], arrays["difficulty"], names),
            caption=f"Design {ran.design.key} on the board: inputs from the easiest to the hardest sixth.",
            alt="share of inputs leaving at each exit by difficulty",
        ),
        Table(header=["leaves at", "inputs %", "right %", "mean ms", "mean difficulty"], rows=rows),
    ]


def _threshold(found: Found) -> list[Block]:
    design = found.chosen()
    if len(design.stages) < 2 or not found.costs:
        return []
    cascade, placed, level, point = found.choice(design)
    first = int(np.flatnonzero(placed)[0])
    levels = np.repeat(level[None], cascade.levels.shape[0], axis=0)
    # One patience holds for all exits; scores have a threshold each.
    levels[:, placed if cascade.patience else [first]] = np.arange(cascade.levels.shape[0])[:, None]
    outcome = cascade.evaluate(np.repeat(placed[None], len(levels), 0), levels, np.repeat(point[None], len(levels), 0))
    objective = found.costs[0]
    threshold = design.stages[0].threshold
    moved, said = (
        ("patience (leave when so many exits in a row agree)", "patience")
        if cascade.patience
        else ("threshold of the first exit (leave when the score is at least this)", "first exit's threshold")
    )
    return [
        Figure(
            svg=figures.threshold_curve(
                np.array([cascade.threshold(first, n) for n in range(len(levels))]),
                outcome.accuracy,
                outcome.metrics[objective.name],
                float("nan") if threshold is None else threshold,
                moved,
                _axis(objective),
            ),
            caption=f"Design {design.key}: the dotted line is where the search put the {said}.",
            alt=f"accuracy and cost over the {said}",
        )
    ]


def _gap(found: Found) -> list[Block]:
    if not found.verified:
        return []
    rng = np.random.default_rng(0)
    rows = []
    for v in found.verified:
        val, test = (_counts(r.arrays) for r in (v.val[-1], v.test))
        gap = 100 * (by_source.accuracy(test) - by_source.accuracy(val))
        low, high = 100 * np.quantile(by_source.resampled(test, rng) - by_source.resampled(val, rng), [0.025, 0.975])
        both = [f"{100 * by_source.accuracy(split):.2f}" for split in (val, test)]
        rows.append([v.design.key, *both, f"{gap:+.2f}", f"{low:+.2f} to {high:+.2f}"])
    sources = len(_counts(found.verified[0].test.arrays))
    return [
        Text(
            text="The search saw train and val; test was opened by the verification. The interval resamples source "
            f"images ({sources} in test), as renderings of one image are right or wrong together."
        ),
        Table(header=["design", "val %", "test %", "gap, points", "95 %"], rows=rows),
    ]


def _counts(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    return by_source.counts(arrays["answer"] == arrays["label"], arrays.get("source"))


def _residuals(found: Found) -> list[Block]:
    blocks: list[Block] = []
    for composition in found.table.compositions:
        if composition.metric != "latency_ms":
            continue
        rows = {c: r for c, r in found.table.row.items() if r.kind != "segment"}
        whole = {k: p for k, p in found.table.parts.items() if any(c.block_key == k for c in rows)}
        seen = samples(rows, whole, found.table.returned, composition.metric, composition.setting)
        if not len(seen.measured):
            continue
        error = composition.error
        blocks.append(
            Figure(
                svg=drawing.residuals(
                    seen.measured,
                    {"plain sum of blocks": seen.sums, "composition": seen.predict(composition)},
                    "latency of whole networks, ms",
                ),
                caption=f"{composition.setting}: left-out error {error.mape_percent:.1f} %, "
                f"bias {error.bias_percent:+.1f} %, Spearman {error.spearman:.3f}, n {error.n}.",
                alt="residuals of predicted networks",
            )
        )
    return blocks


def _provenance(found: Found) -> list[Block]:
    config, origin = found.run.config, found.table.origin
    facts = list(found.run.store.facts())
    rows: list[list[str | None]] = [
        ["command", config.command],
        ["code", config.version or None],
        ["supernet", f"{config.checkpoint.path.name}, sha256 {config.checkpoint.sha256[:16]}"],
        ["images", f"{config.dataset}, sha256 {config.dataset_sha256[:16]}"],
        ["budget", str(config.budget)],
        ["work", f"{len(facts)} facts, {sum(f.seconds or 0 for f in facts):.0f} s of computing"],
        ["table", f"{found.table.name}, sha256 {config.table.sha256[:16]}, made {origin.created}"],
        ["table's command", origin.command],
        ["board", ", ".join(origin.boards)],
        ["runtime", f"{found.table.runtime.name} {found.table.runtime.version}"],
        ["evidence", ", ".join(f"{m} {e}" for m, e in found.table.source.items())],
        ["sessions", _sessions(found.table)],
    ]
    rows += [["simulation", line] for line in calibration_lines(found.table)]
    return [Table(header=["what", "from"], rows=rows)]


def _sessions(table: LatencyTable) -> str | None:
    if not table.sessions:
        return None
    drifts = [s.drift_percent for s in table.sessions if s.drift_percent is not None]
    worst = max((abs(d) for d in drifts), default=None)
    return f"{len(table.sessions)}" + ("" if worst is None else f", largest drift of the control {worst:.1f} %")


def _said(found: Found, n: int) -> str:
    row = found.promises[found.designs[n].key]
    return ", ".join(f"{_number(row[o.name])} {o.unit}" for o in found.costs)


def _axis(objective: Objective) -> str:
    name = objective.name.rpartition("_")[0] or objective.name
    return f"{name}, {objective.unit} per input" if objective.unit else name


def _evidence(metric: str) -> str:
    return f"{metric.rpartition('_')[0]}_evidence"


def _number(value: str | float, factor: float = 1.0) -> str | None:
    return None if value == "" else f"{float(value) * factor:.4g}"


def _percent(value: str) -> str | None:
    return f"{100 * float(value):.2f}" if value else None
