"""A session with TensorFlow Lite's `benchmark_model`: one call of the tool for each load and each window.

The board needs a POSIX shell and nothing else. The shell stamps each line of the tool with the board's uptime, so a
window has a beginning and an end in the clock in which the same shell reads the probes meanwhile.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np

from hwbench import benchmark_model, shell_probes, tflite_graph
from hwbench.benchmark_model import Delegation, Report
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.link import Completed, Link
from hwbench.measurement import Summary, Trace
from hwbench.session import Answers, Hello, Loaded, Prepared, RawWindow, WindowSpec
from hwbench.target import Probe
from hwbench.workload import Plan

_SMALL_S = 30.0
_LOAD_S = 300.0  # an NPU's driver compiles the graph for minutes
_SETTLE_RUNS, _SETTLE_S = 10, 0.5
# The tool counts whole microseconds: below this a median may be off by 2 % and more.
_COARSE_US = 50.0
# An energy needs so many samples, and a window that holds them.
_SAMPLES = 30
# Stamps each line; `wait` lets a hang-up be noticed at once.
_TOOL = """
{ "$@" 2>&1; status=$?; echo; echo "exit $status"; } </dev/null |
while IFS= read -r line; do now; echo "$up $line"; done &
wait $!
"""
_PROPERTY = re.compile(r"\[([\w.]+)\]: \[(.*)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """How the tool is called for one setting.

    path: on the board.  flags: of the setting.  delegate: what it must say that it applied; None = any processor.
    allow_cpu_fallback: what the delegate does not take may run on the processor.
    """

    path: str
    flags: tuple[str, ...]
    delegate: str | None
    allow_cpu_fallback: bool


class BenchmarkSession:
    """Windows of single graphs; a Session that cannot answer."""

    def __init__(self, link: Link, tool: Tool, *, backend: str) -> None:
        self._link, self._tool = link, tool
        self._where = f"{link.name}/{backend}"
        self._loaded: dict[str, Prepared] = {}
        self.hello = Hello(
            protocol=0,
            agent="none",
            python="none",
            runtime="benchmark_model",
            runtime_version=self._version(),
            board=identity(link),
            can=frozenset({"window"}),
        )

    def __enter__(self) -> BenchmarkSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left running: a call of the tool ends before it returns."""

    def load(self, prepared: Prepared) -> Loaded:
        """Run it once: whether the graph runs there, how much of it, how long it takes to load, what memory it adds."""
        doing = f"loading {prepared.block_key} from {prepared.source or prepared.path}"
        asked = WindowSpec(warmup=1, min_runs=1, min_time_s=0.0, max_time_s=_LOAD_S / 4)
        report, _ = self._call(prepared, asked, (), doing, _LOAD_S)
        try:
            graph = tflite_graph.parse(Path(prepared.source or "").read_bytes(), doing)
        except (OSError, ConfigError) as error:
            raise PermanentDeviceError(f"{self._where}: {error}") from error
        self._loaded[prepared.block_key] = prepared
        kernels = sum(d.kernels or 0 for d in report.delegations)
        return Loaded(
            block_key=prepared.block_key,
            inputs=graph.inputs,
            outputs=graph.outputs,
            load_ms=report.init_ms,
            peak_memory_bytes=report.memory_bytes,
            notes={"delegate_kernels": kernels} if kernels else {},
        )

    def drop(self, block_key: str) -> None:
        """Nothing stays on the board between calls but the file."""
        self._loaded.pop(block_key, None)

    def window(self, chain: Sequence[str], how: WindowSpec, probes: Sequence[Probe]) -> RawWindow:
        """The tool's figures of one graph; `warmup_ns` holds the two warm-up runs that it tells."""
        for key in chain:
            if key not in self._loaded:
                raise PermanentDeviceError(f"{self._where}: {key} is not loaded")
        if len(chain) != 1:
            raise PermanentDeviceError(
                f"{self._where}: benchmark_model times one graph at a time, not {' → '.join(chain)}; "
                "a runtime whose sessions can answer times chains"
            )
        prepared = self._loaded[chain[0]]
        if probes:
            least_s = _SAMPLES / min(how.probe_hz, shell_probes.MOST_HZ)
            longest_s = max(how.max_time_s, 3 * least_s)
            how = replace(how, min_time_s=max(how.min_time_s, least_s), max_time_s=longest_s)
        timeout_s = 2 * how.max_time_s + _LOAD_S
        report, traces = self._call(prepared, how, probes, f"a window of {chain[0]}", timeout_s)
        figures, warm = report.runs.figures, report.warmup.figures
        flags = {"summary_only"} | _partly(report.delegations, self._tool.delegate)
        if figures.median_us is None:
            flags.add("mean_only")
        if figures.mean_us < _COARSE_US:
            flags.add("coarse_clock")
        if figures.count < how.min_runs:
            flags.add("few_runs")
        summary = Summary(
            runs=figures.count,
            end_ns=shell_probes.ns(report.runs.end_s),
            mean_ns=figures.mean_us * 1e3,
            std_ns=figures.std_us * 1e3,
            min_ns=figures.min_us * 1e3,
            max_ns=figures.max_us * 1e3,
            median_ns=None if figures.median_us is None else figures.median_us * 1e3,
        )
        return RawWindow(
            warmup_ns=np.array([warm.first_us, warm.last_us][: warm.count], dtype=np.int64) * 1000,
            start_ns=np.array([shell_probes.ns(report.runs.start_s)], dtype=np.int64),
            run_ns=np.array([summary.location_ns], dtype=np.int64),
            traces=traces,
            noise={},
            flags=tuple(sorted(flags)),
            peak_memory_bytes=report.memory_bytes,
            summary=summary,
        )

    def idle(self, seconds: float, probes: Sequence[Probe]) -> Mapping[str, Trace]:
        """Read the probes while nothing runs."""
        reading = shell_probes.sampler(probes, WindowSpec().probe_hz)
        script = f"{shell_probes.SHELL}{reading}sleep {seconds:.3f} &\nwait $!\nkill $sampler\n"
        done = self._link.run(["sh", "-c", script], timeout_s=seconds + _SMALL_S)
        return shell_probes.traces(done.stderr, probes)

    def answer(self, plan: Plan, data: Path, probes: Sequence[Probe], *, repeats: int = 1) -> Answers:
        """The tool cannot branch; `hwbench.replay` puts a plan's latency together from windows and a host's answers."""
        raise PermanentDeviceError(
            f"{self._where}: benchmark_model times graphs but does not answer inputs; runtimes that do: onnxruntime, "
            "litert, tensorrt, edgetpu, torch_cuda. Its exits can be replayed from the answers of one of these"
        )

    def _call(
        self, prepared: Prepared, how: WindowSpec, probes: Sequence[Probe], doing: str, timeout_s: float
    ) -> tuple[Report, Mapping[str, Trace]]:
        """One call of the tool, whose report was believed only where it fits what was asked."""
        argv = [self._tool.path, f"--graph={prepared.path}", *self._tool.flags, *_lengths(how)]
        stop = "kill $sampler\n" if probes else ""
        script = f"{shell_probes.SHELL}{shell_probes.sampler(probes, how.probe_hz) if probes else ''}{_TOOL}{stop}"
        done = self._link.run(["sh", "-c", script, "sh", *argv], timeout_s=timeout_s)
        try:
            report = benchmark_model.parse(done.stdout.decode("utf-8", "replace"))
            # The name is made of the content; the folder may be a link.
            if posixpath.basename(report.model) != posixpath.basename(prepared.path):
                raise PermanentDeviceError(f"benchmark_model: it loaded {report.model!r} instead of {prepared.path!r}")
            self._check_delegation(report)
        except PermanentDeviceError as error:
            raise PermanentDeviceError(f"{self._where}: {doing}: {error}{_last_words(done)}") from error
        return report, shell_probes.traces(done.stderr, probes)

    def _check_delegation(self, report: Report) -> None:
        """Refuse a graph of which the delegate does not take everything, unless that was allowed."""
        wanted = self._tool.delegate
        if wanted is None:
            return
        found = next((d for d in report.delegations if d.delegate == wanted), None)
        if found is None:
            raise PermanentDeviceError(
                f"the {wanted} delegate was not applied, everything ran on the processor; does this device have it?"
            )
        if found.share != "completely" and not self._tool.allow_cpu_fallback:
            kernels = f" (in {found.kernels} pieces)" if found.kernels else ""
            raise PermanentDeviceError(
                f"the {wanted} delegate does {'not take' if found.share == 'not' else 'only take part of'} the graph"
                f"{kernels}; change the operations that it lacks, or run them on the processor: --allow-cpu-fallback"
            )

    def _version(self) -> str:
        """The tool does not tell its version; its content does."""
        there = self._link.run(["test", "-x", self._tool.path], timeout_s=_SMALL_S)
        if there.returncode != 0:
            raise PermanentDeviceError(
                f"{self._where}: there is no program {self._tool.path} on the board; take TensorFlow Lite's "
                "benchmark_model for its processor, and name that file as `push` in the backend's options"
            )
        done = self._link.run(["sha256sum", self._tool.path], timeout_s=_SMALL_S)
        found = re.match(rb"[0-9a-f]{64}\b", done.stdout)
        if found is not None:
            return f"sha256:{found[0][:12].decode()}"
        content = self._link.read(self._tool.path, max_bytes=256 << 20, timeout_s=_LOAD_S)
        return f"sha256:{hashlib.sha256(content).hexdigest()[:12]}"


def identity(link: Link) -> dict[str, str | int | None]:
    """model, serial (a digest: tables are published), soc, android, kernel, machine, cores; None where unknown."""
    asked = 'getprop; echo "[kernel]: [$(uname -r)]"; echo "[machine]: [$(uname -m)]"; echo "[cores]: [$(nproc)]"'
    lines = link.run(["sh", "-c", asked], timeout_s=_SMALL_S).stdout.decode("utf-8", "replace").split("\n")
    told = {found[1]: found[2] for line in lines if (found := _PROPERTY.fullmatch(line.strip()))}
    maker, model = told.get("ro.product.manufacturer", ""), told.get("ro.product.model", "")
    serial = told.get("ro.serialno") or told.get("ro.boot.serialno")
    release, level = told.get("ro.build.version.release"), told.get("ro.build.version.sdk", "?")
    return {
        "model": f"{maker} {model}".strip() or None,
        "serial": "android-" + hashlib.blake2b(serial.encode(), digest_size=6).hexdigest() if serial else None,
        "cpu": told.get("ro.soc.model") or told.get("ro.board.platform") or told.get("ro.hardware") or None,
        "android": f"{release} (API {level})" if release else None,
        "kernel": told.get("kernel") or None,
        "machine": told.get("ro.product.cpu.abi") or told.get("machine") or None,
        "cores": int(told["cores"]) if told.get("cores", "").isdigit() else None,
    }


def _lengths(how: WindowSpec) -> list[str]:
    """How long to look, in the tool's flags; each of its two phases gets half of the longest time."""
    runs, seconds = (_SETTLE_RUNS, _SETTLE_S) if how.warmup is None else (max(how.warmup, 1), 0.0)
    return [
        f"--warmup_runs={runs}",
        f"--warmup_min_secs={min(seconds, how.max_time_s / 4):g}",
        f"--num_runs={how.min_runs}",
        f"--min_secs={how.min_time_s:g}",
        f"--max_secs={how.max_time_s / 2:g}",
    ]


def _partly(delegations: Sequence[Delegation], delegate: str | None) -> set[str]:
    taken = any(d.delegate == delegate and d.share == "completely" for d in delegations)
    return set() if delegate is None or taken else {"partly_on_cpu"}


def _last_words(done: Completed) -> str:
    """What the shell said, where the tool's own output does not tell."""
    text = " ".join(done.stderr.decode("utf-8", "replace").split())
    return f" ({text[-200:]})" if text and not done.stdout.strip() else ""
