"""`hwbench table import`: real files of other tools become tables, and what is wrong is one line and exit code 2.

All numbers that are not written by a real tool here are invented.
"""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from hwbench import command
from hwbench.benchmark_json import Benchmark, write
from hwbench.cli import hwbench
from hwbench.errors import ConfigError
from hwbench.networks_file import read_networks
from hwbench.plausible import bound_ms
from hwbench.table import LatencyTable
from hwbench.target_file import find_target
from hwbench.workload import Bundle, Op, Workload

RECORDINGS = Path(__file__).parents[1] / "recordings"
SOURCE = ("--source", "Invented 2026", "--licence", "MIT")
MAP = ("--column", "block_key=op", "--column", "latency_ms=lat:us")
ARCHS = [f"|{op}~0|+|none~0|none~1|+|none~0|none~1|none~2|" for op in ("skip_connect", "nor_conv_3x3", "none")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What the shell would see of a command."""

    exit_code: int
    out: str
    err: str


Run = Callable[..., Done]
Table = Callable[..., LatencyTable]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*argv: Any) -> Done:
        said = ["table", "import", *map(str, argv), "--target", "rpi4", "--out", str(tmp_path / "out")]
        code = command.run(hwbench, "hwbench", said)
        told = capsys.readouterr()
        return Done(exit_code=code, out=told.out, err=told.err)

    return run


@pytest.fixture
def table(tmp_path: Path, run: Run) -> Table:
    def table(*argv: Any) -> LatencyTable:
        done = run(*argv)
        assert done.exit_code == 0, done.err
        return LatencyTable.read(tmp_path / "out")

    return table


def csv(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "lat.csv"
    file.write_text(text, encoding="utf-8")
    return file


def refused(done: Done) -> str:
    assert done.exit_code == 2, done
    assert len(done.err.strip().splitlines()) == 1, done.err
    return done.err


def test_generic_converts_units_and_keeps_the_source(tmp_path: Path, run: Run) -> None:
    """Power becomes energy, derived; a row that stands there again is one row; -1 is none."""
    file = csv(tmp_path, "op,lat,p\na,1500,2\nb,2000,3\na,1500,2\nc,-1,\n")
    done = run("generic", file, *MAP, "--column", "power_mw=p:W", *SOURCE, "--url", "https://x.org", "--json")
    told = json.loads(done.out)
    assert (2, 1, 1) == (told["rows"], told["repeated"], told["left_out"])
    found = LatencyTable.read(tmp_path / "out")
    rows = {c.block_key: r for c, r in found.row.items()}
    assert [1.5, 2.0] == [rows[k].latency_ms.value for k in "ab"]
    assert rows["a"].energy_mj is not None and math.isclose(rows["a"].energy_mj.value, 3.0)
    assert {"latency_ms": "published", "energy_mj": "predicted:published"} == {
        m: str(e) for m, e in found.source.items()
    }
    assert "no_machine" in rows["a"].flags and "no_licence" not in rows["a"].flags
    assert ("Invented 2026", "MIT", "https://x.org") == tuple(found.imported[k] for k in ("source", "licence", "url"))


@pytest.mark.parametrize(
    ("text", "argv", "said"),
    [
        ("op,lat\na,1\n", ("--column", "block_key=op", "--column", "latency_ms=lat"), "'lat' has no unit"),
        ("op,lat\na,1\n", ("--column", "block_key=op", "--column", "latency_ms=lat:min"), "ns, us, ms, s"),
        ("op,lat\na,1\n", ("--column", "block_key=op", "--column", "latency_ms=late:us"), "did you mean 'lat'"),
        ("op,lat\na,1\na,2\n", MAP, "twice with other values"),
        ("op,lat\na,0\n", MAP, "a measurement is positive"),
        ("op,lat\na,inf\n", MAP, "a measurement is positive"),
        ("op,lat\na,-1\nb,nan\n", MAP, "none of its 2 rows"),
        ("op,lat\n", MAP, "no rows"),
        ("op,lat\na,1\nb,2\nc,3\nd,1500\n", MAP, "looks like us read as ms"),
        ("op,lat\na,1000\nb,2000\nc,3000\nd,2\n", MAP, "looks like s read as ms"),
    ],
)
def test_generic_refuses(tmp_path: Path, text: str, argv: tuple[str, ...], said: str, run: Run) -> None:
    """One line that names the place, and nothing is written."""
    assert said in refused(run("generic", csv(tmp_path, text), *argv, *SOURCE))
    assert not (tmp_path / "out.csv").exists()


def test_units_that_are_true_are_believed_when_asked(tmp_path: Path, table: Table) -> None:
    """A table may span a thousandfold."""
    file = csv(tmp_path, "op,lat\na,1\nb,2\nc,3\nd,1500\n")
    assert 4 == len(table("generic", file, *MAP, *SOURCE, "--trust-units").row)


def test_the_origin_must_be_said(tmp_path: Path, run: Run, table: Table) -> None:
    """Neither or both of --source and --measured is no answer; a missing licence is a flag."""
    file = csv(tmp_path, "op,lat\na,1\n")
    assert "--source WHO" in refused(run("generic", file, *MAP))
    assert "--source WHO" in refused(run("generic", file, *MAP, *SOURCE, "--measured"))
    found = table("generic", file, *MAP, "--source", "Invented")
    assert "no_licence" in next(iter(found.row.values())).flags
    assert "did you mean 'generic'" in refused(run("generik", file, *MAP, *SOURCE))


def test_a_block_faster_than_its_board_can_compute_is_refused(tmp_path: Path, run: Run, table: Table) -> None:
    """Its operations are known from a bundle, the peaks from the target; a wrong unit in every row is seen too."""
    op = Op(kind="conv", macs=10**9, weight_count=1000, read_count=1000, write_count=1000)
    workload = Workload(block_key="a", kind="block", inputs=(), outputs=(), ops=(op,), params=1000, artifacts={})
    Bundle(root=tmp_path / "bundle", space=None, workloads=(workload,)).write()
    least = bound_ms(workload, find_target("rpi4").simulation["cpu"]["fp32"], "fp32", 1)
    said = ("generic", csv(tmp_path, f"op,lat\na,{least * 1.2}\n"), "--column", "block_key=op", *SOURCE)
    said = (*said, "--bundle", tmp_path / "bundle", "--column")
    assert 1 == len(table(*said, "latency_ms=lat:ms").row)
    assert "wrong unit" in refused(run(*said, "latency_ms=lat:us"))
    assert "tells of no row" in refused(run(*said, "latency_ms=lat:ms", "--precision", "int4"))


def hwnasbench(tmp_path: Path, values: Any, archs: Any = ARCHS) -> Path:
    data = {"nasbench201": {"cifar10": {"config": [{"arch_str": a} for a in archs], "edgetpu_latency": values}}}
    file = tmp_path / "hw.pickle"
    file.write_bytes(pickle.dumps(data))
    return file


@pytest.mark.parametrize("values", [[1.5, 2.5, -1], np.array([1.5, 2.5, -1.0])])
def test_hwnasbench_holds_what_could_not_be_measured_as_a_failure(tmp_path: Path, values: Any, run: Run) -> None:
    """The file is the one that `table fit --networks` reads, with its source beside it."""
    done = run("hwnasbench", hwnasbench(tmp_path, values), "--set", "device=edgetpu", *SOURCE)
    assert done.exit_code == 0, done.out
    found = read_networks(tmp_path / "out.csv")
    assert ("nas-bench-201", tuple(ARCHS)) == (found.family, found.archs)
    np.testing.assert_array_equal(found.values["latency_ms"], [1.5, 2.5, math.nan])
    assert "Invented 2026" in (tmp_path / "out.source.toml").read_text(encoding="utf-8")


def test_hwnasbench_refuses(tmp_path: Path, run: Run) -> None:
    """Another layout, another device, lists of other lengths, what is no number."""
    said = ("--set", "device=edgetpu", *SOURCE)
    assert "edgetpu" in refused(run("hwnasbench", hwnasbench(tmp_path, [1, 2, 3]), *SOURCE))
    assert "2 values for 3" in refused(run("hwnasbench", hwnasbench(tmp_path, [1, 2]), *said))
    assert "not a number" in refused(run("hwnasbench", hwnasbench(tmp_path, [1, 2, "x"]), *said))
    file = tmp_path / "list.pickle"
    file.write_bytes(pickle.dumps([1]))
    assert "a list where" in refused(run("hwnasbench", file, *said))


@pytest.mark.parametrize("version", ["8.2.1", "10.3.0", "11.1.0"])
def test_trtexec(tmp_path: Path, version: str, table: Table) -> None:
    """Times and log of one window tell the same; the profile's layers are blocks."""
    stem = RECORDINGS / "trtexec" / version
    log = Path(f"{stem}.log")
    said = ("--name", "net", "--unit", "gpu", "--measured")
    times = table("trtexec", f"{stem}.times.json", "--set", f"log={log}", *said)
    whole = table("trtexec", log, *said)
    assert version == times.runtime.version == whole.runtime.version
    values = [next(iter(t.row.values())).latency_ms.value for t in (times, whole)]
    assert math.isclose(*values, rel_tol=1e-4)
    layers = table("trtexec", f"{stem}.profile.json", *said)
    assert all(r.kind == "block" and "profiled" in r.flags for r in layers.row.values())
    assert "no_runtime_version" in next(iter(layers.row.values())).flags


@pytest.mark.parametrize("stamped", [True, False])
def test_benchmark_model(tmp_path: Path, stamped: bool, run: Run, table: Table) -> None:
    """With uptimes, as the agent records, and without, as a user's terminal has it."""
    text = (RECORDINGS / "benchmark_model" / "2.17-tiny.txt").read_text(encoding="utf-8")
    if not stamped:
        text = "".join(line.partition(" ")[2] for line in text.splitlines(keepends=True)[:-1])
    file = tmp_path / "log.txt"
    file.write_text(text, encoding="utf-8")
    row = next(iter(table("benchmark-model", file, "--measured").row.values()))
    assert row.runs > 1 and 0 < row.latency_ms.value < 1000
    assert ("no_exit_status" in row.flags) is not stamped
    file.write_text(text[: len(text) // 2], encoding="utf-8")
    refused(run("benchmark-model", file, "--measured"))


def test_a_real_profile_of_onnxruntime(tmp_path: Path, run: Run, table: Table) -> None:
    """The run is the network, its kernels are the blocks."""
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, [512, 512], np.ones((512, 512), np.float32).tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"], "first"), helper.make_node("Sin", ["h"], ["y"], "second")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [512, 512])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [512, 512])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "trace")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    for _ in range(5):
        session.run(None, {"x": np.ones((512, 512), np.float32)})
    file = session.end_profiling()
    found = table("onnxruntime-profile", file, "--name", "net", "--measured")
    rows = {c.block_key: r for c, r in found.row.items()}
    assert {"net", "net/first", "net/second"} == set(rows)
    assert "network" == rows["net"].kind and 4 == rows["net"].runs
    assert rows["net/first"].latency_ms.value <= rows["net"].latency_ms.value
    assert "CPUExecutionProvider" in found.imported["file.providers"]
    Path(file).write_text("[{", encoding="utf-8")
    refused(run("onnxruntime-profile", file, "--measured"))


def test_pytest_benchmark_reads_ours_and_we_read_its(tmp_path: Path, table: Table) -> None:
    """Its own program compares our file; a run of it becomes a table."""
    pytest.importorskip("pytest_benchmark")
    ours = tmp_path / "0001_ours.json"
    write(ours, [Benchmark(name="test_a", fullname="t.py::test_a", seconds=[0.002, 0.003, 0.004])])
    found = table("pytest-benchmark", ours, "--measured")
    assert [("t.py::test_a", 3.0)] == [(c.block_key, r.latency_ms.value) for c, r in found.row.items()]
    argv = [sys.executable, "-m", "pytest_benchmark", "compare", str(ours)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert done.returncode == 0 and "test_a" in done.stdout, done.stderr
    (tmp_path / "test_x.py").write_text("def test_x(benchmark):\n    benchmark(sum, range(100))\n", encoding="utf-8")
    theirs = tmp_path / "theirs.json"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_x.py"]
    argv += ["--benchmark-json", str(theirs), "--benchmark-max-time=0.1", "-c", "/dev/null", "--rootdir", "."]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stdout
    row = next(iter(table("pytest-benchmark", theirs, "--measured").row.values()))
    assert row.runs > 1 and row.latency_ms.value < 10 and "no_machine" not in row.flags


def test_a_table_of_a_later_schema_says_what_to_upgrade(tmp_path: Path, table: Table) -> None:
    """Not only that it cannot be read."""
    table("generic", csv(tmp_path, "op,lat\na,1\n"), *MAP, *SOURCE)
    toml = tmp_path / "out.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace("schema = 1", "schema = 99"), encoding="utf-8")
    with pytest.raises(ConfigError, match="pip install --upgrade"):
        LatencyTable.read(tmp_path / "out")
