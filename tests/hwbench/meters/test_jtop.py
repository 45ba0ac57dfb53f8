"""The `jtop` meter reads named rails through the board's own jetson-stats, and adds only those."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.links import local
from hwbench.measurement import Trace
from hwbench.meter import Meter
from hwbench.meters import jtop
from tests.contracts.meter import MeterContract

_PACKAGE = """
class JtopException(Exception):
    pass


class jtop:
    power = {"rail": {"VDD_IN": {"power": 4321, "avg": 17}, "VDD_SOC": {"power": 1100}}, "tot": {"power": 9999}}

    def start(self):
        pass

    def ok(self):
        return True

    def close(self):
        pass
"""


@pytest.fixture
def link(tmp_path: Path) -> Link:
    """A board whose Python has a package of that name."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "jtop.py").write_text(_PACKAGE)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}/packages" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return local.open({"workdir": tmp_path / "work", "python": str(python)})


class TestJtop(MeterContract):
    """The contract, with two rails that do not overlap."""

    @pytest.fixture
    def meter(self, link: Link) -> Meter:
        return jtop.open(jtop.Options(total=("VDD_IN", "VDD_SOC")), link)

    @pytest.fixture
    def truth_mw(self) -> float:
        return 5421.0

    @pytest.fixture
    def traces(self) -> Mapping[str, Trace]:
        t_ns = np.arange(0, 4_000_000_000, 100_000_000)
        return {
            f"rail.{name}": Trace(t_ns=t_ns, value=np.full(t_ns.size, power_mw), unit="mw")
            for name, power_mw in (("VDD_IN", 4321.0), ("VDD_SOC", 1100.0))
        }


def test_board_without_the_package_or_the_rail_is_told_so(link: Link) -> None:
    """Nothing is imported on this machine to find that out."""
    with pytest.raises(PermanentDeviceError, match="no power of VDD_IM"):
        jtop.open(jtop.Options(total=("VDD_IN", "VDD_IM")), link)
    with pytest.raises(PermanentDeviceError, match="no power of VDD_IN"):
        jtop.open(jtop.Options(total=("VDD_IN",)), local.open(local.Options()))
    assert "jtop" not in sys.modules


@pytest.mark.parametrize("total", [(), ("tot",), ("VDD_IN", "VDD_IN")])
def test_total_that_may_count_twice_is_refused(total: tuple[str, ...]) -> None:
    """`tot` adds rails that overlap on some boards."""
    with pytest.raises(ValidationError):
        jtop.Options(total=total)
