"""`make demo`: the whole loop on this machine, with the real commands: profile, search twice, verify, report."""

from __future__ import annotations

import csv
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import click

from hwbench.errors import Finding, Inconclusive

_PROFILE = "profile --target host --space digits --networks 48 --sessions 3 --window 0.03 --slowest 8 --fresh"
_OBJECTIVES = ("latency", "energy")
_DESIGNS = 3


def main() -> int:
    """Run the commands one after the other; the exit code of the first that failed, 0 when all went well."""
    started = time.monotonic()
    folder = Path("runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    # The demo's table stays with the demo: one's own measurements are not overwritten by a quick look.
    environment = {**os.environ, "HWBENCH_TABLES": str(folder / "latency_tables")}

    def call(module: str, line: str, *, allowed: tuple[int, ...] = (0,)) -> int:
        click.echo(f"\n$ {module} {line}")
        argv = [sys.executable, "-m", f"{module}.cli", *shlex.split(line)]
        code = subprocess.run(argv, env=environment, check=False).returncode
        if code not in allowed:
            raise SystemExit(code)
        return code

    call("hwbench", f"{_PROFILE} --runs {folder}")
    earlier = ""
    for objective in _OBJECTIVES:
        run = folder / objective
        call("search", f"run --objective {objective} --space digits --target host{earlier} --out {run}")
        earlier = f" --reuse {run}"
        # A promise that a noisy machine broke is a finding to look at, not the end of the demo.
        call(
            "search",
            f"verify {run} --designs {_DESIGNS} --sessions 2",
            allowed=(0, Finding.exit_code, Inconclusive.exit_code),
        )
        call("search", f"report {run}")
    click.echo("\n" + "\n".join(_summary(folder, time.monotonic() - started)))
    return 0


def _summary(folder: Path, seconds: float) -> list[str]:
    """Ten lines: what was measured, found and kept, and where the reports are."""
    from hwbench.table import LatencyTable
    from search.front import NEAR, read_csv

    table = LatencyTable.read(folder / "latency_tables" / "host" / "onnxruntime-digits")
    composition = table.composition("latency_ms", table.settings[0])
    blocks = sum(row.kind == "block" for row in table.row.values())
    lines = [
        f"demo done in {seconds / 60:.1f} minutes on {os.cpu_count()} cores, {', '.join(table.origin.boards)}",
        f"table     {blocks} blocks measured; whole networks predicted within {composition.error.mape_percent:.1f} % "
        f"(left out of the fit, n {composition.error.n})",
    ]
    for objective in _OBJECTIVES:
        rows = list(read_csv(folder / objective / "front.csv").values())
        metric, unit = {"latency": ("latency_ms", "ms"), "energy": ("energy_mj", "mJ")}[objective]
        surest = max(rows, key=lambda r: float(r["accuracy"]))
        near = next(r for r in rows if float(r["accuracy"]) >= float(surest["accuracy"]) - NEAR)
        verified = _verified(folder / objective)
        kept = sum(v["verdict"] == "kept" for v in verified)
        lines += [
            f"{objective:<9} {len(rows)} designs; surest {100 * float(surest['accuracy']):.1f} % at "
            f"{float(surest[metric]):.3g} {unit}",
            f"          within a point of it: {100 * float(near['accuracy']):.1f} % at {float(near[metric]):.3g} "
            f"{unit} ({float(near[metric]) / float(surest[metric]):.0%} of the cost, "
            f"{surest[metric.rpartition('_')[0] + '_evidence']})",
            f"          {kept} of {len(verified)} promises kept when run on real inputs",
        ]
    lines += [f"report    {folder / objective / 'report.html'}" for objective in _OBJECTIVES]
    return lines


def _verified(run: Path) -> list[dict[str, str]]:
    with (run / "verify.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    sys.exit(main())
