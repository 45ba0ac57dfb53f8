"""The `files` meter reads rails that are files, and adds only what it is told to add."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from hwbench.errors import Inconclusive, PermanentDeviceError
from hwbench.links import local
from hwbench.measurement import Trace
from hwbench.meter import Meter
from hwbench.meters import files
from hwbench.reading import read_probe
from hwbench.resources import targets_dir
from hwbench.target_file import read_target
from tests.contracts.meter import MeterContract
from tests.doubles import vcgencmd
from tests.doubles.sysfs import Tree, TreeLink


def _rail(folder: Path, name: str, content: str = "1000") -> str:
    file = folder / name
    file.write_text(content)
    return f"file:{file}"


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, object]:
    """An INA3221 as JetPack 5 shows it: VDD_IN as millivolts and milliamperes, and one rail inside of it in mW."""
    return {
        "VDD_IN": {"volt": _rail(tmp_path, "in1_input", "5000\n"), "amp": _rail(tmp_path, "curr1_input", "800\n")},
        "VDD_SOC": _rail(tmp_path, "power2", "1500\n"),
    }


def _open(**options: object) -> files.Files:
    return files.open(files.Options.model_validate(options), local.open(local.Options()))


class TestFiles(MeterContract):
    """The contract, on the board's total as a voltage-current pair."""

    @pytest.fixture
    def meter(self, tree: dict[str, object]) -> Meter:
        return _open(rails=tree, total="VDD_IN")

    @pytest.fixture
    def truth_mw(self) -> float:
        return 4000.0

    @pytest.fixture
    def traces(self, meter: Meter) -> Mapping[str, Trace]:
        t_ns = np.arange(0, 4_000_000_000, 50_000_000)
        value = {"rail.VDD_IN.volt": 5000.0, "rail.VDD_IN.amp": 800.0, "rail.VDD_SOC": 1500.0}
        return {
            p.name: Trace(t_ns=t_ns + n * 100_000, value=np.full(t_ns.size, value[p.name]), unit=p.unit)
            for n, p in enumerate(meter.probes())
        }


def test_named_rails_are_added_and_others_left_out(tmp_path: Path) -> None:
    """VDD_IN holds the others; only what `total` names counts."""
    rails = {name: _rail(tmp_path, name) for name in ("cpu", "gpu", "vdd_in")}
    meter = _open(rails=rails, total=["cpu", "gpu"], unit="uw")
    t_ns = np.arange(5) * 1000
    traces = {
        f"rail.{n}": Trace(t_ns=t_ns, value=np.full(5, v), unit="uw")
        for n, v in zip(rails, (1e6, 2e6, 9e6), strict=True)
    }
    total = meter.total(traces)
    assert (total.unit, total.value.tolist()) == ("mw", [3000.0] * 5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rails": {"a": "file:/a", "b": "file:/b"}}, "`total` must name"),
        ({"rails": {"cpu": "file:/a"}, "total": "cpi"}, "did you mean 'cpu'"),
        ({"rails": {"a": "file:/a"}, "total": ["a", "a"]}, "twice"),
        ({"rails": {"a": "file:/a"}, "total": []}, "none"),
        ({"rails": {}}, "at least 1"),
        ({"rails": {"a": "nvml:0"}}, "file:/"),
        ({"rails": {"a": {"volt": "file:/a", "amp": "file:/b"}}, "unit": "uj"}, "cannot stand in one meter"),
        ({"rails": {"a": "ina:VDD_IN"}, "unit": "uj"}, "cannot stand in one meter"),
        ({"rails": {"a": "file:/a#"}}, "no field"),
    ],
)
def test_options_that_would_add_wrongly_are_refused(options: dict[str, object], said: str) -> None:
    """Overlapping rails are never added by default."""
    with pytest.raises(ValidationError, match=said):
        files.Options.model_validate(options)


def test_absent_or_odd_file_is_named(tmp_path: Path) -> None:
    """The board is asked at once, not in the middle of a campaign."""
    with pytest.raises(PermanentDeviceError, match="none gives no number in mw"):
        _open(rails={"a": f"file:{tmp_path}/none"})
    with pytest.raises(PermanentDeviceError, match="nc gives no number"):
        _open(rails={"a": _rail(tmp_path, "nc", "NC")})


def test_rail_without_samples_is_no_zero(tmp_path: Path) -> None:
    """An empty trace has no total."""
    meter = _open(rails={n: _rail(tmp_path, n) for n in ("a", "b")}, total=["a", "b"])
    some = Trace(t_ns=np.arange(3), value=np.ones(3), unit="mw")
    none = Trace(t_ns=np.zeros(0, dtype=np.int64), value=np.zeros(0), unit="mw")
    with pytest.raises(Inconclusive, match="no samples"):
        meter.total({"rail.a": some, "rail.b": none})


def test_rails_of_a_tool_are_read_as_it_prints_them(tmp_path: Path) -> None:
    """Whatever prints a number is a meter: here the volts and amperes of one rail of a Raspberry Pi 5."""
    read = f"run:{vcgencmd.install(tmp_path)} pmic_read_adc"
    meter = _open(rails={"core": {"volt": f"{read}#VDD_CORE_V", "amp": f"{read}#VDD_CORE_A"}})
    assert [(p.name, p.unit) for p in meter.probes()] == [("rail.core.volt", "mv"), ("rail.core.amp", "ma")]
    assert meter.rate_hz == 10


class TestNamedRails:
    """`ina:NAME` finds a rail whatever path this release of the system gives it."""

    def test_jetpack_4_tells_power(self, i2c: Path) -> None:
        """iio: a TX2's board sensor, in mW."""
        meter = _open(rails={"total": "ina:VDD_IN"}, i2c=str(i2c))
        assert [(p.name, p.unit, p.read) for p in meter.probes()] == [
            ("rail.total", "mw", f"file:{i2c}/0-0041/iio:device1/in_power0_input")
        ]
        assert meter.rate_hz is None

    def test_jetpack_5_tells_voltage_and_current(self, i2c: Path) -> None:
        """hwmon: mV times mA, and how often they are new."""
        meter = _open(rails={"total": "ina:VDD_CPU_GPU_CV"}, i2c=str(i2c))
        assert [p.read for p in meter.probes()] == [
            f"file:{i2c}/1-0040/hwmon/hwmon3/in2_input",
            f"file:{i2c}/1-0040/hwmon/hwmon3/curr2_input",
        ]
        assert meter.rate_hz == 100.0

    def test_sensor_of_one_channel_goes_by_its_label_or_chip(self, i2c: Path) -> None:
        """An INA219 on a HAT, an INA238 with a name in the device tree; in uW."""
        meter = _open(rails={"hat": "ina:ina219", "in": "ina:VIN_SYS"}, total="in", i2c=str(i2c))
        assert [(p.name, p.unit) for p in meter.probes()] == [("rail.hat", "uw"), ("rail.in", "uw")]

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("VDD_IM", "did you mean 'VDD_IN'"),
            ("NC", "has a rail 'NC'"),
            ("sum of shunt voltages", "known: TWICE, VDD_CPU_GPU_CV, VDD_IN, VDD_SYS_GPU, VIN_SYS, ina219"),
            ("TWICE", "2 INA sensors have a rail 'TWICE'"),
            ("VDD_SYS_GPU", "in_power1_input gives no number"),
        ],
    )
    def test_rail_that_is_not_there_is_named_with_those_that_are(self, i2c: Path, name: str, said: str) -> None:
        """Misspelt, not connected, no rail at all, there twice, or without a value."""
        with pytest.raises(PermanentDeviceError, match=said):
            _open(rails={"a": f"ina:{name}"}, i2c=str(i2c))

    def test_board_without_i2c_has_none(self, tmp_path: Path) -> None:
        """And the message says so."""
        with pytest.raises(PermanentDeviceError, match=r"has a rail 'VDD_IN'.*known: none"):
            _open(rails={"a": "ina:VDD_IN"}, i2c=str(tmp_path / "none"))

    @pytest.fixture
    def i2c(self, tmp_path: Path) -> Path:
        """Sensors as JetPack 4 and 5, mainline and a HAT show them; each is below its bus, too, and links go round."""
        devices = tmp_path / "bus" / "i2c" / "devices"
        real = tmp_path / "real"
        _write(real / "i2c-0" / "0-0041" / "iio:device1", rail_name_0="VDD_IN", in_power0_input="4321", name="ina3221x")
        _write(
            real / "i2c-0" / "0-0041" / "iio:device1", rail_name_1="VDD_SYS_GPU", rail_name_2="NC", in_power2_input="0"
        )
        orin = real / "i2c-1" / "1-0040" / "hwmon" / "hwmon3"
        _write(orin, name="ina3221", update_interval="10", in1_label="TWICE", in1_input="5000", curr1_input="1")
        _write(orin, in2_label="VDD_CPU_GPU_CV", in2_input="5000", curr2_input="400")
        _write(orin, in7_label="sum of shunt voltages", in7_input="3", curr4_input="500")
        _write(real / "i2c-1" / "1-0041" / "hwmon" / "hwmon4", in1_label="TWICE", in1_input="5000", curr1_input="1")
        _write(real / "i2c-7" / "7-0045" / "hwmon" / "hwmon5", name="ina219", power1_input="1500000", in1_input="5000")
        _write(real / "i2c-7" / "7-0044" / "hwmon" / "hwmon6", name="ina238", label="VIN_SYS", power1_input="9000000")
        _write(real / "i2c-7" / "7-0011" / "hwmon" / "hwmon7", name="max17048", power1_input="1")
        devices.mkdir(parents=True)
        for device in (*real.glob("i2c-*"), *real.glob("i2c-*/*-*")):
            (devices / device.name).symlink_to(device)
            (device / "subsystem").symlink_to(devices.parent)
        return devices


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content + "\n")


# What the boards' own INA3221 call their rails: JetPack 4 shows power, JetPack 5 voltage and current.
_JETSONS = {
    "jetson-nano": (4, ["POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"]),
    "jetson-tx2": (4, ["VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI", "VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"]),
    "jetson-agx-xavier": (5, ["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"]),
    "jetson-orin-nano": (5, ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]),
}


@pytest.mark.parametrize("name", _JETSONS)
def test_shipped_jetsons_find_the_rails_that_they_name(name: str, tmp_path: Path) -> None:
    """Their own [[meter]], on sensors of three channels each."""
    jetpack, labels = _JETSONS[name]
    tree = Tree(tmp_path / "tree")
    for number, label in enumerate(labels):
        channel = number % 3 + (jetpack > 4)
        device = f"/sys/bus/i2c/devices/1-004{number // 3}"
        if jetpack == 4:
            tree.file(f"{device}/iio:device{number // 3}/rail_name_{channel}", f"{label}\n")
            tree.file(f"{device}/iio:device{number // 3}/in_power{channel}_input", f"{1000 * (number + 1)}\n")
        else:
            folder = f"{device}/hwmon/hwmon{number // 3}"
            tree.file(f"{folder}/in{channel}_label", f"{label}\n")
            tree.file(f"{folder}/in{channel}_input", "5000\n")
            tree.file(f"{folder}/curr{channel}_input", "200\n")
    link = TreeLink(tree, local.open(local.Options()))
    (section,) = read_target(targets_dir() / f"{name}.toml").meter
    meter = files.open(files.Options.model_validate(section.options), link)
    t_ns = np.arange(20) * 10**8
    traces = {
        p.name: Trace(t_ns=t_ns, value=np.full(20, read_probe(link, p) or np.nan), unit=p.unit) for p in meter.probes()
    }
    whole = {"jetson-nano": 1000.0, "jetson-tx2": 4000.0, "jetson-agx-xavier": 6000.0, "jetson-orin-nano": 1000.0}
    assert set(meter.total(traces).value) == {whole[name]}
