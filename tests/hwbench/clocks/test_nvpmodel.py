"""Power modes are named, switched and put back; what asks for a restart is refused, what is garbled is no mode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hwbench.clock import Clock
from hwbench.clocks import devfreq, nvpmodel
from hwbench.clocks.nvpmodel import parse_modes, parse_present
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.link import Link
from hwbench.operating_point import OperatingPoint
from hwbench.restore import RestoreRecord
from hwbench.setting import Setting
from tests.contracts.clock import ClockContract
from tests.doubles import boards
from tests.doubles.boards import RECORDINGS
from tests.doubles.sysfs import Tree, TreeLink

BOARDS = {
    "tx2-jetpack4": ({"MAXN": 0, "MAXQ": 1, "MAXP_CORE_ALL": 2, "MAXP_CORE_ARM": 3}, "MAXN"),
    "xavier-jetpack4": ({"MAXN": 0, "MODE_10W": 1, "MODE_15W": 2}, "MODE_15W"),
    "orin-jetpack6": ({"15W": 0, "25W": 1, "MAXN_SUPER": 2, "7W": 3}, "25W"),
}
recorded = st.sampled_from(sorted(BOARDS))


def _text(board: str, part: str) -> str:
    return (RECORDINGS / f"{board}.{part}").read_text(encoding="utf-8")


def _open(tree: Tree, here: Link, *, sudo: bool = True, **options: object) -> nvpmodel.NvpModel:
    link = TreeLink(tree, here, sudo=sudo)
    return nvpmodel.open(nvpmodel.Options.model_validate({"name": "mode", **options}), link)


class TestTx2(ClockContract):
    """The contract with all modes of a TX2."""

    @pytest.fixture
    def clock(self, tmp_path: Path, here: Link) -> Clock:
        return _open(boards.jetson_tx2(tmp_path / "board"), here)


@pytest.mark.parametrize("board", sorted(BOARDS))
def test_modes_and_the_present_one_are_read(board: str) -> None:
    """Of three releases of the program."""
    modes, present = BOARDS[board]
    assert parse_modes(_text(board, "modes"), _text(board, "conf")) == modes
    assert parse_present(_text(board, "query"), modes) == present


@pytest.mark.parametrize("board", sorted(BOARDS))
@pytest.mark.parametrize("part", ["modes", "conf", "query"])
def test_every_truncation_is_refused(board: str, part: str) -> None:
    """A list that is cut short would hide modes, a number that is cut would be another's."""
    modes, _ = BOARDS[board]
    text = {name: _text(board, name) for name in ("modes", "conf", "query")}
    for end in range(len(text[part])):
        cut = {**text, part: text[part][:end]}
        with pytest.raises(PermanentDeviceError):
            if part == "query":
                parse_present(cut["query"], modes)
            else:
                parse_modes(cut["modes"], cut["conf"])


@st.composite
def _mutated(draw: st.DrawFn, parts: tuple[str, ...]) -> tuple[str, str, str]:
    """(board, which part, that part with characters or lines replaced, taken away, doubled or swapped)."""
    board, part = draw(recorded), draw(st.sampled_from(parts))
    text = _text(board, part)
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            at = draw(st.integers(0, len(text)))
            end = min(len(text), at + draw(st.integers(0, 3)))
            text = text[:at] + draw(st.text("0123456789=:<> ABMNPWX_\n", max_size=3)) + text[end:]
        else:
            lines = text.split("\n")
            one, other = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
            change = draw(st.sampled_from(["drop", "double", "swap"]))
            if change == "drop":
                del lines[one]
            elif change == "double":
                lines.insert(other, lines[one])
            else:
                lines[one], lines[other] = lines[other], lines[one]
            text = "\n".join(lines)
    return board, part, text


@given(_mutated(("modes", "conf")))
def test_no_mutation_makes_another_list_of_modes(mutated: tuple[str, str, str]) -> None:
    """Garbled in one of its two witnesses, a list is refused or it is still the same list."""
    board, part, text = mutated
    assume(text != _text(board, part))
    both = {name: _text(board, name) for name in ("modes", "conf")} | {part: text}
    try:
        found = parse_modes(both["modes"], both["conf"])
    except PermanentDeviceError:
        return
    assert found == BOARDS[board][0]


@given(_mutated(("query",)))
def test_no_mutation_makes_a_mode_that_is_not_there(mutated: tuple[str, str, str]) -> None:
    """Name and number must be of one mode."""
    board, _, text = mutated
    modes, _ = BOARDS[board]
    try:
        found = parse_present(text, modes)
    except PermanentDeviceError:
        return
    assert f"NV Power Mode: {found}" in text.replace("Mode:", "Mode: ").replace("  ", " ")
    assert f"\n{modes[found]}\n" in text.replace(" ", "")


def test_a_mode_that_asks_to_restart_is_refused_and_told_no(tmp_path: Path, here: Link) -> None:
    """The board stays up, in the mode it was."""
    tree = boards.jetson_orin(tmp_path / "board")
    clock = _open(tree, here)
    with pytest.raises(
        PermanentDeviceError, match="mode 7W needs a restart of the board, which is never done from here"
    ):
        clock.set("7W")
    assert json.loads((tree.root / "nvpmodel.json").read_text())["answers"] == ["no"]
    assert clock.state() == {"mode": "25W"}


def test_a_mode_that_the_board_lacks_names_the_nearest(tmp_path: Path, here: Link) -> None:
    """Whether the TOML names it or a command."""
    tree = boards.jetson_orin(tmp_path / "board")
    with pytest.raises(ConfigError, match="no mode 'MAXN_SUPR' — did you mean 'MAXN_SUPER'"):
        _open(tree, here, modes=["MAXN_SUPR"]).grid()
    with pytest.raises(ConfigError, match="no mode '25W'"):
        _open(tree, here, modes=["15W", "MAXN_SUPER"]).set("25W")


def test_the_mode_that_is_on_is_not_set_again(tmp_path: Path, here: Link) -> None:
    """To set it would undo what somebody has set inside it."""
    tree = boards.jetson_tx2(tmp_path / "board")
    _open(tree, here, sudo=False).set("MAXN")


def test_a_board_that_stays_in_its_mode_is_named(tmp_path: Path, here: Link) -> None:
    """Its exit status says nothing."""
    tree = boards.jetson_tx2(tmp_path / "board")
    boards.nvpmodel(tree, "tx2-jetpack4", stuck=True)
    with pytest.raises(PermanentDeviceError, match="asked for mode MAXQ, the board is in MAXN"):
        _open(tree, here).set("MAXQ")


def test_without_root_the_line_of_sudoers_is_told(tmp_path: Path, here: Link) -> None:
    """Every mode by its number: a star would allow more."""
    tree = boards.jetson_tx2(tmp_path / "board")
    with pytest.raises(PermanentDeviceError, match=r"NOPASSWD: /usr/sbin/nvpmodel -m 0, /usr/sbin/nvpmodel -m 1"):
        _open(tree, here, sudo=False).set("MAXQ")


def test_a_board_without_it_says_so(tmp_path: Path, here: Link) -> None:
    """Neither the program nor its file."""
    with pytest.raises(PermanentDeviceError, match=r"nvpmodel -q failed .* a Jetson has it"):
        _open(boards.raspberry_pi4(tmp_path / "board"), here).state()
    tree = boards.jetson_tx2(tmp_path / "other")
    boards.remove(tree, "/etc/nvpmodel.conf")
    with pytest.raises(PermanentDeviceError, match=r"no /etc/nvpmodel.conf on this board"):
        _open(tree, here).state()


def test_limits_that_a_mode_moves_are_put_back_after_it(tmp_path: Path, here: Link) -> None:
    """Somebody's pinned GPU is pinned again, though to put the mode back set its limits to the mode's own."""
    tree = boards.jetson_tx2(tmp_path / "board")
    gpu = "/sys/class/devfreq/17000000.gp10b"
    boards.nvpmodel(tree, "tx2-jetpack4", moves={f"{gpu}/min_freq": "114750000", f"{gpu}/max_freq": "1300500000"})
    for name in ("max_freq", "min_freq"):
        tree.write(f"{gpu}/{name}", "726750000")
    link = TreeLink(tree, here)
    clocks = (_open(tree, here), devfreq.open(devfreq.Options(name="gpu"), link))
    before = [clock.state() for clock in clocks]
    point = OperatingPoint(clocks, RestoreRecord(link, "board"), lambda probe: None, "board")
    point.apply(Setting(unit="gpu", precision="fp16", clocks=(("gpu", 1122.0), ("mode", "MAXQ"))))
    assert tree.get(f"{gpu}/cur_freq") == "1122000000"
    point.put_back()
    assert [clock.state() for clock in clocks] == before
