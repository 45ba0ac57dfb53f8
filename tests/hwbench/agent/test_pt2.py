"""Exported torch programs are read as data, and nothing but data is read."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwbench.agent import pt2
from hwbench.agent.protocol import AgentError

torch = pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture(scope="module")
def archive() -> bytes:
    """An exit with 8 channels in."""
    from tests.hwbench.torch_exits import exits, pt2

    return pt2(exits()["next"], 8)


def edited(archive: bytes, end: str, change: Callable[[Any], None]) -> io.BytesIO:
    """The archive with one of its JSON files changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith(end):
                told = json.loads(data)
                change(told)
                data = json.dumps(told).encode()
            new.writestr(name, data)
    return io.BytesIO(out.getvalue())


def test_weights_and_steps_are_those_of_the_module(archive: bytes) -> None:
    """Normalisation is folded into the convolution before it."""
    from models.export.tflite_format import folded
    from tests.hwbench.torch_exits import exits

    program = pt2.read(io.BytesIO(archive))
    assert ["conv2d", "relu_", "mean", "linear", "softmax", "amax"] == [step.name for step in program.steps]
    assert [((1, 8, 8, 8), "float32")] == [(value.shape, value.dtype) for value in program.inputs]
    assert [(1, 8, 8, 8), (1, 10), (1,)] == [value.shape for value in program.outputs]
    expected = {name: tensor.numpy() for name, tensor in folded(exits()["next"]).state_dict().items()}
    assert len(expected) == len(program.weights)
    for name, array in expected.items():
        np.testing.assert_array_equal(array, program.weights["p_" + name.replace(".", "_")])


def test_equal_modules_give_equal_bytes_that_name_no_file(archive: bytes) -> None:
    """No stack traces, no example inputs, nothing pickled."""
    from tests.hwbench.torch_exits import exits, pt2

    assert archive == pt2(exits()["next"], 8)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert b"" == opened.read("archive/data/sample_inputs/model.pt")
        assert b".py" not in b"".join(opened.read(name) for name in opened.namelist() if name.endswith(".json"))


def test_torch_itself_reads_the_same_archive(archive: bytes) -> None:
    """It is the format of `torch.export`, not one of our own."""
    assert torch.export.load(io.BytesIO(archive)).module()(torch.zeros(1, 8, 8, 8))[1].shape == (1, 10)


REFUSED: dict[str, tuple[str, Callable[[Any], None], str]] = {
    "pickled weight": (
        "model_weights_config.json",
        lambda told: next(iter(told["config"].values())).update(use_pickle=True),
        "pickled, which is never read",
    ),
    "python function": (
        "model.json",
        lambda told: told["graph_module"]["graph"]["nodes"][0].update(target="_operator.add"),
        "no operator",
    ),
    "torch function": (
        "model.json",
        lambda told: told["graph_module"]["graph"]["nodes"][0].update(target="torch.hub.load"),
        "no operator",
    ),
    "file": (
        "model.json",
        lambda told: told["graph_module"]["graph"]["nodes"][0].update(target="torch.ops.aten.from_file.default"),
        "no operator",
    ),
    "open shape": (
        "model.json",
        lambda told: told["graph_module"]["graph"].update(sym_int_values={"s0": {}}),
        "fixed shapes",
    ),
    "symbol": (
        "model.json",
        lambda told: told["graph_module"]["graph"]["nodes"][0]["inputs"][0].update(arg={"as_sym_int": {"x": 1}}),
        "as_sym_int",
    ),
    "other schema": ("model.json", lambda told: told["schema_version"].update(major=9), "schema 9"),
    "weight beyond its bytes": (
        "model_weights_config.json",
        lambda told: next(iter(told["config"].values()))["tensor_meta"]["storage_offset"].update(as_int=1),
        "reaches beyond",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_plain_data_is_refused(archive: bytes, case: str) -> None:
    """Each in a line that says what it was."""
    end, change, told = REFUSED[case]
    with pytest.raises(AgentError, match=told) as caught:
        pt2.read(edited(archive, end, change))
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_archive_is_an_error_or_the_same_program(archive: bytes, data: st.DataObject) -> None:
    """Every part has a checksum: cut anywhere it is refused, and a byte changed anywhere never changes a number."""
    at = data.draw(st.integers(0, len(archive) - 1))
    with pytest.raises(AgentError):
        pt2.read(io.BytesIO(archive[:at]))
    mutated = bytearray(archive)
    mutated[at] ^= data.draw(st.integers(1, 255))
    try:
        program = pt2.read(io.BytesIO(bytes(mutated)))
    except AgentError:
        return
    whole = pt2.read(io.BytesIO(archive))
    assert whole.steps == program.steps
    assert all(np.array_equal(array, program.weights[name]) for name, array in whole.weights.items())
