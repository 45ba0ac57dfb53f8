"""A board is locked while it is open, and left as it was found, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import hwbench.clocks
from hwbench.board import open_board
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.setting import Setting
from hwbench.target import Target
from hwbench.target_file import read_target
from tests.doubles.networks import matmul_bundle

_SETTING = Setting(unit="cpu", precision="fp32", threads=1)


@pytest.fixture(autouse=True)
def knobs(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """The clock double is a plugin beside ours."""
    folders = [*hwbench.clocks.__path__, str(root / "tests" / "doubles" / "clocks")]
    monkeypatch.setattr(hwbench.clocks, "__path__", folders)


@pytest.fixture
def desk(tmp_path: Path) -> Target:
    """This machine with two clocks that are files; `mode` is set before `gpu`."""
    for name, mhz in (("mode", 10), ("gpu", 300)):
        (tmp_path / name).write_text(str(mhz))
    file = tmp_path / "desk.toml"
    file.write_text(
        textwrap.dedent(f"""
        schema = 1
        name = "desk"
        title = "a board on the desk"
        [[link]]
        kind = "local"
        workdir = "{tmp_path}/board"
        [[backend]]
        kind = "onnxruntime"
        units = ["cpu"]
        precisions = ["fp32"]
        threads = [1]
        [[clock]]
        kind = "knob"
        name = "mode"
        file = "{tmp_path}/mode"
        grid_mhz = [10.0, 20.0]
        [[clock]]
        kind = "knob"
        name = "gpu"
        file = "{tmp_path}/gpu"
        grid_mhz = [300.0, 600.0, 900.0]
        stuck = 900.0
        [[sensor]]
        name = "soc"
        read = "file:{tmp_path}/temp"
        unit = "mc"
        [[meter]]
        kind = "files"
        optional = true
        [meter.rails]
        total = "file:{tmp_path}/power"
        """)
    )
    return read_target(file)


def _point(**clocks: float) -> Setting:
    return Setting(unit="cpu", precision="fp32", threads=1, clocks=tuple(sorted(clocks.items())))


def _clocks(folder: Path) -> tuple[str, str]:
    return (folder / "mode").read_text(), (folder / "gpu").read_text()


def test_clocks_are_set_read_back_and_put_back(desk: Target, tmp_path: Path) -> None:
    """Inside the block the board runs as asked, afterwards as before."""
    with open_board(desk) as board:
        assert board.apply(_point(mode=20.0, gpu=600.0)) == {"mode": 20.0, "gpu": 600.0}
        assert _clocks(tmp_path) == ("20", "600")
    assert _clocks(tmp_path) == ("10", "300")
    assert not (tmp_path / "board" / "restore.json").exists()


def test_clock_that_the_next_point_does_not_name_is_as_found_again(desk: Target, tmp_path: Path) -> None:
    """Otherwise a row "as found" would be measured at whatever came before it."""
    with open_board(desk) as board:
        board.apply(_point(mode=20.0, gpu=600.0))
        assert board.apply(_point(mode=20.0)) == {"mode": 20.0, "gpu": 300.0}
        assert board.apply(_SETTING) == {"mode": 10.0, "gpu": 300.0}
        board.apply(_point(gpu=600.0))
    assert _clocks(tmp_path) == ("10", "300")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_board_is_put_back_after_any_error(desk: Target, tmp_path: Path, error: type[BaseException]) -> None:
    """Ctrl-C in the middle of a window too, and the lock falls."""
    with pytest.raises(error), open_board(desk) as board:
        board.apply(_point(gpu=600.0))
        raise error
    assert _clocks(tmp_path) == ("10", "300")
    with open_board(desk):
        pass


def test_clock_that_is_refused_puts_the_others_back(desk: Target, tmp_path: Path) -> None:
    """The power mode was set already when the GPU refused."""
    with pytest.raises(PermanentDeviceError, match="clock gpu does not take 900"), open_board(desk) as board:
        board.apply(_point(mode=20.0, gpu=900.0))
    assert _clocks(tmp_path) == ("10", "300")


def test_record_is_written_before_the_first_clock_is_set(desk: Target, tmp_path: Path) -> None:
    """Even when that first clock is refused."""
    record = tmp_path / "board" / "restore.json"
    with open_board(desk) as board:
        board.apply(_SETTING)
        assert not record.exists()
        with pytest.raises(PermanentDeviceError):
            board.apply(_point(gpu=900.0))
        assert json.loads(record.read_text()) == {"mode": {"mhz": "10"}, "gpu": {"mhz": "300"}}


def test_killed_driver_is_cleaned_up_after(desk: Target, tmp_path: Path, root: Path) -> None:
    """kill -9 with clocks set: whoever opens the board next finds it as it was before."""
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        import hwbench.clocks
        hwbench.clocks.__path__.append(sys.argv[2])
        from hwbench.board import open_board
        from hwbench.setting import Setting
        from hwbench.target_file import read_target
        with open_board(read_target(Path(sys.argv[1]))) as board:
            board.apply(Setting(unit="cpu", precision="fp32", clocks=(("gpu", 600.0), ("mode", 20.0))))
            print("set", flush=True)
            time.sleep(60)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "desk.toml"), str(root / "tests" / "doubles" / "clocks")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"set\n"
    with pytest.raises(ConfigError, match=f"board desk is in use by process {process.pid}"), open_board(desk):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert _clocks(tmp_path) == ("20", "600")
    with open_board(desk):
        assert _clocks(tmp_path) == ("10", "300")


def test_damaged_record_is_named(desk: Target, tmp_path: Path) -> None:
    """Nobody knows then what the clocks were, so nothing is guessed."""
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "restore.json").write_text("{")
    with pytest.raises(PermanentDeviceError, match=r"restore\.json is damaged"), open_board(desk):
        pass


def test_unknown_clock_backend_and_link_are_named(desk: Target) -> None:
    """Before anything is touched."""
    with open_board(desk) as board, pytest.raises(ConfigError, match="has no clock 'npu'"):
        board.apply(_point(npu=1.0))
    with pytest.raises(ConfigError, match="no link 1; it has 1"), open_board(desk, link=1):
        pass
    with pytest.raises(ConfigError, match="no backend 'tensorrt'"), open_board(desk, backend="tensorrt"):
        pass


def test_typo_in_a_plugins_options_is_named(desk: Target, tmp_path: Path) -> None:
    """When the board is opened."""
    text = (tmp_path / "desk.toml").read_text().replace("workdir =", "wrokdir =")
    (tmp_path / "desk.toml").write_text(text)
    with (
        pytest.raises(ConfigError, match=r"\[\[link\]\] local: unknown key 'wrokdir' — did you mean 'workdir'"),
        open_board(read_target(tmp_path / "desk.toml")),
    ):
        pass


def test_optional_meter_and_sensor_that_are_absent_are_no_error(desk: Target) -> None:
    """Energy is then declared, and nothing is read that is not there."""
    with open_board(desk) as board:
        assert board.meter is None
        assert board.sensors == ()
        assert board.probes() == ()
        assert board.read_sensors() == ({}, {})


def test_meter_that_must_be_there_is_an_error(desk: Target, tmp_path: Path) -> None:
    """Without `optional` its absence stops the work."""
    text = (tmp_path / "desk.toml").read_text().replace("optional = true\n", "")
    (tmp_path / "desk.toml").write_text(text)
    with (
        pytest.raises(PermanentDeviceError, match=r"meter files: .*power"),
        open_board(read_target(tmp_path / "desk.toml")),
    ):
        pass


def test_sensors_and_idle_power_are_read(desk: Target, tmp_path: Path) -> None:
    """Temperatures in degrees, idle as a mean over at least twenty readings."""
    (tmp_path / "temp").write_text("41500\n")
    (tmp_path / "power").write_text("2345\n")
    with open_board(desk) as board:
        assert board.read_sensors() == ({"soc": 41.5}, {})
        assert [p.name for p in board.probes()] == ["rail.total"]
        with board.session(_SETTING) as session:
            idle_mw = board.idle_mw(session, 0.2)
    assert idle_mw is not None
    assert abs(idle_mw - 2345) < 1e-6


def test_identity_comes_from_the_agent(desk: Target) -> None:
    """Cores, kernel, runtime and its version."""
    with open_board(desk) as board:
        identity = board.identity(_SETTING)
    assert identity["runtime"].startswith("ort ")
    assert int(identity["board.cores"]) >= 1


def test_workload_is_prepared_once_for_all_operating_points(desk: Target, tmp_path: Path) -> None:
    """Clocks make no difference to a file; another bundle with the same key and other bytes does."""
    bundle = matmul_bundle(tmp_path / "bundle", [4])
    with open_board(desk) as board:
        first = board.prepare(bundle, bundle.workloads[0], _SETTING)
        assert board.prepare(bundle, bundle.workloads[0], _point(gpu=600.0)) is first
        with pytest.raises(ConfigError, match="no precision 'int4'"):
            board.artifact_sha256(bundle, bundle.workloads[0], Setting(unit="cpu", precision="int4"))
