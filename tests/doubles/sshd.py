"""A real sshd on loopback: own host key, own configuration, one key that may enter; killed, stopped, started again.

`python -m tests.doubles.sshd FOLDER` runs one by hand and prints the [[link]] that reaches it.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

# What sshd needs besides, where it is run by root.
_SEPARATION = Path("/run/sshd")
# SHLVL: bash takes a command of sshd for a login and reads ~/.bashrc, but not in an inner shell: tests need not pay for
# whatever their user keeps there.
_CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
PrintMotd no
X11Forwarding no
PermitRootLogin prohibit-password
SetEnv SHLVL=1 {environment}
Subsystem sftp internal-sftp
"""


def program() -> str | None:
    """Where sshd is on this machine; it must be started by its absolute path."""
    return shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")


class Sshd:
    """One sshd in a folder of its own; a context manager that leaves nothing running.

    port: chosen once, so that it is the same after a restart.  extra: further lines of its configuration.
    environment: what the board's commands find set.
    """

    def __init__(self, folder: Path, *, extra: str = "", environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.port = _free_port()
        self.user = getpass.getuser()
        self.key_file = make_key(folder / "user_key")
        make_key(folder / "host_key")
        shutil.copyfile(folder / "user_key.pub", folder / "authorized_keys")
        self.known_hosts = folder / "known_hosts"
        self.trust()
        variables = " ".join(f'"{name}={value}"' for name, value in (environment or {}).items())
        config = _CONFIG.format(port=self.port, folder=folder, environment=variables)
        (folder / "sshd_config").write_text(config + extra)
        self._process: subprocess.Popen[bytes] | None = None

    def options(self, **more: Any) -> dict[str, Any]:
        """The options of a link that reaches it; its folder on the board is `board` in ours."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": self.user,
            "key_file": self.key_file,
            "known_hosts": self.known_hosts,
            "workdir": str(self.folder / "board"),
            "python": sys.executable,
            **more,
        }

    def trust(self) -> None:
        """Write its host key into the file of known hosts, as `ssh-keyscan` would."""
        kind, key = (self.folder / "host_key.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def start(self) -> None:
        """Run it, and wait until it answers."""
        path = program()
        assert path is not None, "no sshd on this machine"
        if os.geteuid() == 0:
            _SEPARATION.mkdir(exist_ok=True, mode=0o755)
        with (self.folder / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [path, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(500):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
                    sock.recv(64)  # greeted: somebody serves this connection, who is to be gone when we return
                for _ in range(200):  # a client that waited for us may have come meanwhile, and stays
                    if not self.connections():
                        break
                    time.sleep(0.001)
                return
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.01)
        raise AssertionError(f"sshd did not start: {(self.folder / 'sshd.log').read_text()[-500:]}")

    def kill(self) -> None:
        """kill -9 sshd and all its connections, as when a board loses its network; what they started stays."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # so that it takes no new connection meanwhile
        self.kill_connections()
        self._process.kill()
        self._process.wait()
        self._process = None

    def kill_connections(self) -> None:
        """kill -9 what serves the connections that are open; new ones are taken."""
        for pid in self._serving():
            _signal(pid, signal.SIGKILL)

    def stop(self) -> None:
        """SIGSTOP sshd and its connections: everything hangs, nothing is closed."""
        assert self._process is not None
        for pid in (self._process.pid, *self._serving()):
            _signal(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        for pid in (*self._serving(), self._process.pid):
            _signal(pid, signal.SIGCONT)

    def connections(self) -> int:
        """How many are open."""
        assert self._process is not None
        return sum(1 for _ in _children(self._process.pid))

    def __enter__(self) -> Sshd:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()

    def _serving(self) -> list[int]:
        """Its processes below the listening one; not the commands that they run."""
        assert self._process is not None
        return list(_below(self._process.pid))


def make_key(file: Path) -> Path:
    """A new key pair without a passphrase."""
    file.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(file)], check=True)
    return file


def _below(pid: int) -> Iterator[int]:
    for child in _children(pid):
        try:
            name = Path(f"/proc/{child}/comm").read_text().strip()
        except OSError:  # it has ended
            continue
        if name.startswith("sshd"):
            yield child
            yield from _below(child)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.kill(pid, number)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def main(folder: str) -> None:
    """Until somebody ends it."""
    with Sshd(Path(folder).absolute()) as sshd:
        print('[[link]]\nkind = "ssh"')
        for name, value in sshd.options().items():
            print(f"{name} = {value if isinstance(value, int) else repr(str(value))}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
