"""The agent's loop, spoken to line by line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from hwbench.agent import protocol
from hwbench.agent.__main__ import serve


def dialogue(*lines: bytes) -> list[dict[str, Any]]:
    """What the agent answers to these lines, until it ends."""
    replies = io.BytesIO()
    serve(io.BytesIO(b"".join(lines)), replies)
    return [protocol.decode(line) for line in replies.getvalue().splitlines()]


def hello(folder: Path, **changed: Any) -> bytes:
    """A greeting."""
    said = {"id": 1, "op": "hello", "protocol": protocol.VERSION, "runtime": "ort", "folder": str(folder / "s")}
    return protocol.encode({**said, **changed})


def test_end_of_input_ends_it(tmp_path: Path) -> None:
    """Its folder goes with it."""
    (answer,) = dialogue(hello(tmp_path))
    assert answer["ok"] is True
    assert not (tmp_path / "s").exists()


def test_after_bye_nothing_is_answered(tmp_path: Path) -> None:
    """Lines behind it are not read."""
    assert 2 == len(dialogue(hello(tmp_path), b'{"id":2,"op":"bye"}\n', hello(tmp_path)))


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    """Both versions are told."""
    (answer,) = dialogue(hello(tmp_path, protocol=99))
    assert "request" == answer["error"]["kind"]
    assert "99" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"not json\n", "not a request"),
        (b'{"id":2,"op":"dance"}\n', "'dance'"),
        (b'{"id":2,"op":"load"}\n', "block_key"),
        (b'{"id":2,"op":"window","chain":[]}\n', "at least one"),
        (b'{"id":2,"op":"window","chain":["a"]}\n', "'a' is not loaded"),
    ],
)
def test_a_bad_request_is_answered_and_survived(tmp_path: Path, line: bytes, told: str) -> None:
    """The next request is answered as ever."""
    _, bad, good = dialogue(hello(tmp_path), line, hello(tmp_path, id=3))
    assert "request" == bad["error"]["kind"]
    assert told in bad["error"]["message"]
    assert (3, True) == (good["id"], good["ok"])


def test_work_before_hello_is_refused() -> None:
    """There is no runtime yet."""
    (answer,) = dialogue(b'{"id":1,"op":"window","chain":["a"]}\n')
    assert "hello" in answer["error"]["message"]


def test_a_line_above_one_mebibyte_ends_the_dialogue(tmp_path: Path) -> None:
    """Where the next line begins cannot be known."""
    answers = dialogue(b'{"x":"' + b"x" * protocol.MAX_LINE_BYTES + b'"}\n', hello(tmp_path))
    assert ["request"] == [a["error"]["kind"] for a in answers]
