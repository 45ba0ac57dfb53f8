"""The lines between host and agent, known to both: one JSON object a line, at most 1 MiB.

Asked `{id, op, ...}`; answered `{id, ok, ...}` or `{id, error: {kind, message}}`; a long `answer` says `{id, progress}`
meanwhile.
Arrays of more than `INLINE_VALUES` numbers travel as one `.npz` file (without pickle) in the session's folder.
"""

import json
import os
from typing import Any, Dict, Mapping

import numpy as np

VERSION = 1
MAX_LINE_BYTES = 1 << 20
INLINE_VALUES = 512
# How often a long operation gives a sign of life: rare enough that the host stays asleep.
PROGRESS_S = 2.0


class AgentError(Exception):
    """An error the host shall read.

    kind: `request` (what was asked makes no sense), `file` (absent or changed on the way), `absent` (no such runtime on
    this board), `runtime` (the runtime refuses the graph or fails), `probe` (something to read cannot be read).
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def encode(message: Mapping[str, Any]) -> bytes:
    """One line with its newline; AgentError when it would be too long."""
    line = json.dumps(message, separators=(",", ":")).encode("utf-8") + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise AgentError("request", "a message of {} bytes does not fit a line of 1 MiB".format(len(line)))
    return line


def decode(line: bytes) -> Dict[str, Any]:
    """The object of one line; ValueError when it is not one."""
    message = json.loads(line.decode("utf-8"))
    if not isinstance(message, dict):
        raise ValueError("not a JSON object")
    return message


def pack(arrays: Mapping[str, np.ndarray], file: str) -> Dict[str, Any]:
    """Arrays as a message carries them: few numbers inline, many in `file` (`.npz`, replaced in one step)."""
    if sum(array.size for array in arrays.values()) <= INLINE_VALUES:
        return {
            name: {"dtype": str(a.dtype), "shape": list(a.shape), "values": a.ravel().tolist()}
            for name, a in arrays.items()
        }
    with open(file + ".part", "wb") as stream:
        contiguous: Dict[str, Any] = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        np.savez(stream, **contiguous)
    os.replace(file + ".part", file)
    return {"npz": file}


def unpack_inline(packed: Mapping[str, Any]) -> Dict[str, np.ndarray]:
    """What `pack` put inline."""
    return {
        name: np.array(entry["values"], dtype=entry["dtype"]).reshape(entry["shape"]) for name, entry in packed.items()
    }
