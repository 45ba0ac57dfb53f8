"""How far energy from ten samples a second is from the truth, over thousands of random curves."""

from __future__ import annotations

import numpy as np
import pytest

from hwbench.energy import mean_power
from hwbench.measurement import Trace

_CURVES = 2000
_BOOT_NS = 3_000_000_000_000_000_123


@pytest.mark.parametrize("unit", ["mw", "uj"])
def test_energy_at_10_hz_is_right_to_one_percent(unit: str, rng: np.random.Generator) -> None:
    """Work between idle that climbs, swings, settles and steps, in windows of 2 to 6 s: powers, and a counter."""
    errors = np.array([_error_percent(unit, rng) for _ in range(_CURVES)])
    print(f"\n{unit}: mean {errors.mean():.3f} %, p99 {np.percentile(errors, 99):.3f} %, worst {errors.max():.3f} %")
    assert errors.max() < 1.0


def _error_percent(unit: str, rng: np.random.Generator) -> float:
    length_s, outside = rng.uniform(2, 6), rng.uniform(0, 1.5)
    ramp, swing, settling, step = (
        rng.uniform(-0.4, 0.4),
        rng.uniform(0, 0.3),
        rng.uniform(0, 0.5),
        rng.uniform(-0.1, 0.1),
    )
    period_s, angle, step_s = rng.uniform(1, 20), rng.uniform(0, 2 * np.pi), rng.uniform(0, length_s)

    def power_mw(t: np.ndarray) -> np.ndarray:
        wave = ramp * t / length_s + swing * np.sin(2 * np.pi * t / period_s + angle) + settling * np.exp(-t.clip(0))
        return 3000 * np.where((t < 0) | (t > length_s), outside, 1 + wave + step * (t > step_s))

    fine = np.linspace(-1, length_s + 1, 20_001)
    drawn_mj = np.r_[0.0, np.cumsum((power_mw(fine)[1:] + power_mw(fine)[:-1]) / 2 * np.diff(fine))]
    truth_mw = (np.interp(length_s, fine, drawn_mj) - np.interp(0, fine, drawn_mj)) / length_s
    t_s = np.arange(-0.3, length_s + 0.4, 0.1) + rng.uniform(0, 0.1)
    value = power_mw(t_s) if unit == "mw" else 7e9 + 1000 * np.interp(t_s, fine, drawn_mj)
    trace = Trace(t_ns=_BOOT_NS + np.round(t_s * 1e9).astype(np.int64), value=value, unit=unit)
    told_mw = mean_power(trace, _BOOT_NS, _BOOT_NS + round(length_s * 1e9))[1]
    return float(100 * abs(told_mw / truth_mw - 1))
