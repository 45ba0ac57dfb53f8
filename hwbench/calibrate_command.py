"""What `hwbench calibrate` does: read measurements, fit each way they were run, write the target, and say it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hwbench.calibrate import Calibrated, calibrate
from hwbench.errors import ConfigError
from hwbench.networks_file import Networks, Ran, read_runs
from hwbench.own_target import keep_calibrated
from hwbench.setting import Setting, parse_clocks
from hwbench.target import Calibration, Simulation, Target

_DIGITS = 3  # of an error in a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of networks that were run in one way."""

    setting: Setting
    calibrated: Calibrated
    simulation: Simulation

    @property
    def calibration(self) -> Calibration:
        """As the target has it."""
        assert self.simulation.calibrated is not None
        return self.simulation.calibrated


def calibrate_target(
    target: Target,
    file: Path,
    *,
    said: Ran,
    source: str | None = None,
    gross: bool = True,
    trust_units: bool = False,
    seed: int = 0,
) -> list[Found]:
    """Fit the target's parameters to the networks of a file; nothing is written.

    said: how they were run, where the file does not say.  source: who published them; None = as the file says.
    """
    analytic = target.simulated()
    runs: dict[tuple[str, str, int | None], tuple[Setting, Networks]] = {}
    for networks in read_runs(file):
        setting = _setting(analytic, _both(networks.ran, said, file), file)
        key = (setting.unit, setting.precision, setting.threads)
        if key in runs:
            raise ConfigError(f"{file}: {setting} and {runs[key][0]} share parameters; keep the rows of one")
        runs[key] = setting, networks
    found = []
    for setting, networks in runs.values():
        parameters = target.parameters(setting)
        assert parameters is not None  # it is one of the analytic board's settings
        fitted = calibrate(
            parameters, setting, networks, grids=target.grids, gross=gross, seed=seed, trust_units=trust_units
        )
        record = _record(fitted, networks, source)
        simulation = fitted.simulation.model_copy(update={"calibrated": record})
        found.append(Found(setting=setting, calibrated=fitted, simulation=simulation))
    return found


def write(target: Target, found: Sequence[Found]) -> Path:
    """Into `./targets/NAME.toml`."""
    return keep_calibrated(target, {each.setting: each.simulation for each in found})


def as_json(file: Path | None, found: Sequence[Found]) -> dict[str, Any]:
    """Every figure.  file: None = nothing was written."""
    return {
        "file": None if file is None else str(file),
        "calibrations": [
            {
                "setting": str(each.setting),
                "parameters": each.simulation.model_dump(include=set(each.calibrated.parameters)),
                "reading": each.calibrated.reading,
                "fitted": each.calibrated.fitted,
                "aside": each.calibrated.aside,
                "held_out": {metric: asdict(error) for metric, error in each.calibrated.held_out.items()},
                "before": {metric: asdict(error) for metric, error in each.calibrated.before.items()},
                "calibrated": each.calibration.model_dump(),
            }
            for each in found
        ],
    }


def lines(file: Path | None, found: Sequence[Found]) -> Iterator[str]:
    """For people."""
    for each in found:
        fitted, record = each.calibrated, each.calibration
        aside = f", {fitted.aside} set aside (no value, or an output that ignores the input)" if fitted.aside else ""
        yield f"{each.setting}: {fitted.fitted} {record.evidence} networks of {record.family} ({record.source}){aside}"
        told = each.simulation.model_dump(mode="json", include=set(fitted.parameters))
        yield "  " + ", ".join(f"{k} {v:g}" for k, v in told.items() if k != "fused")
        fused = ", ".join(each.simulation.fused) or "nothing"
        yield f"  operations counted {fitted.reading.replace('_', ' ')}; fused into the one before: {fused}"
        for metric, error in fitted.held_out.items():
            yield (
                f"  {metric} held out: MAPE {error.mape:.1f} % (before {fitted.before[metric].mape:.1f} %), Spearman "
                f"{error.spearman:.3f}, within 10 % {error.within_10:.1%}, n {error.n}"
            )
    yield "nothing written" if file is None else f"written: {file}"


def _both(ran: Ran, said: Ran, file: Path) -> Ran:
    """What the file and the user say; ConfigError where they contradict each other."""
    for field in fields(Ran):
        told, asked = getattr(ran, field.name), getattr(said, field.name)
        if told is not None and asked is not None and told != asked:
            raise ConfigError(f"{file} says {field.name} {told}, --{field.name} says {asked}; leave one out")
    return replace(ran, **{f.name: v for f in fields(Ran) if (v := getattr(said, f.name)) is not None})


def _setting(analytic: Target, ran: Ran, file: Path) -> Setting:
    """The one setting of the analytic board that is meant; ConfigError where several are, or a clock is not there."""
    clocks = Setting(unit="", precision="", clocks=parse_clocks((ran.clocks or "").replace(",", " "))).clocks_text
    settings = analytic.settings(
        None,
        clocks.replace(" ", ","),
        units=(ran.unit,) if ran.unit else (),
        precisions=(ran.precision,) if ran.precision else (),
        threads=(ran.threads,) if ran.threads else (),
        batch=ran.batch or 1,
    )
    if len(settings) > 1:
        ways = ", ".join(dict.fromkeys(f"{s.unit} {s.precision}" for s in settings))
        raise ConfigError(
            f"{file} does not say what the networks ran on; give --unit and --precision ({analytic.name} has {ways})"
        )
    return settings[0]


def _record(fitted: Calibrated, networks: Networks, source: str | None) -> Calibration:
    latency, energy = fitted.held_out["latency_ms"], fitted.held_out.get("energy_mj")
    return Calibration(
        date=datetime.now(timezone.utc).date().isoformat(),
        source=source or networks.source,
        evidence="published" if source else str(networks.evidence),
        family=networks.family,
        fits=fitted.parameters,
        n=fitted.fitted,
        held_out=latency.n,
        mape_percent=_short(latency.mape),
        spearman=round(latency.spearman, _DIGITS),
        energy_mape_percent=None if energy is None else _short(energy.mape),
    )


def _short(percent: float) -> float:
    return float(f"{percent:.{_DIGITS}g}")
