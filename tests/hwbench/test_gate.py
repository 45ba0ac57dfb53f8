"""hwbench gate: tables, revisions and networks; real sessions of the machine the tests run on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from hwbench import command
from hwbench.benchmark_json import Benchmark, write
from hwbench.cli import hwbench
from hwbench.evidence import MEASURED
from hwbench.gate import Gate, compare_tables, gate
from hwbench.gate_report import GateReport, GateRow
from hwbench.gate_rule import Rule
from hwbench.measurement import Cell, Interval
from hwbench.row import Row
from hwbench.setting import Setting
from hwbench.table import LatencyTable, Origin, RuntimeSection
from tests.doubles.networks import matmul_bundle
from tests.hwbench.onnx_networks import Net

CPU = Setting(unit="cpu", precision="fp32", threads=1)
QUICK = ("--window", "0.005", "--sessions", "4", "--max-sessions", "4")


def run(*words: str) -> int:
    return command.run(hwbench, "hwbench", words)


def table(values: dict[str, float], *, wide: float = 0.002, setting: Setting = CPU, version: str = "1") -> LatencyTable:
    """A table of blocks with these latencies, over eight sessions."""
    rows = {}
    for key, value in values.items():
        cell = Cell(block_key=key, setting=setting)
        rows[cell] = Row(
            cell=cell,
            kind="block",
            latency_ms=Interval(value=value, low=value * (1 - wide), high=value * (1 + wide)),
            latency_evidence=MEASURED,
            sessions=8,
            artifact_sha256=f"file of {key}",
        )
    origin = Origin(target="host", backend="onnxruntime", space="blocks", boards=["a board"], created="")
    return LatencyTable(origin=origin, runtime=RuntimeSection(name="ort", version=version), row=rows)


BASE = {f"b{i}": 1.0 + i for i in range(10)}


def verdicts(base: LatencyTable, new: LatencyTable) -> dict[str, str]:
    return {
        row.block_key: row.verdict for row in compare_tables(base, new, "latency_ms", Rule()) if row.verdict != "ok"
    }


class TestTables:
    """What two tables hold."""

    def test_equal_tables_are_ok(self) -> None:
        """No row stands out."""
        assert {} == verdicts(table(BASE), table(BASE))

    def test_the_slower_row_is_named(self) -> None:
        """And the faster one, apart."""
        assert {"b3": "regression", "b4": "improvement"} == verdicts(
            table(BASE), table(BASE | {"b3": 1.05 * BASE["b3"], "b4": 0.9 * BASE["b4"]})
        )

    def test_wide_intervals_decide_nothing(self) -> None:
        """A table measured in noise can neither accuse nor acquit."""
        assert {"inconclusive"} == set(verdicts(table(BASE, wide=0.2), table(BASE, wide=0.2)).values())

    def test_rows_that_go_and_come(self) -> None:
        """Missing, renamed (the same file under another key) and added."""
        new = table({k: v for k, v in BASE.items() if k not in ("b1", "b2")} | {"b99": 1.0, "other": 3.0})
        cell = Cell(block_key="other", setting=CPU)
        rows = {**new.row, cell: replace(new.row[cell], artifact_sha256="file of b2")}
        assert {"b1": "missing", "b2": "renamed", "b99": "added"} == verdicts(table(BASE), replace(new, row=rows))

    def test_other_clocks_are_no_missing_rows(self) -> None:
        """They say nothing about the network."""
        other = replace(CPU, clocks=(("cpu", 600.0),))
        found = verdicts(table({"b1": 1.0}), table({"b1": 2.0}, setting=other))
        assert "inconclusive" in found.values() or found == {"b1": "added"}
        rows = compare_tables(table({"b1": 1.0}), table({"b1": 2.0}, setting=other), "latency_ms", Rule())
        assert ["inconclusive", "added"] == [row.verdict for row in rows]

    def test_a_throttled_row_is_inconclusive(self) -> None:
        """However much slower it is."""
        new = table(BASE | {"b3": 9.0})
        cell = Cell(block_key="b3", setting=CPU)
        rows = {**new.row, cell: replace(new.row[cell], flags=("throttled:2/8",))}
        assert {"b3": "inconclusive"} == verdicts(table(BASE), replace(new, row=rows))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, and where tables go."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HWBENCH_TABLES", str(tmp_path / "tables"))
    yield tmp_path


def network(file: Path, *, blocks: int = 2, side: int = 16) -> Path:
    """A chain of convolutions."""
    net = Net((1, 3, side, side))
    at = net.node("Relu", net.conv("image", 3, 8))
    for _ in range(blocks):
        at = net.node("Relu", net.conv(at, 8, 8))
    onnx.save(net.model(at), file)
    return file


class TestCommand:
    """Exit codes, JSON and Markdown."""

    def test_the_exit_code_is_the_verdict(self, place: Path) -> None:
        """0 ok, 1 regression, 3 another runtime."""
        table(BASE).write(place / "base")
        table(BASE | {"b3": 1.1 * BASE["b3"]}).write(place / "slow")
        table(BASE, version="2").write(place / "other")
        assert 0 == run("gate", "base", "base.csv")
        assert 1 == run("gate", "base.csv", "slow.csv")
        assert 3 == run("gate", "base.csv", "other.csv")

    def test_a_file_of_pytest_benchmark_is_an_arm(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Rounds of our own are sessions and decide; a file of that tool is one session, and a lost test fails."""
        steady = [1.0, 1.001, 0.999, 1.002, 0.998, 1.0, 1.001, 0.999]
        for name, tests in {"base": {"t::a": 1.0, "t::b": 300.0}, "slow": {"t::a": 1.1, "t::b": 300.0}}.items():
            told = [
                Benchmark(name=key, fullname=key, seconds=[s * v / 1e3 for s in steady]) for key, v in tests.items()
            ]
            write(place / f"{name}.json", told)
        assert 0 == run("gate", "base.json", "base.json")
        assert 2 == run("gate", "base.json", str(network(place / "net.onnx")))
        assert "compared with JSON alone" in capsys.readouterr().err
        assert 1 == run("gate", "base.json", "slow.json")
        assert "t::a" in capsys.readouterr().err
        text = json.loads((place / "base.json").read_text(encoding="utf-8"))
        for benchmark in text["benchmarks"]:
            benchmark["options"]["timer"] = "perf_counter"
        (place / "theirs.json").write_text(json.dumps(text), encoding="utf-8")
        assert 3 == run("gate", "theirs.json", "theirs.json")
        assert "1 of 8 sessions in BASE and 1 of 8 sessions in NEW; add sessions" in capsys.readouterr().err
        text["benchmarks"].pop()
        (place / "fewer.json").write_text(json.dumps(text), encoding="utf-8")
        assert 1 == run("gate", "theirs.json", "fewer.json")
        text["machine_info"]["cpu"] = {"brand_raw": "another"}
        (place / "elsewhere.json").write_text(json.dumps(text), encoding="utf-8")
        assert 3 == run("gate", "theirs.json", "elsewhere.json")

    def test_markdown_and_json_name_the_row(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What a pull request shows, and what a script reads."""
        table(BASE).write(place / "base")
        table(BASE | {"b3": 1.1 * BASE["b3"]}).write(place / "slow")
        assert 1 == run("gate", "base", "slow", "--markdown", "told.md", "--json")
        told = json.loads(capsys.readouterr().out)
        assert ("regression", "b3") == (told["verdict"], told["rows"][0]["block_key"])
        assert 1.1 == pytest.approx(told["rows"][0]["ratio"])
        text = (place / "told.md").read_text(encoding="utf-8")
        assert "| regression | `b3` |" in text and "+10.0 %" in text

    def test_another_runtime_is_told_in_markdown_too(self, place: Path) -> None:
        """A pull request hears why nothing was compared."""
        table(BASE).write(place / "base")
        table(BASE, version="2").write(place / "other")
        assert 3 == run("gate", "base", "other", "--markdown", "told.md")
        assert "differ in runtime" in (place / "told.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("gate", "absent.csv", "absent.csv"), "no such table"),
            (("gate", "absent.onnx", "absent.onnx"), "no such file"),
            (("gate", "absent.json", "absent.json"), "no such file; write it with: pytest --benchmark-json"),
            (("gate", "base.csv@--output=x", "base.csv"), "no git revision"),
            (("gate", "base.csv@main", "base.csv"), "give a revision that this checkout has"),
            (("gate", "base", "base", "--threshold", "5"), "less than --max-slowdown"),
            (("gate", "base", "base", "--markdown", "absent/told.md"), "there is no folder absent"),
            (("gate", "base", "base", "--host", "a@b"), "name it with --target"),
        ],
    )
    def test_what_is_wrong_is_said_in_a_line(
        self, place: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Exit 2: the user's input."""
        table(BASE).write(place / "base")
        assert 2 == run(*words)
        err = capsys.readouterr().err
        assert said in err and 1 == len(err.strip().splitlines())


def test_a_table_is_read_from_a_revision(place: Path) -> None:
    """What was committed, whatever the file says now; also when its folder has gone."""

    def git(*words: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *words], cwd=place, check=True, capture_output=True)

    table(BASE).write(place / "kept" / "base")
    git("init", "-q")
    git("add", "kept")
    git("commit", "-qm", "a table")
    table(BASE | {"b3": 2 * BASE["b3"]}).write(place / "kept" / "base")
    assert 1 == run("gate", "kept/base.csv@HEAD", "kept/base.csv")
    for file in (place / "kept").iterdir():
        file.unlink()
    (place / "kept").rmdir()
    assert 0 == run("gate", "kept/base.csv@HEAD", "kept/base@HEAD")


class TestMeasured:
    """Networks measured side by side in real sessions."""

    def test_the_same_file_is_ok_without_a_session(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Equal bytes are equally fast."""
        network(place / "a.onnx")
        assert 0 == run("gate", "a.onnx", "a.onnx", "--json")
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert ("the same file", 0) == (row["note"], row["sessions"])

    def test_sixteen_times_the_work_is_a_regression(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A real slowdown, found in four real sessions."""
        network(place / "a.onnx")
        network(place / "b.onnx", side=64)
        assert 1 == run("gate", "a.onnx", "b.onnx", "--json", *QUICK)
        told = json.loads(capsys.readouterr().out)
        (row,) = told["rows"]
        assert row["ratio"] > 2 and 4 == row["sessions"]
        assert told["how"].startswith("interleaved")

    def test_bundles_go_together_by_key(self, place: Path) -> None:
        """Equal blocks are not run, one that is gone is missing, one under another key is renamed."""
        base, new = matmul_bundle(place / "base", (16, 24, 32)), matmul_bundle(place / "new", (16, 24))
        moved = replace(new.workload("matmul-24"), block_key="product-24")
        replace(new, workloads=(new.workload("matmul-16"), moved)).write()
        report = gate(Gate(base=str(base.root), new=str(new.root)))
        assert {"matmul-16": "ok", "matmul-24": "renamed", "matmul-32": "missing"} == {
            row.block_key: row.verdict for row in report.rows
        }
        assert "regression" == report.verdict

    def test_a_network_is_held_against_its_table(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The table's only network is what a changed file is compared with."""
        network(place / "a.onnx")
        assert 0 == run("profile", "--model", "a.onnx", "--sessions", "4", "--window", "0.005")
        network(place / "b.onnx", side=64)
        capsys.readouterr()
        assert 1 == run("gate", "tables/host/onnxruntime-a.csv", "b.onnx", "--json", *QUICK)
        told = json.loads(capsys.readouterr().out)
        (row,) = told["rows"]
        assert row["block_key"].startswith("a-") and row["ratio"] > 2


def test_markdown_stays_a_table_whatever_a_key_holds() -> None:
    """Keys are the user's: none may break out of its cell."""
    row = GateRow(block_key="a|b`<img>\nc", setting="cpu", verdict="missing", base=1.0)
    text = GateReport(base="x", new="y", metric="latency_ms", rule=Rule(), how="tables", rows=(row,)).markdown()
    (line,) = [line for line in text.splitlines() if line.startswith("| missing")]
    assert 9 == line.replace("\\|", "").count("|")
    assert "<img" not in text


def test_nothing_compared_is_not_ok() -> None:
    """An empty gate has excluded nothing."""
    report = GateReport(base="x", new="y", metric="latency_ms", rule=Rule(), how="tables", rows=())
    assert "inconclusive" == report.verdict
