"""hwbench.safe_pickle: plain data comes through, nothing is called, no file asks for memory it does not hold."""

from __future__ import annotations

import builtins
import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbench.errors import ConfigError
from hwbench.safe_pickle import plain, read_pickle


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def write(folder: Path, data: bytes) -> Path:
    file = folder / "data.pickle"
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_numbers_and_numeric_arrays_come_through(tmp_path: Path, protocol: int) -> None:
    """In every protocol, with numpy's scalars and either order of an array."""
    data = {
        "a": [1, -1.0, "x", None],
        "b": np.float64(2.5),
        "c": np.arange(6.0).reshape(2, 3),
        "d": np.arange(3, dtype=">i4"),
    }
    data["f"] = np.asfortranarray(data["c"])
    found = read_pickle(write(tmp_path, pickle.dumps(data, protocol)))
    assert found["a"] == [1, -1.0, "x", None]
    assert plain(found["b"]) == 2.5
    assert plain(found["c"]) == plain(found["f"]) == [[0, 1, 2], [3, 4, 5]]
    assert plain(found["d"]) == [0, 1, 2]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("function", "named"), [(os.system, "system"), (builtins.eval, "builtins.eval"), (builtins.getattr, "getattr")]
)
def test_what_calls_is_refused_by_name(tmp_path: Path, protocol: int, function: Any, named: str) -> None:
    """However deep it lies, and nothing is run."""
    marker = tmp_path / "ran"
    call = Call(function, f"open({str(marker)!r}, 'w')" if function is builtins.eval else f"touch {marker}")
    for data in (call, {"nasbench201": [[{"config": call}]]}):
        name = named if protocol > 2 or "." not in named else named.replace("builtins", "__builtin__")
        with pytest.raises(ConfigError, match=f"refused: global .*{name}"):
            read_pickle(write(tmp_path, pickle.dumps(data, protocol)))
    assert not marker.exists()


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    """With or without a call inside."""
    for inside in ([1, 2], {"a": 1}):
        array = np.empty(1, dtype=object)
        array[0] = inside
        with pytest.raises(ConfigError, match="only plain numbers"):
            read_pickle(write(tmp_path, pickle.dumps(array)))
    with pytest.raises(ConfigError, match="only plain numbers"):
        read_pickle(write(tmp_path, pickle.dumps(np.zeros(2, dtype=[("a", "f8")]))))


@pytest.mark.parametrize(
    "data",
    [
        b"N" + b"r" + b"\xff\xff\xff\x7f" + b".",  # a memo of two thousand million places
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f" + b".",  # bytes of 2^63
        b"\x80\x04\x95" + b"\xff" * 8 + b".",  # a frame of 2^64
        b"\x80\x02Pabc\n.",  # a persistent id
        b"\x80\x02\x82\x01.",  # an extension
        b"",
        b"not a pickle",
    ],
)
def test_bombs_and_rubbish_are_refused(tmp_path: Path, data: bytes) -> None:
    """Before any of it is built."""
    with pytest.raises(ConfigError):
        read_pickle(write(tmp_path, data))


def test_deep_nesting_ends_nothing(tmp_path: Path) -> None:
    """A hundred thousand lists inside each other are read or refused, and the process lives."""
    found = read_pickle(write(tmp_path, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."))
    assert isinstance(found, list)


@given(st.binary(max_size=200))
def test_any_bytes_are_data_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Never another exception."""
    with contextlib.suppress(ConfigError):
        read_pickle(write(tmp_path_factory.getbasetemp(), b"\x80\x04" + data))
