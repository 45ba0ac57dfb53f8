"""A curve is put into the board's clock within the error that is stated, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwbench.alignment import align
from hwbench.errors import Inconclusive
from hwbench.marker import BURST_S, PAUSE_S
from hwbench.measurement import Trace

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
