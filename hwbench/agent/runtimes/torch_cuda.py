"""Torch on an NVIDIA GPU, or on the processor: exported programs, on the GPU captured once as a CUDA graph.

A run is timed on the host's clock from asking until the device is done (`synchronize`), not between CUDA events: the
launch belongs to what a user waits for, and a cascade has to see a score before it goes on. As a captured graph a run
is one launch, so this time is the network's and not Python's. On the processor each operator is called from Python,
which is how torch runs there without a compiler.
"""

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch

from hwbench.agent import pt2
from hwbench.agent.protocol import AgentError
from hwbench.agent.runtime import Call, Model, Port, check_fit, seeded

# Runs before a capture: libraries choose their kernels in the first ones, and may not while a graph is recorded.
_WARM_RUNS = 3
_MEMORY_FORMATS = {1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 4: "preserve_format"}
_STRIDED = 7


def version() -> str:
    """Version of torch, with that of CUDA where it has one: `2.13.0+cu130`."""
    return str(torch.__version__)


def load(path: str, setting: Mapping[str, Any], options: Mapping[str, Any]) -> Model:
    """Read a `.pt2` file; the unit `gpu` is the first CUDA device, any other the processor.

    options: tf32 (default false: fp32 is fp32).  Raises AgentError when it cannot run.
    """
    torch.set_grad_enabled(False)
    gpu = str(setting["unit"]) == "gpu"
    if gpu and not torch.cuda.is_available():
        raise AgentError("absent", "torch {} finds no CUDA device here".format(torch.__version__))
    tf32 = bool(options.get("tf32", False))
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    # Shapes never change, so convolutions may be tried out once, as a deployed program would.
    torch.backends.cudnn.benchmark = True
    if not gpu:
        torch.set_num_threads(int(setting["threads"]))
    half = str(setting["precision"]) == "fp16"
    try:
        program = pt2.read(path)
        return TorchModel(program, torch.device("cuda:0" if gpu else "cpu"), half, int(setting["batch"]))
    except AgentError:
        raise
    except Exception as error:  # torch raises RuntimeError, TypeError, and what an operator's check raises
        raise AgentError("runtime", " ".join(str(error).split()) or type(error).__name__) from error


class TorchModel(Model):
    """Weights on the device and the steps that use them."""

    def __init__(self, program: pt2.Program, device: Any, half: bool, batch: int) -> None:
        self.device = device
        before = _allocated(device)
        self._weights = {name: _tensor(array, device, half) for name, array in program.weights.items()}
        self._steps = [_bound(step, device, half) + (dead,) for step, dead in zip(program.steps, _expiring(program))]
        self._names = [value.name for value in program.inputs]
        self._results = [value.name for value in program.outputs]
        self.inputs = tuple(_port(value, half) for value in program.inputs)
        for port in self.inputs:
            if port.shape and port.shape[0] != batch:
                raise AgentError(
                    "runtime", "input {!r} is made for batch {}, not {}".format(port.name, port.shape[0], batch)
                )
        self.outputs = tuple(_port(value, half) for value in program.outputs)
        found = self.run([_seeded(port, i, device) for i, port in enumerate(self.inputs)])
        for port, tensor in zip(self.outputs, found):
            if tuple(tensor.shape) != port.shape or str(tensor.dtype) != "torch." + port.dtype:
                raise AgentError("runtime", "output {!r} comes out as {}".format(port.name, tuple(tensor.shape)))
        self._memory = _memory(device, before)

    def run(self, inputs: Sequence[Any]) -> List[Any]:
        """All outputs, one operator after the other."""
        values = dict(self._weights)
        values.update(zip(self._names, inputs))
        for operator, arguments, outputs, spread, dead in self._steps:
            positional, keyword = arguments(values)
            made = operator(*positional, **keyword)
            if spread:
                values.update(zip(outputs, made))
            else:
                values[outputs[0]] = made
            for name in dead:
                del values[name]
        return [values[name] for name in self._results]

    def memory(self) -> Optional[Tuple[Optional[int], Optional[int]]]:
        """The device's own, as torch's allocator counts it; on the processor what the process sees."""
        return self._memory

    def bind(self, source: Optional[Call], nth: int) -> Call:
        """Inputs of its own for each call; a call that follows another reads its output where it lies."""
        if source is not None and not isinstance(source, TorchCall):
            raise AgentError("request", "a chain stays within one runtime")
        return CapturedCall(self, source) if self.device.type == "cuda" else TorchCall(self, source)


class TorchCall(Call):
    """A program with its inputs."""

    def __init__(self, model: TorchModel, source: "Optional[TorchCall]") -> None:
        self.input = model.inputs[0]
        self.outputs = model.outputs
        self._inputs = [_seeded(port, i, model.device) for i, port in enumerate(model.inputs)]
        self.results: List[Any] = []
        if source is not None:
            check_fit(source.outputs[0], self.input)
            if source.outputs[0].dtype != self.input.dtype:
                raise AgentError(
                    "request", "output {} feeds input {}".format(source.outputs[0].dtype, self.input.dtype)
                )
        self.run = self._runner(model, source)

    def _runner(self, model: TorchModel, source: "Optional[TorchCall]") -> Callable[[], Any]:
        inputs, run = self._inputs, model.run

        def first() -> None:
            self.results = run(inputs)

        def following() -> None:
            assert source is not None
            inputs[0] = source.results[0]
            self.results = run(inputs)

        # A call that follows may be bound before the first has ever run.
        return first if source is None else following

    def write(self, stored: np.ndarray) -> None:
        """Copy a sample to the device."""
        self._inputs[0].copy_(torch.from_numpy(stored))

    def read(self, index: int) -> np.ndarray:
        """The output, copied from the device."""
        array: np.ndarray = self.results[index].cpu().numpy()
        return array

    def read_score(self, index: int) -> float:
        """The number, fetched from the device."""
        return float(self.results[index].item())


class CapturedCall(TorchCall):
    """A program recorded as a CUDA graph: the same kernels on the same memory each time, started at once.

    Only a GPU runs this: the tests marked `device` are its proof.
    """

    def _runner(self, model: TorchModel, source: Optional[TorchCall]) -> Callable[[], Any]:
        if source is not None:
            # Recorded addresses: the graph reads the other graph's output in place.
            self._inputs[0] = source.results[0]
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_RUNS):
                model.run(self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.results = model.run(self._inputs)
        torch.cuda.synchronize()
        replay, synchronize = graph.replay, torch.cuda.synchronize

        def replayed() -> None:
            replay()
            synchronize()

        return replayed


def _bound(step: pt2.Step, device: Any, half: bool) -> Tuple[Any, Any, Tuple[str, ...], bool]:
    packet = getattr(torch.ops.aten, step.name)
    operator = getattr(packet, step.overload)
    if not isinstance(operator, torch._ops.OpOverload):
        raise AgentError("runtime", "torch has no operator aten.{}.{}".format(step.name, step.overload))
    positional = [_constant(a, device, half) for a in step.positional]
    keyword = {key: _constant(a, device, half) for key, a in step.keyword.items()}

    def arguments(values: Mapping[str, Any]) -> Tuple[List[Any], Dict[str, Any]]:
        return [_filled(a, values) for a in positional], {key: _filled(a, values) for key, a in keyword.items()}

    return operator, arguments, step.outputs, step.spread


def _expiring(program: pt2.Program) -> List[List[str]]:
    """For each step the tensors that nobody needs after it, so that their memory serves again."""
    needed = {value.name for value in program.outputs}
    dead: List[List[str]] = []
    for step in reversed(program.steps):
        seen = {name for argument in list(step.positional) + list(step.keyword.values()) for name in _names(argument)}
        seen |= set(step.outputs)
        dead.append(sorted(seen - needed - set(program.weights)))
        needed |= seen
    return dead[::-1]


def _names(argument: Any) -> List[str]:
    if isinstance(argument, pt2.Name):
        return [argument]
    return [name for part in argument for name in _names(part)] if isinstance(argument, list) else []


def _constant(argument: Any, device: Any, half: bool) -> Any:
    """An argument with torch's own constants in place; names of tensors stay names."""
    if not isinstance(argument, pt2.Kind):
        return argument
    if argument.what == "dtype":
        return getattr(torch, _narrow(str(argument.value), half))
    if argument.what == "memory_format":
        return getattr(torch, _MEMORY_FORMATS[int(argument.value or 0)])
    if argument.what == "layout":
        if argument.value != _STRIDED:
            raise AgentError("runtime", "sparse tensors are not run here")
        return torch.strided
    return device


def _filled(argument: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(argument, pt2.Name):
        return values[argument]
    if isinstance(argument, list):
        return [_filled(a, values) for a in argument]
    return argument


def _narrow(dtype: str, half: bool) -> str:
    return "float16" if half and dtype == "float32" else dtype


def _tensor(array: np.ndarray, device: Any, half: bool) -> Any:
    return torch.from_numpy(array).to(device=device, dtype=getattr(torch, _narrow(str(array.dtype), half)))


def _port(value: pt2.Value, half: bool) -> Port:
    return Port(value.name, _narrow(value.dtype, half), value.shape)


def _seeded(port: Port, index: int, device: Any) -> Any:
    return torch.from_numpy(seeded(port, index)).to(device)


def _allocated(device: Any) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return int(torch.cuda.memory_allocated(device))


def _memory(device: Any, before: int) -> Optional[Tuple[Optional[int], Optional[int]]]:
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    held = int(torch.cuda.memory_allocated(device)) - before
    most = int(torch.cuda.max_memory_allocated(device)) - before
    return held, most or None
