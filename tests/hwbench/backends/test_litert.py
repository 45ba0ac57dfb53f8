"""LiteRT on this machine, float and static int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench.backend import Backend
from hwbench.backends import litert
from hwbench.link import Link
from hwbench.links import local
from hwbench.setting import Setting
from hwbench.workload import Bundle
from tests.contracts.backend import BackendContract
from tests.contracts.session import SHORT
from tests.hwbench.exit_graphs import CPU1, chain_plan, litert_bundle

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed")
INT8 = Setting(unit="cpu", precision="int8", threads=1)


class TestLitert(BackendContract):
    """The contract with the real runtime."""

    @pytest.fixture
    def link(self, tmp_path: Path) -> Link:
        """This machine."""
        return local.open({"workdir": tmp_path / "board"})

    @pytest.fixture
    def backend(self) -> Backend:
        """As a target without options opens it."""
        return litert.open({})

    @pytest.fixture
    def bundle(self, tmp_path: Path, root: Path) -> Bundle:
        """Two exits, recorded."""
        return litert_bundle(tmp_path / "bundle", root / "tests" / "recordings")

    @pytest.fixture
    def settings(self) -> list[Setting]:
        """Both precisions."""
        return [CPU1, INT8]

    @pytest.mark.parametrize("setting", [CPU1, INT8], ids=["fp32", "int8"])
    def test_a_cascade_answers_as_the_interpreter_alone_does(
        self,
        setting: Setting,
        backend: Backend,
        link: Link,
        bundle: Bundle,
        tmp_path: Path,
        rng: np.random.Generator,
    ) -> None:
        """Quantised at the first input and again between scales; a graph that stands twice keeps its outputs apart."""
        data = rng.standard_normal((40, 3, 8, 8)).astype(np.float32)
        np.save(tmp_path / "data.npy", data)
        format = backend.formats(setting.precision)[0]
        expected = [_by_hand(bundle, format, sample[None]) for sample in data]
        at = float(np.median([scores[0] for _, scores in expected]))
        plan = chain_plan(at, 2.0)
        with backend.session(link, setting) as session:
            for key in ("first", "next"):
                session.load(backend.prepare(link, bundle, bundle.workload(key), setting))
            answers = session.answer(plan, tmp_path / "data.npy", ())
        leaves = [0 if scores[0] >= at else 2 for _, scores in expected]
        assert {0, 2} == set(leaves)
        assert leaves == answers.node.tolist()
        assert [classes[n] for (classes, _), n in zip(expected, leaves, strict=True)] == answers.answer.tolist()
        np.testing.assert_allclose([s[n] for (_, s), n in zip(expected, leaves, strict=True)], answers.score, rtol=1e-6)

    def test_several_inputs_at_once_are_timed_where_the_graph_allows(
        self, backend: Backend, link: Link, bundle: Bundle
    ) -> None:
        """Resized when it is loaded."""
        setting = replace(CPU1, batch=4)
        with backend.session(link, setting) as session:
            loaded = session.load(backend.prepare(link, bundle, bundle.workload("first"), setting))
            assert [(4, 3, 8, 8)] == [t.shape for t in loaded.inputs]
            assert {4} == {t.shape[0] for t in loaded.outputs}
            assert session.window(["first"], SHORT, ()).run_ns.size


def _by_hand(bundle: Bundle, format: str, sample: np.ndarray) -> tuple[list[int], list[float]]:
    """Classes and scores of first → next → next, with an interpreter of its own for each."""
    classes, scores, real = [], [], sample
    for key in ("first", "next", "next"):
        net = interpreter.Interpreter(str(bundle.path(bundle.workload(key), format)), num_threads=1)
        net.allocate_tensors()
        taken = net.get_input_details()[0]
        net.set_tensor(taken["index"], _stored(real, taken))
        net.invoke()
        shown = sorted(net.get_output_details(), key=lambda d: d["name"])
        real, logits, score = (_real(net.get_tensor(d["index"]), d) for d in shown)
        classes.append(int(logits.argmax()))
        scores.append(float(score[0]))
    return classes, scores


def _stored(real: np.ndarray, detail: dict) -> np.ndarray:
    scale, zero = detail["quantization"]
    if scale == 0:
        return real
    return np.clip(np.rint(real / np.float32(scale)) + zero, -128, 127).astype(np.int8)


def _real(stored: np.ndarray, detail: dict) -> np.ndarray:
    scale, zero = detail["quantization"]
    return stored if scale == 0 else (stored.astype(np.float32) - zero) * np.float32(scale)
