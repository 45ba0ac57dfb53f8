"""Where probes get their text or number on the board: files, programs, NVIDIA's library, jetson-stats.

Reading is apart from parsing (`readout.number`), so that a window only pays for the reading.
"""

import json
import os
import select
import signal
import subprocess
import time
from typing import Any, Callable, List, Mapping, Optional, Sequence

from hwbench.agent import readout
from hwbench.agent.readout import Raw

_COMMAND_S = 2.0
# A process started more often would itself be the work that is measured.
COMMAND_HZ = 10.0
_ONE_NUMBER_BYTES = 64


class Source:
    """One thing to read; several probes may want a number of it.

    read: the text or number now, None where it does not answer this time.  close: gives back what it holds.
    period_s: it is not read more often.  whole: what `read` gives cannot have been cut short.
    """

    def __init__(
        self, read: Callable[[], Raw], close: Callable[[], None], *, period_s: float = 0.0, whole: bool = False
    ) -> None:
        self.read = read
        self.close = close
        self.period_s = period_s
        self.whole = whole


def open_source(read: str) -> Source:
    """The source of a probe; OSError, ImportError or ValueError where this board has none."""
    scheme, rest, field = readout.split(read)
    if scheme == "file":
        return _file(rest, lines=field is not None)
    if scheme == "above":
        return _above(*readout.words(rest))
    if scheme == "run":
        argv = readout.words(rest)
        return Source(lambda: run(argv, readout.MAX_BYTES, _COMMAND_S), _nothing, period_s=1.0 / COMMAND_HZ)
    if scheme == "nvml":
        from hwbench.agent.nvml import Device

        what, name = readout.nvml(rest)
        device = Device(name)
        return Source(lambda: device.read(what), device.close)
    from hwbench.agent.jetson_stats import Rails

    rails = Rails()
    return Source(rails.read, rails.close)


def _nothing() -> None:
    pass


def _file(path: str, *, lines: bool) -> Source:
    """A file that stays open: the kernel makes its content anew at every read from its start."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    size = readout.MAX_BYTES if lines else _ONE_NUMBER_BYTES

    def read() -> Raw:
        try:
            return os.pread(file, size, 0)
        except OSError:
            return None

    return Source(read, lambda: os.close(file), whole=not lines)


def _above(first: str, second: str) -> Source:
    """1 where the first file's number has reached the second's, else 0; None where one is missing."""
    value = _file(first, lines=False)
    try:
        limit = _file(second, lines=False)
    except OSError:
        value.close()
        raise

    def read() -> Raw:
        return readout.above(value.read(), limit.read())

    def close() -> None:
        value.close()
        limit.close()

    return Source(read, close)


def run(argv: Sequence[str], max_bytes: int, timeout_s: float) -> Optional[bytes]:
    """What a command prints; None when it fails, prints too much, or does not end in time (it is killed then)."""
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Numbers with a decimal point, whatever language the board speaks.
            env=dict(os.environ, LC_ALL="C"),
            start_new_session=True,
        )
    except OSError:
        return None
    assert process.stdout is not None
    try:
        text = _drain(process.stdout.fileno(), max_bytes, time.monotonic() + timeout_s)
        # Its output has ended, so it has, or will at once.
        return text if text is not None and process.wait(timeout_s) == 0 else None
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            _kill(process)
        process.stdout.close()


def _drain(pipe: int, max_bytes: int, deadline: float) -> Optional[bytes]:
    text = bytearray()
    while len(text) <= max_bytes:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([pipe], [], [], left_s)[0]:
            return None
        part = os.read(pipe, 1 << 14)
        if not part:
            return bytes(text)
        text += part
    return None


def _kill(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has ended this moment
        pass
    process.wait()


def read_once(probes: Sequence[Mapping[str, Any]]) -> List[Optional[float]]:
    """Numbers of several probes (`read`, `unit`), None where one does not answer."""
    found: List[Optional[float]] = []
    for probe in probes:
        read = str(probe["read"])
        try:
            source = open_source(read)
        except (OSError, ImportError, ValueError):
            found.append(None)
            continue
        field = readout.split(read)[2]
        found.append(readout.number(source.read(), field, str(probe["unit"]), whole=source.whole))
        source.close()
    return found


def main(asked: str) -> None:
    """Print the numbers of the probes in a JSON list, as a JSON list."""
    print(json.dumps(read_once(json.loads(asked))))
