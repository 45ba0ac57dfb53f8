"""A runtime that the agent runs on a processor from a file as it is: the host half that such backends share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from hwbench import agent_session
from hwbench.errors import ConfigError, nearest
from hwbench.link import Link
from hwbench.session import Prepared, Session
from hwbench.setting import Setting
from hwbench.workload import Bundle, Workload

Cores = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


class ProcessorOptions(BaseModel):
    """What every runtime of this kind can be told.

    cores: CPU numbers by unit, `{ "cpu.big" = [4, 5, 6, 7] }`, which the agent and all its threads are kept on; a unit
    that is not named has the whole board.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    cores: dict[str, Cores] = {}

    @property
    def for_runtime(self) -> dict[str, Any]:
        """The options that the runtime itself is told when it loads."""
        return self.model_dump(exclude={"cores"})


class AgentBackend:
    """Sends files and starts agents; a Backend.

    name: as in TOML and messages.  runtime: its module in hwbench.agent.runtimes.
    by_precision: artifact formats, best first.  options: handed to the runtime when it loads.
    cores: CPU numbers by unit, as in ProcessorOptions.
    for_batches: makes of a file, which takes one input, one that takes several; None = the runtime sees to that itself.
    """

    def __init__(
        self,
        *,
        name: str,
        runtime: str,
        by_precision: Mapping[str, tuple[str, ...]],
        options: Mapping[str, str | int | float | bool],
        cores: Mapping[str, Sequence[int]],
        for_batches: Callable[[Path], Path] | None = None,
    ) -> None:
        self.name = name
        self._runtime = runtime
        self._by_precision = by_precision
        self._options = options
        self._cores = cores
        self._for_batches = for_batches

    def formats(self, precision: str) -> tuple[str, ...]:
        """Artifact formats for that precision; ConfigError for one that the runtime cannot."""
        if precision not in self._by_precision:
            raise ConfigError(f"{self.name}: no precision {precision!r}{nearest(precision, self._by_precision)}")
        return self._by_precision[precision]

    def prepare(self, link: Link, bundle: Bundle, workload: Workload, setting: Setting) -> Prepared:
        """Send the file; the runtime compiles when it loads."""
        self._check(setting)
        format = self.formats(setting.precision)[0]
        file = sent = bundle.path(workload, format)
        sha256 = workload.artifacts[format].sha256
        if setting.batch != 1 and self._for_batches is not None:
            sent = self._for_batches(file)
            sha256 = hashlib.sha256(sent.read_bytes()).hexdigest()
        return Prepared(
            block_key=workload.block_key,
            setting=setting,
            format=format,
            path=link.push(sent),
            sha256=sha256,
            options=self._options,
            source=str(file),
        )

    def prepare_together(
        self, link: Link, bundle: Bundle, workloads: Sequence[Workload], setting: Setting
    ) -> list[Prepared]:
        """One by one: on a processor no graph takes another's place."""
        return [self.prepare(link, bundle, workload, setting) for workload in workloads]

    def session(self, link: Link, setting: Setting) -> Session:
        """A fresh agent with this runtime, on the unit's own cores where the target names them."""
        self._check(setting)
        return agent_session.start(link, self._runtime, setting, cores=self._cores.get(setting.unit, ()))

    def _check(self, setting: Setting) -> None:
        if not setting.unit.startswith("cpu"):
            raise ConfigError(f"{self.name}: runs on the cpu here, not on {setting.unit!r}; choose another backend")
        if setting.threads is None:
            raise ConfigError(f"{self.name}: the setting names no threads; say how many, like threads = [1]")
        cores = self._cores.get(setting.unit)
        if cores is not None and setting.threads > len(set(cores)):
            raise ConfigError(
                f"{self.name}: {setting.threads} threads on the {len(set(cores))} cores of {setting.unit!r} would only "
                "wait for each other; ask for fewer"
            )
