"""The CUDA runtime through ctypes: memory, one stream and its graphs, with nothing to install beside CUDA itself."""

import ctypes
import ctypes.util
from typing import Any, Optional

import numpy as np

from hwbench.agent.protocol import AgentError

# JetPack links the first; a container may have only a version's own name.
_NAMES = (
    "libcudart.so",
    "/usr/local/cuda/lib64/libcudart.so",
    "libcudart.so.13",
    "libcudart.so.12",
    "libcudart.so.11.0",
    "libcudart.so.10.2",
)
_SPIN = 1
_TO_DEVICE, _TO_HOST = 1, 2
_THREAD_LOCAL = 1


class Cuda:
    """The first device; the processor waits for it busily, as a deployed program that wants its answer soon does."""

    def __init__(self) -> None:
        self._library = _library()
        self._call("cudaSetDeviceFlags", ctypes.c_uint(_SPIN))
        self._call("cudaSetDevice", ctypes.c_int(0))
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(stream))
        self.stream = int(stream.value or 0)

    def synchronize(self) -> None:
        """Wait until the stream has done all that it was given."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(self.stream))

    def free_bytes(self) -> int:
        """Device memory that nobody holds."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return int(free.value)

    def record(self, enqueue: Any) -> "Optional[Graph]":
        """What `enqueue()` gives the stream, as a graph; None where it cannot be recorded."""
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        stream = ctypes.c_void_p(self.stream)
        self._call("cudaStreamBeginCapture", stream, ctypes.c_int(_THREAD_LOCAL))
        try:
            enqueued = bool(enqueue())
        finally:
            ended = self._try("cudaStreamEndCapture", stream, ctypes.byref(graph))
        if not enqueued or ended != 0 or not graph.value:
            self._library.cudaGetLastError()
            return None
        # Until CUDA 11 the last two stand for a place and a length of messages, since then for flags: zero is both.
        zero = ctypes.c_void_p(None)
        made = self._try("cudaGraphInstantiate", ctypes.byref(executable), graph, zero, zero, ctypes.c_size_t(0))
        self._call("cudaGraphDestroy", graph)
        return Graph(self, int(executable.value or 0)) if made == 0 else None

    def _try(self, name: str, *arguments: Any) -> int:
        return int(getattr(self._library, name)(*arguments))

    def _call(self, name: str, *arguments: Any) -> None:
        status = self._try(name, *arguments)
        if status != 0:
            message = self._library.cudaGetErrorString
            message.restype = ctypes.c_char_p
            told = message(ctypes.c_int(status)) or b""
            raise AgentError("runtime", "{}: {} ({})".format(name, told.decode("utf-8", "replace"), status))


class Graph:
    """Recorded work of a stream."""

    def __init__(self, cuda: Cuda, executable: int) -> None:
        self._cuda = cuda
        self._executable = ctypes.c_void_p(executable)
        self._stream = ctypes.c_void_p(cuda.stream)

    def launch(self) -> None:
        """Give it to the stream again."""
        self._cuda._call("cudaGraphLaunch", self._executable, self._stream)

    def __del__(self) -> None:
        self._cuda._try("cudaGraphExecDestroy", self._executable)


class Memory:
    """Bytes on the device, with a place on the host that is copied from and to."""

    def __init__(self, cuda: Cuda, host: np.ndarray) -> None:
        self._cuda = cuda
        self.host = host
        self._size = ctypes.c_size_t(host.nbytes)
        self._host = ctypes.c_void_p(host.ctypes.data)
        pointer = ctypes.c_void_p()
        # Also an empty tensor needs an address of its own.
        cuda._call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(max(1, host.nbytes)))
        self._pointer = pointer
        self.address = int(pointer.value or 0)

    def send(self) -> None:
        """Host to device; done when this returns."""
        self._cuda._call("cudaMemcpy", self._pointer, self._host, self._size, ctypes.c_int(_TO_DEVICE))

    def fetch(self) -> np.ndarray:
        """Device to host; done when this returns."""
        self._cuda._call("cudaMemcpy", self._host, self._pointer, self._size, ctypes.c_int(_TO_HOST))
        return self.host

    def __del__(self) -> None:
        if getattr(self, "address", 0):
            self._cuda._try("cudaFree", self._pointer)


def _library() -> Any:
    found = ctypes.util.find_library("cudart")
    for name in ([found] if found else []) + list(_NAMES):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise AgentError("absent", "this board has no CUDA runtime (libcudart.so)")
