"""The way to a Raspberry Pi, whole: the agent with real ONNX Runtime behind a real sshd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench import agent_archive, agent_session
from hwbench.agent_session import AgentSession
from hwbench.backends import onnxruntime as ort_backend
from hwbench.board import open_board
from hwbench.errors import TransientDeviceError
from hwbench.evidence import MEASURED
from hwbench.links import local, ssh
from hwbench.links.ssh import SshLink
from hwbench.session import Prepared, Session, WindowSpec
from hwbench.store import Store
from hwbench.table import LatencyTable
from hwbench.target_file import find_target
from hwbench.workload import Bundle
from tests.contracts.backend import BackendContract
from tests.contracts.session import SHORT, SessionContract
from tests.doubles.campaigns import measure, quick, watch
from tests.doubles.networks import matmul_bundle
from tests.doubles.sshd import Sshd
from tests.hwbench.exit_graphs import CPU1, chain_plan, onnx_bundle

LONG = WindowSpec(warmup=0, min_runs=1, min_time_s=30.0, max_time_s=30.0)


@pytest.fixture
def link(sshd: Sshd) -> Iterator[SshLink]:
    """A board behind sshd."""
    with ssh.open(sshd.options(connect_timeout_s=2.0)) as opened:
        yield opened


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Two exits as ONNX."""
    return onnx_bundle(tmp_path / "bundle")


@pytest.fixture
def prepared(link: SshLink, bundle: Bundle) -> dict[str, Prepared]:
    """Both, pushed."""
    backend = ort_backend.open({})
    return {w.block_key: backend.prepare(link, bundle, w, CPU1) for w in bundle.workloads}


@pytest.fixture
def session(link: SshLink) -> Iterator[AgentSession]:
    """A real agent with ONNX Runtime."""
    with agent_session.start(link, "ort", CPU1) as opened:
        yield opened


@pytest.fixture
def target(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a target in ./targets that is reached through sshd."""
    options = {name: value if isinstance(value, int) else str(value) for name, value in sshd.options().items()}
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    (tmp_path / "here" / "targets").mkdir(parents=True)
    (tmp_path / "here" / "targets" / "loopback.toml").write_text(
        'schema = 1\nname = "loopback"\nextends = "host"\ntitle = "behind sshd"\nmeter = []\n[[link]]\nkind = "ssh"\n'
        + "\n".join(lines)
    )
    monkeypatch.chdir(tmp_path / "here")
    return "loopback"


class TestSessionOverSsh(SessionContract):
    """The contract of every session."""

    @pytest.fixture
    def session(self, session: AgentSession) -> Session:
        """The module's session."""
        return session

    @pytest.fixture
    def prepared(self, prepared: dict[str, Prepared]) -> Mapping[str, Prepared]:
        """The module's workloads."""
        return prepared


class TestBackendOverSsh(BackendContract):
    """The contract of every backend."""

    @pytest.fixture
    def link(self, link: SshLink) -> SshLink:
        """The module's link."""
        return link

    @pytest.fixture
    def backend(self):
        """ONNX Runtime's host half."""
        return ort_backend.open({})

    @pytest.fixture
    def bundle(self, bundle: Bundle) -> Bundle:
        """The module's bundle."""
        return bundle

    @pytest.fixture
    def settings(self):
        """One precision is enough here: formats are not the link's business."""
        return [CPU1]


def test_the_agent_is_pushed_once_a_version(link: SshLink, tmp_path: Path) -> None:
    """Three sessions and a second connection, one file."""
    for _ in range(2):
        agent_session.start(link, "ort", CPU1).close()
    assert link._connection is not None
    link._connection.close()
    before = {file: file.stat().st_ino for file in (Path(link.workdir()) / "files").iterdir()}
    agent_session.start(link, "ort", CPU1).close()
    assert before == {file: file.stat().st_ino for file in (Path(link.workdir()) / "files").iterdir()}
    assert [".pyz"] == [file.suffix for file in before]


def test_a_session_leaves_nothing_on_the_board(link: SshLink, session: AgentSession) -> None:
    """Its folder goes with it."""
    sessions = Path(link.workdir()) / "sessions"
    assert 1 == len(list(sessions.iterdir()))
    session.close()
    assert [] == list(sessions.iterdir())


def test_answers_over_ssh_are_those_given_here(
    link: SshLink, session: AgentSession, prepared: dict[str, Prepared], bundle: Bundle, tmp_path: Path
) -> None:
    """Class for class, score for score, and every sample leaves at the same exit."""
    data = tmp_path / "data.npy"
    np.save(data, np.random.default_rng(3).standard_normal((64, 3, 8, 8)).astype(np.float32))
    plan = chain_plan(0.5)
    backend = ort_backend.open({})
    here = local.open({"workdir": tmp_path / "local"})
    found = []
    for place, opened in ((link, session), (here, agent_session.start(here, "ort", CPU1))):
        with opened:
            for workload in bundle.workloads:
                opened.load(backend.prepare(place, bundle, workload, CPU1))
            found.append(opened.answer(plan, data, ()))
    there, local_ = found
    assert np.array_equal(there.node, local_.node)
    assert np.array_equal(there.answer, local_.answer)
    assert np.array_equal(there.score, local_.score)
    assert 64 == len(there.t_ns) and (there.t_ns > 0).all()


def test_long_windows_come_back_whole(session: AgentSession, prepared: dict[str, Prepared]) -> None:
    """Half a megabyte of numbers."""
    session.load(prepared["first"])
    window = session.window(["first"], replace(SHORT, min_runs=40_000, max_time_s=20.0), ())
    assert 40_000 <= len(window.run_ns) == len(window.start_ns)
    assert (np.diff(window.start_ns) > 0).all()


@pytest.mark.parametrize("accident", ["agent", "connection", "sshd"])
def test_what_is_killed_inside_a_window_is_worth_another_try(
    link: SshLink, sshd: Sshd, session: AgentSession, prepared: dict[str, Prepared], accident: str
) -> None:
    """The same link opens the next session, and the old agent is not left measuring beside it."""
    session.load(prepared["first"])
    agent = session._pipe.pid
    kill: dict[str, Callable[[], None]] = {
        "agent": lambda: os.kill(agent, signal.SIGKILL),
        "connection": sshd.kill_connections,
        "sshd": sshd.kill,
    }
    threading.Timer(0.3, kill[accident]).start()
    with pytest.raises(TransientDeviceError, match="timing first"):
        session.window(["first"], LONG, ())
    session.close()
    if accident == "sshd":
        sshd.start()
    with agent_session.start(link, "ort", CPU1) as again:
        again.load(prepared["first"])
        assert again.window(["first"], SHORT, ()).run_ns.size
        assert not _runs(agent)


def _runs(pid: int) -> bool:
    """Whether that process is there and more than a name that nobody has fetched."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_agent_killed_by_the_kernel_says_which_signal(session: AgentSession, prepared: dict[str, Prepared]) -> None:
    """As it does for a board without memory enough."""
    session.load(prepared["first"])
    threading.Timer(0.3, os.kill, (session._pipe.pid, signal.SIGKILL)).start()
    with pytest.raises(TransientDeviceError, match="killed by signal 9"):
        session.window(["first"], LONG, ())


def test_a_campaign_goes_on_after_its_connections_were_killed(
    sshd: Sshd, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell once in each session, whatever was lost meanwhile."""
    quick(monkeypatch)
    bundle = matmul_bundle(tmp_path / "bundle", [4, 8, 16])
    killed: list[str] = []

    def kill(session: object, key: str) -> None:
        if key == "matmul-8" and len(killed) < 2:
            killed.append(key)
            sshd.kill_connections()

    with Store(tmp_path / "store.sqlite") as store, open_board(find_target(target)) as board:
        watch(board, before=kill)
        found = measure(board, bundle, store)
    assert 2 == len(killed)
    assert {"matmul-4": 2, "matmul-8": 2, "matmul-16": 2} == {m.cell.block_key: len(m.windows) for m in found}


def test_a_profile_over_ssh_makes_a_table(target: str, tmp_path: Path) -> None:
    """`hwbench profile`, from the target's file to the table: measured rows and the board's own identity."""
    matmul_bundle(tmp_path / "matmuls", [8, 16])
    command = [sys.executable, "-m", "hwbench.cli", "profile", "--target", target, "--backend", "onnxruntime"]
    more = ["--model", str(tmp_path / "matmuls"), "--sessions", "2", "--window", "0.02", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, *more],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(agent_archive.__file__).parents[1])},
    )
    assert 0 == done.returncode, done.stderr
    table = LatencyTable.read(tmp_path / "out")
    assert {"matmul-8", "matmul-16"} == {cell.block_key for cell in table.row}
    assert MEASURED == table.source["latency_ms"]
