"""A Coral Edge TPU: LiteRT (or `tflite_runtime`) with the delegate that runs compiled parts of a graph on the chip.

What the compiler left on the processor is run there by the same interpreter. The delegate comes with the board's system
(`libedgetpu1-std`); no Python package is needed beyond the interpreter.
"""

from typing import Any, Dict, Mapping

from hwbench.agent.protocol import AgentError
from hwbench.agent.runtime import Model
from hwbench.agent.runtimes.litert import opened, tflite, version

__all__ = ["load", "version"]


def load(path: str, setting: Mapping[str, Any], options: Mapping[str, Any]) -> Model:
    """Read a file that `edgetpu_compiler` made.

    options: library (the delegate's file), device (`usb:0`, `pci:0`, …; empty = any), performance (`Max`, …; empty =
    the delegate's own choice).  Raises AgentError when the device does not open or the runtime refuses the file.
    """
    threads = int(setting["threads"])
    library = str(options["library"])
    told = {"device": str(options.get("device", "")), "Performance": str(options.get("performance", ""))}
    told = {name: value for name, value in told.items() if value}

    def interpreter() -> Any:
        # A delegate each: they share the device, which belongs to this process.
        delegate = _delegate(library, told)
        made = tflite.Interpreter(model_path=path, num_threads=threads, experimental_delegates=[delegate])
        made.allocate_tensors()
        return made

    return opened(interpreter, int(setting["batch"]))


def _delegate(library: str, told: Dict[str, str]) -> Any:
    try:
        return tflite.load_delegate(library, told)
    except (OSError, ValueError) as error:
        where = told.get("device", "any device")
        why = " ".join(str(error).split())
        raise AgentError(
            "absent",
            "{} does not open {}: {} (is the Edge TPU there, free, and open to this user?)".format(library, where, why),
        ) from error
