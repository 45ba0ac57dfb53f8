"""What a crash left behind is put back, one clock's trouble keeps no other from it, and each is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hwbench import hold
from hwbench.board import open_board
from hwbench.cli import hwbench
from hwbench.errors import DeviceError, PermanentDeviceError, TransientDeviceError
from hwbench.farm import put_back
from hwbench.links import local
from hwbench.restore import RestoreRecord
from hwbench.setting import Setting
from hwbench.target_file import read_target
from tests.doubles.desks import clocks, desk, link_section, plug_in

_FAST = Setting(unit="cpu", precision="fp32", threads=1, clocks=(("gpu", 600.0), ("mode", 20.0)))


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)


def _crashed(folder: Path, record: object) -> Path:
    """Clocks at 20 and 600 MHz, and the record of what they were."""
    (folder / "mode").write_text("20")
    (folder / "gpu").write_text("600")
    file = folder / "board" / "restore.json"
    file.parent.mkdir()
    file.write_text(json.dumps(record))
    return file


def test_record_is_replaced_in_one_step(tmp_path: Path) -> None:
    """A board that loses power while it is written has the one before, or none, but never half of one."""
    link = local.open({"workdir": tmp_path / "board"})
    record = RestoreRecord(link, "board desk")
    assert record.read() is None
    record.write({"gpu": {"mhz": "300"}})
    before = (tmp_path / "board" / "restore.json").stat().st_ino
    record.write({"gpu": {"mhz": "600"}})
    assert record.read() == {"gpu": {"mhz": "600"}}
    assert (tmp_path / "board" / "restore.json").stat().st_ino != before


def test_record_that_cannot_be_kept_touches_no_clock(tmp_path: Path) -> None:
    """Without it nobody could put anything back."""
    with open_board(desk(tmp_path)) as opened:
        (tmp_path / "board" / "restore.json").mkdir()
        (tmp_path / "board" / "restore.json" / "x").mkdir()
        (tmp_path / "board" / "restore.json.part").mkdir()
        with pytest.raises(PermanentDeviceError, match=r"restore\.json"):
            opened.apply(_FAST)
        assert clocks(tmp_path) == ("10", "300")
        (tmp_path / "board" / "restore.json" / "x").rmdir()
        (tmp_path / "board" / "restore.json").rmdir()


def test_opening_tells_what_it_put_back(tmp_path: Path) -> None:
    """After a crash, and nothing else."""
    target = desk(tmp_path)
    file = _crashed(tmp_path, {"mode": {"mhz": "10"}, "gpu": {"mhz": "300"}})
    with open_board(target) as opened:
        assert opened.put_back == {"mode": {"mhz": "10"}, "gpu": {"mhz": "300"}}
        assert clocks(tmp_path) == ("10", "300")
    assert not file.exists()
    with open_board(target) as opened:
        assert opened.put_back == {}


def test_clock_that_fails_is_named_and_the_others_put_back(tmp_path: Path) -> None:
    """It stays in the record: once the trouble is mended, the next to open the board puts it back."""
    target = desk(tmp_path)
    file = _crashed(tmp_path, {"mode": {"mhz": "10"}, "gpu": {"mhz": "300"}})
    (tmp_path / "gpu").unlink()
    (tmp_path / "gpu").mkdir()
    with pytest.raises(PermanentDeviceError, match=r"not put back: gpu: .*all others are as found"), open_board(target):
        pass
    assert (tmp_path / "mode").read_text() == "10"
    assert json.loads(file.read_text()) == {"gpu": {"mhz": "300"}}
    (tmp_path / "gpu").rmdir()
    (tmp_path / "gpu").write_text("600")
    with open_board(target) as opened:
        assert opened.put_back == {"gpu": {"mhz": "300"}}
    assert clocks(tmp_path) == ("10", "300")


def test_clock_that_the_target_lost_is_named_with_its_state(tmp_path: Path) -> None:
    """Nobody can put it back but the user, who is told what it was."""
    target = desk(tmp_path)
    file = _crashed(tmp_path, {"emc": {"khz": "204000"}, "mode": {"mhz": "10"}, "gpu": {"mhz": "300"}})
    with (
        pytest.raises(PermanentDeviceError, match=r"emc: the target has no such clock any more; it was .*204000"),
        open_board(target),
    ):
        pass
    assert clocks(tmp_path) == ("10", "300")
    assert json.loads(file.read_text()) == {"emc": {"khz": "204000"}}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"gpu": 3}', '{"gpu": {"mhz": 300}}', '{"gpu": ["mhz"]}', "\x00"]
)
def test_damaged_record_is_named_and_nothing_guessed(tmp_path: Path, text: str) -> None:
    """Whatever it holds in place of texts by name."""
    target = desk(tmp_path)
    _crashed(tmp_path, {}).write_text(text)
    with (
        pytest.raises(PermanentDeviceError, match=r"restore\.json is damaged.*then remove that file"),
        open_board(target),
    ):
        pass
    assert clocks(tmp_path) == ("20", "600")


def test_doctor_puts_back_and_says_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For whoever cannot wait for the next campaign."""
    desk(tmp_path)
    monkeypatch.chdir(tmp_path)
    _crashed(tmp_path, {"mode": {"mhz": "10"}, "gpu": {"mhz": "300"}})
    argv = ["doctor", "--target", str(tmp_path / "desk.toml"), "--restore"]
    done = CliRunner().invoke(hwbench, argv, catch_exceptions=False)
    assert done.output == "board desk: put back gpu (mhz 300), mode (mhz 10)\n"
    assert clocks(tmp_path) == ("10", "300")
    done = CliRunner().invoke(hwbench, argv, catch_exceptions=False)
    assert done.output == "board desk: nothing to put back\n"


def test_board_that_does_not_answer_keeps_no_other_from_being_put_back(tmp_path: Path) -> None:
    """Of several; its error comes last."""
    (tmp_path / "file").write_text("")
    sections = [link_section("local", {"workdir": str(tmp_path / name)}) for name in ("file", "board")]
    target = desk(tmp_path, links=sections)
    _crashed(tmp_path, {"mode": {"mhz": "10"}})
    lines = put_back(target)
    assert next(lines) == "board desk (link 1): put back mode (mhz 10)"
    with pytest.raises(DeviceError, match="cannot make"):
        next(lines)


def test_clocks_are_put_back_over_a_link_that_comes_back(tmp_path: Path) -> None:
    """Lost while the board was open, and again while it was left."""
    target = desk(tmp_path, links=[link_section("cut", {"workdir": str(tmp_path / "board")})])
    with open_board(target) as opened:
        opened.apply(_FAST)
        opened.link.cut(calls=2)
    assert clocks(tmp_path) == ("10", "300")
    opened.link.end()


def test_board_that_stays_away_is_told_and_put_back_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record waits on the board."""
    monkeypatch.setattr(hold, "LEAVE_S", 0.0)
    target = desk(tmp_path, links=[link_section("cut", {"workdir": str(tmp_path / "board")})])
    with (
        pytest.raises(TransientDeviceError, match=r"left with its clocks set .*hwbench doctor --target desk --restore"),
        open_board(target) as opened,
    ):
        opened.apply(_FAST)
        opened.link.cut()
    assert clocks(tmp_path) == ("20", "600")
    opened.link.end()
    with open_board(read_target(tmp_path / "desk.toml")) as opened:
        assert set(opened.put_back) == {"mode", "gpu"}
    assert clocks(tmp_path) == ("10", "300")


def test_error_of_the_work_is_not_hidden_by_a_board_that_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The clocks are told beside it."""
    monkeypatch.setattr(hold, "LEAVE_S", 0.0)
    target = desk(tmp_path, links=[link_section("cut", {"workdir": str(tmp_path / "board")})])
    with pytest.raises(KeyboardInterrupt), open_board(target) as opened:
        opened.apply(_FAST)
        opened.link.cut()
        raise KeyboardInterrupt
    assert "left with its clocks set" in caplog.text
    opened.link.end()


def test_damaged_or_lost_board_keeps_its_lock_from_nobody(tmp_path: Path) -> None:
    """An opening that fails lets go."""
    target = desk(tmp_path)
    file = _crashed(tmp_path, {})
    file.write_text("{")
    for _ in range(2):
        with pytest.raises(PermanentDeviceError, match="damaged"), open_board(target):
            pass
