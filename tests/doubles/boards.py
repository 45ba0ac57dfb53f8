"""Boards as fake trees: the files that their kernels show, and how they answer to writes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.doubles.sysfs import Refused, Tree

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings" / "nvpmodel"
TX2_GPU_MHZ = (114.75, 216.75, 318.75, 420.75, 522.75, 624.75, 726.75, 854.25, 930.75, 1032.75, 1122.0, 1236.75, 1300.5)


def cpufreq(
    tree: Tree,
    khz: Sequence[int],
    *,
    policy: int = 0,
    governors: str = "conservative ondemand userspace powersave performance schedutil",
    governor: str = "schedutil",
    listed: bool = True,
    clamps: bool = False,
    lag: int = 0,
) -> str:
    """A cluster's folder; returns its path.

    listed: whether the driver has a table of steps.  clamps: newer kernels cut a lowest above the highest, older ones
    refuse it.  lag: reads after which the present clock follows.
    """
    folder = f"/sys/devices/system/cpu/cpufreq/policy{policy}"
    low, high = min(khz), max(khz)

    def text(name: str) -> str:
        return tree.get(f"{folder}/{name}")

    def follow() -> None:
        bottom, top, rule = int(text("scaling_min_freq")), int(text("scaling_max_freq")), text("scaling_governor")
        speed = {"performance": top, "userspace": int(tree_speed[0])}.get(rule, bottom)
        tree.put(f"{folder}/scaling_cur_freq", str(max(bottom, min(speed, top))), after_reads=lag)
        tree.put(f"{folder}/scaling_setspeed", str(tree_speed[0]) if rule == "userspace" else "<unsupported>")

    def limit(name: str, other: str) -> None:
        def react(written: str) -> None:
            value = max(low, min(int(written), high))
            bound = int(text(other))
            if (value > bound) if name == "scaling_min_freq" else (value < bound):
                if not clamps:
                    raise Refused
                value = bound
            tree.put(f"{folder}/{name}", str(value))
            follow()

        tree.file(f"{folder}/{name}", str(low if name == "scaling_min_freq" else high), react=react)

    def rule(written: str) -> None:
        if written not in governors.split():
            raise Refused
        if written == "userspace" and text("scaling_governor") != "userspace":
            tree_speed[0] = int(text("scaling_cur_freq"))
        tree.put(f"{folder}/scaling_governor", written)
        follow()

    def speed(written: str) -> None:
        if text("scaling_governor") != "userspace":
            raise Refused
        tree_speed[0] = int(written)
        follow()

    tree_speed = [low]
    tree.file(f"{folder}/cpuinfo_min_freq", str(low))
    tree.file(f"{folder}/cpuinfo_max_freq", str(high))
    if listed:
        tree.file(f"{folder}/scaling_available_frequencies", " ".join(map(str, khz)))
    tree.file(f"{folder}/scaling_available_governors", governors)
    tree.file(f"{folder}/scaling_governor", governor, react=rule)
    tree.file(f"{folder}/scaling_cur_freq", str(low))
    tree.file(f"{folder}/scaling_setspeed", "<unsupported>", react=speed)
    limit("scaling_min_freq", "scaling_max_freq")
    limit("scaling_max_freq", "scaling_min_freq")
    return folder


def devfreq(tree: Tree, mhz: Sequence[float], *, address: str, node: str, clamps: bool = False, lag: int = 0) -> str:
    """A device's folder; returns its path. Options as for `cpufreq`."""
    folder = f"/sys/class/devfreq/{address}"
    steps = [round(value * 1e6) for value in mhz]

    def limit(name: str, other: str) -> None:
        def react(written: str) -> None:
            value, bound = int(written), int(tree.get(f"{folder}/{other}"))
            if (value > bound) if name == "min_freq" else (value < bound):
                if not clamps:
                    raise Refused
                value = bound
            tree.put(f"{folder}/{name}", str(value))
            # The governor of an idle GPU sits at the lowest step that it may.
            bottom = int(tree.get(f"{folder}/min_freq"))
            tree.put(f"{folder}/cur_freq", str(min(s for s in steps if s >= bottom)), after_reads=lag)

        tree.file(f"{folder}/{name}", str(min(steps) if name == "min_freq" else max(steps)), react=react)

    tree.file(f"{folder}/device/of_node/name", node + "\0")
    tree.file(f"{folder}/available_frequencies", " ".join(map(str, steps)))
    tree.file(f"{folder}/governor", "nvhost_podgov")
    tree.file(f"{folder}/cur_freq", str(min(steps)))
    limit("min_freq", "max_freq")
    limit("max_freq", "min_freq")
    return folder


def emc(tree: Tree, mhz: Sequence[float], *, lag: int = 0) -> str:
    """The memory's debug files, which root alone may look at; returns their folder."""
    folder = "/sys/kernel/debug/bpmp/debug/clk/emc"
    steps = [round(value * 1e6) for value in mhz]

    def rate(written: str) -> None:
        # Unlocked, the firmware does as it likes; locked, it takes the next step that it has.
        wanted = int(written) if tree.get(f"{folder}/mrq_rate_locked") == "1" else max(steps)
        tree.put(f"{folder}/rate", str(min((s for s in steps if s >= wanted), default=max(steps))), after_reads=lag)

    def lock(written: str) -> None:
        if written not in "01":
            raise Refused
        tree.put(f"{folder}/mrq_rate_locked", written)
        if written == "0":
            tree.put(f"{folder}/rate", str(max(steps)))

    tree.file(f"{folder}/min_rate", str(min(steps)), secret=True)
    tree.file(f"{folder}/max_rate", str(max(steps)), secret=True)
    tree.file(f"{folder}/rate", str(max(steps)), react=rate, secret=True)
    tree.file(f"{folder}/mrq_rate_locked", "0", react=lock, secret=True)
    return folder


def nvpmodel(
    tree: Tree,
    recording: str,
    *,
    restarts: Sequence[str] = (),
    stuck: bool = False,
    moves: Mapping[str, str] | None = None,
) -> None:
    """The program, saying what a recording says.

    restarts: modes for which it wants to restart the board.  stuck: it changes nothing, and says nothing.
    moves: what files hold after any switch: limits of other clocks.
    """
    source = Path(__file__).with_name("nvpmodel.py")
    listing, query, conf = ((RECORDINGS / f"{recording}.{part}").read_text() for part in ("modes", "query", "conf"))
    tree.file("/etc/nvpmodel.conf", conf.removesuffix("\n"))
    state = tree.root / "nvpmodel.json"
    asked = {"listing": listing, "query": query, "restarts": list(restarts), "stuck": stuck, "answers": []}
    asked["moves"] = {str(tree.real(path)): text for path, text in (moves or {}).items()}
    state.write_text(json.dumps(asked))
    program = tree.root / "usr" / "sbin" / "nvpmodel"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {source} {state} "$@"\n')
    program.chmod(0o755)
    tree.programs["nvpmodel"] = str(program)


def jetson_tx2(root: Path, *, lag: int = 0) -> Tree:
    """JetPack 4: two clusters, GPU gp10b, four memory clocks, power modes."""
    tree = Tree(root)
    cpufreq(tree, [345600, 806400, 1420800, 2035200], governors="interactive userspace schedutil", lag=lag)
    cpufreq(tree, [345600, 806400, 1420800, 2035200], policy=1, governors="interactive userspace schedutil", lag=lag)
    devfreq(tree, [0.0375, 0.075], address="13e10000.host1x", node="host1x")
    devfreq(tree, TX2_GPU_MHZ, address="17000000.gp10b", node="gp10b", lag=lag)
    emc(tree, [1062.4, 1331.2, 1600, 1866], lag=lag)
    nvpmodel(tree, "tx2-jetpack4")
    return tree


def jetson_orin(root: Path, *, lag: int = 0) -> Tree:
    """JetPack 6: kernel that clamps, GPU with the node's name of that release, modes that want a restart."""
    tree = Tree(root)
    cpufreq(tree, [729600, 1190400, 1728000], governors="performance schedutil", clamps=True, lag=lag)
    devfreq(tree, [306, 408, 510, 612, 714, 816, 918], address="17000000.gpu", node="gpu", clamps=True, lag=lag)
    emc(tree, [204, 665.6, 2133, 3199], lag=lag)
    nvpmodel(tree, "orin-jetpack6", restarts=["7W"])
    return tree


def raspberry_pi4(root: Path, *, lag: int = 0) -> Tree:
    """Raspberry Pi OS: one cluster with a table of steps."""
    tree = Tree(root)
    cpufreq(tree, [600000, 1000000, 1500000, 1800000], governor="ondemand", lag=lag)
    return tree


def ina3221_iio(tree: Tree, rails: Mapping[str, int], *, bus: str = "0-0040") -> str:
    """A sensor as JetPack 4 shows it: names of rails, and power in mW; returns its folder."""
    folder = f"/sys/bus/i2c/drivers/ina3221x/{bus}/iio:device0"
    for number, (name, milliwatt) in enumerate(rails.items()):
        tree.file(f"{folder}/rail_name_{number}", name)
        tree.file(f"{folder}/in_power{number}_input", str(milliwatt))
    return folder


def ina3221_hwmon(tree: Tree, rails: Mapping[str, tuple[int, int]], *, bus: str = "1-0040", number: int = 3) -> str:
    """A sensor as JetPack 5 and later show it: label, mV and mA; returns its folder."""
    folder = f"/sys/bus/i2c/drivers/ina3221/{bus}/hwmon/hwmon{number}"
    for channel, (name, (millivolt, milliampere)) in enumerate(rails.items(), start=1):
        tree.file(f"{folder}/in{channel}_label", name)
        tree.file(f"{folder}/in{channel}_input", str(millivolt))
        tree.file(f"{folder}/curr{channel}_input", str(milliampere))
    tree.file(f"{folder}/in7_label", "sum of shunt voltages")
    tree.file(f"{folder}/in7_input", "0")
    return folder


def coral(root: Path, *, temp_mc: int = 45000) -> Tree:
    """An Edge TPU's driver: temperature and trip points in thousandths of a degree."""
    tree = Tree(root)
    folder = "/sys/class/apex/apex_0"
    tree.file(f"{folder}/temp", str(temp_mc))
    for number, limit in enumerate((85000, 90000, 95000)):
        tree.file(f"{folder}/trip_point{number}_temp", str(limit))
    return tree


def odpm(tree: Tree, rails: Mapping[str, int], *, t_ms: int = 1000, device: int = 0) -> str:
    """A phone's rail monitor: one counter in uWs a rail, with the time of its last update; returns the file's path."""
    path = f"/sys/bus/iio/devices/iio:device{device}/energy_value"
    lines = [f"t={t_ms}", *(f"CH{n}(T={t_ms})[{rail}], {uws}" for n, (rail, uws) in enumerate(rails.items()))]
    tree.file(path, "\n".join(lines))
    return path


def remove(tree: Tree, path: str) -> None:
    """Take a file or a folder away, as a kernel without that driver would."""
    real = tree.real(path)
    shutil.rmtree(real) if real.is_dir() else real.unlink()
