"""Runs a plan on real inputs: makes its workloads ready, loads them, and lets the board answer sample by sample."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import numpy as np

from hwbench import replay as replaying
from hwbench.errors import ConfigError
from hwbench.session import Answers, Prepared, Session
from hwbench.setting import Setting
from hwbench.target import Probe
from hwbench.workload import Bundle, Plan, Workload


class Host(Protocol):
    """What runs plans: a Board, or anything that prepares workloads and opens sessions."""

    def prepare_together(self, bundle: Bundle, workloads: Sequence[Workload], setting: Setting) -> list[Prepared]:
        """The files of workloads that one session holds at once, on the board."""

    def session(self, setting: Setting) -> Session:
        """A fresh process on the board."""


def run_plan(
    host: Host,
    bundle: Bundle,
    plan: Plan,
    setting: Setting,
    data: np.ndarray | Path,
    *,
    probes: Sequence[Probe] = (),
    repeats: int = 1,
    session: Session | None = None,
    replay: bool = False,
) -> Answers:
    """Answer inputs with a plan of the bundle, in a fresh session or in one that is open.

    data: (N, …) float as the first graph takes them without their batch dimension, or a `.npy` file of that.
    repeats: each sample runs so often in a row and its median time is kept.
    replay: where the board's runtime cannot answer, decide on this machine and add up the board's times; such answers
    say that they are `replayed`.
    An open session keeps nothing of the plan: what was loaded for it is dropped (after an error, end the session).
    Raises ConfigError for a plan that lacks a workload, DeviceError when the board fails.
    """
    workloads = [bundle.workload(key) for key in dict.fromkeys(node.block_key for node in plan.nodes)]
    prepared = host.prepare_together(bundle, workloads, setting)
    with ExitStack() as stack:
        opened = session if session is not None else stack.enter_context(host.session(setting))
        file = _as_file(data, stack)
        if "answer" not in opened.hello.can:
            if replay:
                return replaying.replay(opened, bundle, plan, prepared, file)
            raise ConfigError(
                f"plan {plan.name}: {opened.hello.runtime} cannot answer inputs on this board; "
                "use a backend that runs the agent there"
            )
        for ready in prepared:
            opened.load(ready)
        answers = opened.answer(plan, file, probes, repeats=repeats)
        if session is not None:
            for ready in prepared:
                opened.drop(ready.block_key)
        return answers


def _as_file(data: np.ndarray | Path, stack: ExitStack) -> Path:
    if isinstance(data, Path):
        return data
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hwbench-"))
    file = Path(folder) / "inputs.npy"
    np.save(file, np.ascontiguousarray(data, dtype=np.float32), allow_pickle=False)
    return file
