"""The `external` meter listens to a command, a file or a serial port from start to stop."""

from __future__ import annotations

import os
import sys
import time
import tty
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from hwbench.errors import PermanentDeviceError
from hwbench.links import local
from hwbench.measurement import Trace
from hwbench.meter import Meter
from hwbench.meters import external
from tests.contracts.meter import EMPTY, MeterContract


class TestExternal(MeterContract):
    """The contract."""

    @pytest.fixture
    def meter(self) -> Meter:
        return external.open(external.Options(command=["true"]), local.open(local.Options()))

    @pytest.fixture
    def truth_mw(self) -> float:
        return 2500.0

    @pytest.fixture
    def traces(self) -> Mapping[str, Trace]:
        t_ns = np.arange(0, 4_000_000_000, 100_000_000)
        return {external.TOTAL: Trace(t_ns=t_ns, value=np.full(t_ns.size, 2500.0), unit="mw")}


_BURSTS_S = (0.2, 0.1, 0.3)


def _bursts(power: Callable[[int], None], repeat_s: float = 0.0) -> Trace:
    """Play a marker: `power` is told what the supply gives, and again every `repeat_s` while it stays so."""
    edges: list[int] = []
    for burst_s in _BURSTS_S:
        for power_mw, lasts_s in ((5000, burst_s), (2000, 0.15)):
            edges.append(time.monotonic_ns())
            while True:
                power(power_mw)
                left_s = lasts_s - (time.monotonic_ns() - edges[-1]) / 1e9
                if left_s <= 0:
                    break
                time.sleep(min(left_s, repeat_s or left_s))
    return Trace(t_ns=np.array(edges), value=np.tile([1.0, 0.0], len(_BURSTS_S)), unit="raw")


def _check(total: Trace, marker: Trace) -> None:
    """In the last burst, away from its edges, the supply gave 5 W."""
    inside = (total.t_ns > marker.t_ns[-2] + 50e6) & (total.t_ns < marker.t_ns[-1] - 50e6)
    assert inside.sum() >= 5
    assert set(np.round(total.value[inside], 3)) == {5000.0}
    assert 0 < total.alignment_error_ms < 50


def test_command_runs_from_start_to_stop(root: Path, tmp_path: Path) -> None:
    """A real process: what it printed until it was ended is what is aligned."""
    power = tmp_path / "power"
    power.write_text("2000")
    supply = root / "tests" / "doubles" / "bench_supply.py"
    meter = external.External(external.Options(command=[sys.executable, str(supply), str(power), "1000"], rate_hz=100))
    meter.start()
    time.sleep(0.5)
    marker = _bursts(lambda power_mw: power.write_text(str(power_mw)))
    _check(meter.total(meter.stop(marker)), marker)


def test_file_is_read_from_where_it_ended(tmp_path: Path) -> None:
    """What stood there before, and the line that was being written, are another day's."""
    log = tmp_path / "log.csv"
    log.write_text("t_ms,watts\n1,99\n2,9")
    meter = external.open(
        external.Options(csv=log, columns=("t_ms", "power_w"), rate_hz=100), local.open(local.Options())
    )
    meter.start()
    with log.open("a", buffering=1) as stream:
        stream.write("9\n")

        def power(power_mw: int) -> None:
            stream.write(f"{time.monotonic() * 1000 - 5e6:.3f},{power_mw / 1000}\n")

        marker = _bursts(power, 0.01)
    _check(meter.total(meter.stop(marker)), marker)


def test_file_that_nobody_writes_is_named(tmp_path: Path) -> None:
    """Absent at the start, or silent until the end."""
    with pytest.raises(PermanentDeviceError, match=r"none.csv cannot be read"):
        external.External(external.Options(csv=tmp_path / "none.csv")).start()
    (tmp_path / "log.csv").write_text("1,2\n")
    meter = external.External(external.Options(csv=tmp_path / "log.csv"))
    meter.start()
    with pytest.raises(PermanentDeviceError, match="is its program running"):
        meter.stop(EMPTY)


@pytest.fixture
def port() -> Iterator[tuple[int, Path]]:
    """A real terminal: (our end of it, the port that a meter would be plugged into)."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    yield ours, Path(os.ttyname(theirs))
    for end in (ours, theirs):
        os.close(end)


def test_serial_port_dates_lines_that_tell_no_time(port: tuple[int, Path]) -> None:
    """Volts and amperes of a USB meter, with carriage returns; the first line may have begun before."""
    ours, name = port
    meter = external.External(external.Options(serial=name, columns=("volt_v", "amp_a"), rate_hz=100))
    meter.start()
    os.write(ours, b"00,0.4\r\n")
    marker = _bursts(lambda power_mw: os.write(ours, f"5.0,{power_mw / 5000}\r\n".encode()) and None, 0.01)
    time.sleep(0.3)  # what was written must have arrived
    _check(meter.total(meter.stop(marker)), marker)


def test_port_that_is_none_is_named(tmp_path: Path, port: tuple[int, Path]) -> None:
    """Absent, a plain file, or at a speed that no port has."""
    (tmp_path / "file").touch()
    for options, said in (
        ({"serial": tmp_path / "none"}, "group dialout"),
        ({"serial": tmp_path / "file"}, "is no serial port"),
        ({"serial": port[1], "baud": 123}, "no terminal runs at 123 baud"),
    ):
        with pytest.raises(PermanentDeviceError, match=said):
            external.External(external.Options.model_validate(options)).start()


def test_one_way_to_listen_is_named() -> None:
    """None, two, or lines without a time where nothing arrives."""
    for options in (
        {},
        {"command": ["x"], "csv": "y"},
        {"csv": "y", "columns": ["power_mw"]},
        {"serial": "y", "columns": ["t_s"]},
    ):
        with pytest.raises(ValidationError):
            external.Options.model_validate(options)


def test_command_that_does_not_exist_is_named() -> None:
    """At the start, before anything is measured."""
    meter = external.External(external.Options(command=["no-such-meter"]))
    with pytest.raises(PermanentDeviceError, match="cannot start 'no-such-meter'"):
        meter.start()
    assert meter.stop(EMPTY) == {}
