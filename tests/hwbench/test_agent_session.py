"""Sessions with real agents, and with processes that only pretend to be one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from hwbench import agent_archive, agent_session
from hwbench.agent_session import AgentSession
from hwbench.backends import onnxruntime as ort_backend
from hwbench.errors import PermanentDeviceError, TransientDeviceError
from hwbench.links import local
from hwbench.links.local import LocalLink
from hwbench.session import Prepared, Session, WindowSpec
from hwbench.target import Probe
from hwbench.workload import Bundle, Node, Patience, Plan
from tests.contracts.session import SHORT, SessionContract
from tests.hwbench.exit_graphs import CPU1, chain_plan, onnx_bundle

LONG = WindowSpec(warmup=0, min_runs=1, min_time_s=30.0, max_time_s=30.0)


@pytest.fixture
def link(tmp_path: Path) -> LocalLink:
    """This machine, in the test's own folder."""
    return local.open({"workdir": tmp_path / "board"})


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Two exits as ONNX."""
    return onnx_bundle(tmp_path / "bundle")


@pytest.fixture
def prepared(link: LocalLink, bundle: Bundle) -> dict[str, Prepared]:
    """Both, pushed."""
    backend = ort_backend.open({})
    return {w.block_key: backend.prepare(link, bundle, w, CPU1) for w in bundle.workloads}


def spawn(link: LocalLink) -> local.ProcessPipe:
    """An agent whose process the test can reach."""
    pipe = link.spawn([link.python, link.push(agent_archive.build())], env={})
    assert isinstance(pipe, local.ProcessPipe)
    return pipe


@pytest.fixture
def pipe(link: LocalLink) -> local.ProcessPipe:
    """The pipe of `session`."""
    return spawn(link)


@pytest.fixture
def session(link: LocalLink, pipe: local.ProcessPipe) -> Iterator[AgentSession]:
    """A real agent with ONNX Runtime, given little time to be late."""
    with AgentSession(link, pipe, runtime="ort", slack_s=0.5, silence_s=10.0) as opened:
        yield opened


def pretend(link: LocalLink, script: str) -> AgentSession:
    """A session with a process that runs `script` instead of the agent."""
    return AgentSession(link, link.spawn([link.python, "-c", script], env={}), runtime="ort")


class TestAgentSession(SessionContract):
    """The contract with a real agent and ONNX Runtime."""

    @pytest.fixture
    def session(self, session: AgentSession) -> Session:
        """The module's session."""
        return session

    @pytest.fixture
    def prepared(self, prepared: dict[str, Prepared]) -> Mapping[str, Prepared]:
        """The module's workloads."""
        return prepared


def test_hello_carries_the_runtime_and_the_board(session: AgentSession) -> None:
    """What rows are joined by, and what this agent can do."""
    assert ("ort", onnxruntime.__version__) == (session.hello.runtime, session.hello.runtime_version)
    assert {"window", "answer"} == session.hello.can
    assert os.uname().release == session.hello.board["kernel"]
    assert os.cpu_count() == session.hello.board["cores"]
    assert re.fullmatch("[0-9a-f]{12}", session.hello.agent)


def test_long_windows_come_back_whole(session: AgentSession, prepared: dict[str, Prepared]) -> None:
    """More numbers than a line should carry travel as a file."""
    session.load(prepared["first"])
    window = session.window(["first"], replace(SHORT, min_runs=5000), ())
    assert 5000 <= len(window.run_ns) == len(window.start_ns)


def test_probes_are_read_in_the_clock_of_the_runs(
    session: AgentSession, prepared: dict[str, Prepared], tmp_path: Path
) -> None:
    """From before the first run until after the last."""
    sensor = tmp_path / "in_power0_input"
    sensor.write_text("1250\n")
    session.load(prepared["first"])
    how = WindowSpec(warmup=0, min_runs=1, min_time_s=0.1, max_time_s=5.0, probe_hz=100.0)
    window = session.window(["first"], how, [Probe(name="total", read=f"file:{sensor}", unit="mw")])
    trace = window.traces["total"]
    assert "mw" == trace.unit
    assert {1250.0} == set(trace.value.tolist())
    assert trace.t_ns[0] <= window.start_ns[0]
    assert trace.t_ns[-1] >= window.start_ns[-1] + window.run_ns[-1]
    assert len(trace.t_ns) > 3


def test_a_probe_that_cannot_be_read_is_named(session: AgentSession, prepared: dict[str, Prepared]) -> None:
    """With its path, and the session goes on."""
    session.load(prepared["first"])
    with pytest.raises(PermanentDeviceError, match=r"'total'.*/no/such/rail"):
        session.window(["first"], SHORT, [Probe(name="total", read="file:/no/such/rail", unit="mw")])
    assert session.window(["first"], SHORT, ()).run_ns.size


def test_a_file_changed_on_the_board_is_refused(session: AgentSession, prepared: dict[str, Prepared]) -> None:
    """By its sha256, before the runtime sees it."""
    with pytest.raises(PermanentDeviceError, match=r"first.*sha256"):
        session.load(replace(prepared["first"], sha256="0" * 64))


def test_a_graph_made_for_another_batch_is_refused(session: AgentSession, prepared: dict[str, Prepared]) -> None:
    """A row of batch 4 must not hold times of batch 1."""
    with pytest.raises(PermanentDeviceError, match="made for batch 1, not 4"):
        session.load(replace(prepared["first"], setting=replace(CPU1, batch=4)))


def test_a_chain_that_does_not_fit_is_refused(session: AgentSession, prepared: dict[str, Prepared]) -> None:
    """Features have 8 channels, `first` takes 3."""
    session.load(prepared["first"])
    with pytest.raises(PermanentDeviceError, match="does not fit"):
        session.window(["first", "first"], SHORT, ())


def test_an_unknown_runtime_is_permanent(link: LocalLink) -> None:
    """It is named, with those that the agent has."""
    with pytest.raises(PermanentDeviceError, match=r"'abacus'.*ort, litert"):
        AgentSession(link, spawn(link), runtime="abacus")


def test_an_agent_killed_inside_a_window_is_transient(
    session: AgentSession, pipe: local.ProcessPipe, prepared: dict[str, Prepared]
) -> None:
    """The line says what was asked of it and how it ended; the session is over."""
    session.load(prepared["first"])
    threading.Timer(0.3, os.kill, (pipe.pid, signal.SIGKILL)).start()
    with pytest.raises(
        TransientDeviceError, match="local/ort: timing first: the agent was killed by signal 9"
    ) as caught:
        session.window(["first"], LONG, ())
    assert "\n" not in str(caught.value)
    with pytest.raises(TransientDeviceError, match="has ended"):
        session.drop("first")


def test_an_agent_that_hangs_is_transient_and_ended(
    session: AgentSession, pipe: local.ProcessPipe, prepared: dict[str, Prepared], tmp_path: Path
) -> None:
    """Twice the window's time and some slack, then it is killed, and its folder is taken away."""
    session.load(prepared["first"])
    os.kill(pipe.pid, signal.SIGSTOP)
    with pytest.raises(TransientDeviceError, match=r"timing first: no answer within 0.7 s"):
        session.window(["first"], replace(SHORT, max_time_s=0.1), ())
    with pytest.raises(ProcessLookupError):
        os.kill(pipe.pid, 0)
    session.close()
    assert [] == list((tmp_path / "board" / "sessions").iterdir())


def test_ctrl_c_inside_a_window_ends_the_agent(
    session: AgentSession, pipe: local.ProcessPipe, prepared: dict[str, Prepared]
) -> None:
    """Nobody is left measuring for no one."""
    session.load(prepared["first"])
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        session.window(["first"], LONG, ())
    with pytest.raises(ProcessLookupError):
        os.kill(pipe.pid, 0)


def test_a_board_that_cannot_keep_results_says_so(
    session: AgentSession, prepared: dict[str, Prepared], tmp_path: Path
) -> None:
    """A full disk and a folder that went away look alike: one line with the file."""
    session.load(prepared["first"])
    for folder in (tmp_path / "board" / "sessions").iterdir():
        folder.rmdir()
    with pytest.raises(PermanentDeviceError, match=r"timing first: .*window\.npz"):
        session.window(["first"], replace(SHORT, min_runs=5000), ())


def test_results_that_went_with_the_agent_are_transient(
    link: LocalLink, prepared: dict[str, Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent whose link was lost takes its folder away before the host comes back for a long window."""
    with agent_session.start(link, "ort", CPU1) as session:
        session.load(prepared["first"])
        pull = link.pull

        def late(path: str, file: Path, *, timeout_s: float = 60.0) -> None:
            shutil.rmtree(Path(path).parent)
            pull(path, file, timeout_s=timeout_s)

        monkeypatch.setattr(link, "pull", late)
        with pytest.raises(TransientDeviceError, match=r"window\.npz is gone"):
            session.window(["first"], replace(SHORT, min_runs=2000), ())
        with pytest.raises(TransientDeviceError, match="has ended"):
            session.window(["first"], SHORT, ())


def test_closing_ends_the_agent_and_its_folder(link: LocalLink, tmp_path: Path) -> None:
    """Nothing is left behind on the board."""
    pipe = spawn(link)
    with AgentSession(link, pipe, runtime="ort"):
        assert 1 == len(list((tmp_path / "board" / "sessions").iterdir()))
    assert [] == list((tmp_path / "board" / "sessions").iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(pipe.pid, 0)


@pytest.mark.parametrize(
    "said", ["Segmentation fault", "[1, 2]", '{"id": 7, "ok": true}', '{"id": 1}', '{"id": 1, "error": "no"}']
)
def test_an_answer_outside_the_protocol_is_permanent(link: LocalLink, said: str) -> None:
    """It is shown."""
    with pytest.raises(PermanentDeviceError, match="not its protocol") as caught:
        pretend(link, f"import sys; print({said!r}, flush=True); sys.stdin.read()")
    assert said in str(caught.value)


def test_an_answer_above_one_mebibyte_is_transient(link: LocalLink) -> None:
    """And read no further."""
    with pytest.raises(TransientDeviceError, match="1 MiB"):
        pretend(link, "import sys; print('x' * (2 << 20), flush=True); sys.stdin.read()")


def test_an_agent_that_dies_is_quoted(link: LocalLink) -> None:
    """The end of its error stream tells why."""
    with pytest.raises(TransientDeviceError, match=r"ended with status 1.*No module named 'numpy_for_boards'"):
        pretend(link, "import sys; sys.stdin.readline(); import numpy_for_boards")


def test_what_a_runtime_prints_does_not_garble_the_dialogue(
    link: LocalLink, prepared: dict[str, Prepared], tmp_path: Path
) -> None:
    """Descriptor 1 is the error stream inside the agent; C libraries print there too."""
    noisy = tmp_path / "noisy.py"
    noisy.write_text(
        "import sys, os\n"
        f"sys.path.insert(0, {link.push(agent_archive.build())!r})\n"
        "from hwbench.agent import executor\n"
        "load = executor.Executor.load\n"
        "def loud(self, message):\n"
        "    os.system('echo from C'); print('from Python', flush=True)\n"
        "    return load(self, message)\n"
        "executor.Executor.load = loud\n"
        "from hwbench.agent.__main__ import main\n"
        "sys.exit(main())\n"
    )
    pipe = link.spawn([link.python, str(noisy)], env={})
    with AgentSession(link, pipe, runtime="ort") as session:
        assert "first" == session.load(prepared["first"]).block_key
        assert "from C\nfrom Python" == pipe.stderr_tail()


def by_hand(bundle: Bundle, data: np.ndarray, stages: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Classes and scores (N, stages) of first → next → next → …, each with plain `run`."""
    nets = [
        onnxruntime.InferenceSession(bundle.path(bundle.workload(key), "onnx"), providers=["CPUExecutionProvider"])
        for key in ("first", *["next"] * (stages - 1))
    ]
    classes, scores = np.empty((len(data), stages), np.int64), np.empty((len(data), stages), np.float32)
    for i in range(len(data)):
        features = data[i : i + 1]
        for k, net in enumerate(nets):
            features, logits, score = net.run(["features", "logits", "score"], {"x": features})
            classes[i, k], scores[i, k] = logits.argmax(), score[0]
    return classes, scores


@pytest.mark.parametrize("repeats", [1, 3])
def test_answers_are_those_of_a_loop_over_the_plan(
    session: AgentSession,
    bundle: Bundle,
    prepared: dict[str, Prepared],
    tmp_path: Path,
    rng: np.random.Generator,
    repeats: int,
) -> None:
    """Exit for exit: class, score, node, and NaN for nodes that did not run."""
    data = rng.standard_normal((200, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "data.npy", data)
    classes, scores = by_hand(bundle, data)
    # Thresholds that are met exactly by one sample: `at least` must mean the same here and there.
    at = [float(np.sort(scores[:, k])[n]) for k, n in ((0, 120), (1, 100))]
    for key in ("first", "next"):
        session.load(prepared[key])
    answers = session.answer(chain_plan(*at), tmp_path / "data.npy", (), repeats=repeats)
    left = np.where(scores[:, 0] >= at[0], 0, np.where(scores[:, 1] >= at[1], 1, 2))
    rows = np.arange(len(data))
    assert {0, 1, 2} == set(left.tolist())
    np.testing.assert_array_equal(left, answers.node)
    np.testing.assert_array_equal(classes[rows, left], answers.answer)
    np.testing.assert_array_equal(scores[rows, left], answers.score)
    ran = np.arange(3) <= left[:, None]
    np.testing.assert_array_equal(np.where(ran, scores, np.nan), answers.node_scores)
    assert (answers.t_ns > 0).all()
    assert answers.end_ns - answers.start_ns >= answers.t_ns.sum()


@pytest.mark.parametrize(("agree", "leave"), [(1, {0}), (2, {2, 3, 4}), (3, {3, 4}), (4, {4})])
def test_with_patience_a_sample_leaves_where_nodes_in_a_row_agree(
    session: AgentSession,
    bundle: Bundle,
    prepared: dict[str, Prepared],
    tmp_path: Path,
    rng: np.random.Generator,
    agree: int,
    leave: set[int],
) -> None:
    """Class after class; the length of the run stands in the score's place. Only patient nodes are counted."""
    data = rng.standard_normal((200, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "data.npy", data)
    classes, scores = by_hand(bundle, data, 5)
    for key in ("first", "next"):
        session.load(prepared[key])
    nodes = chain_plan(*[0.0] * 4).nodes
    patient = tuple(replace(node, leave=node.leave and Patience(agree=agree)) for node in nodes)
    answers = session.answer(Plan(name="patient", nodes=patient), tmp_path / "data.npy", (), repeats=2)
    length = np.ones(scores.shape, np.float32)
    for k in range(1, 4):
        length[:, k] += np.where(classes[:, k] == classes[:, k - 1], length[:, k - 1], 0)
    left = np.array([next((k for k in range(4) if row[k] >= agree), 4) for row in length])
    assert leave == set(left.tolist())
    rows = np.arange(len(data))
    np.testing.assert_array_equal(left, answers.node)
    np.testing.assert_array_equal(classes[rows, left], answers.answer)
    told = np.where(np.arange(5) <= left[:, None], np.c_[length[:, :4], scores[:, 4]], np.nan)
    np.testing.assert_array_equal(told, answers.node_scores)
    # A node that cannot be left is not asked, although it answers.
    later = (*(replace(node, leave=None) for node in nodes[:3]), *patient[3:])
    found = session.answer(Plan(name="later", nodes=later), tmp_path / "data.npy", ())
    assert {3 if agree == 1 else 4} == set(found.node.tolist())


def test_little_then_big_gives_both_the_sample(
    session: AgentSession, bundle: Bundle, prepared: dict[str, Prepared], tmp_path: Path, rng: np.random.Generator
) -> None:
    """A node without `after` reads the input, not the features of the node before it."""
    data = rng.standard_normal((60, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "data.npy", data)
    classes, scores = by_hand(bundle, data)
    at = float(np.median(scores[:, 0]))
    little = replace(chain_plan(at).nodes[0], node="little")
    big = Node(node="big", block_key="first", after=None, leave=None, answers=True)
    session.load(prepared["first"])
    answers = session.answer(Plan(name="pair", nodes=(little, big)), tmp_path / "data.npy", ())
    np.testing.assert_array_equal(np.where(scores[:, 0] >= at, 0, 1), answers.node)
    np.testing.assert_array_equal(classes[:, 0], answers.answer)


def test_a_tree_reads_the_features_of_the_node_it_names(
    session: AgentSession, bundle: Bundle, prepared: dict[str, Prepared], tmp_path: Path, rng: np.random.Generator
) -> None:
    """Two branches from one prefix: the second still finds the prefix's features."""
    data = rng.standard_normal((20, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "data.npy", data)
    _, scores = by_hand(bundle, data)
    nodes = tuple(
        Node(node=name, block_key=key, after=after, leave=None, answers=True)
        for name, key, after in (("stem", "first", None), ("a", "next", "stem"), ("b", "next", "stem"))
    )
    for key in ("first", "next"):
        session.load(prepared[key])
    answers = session.answer(Plan(name="tree", nodes=nodes), tmp_path / "data.npy", ())
    np.testing.assert_array_equal(scores[:, [0, 1, 1]], answers.node_scores)


def test_samples_of_another_shape_are_refused(
    session: AgentSession, prepared: dict[str, Prepared], tmp_path: Path
) -> None:
    """Both shapes are told."""
    np.save(tmp_path / "data.npy", np.zeros((5, 3, 9, 9), np.float32))
    session.load(prepared["first"])
    with pytest.raises(PermanentDeviceError, match=r"\(3, 9, 9\).*\(1, 3, 8, 8\)"):
        session.answer(chain_plan(), tmp_path / "data.npy", ())


def test_a_score_that_the_graph_lacks_is_refused(
    session: AgentSession, prepared: dict[str, Prepared], tmp_path: Path
) -> None:
    """With the outputs it has."""
    np.save(tmp_path / "data.npy", np.zeros((5, 3, 8, 8), np.float32))
    plan = chain_plan(0.5)
    node = plan.nodes[0]
    assert node.leave is not None
    wrong = replace(plan, nodes=(replace(node, leave=replace(node.leave, output="entropy")), *plan.nodes[1:]))
    for key in ("first", "next"):
        session.load(prepared[key])
    with pytest.raises(PermanentDeviceError, match=r"'entropy'.*features, logits, score"):
        session.answer(wrong, tmp_path / "data.npy", ())


def test_pickled_data_is_not_opened(session: AgentSession, prepared: dict[str, Prepared], tmp_path: Path) -> None:
    """An array file may not carry a program."""
    np.save(tmp_path / "data.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    session.load(prepared["first"])
    with pytest.raises(PermanentDeviceError, match="not an array file"):
        session.answer(chain_plan(), tmp_path / "data.npy", ())
