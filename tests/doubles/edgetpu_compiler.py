"""Stands in for `edgetpu_compiler`, which nobody may pass on: reads real TFLite files, prints logs as that one does.

What it "compiles" is the input with a mark behind it, which runs like the input. Operations are mapped by the list of
coral.ai/docs/edgetpu/models-intro; parameters go on the chip in the order of the files until its memory is full.
`install` writes an executable of that name. EDGETPU_STANDIN_VERSION and EDGETPU_STANDIN_CHIP_BYTES change what it is.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hwbench import tflite_graph
from hwbench.edgetpu_compiler import MAPPED, CompiledModel, CompilerLog, Operator
from hwbench.errors import ConfigError

_VERSION = "16.0.384591198"
_CHIP_BYTES = 8 << 20
_MARK = b"edgetpu stand-in"
_SUPPORTED_TEXT = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION
    LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6
    RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE
    STRIDED_SLICE SUB SUM SQUARED_DIFFERENCE TANH TRANSPOSE TRANSPOSE_CONV
"""
_SUPPORTED = frozenset(_SUPPORTED_TEXT.split())
_PARTLY = (
    "Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will "
    "instead run on the CPU, which is slower. If possible, consider updating your model to use only operations "
    "supported by the Edge TPU. For details, visit g.co/coral/model-reqs."
)


def install(folder: Path) -> Path:
    """Write an executable `edgetpu_compiler` that is this program under this Python."""
    program = folder / "edgetpu_compiler"
    root = Path(__file__).resolve().parents[2]
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\n"
        "from tests.doubles.edgetpu_compiler import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    program.chmod(0o755)
    return program


def main(arguments: list[str]) -> int:
    """As the real program is called: -o DIR, -s, -m VERSION, --version, FILES."""
    version = os.environ.get("EDGETPU_STANDIN_VERSION", _VERSION)
    if arguments == ["--version"]:
        print(f"Edge TPU Compiler version {version}")
        return 0
    out, files = Path(), []
    rest = iter(arguments)
    for argument in rest:
        if argument == "-o":
            out = Path(next(rest))
        elif argument == "-m":
            next(rest)
        elif argument != "-s":
            files.append(Path(argument))
    free = int(os.environ.get("EDGETPU_STANDIN_CHIP_BYTES", _CHIP_BYTES))
    models = []
    for file in files:
        try:
            model = _compiled(file, out, free)
        except ConfigError as error:
            return _refused(version, file, str(error))
        if model is None:
            return _refused(version, file, "Model not quantized")
        free -= model.on_chip_bytes
        models.append(model)
    together = " ".join(file.name for file in files).encode()
    for file, model in zip(files, models, strict=True):
        Path(model.output_name).write_bytes(file.read_bytes() + _MARK + together)
    models = [replace(m, on_chip_free_bytes=free, output_bytes=Path(m.output_name).stat().st_size) for m in models]
    print(render(CompilerLog(version=version, compile_ms=7, models=tuple(models))), end="")
    return 0


def render(log: CompilerLog) -> str:
    """The log in the format of its version, `-s` given; every total is counted here."""
    lines = [f"Edge TPU Compiler version {log.version}"]
    framed = int(log.version.partition(".")[0]) >= 16
    if framed:
        lines.append("Started a compilation timeout timer of 180 seconds.")
    lines += ["", f"Model{'s'[: len(log.models) != 1]} compiled successfully in {log.compile_ms} ms."]
    for model in log.models:
        lines += ["", *_model(model)]
    if framed:
        lines += ["Compilation child process completed within timeout period.", "Compilation succeeded!"]
    return "\n".join(lines) + "\n"


def amount(size_bytes: int) -> str:
    """`604.50KiB`."""
    for unit, one in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= one:
            return f"{size_bytes / one:.2f}{unit}"
    return f"{size_bytes:.2f}B"


def _model(model: CompiledModel) -> list[str]:
    stem = Path(model.input_name).name.removesuffix(".tflite")
    output = str(Path(model.output_name).parent / f"{stem}_edgetpu.tflite")
    mapped = sum(row.count for row in model.operators if row.status == MAPPED)
    total = sum(row.count for row in model.operators)
    left = [
        "",
        _PARTLY,
        f"Number of operations that will run on Edge TPU: {mapped}",
        f"Number of operations that will run on CPU: {total - mapped}",
    ]
    return [
        f"Input model: {model.input_name}",
        f"Input size: {amount(model.input_bytes)}",
        f"Output model: {output}",
        f"Output size: {amount(model.output_bytes)}",
        f"On-chip memory used for caching model parameters: {amount(model.on_chip_bytes)}",
        f"On-chip memory remaining for caching model parameters: {amount(model.on_chip_free_bytes)}",
        f"Off-chip memory used for streaming uncached model parameters: {amount(model.off_chip_bytes)}",
        f"Number of Edge TPU subgraphs: {model.subgraphs}",
        f"Total number of operations: {total}",
        f"Operation log: {output.removesuffix('.tflite')}.log",
        *(left if mapped != total else []),
        "",
        f"{'Operator':<30} {'Count':<10} Status",
        "",
        *(f"{row.name:<30} {row.count:<10} {row.status}" for row in model.operators),
    ]


def _compiled(file: Path, out: Path, free: int) -> CompiledModel | None:
    data = file.read_bytes()
    graph = tflite_graph.parse(data, file.name)
    if not graph.quantized:
        return None
    fates = Counter((op.name, _fate(op)) for op in tflite_graph.operations(data, file.name))
    on_chip = min(graph.params, free)
    return CompiledModel(
        input_name=str(file),
        input_bytes=len(data),
        output_name=str(out / f"{file.name.removesuffix('.tflite')}_edgetpu.tflite"),
        output_bytes=0,
        on_chip_bytes=on_chip,
        on_chip_free_bytes=0,
        off_chip_bytes=graph.params - on_chip,
        subgraphs=int(any(fate == MAPPED for _, fate in fates)),
        operators=tuple(Operator(name=name, count=n, status=fate) for (name, fate), n in fates.items()),
    )


def _fate(op: tflite_graph.Operation) -> str:
    if op.real:
        return "Operation is working on an unsupported data type"
    return MAPPED if op.name in _SUPPORTED else "Operation not supported"


def _refused(version: str, file: Path, why: str) -> int:
    print(f"Edge TPU Compiler version {version}\nInvalid model: {file}\n{' '.join(why.split())}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
