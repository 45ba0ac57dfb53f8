#!/usr/bin/env python3
"""Stands in for TensorFlow Lite's `benchmark_model`: runs the file with LiteRT on this processor, prints as the tool.

Delegates are pretended (everything runs on the processor), times are real. The environment variable MISBEHAVE names, in
words, what goes wrong: `partly` (a delegate takes two pieces), `none` (it takes nothing), `silent` (it is not told),
`unknown:--flag` (a flag that this version does not know), `invoke` (a run fails, and the tool goes on), `crash`,
`cut` (its output ends in the middle), `old` (no percentiles), `other` (it loads another file), `hang`, `slow:N` (each
run is N of them, as on a slower board).
RAIL names a file that tells the board's power in µW: 2 W while the graph runs, 0.9 W before and after.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time

import numpy as np

FLAGS = {
    "graph", "num_threads", "use_xnnpack", "xnnpack_force_fp16", "use_gpu", "gpu_precision_loss_allowed", "use_nnapi",
    "nnapi_accelerator_name", "nnapi_allow_fp16", "disable_nnapi_cpu", "warmup_runs", "warmup_min_secs", "num_runs",
    "min_secs", "max_secs",
}  # fmt: skip
MISBEHAVE = os.environ.get("MISBEHAVE", "").split()
SLOWER = next((int(word.partition(":")[2]) for word in MISBEHAVE if word.startswith("slow:")), 1)


def say(line: str) -> None:
    """One line, at once, as std::endl does."""
    print(("" if "old" in MISBEHAVE else "INFO: ") * bool(line) + line, flush=True)


def main() -> int:
    """Parse flags as the tool does, load, warm up, run, tell."""
    unknown = [word.partition(":")[2] for word in MISBEHAVE if word.startswith("unknown:")]
    known = FLAGS - {name.lstrip("-") for name in unknown}
    given, strange = {}, []
    for word in sys.argv[1:]:
        name, _, value = word.lstrip("-").partition("=")
        if name in known:
            given[name] = value
        else:
            strange.append(word)
    say("STARTING!")
    if strange:
        say(f"Unconsumed cmdline flags: {' '.join(strange)}")
    if "crash" in MISBEHAVE:
        print("Segmentation fault", flush=True)
        return 139
    if "hang" in MISBEHAVE:
        time.sleep(60)
    say(f"Graph: [{given['graph']}]")
    return benchmark(given)


def benchmark(given: dict[str, str]) -> int:
    """Load the graph and time it."""
    from ai_edge_litert.interpreter import Interpreter

    before_kib, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        net = Interpreter(given["graph"], num_threads=int(given.get("num_threads", 1)))
        net.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        say(f"Failed to load model {given['graph']}: {str(error).splitlines()[0]}")
        print("ERROR: Benchmarking failed.", file=sys.stderr, flush=True)
        return 1
    init_us = int(1e6 * (time.perf_counter() - begin))
    say(f"Loaded model {'/other.tflite' if 'other' in MISBEHAVE else given['graph']}")
    for flag, delegate in (("use_xnnpack", "XNNPACK"), ("use_gpu", "GPU"), ("use_nnapi", "NNAPI")):
        if given.get(flag) == "true":
            delegated(delegate)
    say(f"The input model file size (MB): {os.path.getsize(given['graph']) / 1e6:g}")
    say(f"Initialized session in {init_us / 1e3:g}ms.")
    rng = np.random.default_rng(0)
    for detail in net.get_input_details():
        value = rng.uniform(-1, 1, detail["shape"]) * (100 if detail["dtype"] == np.int8 else 1)
        net.set_tensor(detail["index"], value.astype(detail["dtype"]))
    init_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    warm = phase(net, int(given["warmup_runs"]), float(given["warmup_min_secs"]), float(given["max_secs"]))
    runs = phase(net, int(given["num_runs"]), float(given["min_secs"]), float(given["max_secs"]))
    if "invoke" in MISBEHAVE:
        print("ERROR: Node number 3 (CONV_2D) failed to invoke.", file=sys.stderr, flush=True)
    overall_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if "cut" in MISBEHAVE:
        print("INFO: Inference timin", end="", flush=True)
        os._exit(0)
    say(
        f"Inference timings in us: Init: {init_us}, First inference: {warm[0]}, "
        f"Warmup (avg): {statistics.fmean(warm):g}, Inference (avg): {statistics.fmean(runs):g}"
    )
    say("Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE")
    init, overall = ((kib - before_kib) / 1024 for kib in (init_kib, overall_kib))
    say(f"Memory footprint delta from the start of the tool (MB): init={init:g} overall={overall:g}")
    return 0


def delegated(delegate: str) -> None:
    """What a delegate took."""
    say(f"{delegate} delegate created.")
    if "silent" in MISBEHAVE:
        return
    if "none" in MISBEHAVE:
        say(f"Though {delegate} delegate is explicitly applied, the model graph will not be executed by the delegate.")
        return
    how = "partially executed by the delegate w/ 2 delegate kernels" if "partly" in MISBEHAVE else ""
    how = how or "completely executed by the delegate"
    say(f"Explicitly applied {delegate} delegate, and the model graph will be {how}.")


def phase(net: object, least_runs: int, least_s: float, most_s: float) -> list[int]:
    """Run as often and as long as asked; tell the figures and return the single times in µs."""
    say(
        f"Running benchmark for at least {least_runs} iterations and at least {least_s:g} seconds but terminate if "
        f"exceeding {most_s:g} seconds."
    )
    draw(2_000_000)
    begin = now = time.perf_counter_ns()
    found: list[int] = []
    while (len(found) < least_runs or now < begin + least_s * 1e9) and now <= begin + most_s * 1e9:
        start = time.perf_counter_ns()
        for _ in range(SLOWER):
            net.invoke()  # type: ignore[attr-defined]
        now = time.perf_counter_ns()
        found.append((now - start) // 1000)
    draw(900_000)
    say(figures(found))
    print(flush=True)
    return found


def draw(power_uw: int) -> None:
    """Let the rail tell that power; renamed into place, as a file of /sys is never half written."""
    if rail := os.environ.get("RAIL"):
        with open(f"{rail}.new", "w", encoding="utf-8") as stream:
            stream.write(f"{power_uw}\n")
        os.replace(f"{rail}.new", rail)


def figures(found: list[int]) -> str:
    """As `Stat::OutputToStream` writes them."""
    count, ordered = len(found), sorted(found)
    if ordered[0] == ordered[-1]:
        return f"count={count} curr={found[-1]}" + ("(all same)" if count > 1 else "")
    head = f"count={count} first={found[0]} curr={found[-1]} min={ordered[0]} max={ordered[-1]}"
    head += f" avg={statistics.fmean(found):g} std={int(statistics.pstdev(found))}"
    if "old" in MISBEHAVE:
        return head
    p5, median, p95 = (ordered[min(int(count * p / 100), count - 1)] for p in (5, 50, 95))
    return f"{head} p5={p5} median={median} p95={p95}"


if __name__ == "__main__":
    sys.exit(main())
