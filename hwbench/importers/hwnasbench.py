"""HW-NAS-Bench's pickle: space → dataset → lists by `<device>_<metric>`, beside `config` with each architecture.

Source: Li et al., "HW-NAS-Bench", ICLR 2021, and its API: latency in ms, energy in mJ, −1 = not measurable. Eyeriss and
FPGA are estimated by tools. Its FBNet part is a table of blocks by position, which is another thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from hwbench.errors import ConfigError, nearest
from hwbench.importer import Entry, Given, Imported, Importer, number
from hwbench.measurement import Interval
from hwbench.safe_pickle import plain, read_pickle

_SPACE, _FAMILY = "nasbench201", "nas-bench-201"
_ESTIMATED = ("eyeriss", "fpga")
_METRICS = ("latency", "energy")


class Options(BaseModel):
    """device: edgegpu, raspi4, edgetpu, pixel3, eyeriss, fpga.  dataset: cifar10, cifar100, ImageNet16-120."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    device: str = ""
    dataset: str = "cifar10"


@dataclass(frozen=True, slots=True, kw_only=True)
class _HwNasBench:
    options: Options

    def read(self, file: Path, given: Given) -> Imported:
        space = _inside(read_pickle(file), _SPACE, str(file))
        data = _inside(space, self.options.dataset, f"{file}: {_SPACE}")
        where = f"{file}: {_SPACE}: {self.options.dataset}"
        devices = sorted({str(k).rpartition("_")[0] for k in data if str(k).endswith(_METRICS)})
        device = self.options.device
        if device not in devices:
            raise ConfigError(f"{where}: which device? --set device=NAME{nearest(device, devices)}")
        archs = [_arch(config, f"{where}: config[{i}]") for i, config in enumerate(_list(data, "config", where))]
        columns = {m: _list(data, f"{device}_{m}", where) for m in _METRICS if f"{device}_{m}" in data}
        for metric, column in columns.items():
            if len(column) != len(archs):
                raise ConfigError(f"{where}: {device}_{metric} has {len(column)} values for {len(archs)} architectures")
        entries = []
        for i, arch in enumerate(archs):
            values = {m: _value(c[i], f"{where}: {device}_{m}[{i}]") for m, c in columns.items()}
            found = {m: None if v is None else Interval(value=v) for m, v in values.items()}
            entries.append(
                Entry(
                    key=arch,
                    kind="arch",
                    setting=given.setting,
                    latency_ms=found.get("latency"),
                    energy_mj=found.get("energy"),
                    where=f"{where}[{i}]",
                )
            )
        return Imported(
            entries=tuple(entries),
            family=_FAMILY,
            told={"device": device, "dataset": self.options.dataset},
            missing=("machine", "runtime_version", "clocks", "runs"),
            estimated=device in _ESTIMATED,
        )


def open(options: Options) -> Importer:
    """Nothing is opened before the file is read."""
    return _HwNasBench(options=options)


def _inside(value: Any, key: str, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: a {type(value).__name__} where HW-NAS-Bench has a dictionary")
    if not isinstance(value.get(key), Mapping):
        raise ConfigError(f"{where}: no dictionary {key!r}{nearest(key, [str(k) for k in value][:20])}")
    found: Mapping[Any, Any] = value[key]
    return found


def _list(data: Mapping[Any, Any], key: str, where: str) -> Sequence[Any]:
    found = plain(data.get(key))
    if not isinstance(found, (list, tuple)):
        raise ConfigError(f"{where}: {key} is no list")
    return found


def _arch(config: Any, where: str) -> str:
    arch = config.get("arch_str") if isinstance(config, Mapping) else config
    if not isinstance(arch, str) or not arch:
        raise ConfigError(f"{where}: no arch_str")
    return arch


def _value(value: Any, where: str) -> float | None:
    value = plain(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ConfigError(f"{where} is {str(value)[:40]!r}, not a number")
    return number(value, 1.0, where)
