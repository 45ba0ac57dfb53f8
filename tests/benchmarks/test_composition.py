"""How well rows add up to networks that the coefficients never saw.

One campaign a space measures blocks, the networks to fit on and the networks to predict, at one and at two threads and
all in turn, so every figure is a ratio inside one run. Two spaces: `digits`, whose blocks take 2 to 60 µs, and MBConv
networks at 224 × 224, which take some milliseconds (`mbconv224.toml`).

What the composition corrects, found by regressing the residuals of 60 networks of `digits` and 58 chains of segments:

- A block alone pays for a call of the runtime, 2 µs here: bare sums of `digits` read 23 % high.
- A block alone converts what it returns from channel-blocked to plain layout, 0.5 ns an element. Without that term the
  error on unseen networks was 3.6 % and on segments 4.6 %, with it 2.1 and 2.9 %. Kernel, squeeze-and-excitation, kind,
  number of operations, elements read or parameters explain no more than chance.
- At 224 × 224 weights of a network leave the second-level cache and those of a block alone do not: bare sums read 7 to
  18 % low, and each weight costs 0.1 ns more in a network.
- At 224 × 224 one network takes 5 to 14 % more or less from one load to the next (where its memory lies), and hardly
  anything inside a load: 25 sessions of 10 runs brought the error from 2.3 to 3.0 % (7 sessions of 30 runs) to 1.2 %.

Why two threads on `digits` are hard: the runtime splits only operations with work enough, and the second thread sleeps
after a run. So most blocks alone wake it once a run (a block of 5 µs takes 14, one of 9 takes 19, one of 12 takes 23),
blocks too small to split never do (2.6 µs stay 2.7), and a network wakes it once and again after each stretch of small
operations. Bare sums read 77 % high, and no single call cost fits: it cannot exceed the smallest row, and 8 µs would be
right for the others (error 9 to 15 %). Fitted apart, a network pays 15 to 22 µs and each row saves 8: 4 %. What is left
is when the thread wakes, which differs from run to run; without spinning all times double, and the error is 4 to 7 %.

On two idle cores (0.02 of them used by others), seed 20: MBConv at one thread 1.17 %, rank .9947, at two threads
1.23 %, .9942, each on 30 unseen networks of one to four blocks a stage. With at most three a stage a third of the
networks lay within 7 % of each other, and the rank, .979, told of that.

The speed of a machine that others use steps by a third for seconds at a time. A figure that is missed while others kept
more than a tenth of a core busy is inconclusive (skipped, and says so); on a quiet machine it fails.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hwbench import fit, profiling
from hwbench.board import open_board
from hwbench.composition import Composition, Error
from hwbench.measurement import Measurement
from hwbench.profiling import Job
from hwbench.session import WindowSpec
from hwbench.setting import Setting
from hwbench.source import Source
from hwbench.store import Store
from hwbench.target_file import find_target
from hwbench.workload import Bundle

SEED, THREADS = 20, (1, 2)
QUIET_CORES = 0.1
# name -> (space, networks to fit on, unseen networks, sessions, window)
SPACES = {
    "digits": ("digits", 12, 40, 7, WindowSpec(min_runs=30, min_time_s=0.02, max_time_s=5.0)),
    "mbconv224": (
        str(Path(__file__).with_name("mbconv224.toml")),
        24,
        30,
        25,
        WindowSpec(min_runs=10, min_time_s=0.02, max_time_s=5.0),
    ),
}
# (name, threads) -> largest error in percent, smallest rank correlation; without an entry it is only stated.
ASKED = {("digits", 1): (2.0, 0.99), ("mbconv224", 1): (2.0, 0.99), ("mbconv224", 2): (5.0, 0.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One space at one number of threads.

    error, bare: of the composition and of the plain sum, on unseen networks.  busy_cores: kept busy by other processes
    and by the hypervisor while windows were open.
    """

    name: str
    threads: int
    composition: Composition
    error: Error
    bare: Error
    busy_cores: float
    load: float

    def line(self) -> str:
        """A line of the table."""
        asked = ASKED.get((self.name, self.threads))
        wanted = "stated" if asked is None else f"<= {asked[0]:.0f} %" + (f", >= {asked[1]}" if asked[1] else "")
        return (
            f"{self.name:<10} {self.threads:>7}  {wanted:<15} {self.error.mape_percent:5.2f} %  "
            f"{self.error.bias_percent:+6.2f} %  {self.error.spearman:8.4f}  {self.error.n:>3}  "
            f"{self.bare.bias_percent:+6.1f} %  {self.composition.error.mape_percent:5.2f} %  {SEED:>4}  "
            f"{self.busy_cores:5.2f} of {os.cpu_count()}  {self.load:5.1f}"
        )


HEADER = (
    "composition                            error on                              bare   left-         others used\n"
    "space      threads  asked            unseen      bias    spearman    n   sum bias    out   seed      cores   load"
)


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Figure]:
    """All figures, by space and threads: two campaigns of some minutes together."""
    return {
        (name, figure.threads): figure for name in SPACES for figure in measured(name, tmp_path_factory.mktemp(name))
    }


def measured(name: str, folder: Path) -> list[Figure]:
    """One campaign: all blocks of a space and its random networks, at each number of threads."""
    space, fitted_on, unseen, sessions, how = SPACES[name]
    job = Job(
        target=find_target("host"),
        backend="onnxruntime",
        source=Source.of(space=space, model=None),
        threads=THREADS,
        sessions=sessions,
        networks=fitted_on + unseen,
        seed=SEED,
        how=how,
    )
    with Store(folder / "store.sqlite") as store, open_board(job.target, backend=job.backend, wait=True) as board:
        whole = job.source.bundle(formats=("onnx",), out=folder / "bundle", networks=job.networks, seed=job.seed)
        fitted, hidden = split(whole, fitted_on)
        blocks = [w.block_key for w in whole.blocks]
        measurements = profiling.measure(job, [board], whole.only([*blocks, *fitted, *hidden]), store)
    return [figure(name, whole, measurements, setting, set(fitted), set(hidden)) for setting in job.settings]


def split(bundle: Bundle, fitted_on: int) -> tuple[list[str], list[str]]:
    """The first networks with their segments, as a profile would fit on; the other networks, which no fit sees."""
    keys = [w.block_key for w in bundle.workloads if w.parts]
    networks = [w.block_key for w in bundle.workloads if w.kind == "network"]
    # A segment follows the network that it was cut from; one that a later network shares is known by then.
    return keys[: keys.index(networks[fitted_on])], networks[fitted_on:]


def figure(
    name: str, bundle: Bundle, found: list[Measurement], setting: Setting, fitted: set[str], hidden: set[str]
) -> Figure:
    """Fit on some, predict the others."""
    kinds = {w.block_key: w.kind for w in bundle.workloads}
    rows = {m.cell: fit.row_of(m, kinds[m.cell.block_key]) for m in found if m.cell.setting == setting}
    parts = {w.block_key: w.parts for w in bundle.workloads}
    returned = fit.elements_returned(bundle)
    (composition,) = (
        c
        for c in fit.compositions(
            rows,
            {k: parts[k] for k in fitted},
            returned,
            weights={w.block_key: w.params for w in bundle.workloads if w.params is not None},
        )
        if c.metric == "latency_ms" and c.setting == setting.without_clocks
    )
    unseen = fit.samples(rows, {k: parts[k] for k in hidden}, returned, "latency_ms", setting)
    windows = [w for m in found if m.cell.setting == setting for w in m.windows]
    lost_ms = sum(w.noise.get("others_ms", 0.0) + w.noise.get("steal_ms", 0.0) for w in windows)
    open_ms = sum(int(w.warmup_ns.sum()) + int(w.run_ns.sum()) for w in windows) / 1e6
    return Figure(
        name=name,
        threads=setting.threads or 1,
        composition=composition,
        error=Error.of(unseen.predict(composition), unseen.measured),
        bare=Error.of(unseen.sums, unseen.measured),
        busy_cores=lost_ms / open_ms,
        load=os.getloadavg()[0],
    )


def test_unseen_networks_are_those_that_no_fit_knows(tmp_path: Path) -> None:
    """Forty networks are predicted, twelve and their segments are fitted on, none is both."""
    bundle = Source.of(space="digits", model=None).bundle(formats=(), out=tmp_path, networks=12 + 40, seed=SEED)
    fitted, hidden = split(bundle, 12)
    assert 40 == len(hidden)
    assert 12 == sum(bundle.workload(k).kind == "network" for k in fitted)
    assert not set(fitted) & set(hidden)


def test_the_table_of_figures(figures: dict[tuple[str, int], Figure], capsys: pytest.CaptureFixture[str]) -> None:
    """States every figure, two threads on `digits` among them, with the state of the machine."""
    with capsys.disabled():
        print("\n".join(["", HEADER, *(figure.line() for figure in figures.values())]))
    assert {(name, threads) for name in SPACES for threads in THREADS} == set(figures)
    assert all(np.isfinite(figure.error.mape_percent) for figure in figures.values())


@pytest.mark.parametrize(("name", "threads"), list(ASKED))
def test_unseen_networks_are_predicted_as_asked(
    name: str, threads: int, figures: dict[tuple[str, int], Figure]
) -> None:
    """Error and rank correlation on networks that the fit never saw."""
    found, (largest, smallest) = figures[name, threads], ASKED[name, threads]
    reached = found.error.mape_percent <= largest and found.error.spearman >= smallest
    if not reached and found.busy_cores > QUIET_CORES:
        pytest.skip(
            f"inconclusive: others used {found.busy_cores:.2f} cores; {found.error.mape_percent:.2f} % and "
            f"{found.error.spearman:.4f} where {largest:g} % and {smallest:g} are asked"
        )
    assert found.error.mape_percent <= largest
    assert found.error.spearman >= smallest
