"""TensorRT through its Python bindings, of version 8 (numbered bindings) and of 8.5 to 11 (named tensors).

Engines are built here, on the board, and kept (`hwbench.agent.engines`). A run is one launch of the recorded CUDA graph
and the wait for its end, timed on the host's clock; inputs and outputs stay on the device, and the features of one
engine are the input of the next where they lie.
"""

import os
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import tensorrt

from hwbench.agent import cudart, engines
from hwbench.agent.protocol import AgentError
from hwbench.agent.runtime import Call, Model, Port, check_fit, seeded
from hwbench.agent.runtimes.trt_build import LOGGER, build, closed, told, version

__all__ = ["compile", "load", "version"]

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
# Networks of several outputs: this is their order, whatever the engine made of it.
_CONVENTION = ("features", "logits", "score")


_CUDA: List[cudart.Cuda] = []


def compile(path: str, setting: Mapping[str, Any], options: Mapping[str, Any]) -> Tuple[str, Dict[str, Any]]:
    """Build the engine of an ONNX file on this board; raises AgentError with the line that says why it cannot."""
    _cuda()
    del LOGGER.errors[:]

    def write(plan: str, cache: str) -> None:
        with open(plan, "wb") as stream:
            stream.write(told(lambda: build(path, setting, options, cache), "cannot build it"))

    return engines.kept(path, setting, options, version(), write)


def load(path: str, setting: Mapping[str, Any], options: Mapping[str, Any]) -> Model:
    """Read an engine.  options: graph (default true: record runs as a CUDA graph).  AgentError when it is refused."""
    cuda = _cuda()
    del LOGGER.errors[:]
    return told(lambda: TrtModel(cuda, path, setting, options), "cannot run it")  # type: ignore[no-any-return]


class TrtModel(Model):
    """An engine; every call has a context, and so activations, of its own."""

    def __init__(self, cuda: cudart.Cuda, path: str, setting: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self.cuda = cuda
        self._graph = bool(options.get("graph", True))
        with open(path, "rb") as stream:
            plan = stream.read()
        cuda.synchronize()
        # After the file was read: on a Jetson its pages would be taken for the engine's memory.
        before = cuda.free_bytes()
        self._runtime = tensorrt.Runtime(LOGGER)
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            os.unlink(path)
            raise AgentError("runtime", engines.REMOVED)
        self._face: Any = _Tensors if hasattr(engine, "num_io_tensors") else _Bindings
        self._engine = engine
        self._batch = int(setting["batch"])
        face = self._face(engine, self._batch)
        self.inputs, self.outputs = tuple(face.inputs), tuple(_in_order(face.outputs))
        first = TrtCall(self, face, None, self._graph)
        first.run()
        cuda.synchronize()
        # What others take at this moment is seen too: a number that cannot be is left unknown.
        taken = before - cuda.free_bytes()
        self._memory = (taken, taken) if taken > 0 else (None, None)
        self.notes = {"cuda_graph": int(first.recorded)}
        if setting["unit"] == "dla" and options.get("gpu_fallback", False):
            self.flags = ("gpu_fallback",)

    def memory(self) -> Tuple[Optional[int], Optional[int]]:
        """Device memory that went while it was loaded and run once: weights, activations, inputs and outputs."""
        return self._memory

    def bind(self, source: Optional[Call], nth: int) -> Call:
        """A context of its own for each call, so a graph may stand in a chain several times."""
        if source is not None and not isinstance(source, TrtCall):
            raise AgentError("request", "a chain stays within one runtime")
        return TrtCall(self, self._face(self._engine, self._batch), source, self._graph)


class TrtCall(Call):
    """A context with its memory; its first input is the memory of the call before, where there is one."""

    def __init__(self, model: TrtModel, face: Any, source: "Optional[TrtCall]", graph: bool) -> None:
        cuda = model.cuda
        self.input, self.outputs = model.inputs[0], model.outputs
        # Kept for as long as the context: the engine's memory ends with its last holder.
        self._face, self._source = face, source
        self._in: List[cudart.Memory] = []
        for i, port in enumerate(model.inputs):
            if i == 0 and source is not None:
                check_fit(source.outputs[0], port)
                if source.outputs[0].dtype != port.dtype:
                    raise AgentError("request", "output {} feeds input {}".format(source.outputs[0].dtype, port.dtype))
                memory = source.results[0]
            else:
                memory = cudart.Memory(cuda, np.ascontiguousarray(seeded(port, i)))
                memory.send()
            self._in.append(memory)
            face.place(port.name, memory.address)
        self.results: List[cudart.Memory] = [
            cudart.Memory(cuda, np.empty(port.shape, dtype=port.dtype)) for port in model.outputs
        ]
        for port, memory in zip(model.outputs, self.results):
            face.place(port.name, memory.address)
        enqueue = face.enqueue(cuda.stream)
        # Once before it is recorded: what is made ready in the first run may not be in a graph.
        if not enqueue():
            raise AgentError("runtime", "the engine does not run")
        cuda.synchronize()
        recorded = cuda.record(enqueue) if graph else None
        self.recorded: bool = recorded is not None
        self.run = _launched(recorded, cuda) if recorded is not None else _enqueued(enqueue, cuda)

    def write(self, stored: np.ndarray) -> None:
        """Copy a sample to the device."""
        np.copyto(self._in[0].host, stored)
        self._in[0].send()

    def read(self, index: int) -> np.ndarray:
        """The output, copied from the device."""
        return self.results[index].fetch()

    def read_score(self, index: int) -> float:
        """The number, fetched from the device."""
        return float(self.results[index].fetch().item())


class _Tensors:
    """A context of TensorRT 8.5 and later, where inputs and outputs have names."""

    def __init__(self, engine: Any, batch: int) -> None:
        self._context = engine.create_execution_context()
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        taken = [name for name in names if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT]
        self.inputs = []
        for name in taken:
            shape = closed(name, engine.get_tensor_shape(name), batch)
            self._context.set_input_shape(name, shape)
            self.inputs.append(_port(name, engine.get_tensor_dtype(name), shape))
        self.outputs = [
            _port(name, engine.get_tensor_dtype(name), self._context.get_tensor_shape(name))
            for name in names
            if name not in taken
        ]

    def place(self, name: str, address: int) -> None:
        """Where an input or output lies."""
        self._context.set_tensor_address(name, address)

    def enqueue(self, stream: int) -> Callable[[], bool]:
        """Gives the stream one run."""
        execute = self._context.execute_async_v3

        def enqueued() -> bool:
            return bool(execute(stream_handle=stream))

        return enqueued


class _Bindings:
    """A context of TensorRT 8 before 8.5, where inputs and outputs have numbers."""

    def __init__(self, engine: Any, batch: int) -> None:
        self._context = engine.create_execution_context()
        self._places = {engine.get_binding_name(i): i for i in range(engine.num_bindings)}
        self._addresses = [0] * engine.num_bindings
        self.inputs, self.outputs = [], []
        for name, i in self._places.items():
            if engine.binding_is_input(i):
                shape = closed(name, engine.get_binding_shape(i), batch)
                self._context.set_binding_shape(i, shape)
                self.inputs.append(_port(name, engine.get_binding_dtype(i), shape))
        for name, i in self._places.items():
            if not engine.binding_is_input(i):
                self.outputs.append(_port(name, engine.get_binding_dtype(i), self._context.get_binding_shape(i)))

    def place(self, name: str, address: int) -> None:
        """Where an input or output lies."""
        self._addresses[self._places[name]] = address

    def enqueue(self, stream: int) -> Callable[[], bool]:
        """Gives the stream one run."""
        execute, addresses = self._context.execute_async_v2, self._addresses

        def enqueued() -> bool:
            return bool(execute(bindings=addresses, stream_handle=stream))

        return enqueued


def _launched(graph: cudart.Graph, cuda: cudart.Cuda) -> Callable[[], None]:
    launch, synchronize = graph.launch, cuda.synchronize

    def run() -> None:
        launch()
        synchronize()

    return run


def _enqueued(enqueue: Callable[[], bool], cuda: cudart.Cuda) -> Callable[[], None]:
    synchronize = cuda.synchronize

    def run() -> None:
        if not enqueue():
            raise AgentError("runtime", "the engine does not run: " + "; ".join(LOGGER.errors[-1:]))
        synchronize()

    return run


def _port(name: str, dtype: Any, shape: Sequence[int]) -> Port:
    if dtype.name not in _DTYPES:
        raise AgentError("runtime", "{!r} holds {}, which is not measured".format(name, dtype.name))
    return Port(name, _DTYPES[dtype.name], [int(n) for n in shape])


def _in_order(ports: Sequence[Port]) -> List[Port]:
    if {port.name for port in ports} != set(_CONVENTION):
        return list(ports)
    return sorted(ports, key=lambda port: _CONVENTION.index(port.name))


def _cuda() -> cudart.Cuda:
    # Once for the process, and only when something is loaded: greeting needs no device.
    if not _CUDA:
        _CUDA.append(cudart.Cuda())
    return _CUDA[0]
