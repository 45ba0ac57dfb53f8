"""LiteRT (TensorFlow Lite) on a board's processor, host half; `hwbench.agent.runtimes.litert` is the other."""

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

_FORMATS: Mapping[str, tuple[str, ...]] = {"fp32": ("tflite",), "int8": ("tflite_int8",)}


class Options(BaseModel):
    """xnnpack: use the optimised kernels, as the runtime does by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    xnnpack: bool = True


def open(options: Options | Mapping[str, Any], link: Link | None = None) -> LiteRt:
    """The runtime; nothing is asked of the board yet."""
    return LiteRt(options if isinstance(options, Options) else Options.model_validate(dict(options)))


class LiteRt:
    """Runs TFLite files, float or static int8, on the CPU."""

    name = "litert"

    def __init__(self, options: Options) -> None:
        self._options = options

    def formats(self, precision: str) -> tuple[str, ...]:
        """`tflite` for fp32, `tflite_int8` for int8."""
        if precision not in _FORMATS:
            raise ConfigError(f"litert: no precision {precision!r}{nearest(precision, _FORMATS)}")
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
            options={"xnnpack": self._options.xnnpack},
            source=str(file),
        )

    def session(self, link: Link, setting: Setting) -> Session:
        """A fresh agent with this runtime."""
        _check(setting)
        return agent_session.start(link, "litert", setting)


def _check(setting: Setting) -> None:
    if not setting.unit.startswith("cpu"):
        raise ConfigError(f"litert: runs on the cpu here, not on {setting.unit!r}; choose another backend")
    if setting.threads is None:
        raise ConfigError("litert: the setting names no threads; say how many, like threads = [1]")
