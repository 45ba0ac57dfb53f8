"""Boards that can be lost: this machine behind its sshd, and behind an adb server; what of each can be killed, and how.

What is killed for a while comes back by itself, `DOWN_S` later.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.doubles.phones import Phone, Server
from tests.doubles.sshd import Sshd

DOWN_S = 0.3


class LostBoard(ABC):
    """One way to reach this machine, and to lose it.

    kind, options: of its link.  folder: ours on the board.
    """

    kind: str
    options: Mapping[str, str | int]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._returns: list[threading.Timer] = []

    def ways(self) -> list[Callable[[], None]]:
        """All that can be killed: each takes the board, or the agent on it, away once."""
        return [self.link, self.agent, self.daemon]

    @abstractmethod
    def link(self) -> None:
        """The connection ends; the next one is taken."""

    def agent(self) -> None:
        """The process dies, the connection stands."""
        for pid in self.agents():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @abstractmethod
    def daemon(self) -> None:
        """No connection is taken for a while."""

    @abstractmethod
    def hang(self) -> None:
        """Nothing comes or goes for a while, and nothing is closed."""

    def agents(self) -> list[int]:
        """Agents that run from the board's folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:  # it has ended
                    continue
                if len(command) > 1 and command[1].startswith(f"{self.folder}/files/".encode()):
                    found.append(int(entry.name))
        return found

    def settle(self) -> None:
        """Wait for what is still to come back, and for agents to end: none outlives its dialogue."""
        while self._returns:
            self._returns.pop().join()
        end = time.monotonic() + 10
        while self.agents() and time.monotonic() < end:
            time.sleep(0.02)
        assert self.agents() == []

    def _later(self, call: Callable[[], None]) -> None:
        timer = threading.Timer(DOWN_S, call)
        timer.start()
        self._returns.append(timer)


class BehindSshd(LostBoard):
    """Over ssh."""

    kind = "ssh"

    def __init__(self, sshd: Sshd) -> None:
        super().__init__(sshd.folder / "board")
        self._sshd = sshd
        told = sshd.options()
        self.options = {key: value if isinstance(value, int) else str(value) for key, value in told.items()}

    def link(self) -> None:
        self._sshd.kill_connections()

    def daemon(self) -> None:
        self._sshd.kill()
        self._later(self._sshd.start)

    def hang(self) -> None:
        self._sshd.stop()
        self._later(self._sshd.go_on)


class BehindAdb(LostBoard):
    """Over adb: besides, the server on the host's side can die."""

    kind = "adb"

    def __init__(self, server: Server, phone: Phone) -> None:
        # Not below /data, which only commands find on the phone: the agent opens the files that it is told.
        super().__init__(phone.root / "board")
        self._server, self._phone = server, phone
        self.options = {
            "port": server.port,
            "serial": phone.serial,
            "workdir": str(self.folder),
            "python": sys.executable,
        }

    def ways(self) -> list[Callable[[], None]]:
        return [*super().ways(), self.server]

    def link(self) -> None:
        self._phone.drop()

    def daemon(self) -> None:
        self._phone.kill()
        self._later(self._phone.restart)

    def server(self) -> None:
        """The adb server dies; whoever needs it starts another."""
        self._server.kill()

    def hang(self) -> None:
        self._phone.stall()
        self._later(self._phone.resume)
