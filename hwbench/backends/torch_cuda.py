"""Torch on the NVIDIA GPU of a workstation or server; `hwbench.agent.runtimes.torch_cuda` is the other half.

Units: `gpu` (the first CUDA device, each graph captured once) and `cpu` (the same programs operator by operator).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwbench.agent_backend import AgentBackend, ProcessorOptions
from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.session import Prepared, Session
from hwbench.setting import Setting
from hwbench.workload import Bundle, Workload

_FORMATS: Mapping[str, tuple[str, ...]] = {"fp32": ("pt2",), "fp16": ("pt2",)}
_GPU = "gpu"
# A cold disk and a driver that wakes up take their time.
_LOOK_S = 120.0
_LOOK = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0, torch.__version__)"


class Options(ProcessorOptions):
    """tf32: let fp32 round its factors to 10 bits on tensor cores; off, so that fp32 is fp32."""

    tf32: bool = False


def open(options: Options | Mapping[str, Any], link: Link | None = None) -> TorchCuda:
    """The runtime; nothing is asked of the board yet."""
    return TorchCuda(options if isinstance(options, Options) else Options.model_validate(dict(options)))


class TorchCuda(AgentBackend):
    """Exported torch programs."""

    def __init__(self, options: Options) -> None:
        super().__init__(
            name="torch_cuda",
            runtime="torch_cuda",
            by_precision=_FORMATS,
            options=options.for_runtime,
            cores=options.cores,
        )
        self._looked: set[str] = set()

    def prepare(self, link: Link, bundle: Bundle, workload: Workload, setting: Setting) -> Prepared:
        """Send the program; on the GPU it is captured when it is bound."""
        prepared = super().prepare(link, bundle, workload, setting)
        self._look(link, setting)
        return prepared

    def session(self, link: Link, setting: Setting) -> Session:
        """A fresh agent; raises PermanentDeviceError where the unit is the GPU and torch finds none."""
        self._look(link, setting)
        return super().session(link, setting)

    def _check(self, setting: Setting) -> None:
        # The GPU has no such knob as threads.
        if setting.unit != _GPU:
            super()._check(setting)

    def _look(self, link: Link, setting: Setting) -> None:
        """Ask once whether there is a GPU: better one line now than one for each workload."""
        board = f"{link.name} {link.workdir()}"
        if setting.unit != _GPU or board in self._looked:
            return
        done = link.run([link.python, "-c", _LOOK], timeout_s=_LOOK_S)
        told = done.stdout.decode("utf-8", "replace").split()
        if done.returncode != 0 or len(told) != 2:
            last = " ".join(done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2].split())
            raise PermanentDeviceError(
                f"{link.name}/torch_cuda: {link.python} cannot import torch ({last[:200]}); "
                "install a CUDA build of torch there, see the extra `cuda`"
            )
        if told[0] == "0":
            raise PermanentDeviceError(
                f"{link.name}/torch_cuda: torch {told[1]} finds no CUDA device; check nvidia-smi and that this torch "
                "is built for CUDA, or run on the unit cpu"
            )
        self._looked.add(board)
