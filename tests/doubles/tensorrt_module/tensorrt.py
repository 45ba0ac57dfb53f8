"""A stand-in for TensorRT's Python package, of the version that $TENSORRT_DOUBLE names, with ONNX Runtime inside.

It has what that version has and nothing more: numbered bindings in 8.2, named tensors in 10 and 11, no precision flags
in 11. Importing it also puts a stand-in in the place of `libcudart.so`, whose device is this process's memory and whose
stream does nothing until somebody waits for it.
"""

from __future__ import annotations

import ctypes
import enum
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

__version__ = os.environ["TENSORRT_DOUBLE"]
_MAJOR = int(__version__.split(".")[0])
_ENGINE = b"ENGINE OF THE TENSORRT DOUBLE "
_ON_DLA = ("Conv", "Relu", "MaxPool", "Add")


class _Stream:
    """Work in order; `recording` is the graph that takes it instead."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.recording: list[Any] | None = None

    def give(self, work: Any) -> None:
        (self.waiting if self.recording is None else self.recording).append(work)

    def finish(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class _Cudart:
    """The functions of the CUDA runtime that are used, on memory of this process."""

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.streams: dict[int, _Stream] = {}
        self.graphs: dict[int, list[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cuda"):
            raise AttributeError(name)
        work = getattr(type(self), "_" + name)

        def function(*arguments: Any) -> Any:
            return work(self, *arguments)

        return function

    def _cudaSetDeviceFlags(self, flags: Any) -> int:
        return 0

    def _cudaSetDevice(self, number: Any) -> int:
        return 0

    def _cudaGetLastError(self) -> int:
        return 0

    def _cudaGetErrorString(self, status: Any) -> bytes:
        return {2: b"out of memory", 901: b"operation failed due to a previous error during capture"}.get(
            status.value, b"unknown error"
        )

    def _cudaStreamCreate(self, place: Any) -> int:
        number = 0x5000 + len(self.streams)
        self.streams[number] = _Stream()
        place._obj.value = number
        return 0

    def _cudaStreamSynchronize(self, stream: Any) -> int:
        if self.streams[stream.value].recording is not None:
            return 900  # not permitted while a stream is capturing
        self.streams[stream.value].finish()
        return 0

    def _cudaMemGetInfo(self, free: Any, total: Any) -> int:
        held = sum(len(block) for block in self.memory.values())
        free._obj.value, total._obj.value = (1 << 32) - held, 1 << 32
        return 0

    def _cudaMalloc(self, place: Any, size: Any) -> int:
        if size.value > 1 << 31:
            return 2
        block = ctypes.create_string_buffer(size.value)
        place._obj.value = ctypes.addressof(block)
        self.memory[ctypes.addressof(block)] = block
        return 0

    def _cudaFree(self, pointer: Any) -> int:
        return 0 if self.memory.pop(pointer.value, None) is not None else 1

    def _cudaMemcpy(self, target: Any, source: Any, size: Any, kind: Any) -> int:
        for stream in self.streams.values():  # the legacy stream waits for all others
            stream.finish()
        ctypes.memmove(target, source, size.value)
        return 0

    def _cudaStreamBeginCapture(self, stream: Any, mode: Any) -> int:
        self.streams[stream.value].recording = []
        return 0

    def _cudaStreamEndCapture(self, stream: Any, place: Any) -> int:
        recorded, self.streams[stream.value].recording = self.streams[stream.value].recording, None
        place._obj.value = self._graph(recorded or [])
        return 0

    def _cudaGraphInstantiate(self, place: Any, graph: Any, *rest: Any) -> int:
        place._obj.value = self._graph(self.graphs[graph.value])
        return 0

    def _graph(self, work: list[Any]) -> int:
        number = 0x6000 + len(self.graphs)
        self.graphs[number] = work
        return number

    def _cudaGraphDestroy(self, graph: Any) -> int:
        self.graphs[graph.value] = []
        return 0

    def _cudaGraphExecDestroy(self, graph: Any) -> int:
        return self._cudaGraphDestroy(graph)

    def _cudaGraphLaunch(self, graph: Any, stream: Any) -> int:
        for work in list(self.graphs[graph.value]):
            self.streams[stream.value].give(work)
        return 0


_CUDART = _Cudart()
_REAL_CDLL = ctypes.CDLL


def _cdll(name: Any, *arguments: Any, **keywords: Any) -> Any:
    return _CUDART if "libcudart" in str(name) else _REAL_CDLL(name, *arguments, **keywords)


ctypes.CDLL = _cdll  # type: ignore[misc,assignment]


class Severity(enum.IntEnum):
    """How bad a message is."""

    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3


class ILogger:
    """Base of loggers; the constants stand on it too."""

    INTERNAL_ERROR, ERROR, WARNING, INFO = Severity
    Severity = Severity


class DataType(enum.Enum):
    """Types by the names that the real enum has."""

    FLOAT = "float32"
    HALF = "float16"
    INT8 = "int8"
    INT32 = "int32"
    INT64 = "int64"
    BOOL = "bool"


class DeviceType(enum.Enum):
    """Where layers run."""

    GPU = 0
    DLA = 1


class MemoryPoolType(enum.Enum):
    """What is limited."""

    WORKSPACE = 0


class TensorIOMode(enum.Enum):
    """Direction of a tensor."""

    NONE = 0
    INPUT = 1
    OUTPUT = 2


_FLAGS = {"TF32": 7, "GPU_FALLBACK": 3} | ({} if _MAJOR >= 11 else {"FP16": 0, "INT8": 1})
BuilderFlag = enum.Enum("BuilderFlag", _FLAGS)
NetworkDefinitionCreationFlag = enum.IntEnum(
    "NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 1} if _MAJOR >= 11 else {"EXPLICIT_BATCH": 0}
)


class _Network:
    def __init__(self) -> None:
        self.model: Any = None
        self.data = b""

    @property
    def num_inputs(self) -> int:
        return len(self.model.graph.input)

    def get_input(self, i: int) -> Any:
        value = self.model.graph.input[i]
        dims = value.type.tensor_type.shape.dim
        return SimpleNamespace(name=value.name, shape=[d.dim_value if d.HasField("dim_value") else -1 for d in dims])


class OnnxParser:
    """Reads ONNX; refuses what is damaged and operators that nobody knows."""

    def __init__(self, network: _Network, logger: Any) -> None:
        self._network, self._errors = network, []

    def parse(self, data: bytes) -> bool:
        try:
            model = onnx.load_from_string(data)
            if not model.graph.node:
                raise ValueError("empty")
        except Exception:
            self._errors.append("In node -1 (parseGraph): INVALID_GRAPH: Assertion failed: the file is no ONNX model")
            return False
        for number, node in enumerate(model.graph.node):
            if not onnx.defs.has(node.op_type) or (node.op_type == "HardSwish" and _MAJOR == 8):  # since 8.4
                self._errors.append(
                    f"In node {number} (importFallbackPluginImporter): UNSUPPORTED_NODE: Assertion failed: "
                    f'creator && "Plugin not found": {node.op_type}'
                )
                return False
        self._network.model, self._network.data = model, data
        return True

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, i: int) -> str:
        return self._errors[i]


class _TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data


class _Config:
    def __init__(self) -> None:
        self.flags = {BuilderFlag.TF32}
        self.default_device_type = DeviceType.GPU
        self.DLA_core = -1
        self.workspace = 0
        self._cache: _TimingCache | None = None
        if _MAJOR == 8:
            self.max_workspace_size = 0
        else:
            self.set_memory_pool_limit = self._set_memory_pool_limit

    def _set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.workspace = size

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: Any) -> int:
        self.shapes = dict(profile.shapes)
        return 0

    def create_timing_cache(self, data: bytes) -> _TimingCache:
        return _TimingCache(data)

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        self._cache = cache
        return True

    def get_timing_cache(self) -> _TimingCache | None:
        return self._cache


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, low: Any, usual: Any, high: Any) -> bool:
        self.shapes[name] = usual
        return True


class Builder:
    """Makes networks and engines."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> _Network:
        if _MAJOR < 10 and flags != 1:
            raise RuntimeError("implicit batch networks read no ONNX")
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        operators = [node.op_type for node in network.model.graph.node]
        told = None
        if not (getattr(config, "max_workspace_size", 0) or config.workspace):
            told = "Could not find any implementation for node (no workspace)"
        elif "QuantizeLinear" in operators and _MAJOR < 11 and BuilderFlag["INT8"] not in config.flags:
            told = "Int8 precision has not been enabled, but the network has Q/DQ layers"
        elif config.default_device_type is DeviceType.DLA and BuilderFlag.GPU_FALLBACK not in config.flags:
            other = [name for name in operators if name not in _ON_DLA]
            told = f"{other[0]}_0: DLA validation failed and GPU fallback is not enabled" if other else None
        if told is not None:
            line = f"4: [network.cpp::validate::2965] Error Code 4: Internal Error\n({told})"
            self._logger.log(Severity.ERROR, line)
            return None
        assert config._cache is not None
        config._cache.data += b"timed\n"
        return _ENGINE + __version__.encode() + b"\n" + network.data


class Runtime:
    """Reads engines of this version."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        head = _ENGINE + __version__.encode() + b"\n"
        if not plan.startswith(head):
            self._logger.log(Severity.ERROR, "1: [stdArchiveReader.cpp] Error Code 1: Serialization (version tag)")
            return None
        return (_NumberedEngine if _MAJOR == 8 else _NamedEngine)(plan[len(head) :])


_TYPES = {"tensor(float)": DataType.FLOAT, "tensor(float16)": DataType.HALF, "tensor(int8)": DataType.INT8}
_TYPES |= {"tensor(int32)": DataType.INT32, "tensor(int64)": DataType.INT64}


class _Engine:
    def __init__(self, data: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(data, options)
        taken, given = self.session.get_inputs(), self.session.get_outputs()
        # Some engines give outputs in another order than the graph names them.
        self.nodes = {node.name: node for node in [*taken, *reversed(given)]}
        self.taken = [node.name for node in taken]

    def shape(self, name: str) -> list[int]:
        return [n if isinstance(n, int) else -1 for n in self.nodes[name].shape]

    def create_execution_context(self) -> Any:
        return (_NumberedContext if _MAJOR == 8 else _NamedContext)(self)


class _NumberedEngine(_Engine):
    """TensorRT 8.2."""

    @property
    def num_bindings(self) -> int:
        return len(self.nodes)

    def get_binding_name(self, i: int) -> str:
        return list(self.nodes)[i]

    def binding_is_input(self, i: int) -> bool:
        return self.get_binding_name(i) in self.taken

    def get_binding_shape(self, i: int) -> list[int]:
        return self.shape(self.get_binding_name(i))

    def get_binding_dtype(self, i: int) -> DataType:
        return _TYPES[self.nodes[self.get_binding_name(i)].type]


class _NamedEngine(_Engine):
    """TensorRT 10 and 11."""

    @property
    def num_io_tensors(self) -> int:
        return len(self.nodes)

    def get_tensor_name(self, i: int) -> str:
        return list(self.nodes)[i]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.taken else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> list[int]:
        return self.shape(name)

    def get_tensor_dtype(self, name: str) -> DataType:
        return _TYPES[self.nodes[name].type]


class _Context:
    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.shapes: dict[str, Any] = {}
        self.addresses: dict[str, int] = {}

    def shape(self, name: str) -> list[int]:
        batch = [shape[0] for shape in self.shapes.values()] or [1]
        return [batch[0] if n == -1 else n for n in self.engine.shape(name)]

    def view(self, name: str, addresses: dict[str, int]) -> np.ndarray:
        dtype = np.dtype(_TYPES[self.engine.nodes[name].type].value)
        shape = self.shape(name)
        size = int(np.prod(shape)) * dtype.itemsize
        assert len(_CUDART.memory[addresses[name]]) >= size, "an output does not fit its memory"
        return np.frombuffer((ctypes.c_char * size).from_address(addresses[name]), dtype=dtype).reshape(shape)

    def enqueue(self, addresses: dict[str, int], stream: int) -> bool:
        if any(not addresses.get(name) for name in self.engine.nodes):
            return False
        addresses = dict(addresses)

        def work() -> None:
            names = [name for name in self.engine.nodes if name not in self.engine.taken]
            feed = {name: self.view(name, addresses) for name in self.engine.taken}
            for name, array in zip(names, self.engine.session.run(names, feed), strict=True):
                self.view(name, addresses)[...] = array

        _CUDART.streams[stream].give(work)
        return True


class _NumberedContext(_Context):
    """TensorRT 8.2."""

    def set_binding_shape(self, i: int, shape: Any) -> bool:
        self.shapes[self.engine.get_binding_name(i)] = tuple(shape)
        return True

    def get_binding_shape(self, i: int) -> list[int]:
        return self.shape(self.engine.get_binding_name(i))

    def execute_async_v2(self, bindings: list[int], stream_handle: int) -> bool:
        return self.enqueue(dict(zip(self.engine.nodes, bindings, strict=True)), stream_handle)


class _NamedContext(_Context):
    """TensorRT 10 and 11."""

    def set_input_shape(self, name: str, shape: Any) -> bool:
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> list[int]:
        return self.shape(name)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        return self.enqueue(self.addresses, stream_handle)
