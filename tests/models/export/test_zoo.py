"""timm models as bundles, and TFLite of single blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from ai_edge_litert import schema_py_generated

from hwbench.errors import ConfigError
from hwbench.tflite_graph import parse
from hwbench.workload import Bundle
from models.export import exporter
from models.export.graph import Runnable
from models.export.spaces import block_runnable
from models.export.tflite_format import channels_last, outputs
from models.export.writing import seeded_samples, write
from models.export.zoo import create, input_shape
from models.quantization import agreement, correlation, static_int8
from models.space import load_space
from models.supernet import build


def test_a_timm_model_is_cut_into_blocks(tmp_path: Path) -> None:
    """The smallest MobileNetV3 that timm has: parts add up, equal blocks are one workload, parameters are torch's."""
    bundle = exporter("timm:tf_mobilenetv3_small_minimal_100", formats=("onnx",), out=tmp_path / "bundle")
    network = bundle.workloads[-1]
    assert Bundle.read(tmp_path / "bundle") == bundle
    assert bundle.space == "timm-tf_mobilenetv3_small_minimal_100"
    assert sum(n for _, n in network.parts) > len(bundle.blocks) > 10
    assert network.macs == sum(bundle.workload(key).macs * n for key, n in network.parts)
    module = create("tf_mobilenetv3_small_minimal_100")
    assert network.params == sum(p.numel() for p in module.parameters())
    session = onnxruntime.InferenceSession(bundle.path(network, "onnx"))
    x = torch.randn(1, *input_shape("it", module))
    with torch.no_grad():
        np.testing.assert_allclose(session.run(None, {"image": x.numpy()})[0], module(x), rtol=1e-3, atol=1e-4)


def test_describing_a_timm_model_leaves_no_file(tmp_path: Path) -> None:
    """The same keys, nothing to run."""
    name = "timm:tf_mobilenetv3_small_minimal_100"
    described = exporter(name, formats=(), out=tmp_path / "a")
    assert [w.artifacts for w in described.workloads] == [{}] * len(described.workloads)
    assert list((tmp_path / "a").rglob("*.onnx")) == []


def test_an_unknown_timm_model_is_named_with_its_nearest(tmp_path: Path) -> None:
    """A thousand names do not fit a line."""
    with pytest.raises(ConfigError, match="did you mean 'resnet18'") as caught:
        exporter("timm:resnet19", formats=(), out=tmp_path)
    assert len(str(caught.value)) < 200


def test_a_block_in_tflite_has_no_transposes_and_int8_follows_float(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Channels last at both edges, as inside a network; the converter's progress stays out of a user's output."""
    space = load_space("digits")
    block = next(b for b in space.blocks if b.kind == "mbconv" and b.squeeze)
    runnable = block_runnable(block, build(space, block))
    workload = write(runnable, ("tflite", "tflite_int8"), tmp_path)
    assert capfd.readouterr() == ("", "")
    floats, int8 = ((tmp_path / workload.artifacts[f].path).read_bytes() for f in ("tflite", "tflite_int8"))
    graph = parse(floats, "float")
    assert "transpose" not in {op.kind for op in graph.ops}
    assert sum(op.macs for op in graph.ops) == block.macs
    assert parse(int8, "int8").quantized
    x = seeded_samples("another", block.in_shape)[:1].permute(0, 2, 3, 1).contiguous().numpy()
    assert correlation(outputs(floats, x)[0], outputs(int8, x)[0]) > 0.99


class Wide(torch.nn.Module):
    """A segment with many weights: features, logits and a score."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(64, 512, 3, padding=1)
        self.head = torch.nn.Linear(512, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = torch.relu(self.conv(x))
        logits = self.head(features.mean((2, 3)))
        return features, logits, logits.softmax(-1).amax(-1)


def test_a_segment_of_many_weights_keeps_them_in_int8(tmp_path: Path) -> None:
    """The quantiser lays them behind the FlatBuffer; they come inside, where older runtimes look."""
    shapes = (("features", (1, 512, 4, 4)), ("logits", (1, 10)), ("score", (1,)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Wide().eval()
    wide = Runnable(
        key="wide", kind="segment", module=module, in_shape=(64, 4, 4), outputs=shapes, ops=(), params=300_000
    )
    workload = write(wide, ("tflite_int8",), tmp_path)
    data = (tmp_path / workload.artifacts["tflite_int8"].path).read_bytes()
    floats = write(wide, ("tflite",), tmp_path).artifacts["tflite"]
    samples = [channels_last(s).numpy() for s in seeded_samples("wide", (64, 4, 4)).split(1)]
    plain = static_int8((tmp_path / floats.path).read_bytes(), samples)
    for file in (data, plain):
        model = schema_py_generated.ModelT.InitFromPackedBuf(file, 0)
        assert {0} == {buffer.offset for buffer in model.buffers}
        assert len(file) > 64 * 512 * 9
    x = seeded_samples("another", (64, 4, 4))[:1]
    found = outputs(data, channels_last(x).numpy())
    with torch.no_grad():
        expected = module(x)
    assert correlation(channels_last(expected[0]).numpy(), found[0]) > 0.99
    assert abs(expected[2].item() - found[2].item()) < 0.02


def test_a_timm_model_in_int8_is_cut_too_and_follows_float(tmp_path: Path) -> None:
    """Blocks beside the whole, each as the processor's int8 of the same float graph."""
    bundle = exporter("timm:tf_mobilenetv3_small_minimal_100", formats=("onnx_int8",), out=tmp_path / "bundle")
    assert all("onnx_int8" in w.artifacts for w in bundle.workloads)
    for workload in (*bundle.blocks[:6], bundle.workloads[-1]):
        x = np.random.default_rng(3).standard_normal(workload.inputs[0].shape).astype(np.float32)
        floats, rounded = (
            onnxruntime.InferenceSession(bundle.path(workload, format)).run(None, {workload.inputs[0].name: x})[0]
            for format in ("onnx", "onnx_int8")
        )
        assert correlation(floats, rounded) > 0.95
        assert not np.array_equal(floats, rounded)


def test_correlation_and_agreement_by_hand() -> None:
    """A line, its mirror, a constant; two of three rows with the same largest entry."""
    line = np.array([1.0, 2.0, 3.0])
    assert (correlation(line, 2 * line + 1), correlation(line, -line)) == (pytest.approx(1), pytest.approx(-1))
    assert (correlation(line * 0, line * 0), correlation(line * 0, line)) == (1.0, 0.0)
    ours = np.array([[1, 0], [0, 1], [0, 1]])
    assert agreement(ours, np.array([[2, 1], [0, 5], [3, 1]])) == pytest.approx(2 / 3)
