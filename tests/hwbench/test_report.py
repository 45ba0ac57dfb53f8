"""The page of tables: what it says is what the tables say, and what they do not know stays empty."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hwbench import command
from hwbench.cli import hwbench
from hwbench.page import Figure, Table
from hwbench.report import page
from hwbench.table import LatencyTable

TABLES = Path(__file__).parents[2] / "latency_tables"
FILES = [TABLES / board / "roofline-digits.csv" for board in ("rpi4", "jetson-tx2")]


@pytest.fixture(scope="module")
def tables() -> list[LatencyTable]:
    return [LatencyTable.read(file) for file in FILES]


def test_boards_stand_side_by_side_with_their_own_numbers(tables: list[LatencyTable]) -> None:
    """The sum of one column is that of its rows; the first is once itself and ranks like itself."""
    made = page(tables)
    compared = made.sections[0].blocks[0]
    assert isinstance(compared, Table)
    first = compared.rows[0]
    assert first[0] == "rpi4 cpu fp32"
    fastest = [r for r in tables[0].row.values() if r.kind == "block" and "cpu=1800" in str(r.cell.setting)]
    assert first[4] == f"{sum(r.latency_ms.value for r in fastest):.4g}"
    assert ("1", "1.000") == (first[6], first[7])
    assert {"rpi4 cpu fp32", "jetson-tx2 cpu fp32", "jetson-tx2 gpu fp32"} == {row[0] for row in compared.rows}
    titles = [section.title for section in made.sections]
    assert ["Side by side", "Blocks: latency", "Blocks: energy", "Clocks"] == titles[:4]
    clocks = made.sections[3].blocks[0]
    assert isinstance(clocks, Figure)
    assert "rows of the table (large), the others by its clock models; predicted:simulated" in clocks.caption


def test_what_nobody_measured_is_no_zero(tables: list[LatencyTable]) -> None:
    """A table without energy has no sum of it and no heat map."""
    bare = replace(tables[0], row={c: replace(r, energy_mj=None) for c, r in tables[0].row.items()}, compositions=())
    made = page([bare])
    compared = made.sections[0].blocks[0]
    assert isinstance(compared, Table)
    assert compared.rows[0][5] is None
    assert compared.rows[0][8] is None
    assert "Blocks: energy" not in [section.title for section in made.sections]


def test_the_command_writes_a_page_that_a_browser_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing loaded, nothing run; a file that is no table is one line."""
    out = tmp_path / "pages" / "report.html"
    assert 0 == command.run(hwbench, "hwbench", ["report", *map(str, FILES), "--out", str(out)])
    text = out.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "src=" not in text.replace('src="data:', "")
    browser = shutil.which("chromium")
    if browser is not None:
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", out.as_uri()]
        seen = subprocess.run([browser, *words], capture_output=True, text=True, timeout=60, check=True).stdout
        assert "Side by side" in seen
    assert 2 == command.run(hwbench, "hwbench", ["report", str(tmp_path / "none.csv"), "--out", str(out)])
    assert "none.toml: no such table" in capsys.readouterr().err.splitlines()[-1]
