"""A session with the agent: asks, sleeps until it is answered, turns every way to fail into one clear line."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from hwbench import agent_archive
from hwbench.agent import protocol
from hwbench.errors import DeviceError, PermanentDeviceError, TransientDeviceError
from hwbench.link import LinePipe, Link
from hwbench.measurement import Trace
from hwbench.session import Answers, Hello, Loaded, Prepared, RawWindow, WindowSpec
from hwbench.setting import Setting
from hwbench.target import Probe
from hwbench.workload import Plan, Tensor

logger = logging.getLogger(__name__)

_HELLO_S = 90.0  # a small board imports its runtime slowly
_LOAD_S = 1800.0  # a small board builds the engine of a network for minutes
_SMALL_S = 60.0
_SLACK_S = 15.0


def start(
    link: Link, runtime: str, setting: Setting, *, cores: Sequence[int] = (), slack_s: float = _SLACK_S
) -> AgentSession:
    """Send the agent where it is not yet, start a fresh process of it, and greet it.

    cores: CPU numbers that the process and all its threads are kept on; () = as found.
    slack_s: as for AgentSession; a tool that starts anew for each window needs more of it.
    Raises PermanentDeviceError when the board cannot run it, has no such runtime or not those cores.
    """
    archive = link.push(agent_archive.build())
    threads = str(setting.threads or 1)
    # numpy's own threads have nothing to do here and would only wait on the cores that are measured.
    env = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    pipe = link.spawn([link.python, archive], env=env)
    return AgentSession(link, pipe, runtime=runtime, cores=cores, slack_s=slack_s)


class AgentSession:
    """One agent process; ended by `close`, by leaving its `with` block, or by its first broken answer.

    slack_s: how late the agent may be beyond twice a window's `max_time_s`.  silence_s: the longest silence while
    it answers inputs.
    """

    def __init__(
        self,
        link: Link,
        pipe: LinePipe,
        *,
        runtime: str,
        cores: Sequence[int] = (),
        slack_s: float = _SLACK_S,
        silence_s: float = 60.0,
    ) -> None:
        self._link, self._pipe = link, pipe
        self._where = f"{link.name}/{runtime}"
        self._slack_s, self._silence_s = slack_s, silence_s
        self._number = 0
        self._alive = True
        self._folder = f"{link.workdir()}/sessions/{uuid.uuid4().hex}"
        try:
            said = self._ask(
                "hello",
                _HELLO_S,
                "greeting it",
                protocol=protocol.VERSION,
                runtime=runtime,
                folder=self._folder,
                cores=list(cores),
            )
            self.hello = Hello(
                protocol=said["protocol"],
                agent=said["agent"],
                python=said["python"],
                runtime=said["runtime"],
                runtime_version=said["runtime_version"],
                board=said["board"],
                can=frozenset(said["can"]),
            )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> AgentSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; harmless when it has ended."""
        # At the end of its input the agent takes its folder away and goes; after an error nobody waits for that.
        self._pipe.close(5.0 if self._alive else 0.0)
        if not self._alive:
            # The error that brought us here is the one to tell; a board that is gone keeps a small folder.
            with contextlib.suppress(DeviceError):
                self._link.run(["rm", "-rf", self._folder], timeout_s=_SMALL_S)
        self._alive = False

    def load(self, prepared: Prepared) -> Loaded:
        """Read a prepared file into the runtime; PermanentDeviceError names workload and file when it cannot."""
        setting = prepared.setting
        said = self._ask(
            "load",
            _LOAD_S,
            f"loading {prepared.block_key} from {prepared.source or prepared.path}",
            block_key=prepared.block_key,
            path=prepared.path,
            sha256=prepared.sha256,
            setting={
                "unit": setting.unit,
                "precision": setting.precision,
                "batch": setting.batch,
                "threads": setting.threads or 1,
            },
            options=dict(prepared.options),
        )
        return Loaded(
            block_key=prepared.block_key,
            inputs=tuple(_tensor(t) for t in said["inputs"]),
            outputs=tuple(_tensor(t) for t in said["outputs"]),
            load_ms=said["load_ms"],
            peak_memory_bytes=said["peak_memory_bytes"],
            notes=said["notes"],
        )

    def drop(self, block_key: str) -> None:
        """Forget a workload."""
        self._ask("drop", _SMALL_S, f"dropping {block_key}", block_key=block_key)

    def window(self, chain: Sequence[str], how: WindowSpec, probes: Sequence[Probe]) -> RawWindow:
        """Time a chain of loaded workloads."""
        said = self._ask(
            "window",
            2 * how.max_time_s + self._slack_s,
            f"timing {' + '.join(chain)}",
            chain=list(chain),
            warmup=how.warmup,
            min_runs=how.min_runs,
            min_time_s=how.min_time_s,
            max_time_s=how.max_time_s,
            probes=[_probe(p) for p in probes],
            probe_hz=how.probe_hz,
            affinity=list(how.affinity),
        )
        arrays = self._arrays(said)
        return RawWindow(
            warmup_ns=arrays["warmup_ns"],
            start_ns=arrays["start_ns"],
            run_ns=arrays["run_ns"],
            traces=_traces(said["traces"], arrays),
            noise=said["noise"],
            flags=tuple(said["flags"]),
            peak_memory_bytes=said["peak_memory_bytes"],
        )

    def idle(self, seconds: float, probes: Sequence[Probe]) -> Mapping[str, Trace]:
        """Read the probes while nothing runs."""
        said = self._ask(
            "idle",
            seconds + self._slack_s,
            "reading its idle power",
            seconds=seconds,
            probes=[_probe(p) for p in probes],
            probe_hz=WindowSpec().probe_hz,
        )
        return _traces(said["traces"], self._arrays(said))

    def answer(self, plan: Plan, data: Path, probes: Sequence[Probe], *, repeats: int = 1) -> Answers:
        """Run the samples of a `.npy` file through a plan of loaded workloads."""
        said = self._ask(
            "answer",
            self._silence_s,
            f"answering with plan {plan.name}",
            plan={
                "nodes": [
                    {
                        "node": n.node,
                        "block_key": n.block_key,
                        "after": n.after,
                        "leave": None if n.leave is None else asdict(n.leave),
                        "answers": n.answers,
                    }
                    for n in plan.nodes
                ]
            },
            data=self._link.push(data),
            repeats=repeats,
            probes=[_probe(p) for p in probes],
            probe_hz=WindowSpec().probe_hz,
        )
        arrays = self._arrays(said)
        return Answers(
            node=arrays["node"],
            answer=arrays["answer"],
            score=arrays["score"],
            t_ns=arrays["t_ns"],
            node_scores=arrays["node_scores"],
            start_ns=said["start_ns"],
            end_ns=said["end_ns"],
            traces=_traces(said["traces"], arrays),
            noise=said["noise"],
        )

    def _ask(self, op: str, timeout_s: float, doing: str, **arguments: Any) -> dict[str, Any]:
        """One request and its answer; `timeout_s` is the longest silence.

        Raises TransientDeviceError when the agent died or hangs, PermanentDeviceError when it refuses or babbles.
        """
        if not self._alive:
            raise TransientDeviceError(f"{self._where}: {doing}: this session has ended; open another")
        self._number += 1
        logger.debug("%s < %s %s", self._where, op, doing)
        try:
            try:
                self._pipe.send(protocol.encode({"id": self._number, "op": op, **arguments}).rstrip(b"\n"))
            except TransientDeviceError:
                raise self._ended(doing) from None
            while True:
                message = self._receive(timeout_s, doing)
                if "progress" not in message:
                    break
        except BaseException:
            # What was asked may still come: nothing that follows could be trusted, so the dialogue is over.
            self._alive = False
            self._pipe.close(0.0)
            raise
        if "error" in message:
            error = message["error"]
            raise PermanentDeviceError(f"{self._where}: {doing}: {error.get('message')}")
        return message

    def _receive(self, timeout_s: float, doing: str) -> dict[str, Any]:
        try:
            line = self._pipe.receive(timeout_s)
        except TransientDeviceError as error:
            raise TransientDeviceError(f"{self._where}: {doing}: {error}{self._said()}; the agent was ended") from error
        if not line:
            raise self._ended(doing)
        try:
            message = protocol.decode(line)
        except ValueError as error:
            raise self._garbage(line, doing) from error
        if message.get("id") not in (self._number, None) or not {"ok", "error", "progress"} & set(message):
            raise self._garbage(line, doing)
        if "error" in message and not isinstance(message["error"], dict):
            raise self._garbage(line, doing)
        return message

    def _ended(self, doing: str) -> TransientDeviceError:
        status = self._pipe.close(1.0)
        how = (
            "ended"
            if status is None
            else f"was killed by signal {-status}"
            if status < 0
            else f"ended with status {status}"
        )
        return TransientDeviceError(f"{self._where}: {doing}: the agent {how}{self._said()}")

    def _garbage(self, line: bytes, doing: str) -> PermanentDeviceError:
        shown = line[:80].decode("utf-8", "backslashreplace")
        return PermanentDeviceError(
            f"{self._where}: {doing}: the agent answered {shown!r}, which is not its protocol{self._said()}"
        )

    def _said(self) -> str:
        tail = " ".join(self._pipe.stderr_tail().split())
        return f" (its last words: {tail[-300:]})" if tail else ""

    def _arrays(self, said: Mapping[str, Any]) -> dict[str, np.ndarray]:
        packed = said["arrays"]
        if "npz" not in packed:
            return protocol.unpack_inline(packed)
        with tempfile.TemporaryDirectory(prefix="hwbench-") as folder:
            file = Path(folder) / "arrays.npz"
            try:
                self._link.pull(packed["npz"], file)
            except FileNotFoundError as error:
                # The agent takes its folder away when its input ends, which a lost link looks like.
                self._alive = False
                raise TransientDeviceError(
                    f"{self._where}: {packed['npz']} is gone; did the agent end before it was fetched?"
                ) from error
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}


def _tensor(said: Mapping[str, Any]) -> Tensor:
    return Tensor(name=said["name"], dtype=said["dtype"], shape=tuple(said["shape"]))


def _probe(probe: Probe) -> dict[str, str]:
    return {"name": probe.name, "read": probe.read, "unit": probe.unit}


def _traces(units: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> dict[str, Trace]:
    return {
        name: Trace(t_ns=arrays[f"trace{i}_t_ns"], value=arrays[f"trace{i}_value"], unit=unit)
        for i, (name, unit) in enumerate(units.items())
    }
