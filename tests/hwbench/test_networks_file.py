"""hwbench.networks_file: measurements as others give them, and every way in which they can be wrong."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from hwbench.errors import ConfigError
from hwbench.networks_file import read_networks


def write(folder: Path, text: str) -> Path:
    file = folder / "networks.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_units_are_converted_where_they_enter(tmp_path: Path) -> None:
    """Microseconds and joules become milliseconds and millijoules."""
    found = read_networks(write(tmp_path, "family,arch,latency_us,energy_j,note\nf,a,1500,0.002,x\nf,b,2000,0.003,y\n"))
    assert ("f", ("a", "b")) == (found.family, found.archs)
    assert [1.5, 2.0] == found.values["latency_ms"].tolist()
    assert [2.0, 3.0] == found.values["energy_mj"].tolist()


@pytest.mark.parametrize("empty", ["-1", "-1.0", "", "nan"])
def test_what_could_not_be_measured_is_no_number(tmp_path: Path, empty: str) -> None:
    """Never a latency of −1."""
    found = read_networks(write(tmp_path, f"family,arch,latency_ms\nf,a,{empty}\nf,b,2\n"))
    assert [True, False] == [math.isnan(v) for v in found.values["latency_ms"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("family,arch\nf,a\n", "no column latency_ms"),
        ("family,arch,latency\nf,a,1\n", "says no unit"),
        ("family,arch,latency_ms,latency_us\nf,a,1,1000\n", "two units"),
        ("arch,latency_ms\na,1\n", "no column 'family'"),
        ("family,arch,latency_ms\nf,a,fast\n", "networks.csv:2: latency_ms is 'fast'"),
        ("family,arch,latency_ms\nf,a,0\n", "positive"),
        ("family,arch,latency_ms\nf,a,-2\n", "positive"),
        ("family,arch,latency_ms\nf,a,inf\n", "positive"),
        ("family,arch,latency_ms\nf,a,1,2\n", "4 fields"),
        ("family,arch,latency_ms\nf,a,1\nf,a,2\n", "twice"),
        ("family,arch,latency_ms\nf,a,1\ng,b,2\n", "one family"),
        ("family,arch,latency_ms\n", "no networks"),
        ("family,arch,latency_ms,arch\nf,a,1,b\n", "column stands there twice"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    """That says what and where."""
    with pytest.raises(ConfigError, match=said) as error:
        read_networks(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_the_same_line_twice_is_one_network(tmp_path: Path) -> None:
    """Only other values are a contradiction."""
    assert ("a",) == read_networks(write(tmp_path, "family,arch,latency_ms\nf,a,1\nf,a,1\n")).archs


def test_parquet_and_csv_are_the_same(tmp_path: Path) -> None:
    """Nulls included."""
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table({"family": ["f", "f"], "arch": ["a", "b"], "latency_ms": [1.5, None]})
    parquet.write_table(table, tmp_path / "networks.parquet")
    one = read_networks(tmp_path / "networks.parquet")
    other = read_networks(write(tmp_path, "family,arch,latency_ms\nf,a,1.5\nf,b,\n"))
    assert one.archs == other.archs
    np.testing.assert_array_equal(one.values["latency_ms"], other.values["latency_ms"])


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    """In one line, too."""
    pytest.importorskip("pyarrow")
    (tmp_path / "x.parquet").write_bytes(b"family,arch")
    with pytest.raises(ConfigError, match="not a Parquet file"):
        read_networks(tmp_path / "x.parquet")
