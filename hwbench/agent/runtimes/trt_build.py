"""Builds TensorRT engines from ONNX through the Python bindings, and makes one line of what goes wrong in them."""

import os
from typing import Any, Callable, List, Mapping, Sequence, Tuple

import tensorrt

from hwbench.agent.protocol import AgentError


class Logger(tensorrt.ILogger):  # type: ignore[misc]  # the bindings carry no types
    """Keeps the errors that the library only prints: they say why a build failed."""

    def __init__(self) -> None:
        tensorrt.ILogger.__init__(self)
        self.errors: List[str] = []

    def log(self, severity: Any, message: str) -> None:
        """Called by the library."""
        if severity in (tensorrt.ILogger.ERROR, tensorrt.ILogger.INTERNAL_ERROR):
            self.errors.append(" ".join(message.split()))


LOGGER = Logger()


def version() -> str:
    """Version of TensorRT."""
    return str(tensorrt.__version__)


def build(path: str, setting: Mapping[str, Any], options: Mapping[str, Any], cache_file: str) -> bytes:
    """The engine of an ONNX file for that setting; the timing cache is read, and written with what was learnt.

    options: workspace_mb, tf32, dla_core, gpu_fallback.  Raises AgentError with the parser's or the builder's line.
    """
    major = int(version().split(".")[0])
    builder = tensorrt.Builder(LOGGER)
    flags = 0 if major >= 10 else 1 << int(tensorrt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    network = builder.create_network(flags)
    parser = tensorrt.OnnxParser(network, LOGGER)
    with open(path, "rb") as stream:
        parsed = parser.parse(stream.read())
    if not parsed:
        errors = [str(parser.get_error(i)) for i in range(parser.num_errors)]
        raise AgentError("runtime", " ".join((errors or ["the parser refuses it"])[0].split()))
    config = builder.create_builder_config()
    _configure(config, setting, options, major)
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        taken = network.get_input(i)
        shape = closed(taken.name, taken.shape, int(setting["batch"]))
        profile.set_shape(taken.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    kept = b""
    if os.path.isfile(cache_file):
        with open(cache_file, "rb") as stream:
            kept = stream.read()
    # A cache that is damaged or of another device is not read, and all is timed anew.
    cache = config.create_timing_cache(kept) or config.create_timing_cache(b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise AgentError("runtime", (LOGGER.errors or ["the builder gave no engine"])[0])
    with open(cache_file + ".part", "wb") as stream:
        stream.write(bytes(config.get_timing_cache().serialize()))
    os.replace(cache_file + ".part", cache_file)
    return bytes(plan)


def _configure(config: Any, setting: Mapping[str, Any], options: Mapping[str, Any], major: int) -> None:
    workspace_bytes = int(options["workspace_mb"]) << 20
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, workspace_bytes)
    else:
        config.max_workspace_size = workspace_bytes
    # From 11 on the graph itself says which numbers it computes with.
    if major < 11 and setting["precision"] != "fp32":
        config.set_flag(getattr(tensorrt.BuilderFlag, str(setting["precision"]).upper()))
    if not options.get("tf32", False) and hasattr(tensorrt.BuilderFlag, "TF32"):
        config.clear_flag(tensorrt.BuilderFlag.TF32)
    if setting["unit"] == "dla":
        config.default_device_type = tensorrt.DeviceType.DLA
        config.DLA_core = int(options["dla_core"])
        if options.get("gpu_fallback", False):
            config.set_flag(tensorrt.BuilderFlag.GPU_FALLBACK)


def closed(name: str, shape: Sequence[int], batch: int) -> Tuple[int, ...]:
    """The shape with an open first dimension made the batch; AgentError for another open one, or another batch."""
    sizes = [int(n) for n in shape]
    if sizes and sizes[0] == -1:
        sizes[0] = batch
    if -1 in sizes:
        raise AgentError("runtime", "input {!r} leaves a dimension open; export it with fixed shapes".format(name))
    if sizes and sizes[0] != batch:
        raise AgentError("runtime", "input {!r} is made for batch {}, not {}".format(name, sizes[0], batch))
    return tuple(sizes)


def told(work: Callable[[], Any], what: str) -> Any:
    """Run `work`; whatever the bindings raise becomes one line, with the first error that the library printed."""
    try:
        return work()
    except AgentError as error:
        whys = [str(error)] + [line for line in LOGGER.errors[:1] if line not in str(error)]
        raise AgentError(error.kind, "TensorRT {} {}: {}".format(version(), what, ": ".join(whys))) from error
    except Exception as error:  # pybind11 raises RuntimeError, TypeError and AttributeError
        why = (LOGGER.errors or [" ".join(str(error).split()) or type(error).__name__])[0]
        raise AgentError("runtime", "TensorRT {} {}: {}".format(version(), what, why)) from error
