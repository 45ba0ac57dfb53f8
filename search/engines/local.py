"""Runs tasks on this machine: in worker processes, or (workers = 0) in this one.

Each worker computes with one thread, so that one worker and many give the same bytes. A worker that dies (`kill -9`,
out of memory) costs nothing but time: its task is run again in a fresh process, a bounded number of times.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType

from pydantic import BaseModel, ConfigDict, Field

from search.engine import Done, Engine
from search.task import Task
from search.worker import ONE_THREAD, Failure, answer, died, timed

logger = logging.getLogger(__name__)

_STOP_S = 2.0


class Options(BaseModel):
    """workers: processes; None = one per core this process may use, 0 = compute in this process."""

    model_config = ConfigDict(extra="forbid")
    workers: int | None = Field(default=None, ge=0)


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    open_task: Task | None = None


class Local:
    """Worker processes, started when the first tasks come and stopped on exit."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: list[_Worker] = []

    def __enter__(self) -> Local:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(self._pool)

    def run(self, tasks: Sequence[Task]) -> Generator[Done, None, None]:
        """Each task with its result, as they come.

        Raises the error of the first task that fails, and DeviceError for a task whose worker died too often.
        """
        if self.workers == 0:
            for given in tasks:
                result, seconds = timed(given)
                yield Done(task=given, result=result, seconds=seconds, worker=f"pid {os.getpid()}")
            return
        waiting = deque(tasks)
        deaths: dict[int, int] = {}
        try:
            while waiting or any(w.open_task for w in self._pool):
                self._hand_out(waiting)
                for worker in self._answering():
                    task = worker.open_task
                    assert task is not None
                    try:
                        found = worker.pipe.recv()
                    except (EOFError, OSError):
                        self._stop([worker])
                        code = worker.process.exitcode
                        end = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
                        died(task, end, deaths)
                        logger.warning("a worker died (%s) with task %s %s; it is run again", end, task.kind, task.key)
                        waiting.appendleft(task)
                        continue
                    worker.open_task = None
                    if isinstance(found, Failure):
                        raise found.error()
                    result, seconds = found
                    yield Done(task=task, result=result, seconds=seconds, worker=f"pid {worker.process.pid}")
        finally:
            # After an error nobody waits for what the others still compute.
            self._stop([w for w in self._pool if w.open_task])

    def _hand_out(self, waiting: deque[Task]) -> None:
        while waiting:
            worker = next((w for w in self._pool if not w.open_task), None)
            if worker is None:
                if len(self._pool) >= self.workers:
                    return
                worker = _start()
                self._pool.append(worker)
            task = waiting[0]
            try:
                worker.pipe.send(task)
            except OSError:
                # It died idle: nothing was lost, the next one takes the task.
                self._stop([worker])
                continue
            waiting.popleft()
            worker.open_task = task

    def _answering(self) -> list[_Worker]:
        busy = {w.pipe: w for w in self._pool if w.open_task}
        return [busy[pipe] for pipe in wait(list(busy)) if isinstance(pipe, Connection)]

    def _stop(self, workers: Sequence[_Worker]) -> None:
        stopping = list(workers)
        self._pool = [w for w in self._pool if w not in stopping]
        for worker in stopping:
            worker.pipe.close()
            # An idle worker ends when its pipe does; a busy one would first finish what nobody wants any more.
            if worker.open_task:
                worker.process.kill()
        for worker in stopping:
            worker.process.join(_STOP_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def open(options: Options) -> Engine:
    """The engine of these options."""
    return Local(len(os.sched_getaffinity(0)) if options.workers is None else options.workers)


def _start() -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    # The child inherits the blocked signal: Ctrl-C reaches the driver alone, which then stops its workers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        with _environment(ONE_THREAD):
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return _Worker(process=process, pipe=ours)


def _work(pipe: Connection) -> None:
    """Life of a worker: answer tasks until the pipe ends, as it does when the driver is gone."""
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(answer(task))
        except BrokenPipeError:
            return


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
