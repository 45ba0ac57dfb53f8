"""Reads pickles of plain data without trusting them: containers, numbers, text and numeric numpy arrays, nothing else.

Nothing of numpy is called by the pickle: its arrays, dtypes and scalars are rebuilt by stand-ins of ours, so that
neither an object array nor a crafted state reaches code. A first pass over the opcodes refuses sizes and memo places
that the file cannot hold, which would have the unpickler ask for memory that no value needs.
Source: Python's pickletools, and what numpy's arrays write of themselves (`_reconstruct`, `scalar`, `_frombuffer`).
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hwbench.errors import ConfigError

_MAX_BYTES = 1 << 28
_MAX_OPCODES = 30_000_000
_CODES = {f"{kind}{size}" for kind in "iuf" for size in (2, 4, 8)} | {"i1", "u1", "b1"}


def read_pickle(file: Path) -> Any:
    """The data; ConfigError names the global or the opcode that is refused, or what is damaged."""
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{file}: {file.stat().st_size} bytes, more than the {_MAX_BYTES} that are read")
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from error
    try:
        _scan(data)
        return _Unpickler(io.BytesIO(data)).load()
    except _Refused as error:
        raise ConfigError(f"{file}: refused: {error}") from error
    # Whatever a damaged or hostile file makes the unpickler raise is the file's fault.
    except Exception as error:
        raise ConfigError(f"{file}: not a pickle that can be read ({type(error).__name__}: {error})") from error


class _Refused(Exception):
    pass


def _scan(data: bytes) -> None:
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if count > _MAX_OPCODES:
            raise _Refused(f"more than {_MAX_OPCODES} opcodes")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > 2 * count + 256:
            raise _Refused(f"memo place {argument} after {count} opcodes")
        if opcode.name in ("PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER"):
            raise _Refused(f"opcode {opcode.name}")


class _Dtype:
    """A numeric dtype: byte order and code."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or code not in _CODES:
            raise _Refused(f"numpy dtype {code!r}: only plain numbers are read")
        self.code, self.order = code, "|"

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or state[1] not in ("<", ">", "|", "=") or any(state[2:5]):
            raise _Refused("numpy dtype with fields: only plain numbers are read")
        self.order = state[1]

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.code if self.order == "|" else self.order + self.code)


class _Array:
    """An array in the making; `plain` turns it into lists."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = _values(raw, dtype, shape, "F" if fortran else "C")


class _Call:
    """A function that a pickle may call, and whose state it may not set."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise _Refused(f"setting {name!r} of a function")

    def __setstate__(self, state: Any) -> None:
        raise _Refused("setting the state of a function")


def _values(raw: Any, dtype: Any, shape: Any, order: Any) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, (bytes, bytearray)):
        raise _Refused("numpy array of objects: only plain numbers are read")
    if order not in ("C", "F"):
        raise _Refused(f"array order {order!r}")
    return np.frombuffer(raw, dtype.numpy).reshape(shape, order=order).tolist()


def _scalar(dtype: Any, raw: Any = b"") -> Any:
    return _values(raw, dtype, (), "C")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): lambda *items: OrderedDict(*items)
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED |= {
        (f"{_core}.multiarray", "_reconstruct"): lambda *_: _Array(),
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _values,
    }
_ALLOWED |= {("numpy", "dtype"): _Dtype, ("numpy", "ndarray"): lambda *_: _Array()}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        function = _ALLOWED.get((module, name))
        # Protocol 2 spells bytes as a call of codecs.encode, which Python 2's numpy arrays need.
        if (module, name) == ("_codecs", "encode"):
            function = _latin
        if function is None:
            raise _Refused(f"global {module}.{name}; a table of numbers needs none")
        return _Call(function)


def _latin(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused(f"encoding {encoding!r}")
    return text.encode("latin1")


def plain(value: Any) -> Any:
    """An array read from a pickle as nested lists; anything else as it is."""
    return value.value if isinstance(value, _Array) else value
