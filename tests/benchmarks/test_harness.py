"""What the harness itself costs: ratios measured in one run, never held against a clock.

Run by `pytest tests/benchmarks`; prints its table past the capture.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwbench import agent_archive, agent_session
from hwbench.links import local
from hwbench.pytest_plugin import HwbenchSeconds
from hwbench.session import Prepared, WindowSpec
from hwbench.setting import Setting
from hwbench.workload import artifact_of

CPU1 = Setting(unit="cpu", precision="fp32", threads=1)

# Runs in a fresh process with nothing but the agent's archive, as on a board. The bare loop is the least that one can
# write; both time the same bound call. Rounds alternate, so that what a neighbour takes, both lose.
_BARE = """
import sys, time
archive, model = sys.argv[1:]
sys.path.insert(0, archive)
import numpy as np
from hwbench.agent.runtimes import ort
from hwbench.agent.timing import time_work
call = ort.load(model, {"threads": 1, "batch": 1}, {}).bind(None, 0)
run, clock = call.run, time.perf_counter_ns
def bare(n):
    took = []
    for _ in range(n):
        begin = clock()
        run()
        took.append(clock() - begin)
    return took
bare(200)
for _ in range(15):
    a = bare(300)
    b = time_work([run], 0, 300, 0.0, 30.0).run_ns
    c = bare(300)
    print(np.median(b), np.median(a + c), flush=True)
"""


def one_millisecond(root: Path) -> Path:
    """A chain of 3 x 3 convolutions, as many as take about 1 ms here."""
    rng = np.random.default_rng(0)

    def model(layers: int) -> Path:
        weights = [
            numpy_helper.from_array((0.05 * rng.standard_normal((32, 32, 3, 3))).astype(np.float32), f"w{i}")
            for i in range(layers)
        ]
        nodes = [helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1]) for i in range(layers)]
        shape = [1, 32, 32, 32]
        graph = helper.make_graph(
            nodes,
            "work",
            [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, shape)],
            weights,
        )
        file = root / f"work{layers}.onnx"
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        file.write_bytes(made.SerializeToString())
        return file

    probe = model(4)
    with agent_session.start(local.open({}), "ort", CPU1) as session:
        session.load(prepared(probe))
        took_ms = float(np.median(session.window(["work"], WindowSpec(), ()).run_ns)) / 1e6
    return model(max(1, round(4 / took_ms)))


def prepared(file: Path) -> Prepared:
    return Prepared(
        block_key="work",
        setting=CPU1,
        format="onnx",
        path=str(file),
        sha256=artifact_of(file.parent, file).sha256,
    )


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print past pytest's capture."""

    def told(text: str) -> None:
        with capsys.disabled():
            print("\n" + text)

    return told


def test_timing_adds_less_than_one_percent_to_a_millisecond(
    tmp_path: Path, say: Callable[[str], None], hwbench_seconds: HwbenchSeconds
) -> None:
    """Median of the agent's window ÷ median of a bare loop in the same process; the median of 15 rounds."""
    file = one_millisecond(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _BARE, str(agent_archive.build()), str(file)], capture_output=True, text=True, check=True
    )
    rounds = np.array([[float(n) for n in line.split()] for line in done.stdout.splitlines()])
    ratio = float(np.median(rounds[:, 0] / rounds[:, 1]))
    hwbench_seconds(rounds[:, 0] / 1e9, "agent")
    hwbench_seconds(rounds[:, 1] / 1e9, "bare loop")
    say(
        "harness                          agent ms   bare ms   ratio   allowed\n"
        f"timing 1 ms of work (15 rounds)  {np.median(rounds[:, 0]) / 1e6:8.4f}  {np.median(rounds[:, 1]) / 1e6:8.4f}"
        f"  {ratio:6.4f}    1.0100"
    )
    assert ratio <= 1.01


def test_the_host_sleeps_while_a_window_is_open(tmp_path: Path, say: Callable[[str], None]) -> None:
    """Processor time of this process and its other children ÷ wall time of a window of 5 s."""
    file = one_millisecond(tmp_path)
    how = WindowSpec(warmup=10, min_runs=50, min_time_s=5.0, max_time_s=10.0)
    with agent_session.start(local.open({}), "ort", CPU1) as session:
        session.load(prepared(file))
        wall, used = time.monotonic(), _own_cpu_s()
        session.window(["work"], how, ())
        wall, used = time.monotonic() - wall, _own_cpu_s() - used
    share = used / wall
    say(
        "harness                          host cpu s   wall s    share   allowed\n"
        f"host while a window is open      {used:10.4f}  {wall:7.2f}  {share:6.2%}    1.00%"
    )
    assert share < 0.01


def _own_cpu_s() -> float:
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime
