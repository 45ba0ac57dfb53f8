"""What the board says of itself: identity, clock, memory, and who else is using it.

Everything is read from Linux files; where one is absent the answer is None, never a guess.
"""

import ctypes
import gc
import os
import platform
import resource
import time
from hashlib import blake2b
from typing import Any, Callable, Dict, Optional, Sequence

from hwbench.agent.protocol import AgentError


def _monotonic_ns_of_old_python() -> int:
    return int(time.monotonic() * 1e9)


# Nanoseconds that never step, the one clock of runs and probes alike; Python 3.6 has it in seconds only.
now_ns: Callable[[], int] = getattr(time, "monotonic_ns", _monotonic_ns_of_old_python)


def read_text(path: str) -> Optional[str]:
    """A small file's text without its end; None where it is absent or closed to us."""
    try:
        with open(path, "rb") as stream:
            return stream.read(1 << 20).decode("utf-8", "replace").rstrip("\0\n ")
    except OSError:
        return None


def identity() -> Dict[str, Any]:
    """model, serial, cpu, kernel, machine, cores, memory_mb; None where unknown."""
    model = read_text("/proc/device-tree/model")
    if not model:
        vendor = read_text("/sys/class/dmi/id/sys_vendor")
        product = read_text("/sys/class/dmi/id/product_name")
        model = " ".join(part for part in (vendor, product) if part) or None
    total_kb = _field("/proc/meminfo", "MemTotal")
    return {
        "model": model,
        "serial": _serial(),
        "cpu": _cpu(),
        "kernel": platform.release() or None,
        "machine": platform.machine() or None,
        "cores": os.cpu_count(),
        "memory_mb": None if total_kb is None else total_kb // 1024,
    }


def _serial() -> Optional[str]:
    serial = read_text("/proc/device-tree/serial-number")
    if serial:
        return serial
    # The id itself is private to its machine, and tables are published: only a digest leaves.
    machine = read_text("/etc/machine-id")
    return "machine-" + blake2b(machine.encode("utf-8"), digest_size=6).hexdigest() if machine else None


def _cpu() -> Optional[str]:
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Hardware", "cpu model") and value.strip():
            return value.strip()
    return None


def _field(path: str, name: str) -> Optional[int]:
    for line in (read_text(path) or "").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return None


def keep_to(cores: Sequence[int]) -> None:
    """Keep this process, and every thread it starts from here on, to these cores; () = leave it as found.

    A thread keeps the cores it was born with, so this comes before a runtime makes its own.
    Raises AgentError when the board does not offer them all: the kernel would quietly take those that there are.
    """
    if not cores:
        return
    try:
        os.sched_setaffinity(0, cores)
        given = os.sched_getaffinity(0)
    except (AttributeError, OSError, OverflowError, ValueError) as error:
        raise AgentError("request", "cannot run on the cores {}: {}".format(list(cores), error)) from error
    if given != set(cores):
        raise AgentError("request", "asked for the cores {}, the board gives {}".format(list(cores), sorted(given)))


class Noise:
    """Who else used the processor between the making of this and `since`."""

    def __init__(self) -> None:
        self._begin_ns = now_ns()
        self._cpu = _cpu_ticks()
        self._use = resource.getrusage(resource.RUSAGE_SELF)
        self._own_s = _own_s()

    def since(self) -> Dict[str, float]:
        """elapsed_ms, steal_ms (what the hypervisor took), others_ms (other processes), our switches; no key: unknown.

        The kernel counts in ticks of some ms, so others_ms of one short window may well be below 0; sums are right.
        """
        use = resource.getrusage(resource.RUSAGE_SELF)
        noise = {
            "elapsed_ms": (now_ns() - self._begin_ns) / 1e6,
            "voluntary_switches": float(use.ru_nvcsw - self._use.ru_nvcsw),
            "involuntary_switches": float(use.ru_nivcsw - self._use.ru_nivcsw),
        }
        cpu = _cpu_ticks()
        if cpu is not None and self._cpu is not None:
            tick_ms = 1e3 / os.sysconf("SC_CLK_TCK")
            own_ms = 1e3 * (_own_s() - self._own_s)
            noise["steal_ms"] = (cpu["steal"] - self._cpu["steal"]) * tick_ms
            noise["others_ms"] = (cpu["busy"] - self._cpu["busy"]) * tick_ms - own_ms
        return noise


def _own_s() -> float:
    # A tool that was run as a child, and has ended, is our work too.
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _cpu_ticks() -> Optional[Dict[str, int]]:
    first = (read_text("/proc/stat") or "").split("\n", 1)[0].split()
    if len(first) < 9 or first[0] != "cpu":
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(n) for n in first[1:9])
    return {"busy": user + nice + system + irq + softirq, "steal": steal}


def keep_imports() -> None:
    """Take what is loaded for good out of the garbage collector's sight.

    It is asked before every window, and would look at all of the runtime's modules: 12 ms here, more on a board.
    """
    gc.collect()
    if hasattr(gc, "freeze"):  # Python 3.7
        gc.freeze()


class PeakMemory:
    """The most memory this process holds from here on, beyond what it held when this was made.

    Linux forgets the old peak when asked (`clear_refs`); where it may not be, the peak is what is held at the end.
    """

    def __init__(self) -> None:
        gc.collect()
        _trim()
        self._forgotten = _forget_peak()
        self._before_kb = _field("/proc/self/status", "VmRSS")

    def added_bytes(self) -> Optional[int]:
        """Most bytes held on top of the beginning; None where the system does not say."""
        return self._beyond("VmHWM" if self._forgotten else "VmRSS")

    def held_bytes(self) -> Optional[int]:
        """Bytes held now on top of the beginning; None where the system does not say."""
        return self._beyond("VmRSS")

    def _beyond(self, name: str) -> Optional[int]:
        after_kb = _field("/proc/self/status", name)
        if after_kb is None or self._before_kb is None:
            return None
        return max(0, after_kb - self._before_kb) * 1024


def _forget_peak() -> bool:
    try:
        with open("/proc/self/clear_refs", "w") as stream:
            stream.write("5")
        return True
    except OSError:
        return False


def _trim() -> None:
    # glibc keeps what was freed, and a graph loaded into kept memory would seem to need none.
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        pass
