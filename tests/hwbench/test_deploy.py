"""A plan from a bundle to its answers, with the real runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hwbench.agent_backend import AgentBackend
from hwbench.backends import onnxruntime as ort_backend
from hwbench.deploy import run_plan
from hwbench.errors import DeviceError
from hwbench.links import local
from hwbench.links.local import LocalLink
from hwbench.session import Prepared, Session
from hwbench.setting import Setting
from hwbench.workload import Bundle, Workload
from tests.contracts.session import SHORT
from tests.hwbench.exit_graphs import CPU1, chain_plan, onnx_bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A backend on a link: all that a plan needs of a board."""

    backend: AgentBackend
    link: LocalLink

    def prepare_together(self, bundle: Bundle, workloads: Sequence[Workload], setting: Setting) -> list[Prepared]:
        """Push."""
        return self.backend.prepare_together(self.link, bundle, workloads, setting)

    def session(self, setting: Setting) -> Session:
        """A fresh agent."""
        return self.backend.session(self.link, setting)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """ONNX Runtime on this machine."""
    return Bench(backend=ort_backend.open({}), link=local.open({"workdir": tmp_path / "board"}))


def test_an_array_and_its_file_give_the_same_answers(bench: Bench, tmp_path: Path, rng: np.random.Generator) -> None:
    """And the same again in another process."""
    bundle = onnx_bundle(tmp_path / "bundle")
    data = rng.standard_normal((30, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "data.npy", data)
    first = run_plan(bench, bundle, chain_plan(0.5), CPU1, data)
    second = run_plan(bench, bundle, chain_plan(0.5), CPU1, tmp_path / "data.npy")
    assert 30 == len(first.answer)
    np.testing.assert_array_equal(first.answer, second.answer)
    np.testing.assert_array_equal(first.node, second.node)


def test_an_open_session_is_left_as_it_was(bench: Bench, tmp_path: Path, rng: np.random.Generator) -> None:
    """What the plan loaded is gone, and the session still answers."""
    bundle = onnx_bundle(tmp_path / "bundle")
    data = rng.standard_normal((10, 3, 8, 8)).astype(np.float32)
    with bench.session(CPU1) as session:
        once = run_plan(bench, bundle, chain_plan(0.5), CPU1, data, session=session)
        with pytest.raises(DeviceError, match="'first' is not loaded"):
            session.window(["first"], SHORT, ())
        again = run_plan(bench, bundle, chain_plan(0.5), CPU1, data, session=session)
    np.testing.assert_array_equal(once.answer, again.answer)
