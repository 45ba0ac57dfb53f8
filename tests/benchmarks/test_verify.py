"""Whether a search keeps its promises when its designs run, and how much memory the whole loop takes.

One run of the demo (profile, search for latency and for energy, verify, report) in a fresh folder, its process tree
watched meanwhile; then ten designs of its search for latency run again on real inputs, sample by sample.

Verify asks: mean latency within 5 % of the promise for at least nine designs of ten, accuracy on the same samples
within 0.5 points for all. The promise comes from the table that was measured some minutes before, so a machine whose
speed changed meanwhile breaks it too. The figure is then inconclusive (skipped, and says so) where the table's own
blocks have changed speed by more than 2.5 %, half of what is asked; else it fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from hwbench.pytest_plugin import HwbenchSeconds

ROOT = Path(__file__).parents[2]
DESIGNS = 10
LATENCY, ACCURACY = 0.05, 0.005
MEMORY_BYTES = 2 * 1024**3
DRIFT_PERCENT = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """A finished demo: where it ran, how long, and the most memory that all its processes held at once."""

    folder: Path
    seconds: float
    peak_bytes: int
    processes: int


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`python -m search.demo`, watched ten times a second."""
    folder = tmp_path_factory.mktemp("demo")
    begin = time.monotonic()
    with (folder / "demo.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "search.demo"], cwd=folder, env=_environment(), stdout=log, stderr=subprocess.STDOUT
        )
        watch = _Watch(process.pid)
        code = process.wait()
        peak_bytes, processes = watch.stop()
    assert code == 0, (folder / "demo.log").read_text(errors="replace")[-4000:]
    return Demo(folder=folder, seconds=time.monotonic() - begin, peak_bytes=peak_bytes, processes=processes)


def test_the_demo_stays_below_two_gibibytes(
    demo: Demo, capsys: pytest.CaptureFixture[str], hwbench_seconds: HwbenchSeconds
) -> None:
    """All processes together, shared pages counted once."""
    hwbench_seconds(demo.seconds)
    with capsys.disabled():
        print(
            "\ndemo                             peak MiB   allowed   processes   minutes\n"
            f"process tree, proportional set   {demo.peak_bytes / 2**20:8.0f}   {MEMORY_BYTES / 2**20:7.0f}   "
            f"{demo.processes:9}   {demo.seconds / 60:7.1f}"
        )
    assert 0 < demo.peak_bytes < MEMORY_BYTES


def test_designs_do_on_real_inputs_what_the_search_promised(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten designs over the front, each in three fresh processes."""
    (run,) = demo.folder.glob("runs/demo-*/latency")
    verified = json.loads(_call(demo.folder, "search", "verify", str(run), "--designs", str(DESIGNS), "--json"))
    assert DESIGNS == len(verified)
    off = [float(v["measured_latency_ms"]) / float(v["predicted_latency_ms"]) - 1 for v in verified]
    points = [abs(float(v["measured_accuracy"]) - float(v["predicted_accuracy"])) for v in verified]
    kept = sum(abs(error) <= LATENCY for error in off)
    drift = _drift(demo.folder)
    with capsys.disabled():
        print(
            "\nverify                           asked           measured\n"
            f"latency within 5 % of promise    >= 9 of 10      {kept} of {len(off)} "
            f"({', '.join(f'{100 * error:+.1f}' for error in off)} %)\n"
            f"accuracy, same samples           <= 0.50 points  {100 * max(points):.2f} points at most\n"
            f"blocks since the table           -               {drift:+.1f} % (load {os.getloadavg()[0]:.1f})"
        )
    assert max(points) <= ACCURACY
    if kept < 0.9 * len(off) and abs(drift) > DRIFT_PERCENT:
        pytest.skip(f"inconclusive: {kept} of {len(off)} kept, and the machine's speed changed by {drift:+.1f} %")
    assert kept >= 0.9 * len(off)


def _drift(folder: Path) -> float:
    """Percent by which the table's own blocks run slower now."""
    (tables,) = folder.glob("runs/demo-*/latency_tables")
    table = tables / "host" / "onnxruntime-digits"
    options = ["--table", str(table), "--networks", "4", "--seed", "1", "--window", "0.05", "--json"]
    told = json.loads(_call(folder, "hwbench", "table", "validate", *options))
    return float(told[0]["drift"])


def _call(folder: Path, module: str, *arguments: str) -> str:
    """Standard output of a command; 1 is a finding, which is judged here."""
    done = subprocess.run(
        [sys.executable, "-m", f"{module}.cli", *arguments],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


class _Watch:
    """The largest sum of memory over a process and all that descend from it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._seen: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> tuple[int, int]:
        """Peak in bytes, number of processes seen."""
        self._over.set()
        self._thread.join()
        return self._peak, len(self._seen)

    def _look(self) -> None:
        while not self._over.wait(0.1):
            tree = _tree(self._pid)
            self._seen |= tree
            self._peak = max(self._peak, sum(_held_bytes(pid) for pid in tree))


def _tree(root: int) -> set[int]:
    """A process and its descendants, of whatever session."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in parentheses may hold spaces; the parent is the second field behind it.
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree


def _held_bytes(pid: int) -> int:
    """Proportional set size, so that pages shared by a process and its children count once; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
