"""A gate inside pytest: `hwbench_gate(model)` measures a network in fresh sessions, and fails when it got slower.

What a test times itself `hwbench_seconds(seconds)` keeps; a run of pytest is one session of it for `hwbench gate`.

    @pytest.mark.hwbench(target="rpi5", table="latency_tables/rpi5/onnxruntime-net.csv", max_slowdown=0.03)
    def test_net_is_as_fast_as_it_was(hwbench_gate):
        hwbench_gate("net.onnx")

pytest loads this in every project where hwbench is installed: nothing heavy is imported before a gate is asked.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from hwbench.gate import Gate
    from hwbench.gate_report import GateReport

_KEY = "hwbench"
_WORDS = ("target", "table", "backend", "precision", "threads")
_NUMBERS = ("max_slowdown", "threshold", "sessions", "max_sessions", "window_s")


class HwbenchGate(Protocol):
    """What the fixture gives a test."""

    def __call__(self, new: str | Path, *, base: str | Path | None = None) -> GateReport:
        """Fail the test when `new` is slower than `base`; skip it (--hwbench-strict: fail) when that cannot be told.

        new, base: a network file, a bundle folder or a table, as `hwbench gate` takes them; base: None = the marker's
        `table`.  Two files are measured side by side; against a table only the new one is measured.
        """


class HwbenchSeconds(Protocol):
    """What the fixture `hwbench_seconds` gives a test."""

    def __call__(self, seconds: float | Iterable[float], name: str = "") -> None:
        """Keep what was timed for --hwbench-json: the median of all rounds, since they are of one process.

        name: tells apart what one test times.  Raises ValueError for what is no duration.
        """


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options, all of them named --hwbench-…"""
    group = parser.getgroup(_KEY, "hwbench: gates on the speed of neural networks")
    group.addoption("--hwbench-target", metavar="NAME", help="Measure there, whatever the markers say.")
    group.addoption("--hwbench-strict", action="store_true", help="Fail where a gate is inconclusive; else skip.")
    group.addoption("--hwbench-json", metavar="FILE", help="Write what was measured in the format of pytest-benchmark.")


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and a place for what the tests of this run measure."""
    config.addinivalue_line(
        "markers",
        "hwbench(target=None, table=None, max_slowdown=0.03, threshold=0.01, sessions=8, max_sessions=128, "
        "window_s=None, backend=None, precision=None, threads=None, strict=False): how hwbench_gate measures",
    )
    config.stash[_MEASURED] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write --hwbench-json; a worker of pytest-xdist hands what it has to the process that started it."""
    config = session.config
    file = config.getoption("--hwbench-json")
    if file and hasattr(config, "workeroutput"):
        config.workeroutput[_KEY] = config.stash[_MEASURED]
    elif file:
        from hwbench import benchmark_json

        told = [benchmark_json.Benchmark(**entry) for entry in config.stash[_MEASURED]]
        benchmark_json.write(Path(file), told, config.rootpath)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker of pytest-xdist measured; one that crashed tells nothing."""
    node.config.stash[_MEASURED].extend(getattr(node, "workeroutput", {}).get(_KEY, ()))


@pytest.fixture
def hwbench_gate(request: pytest.FixtureRequest) -> HwbenchGate:
    """Call it with a network (and a base) to fail this test when the network got slower."""
    marker = request.node.get_closest_marker(_KEY)
    said: dict[str, Any] = dict(marker.kwargs) if marker is not None else {}
    if marker is not None and marker.args:
        pytest.fail("the marker hwbench takes named arguments only, like target='host'", pytrace=False)
    unknown = sorted(set(said) - {*_WORDS, *_NUMBERS, "strict"})
    if unknown:
        known = ", ".join((*_WORDS, *_NUMBERS, "strict"))
        pytest.fail(f"the marker hwbench has no {unknown[0]!r} (known: {known})", pytrace=False)
    strict = bool(said.get("strict")) or request.config.getoption("--hwbench-strict")

    def ask(new: str | Path, *, base: str | Path | None = None) -> GateReport:
        from hwbench.errors import HwbenchError
        from hwbench.gate import gate

        against = base if base is not None else said.get("table")
        if against is None:
            pytest.fail("nothing to compare with: name a table= in the marker hwbench, or give base=", pytrace=False)
        try:
            asked = _question(str(against), str(new), said, request.config.getoption("--hwbench-target"))
            report = gate(asked)
        except HwbenchError as error:
            pytest.fail(str(error), pytrace=False)
        _remember(request, report)
        if report.verdict == "regression" or (report.verdict == "inconclusive" and strict):
            pytest.fail(report.line, pytrace=False)
        if report.verdict == "inconclusive":
            pytest.skip(report.line)
        return report

    return ask


@pytest.fixture
def hwbench_seconds(request: pytest.FixtureRequest) -> HwbenchSeconds:
    """Call it with what this test timed."""

    def keep(seconds: float | Iterable[float], name: str = "") -> None:
        rounds = [float(s) for s in (seconds if isinstance(seconds, Iterable) else [seconds])]
        if not rounds or not all(0 < s < math.inf for s in rounds):
            raise ValueError(f"{request.node.nodeid}: {seconds!r} are no seconds")
        _keep(request, name, [statistics.median(rounds)], {"rounds": len(rounds)})

    return keep


def _question(base: str, new: str, said: Mapping[str, Any], target: str | None) -> Gate:
    """What the marker and the command line say, as a Gate."""
    from hwbench.gate import Gate
    from hwbench.gate_measure import Place
    from hwbench.gate_rule import Rule
    from hwbench.session import WindowSpec
    from hwbench.target_file import find_target

    name = target or said.get("target")
    sessions = int(said.get("sessions", Place().sessions))
    how = WindowSpec()
    if said.get("window_s") is not None:
        how = dataclasses.replace(how, min_time_s=float(said["window_s"]))
    return Gate(
        base=base,
        new=new,
        target=find_target(name) if name else None,
        place=Place(
            backend=said.get("backend"),
            precisions=(said["precision"],) if said.get("precision") else (),
            threads=(int(said["threads"]),) if said.get("threads") else (),
            sessions=sessions,
            most_sessions=max(sessions, int(said.get("max_sessions", Place().most_sessions))),
            how=how,
            # Tests that run beside each other share the board.
            wait=True,
        ),
        rule=Rule(
            threshold=float(said.get("threshold", Rule().threshold)),
            max_slowdown=float(said.get("max_slowdown", Rule().max_slowdown)),
        ),
    )


def _remember(request: pytest.FixtureRequest, report: GateReport) -> None:
    """Keep what was measured for --hwbench-json, and where.

    Of several rows each has its key in the name, and its setting where a key has several: the order of rows is that of
    their verdicts, which may be another one in the next run.
    """
    place = {} if report.place is None else dataclasses.asdict(report.place)
    keys = [row.block_key for row in report.rows]
    for row in report.rows:
        if row.new_sessions:
            words = [row.block_key] if len(keys) > 1 else []
            words += [row.setting] if keys.count(row.block_key) > 1 else []
            told = {"how": report.how, "block_key": row.block_key, "setting": row.setting, "verdict": row.verdict}
            _keep(request, ", ".join(words), [float(value) / 1e3 for value in row.new_sessions], place | told)


def _keep(request: pytest.FixtureRequest, name: str, seconds: list[float], told: dict[str, Any]) -> None:
    """Sessions of this test; a name that it used before gets a number."""
    measured = request.config.stash[_MEASURED]
    suffix = f"[{name}]" if name else ""
    taken, at, mark = {entry["fullname"] for entry in measured}, 1, ""
    while f"{request.node.nodeid}{suffix}{mark}" in taken:
        at += 1
        mark = f"#{at}"
    names = {"name": f"{request.node.name}{suffix}{mark}", "fullname": f"{request.node.nodeid}{suffix}{mark}"}
    measured.append({**names, "seconds": seconds, "told": told})


_MEASURED: pytest.StashKey[list[dict[str, Any]]] = pytest.StashKey()
