"""Reads what a TFLite file says of itself: inputs, outputs, operations, weights. Needs no TFLite runtime.

Source: field numbers and codes of TensorFlow Lite's schema.fbs (version 3); a FlatBuffer is tables of relative offsets.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from hwbench.errors import ConfigError
from hwbench.workload import Op, Tensor

_DTYPES = {
    **{0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "str", 6: "bool", 7: "int16", 8: "complex64"},
    **{9: "int8", 10: "float64", 12: "uint64", 15: "uint32", 16: "uint16", 17: "int4"},
}
# BuiltinOperator -> kind of Op; what is not here keeps its number.
_KINDS = {
    **{0: "add", 41: "add", 106: "add", 18: "multiply", 42: "multiply"},
    **{1: "pool", 17: "pool", 40: "pool", 74: "pool", 82: "pool", 12: "pool"},
    **{3: "conv", 4: "dwconv", 67: "conv", 9: "linear", 126: "linear"},
    **{14: "activation", 19: "activation", 20: "activation", 21: "activation", 25: "activation", 28: "activation"},
    **{98: "activation", 117: "activation", 150: "activation", 54: "activation", 111: "activation"},
    **{2: "concat", 6: "quantize", 114: "quantize", 34: "pad", 39: "transpose", 22: "view", 43: "view", 70: "view"},
    **{23: "resize", 97: "resize", 36: "gather", 45: "slice", 65: "slice"},
}
# BuiltinOperator by code, as compilers and profilers print it; later ones have no name here.
_NAMES_TEXT = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
    FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC
    LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH
    SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN
    GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM
    STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM
    CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN
    TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN
    FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV
    REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE
    MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG
    QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND
    SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO
    RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
    CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE
    RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX
    UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT
"""
_NAMES = tuple(_NAMES_TEXT.split())
_T = TypeVar("_T")
_CONV, _DEPTHWISE, _FULLY_CONNECTED, _TRANSPOSED, _BATCH_MATMUL = 3, 4, 9, 67, 126


@dataclass(frozen=True, slots=True, kw_only=True)
class TfliteGraph:
    """inputs and outputs of the main subgraph, its operations, elements of its weights, digest of the file.

    quantized: its convolutions and products work on 8-bit integers.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    params: int
    quantized: bool
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the main subgraph: its builtin name (`CONV_2D`), and whether it reads or writes real numbers."""

    name: str
    real: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Value:
    name: str
    dtype: str
    shape: tuple[int, ...]
    constant: bool

    @property
    def count(self) -> int:
        return math.prod(self.shape)


class _Table:
    """A FlatBuffer table at a place in the file."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data, self.place = data, place
        self.vtable = place - _number("<i", data, place)
        self.size = _number("<H", data, self.vtable)

    def at(self, field: int) -> int:
        """Where a field lies; 0 when it is absent."""
        slot = 4 + 2 * field
        offset = _number("<H", self.data, self.vtable + slot) if slot < self.size else 0
        return self.place + offset if offset else 0

    def number(self, field: int, form: str, default: int = 0) -> int:
        place = self.at(field)
        return _number(form, self.data, place) if place else default

    def vector(self, field: int) -> tuple[int, int]:
        """(place of the first element, length)."""
        place = self.at(field)
        if not place:
            return 0, 0
        place += _number("<I", self.data, place)
        return place + 4, _number("<I", self.data, place)

    def numbers(self, field: int) -> tuple[int, ...]:
        place, length = self.vector(field)
        if length > len(self.data):
            raise struct.error("a vector longer than the file")
        return struct.unpack_from(f"<{length}i", self.data, place) if length else ()

    def tables(self, field: int) -> list[_Table]:
        place, length = self.vector(field)
        if length > len(self.data):
            raise struct.error("a vector longer than the file")
        return [_Table(self.data, p + _number("<I", self.data, p)) for p in range(place, place + 4 * length, 4)]

    def text(self, field: int) -> str:
        place, length = self.vector(field)
        return self.data[place : place + length].decode("utf-8", "replace")


def parse(data: bytes, origin: str) -> TfliteGraph:
    """Describe the content of a TFLite file; raises ConfigError (naming `origin`) when it is broken or not TFLite."""
    return _read(data, origin, _parse)


def operations(data: bytes, origin: str) -> tuple[Operation, ...]:
    """The operations of a TFLite file in running order; raises ConfigError as `parse` does."""
    return _read(data, origin, _operations)


def _read(data: bytes, origin: str, how: Callable[[_Content, str, bytes], _T]) -> _T:
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise ConfigError(f"{origin}: not a TFLite file (its mark TFL3 is missing); convert it again")
    try:
        return how(_content(data, origin), origin, data)
    except (struct.error, IndexError, RecursionError) as error:
        raise ConfigError(
            f"{origin}: a TFLite file that is cut short or damaged ({error}); convert it again"
        ) from error


class _Content(NamedTuple):
    """The main subgraph, what its operators' codes mean, and its values."""

    graph: _Table
    codes: list[tuple[int, str]]
    values: list[_Value]


def _content(data: bytes, origin: str) -> _Content:
    model = _Table(data, _number("<I", data, 0))
    graphs = model.tables(2)
    if not graphs:
        raise ConfigError(f"{origin}: holds no graph; convert it again")
    filled = [_filled(buffer, origin) for buffer in model.tables(4)]
    return _Content(
        graph=graphs[0],
        codes=[_code(table) for table in model.tables(1)],
        values=[_value(table, filled) for table in graphs[0].tables(0)],
    )


def _operations(content: _Content, origin: str, data: bytes) -> tuple[Operation, ...]:
    found = []
    for operator in content.graph.tables(3):
        code, _ = content.codes[operator.number(0, "<I")]
        touched = [content.values[i] for i in (*operator.numbers(1), *operator.numbers(2)) if i >= 0]
        name = _NAMES[code] if code < len(_NAMES) else f"BUILTIN_{code}"
        found.append(Operation(name=name, real=any(value.dtype.startswith("float") for value in touched)))
    return tuple(found)


def _parse(content: _Content, origin: str, data: bytes) -> TfliteGraph:
    values = content.values
    inputs, outputs = content.graph.numbers(1), content.graph.numbers(2)
    ops, weights, integer = [], set(), []
    for operator in content.graph.tables(3):
        code, custom = content.codes[operator.number(0, "<I")]
        read = [i for i in operator.numbers(1) if i >= 0]
        written = [i for i in operator.numbers(2) if i >= 0]
        macs = _macs(code, [values[i] for i in read], [values[i] for i in written])
        kind = custom or _KINDS.get(code, f"tflite{code}")
        # 32-bit integers are biases of a product, shapes and axes elsewhere.
        constant = {i for i in read if values[i].constant and (macs or values[i].dtype not in ("int32", "int64"))}
        moving = [i for i in dict.fromkeys(read) if not values[i].constant]
        ops.append(
            Op(
                kind=kind,
                macs=macs,
                weight_count=sum(values[i].count for i in constant),
                read_count=0 if kind == "view" else sum(values[i].count for i in moving),
                write_count=0 if kind == "view" else sum(values[i].count for i in written),
            )
        )
        if macs:
            weights |= constant
            integer.append(values[written[0]].dtype in ("int8", "uint8"))
    return TfliteGraph(
        inputs=tuple(_tensor(values[i], origin) for i in inputs),
        outputs=tuple(_tensor(values[i], origin) for i in outputs),
        ops=tuple(ops),
        params=sum(values[i].count for i in weights),
        quantized=bool(integer) and all(integer),
        digest=hashlib.blake2b(data, digest_size=4).hexdigest(),
    )


def _macs(code: int, read: list[_Value], written: list[_Value]) -> int:
    if code in (_CONV, _FULLY_CONNECTED):  # weights (out, height, width, in) and (out, in)
        return written[0].count * math.prod(read[1].shape[1:])
    if code == _DEPTHWISE:  # (1, height, width, out)
        return written[0].count * math.prod(read[1].shape[1:-1])
    if code == _TRANSPOSED:  # inputs: shape, weights (out, height, width, in), features
        return read[2].count * math.prod(read[1].shape[:-1])
    if code == _BATCH_MATMUL:
        return written[0].count * read[0].shape[-1]
    return 0


def _code(table: _Table) -> tuple[int, str]:
    """Codes up to 127 stand in the old one-byte field, later ones in the new."""
    return max(table.number(0, "<b"), table.number(3, "<i")), table.text(1)


def _filled(buffer: _Table, origin: str) -> bool:
    place, length = buffer.vector(0)
    outside, outside_length = buffer.number(1, "<Q"), buffer.number(2, "<Q")  # weights behind the FlatBuffer
    if place + length > len(buffer.data) or (outside_length and outside + outside_length > len(buffer.data)):
        raise ConfigError(f"{origin}: its weights are cut short; convert or copy it again")
    return length > 0 or outside_length > 0


def _value(table: _Table, filled: list[bool]) -> _Value:
    return _Value(
        name=table.text(3),
        dtype=_DTYPES.get(table.number(1, "<b"), "unknown"),
        shape=table.numbers(0),
        constant=filled[table.number(2, "<I")],
    )


def _tensor(value: _Value, origin: str) -> Tensor:
    if any(length < 1 for length in value.shape):
        raise ConfigError(
            f"{origin}: {value.name!r} has the dynamic shape {list(value.shape)}; convert it with a fixed one"
        )
    return Tensor(name=value.name, dtype=value.dtype, shape=value.shape)


def _number(form: str, data: bytes, place: int) -> int:
    if place < 0:
        raise struct.error("an offset before the file")
    return int(struct.unpack_from(form, data, place)[0])
