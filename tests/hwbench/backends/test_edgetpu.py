"""The Edge TPU's path on this machine: real LiteRT int8 files and interpreter; compiler and chip have stand-ins."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from hwbench import command
from hwbench.backend import Backend
from hwbench.backends import edgetpu, litert
from hwbench.cli import hwbench
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.link import Link
from hwbench.links import local, ssh
from hwbench.setting import Setting
from hwbench.table import LatencyTable
from hwbench.workload import Bundle
from tests.contracts.backend import BackendContract
from tests.contracts.session import SHORT
from tests.doubles import edgetpu_compiler as stand_in
from tests.hwbench.exit_graphs import chain_plan, litert_bundle

pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed")
NPU = Setting(unit="npu", precision="int8")
_DOUBLES = Path(stand_in.__file__).parent


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A delegate that takes no operation, built from its source."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the delegate's stand-in with")
    file = tmp_path_factory.mktemp("delegate") / "libedgetpu.so.1"
    source = _DOUBLES / "edgetpu_delegate.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", file, source, "-ldl"], check=True, capture_output=True)
    return file


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The compiler's stand-in, with a cache folder of its own and a record of each call."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "bin"
    folder.mkdir()
    yield stand_in.install(folder)


@pytest.fixture
def link(tmp_path: Path) -> Link:
    """This machine."""
    return local.open({"workdir": tmp_path / "board"})


@pytest.fixture
def bundle(tmp_path: Path, root: Path) -> Bundle:
    """Two exits, recorded; the file of `next` is not that of `first`."""
    return litert_bundle(tmp_path / "bundle", root / "tests" / "recordings")


@pytest.fixture
def backend(program: Path, library: Path) -> edgetpu.EdgeTpu:
    """As a target with a USB device opens it."""
    return edgetpu.open({"compiler": str(program), "library": str(library), "device": "usb:0"})


class TestEdgeTpu(BackendContract):
    """The contract with the real interpreter."""

    @pytest.fixture
    def link(self, link: Link) -> Link:
        """This machine."""
        return link

    @pytest.fixture
    def backend(self, backend: Backend) -> Backend:
        """With the stand-ins."""
        return backend

    @pytest.fixture
    def bundle(self, bundle: Bundle) -> Bundle:
        """Two exits."""
        return bundle

    @pytest.fixture
    def settings(self) -> list[Setting]:
        """The one precision."""
        return [NPU]


@pytest.fixture(params=["local", "ssh"])
def any_link(request: pytest.FixtureRequest, link: Link) -> Iterator[Link]:
    """This machine, directly and through its own sshd."""
    if request.param == "local":
        yield link
        return
    with ssh.open(request.getfixturevalue("sshd").options()) as opened:
        yield opened


def test_a_cascade_answers_as_int8_on_the_processor_does(
    backend: edgetpu.EdgeTpu, library: Path, any_link: Link, bundle: Bundle, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Through the delegate, co-compiled files and the agent, sample by sample; windows are timed too."""
    link = any_link
    data = rng.standard_normal((40, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "data.npy", data)
    workloads = [bundle.workload("first"), bundle.workload("next")]
    cpu = Setting(unit="cpu", precision="int8", threads=1)
    plan, found = chain_plan(2.0, 2.0), []
    for runtime, setting in ((litert.open({}), cpu), (backend, NPU)):
        with runtime.session(link, setting) as session:
            for prepared in runtime.prepare_together(link, bundle, workloads, setting):
                session.load(prepared)
            if not found:
                scores = session.answer(plan, tmp_path / "data.npy", ()).node_scores[:, 0]
                plan = chain_plan(float(np.median(scores)), 2.0)
            found.append(session.answer(plan, tmp_path / "data.npy", ()))
            assert session.window(["first", "next"], SHORT, ()).run_ns.min() > 0
    assert {0, 2} == set(found[0].node.tolist())
    np.testing.assert_array_equal(found[0].node, found[1].node)
    np.testing.assert_array_equal(found[0].answer, found[1].answer)
    np.testing.assert_array_equal(found[0].score, found[1].score)
    said = Path(f"{library}.log").read_text().splitlines()
    assert "create device=usb:0" in said
    assert said.count("prepare") >= 3


def test_a_device_that_does_not_open_is_named(program: Path, library: Path, link: Link, bundle: Bundle) -> None:
    """With the library's own words and what to look at; a library that is absent likewise."""
    options = {"compiler": str(program), "library": str(library)}
    for changed, said in (
        ({"device": "usb:7"}, r"does not open usb:7.*no such device.*is the Edge TPU there"),
        ({"library": "/nowhere/libedgetpu.so.1"}, r"/nowhere/libedgetpu\.so\.1 does not open any device"),
    ):
        backend = edgetpu.open({**options, **changed})
        prepared = backend.prepare(link, bundle, bundle.workload("first"), NPU)
        with backend.session(link, NPU) as session, pytest.raises(PermanentDeviceError, match=said) as caught:
            session.load(prepared)
        assert "\n" not in str(caught.value)


def test_what_the_compiler_said_is_noted(backend: edgetpu.EdgeTpu, link: Link, bundle: Bundle) -> None:
    """Memory on and off the chip, subgraphs, operations on the processor, version, the least memory it needs."""
    alone = backend.prepare(link, bundle, bundle.workload("first"), NPU)
    assert {
        "compiler": "edgetpu_compiler 16.0.384591198",
        "compiled_together": 1,
        "off_chip_bytes": 0,
        "subgraphs": 1,
        "unmapped_ops": 3,
    }.items() <= alone.notes.items()
    assert int(alone.notes["on_chip_bytes"]) > 0
    assert int(alone.notes["needs_bytes"]) > bundle.workload("first").artifacts["tflite_int8"].size_bytes


def test_parameters_that_do_not_fit_the_chip_are_noted(
    backend: edgetpu.EdgeTpu, link: Link, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled together the first has the chip's memory before the second; alone each has all of it."""
    monkeypatch.setenv("EDGETPU_STANDIN_CHIP_BYTES", "500")
    workloads = [bundle.workload("first"), bundle.workload("next")]
    together = backend.prepare_together(link, bundle, workloads, NPU)
    alone = backend.prepare(link, bundle, workloads[1], NPU)
    assert [0, int(alone.notes["off_chip_bytes"])] < [p.notes["off_chip_bytes"] for p in together]
    assert {2} == {p.notes["compiled_together"] for p in together}
    assert alone.sha256 != together[1].sha256


def test_a_file_is_compiled_once_for_its_content_company_and_version(
    backend: edgetpu.EdgeTpu, program: Path, library: Path, link: Link, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again when what is kept was damaged."""
    workloads = [bundle.workload("first"), bundle.workload("next")]
    first = backend.prepare(link, bundle, workloads[0], NPU)
    backend.prepare_together(link, bundle, workloads, NPU)
    kept = sorted(program.parents[1].glob("cache/hwbench/edgetpu/*"))
    assert 2 == len(kept)
    shutil.copyfile(program, program.with_name("real"))
    program.write_text('#!/bin/sh\necho "Edge TPU Compiler version 16.0.384591198"\ntest "$1" = --version\n')
    again = edgetpu.open({"compiler": str(program), "library": str(library), "device": "usb:0"})
    assert first == again.prepare(link, bundle, workloads[0], NPU)
    with pytest.raises(PermanentDeviceError, match=r"next: edgetpu_compiler refuses .*next\.tflite_int8"):
        again.prepare(link, bundle, workloads[1], NPU)
    shutil.copyfile(program.with_name("real"), program)
    for folder in kept:
        compiled = folder / "w0_edgetpu.tflite"
        compiled.write_bytes(compiled.read_bytes()[:100])
    assert first == edgetpu.open({"compiler": str(program), "library": str(library), "device": "usb:0"}).prepare(
        link, bundle, workloads[0], NPU
    )
    monkeypatch.setenv("EDGETPU_STANDIN_VERSION", "15.0.340273435")
    older = edgetpu.open({"compiler": str(program), "library": str(library), "device": "usb:0"})
    assert "edgetpu_compiler 15.0.340273435" == older.prepare(link, bundle, workloads[0], NPU).notes["compiler"]


def test_operations_the_chip_cannot_run_are_an_error_with_reasons(
    program: Path, library: Path, link: Link, bundle: Bundle, root: Path
) -> None:
    """Unless that was allowed; what the file itself computes in real numbers is none of them."""
    file = bundle.root / "hard.tflite_int8"
    shutil.copyfile(root / "tests" / "recordings" / "tflite" / "int8.tflite", file)
    hard = replace(bundle.workload("first"), block_key="hard")
    artifact = replace(hard.artifacts["tflite_int8"], path=file.name, size_bytes=file.stat().st_size)
    hard = replace(hard, artifacts={"tflite_int8": artifact})
    options = {"compiler": str(program), "library": str(library)}
    with pytest.raises(
        PermanentDeviceError,
        match=r"hard: the Edge TPU cannot run all of it: 1 HARD_SWISH \(Operation not supported\);.*--allow-cpu",
    ):
        edgetpu.open(options).prepare(link, bundle, hard, NPU)
    allowed = edgetpu.open({**options, "allow_cpu_fallback": True}).prepare(link, bundle, hard, NPU)
    assert 1 == allowed.notes["unmapped_ops"]


def test_a_float_file_is_refused_in_the_compilers_words(backend: edgetpu.EdgeTpu, link: Link, bundle: Bundle) -> None:
    """It would run on the processor altogether."""
    first = bundle.workload("first")
    floats = replace(first, block_key="floats", artifacts={"tflite_int8": first.artifacts["tflite"]})
    with pytest.raises(PermanentDeviceError, match=r"floats: edgetpu_compiler refuses .*: Model not quantized"):
        backend.prepare(link, bundle, floats, NPU)


def test_a_machine_without_the_compiler_says_where_to_get_it(link: Link, bundle: Bundle) -> None:
    """It is the user's machine that lacks it, not the board; asked for a format it says so, before any export."""
    backend = edgetpu.open({"compiler": "edgetpu_compiler-x"})
    with pytest.raises(ConfigError, match=r"no program 'edgetpu_compiler-x'.*coral\.ai"):
        backend.formats("int8")
    with pytest.raises(ConfigError, match=r"no program 'edgetpu_compiler-x'.*coral\.ai"):
        backend.prepare(link, bundle, bundle.workload("first"), NPU)


def test_another_program_of_that_name_is_refused(link: Link, bundle: Bundle) -> None:
    """Its version is asked before any file is given to it."""
    with pytest.raises(PermanentDeviceError, match="not the version of an edgetpu_compiler"):
        edgetpu.open({"compiler": "true"}).prepare(link, bundle, bundle.workload("first"), NPU)


@pytest.mark.parametrize("options", [{"device": "gpu:0"}, {"device": "usb:0;x"}, {"device": "usb:0\n"}])
def test_a_device_that_is_none_is_refused(options: dict[str, str]) -> None:
    """It goes to a library of the board as it is."""
    with pytest.raises(ValidationError, match="device"):
        edgetpu.open(options)


def test_a_clock_that_would_be_ignored_is_refused() -> None:
    """The delegate hears it only for a device with an index."""
    with pytest.raises(ValidationError, match=r"performance is ignored.*device = 'usb:0'"):
        edgetpu.open({"performance": "Max", "device": "usb"})
    assert edgetpu.open({"performance": "Max", "device": "usb:0"}).name == "edgetpu"


def test_only_single_inputs_on_the_npu_are_taken(backend: edgetpu.EdgeTpu, link: Link, bundle: Bundle) -> None:
    """Compiled files have one shape."""
    for setting, said in ((replace(NPU, batch=4), "batch 4"), (replace(NPU, unit="cpu"), "'cpu'")):
        with pytest.raises(ConfigError, match=said):
            backend.prepare(link, bundle, bundle.workload("first"), setting)
    with pytest.raises(ConfigError, match="int8 only, not in 'fp32'"):
        backend.formats("fp32")


@pytest.fixture
def coral(
    program: Path, library: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """A folder with a target of this runtime and networks beside it; the argument is what its TOML says more."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HWBENCH_TABLES", str(tmp_path / "tables"))
    for name, file in (("soft", "litert/exit0_int8"), ("hard", "tflite/int8")):
        shutil.copyfile(root / "tests" / "recordings" / f"{file}.tflite", tmp_path / f"{name}.tflite")

    def written(more: str = "") -> Path:
        (tmp_path / "targets").mkdir(exist_ok=True)
        (tmp_path / "targets" / "desk.toml").write_text(
            'schema = 1\nname = "desk"\ntitle = "a desk"\n'
            f'link = [{{ kind = "local", workdir = "{tmp_path / "work"}" }}]\n'
            '[[backend]]\nkind = "edgetpu"\nunits = ["npu"]\nprecisions = ["int8"]\n'
            f'options = {{ compiler = "{program}", library = "{library}" }}\n{more}'
        )
        return tmp_path

    return written


def _profile(model: str, *words: str) -> int:
    words = ("profile", "--target", "desk", "--model", model, "--sessions", "1", "--window", "0.01", *words)
    return command.run(hwbench, "hwbench", words)


def test_a_users_file_is_profiled_and_what_runs_on_the_processor_is_flagged(
    coral: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused with the way out first; with that, measured and flagged."""
    place = coral("")
    assert 4 == _profile("hard.tflite")
    assert "1 HARD_SWISH (Operation not supported)" in capsys.readouterr().err
    assert 0 == _profile("hard.tflite", "--allow-cpu-fallback")
    (row,) = LatencyTable.read(place / "tables" / "desk" / "edgetpu-hard").row.values()
    assert "partly_on_cpu" in row.flags
    assert 0 == _profile("soft.tflite")


def test_doctor_names_a_compiler_that_is_missing(
    coral: Callable[[str], Path], program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The board is well; what is missing is missing here."""
    coral("")
    command.run(hwbench, "hwbench", ("doctor", "--target", "desk"))
    assert "ok    runtime edgetpu" in capsys.readouterr().out
    program.unlink()
    assert 1 == command.run(hwbench, "hwbench", ("doctor", "--target", "desk"))
    assert "FAIL  runtime edgetpu: edgetpu: no program" in capsys.readouterr().out


def test_what_does_not_fit_the_board_is_one_line(
    coral: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Told by the compiler, before anything is loaded."""
    coral("[limits]\nmemory_mb = 0.001\n")
    assert 4 == _profile("soft.tflite")
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "does not fit: its compiled file alone takes" in error
    assert "memory_mb is 0.001" in error


def test_parameters_streamed_past_the_chip_flag_the_row(
    coral: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their number is the link's to the chip as much as the chip's own."""
    monkeypatch.setenv("EDGETPU_STANDIN_CHIP_BYTES", "100")
    place = coral("")
    assert 0 == _profile("soft.tflite")
    (row,) = LatencyTable.read(place / "tables" / "desk" / "edgetpu-soft").row.values()
    assert "streams_weights" in row.flags


def test_the_stand_in_is_a_program_of_its_own(program: Path) -> None:
    """As a user would call the real one."""
    ran = subprocess.run([program, "--version"], capture_output=True, check=True, env={**os.environ}, text=True)
    assert "Edge TPU Compiler version 16.0.384591198\n" == ran.stdout
