"""What a runtime is to the agent: the contract of `runtimes/`.

A `Model` is a graph in the runtime; a `Call` is one place of a chain, a graph bound to its buffers. Timing windows and
answering inputs run the same `Call.run`, so a window sees the call cost that a deployed network pays.
A module of `runtimes/` has `version() -> str` and `load(path, setting, options) -> Model`. It may have

- `compile(path, setting, options) -> (path, notes)`: makes the file that `load` reads, once, where a runtime takes long
  to build it; neither `load_ms` nor memory count it;
- `time_chain(calls, warmup, min_runs, min_time_s, max_time_s) -> Timed`: a tool that times itself;
- `CAN`: what it can do of `window` and `answer`; both where it does not say.
"""

import abc
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from hwbench.agent.protocol import AgentError


class Port:
    """One input or output; scale and zero_point where it is quantised: real = scale * (stored - zero_point)."""

    def __init__(
        self, name: str, dtype: str, shape: Sequence[int], scale: Optional[float] = None, zero_point: int = 0
    ) -> None:
        self.name = name
        self.dtype = dtype
        self.shape = tuple(int(n) for n in shape)
        self.scale = scale
        self.zero_point = zero_point

    def described(self) -> Dict[str, Any]:
        """As a message carries it."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    def stored(self, real: np.ndarray) -> np.ndarray:
        """Real numbers as this port keeps them: rounded, clipped to its type; unchanged where not quantised."""
        if self.scale is None:
            return real
        limits = np.iinfo(self.dtype)
        steps = np.rint(np.asarray(real, dtype=np.float32) / np.float32(self.scale)) + self.zero_point
        stored: np.ndarray = np.clip(steps, limits.min, limits.max).astype(self.dtype)
        return stored

    def real(self, stored: np.ndarray) -> np.ndarray:
        """Kept numbers as float32; unchanged where they are not quantised."""
        if self.scale is None:
            return stored
        return (stored.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


class Call(abc.ABC):
    """A graph bound to its buffers, at one place of a chain.

    run: feeds the first input from the call before (where there is one) and runs; no arguments, constant cost.
    input: what `write` fills.  outputs: what `read` gives by index.
    """

    run: Callable[[], Any]
    input: Port
    outputs: Tuple[Port, ...]

    @abc.abstractmethod
    def write(self, stored: np.ndarray) -> None:
        """Put a sample into the first input, as `input.stored` made it."""

    @abc.abstractmethod
    def read(self, index: int) -> np.ndarray:
        """An output's real numbers; good until the next run."""

    @abc.abstractmethod
    def read_score(self, index: int) -> float:
        """The real number of an output that holds only one."""


class Model(abc.ABC):
    """A graph in the runtime.

    notes: what loading it told.  flags: what makes the numbers of all its windows others, like `gpu_fallback`.
    """

    inputs: Tuple[Port, ...]
    outputs: Tuple[Port, ...]
    notes: Mapping[str, Any] = {}
    flags: Tuple[str, ...] = ()

    def memory(self) -> Optional[Tuple[Optional[int], Optional[int]]]:
        """(held, most) bytes on a device with memory of its own; None where it is the process's, which others see."""
        return None

    @abc.abstractmethod
    def bind(self, source: Optional[Call], nth: int) -> Call:
        """A call fed by `source`'s first output, or by seeded numbers.

        nth: how often this graph already stands in the chain.  Raises AgentError when that output does not fit.
        """


def empty_aligned(shape: Sequence[int], dtype: str) -> np.ndarray:
    """An array that starts on a cache line, as a runtime's own buffers do; numpy promises only 16 bytes."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    raw = np.empty(size + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(kind).reshape(shape)


def seeded(port: Port, index: int) -> np.ndarray:
    """Repeatable numbers for an input: normal for floats, the whole range for 8 bits, 0 or 1 for other integers."""
    random = np.random.RandomState(20250 + index)
    kind = np.dtype(port.dtype)
    if kind.kind == "f":
        return random.standard_normal(port.shape).astype(kind)
    if kind.itemsize == 1 and kind.kind in "iu":
        limits = np.iinfo(kind)
        return random.randint(limits.min, limits.max + 1, size=port.shape).astype(kind)
    return random.randint(0, 2, size=port.shape).astype(kind)


def check_fit(source: Port, target: Port) -> None:
    """AgentError unless an output has the shape of the input it shall feed."""
    if source.shape != target.shape:
        raise AgentError(
            "request",
            "output {!r} {} does not fit input {!r} {}".format(source.name, source.shape, target.name, target.shape),
        )


def check_batch(outputs: Sequence[Port], batch: int) -> None:
    """AgentError for an output that does not hold one entry an input: the graph fixes its batch somewhere inside."""
    for port in outputs:
        if batch != 1 and (not port.shape or port.shape[0] != batch):
            raise AgentError(
                "runtime",
                "fed {} inputs at once, output {!r} is {}: the graph is made for one".format(
                    batch, port.name, port.shape
                ),
            )
