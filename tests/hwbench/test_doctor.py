"""The doctor says of every board what works, what does not, and what to do; of an absent one, too."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwbench.board_lock import BoardLock
from hwbench.cli import main
from hwbench.condition import Check, looks
from hwbench.doctor import examine
from hwbench.equipment import Equipment
from hwbench.links import local
from hwbench.target import Target
from tests.doubles import boards, phones, vcgencmd
from tests.doubles.sshd import Sshd
from tests.doubles.sysfs import Tree, TreeLink
from tests.doubles.tool import install_benchmark_model


def _target(tmp_path: Path, **sections: Any) -> Target:
    """This machine as a board with a lock and a folder of its own."""
    return Target.model_validate(
        {
            "schema": 1,
            "name": "desk",
            "title": "test",
            "link": [{"kind": "local", "workdir": str(tmp_path / "board")}],
            "backend": [{"kind": "onnxruntime", "units": ["cpu"], "precisions": ["fp32"], "threads": [1]}],
            **sections,
        }
    )


def _by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_board_that_works_is_asked_everything(tmp_path: Path) -> None:
    """Reach, lock, record, Python, runtime, clocks, meter, heat, throttling, load and room, there and here."""
    files = {"power": "5000", "temp": "48000", "count": "17"}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    target = _target(
        tmp_path,
        meter=[{"kind": "files", "rails": {"total": f"file:{tmp_path}/power"}}],
        sensor=[
            {"name": "soc", "read": f"file:{tmp_path}/temp", "unit": "mc"},
            {"name": "throttle.core", "read": f"file:{tmp_path}/count", "unit": "raw"},
        ],
        limits={"temp_c": 85},
    )
    checks = _by_name(examine(target))
    assert list(checks) == [
        "reach local", "lock", "restore record", "python", "runtime onnxruntime", "clocks", "meter files",
        "temperature", "throttling", "load", "disk", "disk here",
    ]  # fmt: skip
    assert {n: c.state for n, c in checks.items() if c.state != "ok"}.keys() <= {"clocks", "load"}
    assert "5000 mW while nothing runs" in checks["meter files"].found
    assert "energy takes windows of" in checks["meter files"].found
    assert checks["temperature"].found == "soc 48 °C"
    assert str(tmp_path / "board") in checks["disk"].found


def test_absent_board_is_one_line_with_advice(tmp_path: Path) -> None:
    """Nobody listens at that port: what was tried, what to do, and the way without a board."""
    simulation = {"peak_gops": 10, "bandwidth_gbps": 4, "call_us": 20, "static_mw": 500, "dynamic_mw": 900}
    link = {"kind": "ssh", "host": "127.0.0.1", "port": 1, "user": "pi"}
    target = _target(tmp_path, link=[link], simulation={"cpu": {"fp32": simulation}})
    failed = [check for check in examine(target) if check.state == "failed"]
    assert len(failed) == 1
    assert failed[0].name == "reach ssh pi@127.0.0.1:1"
    assert "ssh pi@127.0.0.1" in failed[0].advice
    assert "hwbench profile --target desk --simulate" in failed[0].advice


def test_each_link_of_a_farm_is_told_apart(tmp_path: Path) -> None:
    """One answers, the other does not."""
    links = [{"kind": "ssh", "host": "127.0.0.1", "port": 1}, {"kind": "local", "workdir": str(tmp_path / "board")}]
    checks = _by_name(examine(_target(tmp_path, link=links)))
    reached = {name: check.state for name, check in checks.items() if "reach" in name}
    assert [s for _, s in sorted(reached.items())] == ["failed", "ok"]
    assert checks["link 1: runtime onnxruntime"].state == "ok"


def test_board_behind_sshd_is_asked_there(tmp_path: Path, sshd: Sshd) -> None:
    """A real sshd: the same questions, answered by the other side; then it is gone, and one line says so."""
    options = {name: str(v) if isinstance(v, Path) else v for name, v in sshd.options().items()}
    target = _target(tmp_path, link=[{"kind": "ssh", **options}])
    checks = _by_name(examine(target))
    assert checks["python"].found.endswith(f"({sys.executable})")
    assert checks["runtime onnxruntime"].state == "ok"
    assert "sshd/board" in checks["disk"].found
    assert {n for n, c in checks.items() if c.state == "failed"} <= {"load"}
    sshd.known_hosts.write_text("")
    failed = [check for check in examine(target) if check.state == "failed"]
    assert len(failed) == 1
    assert failed[0].name.startswith("reach ssh")
    assert "known" in failed[0].found
    sshd.kill()
    assert [c.name.partition(" ")[0] for c in examine(target) if c.state == "failed"] == ["reach"]


@pytest.fixture
def held(tmp_path: Path) -> Iterator[BoardLock]:
    """Somebody measures on the board."""
    link = local.open({"workdir": tmp_path / "board"})
    lock = BoardLock(link, (link.workdir(),), "board desk")
    lock.acquire()
    yield lock
    lock.release()


def test_board_in_use_is_only_looked_at(tmp_path: Path, held: BoardLock) -> None:
    """Its holder is named, and no runtime is started beside his."""
    checks = _by_name(examine(_target(tmp_path)))
    assert checks["lock"].state == "failed"
    assert "is in use by process" in checks["lock"].found
    assert not any(name.startswith(("runtime", "meter", "python")) for name in checks)
    assert "load" in checks


@pytest.mark.parametrize(("record", "said"), [('{"cpu": {"max": "1"}}', "clocks set: cpu"), ("[damaged", "is damaged")])
def test_what_a_crash_left_behind_is_told_and_not_touched(tmp_path: Path, record: str, said: str) -> None:
    """To put it back is asked for by name."""
    file = tmp_path / "board" / "restore.json"
    file.parent.mkdir()
    file.write_text(record)
    check = _by_name(examine(_target(tmp_path)))["restore record"]
    assert check.state == "failed"
    assert said in check.found
    assert file.read_text() == record


def test_board_without_python_or_runtime_is_told_what_to_install(tmp_path: Path) -> None:
    """`hwbench setup` where the target has such a section."""
    link = [{"kind": "local", "workdir": str(tmp_path / "board"), "python": "/no/python"}]
    checks = _by_name(examine(_target(tmp_path, link=link, setup={"packages": ["onnxruntime==1.20"]})))
    assert checks["python"].state == "missing"
    assert checks["runtime onnxruntime"].state == "failed"
    assert checks["runtime onnxruntime"].advice.startswith("hwbench setup --target desk")
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\necho 3.5.2\n")
    old.chmod(0o755)
    link = [{"kind": "local", "workdir": str(tmp_path / "board"), "python": str(old)}]
    assert _by_name(examine(_target(tmp_path, link=link)))["python"].state == "failed"


def _meter(tmp_path: Path, content: str, **options: Any) -> Check:
    (tmp_path / "power").write_text(content)
    meter = {"kind": "files", "rails": {"total": f"file:{tmp_path}/power"}, **options}
    link = local.open({"workdir": tmp_path / "board"})
    return _by_name(list(Equipment(_target(tmp_path, meter=[meter]), link).checks()))["meter files"]


def test_meter_that_cannot_be_right_is_told(tmp_path: Path) -> None:
    """Negative, absurd, or a counter that stands still."""
    for content in ("-3000", "0"):
        assert "is no board's power" in _meter(tmp_path, content).found
    assert _meter(tmp_path, "5000", rate_hz=4).found.endswith("windows of 5.0 s")
    assert "0 mW is no board's power" in _meter(tmp_path, "123456", unit="uj").found


def test_meter_slower_than_it_is_taken_for_is_told(tmp_path: Path) -> None:
    """A program's output is not read fifty times a second: its rate belongs in the TOML."""
    program = vcgencmd.install(tmp_path)
    (tmp_path / "vcgencmd.d" / "power.txt").write_text("power=3000mW\n")
    meter = {"kind": "files", "rails": {"total": f"run:{program} power"}, "rate_hz": 40}
    link = local.open({"workdir": tmp_path / "board"})
    check = _by_name(list(Equipment(_target(tmp_path, meter=[meter]), link).checks()))["meter files"]
    assert check.state == "ok"
    assert "say rate_hz = " in check.advice


def test_meter_that_is_absent_is_failed_or_missing(tmp_path: Path) -> None:
    """As `optional` says; the declared model is named where there is one."""
    absent = {"kind": "files", "rails": {"total": "file:/no/rail"}}
    checks = _by_name(examine(_target(tmp_path, meter=[absent])))
    assert checks["meter files"].state == "failed"
    assert "/no/rail" in checks["meter files"].found
    power = {"static_mw": 1, "pj_per_mac": 1, "pj_per_byte": 1, "source": "x"}
    checks = _by_name(examine(_target(tmp_path, meter=[{**absent, "optional": True}], power=power)))
    assert checks["meter"].state == "missing"
    assert "declared power model" in checks["meter"].found
    assert "/no/rail" in checks["meter"].found


def test_meter_beside_the_board_is_listened_to(root: Path, tmp_path: Path) -> None:
    """A command that prints readings, and one that prints none."""
    (tmp_path / "power").write_text("3000")
    supply = [sys.executable, str(root / "tests" / "doubles" / "bench_supply.py"), str(tmp_path / "power"), "0"]
    link = local.open({"workdir": tmp_path / "board"})
    for command, state in ((supply, "ok"), (["sleep", "60"], "failed")):
        target = _target(tmp_path, meter=[{"kind": "external", "command": command}])
        check = _by_name(list(Equipment(target, link).checks()))["meter external"]
        assert check.state == state, check.found


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A cluster of a Raspberry Pi 4."""
    tree = Tree(tmp_path / "tree")
    boards.cpufreq(tree, [600_000, 1_000_000, 1_500_000])
    return tree


@pytest.mark.parametrize(
    ("grid", "root", "state", "said"),
    [
        ([600, 1500], True, "ok", "600 MHz now; 2 of 600.0 to 1500.0 can be set"),
        ([600, 1500], False, "missing", "as it is found only"),
        ([600, 1400], True, "failed", "no 1400 MHz; its nearest is 1500 MHz"),
    ],
)
def test_clocks_are_read_and_never_set(
    tmp_path: Path, tree: Tree, grid: list[float], root: bool, state: str, said: str
) -> None:
    """Whether they could be, and whether the TOML's grid is the board's; without root the line of sudoers is told."""
    link = TreeLink(tree, local.open({"workdir": tmp_path / "board"}), sudo=root)
    clock = {"kind": "cpufreq", "name": "cpu", "grid_mhz": grid}
    check = _by_name(list(Equipment(_target(tmp_path, clock=[clock]), link).checks()))["clock cpu"]
    assert check.state == state
    assert said in check.found
    assert ("NOPASSWD" in check.advice) is not root
    assert tree.log == []


@pytest.mark.parametrize(("temp", "state"), [("84000", "ok"), ("86000", "failed"), ("unknown", "missing")])
def test_heat_is_held_against_the_limit(tmp_path: Path, temp: str, state: str) -> None:
    """Unknown is no 0 °C."""
    (tmp_path / "temp").write_text(temp)
    sensor = [{"name": "soc", "read": f"file:{tmp_path}/temp", "unit": "mc"}]
    link = local.open({"workdir": tmp_path / "board"})
    checks = _by_name(list(looks(_target(tmp_path, sensor=sensor, limits={"temp_c": 85}), link)))
    assert checks["temperature"].state == state


@pytest.mark.parametrize(
    ("flags", "state", "said"),
    [("0x0", "ok", "not slowed down"), ("0x50000", "missing", "since it started"), ("0x50005", "failed", "0x50005")],
)
def test_flags_of_a_raspberry_pi_are_told_apart(tmp_path: Path, flags: str, state: str, said: str) -> None:
    """Now, since it started, or never."""
    program = vcgencmd.install(tmp_path)
    (tmp_path / "vcgencmd.d" / "get_throttled.txt").write_text(f"throttled={flags}\n")
    sensor = [{"name": "throttle.pi", "read": f"run:{program} get_throttled", "unit": "flags"}]
    link = local.open({"workdir": tmp_path / "board"})
    check = _by_name(list(looks(_target(tmp_path, sensor=sensor), link)))["throttling"]
    assert check.state == state
    assert said in check.found


def test_link_that_is_lost_meanwhile_is_a_finding(tmp_path: Path) -> None:
    """As if it had never been there, after what it had said."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    link = [{"kind": "local", "workdir": str(tmp_path / "board"), "python": str(python)}]
    begin = time.monotonic()
    checks = _by_name(examine(_target(tmp_path, link=link)))
    assert checks["runtime onnxruntime"].state == "failed"
    assert "disk" in checks
    assert time.monotonic() - begin < 60


def test_wrong_options_are_told_before_anything_is_opened(tmp_path: Path) -> None:
    """All of them, each with its section."""
    target = _target(tmp_path, meter=[{"kind": "files", "rail": {}}], link=[{"kind": "ssh", "hots": "x"}])
    assert [c.state for c in examine(target)] == ["failed", "failed"]


def test_command_line_names_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """An absent board is a finding, exit 1; as JSON, too, and at another address."""
    (tmp_path / "targets").mkdir()
    text = 'schema = 1\nname = "far"\ntitle = "x"\nlink = [{kind = "ssh", host = "127.0.0.1", port = 1}]\n'
    text += '[[backend]]\nkind = "onnxruntime"\nunits = ["cpu"]\nprecisions = ["fp32"]\n'
    (tmp_path / "targets" / "far.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["hwbench", "doctor", "--target", "far", "--host", "me@127.0.0.1:2", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    out = capsys.readouterr()
    assert json.loads(out.out)[0]["name"] == "reach ssh me@127.0.0.1:2"
    assert "reach ssh" in out.err


def test_phone_is_asked_by_its_shell(root: Path, tmp_path: Path, adb_server: phones.Server) -> None:
    """A real adb server: no Python there, but a runtime of its own, counters of its rails, and its thermal status."""
    tools = tmp_path / "tools"
    tools.mkdir()
    dumpsys = tools / "dumpsys"
    dumpsys.write_text("#!/bin/sh\necho 'IsStatusOverride: false'\necho 'Thermal Status: 3'\n")
    dumpsys.chmod(0o755)
    with phones.Phone(tmp_path / "phone", stand_ins=tools) as phone:
        adb_server.meet(phone)
        install_benchmark_model(phone.root / "data/local/tmp/benchmark_model")
        counter = phone.root / "sys/bus/iio/devices/iio:device0/energy_value"
        counter.parent.mkdir(parents=True)
        counter.write_text((root / "tests/recordings/odpm/device0.txt").read_text())
        target = _target(
            tmp_path,
            link=[{"kind": "adb", "serial": phone.serial, "port": adb_server.port, "python": "no-python"}],
            backend=[{"kind": "nnapi", "units": ["cpu"], "precisions": ["fp32"], "threads": [1]}],
            meter=[{"kind": "odpm", "total": ["S10M_VDD_TPU"]}],
            sensor=[{"name": "throttle.t", "read": "run:dumpsys thermalservice#Thermal Status", "unit": "flags"}],
        )
        checks = _by_name(examine(target))
        phone.leave()
        gone = [check for check in examine(target) if check.state == "failed"]
    assert checks["python"].state == "missing"
    assert checks["runtime nnapi"].state == "ok", checks["runtime nnapi"]
    # A recording does not count on, and that is told, not taken for a power of 0.
    assert "0 mW is no board's power" in checks["meter odpm"].found
    assert checks["throttling"].found.endswith("throttle.t 0x3")
    assert "data/local/tmp" in checks["disk"].found
    assert len(gone) == 1
    assert "adb devices" in gone[0].advice
