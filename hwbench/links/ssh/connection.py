"""One authenticated connection: keys of both sides checked, found dead when it is dead, every wait bounded."""

from __future__ import annotations

import contextlib
import logging
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import paramiko
from paramiko.common import MSG_CHANNEL_REQUEST

from hwbench.errors import ConfigError, PermanentDeviceError, TransientDeviceError
from hwbench.links.ssh.place import Place

_WIRE = logging.getLogger("hwbench.links.ssh.wire")
# A board that lost its power answers nothing: what was sent and not acknowledged for so long ends the connection.
_SILENCE_S = 30
_KEEPALIVE_S = 10
# The library looks 10 times a second whether it was closed; we wake it by ending the socket, so it may sleep longer.
_WAKE_S = 2.0


class Connection:
    """An open connection; `alive` until the network, the board or we end it."""

    def __init__(self, place: Place, client: paramiko.SSHClient, sock: socket.socket) -> None:
        self.place = place
        self._client, self._sock = client, sock
        self._transport: Any = client.get_transport()
        self._sftp: paramiko.SFTPClient | None = None

    @property
    def alive(self) -> bool:
        """Whether it still stands, as far as this side knows."""
        return bool(self._transport.is_active())

    def execute(self, command: str, timeout_s: float) -> paramiko.Channel:
        """Start a command line of the user's shell on the board."""
        with self.talking(timeout_s):
            # Its own deadline comes after ours, which ends the connection: whoever is so late is not there.
            channel = self._transport.open_session(timeout=timeout_s + _WAKE_S)
            channel.exec_command(command)
            return channel

    def sftp(self) -> paramiko.SFTPClient:
        """The one channel for files; to be called while `talking`.  Raises PermanentDeviceError where sshd has none."""
        if self._sftp is None:
            channel = self._transport.open_session()
            try:
                channel.invoke_subsystem("sftp")
            except paramiko.SSHException as error:
                self._transport.open_session().close()  # raises where it is the whole connection that went
                raise PermanentDeviceError(
                    f"{self.place}: its sshd offers no sftp; add `Subsystem sftp internal-sftp` to its sshd_config"
                ) from error
            self._sftp = paramiko.SFTPClient(channel)
        return self._sftp

    @contextlib.contextmanager
    def talking(self, timeout_s: float) -> Iterator[None]:
        """What is inside ends in time: the connection is cut at the deadline, so that nothing of the library can wait.

        Raises TransientDeviceError for everything that the network or sshd does to us.
        """
        expired = threading.Event()

        def cut() -> None:
            expired.set()
            self._end_socket()

        watch = threading.Timer(timeout_s, cut)
        watch.daemon = True
        watch.start()
        try:
            yield
        except paramiko.ChannelException as error:
            raise TransientDeviceError(f"{self.place}: its sshd opens no further channel ({error.text})") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            if isinstance(error, OSError) and self._sftp_open() and not expired.is_set():
                raise  # what sftp says of a file
            self.close()
            said = f"no answer within {timeout_s:g} s" if expired.is_set() else f"the connection was lost{_why(error)}"
            raise TransientDeviceError(f"{self.place}: {said}") from error
        finally:
            watch.cancel()

    def close(self) -> None:
        """End it; harmless when it has ended."""
        self._end_socket()
        self._client.close()

    def _sftp_open(self) -> bool:
        return self._sftp is not None and not self._sftp.get_channel().closed

    def _end_socket(self) -> None:
        with contextlib.suppress(OSError):  # it has ended already
            self._sock.shutdown(socket.SHUT_RDWR)


def connect(place: Place, timeout_s: float) -> Connection:
    """Connect, check the board's key, show ours.

    Raises TransientDeviceError where nobody answers, PermanentDeviceError for an unknown or changed host key and for
    keys that the board does not accept, ConfigError for a key file that cannot be used.
    """
    key = _private_key(place)
    client = paramiko.SSHClient()
    client.set_log_channel(_WIRE.name)
    _load_known_hosts(client, place)
    client.set_missing_host_key_policy(_Refuse())
    try:
        sock = socket.create_connection((place.host, place.port), timeout=timeout_s)
    except OSError as error:
        raise TransientDeviceError(
            f"{place}: cannot connect ({_reason(error, timeout_s)}); is the board on, and its sshd running?"
        ) from error
    _patient_and_prompt(sock)
    begin = time.monotonic()
    try:
        client.connect(
            place.host,
            port=place.port,
            username=place.user,
            pkey=key,
            # The agent may hold many keys, and sshd counts: a key that was named is the one to show.
            allow_agent=key is None,
            look_for_keys=key is None,
            sock=sock,
            timeout=timeout_s,
            banner_timeout=timeout_s,
            auth_timeout=timeout_s,
            channel_timeout=timeout_s,
            transport_factory=_Transport,
        )
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise _refusal(place, client, error, timeout_s, time.monotonic() - begin) from error
    finally:
        if client.get_transport() is None or not client.get_transport().is_authenticated():
            client.close()
            sock.close()
    sock.settimeout(_WAKE_S)
    client.get_transport().set_keepalive(_KEEPALIVE_S)
    return Connection(place, client, sock)


def _request(channel: Any, message: Any) -> None:
    """Keep the signal that killed a command, over which the library reads."""
    place = message.packet.tell()
    if message.get_text() == "exit-signal":
        message.get_boolean()
        channel.exit_signal = message.get_text()
    message.packet.seek(place)
    channel._handle_request(message)


class _Transport(paramiko.Transport):  # type: ignore[misc]
    """The library's, but for requests that the board makes of a channel."""

    _channel_handler_table: ClassVar[dict[int, Any]] = {
        **paramiko.Transport._channel_handler_table,
        MSG_CHANNEL_REQUEST: _request,
    }


class _Unknown(paramiko.SSHException):  # type: ignore[misc]
    """No file of known hosts names this one."""

    def __init__(self, key: paramiko.PKey) -> None:
        super().__init__("unknown host")
        self.key = key


class _Refuse(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """Nobody is trusted because he answered first."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Called by the library for a host that no file names."""
        raise _Unknown(key)


def _refusal(
    place: Place, client: paramiko.SSHClient, error: Exception, timeout_s: float, took_s: float
) -> PermanentDeviceError | TransientDeviceError:
    """What a failed handshake means, in one line with the way out."""
    late = took_s >= timeout_s
    file = place.known_hosts[0]
    port = "" if place.port == 22 else f"-p {place.port} "
    if isinstance(error, _Unknown):
        kind = error.key.get_name().removeprefix("ssh-").partition("-")[0]
        return PermanentDeviceError(
            f"{place}: unknown host, its {kind} key is {error.key.fingerprint}; if `ssh-keygen -lf "
            f"/etc/ssh/ssh_host_{kind}_key.pub` on the board prints the same, add it here: "
            f"ssh-keyscan {port}-t {kind} {shlex.quote(place.host)} >> {_shell_path(file)}"
        )
    if isinstance(error, paramiko.BadHostKeyException):
        name = place.host if place.port == 22 else f"[{place.host}]:{place.port}"
        return PermanentDeviceError(
            f"{place}: its host key {error.key.fingerprint} is not the one in {file}; somebody may be in between. "
            f"If the board was set up anew: ssh-keygen -R {shlex.quote(name)} -f {_shell_path(file)}, "
            f"then ssh-keyscan {port}{shlex.quote(place.host)} >> {_shell_path(file)}"
        )
    transport = client.get_transport()
    if transport is not None and transport.initial_kex_done and transport.is_active() and not late:
        shown = f"the key {place.key_file}" if place.key_file else "any key of the ssh agent or of ~/.ssh"
        named = f"-i {shlex.quote(str(place.key_file))} " if place.key_file else ""
        return PermanentDeviceError(
            f"{place}: does not accept {shown} ({error}); copy one there: "
            f"ssh-copy-id {named}{port}{place.user}@{place.host}"
        )
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return PermanentDeviceError(f"{place}: its sshd is too old for the ciphers used here ({error})")
    what = f"did not greet us within {timeout_s:g} s" if late else "ended the greeting"
    return TransientDeviceError(f"{place}: {what}{_why(error)}; is its sshd well? With many keys, name one as key_file")


def _private_key(place: Place) -> paramiko.PKey | None:
    """The named key; None when none is named, or when it is locked and the ssh agent may hold it unlocked."""
    file = place.key_file
    if file is None:
        return None
    try:
        return paramiko.PKey.from_path(file)
    except OSError as error:
        raise ConfigError(f"{place}: key_file {file} cannot be read ({error.strerror})") from error
    except (paramiko.PasswordRequiredException, TypeError) as error:
        if paramiko.Agent().get_keys():
            return None
        raise ConfigError(
            f"{place}: key_file {file} is locked by a passphrase; unlock it for the ssh agent: ssh-add {file}"
        ) from error
    except (paramiko.SSHException, ValueError) as error:
        raise ConfigError(f"{place}: key_file {file} is not a private key that can be used ({error})") from error


def _load_known_hosts(client: paramiko.SSHClient, place: Place) -> None:
    for file in place.known_hosts:
        try:
            client.load_host_keys(str(file.expanduser()))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, paramiko.SSHException, paramiko.hostkeys.InvalidHostKey) as error:
            raise ConfigError(f"{place}: the known hosts in {file} cannot be read ({error})") from error


def _patient_and_prompt(sock: socket.socket) -> None:
    """Small requests leave at once, and a peer that acknowledges nothing is given up."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_S * 1000)


def _reason(error: OSError, timeout_s: float) -> str:
    return f"no answer within {timeout_s:g} s" if isinstance(error, TimeoutError) else (error.strerror or str(error))


def _why(error: Exception) -> str:
    return f" ({error})" if str(error) else ""


def _shell_path(file: Path) -> str:
    """As a user types it: `~` must stay outside of quotes."""
    text = str(file)
    return "~/" + shlex.quote(text[2:]) if text.startswith("~/") else shlex.quote(text)


def _as_dialogue(record: logging.LogRecord) -> bool:
    # Whatever goes wrong reaches the user as one error of ours; what the library says of it belongs to --debug.
    worth = record.levelno >= logging.WARNING
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return worth and _WIRE.isEnabledFor(logging.DEBUG)


_WIRE.addFilter(_as_dialogue)
