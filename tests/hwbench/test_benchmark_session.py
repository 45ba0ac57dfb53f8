"""Sessions with `benchmark_model`: a stand-in that really runs the files, called through a real shell."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from hwbench.backends import nnapi
from hwbench.errors import ConfigError, PermanentDeviceError, TransientDeviceError
from hwbench.links import local
from hwbench.session import Prepared, Session, WindowSpec
from hwbench.setting import Setting
from hwbench.target import Probe
from hwbench.workload import Plan
from tests.contracts.session import SHORT, SessionContract
from tests.doubles.tool import install_benchmark_model
from tests.hwbench.exit_graphs import CPU1, chain_plan, litert_bundle

pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed")
NPU = Setting(unit="npu", precision="fp32")
GPU = Setting(unit="gpu", precision="fp32")
Start = Callable[..., Session]


@pytest.fixture
def link(tmp_path: Path) -> local.LocalLink:
    """This machine has a shell; that is all that a board needs."""
    return local.open({"workdir": tmp_path / "board"})


def _sent(link: local.LocalLink, tmp_path: Path, root: Path) -> Mapping[str, Prepared]:
    bundle = litert_bundle(tmp_path / "bundle", root / "tests" / "recordings")
    backend = nnapi.open({})
    return {w.block_key: backend.prepare(link, bundle, w, CPU1) for w in bundle.workloads}


@pytest.fixture
def prepared(link: local.LocalLink, tmp_path: Path, root: Path) -> Mapping[str, Prepared]:
    """Two exits, sent."""
    return _sent(link, tmp_path, root)


@pytest.fixture
def start(link: local.LocalLink, tmp_path: Path) -> Start:
    """Opens a session for a setting, with a tool that misbehaves as told, and options."""

    def started(setting: Setting = CPU1, misbehave: str = "", **options: object) -> Session:
        words = misbehave if "slow:" in misbehave else f"slow:200 {misbehave}"
        tool = install_benchmark_model(tmp_path / "bin" / "benchmark_model", words)
        return nnapi.open({"tool": str(tool), **options}).session(link, setting)

    return started


class TestBenchmarkSession(SessionContract):
    """The contract, and what is particular to a tool."""

    @pytest.fixture
    def session(self, start: Start) -> Session:
        """On the processor."""
        return start()

    @pytest.fixture
    def prepared(self, link: local.LocalLink, tmp_path: Path, root: Path) -> Mapping[str, Prepared]:
        """Two exits, sent."""
        return _sent(link, tmp_path, root)

    def test_a_window_is_a_summary_with_beginning_and_end(
        self, session: Session, prepared: Mapping[str, Prepared]
    ) -> None:
        """In the board's clock, which is its uptime; the median stands for all runs, and none is invented."""
        session.load(prepared["first"])
        before_ns = _uptime_ns()
        raw = session.window(["first"], WindowSpec(warmup=5, min_runs=50, min_time_s=0.3, max_time_s=5.0), ())
        assert raw.summary is not None and raw.summary.median_ns is not None
        assert [int(raw.summary.median_ns)] == raw.run_ns.tolist()
        assert ("summary_only",) == raw.flags
        assert before_ns - 2e7 <= raw.start_ns[0] < raw.end_ns <= _uptime_ns() + 2e7
        assert raw.end_ns - raw.start_ns[0] >= 0.25e9
        assert raw.summary.min_ns <= raw.summary.median_ns <= raw.summary.max_ns
        assert raw.peak_memory_bytes is None or raw.peak_memory_bytes > 0

    def test_an_old_tool_gives_its_mean_and_says_so(self, start: Start, prepared: Mapping[str, Prepared]) -> None:
        """It knows no median."""
        with start(misbehave="old") as session:
            session.load(prepared["first"])
            raw = session.window(["first"], SHORT, ())
        assert raw.summary is not None and raw.summary.median_ns is None
        assert [int(raw.summary.mean_ns)] == raw.run_ns.tolist()
        assert ("mean_only", "summary_only") == raw.flags

    def test_runs_too_short_for_the_tools_clock_are_flagged(
        self, start: Start, prepared: Mapping[str, Prepared]
    ) -> None:
        """It counts whole microseconds, so the median of a graph of three of them may be off by a third."""
        with start(misbehave="slow:1") as session:
            session.load(prepared["first"])
            assert ("coarse_clock", "summary_only") == session.window(["first"], SHORT, ()).flags

    def test_too_little_time_is_flagged(self, session: Session, prepared: Mapping[str, Prepared]) -> None:
        """As the agent flags it."""
        session.load(prepared["first"])
        how = WindowSpec(warmup=1, min_runs=10_000_000, min_time_s=0.0, max_time_s=0.4)
        assert "few_runs" in session.window(["first"], how, ()).flags

    def test_what_is_loaded_is_described_by_its_file(self, session: Session, prepared: Mapping[str, Prepared]) -> None:
        """The tool does not tell inputs and outputs."""
        loaded = session.load(prepared["first"])
        assert [(1, 3, 8, 8)] == [t.shape for t in loaded.inputs]
        assert [(1, 8, 8, 8), (1, 10), (1,)] == [t.shape for t in loaded.outputs]

    def test_it_does_not_answer_and_says_who_does(self, session: Session, tmp_path: Path) -> None:
        """It cannot branch."""
        plan: Plan = chain_plan(0.5)
        with pytest.raises(PermanentDeviceError, match=r"onnxruntime, litert.*replayed"):
            session.answer(plan, tmp_path / "data.npy", ())
        assert "answer" not in session.hello.can


class TestDelegates:
    """What runs where."""

    @pytest.mark.parametrize("setting", [NPU, GPU], ids=["npu", "gpu"])
    def test_one_that_takes_all_is_not_flagged(
        self, setting: Setting, start: Start, prepared: Mapping[str, Prepared]
    ) -> None:
        """The tool's word is asked for, not assumed."""
        with start(setting) as session:
            session.load(prepared["first"])
            assert ("summary_only",) == session.window(["first"], SHORT, ()).flags

    @pytest.mark.parametrize(
        ("misbehave", "why"),
        [
            ("partly", r"NNAPI delegate does only take part of the graph \(in 2 pieces\).*--allow-cpu-fallback"),
            ("none", r"NNAPI delegate does not take the graph.*--allow-cpu-fallback"),
            ("silent", r"NNAPI delegate was not applied, everything ran on the processor"),
        ],
    )
    def test_one_that_does_not_take_all_is_refused(
        self, misbehave: str, why: str, start: Start, prepared: Mapping[str, Prepared]
    ) -> None:
        """Before a window is wasted; a number of the processor must not pass for one of the NPU."""
        with start(NPU, misbehave) as session, pytest.raises(PermanentDeviceError, match=why):
            session.load(prepared["first"])

    def test_the_rest_on_the_processor_may_be_allowed_and_is_flagged(
        self, start: Start, prepared: Mapping[str, Prepared]
    ) -> None:
        """The row says so for ever."""
        with start(NPU, "partly", allow_cpu_fallback=True) as session:
            assert {"delegate_kernels": 2} == session.load(prepared["first"]).notes
            assert ("partly_on_cpu", "summary_only") == session.window(["first"], SHORT, ()).flags

    def test_the_processors_own_kernels_are_no_fallback(self, start: Start, prepared: Mapping[str, Prepared]) -> None:
        """XNNPACK beside them is still the cpu."""
        with start(CPU1, "partly") as session:
            session.load(prepared["first"])
            assert ("summary_only",) == session.window(["first"], SHORT, ()).flags


class TestAccidents:
    """What a tool may do."""

    @pytest.mark.parametrize(
        ("misbehave", "why"),
        [
            ("unknown:--use_xnnpack", "Unconsumed cmdline flags: --use_xnnpack=true"),
            ("invoke", "Node number 3"),
            ("crash", "status 139: Segmentation fault"),
            ("cut", r"no lines 'Inference timings in us'.*cut short"),
            ("other", r"it loaded '/other\.tflite' instead of"),
        ],
    )
    def test_is_told_with_workload_and_file(
        self, misbehave: str, why: str, start: Start, prepared: Mapping[str, Prepared]
    ) -> None:
        """Although the tool itself goes on after most of it."""
        with start(CPU1, misbehave) as session:
            with pytest.raises(PermanentDeviceError, match=rf"nnapi: loading first from .*first\.tflite: .*{why}") as e:
                session.load(prepared["first"])
            assert "\n" not in str(e.value)

    def test_a_tool_that_is_absent_says_where_to_get_one(self, link: local.LocalLink) -> None:
        """Before anything is sent."""
        with pytest.raises(PermanentDeviceError, match=r"no program /nowhere/tool.*benchmark_model.*push"):
            nnapi.open({"tool": "/nowhere/tool"}).session(link, CPU1)

    def test_one_that_hangs_is_transient(
        self, start: Start, prepared: Mapping[str, Prepared], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The deadline is the link's."""
        monkeypatch.setattr("hwbench.benchmark_session._LOAD_S", 1.0)
        with start(CPU1, "hang") as session, pytest.raises(TransientDeviceError, match="did not end within 1 s"):
            session.load(prepared["first"])

    def test_another_tool_is_another_version(self, start: Start) -> None:
        """Its content is all that tells; rows of two do not merge."""
        assert start().hello.runtime_version != start(misbehave="old").hello.runtime_version


class TestProbes:
    """Rails and counters, read by the board's shell while the tool runs."""

    def test_are_read_inside_the_window_in_its_clock(
        self, start: Start, prepared: Mapping[str, Prepared], tmp_path: Path
    ) -> None:
        """Files and programs, quoted whatever their names are."""
        odd = tmp_path / "a rail's $HOME"
        odd.write_text("1250\n")
        probes = (
            Probe(name="total", read=f"file:{odd}", unit="mw"),
            Probe(name="told", read="run:echo power=7mW", unit="mw"),
            Probe(name="absent", read=f"file:{tmp_path}/absent", unit="mw"),
        )
        with start() as session:
            session.load(prepared["first"])
            how = WindowSpec(warmup=1, min_runs=10, min_time_s=0.6, max_time_s=5.0)
            raw = session.window(["first"], how, probes)
        total = raw.traces["total"]
        inside = (total.t_ns >= raw.start_ns[0]) & (total.t_ns <= raw.end_ns)
        assert inside.sum() >= 5
        assert {1250.0} == set(total.value) and "mw" == total.unit
        assert {7.0} == set(raw.traces["told"].value)
        assert 0 == raw.traces["absent"].t_ns.size
        assert (np.diff(total.t_ns) >= 0).all()

    def test_rails_of_one_file_are_of_one_reading(self, start: Start, tmp_path: Path) -> None:
        """As a Pixel's counters are: many lines of a file that is slow to read."""
        counters = "t=123\nCH0(T=123)[S4M_VDD_CPUCL0], 4711\nCH1(T=123)[S10M_VDD_TPU], 42\n"
        (tmp_path / "energy_value").write_text(counters)
        rails = ("S4M_VDD_CPUCL0", "S10M_VDD_TPU", "S2S_VDD_G3D")
        probes = [Probe(name=r, read=f"file:{tmp_path}/energy_value#{r}", unit="uj") for r in rails]
        with start() as session:
            found = session.idle(0.3, probes)
        assert [{4711.0}, {42.0}, set()] == [set(found[r].value) for r in rails]
        assert found[rails[0]].t_ns.tolist() == found[rails[1]].t_ns.tolist()

    def test_idle_is_read_without_work(self, start: Start, tmp_path: Path) -> None:
        """For as long as was asked."""
        (tmp_path / "rail").write_text("300\n")
        with start() as session:
            total = session.idle(0.5, [Probe(name="total", read=f"file:{tmp_path}/rail", unit="mw")])["total"]
        assert 0.3e9 < total.t_ns[-1] - total.t_ns[0] < 3e9
        assert {300.0} == set(total.value)

    def test_what_only_the_agent_reads_is_refused(self, start: Start, prepared: Mapping[str, Prepared]) -> None:
        """It is a fault of the target."""
        with start() as session:
            session.load(prepared["first"])
            with pytest.raises(ConfigError, match="nvml:power:0: is read by the agent only"):
                session.window(["first"], SHORT, [Probe(name="gpu", read="nvml:power:0", unit="mw")])


def _uptime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
