"""hwbench.pytest_plugin in real runs of pytest, and its JSON in the hands of the real pytest-benchmark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwbench import command
from hwbench.benchmark_json import Benchmark, write
from hwbench.cli import hwbench
from hwbench.provenance import machine
from tests.hwbench.test_gate import BASE, network, table

QUICK = "sessions=4, max_sessions=4, window_s=0.005"


def pytest_run(place: Path, *words: str, plugins: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A pytest of its own in that folder, with this plugin and those named alone."""
    chosen = [word for name in ("hwbench.pytest_plugin", *plugins) for word in ("-p", name)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "--strict-markers", "-p", "no:cacheprovider", *chosen, *words],
        cwd=place,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "300"},
    )


def write_tests(place: Path, *bodies: str, marker: str = "") -> None:
    """Write test_net.py with one test a body."""
    text = "import pytest\n"
    for at, body in enumerate(bodies):
        text += f"\n@pytest.mark.hwbench({marker})\ndef test_{at}(hwbench_gate):\n    {body}\n"
    (place / "test_net.py").write_text(text)


def test_tables_pass_fail_and_skip_with_the_gates_line(tmp_path: Path) -> None:
    """Ok passes, a regression fails with one line and no traceback, another runtime skips and says why."""
    table(BASE).write(tmp_path / "base")
    table(BASE | {"b3": 1.1 * BASE["b3"]}).write(tmp_path / "slow")
    table(BASE, version="2").write(tmp_path / "other")
    bodies = [f"hwbench_gate('{new}.csv')" for new in ("base", "slow", "other")]
    write_tests(tmp_path, *bodies, marker="table='base.csv'")
    done = pytest_run(tmp_path)
    assert "1 failed, 1 passed, 1 skipped" in done.stdout
    assert "regression: b3 [cpu fp32 batch=1 threads=1], +10.0 %" in done.stdout
    assert "Traceback" not in done.stdout and "hwbench_gate(" not in done.stdout
    assert "differ in runtime" in done.stdout


def test_strict_fails_where_nothing_can_be_told(tmp_path: Path) -> None:
    """For those whose board must be the table's."""
    table(BASE).write(tmp_path / "base")
    table(BASE, version="2").write(tmp_path / "other")
    write_tests(tmp_path, "hwbench_gate('other.csv')", marker="table='base.csv'")
    assert "1 failed" in pytest_run(tmp_path, "--hwbench-strict").stdout


def test_a_table_of_another_machine_skips_before_anything_is_measured(tmp_path: Path) -> None:
    """The reason names both."""
    network(tmp_path / "a.onnx")
    table(BASE).write(tmp_path / "base")
    text = (tmp_path / "base.csv").read_text().replace("b0,block", "a-0,network")
    (tmp_path / "base.csv").write_text(text)
    write_tests(tmp_path, "hwbench_gate('a.onnx')", marker=f"target='host', table='base.csv', {QUICK}")
    done = pytest_run(tmp_path)
    assert "1 skipped" in done.stdout
    assert "was measured on a board with ort 1" in done.stdout


@pytest.mark.parametrize(
    ("marker", "body", "said"),
    [
        ("max_slowdwn=0.1", "hwbench_gate('base.csv')", "no 'max_slowdwn'"),
        ("'host'", "hwbench_gate('base.csv')", "named arguments only"),
        ("", "hwbench_gate('base.csv')", "nothing to compare with"),
        ("table='absent.csv'", "hwbench_gate('base.csv')", "no such table"),
        ("table='base.csv', target='nowhere'", "hwbench_gate('base.csv')", "nowhere"),
    ],
)
def test_what_is_wrong_with_a_gate_fails_in_a_line(tmp_path: Path, marker: str, body: str, said: str) -> None:
    """A mistyped marker must not let a slow network pass."""
    table(BASE).write(tmp_path / "base")
    write_tests(tmp_path, body, marker=marker)
    done = pytest_run(tmp_path)
    assert 1 == done.returncode
    assert said in done.stdout


def test_two_networks_are_measured_and_written_for_pytest_benchmark(tmp_path: Path) -> None:
    """Real sessions: 16 times the work fails, and what was measured lies in the file, in seconds."""
    network(tmp_path / "a.onnx")
    network(tmp_path / "b.onnx", side=64)
    write_tests(tmp_path, "hwbench_gate('b.onnx', base='a.onnx')", marker=QUICK)
    done = pytest_run(tmp_path, "--hwbench-json", "told.json")
    assert "1 failed" in done.stdout and "regression: 1 regression of 1 row" in done.stdout
    (entry,) = json.loads((tmp_path / "told.json").read_text())["benchmarks"]
    assert ("test_0", "test_net.py::test_0") == (entry["name"], entry["fullname"])
    assert 4 == entry["stats"]["rounds"] == len(entry["stats"]["data"])
    told = entry["extra_info"]
    # Two boards behind one host look alike in machine_info.
    assert ("host", True) == (told["target"], told["runtime"].startswith("ort "))
    assert told["board"] and "unknown" != told["board"]
    assert 1e-6 < entry["stats"]["median"] < 1


TIMED = """
import pytest

@pytest.mark.parametrize("slow", [1, 2])
def test_work(hwbench_seconds, slow):
    hwbench_seconds([0.001 * slow, 0.003 * slow, 0.002 * slow])
    hwbench_seconds(0.5, "other way")
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_what_a_test_times_itself_is_a_session(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """The median of its rounds, by name; workers of pytest-xdist hand theirs over."""
    (tmp_path / "test_net.py").write_text(TIMED)
    done = pytest_run(tmp_path, "--hwbench-json", "told.json", *workers, plugins=("xdist.plugin",))
    assert 0 == done.returncode, done.stdout + done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    seconds = {entry["fullname"]: entry["stats"]["data"] for entry in told["benchmarks"]}
    assert {
        "test_net.py::test_work[1]": [0.002],
        "test_net.py::test_work[1][other way]": [0.5],
        "test_net.py::test_work[2]": [0.004],
        "test_net.py::test_work[2][other way]": [0.5],
    } == seconds
    assert told["machine_info"]["cpu"]["brand_raw"] == machine().get("machine.cpu", "")


def test_two_commits_are_compared_by_runs_of_pytest(tmp_path: Path) -> None:
    """Eight runs of each by turns, as the README says; a run that hands in the other commit's file is refused."""

    def git(*words: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / ".gitignore").write_text("*.json\n")
    for commit, slow in (("base", 1.0), ("new", 1.05)):
        (tmp_path / "test_net.py").write_text(
            TIMED.replace("0.001", f"{0.001 * slow}").replace("0.002", f"{0.002 * slow}")
        )
        git("add", ".")
        git("commit", "-qm", commit)
        for at in range(3):
            assert 0 == pytest_run(tmp_path, "--hwbench-json", f"{commit}-{at}.json").returncode
    words = ("gate", f"{tmp_path}/base-*.json", f"{tmp_path}/new-*.json", "--sessions", "3")
    assert 1 == command.run(hwbench, "hwbench", words)
    assert 2 == command.run(hwbench, "hwbench", ("gate", f"{tmp_path}/*.json", words[2]))


@pytest.mark.parametrize("seconds", ["[]", "0", "float('nan')", "[1, -1]"])
def test_no_duration_is_refused(tmp_path: Path, seconds: str) -> None:
    """A clock that was read wrongly."""
    (tmp_path / "test_net.py").write_text(f"def test_work(hwbench_seconds):\n    hwbench_seconds({seconds})\n")
    assert "are no seconds" in pytest_run(tmp_path).stdout


def test_pytest_benchmark_compares_with_what_was_written(tmp_path: Path) -> None:
    """Its own --benchmark-compare reads the file and fails a benchmark that is slower than what is there."""
    write(
        tmp_path / "told.json", [Benchmark(name="test_0", fullname="test_net.py::test_0", seconds=[1e-9, 2e-9, 3e-9])]
    )
    (tmp_path / "test_net.py").write_text("def test_0(benchmark):\n    benchmark(sum, range(100))\n")
    words = ("--benchmark-compare=told.json", "--benchmark-compare-fail=median:5%", "--benchmark-max-time=0.01")
    done = pytest_run(tmp_path, *words, plugins=("pytest_benchmark.plugin",))
    assert "Performance has regressed" in done.stdout + done.stderr
    assert "told" in done.stdout


def test_the_statistics_are_those_of_pytest_benchmark(tmp_path: Path) -> None:
    """The same values through its own class give the same figures."""
    from pytest_benchmark.stats import Stats

    seconds = [1.0, 1.1, 1.2, 1.05, 0.9, 1.0, 4.0, 1.07]
    own = Stats()
    for value in seconds:
        own.update(value)
    write(tmp_path / "told.json", [Benchmark(name="a", fullname="a", seconds=seconds)])
    told = json.loads((tmp_path / "told.json").read_text())["benchmarks"][0]["stats"]
    theirs = own.as_dict()
    assert set(theirs) <= set(told)
    assert {k: v for k, v in theirs.items() if k != "outliers"} == pytest.approx(
        {k: told[k] for k in theirs if k != "outliers"}
    )
    assert theirs["outliers"] == told["outliers"]


def test_a_project_that_asks_for_no_gate_pays_nothing(tmp_path: Path) -> None:
    """Neither numpy nor onnx nor torch is imported by a run that only has the plugin installed."""
    (tmp_path / "test_plain.py").write_text(
        "import sys\n\ndef test_nothing():\n"
        "    heavy = {'numpy', 'onnx', 'onnxruntime', 'torch', 'pydantic', 'click', 'rich'}\n"
        "    assert heavy & set(sys.modules) == set()\n"
        "    assert 'hwbench.pytest_plugin' in sys.modules\n"
    )
    done = pytest_run(tmp_path)
    assert 0 == done.returncode, done.stdout
