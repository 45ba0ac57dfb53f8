"""Real sessions for the gate's figures, collected piece by piece: an interrupted collection goes on where it stopped.

    python -m tests.benchmarks.gate_pool FOLDER [--sessions 120] [--more 6]

Both arms hold the same 40 graphs, so any difference between them is noise. Sessions go on in turns: a few on the
machine as it is, a few beside a neighbour that keeps one core busy. FOLDER keeps the store of each condition, and what
the statistics need of it as `clean.npz` and `noisy.npz`.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hwbench.board import open_board
from hwbench.campaign import campaign
from hwbench.session import WindowSpec
from hwbench.store import Store
from hwbench.target_file import find_target
from hwbench.workload import Bundle
from tests.doubles.networks import matmul_bundle

ROWS = 40
# A twentieth of the gate's own windows: noisier than those, so what the gate finds here it finds there.
HOW = WindowSpec(warmup=5, min_runs=15, min_time_s=0.01, max_time_s=1.0)
CONDITIONS = ("clean", "noisy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What was kept of each window, (rows, sessions) ms: the median and the tenth percentile of its runs, by arm.

    Sessions are whole: both arms of all rows were measured in one process.
    """

    base: np.ndarray
    new: np.ndarray
    base_low: np.ndarray
    new_low: np.ndarray

    @property
    def sessions(self) -> int:
        """How many there are."""
        return int(self.base.shape[1])

    @classmethod
    def read(cls, file: Path) -> Pool:
        """The pool in a file; FileNotFoundError where none was collected."""
        with np.load(file, allow_pickle=False) as data:
            return cls(**{name: data[name].astype(np.float64) for name in ("base", "new", "base_low", "new_low")})

    def write(self, file: Path) -> None:
        """Keep it in single precision, which errs by less than a clock tick."""
        arrays = {name: getattr(self, name).astype(np.float32) for name in ("base", "new", "base_low", "new_low")}
        temporary = file.with_suffix(".part.npz")
        np.savez_compressed(temporary, **arrays)
        temporary.replace(file)


def _spin() -> None:
    while True:
        sum(range(1000))


@contextmanager
def neighbour(noisy: bool) -> Iterator[None]:
    """Somebody else who keeps a core busy."""
    if not noisy:
        yield
        return
    worker = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    worker.start()
    try:
        yield
    finally:
        worker.kill()
        worker.join()


def bundle_of(folder: Path) -> Bundle:
    """40 graphs twice; products of 48 to 282 columns take 5 microseconds to half a millisecond."""
    plain = matmul_bundle(folder, [48 + 6 * row for row in range(ROWS)])
    arms = [
        replace(w, block_key=f"{arm}.{row:02d}") for arm in ("base", "new") for row, w in enumerate(plain.workloads)
    ]
    return Bundle(root=plain.root, space=None, workloads=tuple(arms))


def collect(folder: Path, noisy: bool, sessions: int) -> Pool:
    """The pool with that many sessions: those that the folder holds, and new ones."""
    place = folder / CONDITIONS[noisy]
    place.mkdir(parents=True, exist_ok=True)
    target = find_target("host")
    with open_board(target) as board, Store(place / "store.sqlite", durable=False) as store, neighbour(noisy):
        windows = {
            m.cell.block_key: [w.run_ns for w in m.windows]
            for m in campaign(
                [board],
                bundle_of(place / "bundle"),
                target.settings(None, "found"),
                store,
                sessions=sessions,
                # A generator of its own for each piece, so that no order comes twice.
                rng=np.random.default_rng(sessions),
                how=HOW,
                # As the gate does: both arms of a row follow each other.
                together=lambda cell: (cell.block_key.partition(".")[2], cell.setting),
            )
        }

    def values(arm: str, percent: float) -> np.ndarray:
        rows = [windows[f"{arm}.{row:02d}"] for row in range(ROWS)]
        return np.array([[float(np.percentile(runs, percent)) / 1e6 for runs in row] for row in rows])

    pool = Pool(base=values("base", 50), new=values("new", 50), base_low=values("base", 10), new_low=values("new", 10))
    pool.write(folder / f"{CONDITIONS[noisy]}.npz")
    return pool


def there(folder: Path, noisy: bool) -> int:
    """How many sessions the folder holds."""
    file = folder / f"{CONDITIONS[noisy]}.npz"
    return Pool.read(file).sessions if file.exists() else 0


def main() -> None:
    """Collect up to `--more` sessions of the condition that has fewer, and say how many there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sessions", type=int, default=120, help="how many in all, of each condition")
    parser.add_argument("--more", type=int, help="how many in this call at most; default: all that are missing")
    asked = parser.parse_args()
    left = asked.more or 2 * asked.sessions
    while left > 0 and (fewest := min(CONDITIONS, key=lambda c: there(asked.folder, c == "noisy"))):
        noisy = fewest == "noisy"
        have = there(asked.folder, noisy)
        if have >= asked.sessions:
            break
        more = min(10, left, asked.sessions - have)
        collect(asked.folder, noisy, have + more)
        left -= more
    print(", ".join(f"{there(asked.folder, c == 'noisy')} {c}" for c in CONDITIONS), f"of {asked.sessions} sessions")


if __name__ == "__main__":
    main()
