"""Plans on a runtime that cannot branch: this machine decides, the board's times are added up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench.backends import litert, nnapi
from hwbench.deploy import run_plan
from hwbench.errors import ConfigError
from hwbench.links import local
from hwbench.replay import replayed
from hwbench.session import Answers, Prepared, Session
from hwbench.setting import Setting
from hwbench.workload import Bundle, Leave, Node, Patience, Plan, Workload
from tests.doubles.tool import install_benchmark_model
from tests.hwbench.exit_graphs import CPU1, chain_plan, litert_bundle

pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed")


class Phone:
    """A board that has only the tool."""

    def __init__(self, folder: Path) -> None:
        self._link = local.open({"workdir": folder / "board"})
        tool = install_benchmark_model(folder / "benchmark_model", "slow:100")
        self._backend = nnapi.open({"tool": str(tool)})

    def prepare_together(self, bundle: Bundle, workloads: list[Workload], setting: Setting) -> list[Prepared]:
        return self._backend.prepare_together(self._link, bundle, workloads, setting)

    def session(self, setting: Setting) -> Session:
        return self._backend.session(self._link, setting)


@pytest.fixture
def bundle(tmp_path: Path, root: Path) -> Bundle:
    """Two exits, recorded."""
    return litert_bundle(tmp_path / "bundle", root / "tests" / "recordings")


@pytest.fixture
def data(rng: np.random.Generator) -> np.ndarray:
    """Samples of which some leave early."""
    return rng.standard_normal((40, 3, 8, 8)).astype(np.float32)


def _here(bundle: Bundle, plan: Plan, setting: Setting, data: np.ndarray, folder: Path) -> Answers:
    """The plan answered by this machine's LiteRT."""
    link, backend = local.open({"workdir": folder / "here"}), litert.open({})
    np.save(folder / "data.npy", data)
    with backend.session(link, setting) as session:
        for workload in bundle.workloads:
            session.load(backend.prepare(link, bundle, workload, setting))
        return session.answer(plan, folder / "data.npy", ())


@pytest.mark.parametrize(("precision", "patience"), [("fp32", False), ("int8", False), ("fp32", True)])
def test_a_phone_gets_this_machines_verdicts_and_its_own_times(
    precision: str, patience: bool, bundle: Bundle, data: np.ndarray, tmp_path: Path
) -> None:
    """Each sample takes as long as the graphs that ran for it, and the answers say that they are replayed."""
    setting = Setting(unit="cpu", precision=precision, threads=1)
    first = _here(bundle, chain_plan(2.0), setting, data, tmp_path)
    plan = chain_plan(float(np.median(first.node_scores[:, 0])))
    if patience:
        data = 10 * data  # far from what these graphs are made for, their classes differ from input to input
        chain = chain_plan(*[0.0] * 5)
        plan = replace(chain, nodes=tuple(replace(n, leave=n.leave and Patience(agree=2)) for n in chain.nodes))
    expected = _here(bundle, plan, setting, data, tmp_path)
    answers = run_plan(Phone(tmp_path), bundle, plan, setting, data, replay=True)
    left = sorted(set(answers.node.tolist()))
    assert len(left) > 1
    np.testing.assert_array_equal(expected.node, answers.node)
    np.testing.assert_array_equal(expected.answer, answers.answer)
    times = [set(answers.t_ns[answers.node == n].tolist()) for n in left]
    assert [1] * len(left) == [len(t) for t in times]
    assert 0 < min(times[0]) and times == sorted(times, key=min)
    assert answers.replayed and "predicted:measured" == str(answers.evidence)
    assert not expected.replayed and "measured" == str(expected.evidence)


def test_unless_it_is_asked_for_nothing_is_replayed(bundle: Bundle, data: np.ndarray, tmp_path: Path) -> None:
    """A number that was put together must be wanted as such."""
    with pytest.raises(ConfigError, match="benchmark_model cannot answer inputs"):
        run_plan(Phone(tmp_path), bundle, chain_plan(0.5), CPU1, data)


def test_a_sample_takes_the_sum_of_the_nodes_that_ran() -> None:
    """Also where the last node that ran does not answer: then an earlier one is told, but all of them ran."""
    plan = Plan(
        name="p",
        nodes=(
            Node(node="a", block_key="x", after=None, leave=Leave(output="score", at=0.5), answers=True),
            Node(node="b", block_key="y", after="a", leave=None, answers=True),
            Node(node="c", block_key="x", after="b", leave=None, answers=False),
        ),
    )
    nan = np.nan
    answers = Answers(
        node=np.array([0, 1, 1], dtype=np.int16),
        answer=np.array([3, 4, 5]),
        score=np.array([0.5, 0.1, 0.2], dtype=np.float32),
        t_ns=np.array([9, 9, 9]),
        node_scores=np.array([[0.5, nan, nan], [0.4, 0.1, nan], [0.1, 0.2, nan]], dtype=np.float32),
        start_ns=1,
        end_ns=2,
    )
    assert [100, 210, 210] == replayed(plan, answers, {"x": 100.0, "y": 10.0}).t_ns.tolist()
