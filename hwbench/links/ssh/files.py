"""Files over a connection's one sftp channel."""

from __future__ import annotations

from pathlib import Path

from hwbench.errors import PermanentDeviceError
from hwbench.links.ssh.connection import Connection

# What sftp carries in one packet.
_CHUNK = 1 << 15


def read(connection: Connection, path: str, max_bytes: int, timeout_s: float) -> bytes:
    """A file's content; FileNotFoundError, or PermanentDeviceError where it cannot be read or is larger."""
    try:
        with connection.talking(timeout_s):
            stream = connection.sftp().open(path, "rb")
            data = bytes(stream.read(max_bytes + 1))
            del stream  # closes it too, without waiting for the board to say so
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, error.strerror, path) from error
    except OSError as error:
        raise PermanentDeviceError(f"{connection.place}: cannot read {path} ({error.strerror or error})") from error
    if len(data) > max_bytes:
        raise PermanentDeviceError(f"{connection.place}: {path} holds more than {max_bytes} bytes")
    return data


def pull(connection: Connection, path: str, file: Path, timeout_s: float) -> None:
    """Copy a file of the board to `file`, which is made only when the board has the other."""
    try:
        with connection.talking(timeout_s), connection.sftp().open(path, "rb") as stream, file.open("wb") as out:
            first = stream.read(_CHUNK)
            out.write(first)
            if len(first) == _CHUNK:
                stream.prefetch(stream.stat().st_size)
                while chunk := stream.read(_CHUNK):
                    out.write(chunk)
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, error.strerror, path) from error
    except OSError as error:
        raise PermanentDeviceError(
            f"{connection.place}: cannot copy {path} to {file} ({error.strerror or error})"
        ) from error


def send(connection: Connection, data: bytes, path: str, timeout_s: float) -> None:
    """Write a new file; OSError where the board cannot."""
    with connection.talking(timeout_s), connection.sftp().open(path, "wb") as stream:
        stream.set_pipelined(True)
        # The library copies all that is left for each packet, so it is given little.
        for at in range(0, len(data), _CHUNK):
            stream.write(data[at : at + _CHUNK])
