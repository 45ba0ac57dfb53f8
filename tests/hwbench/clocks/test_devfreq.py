"""A Jetson's GPU and memory clocks are found, set, verified and put back."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwbench.clock import Clock
from hwbench.clocks import devfreq
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.link import Link
from tests.contracts.clock import ClockContract
from tests.doubles import boards
from tests.doubles.sysfs import Tree, TreeLink

EMC = "/sys/kernel/debug/bpmp/debug/clk/emc"
TX2 = "/sys/class/devfreq/17000000.gp10b"


def _open(tree: Tree, here: Link, *, sudo: bool = True, **options: object) -> Clock:
    link = TreeLink(tree, here, sudo=sudo)
    return devfreq.open(devfreq.Options.model_validate({"name": "gpu", **options}), link)


class TestTx2Gpu(ClockContract):
    """The contract on JetPack 4, whose kernel refuses a lowest above the highest."""

    @pytest.fixture
    def clock(self, tmp_path: Path, here: Link) -> Clock:
        return _open(boards.jetson_tx2(tmp_path / "board"), here, grid_mhz=[114.75, 726.75, 1300.5])


class TestOrinGpu(ClockContract):
    """The contract on JetPack 6, whose kernel clamps, on a board that takes its time."""

    @pytest.fixture
    def clock(self, tmp_path: Path, here: Link) -> Clock:
        return _open(boards.jetson_orin(tmp_path / "board", lag=2), here)


class TestEmc(ClockContract):
    """The contract for the memory, which root alone may look at."""

    @pytest.fixture
    def clock(self, tmp_path: Path, here: Link) -> Clock:
        tree = boards.jetson_tx2(tmp_path / "board", lag=1)
        return _open(tree, here, name="emc", device="emc", grid_mhz=[1062.4, 1331.2, 1600, 1866])


@pytest.mark.parametrize("clamps", [False, True])
def test_any_step_follows_any_other(tmp_path: Path, here: Link, clamps: bool) -> None:
    """Up and down, the limits are moved in the order that the kernel takes."""
    tree = Tree(tmp_path / "board")
    folder = boards.devfreq(tree, [100, 200, 300], address="x.gpu", node="gpu", clamps=clamps)
    clock = _open(tree, here)
    before = clock.state()
    for mhz in (200.0, 100.0, 300.0, 200.0, 300.0, 100.0):
        clock.set(mhz)
        assert tree.get(f"{folder}/cur_freq") == str(round(mhz * 1e6))
    clock.restore(before)
    assert clock.state() == before


def test_the_gpu_is_found_among_other_devices_by_its_node(tmp_path: Path, here: Link) -> None:
    """Its folder has another name in each release; a device can also be named by its folder."""
    tree = boards.jetson_tx2(tmp_path / "board")
    probe = _open(tree, here).probe()
    assert probe is not None
    assert (probe.read, probe.unit) == (f"file:{TX2}/cur_freq", "hz")
    named = _open(tree, here, device="13e10000.host1x", tolerance_mhz=0.001).probe()
    assert named is not None
    assert "host1x" in named.read
    with pytest.raises(PermanentDeviceError, match=r"no device 'nvdla' .* 17000000.gp10b \(gp10b\)"):
        _open(tree, here, device="nvdla").state()
    boards.remove(tree, "/sys/class/devfreq")
    with pytest.raises(PermanentDeviceError, match="it holds nothing"):
        _open(tree, here).grid()
    assert _open(tree, here).probe() is None


def test_a_value_that_the_board_lacks_names_its_nearest(tmp_path: Path, here: Link) -> None:
    """For the memory only the ends are known."""
    tree = boards.jetson_tx2(tmp_path / "board")
    with pytest.raises(ConfigError, match=r"the board has no 1000 MHz; its nearest is 1032.75 MHz"):
        _open(tree, here, grid_mhz=[114.75, 1000]).grid()
    with pytest.raises(ConfigError, match=r"no 2133 MHz; its nearest is 1866 MHz"):
        _open(tree, here, name="emc", device="emc", grid_mhz=[1600, 2133]).grid()
    with pytest.raises(ConfigError, match=r"the target's grid has no 1331.2 MHz; its nearest is 1600 MHz"):
        _open(tree, here, name="emc", device="emc", grid_mhz=[1600, 1866]).set(1331.2)


def test_a_device_that_does_not_list_its_steps_needs_a_grid(tmp_path: Path, here: Link) -> None:
    """Then what is read back is the only witness."""
    tree = boards.jetson_tx2(tmp_path / "board")
    boards.remove(tree, f"{TX2}/available_frequencies")
    with pytest.raises(ConfigError, match=r"give the .* its grid_mhz"):
        _open(tree, here).grid()
    assert _open(tree, here, grid_mhz=[726.75]).set(726.75) >= 0


def test_a_gpu_that_sleeps_is_believed_by_its_limits(
    tmp_path: Path, here: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Powered down while nothing runs it reads as it likes; awake, it must read as it was set."""
    monkeypatch.setattr("hwbench.knob._PATIENCE_S", 0.05)
    tree = boards.jetson_tx2(tmp_path / "board")
    tree.file(f"{TX2}/device/power/runtime_status", "suspended")
    tree.lie(f"{TX2}/cur_freq", "114750000")
    assert _open(tree, here).set(1122.0) >= 0
    tree.put(f"{TX2}/device/power/runtime_status", "active")
    with pytest.raises(PermanentDeviceError, match=r"set to 726.75 MHz, but the board runs at 114.75 MHz"):
        _open(tree, here).set(726.75)


def test_the_memory_is_locked_while_it_is_set_and_unlocked_again(tmp_path: Path, here: Link) -> None:
    """Unlocked, the firmware would choose; a lock that was there before stays."""
    tree = boards.jetson_tx2(tmp_path / "board")
    clock = _open(tree, here, name="emc", device="emc", grid_mhz=[1062.4, 1866])
    before = clock.state()
    clock.set(1062.4)
    assert (tree.get(f"{EMC}/rate"), tree.get(f"{EMC}/mrq_rate_locked")) == ("1062400000", "1")
    clock.restore(before)
    assert clock.state() == before == {"rate": "1866000000", "mrq_rate_locked": "0"}
    for name, text in (("mrq_rate_locked", "1"), ("rate", "1331200000")):
        tree.write(f"{EMC}/{name}", text)
    locked = clock.state()
    clock.set(1866.0)
    clock.restore(locked)
    assert clock.state() == locked == {"rate": "1331200000", "mrq_rate_locked": "1"}


def test_a_rate_that_the_firmware_rounds_is_told(tmp_path: Path, here: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes any number and makes its own of it."""
    monkeypatch.setattr("hwbench.knob._PATIENCE_S", 0.05)
    tree = boards.jetson_tx2(tmp_path / "board")
    clock = _open(tree, here, name="emc", device="emc", grid_mhz=[1200])
    with pytest.raises(PermanentDeviceError, match=r"set to 1200 MHz, but the board runs at 1331.2 MHz"):
        clock.set(1200.0)


@pytest.mark.parametrize("device", ["gpu", "emc"])
def test_without_root_the_line_of_sudoers_is_told(tmp_path: Path, here: Link, device: str) -> None:
    """The memory cannot even be looked at; either way one line says what to allow."""
    tree = boards.jetson_tx2(tmp_path / "board")
    with pytest.raises(
        PermanentDeviceError, match=r"clock x: needs root; .* ALL=\(root\) NOPASSWD: /usr/bin/tee /sys/"
    ):
        _open(tree, here, sudo=False, name="x", device=device).set(1300.5)
    assert tree.log == []


def test_a_board_without_such_a_memory_says_so(tmp_path: Path, here: Link) -> None:
    """A Raspberry Pi is no Jetson."""
    with pytest.raises(PermanentDeviceError, match="this board has no /sys/kernel/debug/bpmp"):
        _open(boards.raspberry_pi4(tmp_path / "board"), here, device="emc").state()
