"""ONNX Runtime on this machine."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from hwbench.backend import Backend
from hwbench.backends import onnxruntime
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.link import Link
from hwbench.links import local
from hwbench.setting import Setting
from hwbench.workload import Bundle, Workload, artifact_of
from models.export.onnx_int8 import static_int8
from tests.contracts.backend import BackendContract
from tests.contracts.session import SHORT
from tests.hwbench.exit_graphs import CPU1, chain_plan, exit_onnx, onnx_bundle, workload


class TestOnnxRuntime(BackendContract):
    """The contract with the real runtime."""

    @pytest.fixture
    def link(self, tmp_path: Path) -> Link:
        """This machine."""
        return local.open({"workdir": tmp_path / "board"})

    @pytest.fixture
    def backend(self) -> Backend:
        """As a target without options opens it."""
        return onnxruntime.open({})

    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Bundle:
        """Two exits, float and static int8."""
        floats = onnx_bundle(tmp_path / "bundle")
        return replace(floats, workloads=tuple(_with_int8(floats.root, w) for w in floats.workloads))

    @pytest.fixture
    def settings(self) -> list[Setting]:
        """fp32 on one and on two threads, int8."""
        return [CPU1, Setting(unit="cpu", precision="fp32", threads=2), replace(CPU1, precision="int8")]

    def test_int8_answers_nearly_as_float_with_a_score_that_is_no_step(
        self, backend: Backend, link: Link, bundle: Bundle, tmp_path: Path, rng: np.random.Generator
    ) -> None:
        """Through plan and agent: most scores within a hundredth, and more of them than one byte could tell."""
        data = rng.standard_normal((400, 3, 8, 8)).astype(np.float32)
        np.save(tmp_path / "data.npy", data)
        found = []
        for precision in ("fp32", "int8"):
            setting = replace(CPU1, precision=precision)
            with backend.session(link, setting) as session:
                session.load(backend.prepare(link, bundle, bundle.workload("first"), setting))
                found.append(session.answer(chain_plan(), tmp_path / "data.npy", ()))
        floats, rounded = found
        assert np.median(np.abs(floats.score - rounded.score)) < 0.01
        assert 256 < len(np.unique(rounded.score))
        assert (floats.answer == rounded.answer).mean() > 0.9
        assert not np.array_equal(floats.score, rounded.score)

    def test_half_precision_is_refused(self, backend: Backend) -> None:
        """The runtime would compute in fp32 and call it fp16."""
        with pytest.raises(ConfigError, match=r"no precision 'fp16'.*fp32, int8"):
            backend.formats("fp16")

    def test_a_setting_without_threads_is_refused(self, backend: Backend, link: Link) -> None:
        """The runtime would take all cores, and the row would not say so."""
        with pytest.raises(ConfigError, match="threads"):
            backend.session(link, Setting(unit="cpu", precision="fp32"))

    def test_the_agent_and_every_thread_of_it_stay_on_the_units_cores(
        self, link: Link, bundle: Bundle, tmp_path: Path
    ) -> None:
        """Those the runtime starts for itself included; a unit without cores of its own has the whole board."""
        found = os.sched_getaffinity(0)
        chosen = sorted(found)[-1]
        backend = onnxruntime.open({"cores": {"cpu.little": [chosen]}, "spinning": False})
        for unit, threads, expected in (("cpu.little", 1, {chosen}), ("cpu", 2, found)):
            setting = Setting(unit=unit, precision="fp32", threads=threads)
            with backend.session(link, setting) as session:
                session.load(backend.prepare(link, bundle, bundle.workload("first"), setting))
                (pid,) = _agents(tmp_path / "board")
                assert {frozenset(expected)} == {
                    frozenset(os.sched_getaffinity(int(t))) for t in os.listdir(f"/proc/{pid}/task")
                }

    def test_cores_that_the_board_lacks_are_named(self, link: Link) -> None:
        """The kernel would take those that there are and keep quiet about the rest."""
        present = min(os.sched_getaffinity(0))
        for cores in ([4095], [present, 4095]):
            backend = onnxruntime.open({"cores": {"cpu": cores}})
            with pytest.raises(PermanentDeviceError, match="4095"):
                backend.session(link, CPU1)

    def test_more_threads_than_cores_are_refused(self, link: Link, bundle: Bundle) -> None:
        """They would share a core, and the row would not say so."""
        backend = onnxruntime.open({"cores": {"cpu.big": [4, 5]}})
        setting = Setting(unit="cpu.big", precision="fp32", threads=4)
        with pytest.raises(ConfigError, match=r"4 threads on the 2 cores of 'cpu\.big'"):
            backend.prepare(link, bundle, bundle.workload("first"), setting)

    def test_an_open_batch_dimension_takes_the_settings_batch(
        self, backend: Backend, link: Link, tmp_path: Path
    ) -> None:
        """Other open dimensions would be a guess, and are refused."""
        for key, shape in (("first", ["N", 3, 8, 8]), ("open", ["N", 3, "H", 8])):
            model = onnx.load_from_string(exit_onnx(3, 1))
            for size, dim in zip(shape, model.graph.input[0].type.tensor_type.shape.dim, strict=True):
                dim.Clear()
                if isinstance(size, int):
                    dim.dim_value = size
                else:
                    dim.dim_param = size
            for output in model.graph.output:
                output.type.tensor_type.ClearField("shape")
            data = {"onnx": model.SerializeToString()}
            root = tmp_path / key
            root.mkdir()
            bundle = Bundle(root=root, space=None, workloads=(workload(root, key, data, 3),))
            setting = replace(CPU1, batch=4)
            prepared = backend.prepare(link, bundle, bundle.workloads[0], setting)
            with backend.session(link, setting) as session:
                if key == "first":
                    loaded = session.load(prepared)
                    assert [(4, 3, 8, 8)] == [t.shape for t in loaded.inputs]
                    assert [(4, 8, 8, 8), (4, 10), (4,)] == [t.shape for t in loaded.outputs]
                    assert session.window(["first"], SHORT, ()).run_ns.size
                else:
                    with pytest.raises(PermanentDeviceError, match="'H' open"):
                        session.load(prepared)


def _with_int8(root: Path, workload: Workload) -> Workload:
    """The same workload with its int8 form beside the float one."""
    samples = np.random.default_rng(8).standard_normal((16, *workload.inputs[0].shape)).astype(np.float32)
    file = root / f"{workload.block_key}.onnx_int8"
    file.write_bytes(static_int8((root / workload.artifacts["onnx"].path).read_bytes(), list(samples), "score"))
    return replace(workload, artifacts={**workload.artifacts, "onnx_int8": artifact_of(root, file)})


def _agents(workdir: Path) -> list[str]:
    """Processes that run the agent which was pushed there."""
    mark = str(workdir).encode()
    return [p for p in os.listdir("/proc") if p.isdigit() and _agent(Path("/proc", p, "cmdline"), mark)]


def _agent(file: Path, mark: bytes) -> bool:
    try:
        return mark in file.read_bytes() and int(file.parent.name) != os.getpid()
    except OSError:  # it has ended meanwhile
        return False
