"""Real windows as the agent takes them, one process a session, for the figures of steadiness and of intervals.

    python -m tests.benchmarks.window_pool FOLDER CONDITION SECONDS

Each call adds what it can measure in so many seconds to FOLDER/CONDITION, one file a session. CONDITION: `clean` = the
machine as it is, `noisy` = beside a neighbour that keeps one core busy. Every window is the first one taken, steady or
not. A control workload of 20 ms runs before each.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hwbench.agent import protocol
from hwbench.agent.executor import Executor
from tests.benchmarks.gate_pool import CONDITIONS, neighbour
from tests.doubles.networks import matmul_bundle

# Ten microseconds to ten milliseconds.
COLUMNS = (96, 144, 192, 256, 384, 512, 768, 1024)
CONTROL = "matmul-96"
_WINDOW = {"min_runs": 50, "min_time_s": 0.2, "max_time_s": 10.0}
_CONTROL = {"min_runs": 20, "min_time_s": 0.02, "max_time_s": 1.0, "warmup": 5}


def session(bundle_root: str, file: str, seed: int) -> None:
    """Measure all graphs in a random order in this process, and leave what was seen in a file."""
    root = Path(bundle_root)
    found: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        agent = Executor("ort", folder)
        _load(agent, root, CONTROL, "control")
        order = np.random.default_rng(seed).permutation(COLUMNS)
        for place, columns in enumerate(order):
            control, _ = _window(agent, "control", _CONTROL)
            _load(agent, root, f"matmul-{columns}", "cell")
            runs, noise = _window(agent, "cell", _WINDOW)
            agent.drop({"block_key": "cell"})
            found[f"runs.{columns}"] = runs.astype(np.int32)
            told = [noise.get(n, np.nan) for n in ("steal_ms", "others_ms", "involuntary_switches")]
            # When, which place in the session, what the control took, and who else was there.
            found[f"about.{columns}"] = np.array([time.time(), place, float(np.median(control)), *told])
        control, _ = _window(agent, "control", _CONTROL)
        found["control_last_ns"] = np.array(np.median(control))
    part = Path(file).with_suffix(".part.npz")
    np.savez_compressed(part, **found)
    part.replace(file)


def _load(agent: Executor, root: Path, workload: str, key: str) -> None:
    path = root / f"{workload}.onnx"
    agent.load(
        {
            "block_key": key,
            "path": str(path),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "setting": {"unit": "cpu", "precision": "fp32", "batch": 1, "threads": 1},
        }
    )


def _window(agent: Executor, key: str, how: dict[str, Any]) -> tuple[np.ndarray, dict[str, float]]:
    said = agent.window({"chain": [key], **how})
    packed = said["arrays"]
    if "npz" not in packed:
        return protocol.unpack_inline(packed)["run_ns"], said["noise"]
    with np.load(packed["npz"], allow_pickle=False) as arrays:
        return np.array(arrays["run_ns"]), said["noise"]


def read(folder: Path, condition: str) -> Iterator[dict[str, np.ndarray]]:
    """The sessions of a condition in the order they were measured."""
    for file in sorted((folder / condition).glob("session-*.npz")):
        with np.load(file, allow_pickle=False) as data:
            yield {name: data[name] for name in data.files}


def main() -> None:
    """Measure sessions of one condition until the seconds are over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("condition", choices=CONDITIONS)
    parser.add_argument("seconds", type=float)
    asked = parser.parse_args()
    place = asked.folder / asked.condition
    place.mkdir(parents=True, exist_ok=True)
    matmul_bundle(asked.folder / "bundle", COLUMNS)
    end = time.monotonic() + asked.seconds
    number = len(list(place.glob("session-*.npz")))
    with neighbour(asked.condition == "noisy"):
        while time.monotonic() < end:
            file = place / f"session-{number:04d}.npz"
            process = multiprocessing.get_context("spawn").Process(
                target=session, args=(str(asked.folder / "bundle"), str(file), number)
            )
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"session {number} ended with {process.exitcode}")
            number += 1
    print(f"{number} {asked.condition} sessions")


if __name__ == "__main__":
    main()
