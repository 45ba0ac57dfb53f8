"""Loads graphs, times chains of them, answers inputs with plans: one executor for measuring and for deployed runs."""

import hashlib
import time
from importlib import import_module
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from hwbench.agent import machine, protocol
from hwbench.agent.probes import Probes
from hwbench.agent.protocol import AgentError
from hwbench.agent.runtime import Call, Model
from hwbench.agent.timing import pinned, time_calls
from hwbench.agent.walk import Walk

RUNTIMES = ("ort", "litert", "edgetpu", "trt", "trtexec", "torch_cuda")


CAN = ("window", "answer")
ANSWERING = tuple(name for name in RUNTIMES if name != "trtexec")


class _Loaded:
    """A graph with the memory it holds, and the most it held while it was loaded and run once; None where unknown."""

    def __init__(self, model: Model, held_bytes: Optional[int], peak_bytes: Optional[int]) -> None:
        self.model = model
        self.held_bytes = held_bytes
        self.peak_bytes = peak_bytes


class Executor:
    """One runtime and the graphs it holds.

    folder: where arrays too long for a line are left.
    """

    def __init__(self, runtime: str, folder: str) -> None:
        if runtime not in RUNTIMES:
            raise AgentError(
                "absent", "this agent has no runtime {!r} (it has {})".format(runtime, ", ".join(RUNTIMES))
            )
        try:
            self._runtime = import_module("hwbench.agent.runtimes." + runtime)
        except ImportError as error:
            raise AgentError(
                "absent", "the board's Python cannot import the runtime of {!r}: {}".format(runtime, error)
            ) from error
        self._folder = folder
        self._awake = False
        self._models: Dict[str, _Loaded] = {}

    def can(self) -> Tuple[str, ...]:
        """What the runtime can do."""
        return tuple(getattr(self._runtime, "CAN", CAN))

    def version(self) -> str:
        """Version of the runtime."""
        return str(self._runtime.version())

    def load(self, message: Mapping[str, Any]) -> Dict[str, Any]:
        """Read a file into the runtime and run it once; a key loaded twice is loaded anew."""
        key, path = str(message["block_key"]), str(message["path"])
        self._models.pop(key, None)
        _verify(path, str(message["sha256"]))
        setting, options = message["setting"], message.get("options", {})
        notes: Dict[str, Any] = {}
        if hasattr(self._runtime, "compile"):
            path, notes = self._runtime.compile(path, setting, options)
        if not self._awake:
            # The first graph of a process also pays for the runtime's own code and tables: let that be nobody's memory.
            self._runtime.load(path, setting, options)
            self._awake = True
            machine.keep_imports()
        peak = machine.PeakMemory()
        begin = machine.now_ns()
        model: Model = self._runtime.load(path, setting, options)
        load_ms = (machine.now_ns() - begin) / 1e6
        # Below the kernel's own counting steps nothing is seen, and that is unknown, not none.
        held_bytes, peak_bytes = model.memory() or (peak.held_bytes(), peak.added_bytes() or None)
        self._models[key] = _Loaded(model, held_bytes, peak_bytes)
        return {
            "inputs": [port.described() for port in model.inputs],
            "outputs": [port.described() for port in model.outputs],
            "load_ms": load_ms,
            "peak_memory_bytes": self._models[key].peak_bytes,
            "notes": dict(notes, **model.notes),
        }

    def drop(self, message: Mapping[str, Any]) -> Dict[str, Any]:
        """Forget a graph."""
        self._model(str(message["block_key"]))
        del self._models[str(message["block_key"])]
        return {}

    def window(self, message: Mapping[str, Any]) -> Dict[str, Any]:
        """Time a chain."""
        keys = [str(key) for key in message["chain"]]
        if not keys:
            raise AgentError("request", "a window needs a chain of at least one workload")
        models = [self._model(key) for key in keys]
        calls = self._chain(models)
        warmup = message.get("warmup")
        probes = Probes(message.get("probes", ()), float(message.get("probe_hz", 0)))
        try:
            with pinned([int(cpu) for cpu in message.get("affinity", ())]), probes:
                noise = machine.Noise()
                timed = getattr(self._runtime, "time_chain", time_calls)(
                    calls,
                    None if warmup is None else int(warmup),
                    int(message["min_runs"]),
                    float(message["min_time_s"]),
                    float(message["max_time_s"]),
                )
                heard = noise.since()
        except AgentError:
            raise
        except Exception as error:  # whatever the runtime raises while running
            raise AgentError("runtime", "running {} failed: {}".format(" + ".join(keys), error)) from error
        arrays = {"warmup_ns": timed.warmup_ns, "start_ns": timed.start_ns, "run_ns": timed.run_ns}
        arrays.update(probes.arrays())
        return {
            "arrays": protocol.pack(arrays, self._folder + "/window.npz"),
            "traces": probes.units(),
            "noise": dict(heard, **timed.told),
            "flags": sorted(set(timed.flags).union(*(model.flags for model in models))),
            "peak_memory_bytes": self._peak_bytes(keys),
        }

    def idle(self, message: Mapping[str, Any]) -> Dict[str, Any]:
        """Read probes while nothing runs."""
        probes = Probes(message["probes"], float(message["probe_hz"]))
        with probes:
            time.sleep(float(message["seconds"]))
        return {"arrays": protocol.pack(probes.arrays(), self._folder + "/idle.npz"), "traces": probes.units()}

    def answer(self, message: Mapping[str, Any], progress: Callable[[int], None]) -> Dict[str, Any]:
        """Run inputs through a plan; `progress` is told how far it is every two seconds."""
        if "answer" not in self.can():
            raise AgentError("request", "this runtime only times; {} answer".format(", ".join(ANSWERING)))
        nodes: List[Mapping[str, Any]] = list(message["plan"]["nodes"])
        data = _read_data(str(message["data"]))
        calls: Dict[str, Call] = {}
        seen: Dict[str, int] = {}
        for node in nodes:
            key = str(node["block_key"])
            source = calls.get(str(node["after"])) if node.get("after") is not None else None
            calls[str(node["node"])] = self._model(key).bind(source, seen.get(key, 0))
            seen[key] = seen.get(key, 0) + 1
        walk = Walk(nodes, [calls[str(node["node"])] for node in nodes])
        probes = Probes(message.get("probes", ()), float(message.get("probe_hz", 0)))
        try:
            with pinned([int(cpu) for cpu in message.get("affinity", ())]):
                walk.warm_up(data)
                noise = machine.Noise()
                with probes:
                    begin = machine.now_ns()
                    arrays = walk.run(data, int(message.get("repeats", 1)), _seldom(progress))
                    end = machine.now_ns()
                heard = noise.since()
        except AgentError:
            raise
        except Exception as error:  # whatever the runtime raises while running
            raise AgentError("runtime", "answering failed: {}".format(error)) from error
        arrays.update(probes.arrays())
        return {
            "n": len(data),
            "arrays": protocol.pack(arrays, self._folder + "/answer.npz"),
            "traces": probes.units(),
            "noise": heard,
            "start_ns": begin,
            "end_ns": end,
        }

    def _model(self, key: str) -> Model:
        if key not in self._models:
            raise AgentError("request", "workload {!r} is not loaded".format(key))
        return self._models[key].model

    def _chain(self, models: Sequence[Model]) -> List[Call]:
        calls: List[Call] = []
        for i, model in enumerate(models):
            nth = sum(1 for before in models[:i] if before is model)
            calls.append(model.bind(calls[-1] if calls else None, nth))
        return calls

    def _peak_bytes(self, keys: Sequence[str]) -> Optional[int]:
        # All graphs of a chain are held at once, and each was once at its own peak.
        beyond, held = 0, 0
        for key in sorted(set(keys)):
            loaded = self._models[key]
            if loaded.held_bytes is None or loaded.peak_bytes is None:
                return None
            held += loaded.held_bytes
            beyond = max(beyond, loaded.peak_bytes - loaded.held_bytes)
        return held + beyond


def _verify(path: str, sha256: str) -> None:
    try:
        with open(path, "rb") as stream:
            digest = hashlib.sha256(stream.read()).hexdigest()
    except OSError as error:
        raise AgentError("file", "{}: cannot be read ({})".format(path, error.strerror)) from error
    if digest != sha256:
        raise AgentError(
            "file", "{}: content is not what was sent (sha256 {}…, not {}…)".format(path, digest[:8], sha256[:8])
        )


def _read_data(path: str) -> np.ndarray:
    try:
        data: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise AgentError("file", "{}: not an array file ({})".format(path, error)) from error
    if data.ndim < 2 or len(data) == 0:
        raise AgentError("request", "{}: inputs of shape {} hold no samples".format(path, data.shape))
    return data


def _seldom(progress: Callable[[int], None]) -> Callable[[int], None]:
    last = [time.monotonic()]

    def told(done: int) -> None:
        if time.monotonic() - last[0] >= protocol.PROGRESS_S:
            last[0] = time.monotonic()
            progress(done)

    return told
