"""LiteRT (TensorFlow Lite) on the CPU, with `tflite_runtime` where a board has only that."""

from typing import Any, Callable, List, Mapping, Optional, Tuple

import numpy as np

from hwbench.agent.protocol import AgentError
from hwbench.agent.runtime import Call, Model, Port, check_batch, check_fit, seeded

try:
    from ai_edge_litert import interpreter as tflite
except ImportError:
    from tflite_runtime import interpreter as tflite

__all__ = ["LitertCall", "LitertModel", "load", "opened", "tflite", "version"]


def version() -> str:
    """Version of the runtime; empty where the package does not say."""
    try:
        # Python 3.6 has no importlib.metadata; there, packages still carry a __version__.
        from importlib import metadata
    except ImportError:
        return str(getattr(__import__(tflite.__name__.partition(".")[0]), "__version__", ""))
    return metadata.version(tflite.__name__.partition(".")[0].replace("_", "-"))


def load(path: str, setting: Mapping[str, Any], options: Mapping[str, Any]) -> Model:
    """Read a TFLite file.

    options: xnnpack (default true).  Raises AgentError when the runtime refuses the file.
    """
    threads, batch = int(setting["threads"]), int(setting["batch"])
    arguments = {}
    if not options.get("xnnpack", True):
        arguments["experimental_op_resolver_type"] = tflite.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES

    def interpreter() -> Any:
        made = tflite.Interpreter(model_path=path, num_threads=threads, **arguments)
        for detail in made.get_input_details() if batch != 1 else ():
            if detail["shape"][0] == 1:
                made.resize_tensor_input(detail["index"], [batch] + [int(n) for n in detail["shape"][1:]])
        made.allocate_tensors()
        return made

    return opened(interpreter, batch)


def opened(make: Callable[[], Any], batch: int) -> "LitertModel":
    """The model whose interpreters `make` gives, run once; AgentError says what the runtime has against it."""
    try:
        return LitertModel(make, batch)
    except AgentError:
        raise
    except Exception as error:  # ValueError, RuntimeError and what a delegate raises
        made_for_one = "" if batch == 1 else " (fed {} inputs at once: is the graph made for one?)".format(batch)
        raise AgentError("runtime", (" ".join(str(error).split()) or type(error).__name__) + made_for_one) from error


class LitertModel(Model):
    """An interpreter, and more where a graph stands several times in a chain: an interpreter owns its buffers."""

    def __init__(self, make: Callable[[], Any], batch: int) -> None:
        self._make = make
        self._interpreters = [make()]
        first = self._interpreters[0]
        self._in = [detail["index"] for detail in first.get_input_details()]
        details = _in_order(first)
        self._out = [detail["index"] for detail in details]
        self.inputs = tuple(_port(detail) for detail in first.get_input_details())
        self.outputs = tuple(_port(detail) for detail in details)
        for port in self.inputs:
            if port.shape and port.shape[0] != batch:
                raise AgentError(
                    "runtime", "input {!r} is made for batch {}, not {}".format(port.name, port.shape[0], batch)
                )
        for i, port in enumerate(self.inputs):
            first.set_tensor(self._in[i], seeded(port, i))
        first.invoke()
        check_batch(self.outputs, batch)

    def bind(self, source: Optional[Call], nth: int) -> Call:
        """The nth interpreter of this graph."""
        if source is not None and not isinstance(source, LitertCall):
            raise AgentError("request", "a chain stays within one runtime")
        while len(self._interpreters) <= nth:
            self._interpreters.append(self._make())
        return LitertCall(self._interpreters[nth], self._in, self._out, self.inputs, self.outputs, source)


class LitertCall(Call):
    """An interpreter whose first input is copied from the arena of the call before; the first call only invokes."""

    def __init__(
        self,
        interpreter: Any,
        inputs: List[int],
        outputs: List[int],
        input_ports: Tuple[Port, ...],
        output_ports: Tuple[Port, ...],
        source: "Optional[LitertCall]",
    ) -> None:
        self.outputs = output_ports
        self.input = input_ports[0]
        for i, port in enumerate(input_ports):
            interpreter.set_tensor(inputs[i], seeded(port, i))
        # `tensor` gives functions that show the arena; the views they return must be gone before each invoke.
        self.features: Callable[[], np.ndarray] = interpreter.tensor(outputs[0])
        self._reads = [interpreter.tensor(index) for index in outputs]
        self._show_input: Callable[[], np.ndarray] = interpreter.tensor(inputs[0])
        invoke: Callable[[], None] = interpreter.invoke
        if source is None:
            self.run = invoke
            return
        given, taken = source.outputs[0], input_ports[0]
        check_fit(given, taken)
        show, feed = source.features, self._show_input
        if (given.dtype, given.scale, given.zero_point) == (taken.dtype, taken.scale, taken.zero_point):

            def copied() -> None:
                np.copyto(feed(), show())
                invoke()

            self.run = copied
        elif np.dtype(given.dtype).itemsize == 1:
            # All 256 stored numbers are converted once, so that a boundary between scales costs one look-up a number.
            table = taken.stored(given.real(np.arange(256, dtype=np.uint8).view(given.dtype)))

            def looked_up() -> None:
                np.take(table, show().view(np.uint8), out=feed(), mode="clip")
                invoke()

            self.run = looked_up
        else:

            def converted() -> None:
                feed()[...] = taken.stored(given.real(show()))
                invoke()

            self.run = converted

    def write(self, stored: np.ndarray) -> None:
        """Copy a sample into the arena."""
        np.copyto(self._show_input(), stored)

    def read(self, index: int) -> np.ndarray:
        """A copy of the output as real numbers: a view would forbid the next invoke."""
        return self.outputs[index].real(self._reads[index]().copy())

    def read_score(self, index: int) -> float:
        """The number in the arena, real."""
        port, number = self.outputs[index], self._reads[index]().item()
        return float(number if port.scale is None else np.float32(number - port.zero_point) * np.float32(port.scale))


def _in_order(interpreter: Any) -> List[Any]:
    """Output details in the order of the signature (`output_0`, …), which the file need not keep."""
    details = list(interpreter.get_output_details())
    signatures = interpreter.get_signature_list() if hasattr(interpreter, "get_signature_list") else {}
    if len(signatures) != 1:
        return details
    names = next(iter(signatures.values()))["outputs"]
    order = {"output_{}".format(i): i for i in range(len(details))}
    if sorted(names) != sorted(order) or not hasattr(interpreter, "get_signature_runner"):
        return details
    shown = interpreter.get_signature_runner().get_output_details()
    place = {detail["index"]: order[name] for name, detail in shown.items()}
    if sorted(place) != sorted(detail["index"] for detail in details):
        return details
    return sorted(details, key=lambda detail: place[detail["index"]])


def _port(detail: Any) -> Port:
    scale, zero_point = detail["quantization"]
    quantised = np.dtype(detail["dtype"]).kind in "iu" and scale != 0.0
    return Port(
        detail["name"],
        np.dtype(detail["dtype"]).name,
        [int(n) for n in detail["shape"]],
        float(scale) if quantised else None,
        int(zero_point) if quantised else 0,
    )
