"""Answers inputs sample by sample: walks a plan's nodes in order and stops where a score is high enough, or where
enough nodes in a row answer alike."""

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from hwbench.agent.machine import now_ns
from hwbench.agent.protocol import AgentError
from hwbench.agent.runtime import Call, Port
from hwbench.agent.timing import undisturbed

# An exit's graph gives these three, in this order; a runtime that renames outputs keeps the order.
_CONVENTION = ("features", "logits", "score")
_WARM_UP_NS = 200 * 1000 * 1000


class _Step(NamedTuple):
    """One node as the loop needs it. agree: how many nodes in a row must answer alike; 0 = none is asked."""

    run: Callable[[], Any]
    write: Optional[Callable[[np.ndarray], None]]
    read_score: Callable[[int], float]
    score: int
    leave_at: Optional[float]
    read: Callable[[int], np.ndarray]
    logits: int
    agree: int


class Walk:
    """A plan bound to calls.

    Nodes run in order, each fed by the node it names (or the sample); a node whose score reaches `leave.at` ends the
    sample, and so does one with `leave.agree` where it and the nodes with patience before it have said the same class,
    so many in a row. The answer is the class of the last answering node that ran.
    """

    def __init__(self, nodes: Sequence[Mapping[str, Any]], calls: Sequence[Call]) -> None:
        self._steps = [_step(node, call) for node, call in zip(nodes, calls)]
        self._calls = list(calls)
        answering = [i for i, node in enumerate(nodes) if node.get("answers")]
        if not answering:
            raise AgentError("request", "no node of the plan answers")
        for i, node in enumerate(nodes):
            if node.get("leave") is not None and i not in answering:
                raise AgentError("request", "node {!r} may be left but does not answer".format(node["node"]))
        # By the node that ran last: the node that answers, −1 where none has yet.
        self._answering = [max([a for a in answering if a <= i] or [-1]) for i in range(len(nodes))]

    def warm_up(self, data: np.ndarray) -> None:
        """Run whole plans, leaving nowhere, for up to 0.2 s."""
        self._check(data)
        stored = self._stored(data)
        end = now_ns() + _WARM_UP_NS
        for i in range(len(data)):
            for k, step in enumerate(self._steps):
                if step.write is not None:
                    step.write(stored[k][i : i + 1])
                step.run()
            if now_ns() >= end:
                return

    def run(self, data: np.ndarray, repeats: int, progress: Callable[[int], None]) -> Dict[str, np.ndarray]:
        """All samples, one at a time, each timed from the input in its buffer to the last score's verdict.

        As in a window, filling the buffer and reading the class are not timed: both are this loop's own business, and
        in Python they would cost as much as a small block. Where classes decide, reading them is part of the verdict.

        Returns node (N,) int16, answer (N,) int64, score (N,) float32, t_ns (N,) int64, node_scores (N, nodes) float32.
        Where patience decides, a node's score is the number of nodes in a row, itself among them, that say the same.
        """
        count, steps, stored = len(data), self._steps, self._stored(data)
        node = np.empty(count, dtype=np.int16)
        answer = np.empty(count, dtype=np.int64)
        node_scores = np.full((count, len(steps)), np.nan, dtype=np.float32)
        t_ns = np.empty(count, dtype=np.int64)
        times = [0] * max(1, repeats)
        scores = [0.0] * len(steps)
        with undisturbed():
            for i in range(count):
                samples = [array[i : i + 1] for array in stored]
                for k, step in enumerate(steps):
                    if step.write is not None:
                        step.write(samples[k])
                for repeat in range(len(times)):
                    last, said, run = 0, -1, 0
                    begin = now_ns()
                    for k, step in enumerate(steps):
                        step.run()
                        last = k
                        if step.leave_at is not None:
                            score = scores[k] = step.read_score(step.score)
                            if score >= step.leave_at:
                                break
                        elif step.agree:
                            now = int(step.read(step.logits).argmax())
                            run = run + 1 if now == said else 1
                            said, scores[k] = now, run
                            if run >= step.agree:
                                break
                    times[repeat] = now_ns() - begin
                at = self._answering[last]
                node[i], answer[i] = at, int(steps[at].read(steps[at].logits).argmax())
                t_ns[i] = int(np.median(times)) if len(times) > 1 else times[0]
                for k in range(last + 1):
                    if steps[k].leave_at is not None or steps[k].agree:
                        node_scores[i, k] = scores[k]
                    elif steps[k].score >= 0:
                        node_scores[i, k] = steps[k].read_score(steps[k].score)
                progress(i + 1)
        return {
            "node": node,
            "answer": answer,
            "score": node_scores[np.arange(count), node],
            "t_ns": t_ns,
            "node_scores": node_scores,
        }

    def _stored(self, data: np.ndarray) -> List[np.ndarray]:
        # Samples as each input keeps them. Quantising is not timed: a camera's bytes are such numbers already.
        kept: Dict[Any, np.ndarray] = {}
        stored = []
        for call, step in zip(self._calls, self._steps):
            form = (call.input.dtype, call.input.scale, call.input.zero_point)
            if step.write is not None and form not in kept:
                kept[form] = np.ascontiguousarray(call.input.stored(data), dtype=call.input.dtype)
            stored.append(kept[form] if step.write is not None else data)  # the latter is never written
        return stored

    def _check(self, data: np.ndarray) -> None:
        for call, step in zip(self._calls, self._steps):
            if step.write is not None and tuple(call.input.shape) != (1,) + data.shape[1:]:
                raise AgentError(
                    "request",
                    "samples {} do not fit input {!r} {}".format(data.shape[1:], call.input.name, call.input.shape),
                )


def _step(node: Mapping[str, Any], call: Call) -> _Step:
    leave = node.get("leave") or {}
    by_score = "at" in leave
    name = str(leave["output"]) if by_score else _CONVENTION[2]
    score = _position(name, call.outputs) if node.get("answers") else -1
    if by_score and score < 0:
        raise AgentError(
            "request",
            "node {!r} leaves by output {!r}, its graph has {}".format(
                node["node"], name, ", ".join(port.name for port in call.outputs)
            ),
        )
    return _Step(
        run=call.run,
        write=call.write if node.get("after") is None else None,
        read_score=call.read_score,
        score=score,
        leave_at=float(leave["at"]) if by_score else None,
        read=call.read,
        logits=min(1, len(call.outputs) - 1),
        agree=int(leave.get("agree", 0)),
    )


def _position(name: str, outputs: Sequence[Port]) -> int:
    names: List[str] = [port.name for port in outputs]
    if name in names:
        return names.index(name)
    if name in _CONVENTION and _CONVENTION.index(name) < len(names) == len(_CONVENTION):
        return _CONVENTION.index(name)
    return -1
