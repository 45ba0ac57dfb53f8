"""What every session must do; a session's test class inherits this and gives `session` and `prepared`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from hwbench.errors import DeviceError, PermanentDeviceError
from hwbench.session import Prepared, RawWindow, Session, WindowSpec

SHORT = WindowSpec(warmup=3, min_runs=20, min_time_s=0.0, max_time_s=5.0, probe_hz=50.0)


class SessionContract:
    """A fresh process that loads workloads and times windows.

    prepared: at least the workloads `first` and `next`; `next` takes the first output of `first`.
    """

    @pytest.fixture
    def session(self) -> Session:
        """The session under test."""
        raise pytest.UsageError("a session's test class gives the fixture `session`")

    @pytest.fixture
    def prepared(self) -> Mapping[str, Prepared]:
        """Workloads ready to load, by key."""
        raise pytest.UsageError("a session's test class gives the fixture `prepared`")

    def test_it_says_who_it_is(self, session: Session) -> None:
        """Rows are joined only when these agree."""
        assert session.hello.runtime and session.hello.runtime_version
        assert session.hello.board
        assert "window" in session.hello.can

    def test_a_loaded_workload_tells_its_inputs_and_outputs(
        self, session: Session, prepared: Mapping[str, Prepared]
    ) -> None:
        """Memory is a positive number or unknown, never 0."""
        loaded = session.load(prepared["first"])
        assert "first" == loaded.block_key
        assert loaded.inputs and loaded.outputs
        assert loaded.load_ms > 0
        assert loaded.peak_memory_bytes is None or loaded.peak_memory_bytes > 0

    def test_a_window_holds_raw_runs_in_order(self, session: Session, prepared: Mapping[str, Prepared]) -> None:
        """As many as were asked for, each with its start; a tool that keeps them to itself says so, and how many."""
        session.load(prepared["first"])
        window = session.window(["first"], SHORT, ())
        # Runs that did not hold still are taken again, and count as warm-up.
        assert (3 if window.summary is None else 2) in (len(window.warmup_ns), len(window.warmup_ns) - 20)
        assert (window.summary is not None) == ("summary_only" in window.flags)
        assert len(window.start_ns) == len(window.run_ns) and _runs(window) >= 20
        assert window.end_ns >= window.start_ns[0]
        assert np.int64 == window.run_ns.dtype == window.start_ns.dtype
        assert (window.run_ns > 0).all()
        assert (np.diff(window.start_ns) >= window.run_ns[:-1]).all()

    def test_a_chain_is_timed_as_one(self, session: Session, prepared: Mapping[str, Prepared]) -> None:
        """A workload may stand in it more than once; what cannot answer may refuse it by name."""
        for key in ("first", "next"):
            session.load(prepared[key])
        if "answer" not in session.hello.can:
            with pytest.raises(PermanentDeviceError, match="first → next"):
                session.window(["first", "next"], SHORT, ())
            return
        chain = session.window(["first", "next", "next"], SHORT, ())
        alone = session.window(["first"], SHORT, ())
        assert chain.run_ns.min() > alone.run_ns.min()

    def test_a_dropped_workload_cannot_be_timed(self, session: Session, prepared: Mapping[str, Prepared]) -> None:
        """And the session goes on."""
        session.load(prepared["first"])
        session.drop("first")
        with pytest.raises(DeviceError, match="first"):
            session.window(["first"], SHORT, ())
        session.load(prepared["first"])
        assert _runs(session.window(["first"], SHORT, ())) >= 20


def _runs(window: RawWindow) -> int:
    """How many runs a window stands for."""
    return len(window.run_ns) if window.summary is None else window.summary.runs
