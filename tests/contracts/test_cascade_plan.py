"""A cascade decides as the board does: the same exits, answers and accuracy as the agent running the exported plan."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from hwbench import agent_archive
from hwbench.agent_session import AgentSession
from hwbench.backends import onnxruntime as ort_backend
from hwbench.evidence import MEASURED
from hwbench.links import local
from hwbench.workload import Bundle, Leave, Node, Patience, Plan
from search.cascade import Cascade
from tests.hwbench.exit_graphs import CPU1, onnx_bundle

SAMPLES, LEVELS = 120, 5
KEYS = ("first", "next", "next")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Segments of a chain, as ONNX."""
    return onnx_bundle(tmp_path / "bundle")


@pytest.fixture
def session(tmp_path: Path, bundle: Bundle) -> Iterator[AgentSession]:
    """A real agent with ONNX Runtime, both segments loaded."""
    link = local.open({"workdir": tmp_path / "board"})
    backend = ort_backend.open({})
    pipe = link.spawn([link.python, link.push(agent_archive.build())], env={})
    with AgentSession(link, pipe, runtime="ort") as opened:
        for workload in bundle.workloads:
            opened.load(backend.prepare(link, bundle, workload, CPU1))
        yield opened


def cascade(bundle: Bundle, data: np.ndarray, rng: np.random.Generator, keys: tuple[str, ...] = KEYS) -> Cascade:
    """What every segment of first → next → … answers for every sample."""
    nets = [
        onnxruntime.InferenceSession(bundle.path(bundle.workload(key), "onnx"), providers=["CPUExecutionProvider"])
        for key in keys
    ]
    stages = len(keys)
    answer, score = np.empty((len(data), stages), np.int64), np.empty((len(data), stages), np.float32)
    for n in range(len(data)):
        features = data[n : n + 1]
        for s, net in enumerate(nets):
            features, logits, surety = net.run(["features", "logits", "score"], {"x": features})
            answer[n, s], score[n, s] = logits.argmax(), surety[0]
    # Labels that each stage meets now and then, so that accuracies differ.
    label = answer[np.arange(len(data)), rng.integers(0, stages, len(data))]
    # Thresholds that samples meet exactly: `at least` must mean the same here and there.
    levels = np.sort(score, axis=0)[:: SAMPLES // LEVELS]
    cost = {"latency_ms": np.ones((1, stages))}
    return Cascade(
        label=label, answer=answer, score=score, levels=levels, step=cost, ask=cost,
        settings=((CPU1,),) * stages, evidence={"latency_ms": MEASURED},
    )  # fmt: skip


def test_the_agent_leaves_where_the_cascade_says(
    session: AgentSession, bundle: Bundle, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Sample by sample, for several choices of exits and levels; every threshold is a score that really occurs."""
    data = rng.standard_normal((SAMPLES, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "data.npy", data)
    one = cascade(bundle, data, rng)
    for first, second in itertools.product((None, 1, 4), (None, 0, 3)):
        level = np.array([first or 0, second or 0, 0], np.uint8)
        placed = np.array([first is not None, second is not None, True])
        # A segment of which nobody may leave still runs: its features feed the next one.
        nodes = tuple(
            Node(
                node=f"n{s}",
                block_key=key,
                after=f"n{s - 1}" if s else None,
                leave=Leave(output="score", at=one.threshold(s, int(level[s]))) if placed[s] and s < 2 else None,
                answers=bool(placed[s]),
            )
            for s, key in enumerate(KEYS)
        )
        answers = session.answer(Plan(name="chain", nodes=nodes), tmp_path / "data.npy", ())
        np.testing.assert_array_equal(one.leaves_at(placed, level), answers.node)
        outcome = one.evaluate(placed[None], level[None], np.zeros((1, 1), int))
        assert (answers.answer == one.label).mean() == outcome.accuracy[0]
        np.testing.assert_array_equal(np.bincount(answers.node, minlength=3) / SAMPLES, outcome.coverage[0])


def test_the_agent_is_as_patient_as_the_cascade_says(
    session: AgentSession, bundle: Bundle, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Sample by sample, for choices of exits and several patiences, one that nothing reaches among them."""
    data = rng.standard_normal((SAMPLES, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "data.npy", data)
    keys = (*KEYS, "next", "next")
    one = cascade(bundle, data, rng, keys)
    one = replace(one, patience=True, levels=np.repeat(np.arange(1, 6)[:, None], 5, axis=1))
    for exits, agree, leave in (
        ("1111", 1, {0}), ("1111", 2, {2, 3, 4}), ("1111", 3, {3, 4}), ("1111", 5, {4}),
        ("0111", 2, {2, 3, 4}), ("0101", 2, {3, 4}), ("0010", 1, {2}), ("0000", 1, {4}),
    ):  # fmt: skip
        level, placed = np.full(5, agree - 1, np.uint8), np.array([e == "1" for e in exits + "1"])
        nodes = tuple(
            Node(
                node=f"n{s}",
                block_key=key,
                after=f"n{s - 1}" if s else None,
                leave=Patience(agree=agree) if placed[s] and s < 4 else None,
                answers=bool(placed[s]),
            )
            for s, key in enumerate(keys)
        )
        answers = session.answer(Plan(name="chain", nodes=nodes), tmp_path / "data.npy", ())
        assert leave == set(answers.node.tolist())
        np.testing.assert_array_equal(one.leaves_at(placed, level), answers.node)
        outcome = one.evaluate(placed[None], level[None], np.zeros((1, 1), int))
        assert (answers.answer == one.label).mean() == outcome.accuracy[0]
        np.testing.assert_array_equal(np.bincount(answers.node, minlength=5) / SAMPLES, outcome.coverage[0])
