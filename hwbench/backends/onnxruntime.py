"""ONNX Runtime on a board's processor, host half; `hwbench.agent.runtimes.ort` is the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from hwbench import agent_session
from hwbench.errors import ConfigError, nearest
from hwbench.link import Link
from hwbench.session import Prepared, Session
from hwbench.setting import Setting
from hwbench.workload import Bundle, Workload

_FORMATS: Mapping[str, tuple[str, ...]] = {"fp32": ("onnx",)}


class Options(BaseModel):
    """spinning: with two threads or more they wait for work busily inside a run, as the runtime does by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    spinning: bool = True


def open(options: Options | Mapping[str, Any], link: Link | None = None) -> OnnxRuntime:
    """The runtime; nothing is asked of the board yet."""
    return OnnxRuntime(options if isinstance(options, Options) else Options.model_validate(dict(options)))


class OnnxRuntime:
    """Runs ONNX files on the CPU."""

    name = "onnxruntime"

    def __init__(self, options: Options) -> None:
        self._options = options

    def formats(self, precision: str) -> tuple[str, ...]:
        """`onnx` for fp32."""
        if precision not in _FORMATS:
            raise ConfigError(f"onnxruntime: no precision {precision!r}{nearest(precision, _FORMATS)}")
        return _FORMATS[precision]

    def prepare(self, link: Link, bundle: Bundle, workload: Workload, setting: Setting) -> Prepared:
        """Send the file; the runtime compiles when it loads."""
        _check(setting)
        format = self.formats(setting.precision)[0]
        file = bundle.path(workload, format)
        return Prepared(
            block_key=workload.block_key,
            setting=setting,
            format=format,
            path=link.push(file),
            sha256=workload.artifacts[format].sha256,
            options={"spinning": self._options.spinning},
            source=str(file),
        )

    def session(self, link: Link, setting: Setting) -> Session:
        """A fresh agent with this runtime."""
        _check(setting)
        return agent_session.start(link, "ort", setting)


def _check(setting: Setting) -> None:
    if not setting.unit.startswith("cpu"):
        raise ConfigError(f"onnxruntime: runs on the cpu here, not on {setting.unit!r}; choose another backend")
    if setting.threads is None:
        raise ConfigError("onnxruntime: the setting names no threads; say how many, like threads = [1]")
