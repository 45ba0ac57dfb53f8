"""hwbench gate over pytest-benchmark's JSON: folders and patterns of it, written by the real pytest-benchmark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from hwbench import command
from hwbench.benchmark_json import Benchmark, write
from hwbench.cli import hwbench
from hwbench.errors import ConfigError
from hwbench.gate_rule import Rule
from hwbench.gate_tests import compare_tests, read_suite

STEADY = (1.0, 1.001, 0.999, 1.002, 0.998, 1.0, 1.001, 0.999)
NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def gate(*words: str) -> int:
    return command.run(hwbench, "hwbench", ("gate", *words))


def theirs(
    file: Path, tests: dict[str, float], *, minute: float = 0, commit: str = "abc", cpu: str = "a cpu"
) -> dict[str, Any]:
    """A file as pytest-benchmark writes it: one process, values in seconds."""
    text = {
        "machine_info": {"system": "Linux", "python_version": "3.12.1", "cpu": {"brand_raw": cpu}},
        "commit_info": {"id": commit, "dirty": False},
        "benchmarks": [
            {
                "fullname": name,
                "options": {"timer": "perf_counter"},
                "stats": {"median": s, "rounds": 5, "data": [s] * 5},
            }
            for name, s in tests.items()
        ],
        "datetime": (NOON + timedelta(minutes=minute)).isoformat(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(text), encoding="utf-8")
    return text


def arm(folder: Path, values: Sequence[float], *, late: float, step: float = 2, **how: str) -> Path:
    """A folder of one file a session; `late` minutes after noon, `step` minutes apart."""
    for at, value in enumerate(values):
        theirs(folder / f"{at:04d}_run.json", {"t::a": value, "t::b": 2 * STEADY[at]}, minute=late + step * at, **how)
    return folder


class TestFolders:
    """One file, one session."""

    def test_runs_by_turns_are_compared_pair_by_pair(self, tmp_path: Path) -> None:
        """A machine that gets a third slower on the way changes no ratio: 5 % are found, and nothing is invented."""
        drift = [1 + at / 20 for at in range(8)]
        base = arm(tmp_path / "base", [d * s for d, s in zip(drift, STEADY, strict=True)], late=0)
        new = arm(tmp_path / "new", [1.05 * d * s for d, s in zip(drift, STEADY[::-1], strict=True)], late=1)
        rows, how = compare_tests(read_suite(str(base)), read_suite(str(new)), Rule(), least=8)
        assert {"t::a": "regression", "t::b": "ok"} == {row.block_key: row.verdict for row in rows}
        assert [8, 8] == [row.sessions for row in rows]
        assert "by turns" in how
        rows, how = compare_tests(read_suite(str(base)), read_suite(str(base)), Rule(), least=8)
        assert {"ok"} == {row.verdict for row in rows if row.block_key == "t::b"}

    def test_too_few_sessions_decide_nothing_and_say_how_many_are_missing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """However large the difference is; --sessions lets fewer do."""
        base = arm(tmp_path / "base", STEADY[:5], late=0)
        new = arm(tmp_path / "new", [3 * s for s in STEADY[:5]], late=1)
        assert 3 == gate(str(base), str(new))
        assert "5 of 8 sessions in BASE and 5 of 8 sessions in NEW" in capsys.readouterr().err
        assert 1 == gate(str(base), str(new), "--sessions", "5")
        assert "by turns" not in capsys.readouterr().err

    def test_patterns_pick_the_files_of_a_commit(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """pytest-benchmark keeps all commits in one folder, whose name is the machine's."""
        machine = tmp_path / ".benchmarks" / "Linux-CPython-3.12-64bit"
        for at in range(8):
            theirs(machine / f"{2 * at:04d}_abc_day.json", {"t::a": STEADY[at]}, minute=2 * at)
            theirs(
                machine / f"{2 * at + 1:04d}_def_day.json", {"t::a": 1.05 * STEADY[at]}, minute=2 * at + 1, commit="def"
            )
        assert 2 == gate(str(tmp_path / ".benchmarks"), str(tmp_path / ".benchmarks"))
        assert "files of several commits (8 of abc, 8 of def)" in capsys.readouterr().err
        assert 1 == gate(f"{machine}/*_abc_*.json", f"{machine}/*_def_*")
        assert 2 == gate(f"{machine}/*_xyz_*.json", f"{machine}/*_def_*")
        assert "no file has such a name" in capsys.readouterr().err

    def test_what_is_no_arm_is_refused_in_a_line(self, tmp_path: Path) -> None:
        """An empty folder, two machines in one arm, a copied file, a foreign one."""
        (tmp_path / "empty").mkdir()
        with pytest.raises(
            ConfigError, match=r"neither a bundle .* nor tests: there is no JSON in it; write some with"
        ):
            read_suite(str(tmp_path / "empty"))
        mixed = arm(tmp_path / "mixed", STEADY[:2], late=0)
        theirs(mixed / "0002_run.json", {"t::a": 1.0}, minute=9, cpu="another cpu")
        with pytest.raises(ConfigError, match=r"t::a: files of several machines .*another cpu"):
            read_suite(str(mixed))
        copied = arm(tmp_path / "copied", STEADY[:2], late=0)
        (copied / "0002_run.json").write_text((copied / "0001_run.json").read_text(encoding="utf-8"), encoding="utf-8")
        with pytest.raises(ConfigError, match=r"0001_run\.json and 0002_run\.json are the same run"):
            read_suite(str(copied))
        foreign = arm(tmp_path / "foreign", STEADY[:1], late=0)
        (foreign / "package.json").write_text("{}", encoding="utf-8")
        with pytest.raises(ConfigError, match=r"package\.json: not pytest-benchmark's JSON: benchmarks"):
            read_suite(str(foreign))

    def test_a_lost_test_fails_and_another_machine_decides_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As with a file."""
        base, new = arm(tmp_path / "base", STEADY, late=0), arm(tmp_path / "new", STEADY, late=1, cpu="another")
        assert 3 == gate(str(base), str(new))
        assert "measured on Linux a cpu, python 3.12.1 and on Linux another, python 3.12.1" in capsys.readouterr().err
        theirs(tmp_path / "fewer.json", {"t::a": 1.0})
        assert 1 == gate(str(base), str(tmp_path / "fewer.json"))
        assert "missing: t::b, no longer among the tests" in capsys.readouterr().err


def test_folders_that_pytest_benchmark_writes_are_read(tmp_path: Path) -> None:
    """Three real runs of it, saved as its users save them."""
    (tmp_path / "test_sum.py").write_text(
        "def test_sum(benchmark):\n    benchmark(sum, range(100))\n", encoding="utf-8"
    )
    words = (
        "-p",
        "pytest_benchmark.plugin",
        "-p",
        "no:cacheprovider",
        "-q",
        "--benchmark-max-time=0.01",
        "--benchmark-autosave",
    )
    for _ in range(3):
        subprocess.run(
            [sys.executable, "-m", "pytest", *words], cwd=tmp_path, check=True, capture_output=True,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        )  # fmt: skip
    (test,) = read_suite(str(tmp_path / ".benchmarks")).tests.values()
    assert 3 == len(test.values_ms)
    assert all(value > 0 for value in test.values_ms)


def ours(file: Path, slow: float = 1.0, **where: str) -> None:
    """What the plugin writes."""
    write(file, [Benchmark(name="t::a", fullname="t::a", seconds=[slow * s / 1e3 for s in STEADY], told=where)])


HERE = {"target": "rpi4", "board": "Raspberry Pi 4 rpi-01", "runtime": "onnxruntime 1.20"}


@pytest.mark.parametrize(
    "other",
    [{"board": "Raspberry Pi 4 rpi-02"}, {"target": "rpi4-fast"}, {"runtime": "onnxruntime 1.21"}],
    ids=["board", "target", "runtime"],
)
def test_two_boards_behind_one_host_are_not_compared(
    tmp_path: Path, other: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The machine that runs pytest is the same; the board, its target or its runtime is another."""
    ours(tmp_path / "base.json", **HERE)
    ours(tmp_path / "new.json", 1.1, **HERE)
    ours(tmp_path / "other.json", 1.1, **HERE | other)
    base = str(tmp_path / "base.json")
    assert 1 == gate(base, str(tmp_path / "new.json"))
    assert 3 == gate(base, str(tmp_path / "other.json"))
    told = capsys.readouterr().err
    assert "measured on rpi4: Raspberry Pi 4 rpi-01, onnxruntime 1.20 and on" in told
    assert next(iter(other.values())) in told
