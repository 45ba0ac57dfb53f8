"""Runs tasks on a Ray cluster: one that is running (`--address`), or a fresh one on this machine.

A node that dies costs nothing but time: its tasks are run again elsewhere, a bounded number of times. What a task needs
(`cpu`, `gpu`, or a resource that a node was started with, as `board:coral`) decides where it runs. Files travel with
their tasks by content; the project itself must be installed on every node.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import tempfile
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict, Field

from hwbench.errors import ConfigError
from hwbench.store import Result
from search.engine import Done, Engine
from search.task import File, Task
from search.worker import ONE_THREAD, Failure, answer, died

logger = logging.getLogger(__name__)

_CONNECT_S = 5.0
_WAIT_S = 0.5  # between two looks at how large the cluster is now
_OURS = {"cpu": "CPU", "gpu": "GPU"}  # a resource's name in Ray, where it differs
# What is raised where the process or the node that held a task or its result is gone.
_LOST = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.LocalRayletDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.ObjectLostError,
)


class Options(BaseModel):
    """workers: tasks at a time; None = as many as the cluster has cores.

    address: of a running cluster (`auto`, `HOST:6379`, `ray://HOST:10001`); None = start one on this machine.
    """

    model_config = ConfigDict(extra="forbid")
    workers: int | None = Field(default=None, ge=1)
    address: str | None = None


class Ray:
    """A connection to a cluster, opened on entry; a cluster that was started here ends on exit."""

    def __init__(self, options: Options) -> None:
        self.workers = options.workers or 0
        self._options = options
        self._joined = False
        self._files: dict[str, Any] = {}

    def __enter__(self) -> Ray:
        if not ray.is_initialized():
            self._connect()
            self._joined = True
        self.workers = self._width()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.clear()
        if self._joined:
            ray.shutdown()
            self._joined = False

    def run(self, tasks: Sequence[Task]) -> Generator[Done, None, None]:
        """Each task with its result, as they come.

        Raises the error of the first task that fails, ConfigError where no node offers what a task needs, and
        DeviceError for a task whose worker died too often.
        """
        _check(tasks)
        waiting = deque(tasks)
        running: dict[Any, Task] = {}
        deaths: dict[int, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._width():
                    task = waiting.popleft()
                    running[self._submit(task)] = task
                ready, _ = ray.wait(list(running), num_returns=1, timeout=_WAIT_S)
                for reference in ready:
                    task = running.pop(reference)
                    try:
                        found, worker = ray.get(reference)
                    except _LOST as error:
                        end = type(error).__name__
                        died(task, end, deaths)
                        logger.warning(
                            "a worker was lost (%s) with task %s %s; it is run again", end, task.kind, task.key
                        )
                        waiting.appendleft(task)
                        continue
                    if isinstance(found, Failure):
                        raise found.error()
                    result, seconds = found
                    yield Done(task=task, result=result, seconds=seconds, worker=worker)
        finally:
            # After an error, or Ctrl-C, nobody waits for what the others still compute.
            for reference in running:
                ray.cancel(reference, force=True)

    def _width(self) -> int:
        # A cluster grows and shrinks while a search runs.
        return self._options.workers or max(1, int(_offered().get("CPU", 1)))

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        how: dict[str, Any] = {"include_dashboard": False, "num_cpus": len(os.sched_getaffinity(0))}
        if self._options.address is not None:
            _check_answers(self._options.address)
            how = {"address": self._options.address}
        elif self._options.workers is not None:
            how["num_cpus"] = self._options.workers
        try:
            ray.init(**how, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError) as error:
            raise _silent(self._options.address or "this machine", str(error).partition("\n")[0]) from error

    def _submit(self, task: Task) -> Any:
        contents = {name: self._content(file) for name, file in task.files.items()}
        needs = dict(task.needs)
        remote = ray.remote(_work).options(
            num_cpus=needs.pop("cpu", 1.0),
            num_gpus=needs.pop("gpu", 0.0),
            resources=needs,
            max_retries=0,  # counted here, as every engine does
            runtime_env={"env_vars": ONE_THREAD},
        )
        # In a list a reference stays a reference: a node that has the file does not fetch it again.
        return remote.remote(task, [contents])

    def _content(self, file: File) -> Any:
        if file.sha256 not in self._files:
            self._files[file.sha256] = ray.put(file.path.read_bytes())
        return self._files[file.sha256]


def open(options: Options) -> Engine:
    """The engine of these options."""
    return Ray(options)


def _check_answers(address: str) -> None:
    """Raise ConfigError where nobody listens at HOST:PORT; Ray itself would try for minutes, and talk meanwhile."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return  # `auto`, `local`: told by a file on this machine
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _silent(address, str(error)) from error


def _silent(address: str, why: str) -> ConfigError:
    return ConfigError(
        f"no Ray cluster answers at {address} ({why}); start one with `ray start --head`, or leave --address out"
    )


def _offered() -> dict[str, float]:
    untyped: Any = ray
    return dict(untyped.cluster_resources())


def _check(tasks: Sequence[Task]) -> None:
    offered = _offered()
    for name in {name for task in tasks for name, amount in task.needs.items() if amount}:
        if _OURS.get(name, name) not in offered:
            how = "--num-gpus=1" if name == "gpu" else f"""--resources='{{"{name}": 1}}'"""
            raise ConfigError(f"no node of the Ray cluster offers {name!r}; start one with: ray start {how}")


def _work(task: Task, contents: Sequence[Mapping[str, Any]]) -> tuple[tuple[Result, float] | Failure, str]:
    """On a node: the answer, and who gave it."""
    files = {name: _here(file, contents[0][name]) for name, file in task.files.items()}
    return answer(replace(task, files=files)), f"node {ray.get_runtime_context().get_node_id()[:8]} pid {os.getpid()}"


def _here(file: File, content: Any) -> File:
    """The file on this node: where the driver has it if it stands there, too, else a copy kept by content."""
    if _holds(file.path, file.sha256):
        return file
    folder = Path(tempfile.gettempdir()) / f"hwbench-files-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    copy = folder / f"{file.sha256}{file.path.suffix}"
    if not _holds(copy, file.sha256):
        part = copy.with_name(f"{copy.name}.{os.getpid()}")
        part.write_bytes(ray.get(content))
        part.replace(copy)
    return File(path=copy, sha256=file.sha256)


def _holds(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
