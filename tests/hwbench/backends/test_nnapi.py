"""The backend `nnapi`: flags of the tool, and the contract over this machine's shell and over the real adb server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from hwbench import command, journal
from hwbench.backend import Backend
from hwbench.backends import nnapi
from hwbench.cli import hwbench
from hwbench.errors import ConfigError
from hwbench.link import Link
from hwbench.links import adb, local
from hwbench.setting import Setting
from hwbench.store import Store
from hwbench.workload import Bundle
from tests.contracts.backend import BackendContract
from tests.doubles.phones import Phone, Server
from tests.doubles.tool import install_benchmark_model
from tests.hwbench.exit_graphs import CPU1, litert_bundle

pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed")
NPU, GPU = Setting(unit="npu", precision="fp32"), Setting(unit="gpu", precision="fp32")

_METER = """[[meter]]
kind = "files"
rails = { total = "file:/sys/power/rail" }
unit = "uw"
"""


class TestNnApi(BackendContract):
    """The contract, with the tool sent from here."""

    @pytest.fixture
    def link(self, tmp_path: Path) -> Link:
        """This machine."""
        return local.open({"workdir": tmp_path / "board"})

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        """As a target opens it that names a file of this machine."""
        return nnapi.open({"push": str(install_benchmark_model(tmp_path / "benchmark_model"))})

    @pytest.fixture
    def bundle(self, tmp_path: Path, root: Path) -> Bundle:
        """Two exits, recorded."""
        return litert_bundle(tmp_path / "bundle", root / "tests" / "recordings")

    @pytest.fixture
    def settings(self) -> list[Setting]:
        """All three."""
        return [CPU1, replace(CPU1, precision="fp16"), replace(CPU1, precision="int8")]


class TestNnApiOverAdb(TestNnApi):
    """The contract through the real adb server."""

    @pytest.fixture
    def link(self, phone: Phone, adb_server: Server) -> Link:
        """A phone."""
        return adb.open({"port": adb_server.port, "serial": phone.serial})


class TestFlags:
    """What the tool is told for a setting."""

    @pytest.mark.parametrize(
        ("setting", "options", "expected"),
        [
            (NPU, {}, "--use_nnapi=true --disable_nnapi_cpu=true --nnapi_allow_fp16=false"),
            (
                replace(NPU, precision="fp16"),
                {"accelerator": "google-edgetpu", "allow_cpu_fallback": True},
                "--use_nnapi=true --nnapi_accelerator_name=google-edgetpu --disable_nnapi_cpu=false "
                "--nnapi_allow_fp16=true",
            ),
            (GPU, {}, "--use_gpu=true --gpu_precision_loss_allowed=false"),
            (replace(GPU, precision="fp16"), {}, "--use_gpu=true --gpu_precision_loss_allowed=true"),
            (replace(CPU1, threads=4), {}, "--use_xnnpack=true --num_threads=4"),
            (replace(CPU1, precision="fp16"), {}, "--use_xnnpack=true --xnnpack_force_fp16=true --num_threads=1"),
        ],
    )
    def test_follow_unit_and_precision(self, setting: Setting, options: dict[str, object], expected: str) -> None:
        """Loss of precision is only ever allowed where fp16 was asked for."""
        assert expected.split() == list(nnapi.flags(setting, nnapi.Options.model_validate(options)))

    @pytest.mark.parametrize(
        ("setting", "why"),
        [(replace(CPU1, threads=None), "names no threads"), (replace(NPU, batch=4), "one input at a time")],
    )
    def test_what_it_cannot_is_refused(self, setting: Setting, why: str) -> None:
        """As a user's error."""
        with pytest.raises(ConfigError, match=why):
            nnapi.flags(setting, nnapi.Options())

    def test_an_accelerator_is_one_word(self) -> None:
        """It is a flag's value."""
        with pytest.raises(ValidationError):
            nnapi.open({"accelerator": "a b"})


class TestProfile:
    """`hwbench profile --target android` from the command line to the table."""

    @pytest.fixture
    def android(
        self,
        tmp_path: Path,
        adb_server: Server,
        phone: Phone,
        monkeypatch: pytest.MonkeyPatch,
        request: pytest.FixtureRequest,
    ) -> Iterator[Path]:
        """A working folder with a target; the phone has the tool and a rail. The parameter: whether that is a meter."""
        rail = phone.root / "sys/power/rail"
        install_benchmark_model(phone.root / "data/local/tmp/benchmark_model", "slow:200", rail=rail)
        rail.parent.mkdir(parents=True)
        rail.write_text("900000\n")
        (tmp_path / "targets").mkdir()
        (tmp_path / "targets/android.toml").write_text(
            f"""
schema = 1
name = "android"
title = "A phone"
link = [{{ kind = "adb", serial = "{phone.serial}", port = {adb_server.port} }}]
[[backend]]
kind = "nnapi"
units = ["npu", "cpu"]
precisions = ["fp32", "int8"]
threads = [1]
{_METER if getattr(request, "param", False) else ""}
"""
        )
        monkeypatch.chdir(tmp_path)
        yield tmp_path

    def test_makes_a_table_of_real_medians(self, android: Path, root: Path) -> None:
        """Over the real adb server; each row says that it stands on summaries."""
        rows = _profiled(android, root, "--sessions", "1")
        assert ["cpu", "npu"] == [row["unit"] for row in rows]
        for row in rows:
            assert 0.0001 < float(row["latency_ms"]) < 10 and "measured" == row["latency_evidence"]
            assert int(row["runs"]) >= 100 and "1" == row["sessions"]
            assert "summary_only" in row["flags"]
        proof = (android / "table.toml").read_text()
        assert "benchmark_model" in proof and "sha256:" in proof

    @pytest.mark.parametrize("android", [True], indirect=True)
    def test_a_rail_that_the_phones_shell_reads_gives_energy(self, android: Path, root: Path) -> None:
        """Net of idle: 1.1 W while the graph runs, shared by all runs of the window."""
        (row,) = _profiled(android, root, "--sessions", "1", "--unit", "npu")
        assert "measured" == row["energy_evidence"]
        with Store(next((android / "runs").glob("*/store.sqlite"))) as store:
            (window,) = journal.windows(store)
        assert window.summary is not None and window.energy_mj is not None
        assert 1.0 < window.energy_mj / (window.summary.mean_ns / 1e6) < 1.25

    @pytest.mark.parametrize("after_bytes", [4000])
    def test_a_link_that_breaks_under_the_tool_costs_the_open_cell_only(
        self, after_bytes: int, android: Path, phone: Phone, root: Path
    ) -> None:
        """The phone is found again, its tool called again, and the table is whole."""
        phone.drop_at("benchmark_model", after_bytes=after_bytes)
        (row,) = _profiled(android, root, "--sessions", "1", "--unit", "npu")
        assert ("npu", "1") == (row["unit"], row["sessions"])
        assert not phone.drop_is_due()

    def test_a_phone_that_is_away_is_one_line(
        self, android: Path, phone: Phone, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Exit 4, and what to look at."""
        phone.leave()
        model = root / "tests/recordings/litert/exit0.tflite"
        assert 4 == command.run(hwbench, "hwbench", ["profile", "--target", "android", "--model", str(model)])
        told = capsys.readouterr().err
        assert phone.serial in told and "Traceback" not in told


def _profiled(folder: Path, root: Path, *words: str) -> list[dict[str, str]]:
    """Rows of the table that `hwbench profile` makes of a recorded exit."""
    model = root / "tests/recordings/litert/exit0.tflite"
    argv = ["profile", "--target", "android", "--model", str(model), "--precision", "fp32", "--window", "0.3"]
    assert 0 == command.run(hwbench, "hwbench", [*argv, "--out", str(folder / "table"), *words])
    lines = (folder / "table.csv").read_text().splitlines()
    return [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
