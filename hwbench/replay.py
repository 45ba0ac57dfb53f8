"""A plan's latency on a runtime that times graphs but cannot branch: the host decides, the board's own times are added.

This machine's runtime answers the same files and says where each sample leaves; the board times each graph of the plan
alone. What comes out is labelled `replayed`: its times are sums of measured medians, and whoever computes in another
arithmetic than the host may leave a few samples elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hwbench import plugin
from hwbench.errors import ConfigError
from hwbench.session import Answers, Prepared, Session, WindowSpec
from hwbench.setting import Setting
from hwbench.workload import Bundle, Plan

# Which runtime of this machine answers a format, and at which precision of its own.
_ANSWERS = {"tflite": ("litert", "fp32"), "tflite_int8": ("litert", "int8"), "onnx": ("onnxruntime", "fp32")}
WINDOW = WindowSpec()


def replay(
    session: Session, bundle: Bundle, plan: Plan, prepared: Sequence[Prepared], data: Path, *, how: WindowSpec = WINDOW
) -> Answers:
    """Answer inputs with a plan here, and time its graphs there.

    prepared: the plan's workloads for the session.  data: `.npy` of (N, …) float32.  how: the window of each graph.
    Raises ConfigError for a format that nothing here can run.
    """
    answers = answered_here(bundle, plan, prepared[0].format, data)
    run_ns: dict[str, float] = {}
    for ready in prepared:
        session.load(ready)
        run_ns[ready.block_key] = float(np.median(session.window([ready.block_key], how, ()).run_ns))
        session.drop(ready.block_key)
    return replayed(plan, answers, run_ns)


def replayed(plan: Plan, answers: Answers, run_ns: Mapping[str, float]) -> Answers:
    """The same verdicts at another board's times: a sample takes the sum over the nodes that ran for it.

    run_ns: duration of each workload there, by block key.
    """
    until = np.cumsum([run_ns[node.block_key] for node in plan.nodes])
    last = np.full(answers.node.shape, len(plan.nodes) - 1)
    for i, node in enumerate(plan.nodes):
        if node.leave is not None:
            # Nodes run in order and the first that may be left with such a score, or run, is the last to run.
            last[(answers.node == i) & (answers.node_scores[:, i] >= np.float32(node.leave.at))] = i
    return replace(
        answers,
        t_ns=np.rint(until[last]).astype(np.int64),
        start_ns=0,
        end_ns=0,
        traces={},
        noise={},
        replayed=True,
    )


def answered_here(bundle: Bundle, plan: Plan, format: str, data: Path) -> Answers:
    """What this machine's runtime for the format answers; its times mean nothing elsewhere."""
    if format not in _ANSWERS:
        raise ConfigError(f"plan {plan.name}: no runtime of this machine answers {format} files, so nothing to replay")
    kind, precision = _ANSWERS[format]
    setting = Setting(unit="cpu", precision=precision, threads=1)
    local, runtime = plugin.load("hwbench.links", "local"), plugin.load("hwbench.backends", kind)
    with local.open({}) as link:
        backend = runtime.open({}, link)
        workloads = [bundle.workload(key) for key in dict.fromkeys(node.block_key for node in plan.nodes)]
        with backend.session(link, setting) as session:
            for ready in backend.prepare_together(link, bundle, workloads, setting):
                session.load(ready)
            found: Answers = session.answer(plan, data, ())
            return found
