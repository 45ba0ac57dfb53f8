"""A design is known by all that it says, and its thresholds survive their file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hwbench.setting import Setting
from search.design import ADAPTER, Design, Stage

LAST = Stage(
    space="digits", genes=(1, 0, 2), position=-1, target="host", backend="onnxruntime",
    setting=Setting(unit="cpu", precision="fp32", threads=1, clocks=(("cpu", 600.0),)),
    router="max_softmax", threshold=None,
)  # fmt: skip


def design(threshold: float) -> Design:
    return Design(stages=(replace(LAST, position=3, threshold=threshold), LAST), answers="abc")


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_design_read_back_decides_the_same(threshold: float) -> None:
    """JSON keeps every float32 threshold exactly, and so the key."""
    written = json.dumps(ADAPTER.dump_python(design(threshold), mode="json"))
    again = ADAPTER.validate_json(written)
    assert again == design(threshold)
    assert again.key == design(threshold).key
    assert np.float32(again.stages[0].threshold) == np.float32(threshold)


def test_the_key_tells_neighbouring_thresholds_apart() -> None:
    threshold = np.float32(0.7)
    assert design(float(threshold)).key != design(float(np.nextafter(threshold, np.float32(1)))).key


def test_an_unknown_key_is_refused() -> None:
    said = ADAPTER.dump_python(design(0.5), mode="json")
    said["stages"][0]["treshold"] = 0.5
    with pytest.raises(ValidationError, match="treshold"):
        ADAPTER.validate_python(said)
