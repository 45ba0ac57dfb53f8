"""hwbench.calibrate: boards whose parameters are known are found again, and the error is that of others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwbench.backends.roofline import Work, cost, costs
from hwbench.calibrate import LATENCY, MINIMUM_NETWORKS, calibrate
from hwbench.errors import ConfigError
from hwbench.networks_file import Networks
from hwbench.setting import Setting
from hwbench.target import Simulation
from hwbench.workload import Workload
from models.decoders.nas_bench_201 import decode
from tests.hwbench.test_fit_networks import names

SETTING = Setting(unit="cpu", precision="fp32")
GRIDS = {"cpu": (600.0, 1500.0, 1800.0)}
# What the data sheet says, and the board itself.
NOMINAL = Simulation(
    peak_gops=16, bandwidth_gbps=4.5, call_us=20, op_us=4, idle_mw=2700, static_mw=400, dynamic_mw=2900,
    compute_clock="cpu", volt_low=0.85,
)  # fmt: skip
TRUE = NOMINAL.model_copy(
    update={
        "peak_gops": 5.0,
        "bandwidth_gbps": 1.0,
        "call_us": 60.0,
        "op_us": 12.0,
        "output_macs": 5.0,
        "pool_reads": 3.0,
        "fused": ("activation",),
        "static_mw": 900.0,
        "dynamic_mw": 1500.0,
    }
)


def measured(
    count: int, rng: np.random.Generator, *, setting: Setting = SETTING, reading: str = "backward", gross: bool = True
) -> Networks:
    """Of the true board, with 2 % of noise."""
    archs = names(count, rng)
    executed = next(r.executed for r in decode(archs).readings if r.name == reading)
    assert executed is not None
    latency_us, energy_uj = costs(TRUE, Work.of(executed.ops), executed.times, setting, GRIDS)
    energy_mj = energy_uj / 1e3 + (TRUE.idle_mw * latency_us / 1e6 if gross else 0)
    noise = rng.normal(1, 0.02, (2, count))
    values = {"latency_ms": latency_us / 1e3 * noise[0], "energy_mj": energy_mj * noise[1]}
    return Networks(family="nas-bench-201", archs=tuple(archs), values=values)


def test_known_parameters_are_found(rng: np.random.Generator) -> None:
    """From several times off, what is fused and left out, too; the error is the noise that nothing explains.

    What an operation and an output cost moves these networks little, and in the same way: neither is told alone.
    """
    found = calibrate(NOMINAL, SETTING, measured(900, rng))
    assert ("backward", ("activation",)) == (found.reading, found.simulation.fused)
    for name in ("peak_gops", "bandwidth_gbps", "pool_reads"):
        assert getattr(found.simulation, name) == pytest.approx(getattr(TRUE, name), rel=0.15), name
    for metric in ("latency_ms", "energy_mj"):
        assert 1.2 < found.held_out[metric].mape < 2.2
        assert found.before[metric].mape > 25
    assert 900 == found.fitted + found.held_out["latency_ms"].n + found.aside
    assert ("idle_mw", 2700) == ("idle_mw", found.simulation.idle_mw)


def test_a_clock_below_its_highest_is_told_from_a_slow_board(rng: np.random.Generator) -> None:
    """Parameters are those at the highest clock, whatever the clock that was measured at."""
    slow = replace(SETTING, clocks=(("cpu", 600.0),))
    networks = measured(220, rng, setting=slow)
    found = calibrate(NOMINAL, slow, networks, grids=GRIDS)
    assert found.simulation.peak_gops == pytest.approx(TRUE.peak_gops, rel=0.25)
    assert calibrate(NOMINAL, SETTING, networks, grids=GRIDS).simulation.peak_gops < 0.5 * TRUE.peak_gops


def test_energy_may_be_net_of_idle(rng: np.random.Generator) -> None:
    """The same board by a meter that subtracts what it draws doing nothing."""
    found = calibrate(NOMINAL, SETTING, measured(220, rng, gross=False), gross=False)
    assert found.held_out["energy_mj"].mape < 3.5
    wrong = calibrate(NOMINAL, SETTING, measured(220, rng, gross=False)).simulation
    assert wrong.static_mw + wrong.dynamic_mw < 0.7 * (found.simulation.static_mw + found.simulation.dynamic_mw)


def test_few_networks_are_held_out_in_turn(rng: np.random.Generator) -> None:
    """Each once, so that the error is of all; the parameters are of all as well."""
    found = calibrate(NOMINAL, SETTING, measured(60, rng))
    assert found.fitted == found.held_out["latency_ms"].n == 60 - found.aside
    assert found.held_out["latency_ms"].mape < 4


def test_what_networks_do_not_tell_stays(rng: np.random.Generator) -> None:
    """Without pools, how often a pool reads its input; the six figures are otherwise those of the latency."""
    networks = measured(600, rng)
    plain = np.array(["pool" not in arch for arch in networks.archs])
    archs = tuple(a for a, keep in zip(networks.archs, plain, strict=True) if keep)
    values = {"latency_ms": networks.values["latency_ms"][plain]}
    found = calibrate(NOMINAL, SETTING, replace(networks, archs=archs, values=values))
    assert found.parameters == (*LATENCY, "fused")
    # The pools of the two reductions are in every network.
    assert 0.5 < found.simulation.pool_reads / NOMINAL.pool_reads < 2 * TRUE.pool_reads
    assert (NOMINAL.static_mw, NOMINAL.dynamic_mw) == (found.simulation.static_mw, found.simulation.dynamic_mw)


def test_the_split_is_of_the_seed(rng: np.random.Generator) -> None:
    """The same twice; another seed holds out others."""
    networks = measured(220, rng)
    first, again, other = (calibrate(NOMINAL, SETTING, networks, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_what_could_not_be_measured_is_set_aside(rng: np.random.Generator) -> None:
    """As are networks whose output does not depend on their input."""
    networks = measured(220, rng)
    constant = int(decode(networks.archs).constant.sum())
    networks.values["latency_ms"][:10] = np.nan
    found = calibrate(NOMINAL, SETTING, networks)
    assert 10 <= found.aside <= 10 + constant


def test_too_few_and_unreadable_networks_are_refused(rng: np.random.Generator) -> None:
    """With what is missing."""
    networks = measured(MINIMUM_NETWORKS - 1, rng)
    with pytest.raises(ConfigError, match=f"a calibration needs {MINIMUM_NETWORKS}"):
        calibrate(NOMINAL, SETTING, networks)
    with pytest.raises(ConfigError, match="energies alone"):
        calibrate(NOMINAL, SETTING, replace(networks, values={"energy_mj": networks.values["energy_mj"]}))
    with pytest.raises(ConfigError, match=r"unknown family 'nasbench-201'.*did you mean 'nas-bench-201'"):
        calibrate(NOMINAL, SETTING, replace(networks, family="nasbench-201"))
    blocks = "-".join(["0"] * 22)
    with pytest.raises(ConfigError, match="does not say what operations"):
        calibrate(NOMINAL, SETTING, Networks(family="fbnet", archs=(blocks,), values={"latency_ms": np.ones(1)}))


def test_a_wrong_unit_is_refused_unless_trusted(rng: np.random.Generator) -> None:
    """Seconds read as milliseconds, and microseconds."""
    networks = measured(220, rng)
    for factor in (1e-3, 1e3):
        wrong = replace(networks, values={"latency_ms": networks.values["latency_ms"] * factor})
        with pytest.raises(ConfigError, match="looks like a wrong unit"):
            calibrate(NOMINAL, SETTING, wrong)
    assert calibrate(NOMINAL, SETTING, wrong, trust_units=True).simulation.peak_gops < 0.1


def test_a_calibrated_board_simulates_what_was_fitted(rng: np.random.Generator) -> None:
    """One network through the backend's own law costs what the calibration says of it."""
    found = calibrate(NOMINAL, SETTING, measured(220, rng))
    arch = "|nor_conv_3x3~0|+|none~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|"
    executed = next(r.executed for r in decode([arch]).readings if r.name == found.reading)
    assert executed is not None
    ops = tuple(op for op, n in zip(executed.ops, executed.times[0].astype(int), strict=True) for _ in range(n))
    workload = Workload(block_key="cell", kind="network", inputs=(), outputs=(), ops=ops)
    truth, told = (cost(simulation, workload, SETTING, {}) for simulation in (TRUE, found.simulation))
    assert told.latency_us == pytest.approx(truth.latency_us, rel=0.05)
    assert told.energy_uj == pytest.approx(truth.energy_uj, rel=0.1)
