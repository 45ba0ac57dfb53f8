"""Where TensorRT engines lie on the board: built once for each graph, setting and version, never sent anywhere."""

import hashlib
import os
from typing import Any, Callable, Dict, Mapping, Tuple

from hwbench.agent import machine

# What of options and setting decides how an engine comes out; the rest only decides how it is run.
_OPTIONS = ("workspace_mb", "tf32", "dla_core", "gpu_fallback")
_SETTING = ("unit", "precision", "batch")


REMOVED = "the kept engine is damaged or was made for another device; it is removed and built anew the next time"


def kept(
    path: str,
    setting: Mapping[str, Any],
    options: Mapping[str, Any],
    version: str,
    build: Callable[[str, str], None],
) -> Tuple[str, Dict[str, Any]]:
    """The engine of an ONNX file, and notes on it; `build(plan, timing_cache)` writes it where it is not there yet.

    options: `folder` is where engines lie, beside the timing cache that all builds of a version share.
    The name is a digest of the graph's content, all that decides a build, and the board's model.
    """
    with open(path, "rb") as stream:
        digest = hashlib.sha256(stream.read())
    deciding = [str(options.get(name)) for name in _OPTIONS] + [str(setting[name]) for name in _SETTING]
    digest.update("\0".join(deciding + [version, str(machine.identity()["model"])]).encode("utf-8"))
    folder = str(options["folder"])
    os.makedirs(folder, exist_ok=True)
    plan = os.path.join(folder, digest.hexdigest()[:32] + ".plan")
    notes: Dict[str, Any] = {"engine": "kept"}
    if not os.path.isfile(plan):
        part = "{}.{}.part".format(plan, os.getpid())
        begin = machine.now_ns()
        try:
            build(part, os.path.join(folder, "timing-{}.cache".format(version)))
            os.rename(part, plan)
        finally:
            if os.path.exists(part):
                os.unlink(part)
        notes = {"engine": "built", "build_s": (machine.now_ns() - begin) / 1e9}
    notes["engine_bytes"] = os.path.getsize(plan)
    return plan, notes
