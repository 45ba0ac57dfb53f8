"""A CPU's clock is set, verified and put back, on kernels old and new."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwbench.clock import Clock
from hwbench.clocks import cpufreq
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.link import Link
from tests.contracts.clock import ClockContract
from tests.doubles import boards
from tests.doubles.sysfs import Tree, TreeLink

FOLDER = "/sys/devices/system/cpu/cpufreq/policy0"


def _open(tree: Tree, here: Link, *, sudo: bool = True, **options: object) -> cpufreq.CpuFreq:
    link = TreeLink(tree, here, sudo=sudo)
    return cpufreq.open(cpufreq.Options.model_validate({"name": "cpu", **options}), link)


class TestUserspace(ClockContract):
    """The contract on a Raspberry Pi, whose kernel has the governor for it."""

    @pytest.fixture
    def clock(self, tmp_path: Path, here: Link) -> Clock:
        return _open(boards.raspberry_pi4(tmp_path / "board"), here, grid_mhz=[600, 1500])


class TestLimits(ClockContract):
    """The contract on a kernel without that governor, which clamps its limits, and takes its time."""

    @pytest.fixture
    def clock(self, tmp_path: Path, here: Link) -> Clock:
        return _open(boards.jetson_orin(tmp_path / "board", lag=2), here)


class TestAllPolicies(ClockContract):
    """The contract for two clusters at once."""

    @pytest.fixture
    def clock(self, tmp_path: Path, here: Link) -> Clock:
        return _open(boards.jetson_tx2(tmp_path / "board"), here, policy="all")


@pytest.mark.parametrize("clamps", [False, True])
@pytest.mark.parametrize("governors", ["userspace schedutil", "performance schedutil"])
def test_any_step_follows_any_other(tmp_path: Path, here: Link, clamps: bool, governors: str) -> None:
    """Up and down, the limits are moved in the order that the kernel takes."""
    tree = Tree(tmp_path / "board")
    boards.cpufreq(tree, [600000, 1000000, 1500000], governors=governors, clamps=clamps)
    clock = _open(tree, here)
    before = clock.state()
    for mhz in (1000.0, 600.0, 1500.0, 1000.0, 1500.0, 600.0):
        clock.set(mhz)
        assert tree.get(f"{FOLDER}/scaling_cur_freq") == str(round(mhz * 1000))
    clock.restore(before)
    assert clock.state() == before


def test_what_was_pinned_before_is_pinned_again(tmp_path: Path, here: Link) -> None:
    """Somebody's own limits and set speed come back, even where they exclude what was measured."""
    tree = boards.raspberry_pi4(tmp_path / "board")
    for name, text in (("scaling_governor", "userspace"), ("scaling_setspeed", "1000000")):
        tree.write(f"{FOLDER}/{name}", text)
    for name in ("scaling_min_freq", "scaling_max_freq"):
        tree.write(f"{FOLDER}/{name}", "1000000")
    clock = _open(tree, here)
    before = clock.state()
    clock.set(1800.0)
    assert tree.get(f"{FOLDER}/scaling_cur_freq") == "1800000"
    clock.restore(before)
    assert clock.state() == before
    assert tree.get(f"{FOLDER}/scaling_cur_freq") == "1000000"


def test_a_driver_without_a_table_takes_what_lies_between_its_ends(tmp_path: Path, here: Link) -> None:
    """intel_pstate and cppc have no steps; the TOML says which to measure."""
    tree = Tree(tmp_path / "board")
    boards.cpufreq(tree, [600000, 1500000], governors="performance schedutil", listed=False)
    assert _open(tree, here).grid() == (600.0, 1500.0)
    clock = _open(tree, here, grid_mhz=[800, 1200])
    assert clock.grid() == (800.0, 1200.0)
    assert clock.set(1200.0) >= 0
    with pytest.raises(ConfigError, match="no 2000 MHz; its nearest is 1500 MHz"):
        _open(tree, here, grid_mhz=[800, 2000]).grid()


def test_a_value_that_the_board_lacks_names_its_nearest(tmp_path: Path, here: Link) -> None:
    """The grid of the TOML is held against the board's before anything is set."""
    tree = boards.raspberry_pi4(tmp_path / "board")
    with pytest.raises(ConfigError, match="clock cpu: the board has no 1400 MHz; its nearest is 1500 MHz"):
        _open(tree, here, grid_mhz=[600, 1400]).grid()
    clock = _open(tree, here, grid_mhz=[600, 1500])
    with pytest.raises(ConfigError, match="its nearest is 600 MHz"):
        clock.set(1000.0)
    with pytest.raises(ConfigError, match="takes MHz, not 'fast'"):
        clock.set("fast")


def test_without_root_the_line_of_sudoers_is_told(tmp_path: Path, here: Link) -> None:
    """One line, whole commands, and nothing was changed."""
    tree = boards.raspberry_pi4(tmp_path / "board")
    clock = _open(tree, here, sudo=False)
    with pytest.raises(PermanentDeviceError) as error:
        clock.set(1500.0)
    assert f"ALL=(root) NOPASSWD: /usr/bin/tee {FOLDER}/scaling_governor, /usr/bin/tee" in str(error.value)
    assert "\n" not in str(error.value)
    assert "*" not in str(error.value)
    assert tree.log == []


def test_a_board_that_runs_at_another_speed_is_named(
    tmp_path: Path, here: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thermal limit or a firmware that does as it likes: the number would be of another clock."""
    monkeypatch.setattr("hwbench.knob._PATIENCE_S", 0.05)
    tree = boards.raspberry_pi4(tmp_path / "board")
    tree.lie(f"{FOLDER}/scaling_cur_freq", "1000000")
    with pytest.raises(PermanentDeviceError, match="set to 1500 MHz, but the board runs at 1000 MHz"):
        _open(tree, here).set(1500.0)
    tree.lie(f"{FOLDER}/scaling_cur_freq", "<unknown>")
    with pytest.raises(PermanentDeviceError, match="'<unknown>', which is no frequency"):
        _open(tree, here).set(1500.0)


def test_a_kernel_that_refuses_is_quoted(tmp_path: Path, here: Link) -> None:
    """Root is there, so no line of sudoers is told."""
    tree = boards.raspberry_pi4(tmp_path / "board")
    clock = _open(tree, here)
    with pytest.raises(PermanentDeviceError, match=r"does not take turbo .*Invalid argument"):
        clock.restore({**clock.state(), f"{FOLDER}/scaling_governor": "turbo"})


def test_a_policy_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, here: Link) -> None:
    """A virtual machine has none at all."""
    tree = boards.raspberry_pi4(tmp_path / "board")
    with pytest.raises(PermanentDeviceError, match=r"policy4 \(it has policy0\)"):
        _open(tree, here, policy=4).state()
    boards.remove(tree, "/sys/devices/system/cpu/cpufreq")
    with pytest.raises(PermanentDeviceError, match="none: the firmware decides there"):
        _open(tree, here, policy="all").set(600.0)
    assert _open(tree, here).probe() is None
