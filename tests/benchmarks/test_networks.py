"""How well networks never measured are predicted from some that were, on measurements of real boards by others.

NAS-Bench-201 and FBNet networks of HW-NAS-Bench, HELP and OneProxy (all MIT). Name the folder that holds `hwnasbench/`,
`help/` and `oneproxy/` in HWBENCH_PUBLISHED_DATA; without it these are skipped. Beside each figure stand a ridge on the
operations of each edge that reach the output, with the same networks to learn from, and the rank of FLOPs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from hwbench import statistics
from hwbench.decoder import decoder
from hwbench.fit_networks import fit_networks
from hwbench.network_model import NetworkModel
from hwbench.networks_file import Networks
from tests.benchmarks import published

SEEDS = range(6)
TOLD = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """rank, within: what is reached at least, on average over the seeds."""

    file: str
    column: str
    rank: float
    within: float


BOARDS = {
    "Raspberry Pi 4": Board(file="hw", column="raspi4_latency_ms", rank=0.984, within=0.70),
    "Pixel 3": Board(file="hw", column="pixel3_latency_ms", rank=0.983, within=0.73),
    "Jetson TX2": Board(file="hw", column="edgegpu_latency_ms", rank=0.985, within=0.94),
    "Jetson TX2, energy": Board(file="hw", column="edgegpu_energy_mj", rank=0.985, within=0.93),
    "Coral": Board(file="hw", column="edgetpu_latency_ms", rank=0.995, within=0.98),
    "Jetson Nano": Board(file="one", column="jetson_nano_fp32_ms", rank=0.980, within=0.985),
}


@pytest.fixture(scope="module")
def columns() -> dict[str, dict[str, np.ndarray]]:
    """Columns of the NAS-Bench-201 files, by name of the file; FLOPs stand with each."""
    return published.cells()


def _some(archs: np.ndarray, values: np.ndarray, which: np.ndarray) -> Networks:
    return Networks(family="nas-bench-201", archs=tuple(archs[which]), values={"latency_ms": values[which]})


def _score(predicted: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    return statistics.spearman(predicted, measured), float(np.mean(np.abs(predicted / measured - 1) <= 0.1))


def _ridge(archs: np.ndarray, values: np.ndarray, told: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Operations of each edge that reach the output, one-hot; the constant is not penalised."""
    reading = decoder("nas-bench-201")(list(archs)).readings[0]
    hot = np.eye(5)[reading.places][:, :, 1:].reshape(len(archs), -1)
    mean = hot[told].mean(axis=0)
    seen = hot[told] - mean
    slope = np.linalg.solve(seen.T @ seen + np.eye(seen.shape[1]), seen.T @ (values[told] - values[told].mean()))
    return np.asarray(values[told].mean() + (hot[asked] - mean) @ slope)


@pytest.mark.parametrize("name", BOARDS)
def test_300_networks_tell_the_rest(name: str, columns: dict[str, dict[str, np.ndarray]]) -> None:
    """Rank correlation and share within 10 %, of the model and of a ridge on the same networks."""
    board = BOARDS[name]
    data = columns[board.file]
    archs, values = data["arch_str"], data[board.column].astype(float)
    ran = np.flatnonzero(np.isfinite(values) & (values > 0))
    scores, ridges, covered = [], [], []
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(ran)
        told, asked = order[:TOLD], order[TOLD:]
        found = fit_networks(_some(archs, values, told), "latency_ms").predict(list(archs[asked]))
        scores.append(_score(found.value, values[asked]))
        ridges.append(_score(_ridge(archs, values, told, asked), values[asked]))
        covered.append(np.mean((values[asked] >= found.low) & (values[asked] <= found.high)))
    (rank, within), (rank_0, within_0) = np.mean(scores, axis=0), np.mean(ridges, axis=0)
    flops = statistics.spearman(data["flops_m"][ran], values[ran])
    print(
        f"\n{name}, {TOLD} of {len(ran)}, {len(SEEDS)} seeds: Spearman {rank:.4f}, within 10 % {within:.1%}, intervals "
        f"hold {np.mean(covered):.1%}; ridge {rank_0:.4f}, {within_0:.1%}; FLOPs {flops:.2f}"
    )
    assert rank >= board.rank
    assert within >= board.within
    assert 0.92 <= np.mean(covered) <= 0.98


def test_what_cannot_run_on_a_coral_is_told(columns: dict[str, dict[str, np.ndarray]]) -> None:
    """300 networks, a third of which could not be measured: 97 % of the rest are told right."""
    data = columns["hw"]
    archs, values = data["arch_str"], data["edgetpu_latency_ms"].astype(float)
    right = []
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(values))
        model = fit_networks(_some(archs, values, order[:TOLD]), "latency_ms")
        runs = model.predict(list(archs[order[TOLD:]])).runs
        right.append(np.mean(runs == np.isfinite(values[order[TOLD:]])))
    print(f"\nCoral, whether a network runs: {np.mean(right):.2%} right, {np.min(right):.2%} at worst")
    assert np.mean(right) >= 0.97


def test_more_networks_tell_more(columns: dict[str, dict[str, np.ndarray]]) -> None:
    """The learning curve of a Raspberry Pi 4, up to 6,000 networks, the others being asked."""
    data = columns["hw"]
    archs, values = data["arch_str"], data["raspi4_latency_ms"].astype(float)
    order, ranks = np.random.default_rng(0).permutation(len(values)), []
    for told in (100, 300, 1000, 3000, 6000):
        model: NetworkModel = fit_networks(_some(archs, values, order[:told]), "latency_ms")
        rank, within = _score(model.predict(list(archs[order[6000:]])).value, values[order[6000:]])
        print(f"\nRaspberry Pi 4, {told} networks: Spearman {rank:.4f}, within 10 % {within:.1%}", end="")
        ranks.append(rank)
    assert ranks[-1] > ranks[0]
    assert ranks[-1] >= 0.985


def test_published_sums_are_found_exactly() -> None:
    """FBNet on a Raspberry Pi 4: the published values are sums of blocks, and 300 networks tell the other 4,700."""
    data = published.read("help/fbnet5000_cifar100_latency.parquet")
    archs = [" ".join(map(str, row)) for row in zip(*(data[f"op_{i:02d}"] for i in range(22)), strict=True)]
    values = data["raspi4_ms"]
    model = fit_networks(
        Networks(family="fbnet", archs=tuple(archs[:TOLD]), values={"latency_ms": values[:TOLD]}), "latency_ms"
    )
    off = np.abs(model.predict(archs[TOLD:]).value / values[TOLD:] - 1)
    print(f"\nFBNet on a Raspberry Pi 4: largest error {off.max():.1e}")
    assert model.correction is None
    assert off.max() < 1e-9
