"""hwbench.networks_file: measurements as others give them, and every way in which they can be wrong."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbench.errors import ConfigError
from hwbench.networks_file import Ran, read_networks, read_runs
from hwbench.setting import Setting, parse_setting


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


def test_networks_are_told_apart_by_how_they_were_run(tmp_path: Path) -> None:
    """The same network may be run in two ways; who wants one way is told of both."""
    text = "family,arch,unit,precision,threads,latency_ms\nf,a,cpu,fp32,1,4\nf,a,cpu,fp32,,2\nf,b,cpu,fp32,1,5\n"
    one, other = read_runs(write(tmp_path, text))
    assert (Ran(unit="cpu", precision="fp32", threads=1), ("a", "b")) == (one.ran, one.archs)
    assert (Ran(unit="cpu", precision="fp32"), [2.0]) == (other.ran, other.values["latency_ms"].tolist())
    with pytest.raises(ConfigError, match=r"in 2 ways \(cpu fp32 1; cpu fp32\); keep the rows of one"):
        read_networks(write(tmp_path, text))


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5"])
def test_a_number_of_threads_is_a_number(tmp_path: Path, threads: str) -> None:
    """From 1."""
    with pytest.raises(ConfigError, match=r"networks.csv:2: threads is"):
        read_runs(write(tmp_path, f"family,arch,threads,latency_ms\nf,a,{threads},4\n"))


def test_an_import_says_how_networks_were_run(tmp_path: Path) -> None:
    """In the file beside; a column says it for its row alone."""
    file = write(tmp_path, "family,arch,precision,latency_ms\nf,a,,4\nf,b,int8,5\n")
    beside = '[source]\nevidence = "published"\nsource = "me"\nsetting = "{}"\n'
    file.with_suffix(".source.toml").write_text(beside.format("cpu fp32 batch=1 threads=4 cpu=1500"))
    one, other = read_runs(file)
    assert Ran(unit="cpu", precision="fp32", batch=1, threads=4, clocks="cpu=1500") == one.ran
    assert ("int8", 4) == (other.ran.precision, other.ran.threads)
    file.with_suffix(".source.toml").write_text(beside.format("cpu"))
    with pytest.raises(ConfigError, match=r"networks.source.toml: .*expected UNIT PRECISION batch=N"):
        read_runs(file)


@given(
    st.sampled_from(["cpu", "cpu.big", "npu"]),
    st.integers(1, 64),
    st.none() | st.integers(1, 64),
    st.dictionaries(
        st.from_regex(r"[a-z]{1,4}", fullmatch=True).filter(lambda name: name not in ("batch", "threads")),
        st.integers(1, 3000).map(float) | st.sampled_from(["MAXN", "MODE_10W"]),
        max_size=3,
    ),
)
def test_a_setting_is_read_as_it_is_written(
    unit: str, batch: int, threads: int | None, clocks: dict[str, float | str]
) -> None:
    """Whatever it holds."""
    point = tuple(sorted(clocks.items()))
    setting = Setting(unit=unit, precision="int8", batch=batch, threads=threads, clocks=point)
    assert setting == parse_setting(str(setting))
