"""Fits the handful of parameters of an analytic board to measurements of whole networks.

Least squares on relative errors, with a weak pull towards what the target says already: a parameter that these networks
tell nothing of (the peak of a processor that mostly waits) stays where it was. Besides, what a runtime leaves out of a
network (the readings of its decoder) and fuses is chosen, by the same loss. Networks whose output does not depend on
the input are set aside, as a runtime computes them beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwbench.backends.roofline import Work, costs
from hwbench.decoder import Decoded, decoder
from hwbench.errors import ConfigError
from hwbench.judged import Judged
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
_STARTS = (0.1, 1.0, 10.0)  # of peak and bandwidth, which a target may say far too high
_REACH = np.log(1e4)  # no parameter goes further than this factor
_UNLIKE = 100.0  # data sheets are not so far off, but a wrong unit is


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """Parameters found.

    fitted: how many networks.  held_out: error on networks not fitted on, by metric.  before: of the parameters as they
    were, on the same.  reading: of the architectures.  aside: networks without a value, or whose output ignores the
    input.  parameters: names of those that were fitted.
    """

    simulation: Simulation
    reading: str
    fitted: int
    held_out: dict[str, Judged]
    before: dict[str, Judged]
    aside: int
    parameters: tuple[str, ...]


def calibrate(
    simulation: Simulation,
    setting: Setting,
    networks: Networks,
    *,
    grids: Mapping[str, Sequence[float]] | None = None,
    gross: bool = True,
    trust_units: bool = False,
    seed: int = 0,
) -> Calibrated:
    """Fit the parameters of one unit and precision to whole networks that were measured at a setting.

    grids: MHz by clock name, as in `roofline.cost`.  gross: whether energies hold what the board draws doing nothing.
    seed: of the split into networks fitted on and held out; below 200 each is held out once, in five parts, and the
    parameters returned are those of all.
    trust_units: fit also what is a hundred times off what the target says.
    Raises ConfigError for that, with too few networks, and for a family whose decoder does not say what is executed.
    """
    everything, aside = _usable(networks, setting, grids or {}, gross=gross)
    if not trust_units:
        _check_units(simulation, everything)
    order = np.random.default_rng(seed).permutation(everything.count)
    if everything.count >= _FEW:
        told = order[: min(_FITTED, everything.count // 2)]
        splits = [(told, order[len(told) :])]
    else:
        told = order
        fold = np.arange(everything.count) % _FOLDS
        splits = [(order[fold != k], order[fold == k]) for k in range(_FOLDS)]
    found, reading = _fit(simulation, everything.part(told))
    held_out: dict[str, list[np.ndarray]] = {metric: [] for metric in everything.values}
    before: dict[str, list[np.ndarray]] = {metric: [] for metric in everything.values}
    for some, others in splits:
        one, its = (found, reading) if len(splits) == 1 else _fit(simulation, everything.part(some))
        left = everything.part(others)
        for metric, value in left.values.items():
            held_out[metric].append(np.stack([left.tell(one, its, metric), value]))
            before[metric].append(np.stack([left.tell(simulation, its, metric), value]))
    return Calibrated(
        simulation=found,
        reading=reading,
        fitted=len(told),
        held_out={metric: Judged.of(*np.concatenate(each, axis=1)) for metric, each in held_out.items()},
        before={metric: Judged.of(*np.concatenate(each, axis=1)) for metric, each in before.items()},
        aside=aside,
        parameters=(*LATENCY, "fused", *(ENERGY if "energy_mj" in everything.values else ())),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Measured:
    """Networks and how they were measured.  work: of the operations, and (n, K) times, by reading."""

    work: Mapping[str, tuple[Work, np.ndarray]]
    values: Mapping[str, np.ndarray]
    setting: Setting
    grids: Mapping[str, Sequence[float]]
    gross: bool

    @property
    def count(self) -> int:
        return len(self.values["latency_ms"])

    def part(self, which: np.ndarray) -> _Measured:
        return replace(
            self,
            work={reading: (work, times[which]) for reading, (work, times) in self.work.items()},
            values={metric: value[which] for metric, value in self.values.items()},
        )

    def tell(self, simulation: Simulation, reading: str, metric: str) -> np.ndarray:
        """(n,) what the simulation says."""
        latency_us, energy_uj = costs(simulation, *self.work[reading], self.setting, self.grids)
        if metric == "latency_ms":
            return latency_us / 1e3
        return np.asarray(energy_uj / 1e3 + (simulation.idle_mw * latency_us / 1e6 if self.gross else 0.0))


def _usable(
    networks: Networks, setting: Setting, grids: Mapping[str, Sequence[float]], *, gross: bool
) -> tuple[_Measured, int]:
    """Those that were measured and depend on their input, and how many are left out."""
    if "latency_ms" not in networks.values:
        raise ConfigError("energies alone cannot be calibrated; give latency_ms of the same networks beside them")
    decoded = decoder(networks.family)(networks.archs)
    work = _work(networks.family, decoded)
    ran = np.all([np.isfinite(value) for value in networks.values.values()], axis=0) & ~decoded.constant
    if ran.sum() < MINIMUM_NETWORKS:
        raise ConfigError(
            f"{ran.sum()} networks of {networks.family} with all values and an output that depends on the input; "
            f"a calibration needs {MINIMUM_NETWORKS}"
        )
    measured = _Measured(
        work=work,
        values=networks.values,
        setting=setting,
        grids=grids,
        gross=gross,
    )
    return measured.part(ran), int((~ran).sum())


def _work(family: str, decoded: Decoded) -> dict[str, tuple[Work, np.ndarray]]:
    found = {}
    for reading in decoded.readings:
        if reading.executed is None:
            raise ConfigError(f"family {family!r}: its decoder does not say what operations networks execute")
        found[reading.name] = Work.of(reading.executed.ops), reading.executed.times
    return found


def _check_units(said: Simulation, measured: _Measured) -> None:
    """ConfigError where the parameters as they are can only be meant in another unit."""
    reading = next(iter(measured.work))
    for metric, value in measured.values.items():
        ratio = float(np.median(value / measured.tell(said, reading, metric)))
        if not 1 / _UNLIKE < ratio < _UNLIKE:
            raise ConfigError(
                f"{metric}: the networks take {ratio:.3g} times what the target says, which looks like a wrong unit; "
                "name the column after the right one, or give --trust-units where it is true"
            )


def _fit(said: Simulation, measured: _Measured) -> tuple[Simulation, str]:
    """Parameters, what is fused among them, and the reading: those that fit best."""
    best: tuple[float, Simulation, str] | None = None
    for reading in measured.work:
        for fused in _FUSED:
            start = said.model_copy(update={"fused": fused})
            loss, found = _descend(start, LATENCY, measured, reading, "latency_ms", _STARTS)
            if best is None or loss < best[0]:
                best = loss, found, reading
    assert best is not None
    _, found, reading = best
    if "energy_mj" in measured.values:
        _, found = _descend(found, ENERGY, measured, reading, "energy_mj", (1.0,))
    return _rounded(found), reading


def _descend(
    said: Simulation,
    names: tuple[str, ...],
    measured: _Measured,
    reading: str,
    metric: str,
    starts: Sequence[float],
) -> tuple[float, Simulation]:
    """Loss and parameters that tell a metric best, pulled towards `said`; starts: factors of the first two names."""
    value = measured.values[metric]
    centre = np.log([getattr(said, name) or _UNSAID[name] for name in names])
    pull = np.sqrt(_PULL * len(value)) / np.log(10)

    def having(theta: np.ndarray) -> Simulation:
        return said.model_copy(update=dict(zip(names, np.exp(theta).tolist(), strict=True)))

    def residuals(theta: np.ndarray, which: np.ndarray) -> np.ndarray:
        return np.array(
            [
                np.concatenate([measured.tell(having(each), reading, metric) / value - 1, pull * (each - centre)])
                for each in theta
            ]
        )

    begin = np.tile(centre, (len(starts), 1))
    begin[:, :2] += np.log(starts)[:, None]
    theta, loss = minimise(residuals, begin, centre - _REACH, centre + _REACH)
    best = int(np.argmin(loss))
    return float(loss[best]), having(theta[best])


def _rounded(simulation: Simulation) -> Simulation:
    """To the digits that a file holds; more of them would claim too much."""
    return simulation.model_copy(update={name: float(f"{getattr(simulation, name):.4g}") for name in LATENCY + ENERGY})
