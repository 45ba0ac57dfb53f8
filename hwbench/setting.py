"""How a workload is run: with the block key, the key of every row, cell and stage."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from hwbench.errors import ConfigError

Clocks = tuple[tuple[str, float | str], ...]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Setting:
    """One way to run a workload.

    unit: a processor of the board (cpu, cpu.big, gpu, npu, dla).  precision: fp32, fp16, int8.
    threads: None where the runtime has no such knob.
    clocks: the operating point, nominal MHz (or a mode's name) by clock name, sorted; () = as found.
    """

    unit: str
    precision: str
    batch: int = 1
    threads: int | None = None
    clocks: Clocks = ()

    def __post_init__(self) -> None:
        if self.batch < 1 or (self.threads is not None and self.threads < 1):
            raise ConfigError(f"batch and threads must be at least 1, not {self.batch} and {self.threads}")
        if tuple(sorted(self.clocks, key=lambda c: c[0])) != self.clocks:
            object.__setattr__(self, "clocks", tuple(sorted(self.clocks, key=lambda c: c[0])))

    @property
    def clocks_text(self) -> str:
        """`emc=1331.2 gpu=727`; empty for clocks as found."""
        return " ".join(f"{name}={_number(value)}" for name, value in self.clocks)

    @property
    def without_clocks(self) -> Setting:
        """The same setting at clocks as found: what a composition is fitted for."""
        return replace(self, clocks=())

    def __str__(self) -> str:
        threads = "" if self.threads is None else f" threads={self.threads}"
        clocks = f" {self.clocks_text}" if self.clocks else ""
        return f"{self.unit} {self.precision} batch={self.batch}{threads}{clocks}"


def parse_setting(text: str) -> Setting:
    """What `str` of a setting says; ConfigError for what is none."""
    words = text.split()
    said = {name: value for name, equals, value in (word.partition("=") for word in words[2:]) if equals}
    if len(words) < 3 or not said.get("batch", "").isdigit() or not said.get("threads", "1").isdigit():
        raise ConfigError(f"setting {text!r}: expected UNIT PRECISION batch=N [threads=N] [CLOCK=VALUE …]")
    return Setting(
        unit=words[0],
        precision=words[1],
        batch=int(said["batch"]),
        threads=int(said["threads"]) if "threads" in said else None,
        clocks=parse_clocks(" ".join(w for w in words[2:] if not w.startswith(("batch=", "threads=")))),
    )


def parse_clocks(text: str) -> Clocks:
    """Read `emc=1331.2 gpu=727`; raises ConfigError naming the part that is not NAME=VALUE."""
    clocks: list[tuple[str, float | str]] = []
    for part in text.split():
        name, equals, value = part.partition("=")
        if not equals or not name or not value:
            raise ConfigError(f"operating point {text!r}: {part!r} is not NAME=VALUE (like gpu=727)")
        try:
            clocks.append((name, float(value)))
        except ValueError:
            clocks.append((name, value))
    if len({name for name, _ in clocks}) != len(clocks):
        raise ConfigError(f"operating point {text!r} sets one clock twice")
    return tuple(sorted(clocks, key=lambda c: c[0]))


def grid_points(text: str) -> list[Clocks]:
    """Every operating point of a grid `emc=1331.2,1866;gpu=114.75,727`; ConfigError names a part that is wrong."""
    axes: list[list[tuple[str, float | str]]] = []
    for part in filter(None, text.split(";")):
        name, _, values = part.partition("=")
        axes.append([pair for value in values.split(",") for pair in parse_clocks(f"{name}={value}")])
    return [tuple(sorted(point, key=lambda c: c[0])) for point in itertools.product(*axes)] if axes else []


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}" if value != int(value) else str(int(value))
