"""Logs of edgetpu_compiler: what they say is read, and what is wrong with them is noticed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbench.edgetpu_compiler import (
    MAPPED,
    CompiledModel,
    CompilerLog,
    Operator,
    parse,
    parse_version,
    refusal,
)
from hwbench.errors import PermanentDeviceError
from tests.doubles.edgetpu_compiler import render

_FOLDER = Path(__file__).resolve().parents[1] / "recordings" / "edgetpu_compiler"
_LOGS = sorted(
    file for file in _FOLDER.glob("*.txt") if not file.stem.endswith(("error", "not_quantized", "too_large"))
)
_CHARACTERS = [chr(c) for c in range(32, 127)] + ["\n"]


def _files(text: str) -> list[str]:
    """The files of a whole log."""
    return re.findall(r"^Input model: (.*)$", text, flags=re.MULTILINE)


def _plain(text: str) -> list[str]:
    """Lines without what means nothing: empty ones, how wide a column is, how long the tool would have waited."""
    text = re.sub(r"timer of (0|[1-9][0-9]*) seconds", "timer of some seconds", text)
    return [re.sub(r" +", " ", line) for line in text.split("\n") if line.strip()]


def test_a_network_that_fits_says_so() -> None:
    """All operations mapped, no byte streamed, sizes in bytes."""
    log = parse((_FOLDER / "v15_whole.txt").read_text(), ["mobilenet_like.tflite"])
    (model,) = log.models
    assert ("15.0.340273435", 1203) == (log.version, log.compile_ms)
    assert (round(3.52 * 2**20), round(3.44 * 2**20), 0) == (
        model.on_chip_bytes,
        model.on_chip_free_bytes,
        model.off_chip_bytes,
    )
    assert 1 == model.subgraphs
    assert () == model.unmapped
    assert 65 == sum(row.count for row in model.operators)


def test_operations_left_to_the_processor_are_told_with_reasons() -> None:
    """One kind may be in the table twice: some mapped, some not."""
    log = parse((_FOLDER / "v14_partly.txt").read_text(), ["keypoints.tflite"])
    (model,) = log.models
    told = {(row.name, row.count, row.status) for row in model.unmapped}
    assert ("CONV_2D", 9, "More than one subgraph is not supported") in told
    assert ("LEAKY_RELU", 3, "Operation not supported") in told
    assert {12} == {row.count for row in model.operators if row.name == "CONV_2D" and row.mapped}


def test_files_compiled_together_come_in_their_order() -> None:
    """Each with its share of the chip; what remains is told once for all."""
    log = parse((_FOLDER / "v15_together.txt").read_text(), ["exit0.tflite", "exit1.tflite", "final.tflite"])
    assert [21, 5, 2] == [model.operators[0].count for model in log.models]
    assert 1 == len({model.on_chip_free_bytes for model in log.models})
    with pytest.raises(PermanentDeviceError, match=r"exit0\.tflite, exit1\.tflite, final\.tflite, not"):
        parse((_FOLDER / "v15_together.txt").read_text(), ["exit0.tflite", "exit1.tflite"])


@pytest.mark.parametrize("file", _LOGS, ids=lambda f: f.stem)
def test_every_truncation_raises(file: Path) -> None:
    """Wherever the log ends early, down to the last line's end."""
    text = file.read_text()
    files = _files(text)
    assert parse(text, files).models
    for end in range(len(text)):
        with pytest.raises(PermanentDeviceError):
            parse(text[:end], files)


@pytest.mark.parametrize("file", _LOGS, ids=lambda f: f.stem)
def test_no_mutation_passes_that_breaks_format_count_or_redundant_figure(file: Path) -> None:
    """What is still accepted is exactly what the tool would print of it, with all totals counted anew."""
    text = file.read_text()
    files = _files(text)
    rng = np.random.default_rng(20)
    passed = 0
    for _ in range(1000):
        place = int(rng.integers(len(text)))
        kind = rng.integers(3)
        new = str(rng.choice(_CHARACTERS)) if kind else ""
        mutated = text[:place] + new + text[place + (kind != 2) :]
        try:
            log = parse(mutated, files)
        except PermanentDeviceError:
            continue
        passed += mutated != text
        assert _plain(mutated) == _plain(render(log))
    # Names of operations, reasons and sizes stand nowhere else, and most of a log is such text.
    assert passed < 500


def test_lines_taken_out_or_doubled_raise() -> None:
    """No line of a log is there for nothing, and a missing figure is never 0."""
    for file in _LOGS:
        text = file.read_text()
        lines = [line for line in text.splitlines() if line.strip()]
        for i in range(len(lines)):
            for changed in (lines[:i] + lines[i + 1 :], [*lines[: i + 1], *lines[i:]]):
                with pytest.raises(PermanentDeviceError):
                    parse("\n".join(changed) + "\n", _files(text))


def test_numbers_that_contradict_are_named() -> None:
    """The message has the line and both figures."""
    text = (_FOLDER / "v14_partly.txt").read_text()
    for old, new, said in (
        ("Total number of operations: 55", "Total number of operations: 54", "counts 55 operations, the total says 54"),
        ("Edge TPU: 29", "Edge TPU: 28", "has 29 on the Edge TPU and 26"),
        ("will run on CPU: 26", "will run on CPU: 27", "has 29 on the Edge TPU and 26"),
        ("subgraphs: 1", "subgraphs: 0", "0 subgraphs for 29"),
        ("keypoints_edgetpu.log", "keypoint_edgetpu.log", "do not belong together"),
        ("6.36MiB", "6360.00KiB", "another unit"),
        ("0.00B", "0.50B", "no whole number"),
    ):
        assert old in text
        with pytest.raises(PermanentDeviceError, match=rf"line \d+.*{re.escape(said)}"):
            parse(text.replace(old, new, 1), ["keypoints.tflite"])


def test_a_size_below_one_byte_or_without_a_number_is_refused() -> None:
    """Unknown is an error here, never 0."""
    text = (_FOLDER / "v15_streams.txt").read_text()
    for value in ("", "-1.00MiB", "nan", "5.03 MiB", "5.3MiB", "5.03MB", "05.03MiB", "0.03MiB"):
        with pytest.raises(PermanentDeviceError, match=r"streaming uncached|unit"):
            parse(text.replace("5.03MiB", value), ["wide.tflite"])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("v14_internal_error", "Internal compiler error. Aborting!"),
        ("v15_not_quantized", "Model not quantized"),
        ("v16_too_large", "Compilation failed: Compilation failed due to large activation tensors in model."),
    ],
)
def test_a_refusal_is_told_in_the_compilers_words(name: str, why: str) -> None:
    """And it is no log of a compilation."""
    text = (_FOLDER / f"{name}.txt").read_text()
    assert why == refusal(text)
    with pytest.raises(PermanentDeviceError):
        parse(text, ["floats.tflite"])


def test_a_log_is_no_refusal() -> None:
    """None of those that succeeded."""
    assert [None] * len(_LOGS) == [refusal(file.read_text()) for file in _LOGS]


def test_the_version_is_read_or_refused() -> None:
    """It is part of what a compiled file is known by."""
    assert "16.0.384591198" == parse_version("Edge TPU Compiler version 16.0.384591198\n")
    for text in ("", "edgetpu_compiler: not found", "Edge TPU Compiler version 16"):
        with pytest.raises(PermanentDeviceError, match="not the version"):
            parse_version(text)


_NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True)
_REASONS = st.sampled_from([MAPPED, "Operation not supported", "More than one subgraph is not supported"])


@given(
    rows=st.lists(st.tuples(_NAMES, st.integers(1, 999), _REASONS), min_size=1, unique_by=lambda r: (r[0], r[2])),
    sizes=st.lists(st.integers(0, 1 << 40), min_size=5, max_size=5),
    version=st.sampled_from(["14.1.317412892", "15.0.340273435", "16.0.384591198"]),
    count=st.integers(1, 4),
)
def test_what_is_printed_is_read_back(
    rows: list[tuple[str, int, str]], sizes: list[int], version: str, count: int
) -> None:
    """Sizes within their two decimals, all else exactly."""
    operators = tuple(Operator(name=name, count=n, status=status) for name, n, status in rows)
    model = CompiledModel(
        input_name="/tmp/x/a.tflite",
        input_bytes=sizes[0],
        output_name="/tmp/x/a_edgetpu.tflite",
        output_bytes=sizes[1],
        on_chip_bytes=sizes[2],
        on_chip_free_bytes=sizes[3],
        off_chip_bytes=sizes[4],
        subgraphs=int(any(row.mapped for row in operators)),
        operators=operators,
    )
    log = CompilerLog(version=version, compile_ms=5, models=(model,) * count)
    read = parse(render(log), ["a.tflite"] * count)
    told = read.models[-1]
    assert (log.version, log.compile_ms, count) == (read.version, read.compile_ms, len(read.models))
    found = [told.input_bytes, told.output_bytes, told.on_chip_bytes, told.on_chip_free_bytes, told.off_chip_bytes]
    assert all(abs(a - b) <= 0.005 * max(a, b) for a, b in zip(sizes, found, strict=True))
    names = ("input_bytes", "output_bytes", "on_chip_bytes", "on_chip_free_bytes", "off_chip_bytes")
    assert told == replace(model, **dict(zip(names, found, strict=True)))
