"""One cell in one session, with the real runtime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hwbench.board import Board, open_board
from hwbench.errors import DeviceError, PermanentDeviceError
from hwbench.measurement import Cell
from hwbench.profiler import measure
from hwbench.session import Prepared, RawWindow, WindowSpec
from hwbench.setting import Setting
from hwbench.target import Limits
from hwbench.target_file import find_target
from hwbench.workload import Bundle
from tests.doubles.networks import matmul_bundle
from tests.doubles.sessions import Watched

_SETTING = Setting(unit="cpu", precision="fp32", threads=1)
_HOW = WindowSpec(min_runs=30, min_time_s=0.01, max_time_s=2.0)


@pytest.fixture
def board() -> Iterator[Board]:
    with open_board(find_target("host")) as opened:
        yield opened


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return matmul_bundle(tmp_path / "bundle", [8])


def _prepared(board: Board, bundle: Bundle) -> tuple[Prepared, Cell]:
    workload = bundle.workloads[0]
    return board.prepare(bundle, workload, _SETTING), Cell(block_key=workload.block_key, setting=_SETTING)


def test_window_holds_what_was_asked_for(board: Board, bundle: Bundle) -> None:
    """Enough runs and time, raw, with the file's hash and the memory it took."""
    prepared, cell = _prepared(board, bundle)
    with board.session(_SETTING) as session:
        window = measure(session, prepared, cell, _HOW, number=3, order=7)
    assert window.run_ns.size >= 30
    assert window.start_ns[-1] + window.run_ns[-1] - window.start_ns[0] >= 0.0095e9
    assert (window.cell, window.session, window.order) == (cell, 3, 7)
    assert window.artifact_sha256 == bundle.workloads[0].artifacts["onnx"].sha256
    assert window.load_ms is not None and window.load_ms > 0


def test_workload_is_dropped_afterwards(board: Board, bundle: Bundle) -> None:
    """A session of a hundred cells must not hold a hundred graphs."""
    prepared, cell = _prepared(board, bundle)
    with board.session(_SETTING) as session:
        measure(session, prepared, cell, _HOW)
        with pytest.raises(PermanentDeviceError, match="not loaded"):
            session.drop(prepared.block_key)


def test_graph_that_cannot_be_loaded_is_the_devices_word(board: Board, bundle: Bundle) -> None:
    """The session lives on and measures the next."""
    prepared, cell = _prepared(board, bundle)
    with board.session(_SETTING) as session:
        with pytest.raises(PermanentDeviceError, match="matmul-8"):
            measure(session, replace(prepared, sha256="0" * 64), cell, _HOW)
        assert measure(session, prepared, cell, _HOW).run_ns.size >= 30


class _Stepping(Watched):
    """The first windows that came through the real runtime get a step."""

    windows = 0

    def window(self, chain, how, probes) -> RawWindow:
        raw = super().window(chain, how, probes)
        self.windows += 1
        run_ns = raw.run_ns * 0 + 1000
        if self.windows <= self.stepping:
            run_ns[len(run_ns) // 3 :] = 2000
        return replace(raw, run_ns=run_ns, flags=())

    stepping = 1


def test_unsteady_window_is_taken_again(board: Board, bundle: Bundle) -> None:
    """The second, quiet one counts and carries no flag; the runs of the first are kept as warm-up."""
    prepared, cell = _prepared(board, bundle)
    with _Stepping(board.session(_SETTING), None, None) as session:
        window = measure(session, prepared, cell, _HOW)
    assert session.windows == 2
    assert 2000 in window.warmup_ns
    assert "unsteady" not in window.flags
    assert "change_percent" not in window.noise
    assert set(window.run_ns) == {1000}


def test_window_that_stays_unsteady_is_kept_and_flagged(board: Board, bundle: Bundle) -> None:
    """Never a third time, never silently."""
    prepared, cell = _prepared(board, bundle)
    with _Stepping(board.session(_SETTING), None, None) as session:
        session.stepping = 99
        window = measure(session, prepared, cell, _HOW)
    assert session.windows == 2
    assert "unsteady" in window.flags
    assert window.noise["change_percent"] == pytest.approx(100.0)


def test_what_the_compiler_said_flags_the_window(board: Board, bundle: Bundle) -> None:
    """Operations left on the processor, and weights fetched for every run, make it another measurement."""
    prepared, cell = _prepared(board, bundle)
    told = {"partly_on_cpu", "streams_weights"}
    with board.session(_SETTING) as session:
        for notes, flags in (
            ({"unmapped_ops": 0, "off_chip_bytes": 0}, set()),
            ({"unmapped_ops": 2, "off_chip_bytes": 0}, {"partly_on_cpu"}),
            ({"unmapped_ops": 2, "off_chip_bytes": 17}, told),
        ):
            window = measure(session, replace(prepared, notes=notes), cell, _HOW)
            assert flags == told & set(window.flags)
            assert {f"file.{name}": str(value) for name, value in notes.items()}.items() <= window.provenance.items()


def test_what_does_not_fit_is_not_measured(board: Board, bundle: Bundle) -> None:
    """By the compiler's word before it is loaded, else by what loading took; the session goes on without it."""
    prepared, cell = _prepared(board, bundle)
    with _Stepping(board.session(_SETTING), None, None) as session:
        with pytest.raises(PermanentDeviceError, match=r"does not fit: its compiled file alone takes 3 MB"):
            measure(
                session, replace(prepared, notes={"needs_bytes": 3_000_000}), cell, _HOW, limits=Limits(memory_mb=2)
            )
        with pytest.raises(DeviceError, match="not loaded"):
            session.drop(prepared.block_key)
        with pytest.raises(PermanentDeviceError, match=r"does not fit: loading it and running it once takes .* MB"):
            measure(session, prepared, cell, _HOW, limits=Limits(memory_mb=1e-6))
        assert 0 == session.windows
        assert measure(session, prepared, cell, _HOW, limits=Limits(memory_mb=1e6)).run_ns.size
