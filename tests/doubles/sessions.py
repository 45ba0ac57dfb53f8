"""Real sessions with an accident or a power supply: wraps a backend, and lets things happen around its windows."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType

from hwbench.agent_session import AgentSession
from hwbench.backend import Backend
from hwbench.link import Link
from hwbench.measurement import Trace
from hwbench.session import Answers, Hello, Loaded, Prepared, RawWindow, Session, WindowSpec
from hwbench.setting import Setting
from hwbench.target import Probe
from hwbench.workload import Bundle, Workload

Event = Callable[["Watched", str], None]


class Watched:
    """A session whose windows are announced: `before` and `after` get the session and the window's first block key.

    stretch: its runs are told so many times longer than they were, as from a slower board.
    """

    def __init__(self, session: Session, before: Event | None, after: Event | None) -> None:
        self._session = session
        self._before, self._after = before, after
        self.hello: Hello = session.hello
        self.stretch = 1.0

    def kill(self) -> None:
        """kill -9 the agent: what a crashed driver or the kernel's memory killer does."""
        assert isinstance(self._session, AgentSession)
        os.kill(self._session._pipe.pid, signal.SIGKILL)

    def __enter__(self) -> Watched:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)

    def load(self, prepared: Prepared) -> Loaded:
        return self._session.load(prepared)

    def drop(self, block_key: str) -> None:
        self._session.drop(block_key)

    def window(self, chain: Sequence[str], how: WindowSpec, probes: Sequence[Probe]) -> RawWindow:
        if self._before is not None:
            self._before(self, chain[0])
        try:
            raw = self._session.window(chain, how, probes)
            return replace(raw, run_ns=(raw.run_ns * self.stretch).astype(raw.run_ns.dtype))
        finally:
            if self._after is not None:
                self._after(self, chain[0])

    def idle(self, seconds: float, probes: Sequence[Probe]) -> Mapping[str, Trace]:
        return self._session.idle(seconds, probes)

    def answer(self, plan: object, data: object, probes: object, *, repeats: int = 1) -> Answers:
        raise AssertionError("campaigns do not answer")


class WatchedBackend:
    """A backend whose sessions are watched.  alter: gets each session when it is opened, to change what it says."""

    def __init__(
        self,
        backend: Backend,
        *,
        before: Event | None = None,
        after: Event | None = None,
        alter: Callable[[Watched], None] | None = None,
    ) -> None:
        self._backend = backend
        self._before, self._after, self._alter = before, after, alter
        self.name = backend.name
        self.opened = 0

    def formats(self, precision: str) -> tuple[str, ...]:
        return self._backend.formats(precision)

    def prepare(self, link: Link, bundle: Bundle, workload: Workload, setting: Setting) -> Prepared:
        return self._backend.prepare(link, bundle, workload, setting)

    def prepare_together(
        self, link: Link, bundle: Bundle, workloads: Sequence[Workload], setting: Setting
    ) -> list[Prepared]:
        return self._backend.prepare_together(link, bundle, workloads, setting)

    def session(self, link: Link, setting: Setting) -> Watched:
        self.opened += 1
        watched = Watched(self._backend.session(link, setting), self._before, self._after)
        if self._alter is not None:
            self._alter(watched)
        return watched
