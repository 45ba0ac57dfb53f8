"""Makes a bundle of a user's network file: an ONNX file is cut into blocks, a TFLite file stays whole."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Literal

from onnx import ModelProto

from hwbench import onnx_file, onnx_graph, tflite_graph
from hwbench.errors import ConfigError
from hwbench.onnx_cut import Piece, cut, whole
from hwbench.workload import Bundle, Workload, artifact_of


def wrap(file: Path, out: Path) -> Bundle:
    """Write a bundle of one user's network into the folder `out`; raises ConfigError naming what is wrong with it.

    `.onnx` (external data beside it): the whole network, and its blocks where it can be cut.
    `.tflite`: the whole network.
    """
    kind = file.suffix.lower()
    if kind not in (".onnx", ".tflite"):
        raise ConfigError(f"{file}: a network is an .onnx or a .tflite file; convert it to one of the two")
    if not file.is_file():
        raise ConfigError(f"{file}: no such file")
    if kind == ".onnx":
        return of_model(onnx_file.load(file), out, name=plain_name(file.stem), origin=str(file))
    return _of_tflite(file, out)


def of_model(model: ModelProto, out: Path, *, name: str, origin: str, files: bool = True) -> Bundle:
    """Write a bundle of an ONNX model: its blocks (equal ones once) and the whole network, which names them as parts.

    name: of the network, for keys and files.  origin: what to call it in messages.  files: False = describe only.
    """
    graph = onnx_graph.plain(model, origin)
    pieces = cut(graph)
    network = whole(graph, name)
    parts: tuple[tuple[str, int], ...] = ()
    blocks: dict[str, Piece] = {}
    if len(pieces) > 1:  # else the block would be the network again
        for piece in pieces:
            blocks.setdefault(piece.block_key, piece)
        parts = tuple(Counter(p.block_key for p in pieces).items())
    workloads = [_workload(piece, out, "block", (), files) for piece in blocks.values()]
    workloads.append(_workload(network, out, "network", parts, files))
    bundle = Bundle(root=out, space=name, workloads=tuple(workloads))
    bundle.write()
    return bundle


def plain_name(text: str) -> str:
    """A name that may stand in a key, a file's name and a CSV cell."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.") or "network"


def _workload(
    piece: Piece, out: Path, kind: Literal["block", "network"], parts: tuple[tuple[str, int], ...], files: bool
) -> Workload:
    file = out / f"{kind}s" / f"{piece.block_key}.onnx"
    if files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(piece.model.SerializeToString(deterministic=True))
    return Workload(
        block_key=piece.block_key,
        kind=kind,
        inputs=piece.inputs,
        outputs=piece.outputs,
        ops=piece.ops,
        params=piece.params,
        parts=parts,
        artifacts={"onnx": artifact_of(out, file)} if files else {},
    )


def _of_tflite(file: Path, out: Path) -> Bundle:
    data = file.read_bytes()
    graph = tflite_graph.parse(data, str(file))
    name = plain_name(file.stem)
    target = out / "networks" / f"{name}-{graph.digest}.tflite"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    network = Workload(
        block_key=f"{name}-{graph.digest}",
        kind="network",
        inputs=graph.inputs,
        outputs=graph.outputs,
        ops=graph.ops,
        params=graph.params,
        artifacts={"tflite_int8" if graph.quantized else "tflite": artifact_of(out, target)},
    )
    bundle = Bundle(root=out, space=name, workloads=(network,))
    bundle.write()
    return bundle
