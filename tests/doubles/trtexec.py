"""A stand-in for NVIDIA's `trtexec` of TensorRT 8.2.1, 10.3.0 or 11.1.0: its options and formats, ONNX Runtime inside.

It refuses options that its version does not know, wraps the ONNX file as an "engine", times real runs, and prints and
writes what the real one does. `install` puts it into a folder as an executable named `trtexec`.

python trtexec.py --as 8.2.1 OPTIONS
"""

from __future__ import annotations

import itertools
import shlex
import sys
import time
from pathlib import Path

NUMBERS = {"8.2.1": "v8201", "10.3.0": "v100300", "11.1.0": "v110100"}
ALWAYS = {
    "--onnx",
    "--saveEngine",
    "--loadEngine",
    "--timingCacheFile",
    "--noTF32",
    "--useDLACore",
    "--allowGPUFallback",
}
ALWAYS |= {"--iterations", "--duration", "--warmUp", "--exportTimes", "--exportProfile", "--dumpProfile", "--avgRuns"}
ALWAYS |= {"--percentile", "--verbose", "--help", "--device", "--shapes", "--minShapes", "--optShapes", "--maxShapes"}
ALWAYS |= {"--noDataTransfers", "--useSpinWait", "--useCudaGraph", "--separateProfileRun", "--exposeDMA", "--idleTime"}
OWN = {
    "8.2.1": {"--fp16", "--int8", "--best", "--calib", "--workspace", "--buildOnly", "--explicitBatch", "--batch"},
    "10.3.0": {"--fp16", "--int8", "--bf16", "--best", "--calib", "--memPoolSize", "--skipInference", "--infStreams"}
    | {"--builderOptimizationLevel", "--stronglyTyped"},
    "11.1.0": {"--memPoolSize", "--skipInference", "--infStreams", "--builderOptimizationLevel", "--stronglyTyped"}
    | {"--includeDataTransfers", "--noSpinWait", "--noCudaGraph"},
}
ENGINE = b"ENGINE OF THE TRTEXEC DOUBLE\n"


def install(folder: Path, version: str) -> Path:
    """Write an executable `trtexec` of that version into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "trtexec"
    file.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(__file__)} --as {version} "$@"\n')
    file.chmod(0o755)
    return file


class Failed(Exception):
    """Ends the run as FAILED, with the error lines that were printed."""


class Tool:
    """One run of the tool."""

    def __init__(self, version: str, argv: list[str]) -> None:
        self.version, self.argv = version, argv
        # Since 10.6 the build's number stands behind the version.
        build = " [b12]" if version == "11.1.0" else ""
        self.name = f"TensorRT.trtexec [TensorRT {NUMBERS[version]}]{build}"
        self.options = dict(part.partition("=")[::2] for part in argv)

    def main(self) -> int:
        """The whole run; its exit status."""
        self.banner("RUNNING")
        if "--help" in self.options:
            print("=== Model Options ===\n  --onnx=<file>  ONNX model\n")
            return 0
        unknown = [name for name in self.options if name not in ALWAYS | OWN[self.version]]
        try:
            if unknown:
                for name in unknown:
                    self.say(f"Unknown option: {name} {self.options[name]}", "E")
                raise Failed
            self.say("=== Model Options ===")
            self.say(f"Format: {'ONNX' if '--onnx' in self.options else '*'}")
            self.say("")
            self.say(f"TensorRT version: {self.version}")
            self.run()
        except Failed:
            self.banner("FAILED")
            return 1
        self.banner("PASSED")
        return 0

    def banner(self, result: str) -> None:
        """The first and last line."""
        print(f"&&&& {result} {self.name} # {' '.join(['trtexec', *self.argv])}", flush=True)

    def say(self, text: str, level: str = "I") -> None:
        """A line of the log."""
        print(time.strftime("[%m/%d/%Y-%H:%M:%S]"), f"[{level}] {text}", flush=True)

    def run(self) -> None:
        """Build or load, then time."""
        begin = time.monotonic()
        plan = self.build() if "--onnx" in self.options else self.load()
        verb = "built" if "--onnx" in self.options else "loaded"
        self.say(f"Engine {verb} in {time.monotonic() - begin:.6g} sec.")
        if "--buildOnly" in self.options or "--skipInference" in self.options:
            return
        self.infer(plan)

    def build(self) -> bytes:
        """The ONNX file, if the real parser would read it and this version's types allow it."""
        import onnx

        data = Path(self.options["--onnx"]).read_bytes()
        try:
            model = onnx.load_from_string(data)
            if not model.graph.node:
                raise ValueError("empty graph")
        except Exception:
            self.say(
                "[TRT] ModelImporter.cpp:735: Failed to parse ONNX model from file: " + self.options["--onnx"], "E"
            )
            self.say("Failed to parse onnx file", "E")
            self.say("Engine set up failed", "E")
            raise Failed from None
        for number, node in enumerate(model.graph.node):
            if not onnx.defs.has(node.op_type) or (node.op_type == "HardSwish" and self.version == "8.2.1"):
                self.say(
                    "[TRT] ModelImporter.cpp:779: ERROR: builtin_op_importers.cpp:4870 In function "
                    'importFallbackPluginImporter: [8] Assertion failed: creator && "Plugin not found" '
                    f"(node {number}: {node.op_type})",
                    "E",
                )
                self.say("Failed to parse onnx file", "E")
                raise Failed
        quantised = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        if quantised and self.version != "11.1.0" and "--int8" not in self.options:
            self.say("[TRT] 4: [network.cpp::validate::2965] Error Code 4: Internal Error (Q/DQ layers need int8)", "E")
            raise Failed
        if "--useDLACore" in self.options and "--allowGPUFallback" not in self.options:
            other = [n.op_type for n in model.graph.node if n.op_type not in ("Conv", "Relu", "MaxPool", "Add")]
            if other:
                self.say(
                    f"[TRT] 4: [network.cpp::validate::2810] Error Code 4: Internal Error ({other[0]}_0: "
                    "DLA validation failed and GPU fallback is not enabled)",
                    "E",
                )
                raise Failed
        cache = Path(self.options["--timingCacheFile"])
        cache.write_bytes((cache.read_bytes() if cache.is_file() else b"") + b"timed\n")
        plan = ENGINE + self.version.encode() + b"\n" + data
        Path(self.options["--saveEngine"]).write_bytes(plan)
        return data

    def load(self) -> bytes:
        """The ONNX file inside an engine of this version."""
        plan = Path(self.options["--loadEngine"]).read_bytes()
        head = ENGINE + self.version.encode() + b"\n"
        if not plan.startswith(head):
            self.say("[TRT] 1: [stdArchiveReader.cpp::StdArchiveReader::40] Error Code 1: Serialization", "E")
            self.say("Engine set up failed", "E")
            raise Failed
        return plan[len(head) :]

    def infer(self, data: bytes) -> None:
        """Real runs."""
        import numpy as np
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(data, options)
        feed = {}
        for node in session.get_inputs():
            shape = [n if isinstance(n, int) else 1 for n in node.shape]
            feed[node.name] = np.zeros(shape, dtype=np.float32)
            self.binding("input", node.name, shape)
        for node, array in zip(session.get_outputs(), session.run(None, feed), strict=True):
            self.binding("output", node.name, list(array.shape))
        self.say("Starting inference")
        zero = time.perf_counter()
        warm_ms = float(self.options.get("--warmUp", 200))
        seconds = float(self.options.get("--duration", 3))
        # 8.2 reads a whole number and silently drops the rest.
        until_ms = 1e3 * (int(seconds) if self.version == "8.2.1" else seconds) + warm_ms
        trace = []
        for i in itertools.count():
            now_ms = 1e3 * (time.perf_counter() - zero)
            if i >= int(self.options.get("--iterations", 10)) and now_ms >= until_ms:
                break
            session.run(None, feed)
            trace.append((now_ms, 1e3 * (time.perf_counter() - zero)))
        self.report([run for run in trace if run[0] >= warm_ms], len(trace))
        if "--exportProfile" in self.options:
            self.profile(data, trace)

    def binding(self, kind: str, name: str, shape: list[int]) -> None:
        """How each version tells what it made."""
        dims = "x".join(map(str, shape))
        if self.version == "8.2.1":
            self.say(f"Created {kind} binding for {name} with dimensions {dims}")
        else:
            self.say(f"{kind.capitalize()} binding for {name} with dimensions {dims} is created.")

    def report(self, trace: list[tuple[float, float]], everything: int) -> None:
        """Summary and file."""
        import numpy as np

        f = np.float32
        compute = [f(f(end) - f(start)) for start, end in trace]
        wall_ms = f(f(trace[-1][1]) - f(trace[0][0]))
        n = len(trace)
        self.say(f"Warmup completed {everything - n} queries over {float(self.options.get('--warmUp', 200)):g} ms")
        self.say(f"Timing trace has {n} queries over {wall_ms / f(1000):.6g} s")
        self.say("")
        self.say("=== Performance summary ===")
        self.say(f"Throughput: {f(n) / wall_ms * f(1000):.6g} qps")
        zero = [f(0)] * n
        figures = {"Latency": compute, "Enqueue Time": [f(0.01)] * n, "H2D Latency": zero}
        if self.version == "8.2.1":
            figures = {"Latency": compute, "End-to-End Host Latency": compute} | figures
        for name, values in {**figures, "GPU Compute Time": compute, "D2H Latency": zero}.items():
            self.say(f"{name}: {self.perf(values)}")
        mean = np.sum(np.array(compute, dtype=f)) / f(n)
        self.say(f"Total Host Walltime: {wall_ms / f(1000):.6g} s")
        self.say(f"Total GPU Compute Time: {mean * f(n) / f(1000):.6g} s")
        self.say("Explanations of the performance metrics are printed in the verbose logs.")
        self.say("")
        if "--exportTimes" in self.options:
            lines = []
            for (start, end), span in zip(trace, compute, strict=True):
                s, e = f(start), f(end)
                told = {"startEnqMs": s, "endEnqMs": f(s + f(0.01)), "startH2dMs": s, "endH2dMs": s}
                told |= {"startComputeMs": s, "endComputeMs": e, "startD2hMs": e, "endD2hMs": e}
                told |= {"h2dMs": f(0), "computeMs": span, "d2hMs": f(0), "latencyMs": span}
                if self.version == "8.2.1":
                    told["endToEndMs"] = span
                lines.append("{ " + ", ".join(f'"{k}" : {v:.6g}' for k, v in told.items()) + " }")
            text = "[\n  " + "\n, ".join(lines) + "\n]\n"
            Path(self.options["--exportTimes"]).write_text(text)

    def perf(self, values: list) -> str:
        """min, max, mean, median and one percentile, or three since 8.5."""
        import numpy as np

        low, high, mean, median = np.min(values), np.max(values), np.mean(values), np.median(values)
        text = f"min = {low:.6g} ms, max = {high:.6g} ms, mean = {mean:.6g} ms, median = {median:.6g} ms"
        for share in (99,) if self.version == "8.2.1" else (90, 95, 99):
            at = sorted(values)[max(len(values) - 1 - int((1 - share / 100) * len(values)), 0)]
            text += f", percentile({share}%) = {at:.6g} ms"
        return text

    def profile(self, data: bytes, trace: list[tuple[float, float]]) -> None:
        """The time of all runs, shared out evenly among the nodes."""
        import onnx

        nodes = onnx.load_from_string(data).graph.node
        total = sum(end - start for start, end in trace)
        lines = []
        for number, node in enumerate(nodes):
            each = total / len(nodes)
            told = f'"name" : "{node.op_type}_{number}", "timeMs" : {each:.6g}, "averageMs" : {each / len(trace):.6g}'
            if self.version != "8.2.1":
                told += f', "medianMs" : {each / len(trace):.6g}'
            lines.append(f', {{ {told}, "percentage" : {100 / len(nodes):.6g} }}\n')
        Path(self.options["--exportProfile"]).write_text(
            f'[\n  {{ "count" : {len(trace)} }}\n' + "".join(lines) + "]\n"
        )


if __name__ == "__main__":
    assert sys.argv[1] == "--as"
    sys.exit(Tool(sys.argv[2], sys.argv[3:]).main())
