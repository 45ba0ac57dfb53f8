"""TensorRT through stand-ins of its bindings and of trtexec that compute with ONNX Runtime."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from hwbench.backend import Backend
from hwbench.backends import tensorrt
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.link import Link
from hwbench.links import local, ssh
from hwbench.session import Prepared, Session, WindowSpec
from hwbench.setting import Setting
from hwbench.target import Probe
from hwbench.workload import Bundle, artifact_of
from tests.contracts.backend import BackendContract
from tests.contracts.session import SHORT, SessionContract
from tests.doubles import trtexec as trtexec_double
from tests.hwbench.exit_graphs import chain_plan

pytest.importorskip("torch", reason="torch is not installed")
FP32 = Setting(unit="gpu", precision="fp32")
FP16, INT8 = replace(FP32, precision="fp16"), replace(FP32, precision="int8")
MODULE = Path(trtexec_double.__file__).parent / "tensorrt_module"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two exits, float and int8."""
    from tests.hwbench.torch_exits import both_onnx_bundle

    return both_onnx_bundle(tmp_path_factory.mktemp("onnx"))


def with_bindings(folder: Path, version: str) -> Link:
    """A board whose Python has TensorRT of that version."""
    folder.mkdir(exist_ok=True)
    python = folder / "python"
    python.write_text(
        f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(MODULE))} TENSORRT_DOUBLE={version} "
        f'exec {shlex.quote(sys.executable)} "$@"\n'
    )
    python.chmod(0o755)
    return local.open({"workdir": folder / "board", "python": str(python)})


def with_trtexec(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> Link:
    """A board that has only the tool, of that version."""
    trtexec_double.install(folder / "bin", version)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")
    return local.open({"workdir": folder / "board"})


class Contract(BackendContract):
    """What all of them are tested with."""

    @pytest.fixture
    def backend(self) -> Backend:
        """As a target without options opens it: it takes what the board has."""
        return tensorrt.open({})

    @pytest.fixture
    def bundle(self, bundle: Bundle) -> Bundle:
        """The module's."""
        return bundle

    @pytest.fixture
    def settings(self, version: str) -> list[Setting]:
        """Every precision with some version."""
        return {"8.2.1": [INT8], "10.3.0": [FP32], "11.1.0": [FP16]}[version]


class TestBindings(Contract):
    """The contract through the Python bindings."""

    @pytest.fixture(params=["8.2.1", "11.1.0"])
    def version(self, request: pytest.FixtureRequest) -> str:
        """Numbered bindings; named tensors, and no precision flags any more."""
        return str(request.param)

    @pytest.fixture
    def link(self, version: str, tmp_path: Path) -> Link:
        """A board whose Python has them."""
        return with_bindings(tmp_path, version)


class TestTrtexec(Contract):
    """The contract through the tool."""

    @pytest.fixture
    def version(self) -> str:
        """The newest set of options; the oldest and the one between are in the tests of sessions and layers."""
        return "11.1.0"

    @pytest.fixture
    def link(self, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Link:
        """A board that has nothing else."""
        return with_trtexec(tmp_path, version, monkeypatch)


class Sessions(SessionContract):
    """What all sessions are tested with."""

    @pytest.fixture
    def session(self, link: Link) -> Iterator[Session]:
        """A real agent."""
        with tensorrt.open({}).session(link, FP32) as opened:
            yield opened

    @pytest.fixture
    def prepared(self, link: Link, bundle: Bundle) -> Mapping[str, Prepared]:
        """Both exits."""
        backend = tensorrt.open({})
        return {w.block_key: backend.prepare(link, bundle, w, FP32) for w in bundle.workloads}


class TestBindingsSession(Sessions):
    """Sessions through the bindings."""

    @pytest.fixture
    def link(self, tmp_path: Path) -> Link:
        """Those with named tensors; the cascade below runs both."""
        return with_bindings(tmp_path, "10.3.0")


class TestTrtexecSession(Sessions):
    """Sessions through the tool."""

    @pytest.fixture
    def link(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Link:
        """The one between."""
        return with_trtexec(tmp_path, "10.3.0", monkeypatch)

    def test_a_chain_is_timed_as_one(self, session: Session, prepared: Mapping[str, Prepared]) -> None:
        """The tool runs one engine: a chain is refused, and says what can."""
        for key in ("first", "next"):
            session.load(prepared[key])
        with pytest.raises(PermanentDeviceError, match=r"one graph at a time; .* Python bindings"):
            session.window(["first", "next"], SHORT, ())
        assert {"window"} == session.hello.can

    def test_it_does_not_answer(self, session: Session, prepared: Mapping[str, Prepared], tmp_path: Path) -> None:
        """And names the runtimes that do."""
        session.load(prepared["first"])
        np.save(tmp_path / "data.npy", np.zeros((1, 3, 8, 8), dtype=np.float32))
        with pytest.raises(PermanentDeviceError, match=r"only times; ort, .*trt"):
            session.answer(chain_plan(), tmp_path / "data.npy", ())

    def test_probes_cover_the_tools_runs(
        self, session: Session, prepared: Mapping[str, Prepared], tmp_path: Path
    ) -> None:
        """They are read in the agent's clock, and the tool's times are brought there, with how far they may be off."""
        sensor = tmp_path / "power"
        sensor.write_text("4200\n")
        session.load(prepared["first"])
        how = WindowSpec(warmup=None, min_runs=5, min_time_s=0.2, max_time_s=5.0, probe_hz=50.0)
        window = session.window(["first"], how, [Probe(name="total", read=f"file:{sensor}", unit="mw")])
        trace = window.traces["total"]
        assert trace.t_ns[0] <= window.start_ns[0]
        assert trace.t_ns[-1] >= window.start_ns[-1] + window.run_ns[-1]
        assert {4200.0} == set(trace.value.tolist())
        assert 0 <= window.noise["align_ms"] < 1000
        assert window.noise["throughput_per_s"] > 0
        assert len(window.warmup_ns) > 0 and window.run_ns.sum() >= 0.15e9


@pytest.fixture
def through_sshd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Link]:
    """A board with the bindings of 8.2.1 behind a real sshd."""
    python = with_bindings(tmp_path, "8.2.1").python
    with ssh.open({**request.getfixturevalue("sshd").options(), "python": python}) as opened:
        yield opened


@pytest.mark.parametrize(("way", "setting"), [("ssh", FP32), ("8.2.1", INT8), ("10.3.0", FP32)])
def test_a_cascade_answers_as_onnx_runtime_alone_does(
    way: str, setting: Setting, request: pytest.FixtureRequest, bundle: Bundle, tmp_path: Path
) -> None:
    """Engines feed each other on the device, graphs are recorded, and outputs are in the order of the graph."""
    link = request.getfixturevalue("through_sshd") if way == "ssh" else with_bindings(tmp_path, way)
    data = np.random.default_rng(3).standard_normal((40, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "data.npy", data)
    backend = tensorrt.open({})
    format = backend.formats(setting.precision)[0]
    nets = {w.block_key: onnxruntime.InferenceSession(bundle.path(w, format).read_bytes()) for w in bundle.workloads}
    scores, classes = np.zeros((40, 3), dtype=np.float32), np.zeros((40, 3), dtype=int)
    for i, sample in enumerate(data):
        features = sample[None]
        for stage, key in enumerate(("first", "next", "next")):
            features, logits, score = nets[key].run(None, {"image": features})
            scores[i, stage], classes[i, stage] = score[0], logits.argmax()
    at = float(np.median(scores[:, 0]))
    with backend.session(link, setting) as session:
        for workload in bundle.workloads:
            loaded = session.load(backend.prepare(link, bundle, workload, setting))
            assert ["features", "logits", "score"] == [t.name for t in loaded.outputs]
            assert 1 == loaded.notes["cuda_graph"]
            assert loaded.peak_memory_bytes is not None and loaded.peak_memory_bytes > 0
        answers = session.answer(chain_plan(at, 2.0), tmp_path / "data.npy", ())
    node = np.where(scores[:, 0] >= at, 0, 2)
    assert {0, 2} == set(node.tolist())
    assert node.tolist() == answers.node.tolist()
    rows = np.arange(40)
    assert classes[rows, node].tolist() == answers.answer.tolist()
    np.testing.assert_allclose(scores[rows, node], answers.score, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bindings", "trtexec"])
def test_an_engine_is_built_once_and_the_timing_cache_is_shared(
    kind: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another precision is another engine; another process finds both."""
    link = with_bindings(tmp_path, "8.2.1") if kind == "bindings" else with_trtexec(tmp_path, "8.2.1", monkeypatch)
    backend = tensorrt.open({"runner": kind})
    told = []
    for _ in range(2):
        for setting in (FP32, FP16):
            with backend.session(link, setting) as session:
                assert "8.2.1" == session.hello.runtime_version
                told.append(session.load(backend.prepare(link, bundle, bundle.workload("first"), setting)).notes)
    assert ["built", "built", "kept", "kept"] == [notes["engine"] for notes in told]
    assert all(int(notes["engine_bytes"]) > 0 for notes in told)
    folder = tmp_path / "board" / "tensorrt"
    assert 2 == len(list(folder.glob("*.plan")))
    assert b"timed\ntimed\n" == (folder / "timing-8.2.1.cache").read_bytes()
    assert [] == list(folder.glob("*.part"))


@pytest.mark.parametrize("kind", ["bindings", "trtexec"])
def test_an_engine_that_no_longer_fits_is_removed_and_built_anew(
    kind: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that failed, a GPU that was changed: an error that says so once."""
    link = with_bindings(tmp_path, "10.3.0") if kind == "bindings" else with_trtexec(tmp_path, "10.3.0", monkeypatch)
    backend = tensorrt.open({})
    prepared = backend.prepare(link, bundle, bundle.workload("first"), FP32)
    with backend.session(link, FP32) as session:
        session.load(prepared)
        (plan,) = (tmp_path / "board" / "tensorrt").glob("*.plan")
        plan.write_bytes(b"something else")
        with pytest.raises(PermanentDeviceError, match=r"removed and built anew.*Serialization"):
            session.load(prepared)
        assert "built" == session.load(prepared).notes["engine"]


@pytest.mark.parametrize("kind", ["bindings", "trtexec"])
def test_an_operator_that_tensorrt_lacks_is_named(
    kind: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the workload, its file and the line that the parser said."""
    link = with_bindings(tmp_path, "10.3.0") if kind == "bindings" else with_trtexec(tmp_path, "10.3.0", monkeypatch)
    model = onnx.load_from_string(bundle.path(bundle.workload("first"), "onnx").read_bytes())
    model.graph.node[1].op_type = "Swirl"
    file = tmp_path / "odd.onnx"
    onnx.save(model, file)
    odd = replace(bundle.workload("first"), block_key="odd", artifacts={"onnx": artifact_of(tmp_path, file)})
    backend = tensorrt.open({})
    prepared = backend.prepare(link, replace(bundle, root=tmp_path, workloads=(odd,)), odd, FP32)
    with backend.session(link, FP32) as session:
        with pytest.raises(
            PermanentDeviceError, match=r"odd from .*odd\.onnx.*10\.3\.0.*Plugin not found.*Swirl"
        ) as no:
            session.load(prepared)
        assert "\n" not in str(no.value)


def test_the_dla_takes_only_what_it_can_unless_told(bundle: Bundle, tmp_path: Path) -> None:
    """A fallback to the GPU is an error, or a flag on every window."""
    link = with_bindings(tmp_path, "8.2.1")
    dla = Setting(unit="dla", precision="fp16")
    for options in ({}, {"gpu_fallback": True}):
        backend = tensorrt.open(options)
        with backend.session(link, dla) as session:
            prepared = backend.prepare(link, bundle, bundle.workload("first"), dla)
            if not options:
                with pytest.raises(PermanentDeviceError, match="GPU fallback is not enabled"):
                    session.load(prepared)
            else:
                session.load(prepared)
                assert "gpu_fallback" in session.window(["first"], SHORT, ()).flags
    with pytest.raises(ConfigError, match="fp16 and int8 only"):
        tensorrt.open({}).session(link, replace(dla, precision="fp32"))


def test_without_a_graph_runs_are_enqueued(bundle: Bundle, tmp_path: Path) -> None:
    """For networks whose launches are to be seen."""
    link = with_bindings(tmp_path, "10.3.0")
    backend = tensorrt.open({"graph": False})
    with backend.session(link, FP32) as session:
        loaded = session.load(backend.prepare(link, bundle, bundle.workload("first"), FP32))
        assert 0 == loaded.notes["cuda_graph"]
        assert session.window(["first"], SHORT, ()).run_ns.size >= 20


def test_layers_are_timed_apart_when_asked(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their mean times stand beside the window's noise; the window is as long as without."""
    link = with_trtexec(tmp_path, "8.2.1", monkeypatch)
    backend = tensorrt.open({"runner": "trtexec", "layers": True})
    with backend.session(link, FP32) as session:
        session.load(backend.prepare(link, bundle, bundle.workload("first"), FP32))
        window = session.window(["first"], replace(SHORT, min_time_s=0.2), ())
    assert window.noise["layer_ms.Conv_0"] > 0
    assert window.start_ns[-1] - window.start_ns[0] > 0.15e9


def test_a_board_without_tensorrt_says_what_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both runners, in one line, with what to install."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    link = local.open({"workdir": tmp_path / "board"})
    with pytest.raises(PermanentDeviceError, match=r"cannot import tensorrt; no trtexec.*nvidia-jetpack") as caught:
        tensorrt.open({}).session(link, FP32)
    assert "\n" not in str(caught.value)


def test_a_parser_without_hard_swish_is_sent_what_it_stands_for(bundle: Bundle, tmp_path: Path) -> None:
    """Versions before 8.4, and so all of JetPack 4; later ones get the graph as it is."""
    from torch.nn import Hardswish

    from tests.hwbench.torch_exits import Exit, onnx_files

    data = onnx_files(Exit(3, 1, Hardswish()).eval(), 3)["onnx"]
    file = tmp_path / "hard.onnx"
    file.write_bytes(data)
    hard = replace(bundle.workload("first"), block_key="hard", artifacts={"onnx": artifact_of(tmp_path, file)})
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    expected = onnxruntime.InferenceSession(data).run(None, {"image": x})
    backend = tensorrt.open({})
    for version in ("8.2.1", "10.3.0"):
        link = with_bindings(tmp_path / version, version)
        prepared = backend.prepare(link, replace(bundle, root=tmp_path, workloads=(hard,)), hard, FP32)
        operators = [node.op_type for node in onnx.load(prepared.path).graph.node]
        assert (version == "10.3.0") == ("HardSwish" in operators)
        for ours, theirs in zip(
            expected, onnxruntime.InferenceSession(prepared.path).run(None, {"image": x}), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        with backend.session(link, FP32) as session:
            assert session.load(prepared).outputs


def test_fp16_of_version_11_is_a_graph_in_fp16(bundle: Bundle, tmp_path: Path) -> None:
    """Its inputs and outputs stay as they were; earlier versions get the float graph and a flag."""
    backend = tensorrt.open({})
    sent = {}
    for version in ("10.3.0", "11.1.0"):
        link = with_bindings(tmp_path / version, version)
        prepared = backend.prepare(link, bundle, bundle.workload("first"), FP16)
        sent[version] = onnx.load(prepared.path)
    weights = {version: {w.data_type for w in model.graph.initializer} for version, model in sent.items()}
    assert {onnx.TensorProto.FLOAT} == weights["10.3.0"]
    assert {onnx.TensorProto.FLOAT16} == weights["11.1.0"]
    edges = [*sent["11.1.0"].graph.input, *sent["11.1.0"].graph.output]
    assert {onnx.TensorProto.FLOAT} == {edge.type.tensor_type.elem_type for edge in edges}
