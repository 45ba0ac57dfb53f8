"""A runtime that the agent runs on a processor from a file as it is: the host half that such backends share."""

from __future__ import annotations

from collections.abc import Mapping

from hwbench import agent_session
from hwbench.errors import ConfigError, nearest
from hwbench.link import Link
from hwbench.session import Prepared, Session
from hwbench.setting import Setting
from hwbench.workload import Bundle, Workload


class AgentBackend:
    """Sends files and starts agents; a Backend.

    name: as in TOML and messages.  runtime: its module in hwbench.agent.runtimes.
    by_precision: artifact formats, best first.  options: handed to the runtime when it loads.
    """

    def __init__(
        self,
        *,
        name: str,
        runtime: str,
        by_precision: Mapping[str, tuple[str, ...]],
        options: Mapping[str, str | int | float | bool],
    ) -> None:
        self.name = name
        self._runtime = runtime
        self._by_precision = by_precision
        self._options = options

    def formats(self, precision: str) -> tuple[str, ...]:
        """Artifact formats for that precision; ConfigError for one that the runtime cannot."""
        if precision not in self._by_precision:
            raise ConfigError(f"{self.name}: no precision {precision!r}{nearest(precision, self._by_precision)}")
        return self._by_precision[precision]

    def prepare(self, link: Link, bundle: Bundle, workload: Workload, setting: Setting) -> Prepared:
        """Send the file; the runtime compiles when it loads."""
        self._check(setting)
        format = self.formats(setting.precision)[0]
        file = bundle.path(workload, format)
        return Prepared(
            block_key=workload.block_key,
            setting=setting,
            format=format,
            path=link.push(file),
            sha256=workload.artifacts[format].sha256,
            options=self._options,
            source=str(file),
        )

    def session(self, link: Link, setting: Setting) -> Session:
        """A fresh agent with this runtime."""
        self._check(setting)
        return agent_session.start(link, self._runtime, setting)

    def _check(self, setting: Setting) -> None:
        if not setting.unit.startswith("cpu"):
            raise ConfigError(f"{self.name}: runs on the cpu here, not on {setting.unit!r}; choose another backend")
        if setting.threads is None:
            raise ConfigError(f"{self.name}: the setting names no threads; say how many, like threads = [1]")
