"""TensorRT through its own tool, `trtexec`, where a board has no Python bindings: it builds, and it times itself.

The agent runs it as a child, so probes are read in the one clock of this process. A run is the GPU's time of one
inference (`computeMs`), which is what the tool's own summary and every published table call latency: inputs and outputs
stay on the device, and the next inference is already waiting when one ends.
"""

import functools
import os
import re
import shutil
import signal
import subprocess
import threading
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from hwbench.agent import engines, trtexec_output
from hwbench.agent.machine import now_ns
from hwbench.agent.protocol import AgentError
from hwbench.agent.runtime import Call, Model, Port
from hwbench.agent.timing import SETTLING_RUNS, Timed, settled

CAN = ("window",)
# JetPack and the Debian packages leave it outside of the search path.
_PLACES = ("/usr/src/tensorrt/bin/trtexec", "/opt/tensorrt/bin/trtexec")
_HELP_S = 60.0
_BUILD_S = 1500.0
_LOAD_S = 240.0
# To start, to load the libraries of CUDA and the engine, and to print.
_START_S = 60.0
_MAX_OUTPUT_BYTES = 256 << 20


def tool() -> str:
    """Path of trtexec; AgentError where there is none."""
    found = shutil.which("trtexec") or next((place for place in _PLACES if os.access(place, os.X_OK)), None)
    if found is None:
        raise AgentError("absent", "this board has no trtexec (on its path or in /usr/src/tensorrt/bin)")
    return found


@functools.lru_cache(maxsize=None)
def version() -> str:
    """Version of TensorRT, as the tool's first line says."""
    return trtexec_output.version_of(_Child([tool(), "--help"], _HELP_S).log)


def compile(path: str, setting: Mapping[str, Any], options: Mapping[str, Any]) -> Tuple[str, Dict[str, Any]]:
    """Build the engine of an ONNX file on this board; raises AgentError with the line that says why it cannot."""
    found = version()

    def build(plan: str, cache: str) -> None:
        arguments = build_arguments(found, path, plan, cache, setting, options)
        child = _Child([tool()] + arguments, _BUILD_S)
        if child.status != 0 or not trtexec_output.passed(child.log) or not os.path.isfile(plan):
            raise AgentError(
                "runtime", "trtexec {} cannot build it: {}".format(found, trtexec_output.last_error(child.log))
            )

    return engines.kept(path, setting, options, found, build)


def build_arguments(
    version: str, onnx: str, plan: str, cache: str, setting: Mapping[str, Any], options: Mapping[str, Any]
) -> List[str]:
    """Arguments that build an engine, as that version knows them."""
    number = _number(version)
    arguments = ["--onnx=" + onnx, "--saveEngine=" + plan, "--timingCacheFile=" + cache]
    workspace_mb = int(options["workspace_mb"])
    arguments.append(
        "--memPoolSize=workspace:{}".format(workspace_mb) if number >= (8, 4) else "--workspace={}".format(workspace_mb)
    )
    arguments.append("--skipInference" if number >= (8, 6) else "--buildOnly")
    # From 11 on the graph itself says which numbers it computes with.
    if number < (11,) and setting["precision"] != "fp32":
        arguments.append("--" + str(setting["precision"]))
    if not options.get("tf32", False):
        arguments.append("--noTF32")
    if setting["unit"] == "dla":
        arguments.append("--useDLACore={}".format(int(options["dla_core"])))
        if options.get("gpu_fallback", False):
            arguments.append("--allowGPUFallback")
    return arguments


def run_arguments(version: str, plan: str, setting: Mapping[str, Any], options: Mapping[str, Any]) -> List[str]:
    """Arguments that run an engine: data stays on the device, the processor waits busily, launches are one graph."""
    arguments = ["--loadEngine=" + plan, "--warmUp=0"]
    if _number(version) < (11,):  # since then these are how it runs by default
        arguments += ["--noDataTransfers", "--useSpinWait", "--useCudaGraph", "--separateProfileRun"]
    if setting["unit"] == "dla":
        arguments.append("--useDLACore={}".format(int(options["dla_core"])))
    return arguments


def load(path: str, setting: Mapping[str, Any], options: Mapping[str, Any]) -> Model:
    """Load an engine and run it a few times, for its inputs, its outputs and how long it takes.

    options: layers (default false): time each layer too, in a run apart.  Raises AgentError when it does not run.
    """
    return TrtexecModel(path, setting, options)


class TrtexecModel(Model):
    """An engine's file; every window is a process of its own."""

    def __init__(self, path: str, setting: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        found = version()
        self._arguments = [tool()] + run_arguments(found, path, setting, options)
        self._number = _number(found)
        self._layers = bool(options.get("layers", False))
        self._files = path + ".{}".format(os.getpid())
        child = _Child(self._arguments + ["--iterations=10", "--duration=0"], _LOAD_S)
        if child.status != 0:
            why = trtexec_output.last_error(child.log)
            if "erializ" in why:  # "Serialization assertion", "Engine deserialization failed"
                os.unlink(path)
                why = "{}: {}".format(engines.REMOVED, why)
            raise AgentError("runtime", "trtexec {} cannot load it: {}".format(found, why))
        inputs, outputs = trtexec_output.bindings(child.log)
        batch = int(setting["batch"])
        for name, shape in inputs:
            if shape and shape[0] != batch:
                raise AgentError("runtime", "input {!r} is made for batch {}, not {}".format(name, shape[0], batch))
        # The tool does not say which numbers they are.
        self.inputs = tuple(Port(name, "unknown", shape) for name, shape in inputs)
        self.outputs = tuple(Port(name, "unknown", shape) for name, shape in outputs)
        self.typical_s = trtexec_output.summary(child.log).compute_ms[3] / 1e3
        if setting["unit"] == "dla" and options.get("gpu_fallback", False):
            self.flags = ("gpu_fallback",)

    def memory(self) -> Tuple[Optional[int], Optional[int]]:
        """Unknown: it is another process's."""
        return None, None

    def bind(self, source: Optional[Call], nth: int) -> Call:
        """The tool runs one engine; AgentError for a chain."""
        if source is not None:
            raise AgentError("request", "trtexec times one graph at a time; chains need TensorRT's Python bindings")
        return TrtexecCall(self)

    def window(self, runs: int, seconds: float, limit_s: float) -> "_Window":
        """Time at least so many runs and seconds."""
        times, profile = self._files + ".times.json", self._files + ".profile.json"
        arguments = ["--exportTimes=" + times, "--iterations={}".format(runs)]
        # Until 8.2 it takes whole seconds; longer is never wrong.
        arguments.append("--duration={:g}".format(seconds if self._number >= (8, 4) else int(np.ceil(seconds))))
        if self._layers:
            arguments += ["--dumpProfile", "--exportProfile=" + profile]
        try:
            child = _Child(self._arguments + arguments, limit_s)
            if child.status != 0:
                raise AgentError("runtime", "trtexec failed: {}".format(trtexec_output.last_error(child.log)))
            said = trtexec_output.summary(child.log)
            measured = trtexec_output.runs(_read(times))
            trtexec_output.agree(said, measured)
            layers = trtexec_output.layers(_read(profile)) if self._layers else []
            return _Window(child, said, measured, layers)
        finally:
            for file in (times, profile):
                if os.path.exists(file):
                    os.unlink(file)


class TrtexecCall(Call):
    """A place for the model in a chain of one; the tool runs it, nobody here can."""

    def __init__(self, model: TrtexecModel) -> None:
        self.model = model
        self.input, self.outputs = model.inputs[0], model.outputs

    def write(self, stored: np.ndarray) -> None:
        """AgentError: the tool fills inputs itself."""
        raise AgentError("request", "trtexec takes no inputs")

    def read(self, index: int) -> np.ndarray:
        """AgentError: outputs stay inside the tool."""
        raise AgentError("request", "trtexec gives no outputs")

    def read_score(self, index: int) -> float:
        """AgentError: outputs stay inside the tool."""
        raise AgentError("request", "trtexec gives no outputs")


class _Window:
    """What one process measured, with its starts in the agent's clock."""

    def __init__(
        self,
        child: "_Child",
        said: trtexec_output.Summary,
        measured: Sequence[trtexec_output.Run],
        layers: Sequence[trtexec_output.Layer],
    ) -> None:
        # The tool's times count from right after it says that it starts; what follows its last run it says later.
        # So zero lies between the first line as it came and the second less the last run's end.
        latest = child.after_ns - int(measured[-1].end_ms * 1e6)
        zero = min(child.start_ns, latest)
        self.run_ns = np.array([round(run.compute_ms * 1e6) for run in measured], dtype=np.int64)
        starts = np.array([zero + round(run.start_ms * 1e6) for run in measured], dtype=np.int64)
        # Six digits are few for a late start. Runs of one stream follow each other, so none begins before another ends.
        ends = np.concatenate([[starts[0]], np.cumsum(self.run_ns)[:-1] + starts[0]])
        self.start_ns = ends + np.maximum.accumulate(starts - ends)
        self.told = {"align_ms": abs(latest - child.start_ns) / 1e6, "throughput_per_s": said.throughput}
        self.told.update({"layer_ms." + layer.name: layer.average_ms for layer in layers})


def time_chain(
    calls: Sequence[Call], warmup: Optional[int], min_runs: int, min_time_s: float, max_time_s: float
) -> Timed:
    """One window of one engine; warm-up runs are the first of it, cut off here and not by the tool.

    told: align_ms (how far the starts may be off in the agent's clock), throughput_per_s (queries over wall time, runs
    overlapping), layer_ms.NAME.
    """
    if len(calls) != 1 or not isinstance(calls[0], TrtexecCall):
        raise AgentError("request", "trtexec times one graph at a time; chains need TensorRT's Python bindings")
    model = calls[0].model
    most = max(1, int(max_time_s / model.typical_s))
    wanted = min(min_runs, most) + (SETTLING_RUNS if warmup is None else warmup)
    warm_s = min(max(min_time_s, 0.05), max_time_s / 4) if warmup is None else (warmup or 0) * model.typical_s
    seconds = min(min_time_s + warm_s, max_time_s)
    found = model.window(wanted, seconds, max_time_s + _START_S)
    cold = warmup if warmup is not None else settled(found.run_ns.tolist(), int(warm_s * 1e9))
    cold = min(cold, len(found.run_ns) - 1)
    runs = found.run_ns[cold:]
    flags = ["few_runs"] if len(runs) < min_runs else []
    return Timed(found.run_ns[:cold], found.start_ns[cold:], runs, flags, found.told)


class _Child:
    """A run of the tool to its end: status, log, and when it said that inference begins and what came after that."""

    def __init__(self, argv: Sequence[str], limit_s: float) -> None:
        self.start_ns = self.after_ns = 0
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_us,
        )
        timer = threading.Timer(limit_s, process.kill)
        timer.daemon = True
        timer.start()
        lines: List[bytes] = []
        size = 0
        try:
            assert process.stdout is not None
            for line in process.stdout:
                now = now_ns()
                if self.start_ns and not self.after_ns:
                    self.after_ns = now
                if line.rstrip().endswith(b"Starting inference"):
                    self.start_ns = now
                size += len(line)
                if size > _MAX_OUTPUT_BYTES:
                    raise AgentError("runtime", "{} says more than 256 MiB".format(argv[0]))
                lines.append(line)
            self.status = process.wait()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        self.log = b"".join(lines).decode("utf-8", "replace")
        if self.status == -signal.SIGKILL:
            raise AgentError("runtime", "{} did not end within {:g} s".format(os.path.basename(argv[0]), limit_s))


def _die_with_us() -> None:
    # An agent that is killed must not leave a process on the board that goes on measuring for no one.
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _read(file: str) -> str:
    try:
        if os.path.getsize(file) > _MAX_OUTPUT_BYTES:
            raise AgentError("runtime", "{} is larger than 256 MiB".format(file))
        with open(file, "r", encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError as error:
        raise AgentError("runtime", "trtexec left no {} ({})".format(os.path.basename(file), error.strerror)) from error


def _number(version: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in re.findall("[0-9]+", version)[:2])
