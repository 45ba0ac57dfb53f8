"""The `external` meter is aligned to the board's clock by the marker, or refused."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwbench.errors import Inconclusive, PermanentDeviceError
from hwbench.links import local
from hwbench.marker import BURST_S, PAUSE_S
from hwbench.measurement import Trace
from hwbench.meter import Meter
from hwbench.meters import external
from hwbench.meters.external import align, parse
from tests.contracts.meter import EMPTY, MeterContract

_BOARD_NS = 987_654_321_000_000_000


def _marker() -> Trace:
    edges, t_s = [], 0.0
    for burst_s, pause_s in zip(BURST_S, PAUSE_S, strict=True):
        edges += [t_s, t_s + burst_s]
        t_s += burst_s + pause_s
    t_ns = _BOARD_NS + np.round(np.array(edges) * 1e9).astype(np.int64)
    return Trace(t_ns=t_ns, value=np.tile([1.0, 0.0], len(BURST_S)), unit="raw")


def _curve(
    rate_hz: float, offset_s: float, rng: np.random.Generator, noise_mw: float = 100
) -> tuple[np.ndarray, np.ndarray]:
    """What a meter sees that began 3 s before the marker and ran on for a minute; the board's 0 is its `offset_s`."""
    t_s = np.arange(offset_s - 3, offset_s + 60, 1 / rate_hz)
    edges = (_marker().t_ns - _BOARD_NS) / 1e9
    after = np.searchsorted(edges, t_s - offset_s, side="right")
    busy = np.r_[0.0, _marker().value][after]
    # After the marker comes the campaign: windows and loads in no pattern.
    busy = np.where(t_s - offset_s > edges[-1] + 0.5, rng.random(t_s.size) > 0.3, busy)
    return t_s, 2000 + 3000 * busy + rng.normal(0, noise_mw, t_s.size)


class TestExternal(MeterContract):
    """The contract."""

    @pytest.fixture
    def meter(self) -> Meter:
        return external.open(external.Options(command=["true"]), local.open(local.Options()))

    @pytest.fixture
    def truth_mw(self) -> float:
        return 2500.0

    @pytest.fixture
    def traces(self) -> Mapping[str, Trace]:
        t_ns = np.arange(0, 4_000_000_000, 100_000_000)
        return {external.TOTAL: Trace(t_ns=t_ns, value=np.full(t_ns.size, 2500.0), unit="mw")}


@settings(max_examples=15, deadline=None)
@given(offset_s=st.floats(-1e6, 1e6), rate_hz=st.sampled_from([10.0, 50.0, 500.0]), seed=st.integers(0, 99))
def test_true_shift_lies_within_the_stated_error(offset_s: float, rate_hz: float, seed: int) -> None:
    """Whatever the two clocks say, the error that is stated holds, and it is about a sample's distance."""
    t_s, power_mw = _curve(rate_hz, offset_s, np.random.default_rng(seed))
    trace = align(t_s, power_mw, _marker())
    true_ns = _BOARD_NS + (t_s - offset_s) * 1e9
    off_ms = float(np.abs(trace.t_ns - true_ns).max()) / 1e6
    assert off_ms <= trace.alignment_error_ms
    assert trace.alignment_error_ms <= 3 * 1000 / rate_hz + 20


def test_curve_without_the_bursts_is_refused(rng: np.random.Generator) -> None:
    """Another board's supply: noise does not align."""
    t_s = np.arange(0, 30, 0.1)
    with pytest.raises(Inconclusive, match="does not show"):
        align(t_s, rng.normal(2000, 50, t_s.size), _marker())


def test_curve_shorter_than_the_marker_is_refused() -> None:
    """A meter that stopped early."""
    t_s = np.arange(0, 2, 0.1)
    with pytest.raises(Inconclusive, match="shorter than the marker"):
        align(t_s, np.ones(t_s.size), _marker())


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e6)), min_size=1, max_size=20), st.booleans())
def test_lines_are_read_as_they_were_printed(rows: list[tuple[float, float]], header: bool) -> None:
    """Any numbers, with or without a header, and a last line that was cut short."""
    text = ("t_s,power_mw\n" if header else "") + "".join(f"{t!r},{p!r}\n" for t, p in rows) + "12.5,3"
    t_s, power_mw = parse(text)
    assert sorted(rows) == list(zip(t_s.tolist(), power_mw.tolist(), strict=True))


def test_line_that_is_no_reading_is_named() -> None:
    """The number of the line and its text."""
    with pytest.raises(PermanentDeviceError, match="line 2 is 'volts'"):
        parse("1,2\nvolts\n")
    with pytest.raises(PermanentDeviceError, match="printed no"):
        parse("t_s,power_mw\n")


def test_command_runs_from_start_to_stop(root: Path, tmp_path: Path) -> None:
    """A real process: what it printed until it was ended is what is aligned."""
    power = tmp_path / "power"
    power.write_text("2000")
    supply = root / "tests" / "doubles" / "bench_supply.py"
    meter = external.External(external.Options(command=[sys.executable, str(supply), str(power), "1000"], rate_hz=100))
    meter.start()
    time.sleep(0.5)
    edges: list[int] = []
    for burst_s in (0.2, 0.1, 0.3):
        for power_mw in (5000, 2000):
            power.write_text(str(power_mw))
            edges.append(time.monotonic_ns())
            time.sleep(burst_s if power_mw == 5000 else 0.15)
    marker = Trace(t_ns=np.array(edges), value=np.tile([1.0, 0.0], 3), unit="raw")
    total = meter.total(meter.stop(marker))
    inside = (total.t_ns > edges[-2] + 50e6) & (total.t_ns < edges[-1] - 50e6)
    assert inside.sum() >= 5
    assert set(total.value[inside]) == {5000.0}
    assert 0 < total.alignment_error_ms < 50


def test_command_that_does_not_exist_is_named() -> None:
    """At the start, before anything is measured."""
    meter = external.External(external.Options(command=["no-such-meter"]))
    with pytest.raises(PermanentDeviceError, match="cannot start 'no-such-meter'"):
        meter.start()
    assert meter.stop(EMPTY) == {}
