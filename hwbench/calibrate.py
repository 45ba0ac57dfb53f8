"""Fits the handful of parameters of an analytic board to measurements of whole networks.

Least squares on relative errors, with a weak pull towards what the target says already: a parameter that these networks
tell nothing of (the peak of a processor that mostly waits) stays where it was. Besides, what a runtime leaves out of a
network (the readings of its decoder) and fuses is chosen, by the same loss. Networks whose output does not depend on
the input are set aside, as a runtime computes them beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwbench import statistics
from hwbench.backends.roofline import Work, work_us
from hwbench.decoder import Decoded, Executed, decoder
from hwbench.errors import ConfigError
from hwbench.kernels import part
from hwbench.least_squares import minimise
from hwbench.networks_file import Networks
from hwbench.setting import Setting
from hwbench.target import Simulation

LATENCY = ("peak_gops", "bandwidth_gbps", "call_us", "op_us", "output_macs", "pool_reads")
ENERGY = ("static_mw", "dynamic_mw")
MINIMUM_NETWORKS = 20
_FUSED: tuple[tuple[str, ...], ...] = ((), ("activation",), ("activation", "add"))
_FITTED = 600  # more change nothing, and the others judge
_FEW = 200  # below, each network is left out once instead of once for all
_FOLDS = 5
# Weight of being a factor of ten away from what the target says, in squared relative errors of each network.
_PULL = 1e-3
# Where the target says 0 or nothing: an output costs about as much as handing it to an accumulator's epilogue.
_UNSAID = {"call_us": 10.0, "op_us": 1.0, "output_macs": 10.0, "static_mw": 100.0, "dynamic_mw": 100.0}
_STARTS = (0.1, 1.0, 10.0)
_REACH = np.log(1e4)  # no parameter goes further than this factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How well n networks that were not fitted on are told; percent."""

    mape: float
    spearman: float
    n: int

    @classmethod
    def of(cls, told: np.ndarray, measured: np.ndarray) -> Judged:
        """(n,) each."""
        return cls(mape=statistics.mape(told, measured), spearman=statistics.spearman(told, measured), n=len(told))


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """Parameters found.

    fitted: how many networks.  held_out: error on others, by metric.  before: that of the parameters as they were.
    reading: of the architectures.  aside: networks without a value, or with an output that ignores the input.
    parameters: names of those that were fitted.
    """

    simulation: Simulation
    reading: str
    fitted: int
    held_out: dict[str, Judged]
    before: dict[str, Judged]
    aside: int
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Measured:
    """n networks with a value: work of K operations, times (n, K), and values (n,) by metric."""

    work: Work
    times: np.ndarray
    values: dict[str, np.ndarray]

    def part(self, which: np.ndarray) -> _Measured:
        return _Measured(work=self.work, times=self.times[which], values={m: v[which] for m, v in self.values.items()})

    def latency_ms(self, simulation: Simulation, setting: Setting) -> np.ndarray:
        each_us = work_us(simulation, self.work, setting)[2]
        return np.asarray((simulation.call_us + self.times @ each_us) / 1e3)

    def energy_mj(self, simulation: Simulation, setting: Setting, *, gross: bool) -> np.ndarray:
        """As measured: gross holds what the board draws doing nothing."""
        own = self._shares(simulation, setting)
        drawn = own @ np.array([simulation.static_mw, simulation.dynamic_mw, simulation.memory_mw])
        idle = simulation.idle_mw * self.latency_ms(simulation, setting) / 1e3 if gross else 0.0
        return np.asarray(drawn + idle)

    def _shares(self, simulation: Simulation, setting: Setting) -> np.ndarray:
        """(n, 3) mJ for each mW that is static, of computing, of moving; the law of `backends.roofline`."""
        busy, moving, each = work_us(simulation, self.work, setting)
        ticking, working = simulation.stalled, 1 - simulation.stalled
        parts = np.stack([each, ticking * each + working * busy, ticking * each + working * moving], axis=1)
        found = self.times @ parts
        found[:, 0] += simulation.call_us
        return np.asarray(found / 1e6)


def calibrate(
    simulation: Simulation, setting: Setting, networks: Networks, *, gross: bool = True, seed: int = 0
) -> Calibrated:
    """Fit the parameters of one unit and precision to whole networks that were measured so.

    gross: whether energies hold what the board draws doing nothing.  Raises ConfigError with too few networks, and for
    a family whose decoder does not say what is executed.
    """
    rng = np.random.default_rng(seed)
    if "latency_ms" not in networks.values:
        raise ConfigError("energies alone cannot be calibrated; give latency_ms of the same networks beside them")
    decoded, values, aside = _usable(networks)
    count = len(decoded.constant)
    order = rng.permutation(count)
    if count >= _FEW:
        told = order[: min(_FITTED, count // 2)]
        splits = [(told, order[len(told) :])]
    else:
        folds = np.arange(count) % _FOLDS
        told = order
        splits = [(order[folds != fold], order[folds == fold]) for fold in range(_FOLDS)]
    found, reading = _best(simulation, setting, decoded, values, told)
    measured = _measured(decoded, reading, values)
    final = _rounded(_with_energy(found, setting, measured.part(told), gross=gross))
    outside: dict[str, list[np.ndarray]] = {metric: [] for metric in values}
    for some, others in splits:
        one = final if len(splits) == 1 else _again(simulation, found, setting, measured.part(some), gross=gross)
        for metric, told_of in _tell(one, setting, measured.part(others), gross=gross).items():
            outside[metric].append(np.stack([told_of, values[metric][others]]))
    left = measured.part(np.concatenate([others for _, others in splits]))
    before = _tell(simulation, setting, left, gross=gross)
    return Calibrated(
        simulation=final,
        reading=reading,
        fitted=len(told),
        held_out={metric: Judged.of(*np.concatenate(each, axis=1)) for metric, each in outside.items()},
        before={metric: Judged.of(told_of, left.values[metric]) for metric, told_of in before.items()},
        aside=aside,
        parameters=(*LATENCY, "fused", *(ENERGY if "energy_mj" in values else ())),
    )


def _usable(networks: Networks) -> tuple[Decoded, dict[str, np.ndarray], int]:
    """Those that were measured and depend on their input, their values by metric, and how many are left out."""
    decoded = decoder(networks.family)(networks.archs)
    if any(reading.executed is None for reading in decoded.readings):
        raise ConfigError(f"family {networks.family!r}: its decoder does not say what operations networks execute")
    ran = np.all([np.isfinite(value) for value in networks.values.values()], axis=0) & ~decoded.constant
    if ran.sum() < MINIMUM_NETWORKS:
        raise ConfigError(
            f"{ran.sum()} networks of {networks.family} with all values and an output that depends on the input; "
            f"a calibration needs {MINIMUM_NETWORKS}"
        )
    return part(decoded, ran), {m: v[ran] for m, v in networks.values.items()}, int((~ran).sum())


def _measured(decoded: Decoded, reading: str, values: dict[str, np.ndarray]) -> _Measured:
    executed = next(r.executed for r in decoded.readings if r.name == reading)
    assert isinstance(executed, Executed)
    return _Measured(work=Work.of(executed.ops), times=executed.times, values=values)


def _best(
    simulation: Simulation, setting: Setting, decoded: Decoded, values: dict[str, np.ndarray], told: np.ndarray
) -> tuple[Simulation, str]:
    """The reading and the fused operations that fit best, with their parameters."""
    tried = []
    for reading in decoded.readings:
        some = _measured(decoded, reading.name, values).part(told)
        for fused in _FUSED:
            start = simulation.model_copy(update={"fused": fused})
            tried.append((*_fit_latency(start, simulation, setting, some), reading.name))
    _, best, reading_name = min(tried, key=lambda t: t[0])
    return best, reading_name


def _again(
    simulation: Simulation, found: Simulation, setting: Setting, measured: _Measured, *, gross: bool
) -> Simulation:
    """The same fit to other networks; what is fused stays."""
    return _with_energy(_fit_latency(found, simulation, setting, measured)[1], setting, measured, gross=gross)


def _fit_latency(
    start: Simulation, said: Simulation, setting: Setting, measured: _Measured
) -> tuple[float, Simulation]:
    """Loss and parameters: latencies of `measured`, pulled towards `said`."""
    centre = np.log([getattr(said, name) or _UNSAID[name] for name in LATENCY])
    value = measured.values["latency_ms"]
    pull = np.sqrt(_PULL * len(value)) / np.log(10)

    def residuals(theta: np.ndarray, which: np.ndarray) -> np.ndarray:
        rows = []
        for each in theta:
            told = measured.latency_ms(_having(start, LATENCY, each), setting)
            rows.append(np.concatenate([told / value - 1, pull * (each - centre)]))
        return np.array(rows)

    begin = np.tile(centre, (len(_STARTS) + 1, 1))
    begin[:-1, :2] += np.log(_STARTS)[:, None]
    begin[-1] = np.log([getattr(start, name) or _UNSAID[name] for name in LATENCY])
    theta, loss = minimise(residuals, begin, centre - _REACH, centre + _REACH)
    best = int(np.argmin(loss))
    return float(loss[best]), _having(start, LATENCY, theta[best])


def _with_energy(found: Simulation, setting: Setting, measured: _Measured, *, gross: bool) -> Simulation:
    """With the power that explains energies; as it is without them."""
    if "energy_mj" not in measured.values:
        return found
    value = measured.values["energy_mj"]
    centre = np.log([getattr(found, name) or _UNSAID[name] for name in ENERGY])
    pull = np.sqrt(_PULL * len(value)) / np.log(10)

    def residuals(theta: np.ndarray, which: np.ndarray) -> np.ndarray:
        rows = []
        for each in theta:
            told = measured.energy_mj(_having(found, ENERGY, each), setting, gross=gross)
            rows.append(np.concatenate([told / value - 1, pull * (each - centre)]))
        return np.array(rows)

    theta, _ = minimise(residuals, centre[None], centre - _REACH, centre + _REACH)
    return _having(found, ENERGY, theta[0])


def _having(simulation: Simulation, names: Sequence[str], logarithms: np.ndarray) -> Simulation:
    return simulation.model_copy(update=dict(zip(names, np.exp(logarithms).tolist(), strict=True)))


def _rounded(simulation: Simulation) -> Simulation:
    """To the digits that a file holds; more of them would claim too much."""
    return simulation.model_copy(update={name: float(f"{getattr(simulation, name):.4g}") for name in LATENCY + ENERGY})


def _tell(simulation: Simulation, setting: Setting, measured: _Measured, *, gross: bool) -> dict[str, np.ndarray]:
    """By metric that was measured, (n,) what the simulation says."""
    told = {"latency_ms": measured.latency_ms(simulation, setting)}
    if "energy_mj" in measured.values:
        told["energy_mj"] = measured.energy_mj(simulation, setting, gross=gross)
    return told
