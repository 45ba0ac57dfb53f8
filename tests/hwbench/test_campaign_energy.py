"""Energy of a campaign with the real agent: rails read in its windows, a supply beside it, one that dies."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hwbench import journal, marker, round
from hwbench.board import open_board
from hwbench.evidence import MEASURED
from hwbench.measurement import Measurement
from hwbench.store import Store
from hwbench.target_file import read_target
from hwbench.workload import Bundle
from tests.doubles.campaigns import HOW, measure, quick, watch
from tests.doubles.networks import matmul_bundle
from tests.doubles.sessions import Event, Watched


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return matmul_bundle(tmp_path / "bundle", [4, 8, 16])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run" / "store.sqlite") as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


_METERED = """\
schema = 1
name = "bench"
title = "a board at a supply"
[[link]]
kind = "local"
[[backend]]
kind = "onnxruntime"
units = ["cpu"]
precisions = ["fp32"]
threads = [1]
[power]
static_mw = 1
pj_per_mac = 1
pj_per_byte = 1
source = "never to be used beside a meter"
"""


def _supply(power: Path) -> tuple[Event, Event]:
    """9 W while a window is open, 2 W else."""

    def up(session: Watched, block_key: str) -> None:
        power.write_text("9000")

    def down(session: Watched, block_key: str) -> None:
        power.write_text("2000")

    return up, down


def _check_energy(measurements: list[Measurement], tolerance: float) -> None:
    for measurement in measurements:
        assert measurement.evidence["energy"] == MEASURED
        assert measurement.energy_mj is not None
        for window in measurement.windows:
            length_ms = (window.start_ns[-1] + window.run_ns[-1] - window.start_ns[0]) / 1e6
            assert window.energy_mj is not None
            assert abs(window.energy_mj / (7.0 * length_ms / window.run_ns.size) - 1) < tolerance


def test_energy_is_what_the_rail_drew_above_idle(
    bundle: Bundle, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read by the agent in its windows: 9 W minus 2 W idle, over the runs."""
    monkeypatch.setattr(round, "IDLE_S", 0.2)
    power = tmp_path / "power"
    power.write_text("2000")
    file = tmp_path / "bench.toml"
    file.write_text(f'{_METERED}[[meter]]\nkind = "files"\n[meter.rails]\ntotal = "file:{power}"\n')
    with open_board(read_target(file)) as board:
        up, down = _supply(power)
        watch(board, before=up, after=down)
        # Long enough for the samples even on a machine that is busy with other tests.
        found = measure(board, bundle, store, sessions=1, how=replace(HOW, min_time_s=1.0, max_time_s=3.0))
    _check_energy(found, 0.001)
    (note,) = journal.sessions(store)
    assert note.idle_mw == pytest.approx(2000)
    # The window was made long enough for twenty samples.
    assert found[0].windows[0].traces["rail.total"].t_ns.size >= 20


def test_bench_meter_is_aligned_and_integrated_after_the_session(
    bundle: Bundle, store: Store, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supply with a clock of its own, 100 lines a second: marker, idle and energies within a few percent."""
    monkeypatch.setattr(round, "IDLE_S", 0.5)
    monkeypatch.setattr(marker, "BURST_S", (0.15, 0.3, 0.1, 0.25))
    monkeypatch.setattr(marker, "PAUSE_S", (0.2, 0.1, 0.25, 0.15))
    power = tmp_path / "power"
    power.write_text("2000")
    file = tmp_path / "bench.toml"
    command = [sys.executable, str(root / "tests" / "doubles" / "bench_supply.py"), str(power), "5000"]
    file.write_text(f'{_METERED}[[meter]]\nkind = "external"\nrate_hz = 50\ncommand = {command!r}\n')
    with open_board(read_target(file)) as board:
        up, down = _supply(power)
        watch(board, before=up, after=down)
        found = measure(board, bundle, store, sessions=1)
    _check_energy(found, 0.1)
    (note,) = journal.sessions(store)
    # A busy machine delays a sample or two of the load's 9 W into the idle half second; a wrong alignment adds watts.
    assert note.idle_mw == pytest.approx(2000, rel=0.25)


def test_bench_meter_that_dies_leaves_latency_measured(
    bundle: Bundle, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No curve, no energy: unknown and flagged, never declared and never 0."""
    monkeypatch.setattr(round, "IDLE_S", 0.05)
    monkeypatch.setattr(marker, "BURST_S", (0.02, 0.02))
    monkeypatch.setattr(marker, "PAUSE_S", (0.01, 0.01))
    file = tmp_path / "bench.toml"
    file.write_text(f'{_METERED}[[meter]]\nkind = "external"\nrate_hz = 500\ncommand = ["true"]\n')
    with open_board(read_target(file)) as board:
        found = measure(board, bundle, store, sessions=1)
    # A busy machine may add `unsteady` to the flags: these windows are really measured.
    assert all(m.energy_mj is None and "no_energy" in m.flags and "energy" not in m.evidence for m in found)
    assert all(m.latency_ms.value > 0 for m in found)
