"""Tests as arms of a gate: pytest-benchmark's JSON or our plugin's, one file or many of the same state of the code.

A file of pytest-benchmark is one process and so one session; a folder of them, or a pattern, is as many. Where files of
both arms were written by turns each pair is compared by itself: what the machine does meanwhile falls out of the ratio.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from hwbench import benchmark_file, gate_rule
from hwbench.benchmark_file import Run, Timing
from hwbench.errors import ConfigError, Inconclusive
from hwbench.gate_report import GateRow
from hwbench.gate_rule import Docket, Effect, Rule
from hwbench.statistics import median
from hwbench.summary import over_sessions

_HOW = "pytest --benchmark-autosave (or --benchmark-json FILE) once a session"


@dataclass(slots=True, kw_only=True)
class Sessions:
    """One test over all files of an arm.

    where: board and runtime, or machine and Python.  told: values and the time their file was written, file by file.
    """

    where: str
    setting: str
    told: list[tuple[datetime | None, tuple[float, ...]]] = field(default_factory=list)

    @property
    def values_ms(self) -> list[float]:
        return [value for _, values in self.told for value in values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """One arm: its tests by their full names."""

    name: str
    tests: Mapping[str, Sessions]


def files_of(text: str) -> list[Path]:
    """The JSON files of `FILE.json`, of a folder (and the folders in it) or of a pattern like `runs/*_abc*.json`.

    ConfigError where there are none.
    """
    path = Path(text)
    if path.is_dir():
        found = sorted([*path.glob("*.json"), *path.glob("*/*.json")])
        if not found:
            raise ConfigError(
                f"{text}: neither a bundle (it has no bundle.json) nor tests: there is no JSON in it; "
                f"write some with {_HOW}"
            )
        return found
    if path.is_file():
        return [path]
    found = sorted(Path(name) for name in glob.glob(text, recursive=True))
    if not found and glob.has_magic(text):
        raise ConfigError(f"{text}: no file has such a name; quote the pattern, and write files with {_HOW}")
    if not found:
        raise ConfigError(f"{text}: no such file; write it with: pytest --benchmark-json {path.name}")
    return found


def read_suite(text: str) -> Suite:
    """Read an arm; ConfigError where its files are of several commits or machines, or the same file twice."""
    runs = [benchmark_file.read(file) for file in files_of(text)]
    _once(text, runs)
    _same(text, "commits", [run.commit for run in runs])
    tests: dict[str, Sessions] = {}
    for run in runs:
        for timing in run.tests:
            where = _where(run, timing)
            test = tests.setdefault(timing.name, Sessions(where=where, setting=timing.setting))
            if test.where != where:
                _same(f"{text}: {timing.name}", "machines", [test.where, where])
            test.told.append((run.written, timing.sessions_ms))
    if not tests:
        raise ConfigError(f"{text}: no test in it was timed")
    return Suite(name=text, tests=tests)


def compare_tests(base: Suite, new: Suite, rule: Rule, *, least: int) -> tuple[list[GateRow], str]:
    """A verdict for every test, and how they were compared.

    least: fewer sessions of an arm decide nothing; the row says how many are missing.
    Raises Inconclusive where no test was measured in the same place: then a lost one may be at home there, too.
    """
    elsewhere = [_elsewhere(base.tests[name], new.tests[name]) for name in base.tests if name in new.tests]
    if elsewhere and all(elsewhere):
        raise Inconclusive(
            f"{base.name} and {new.name} were {elsewhere[0]}; a difference between them says nothing about the tests"
        )
    rows: list[GateRow] = []
    effects: dict[int, Effect] = {}
    ways: set[str] = set()
    for name in {**base.tests, **new.tests}:
        was, now = base.tests.get(name), new.tests.get(name)
        row = _row(name, was, now)
        note = "" if was is None or now is None else _hindrance(was, now, least)
        if was is not None and now is not None and row.verdict == "inconclusive" and not note:
            pairs = _by_turns(was, now)
            effect = gate_rule.paired(*zip(*pairs, strict=True)) if pairs else _between(was, now)
            if effect is not None:
                ways.add("by turns" if pairs else "one arm after the other")
                effects[len(rows)] = effect
        rows.append(replace(row, note=row.note or note))
    docket = Docket(rule=rule)
    for at, effect in docket.hear(effects).items():
        rows[at] = rows[at].judged(docket.verdicts[at], effect)
    return rows, "sessions of tests" + (f", {' or '.join(sorted(ways))}" if ways else "")


def _once(text: str, runs: Iterable[Run]) -> None:
    """A copy is no session of its own."""
    seen: dict[tuple[datetime | None, tuple[Timing, ...]], Path] = {}
    for run in runs:
        key = (run.written, run.tests)
        if key in seen:
            raise ConfigError(f"{text}: {seen[key].name} and {run.file.name} are the same run; leave one out")
        seen[key] = run.file
        names = [timing.name for timing in run.tests]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"{run.file}: {twice} stands there twice")


def _same(text: str, what: str, values: Sequence[str]) -> None:
    found = {value: values.count(value) for value in values}
    if len(found) > 1:
        told = ", ".join(f"{count} of {value or 'an unknown one'}" for value, count in found.items())
        raise ConfigError(
            f"{text}: files of several {what} ({told}), but an arm is one state of the code on one machine; "
            "name those that belong together by a pattern, like 'FOLDER/*_abc123*.json'"
        )


def _where(run: Run, timing: Timing) -> str:
    """A board is named by the test; the machine that ran pytest may be another."""
    if timing.board:
        return f"{timing.board}, {timing.runtime or 'runtime unknown'}"
    return ", ".join(word for word in (run.machine, run.python and f"python {run.python}") if word)


def _row(name: str, was: Sessions | None, now: Sessions | None) -> GateRow:
    """The row as far as it is known without statistics."""
    before, after = (test.values_ms if test is not None else [] for test in (was, now))
    row = GateRow(
        block_key=name,
        setting=(now or was or Sessions(where="", setting="")).setting,
        verdict="inconclusive",
        base=median(before) if before else None,
        new=median(after) if after else None,
    )
    if now is None:
        return replace(row, verdict="missing", note="no longer among the tests")
    return replace(row, verdict="added") if was is None else row


def _hindrance(was: Sessions, now: Sessions, least: int) -> str:
    """Why two tests cannot be compared; "" if they can."""
    elsewhere = _elsewhere(was, now)
    few = [
        f"{len(test.values_ms)} of {least} sessions in {arm}"
        for test, arm in ((was, "BASE"), (now, "NEW"))
        if len(test.values_ms) < least
    ]
    if elsewhere or not few:
        return elsewhere
    return f"{' and '.join(few)}; add sessions (a run of pytest is one), or let fewer do: --sessions"


def _elsewhere(was: Sessions, now: Sessions) -> str:
    if was.where == now.where:
        return ""
    return f"measured on {was.where or 'an unknown machine'} and on {now.where or 'an unknown machine'}"


def _by_turns(was: Sessions, now: Sessions) -> list[tuple[float, float]]:
    """Values of both arms, file by file, where each two files that follow each other in time are one of either."""
    told = []
    for arm, test in enumerate((was, now)):
        for when, values in test.told:
            if when is None or len(values) != 1:
                return []
            told.append((when, arm, values[0]))
    told.sort(key=lambda entry: entry[0])
    pairs = [sorted(told[at : at + 2], key=lambda entry: entry[1]) for at in range(0, len(told), 2)]
    if any([arm for _, arm, _ in pair] != [0, 1] for pair in pairs):
        return []
    return [(base[2], new[2]) for base, new in pairs]


def _between(was: Sessions, now: Sessions) -> Effect | None:
    arms = []
    for test in (was, now):
        found = over_sessions(test.values_ms)
        if found.low is None or found.high is None:
            return None
        arms.append((found.value, found.low, found.high))
    return gate_rule.between(arms[0], arms[1], len(was.values_ms), len(now.values_ms))
