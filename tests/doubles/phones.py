"""The real adb server on a port of its own, and phones for it: processes of `tests.doubles.adbd`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from adbutils import AdbClient, AdbError

_CHECKOUT = Path(__file__).resolve().parents[2]


class Server:
    """An adb server that leaves a developer's own alone: other port, other home (its keys lie there).

    home: a folder for it; a context manager.
    """

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._environment = {**os.environ, "HOME": str(home), "ANDROID_ADB_SERVER_PORT": str(self.port)}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> AdbClient:
        """To ask it, as `adb` does."""
        return AdbClient(host="127.0.0.1", port=self.port)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            ["adb", "-P", str(self.port), "server", "nodaemon"],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("the adb server does not start")

    def meet(self, phone: Phone) -> None:
        """`adb connect`."""
        self.client.connect(phone.serial)

    def forget(self, phone: Phone) -> None:
        """`adb disconnect`."""
        self.client.disconnect(phone.serial)

    def kill(self) -> None:
        """kill -9; one that somebody started in its place is told to go."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
            return
        with contextlib.suppress(AdbError):  # none answers
            self.client.server_kill()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.kill()


class Phone:
    """One phone; its folders below `root` (`data/local/tmp`, made here, `sys`, …) hide this machine's.

    stand_ins: executables found before the system's.  A context manager.
    """

    def __init__(
        self,
        root: Path,
        *,
        stand_ins: Path | None = None,
        features: str = "shell_v2,cmd",
        unauthorized: bool = False,
    ) -> None:
        (root / "data" / "local" / "tmp").mkdir(parents=True, exist_ok=True)
        self.root = root
        self._argv = [sys.executable, "-m", "tests.doubles.adbd", "--root", str(root), "--features", features]
        self._argv += ["--path", str(stand_ins)] if stand_ins else []
        self._argv += ["--unauthorized"] if unauthorized else []
        self._process = self._started(port=0)
        self._port = int(self._line())
        self.serial = f"127.0.0.1:{self._port}"

    def __enter__(self) -> Phone:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self.resume()
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def drop(self) -> None:
        """The connection breaks now."""
        self._tell("drop")

    def drop_at(self, text: str, *, after_bytes: int = 0) -> None:
        """It breaks so many bytes into the answer to the next service that contains `text`."""
        self._tell(f"drop {after_bytes} {text}")

    def drop_is_due(self) -> bool:
        """Whether what `drop_at` ordered has not happened yet."""
        return self._ask("due") == "True"

    def leave(self) -> None:
        """Unplugged."""
        self._tell("leave")

    def come_back(self) -> None:
        """Plugged in again."""
        self._tell("return")

    def kill(self) -> None:
        """kill -9: the daemon is gone, and with it the phone."""
        self._process.kill()
        self._process.communicate()

    def restart(self) -> None:
        """After `kill`: the daemon is there again, at the same address."""
        self._process = self._started(port=self._port)
        self._line()

    def stall(self) -> None:
        """It neither answers nor hangs up, as labgrid's tests do to an exporter."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        self._process.send_signal(signal.SIGCONT)

    def _started(self, *, port: int) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([*self._argv, "--port", str(port)], cwd=_CHECKOUT, stdin=pipe, stdout=pipe, text=True)

    def _tell(self, line: str) -> None:
        assert "done" == self._ask(line)

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()
