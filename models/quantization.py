"""Static int8 for TFLite: weights per channel, activations per tensor, ranges from calibration data.

Inputs and outputs are int8 too, as accelerators want them; whoever feeds the graph converts by scale and zero point.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hwbench.errors import ConfigError

# What the converter calls the operations of `models.gate.Gate`: by the module that they come from.
_GATE = r".*models\.gate\.Gate_.*"


def static_int8(float_model: bytes, samples: Sequence[np.ndarray], real_outputs: Sequence[int] = ()) -> bytes:
    """Quantise a float TFLite file; samples: inputs (1, …) float32 as the graph takes them, which the ranges come from.

    real_outputs: which outputs (by their place in the signature) stay real numbers, with the softmax, or the gate,
    before them: a score in 256 steps between the extremes of the samples could not be held against a threshold.
    Raises ConfigError when ai-edge-quantizer is missing or refuses the graph.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
        from ai_edge_quantizer import calibrator, quantizer, recipe, recipe_manager
        from ai_edge_quantizer.utils import qsv_utils
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"static int8 needs the Python package {error.name!r}; install the extra `litert` (see the README)"
        ) from error
    signatures = Interpreter(model_content=float_model).get_signature_list()
    (signature, names), *_ = signatures.items()
    (name,) = names["inputs"]
    how = recipe_manager.RecipeManager()
    how.load_quantization_recipe(recipe.static_wi8_ai8())
    if real_outputs:
        name_of = recipe.TFLOperationName
        last = [(rf".*output_{i}_output.*", name_of.RESHAPE) for i in real_outputs]  # of a gate's score, (1, 1) to (1,)
        for regex, operation in ((".*", name_of.SOFTMAX), (_GATE, name_of.ALL_SUPPORTED), *last):
            how.add_quantization_config(
                regex=regex, operation_name=operation, algorithm_key=recipe.AlgorithmName.NO_QUANTIZE
            )
    quantize = quantizer.Quantizer(bytearray(float_model), how.get_quantization_recipe())
    # The quantiser's own habit is a moving average of each sample's extremes, which cuts off what is above average;
    # fed sample by sample, a classifier's logits lose their upper third.
    observer = calibrator.Calibrator(bytearray(float_model), num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    try:
        observer.calibrate({signature: [{name: s} for s in samples]}, how)
        done = quantize.quantize(observer.get_model_qsvs(), enable_progress_bar=False, enable_progress_report=False)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"ai-edge-quantizer refuses the graph: {' '.join(str(error).split())}") from error
    return _finished(bytes(done.quantized_model), real_outputs)


def _finished(data: bytes, real_outputs: Sequence[int]) -> bytes:
    """The quantiser's file with weights inside and with these outputs real; as it is where that changes nothing."""
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    outside = [buffer for buffer in model.buffers if buffer.offset > 1]
    if not outside and not real_outputs:
        return data
    for buffer in outside:
        # Of larger graphs the quantiser writes the weights behind the FlatBuffer: packing it anew would lose them, and
        # runtimes of a few years ago, like the one of a Coral board and its compiler, do not look there.
        buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
    if real_outputs:
        _drop_last_rounding(model, real_outputs)
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _drop_last_rounding(model: Any, real_outputs: Sequence[int]) -> None:
    """Let these outputs be what the quantiser rounds at the very end, and the signature name what the graph gives."""
    from ai_edge_litert import schema_py_generated as schema

    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    quantize, dequantize = schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.DEQUANTIZE
    real_names = {f"output_{i}" for i in real_outputs}
    for output in signature.outputs:
        for operator in list(graph.operators):
            code, (source, *_), (result, *_) = codes[operator.opcodeIndex], operator.inputs, operator.outputs
            if code == quantize and result == output.tensorIndex and output.name.decode() in real_names:
                graph.outputs = [source if t == result else t for t in graph.outputs]
                graph.operators.remove(operator)
                output.tensorIndex = source
            elif code == dequantize and source == output.tensorIndex and result in graph.outputs:
                output.tensorIndex = result  # the softmax reads real logits, which leave instead; the signature lags


def digest(samples: Sequence[np.ndarray]) -> str:
    """A name for calibration data: equal data, equal int8 file."""
    found = hashlib.blake2b(digest_size=16)
    for sample in samples:
        found.update(f"{sample.dtype}{sample.shape}".encode())
        found.update(np.ascontiguousarray(sample).tobytes())
    return found.hexdigest()


def correlation(expected: np.ndarray, found: np.ndarray) -> float:
    """Pearson's r over all elements; 1 where both never change."""
    a, b = expected.ravel().astype(np.float64), found.ravel().astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else float(np.allclose(a, b))


def agreement(expected: np.ndarray, found: np.ndarray) -> float:
    """The share of samples (N, classes) whose largest logit is the same one."""
    return float((expected.argmax(-1) == found.argmax(-1)).mean())
