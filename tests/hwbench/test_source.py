"""How a source is called: by the name that a search asks its table by."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwbench.source import Source
from models.space import load_space


@pytest.mark.parametrize("name", ["digits", "ofa-mbv3", "ofa_mbv3"])
def test_a_ready_made_space_is_called_by_its_own_name(name: str) -> None:
    """However its hyphen is written."""
    assert load_space(name).name == Source.of(space=name, model=None).name


def test_a_space_in_a_file_is_called_by_the_name_inside(tmp_path: Path) -> None:
    """Whatever the file is called, in both forms."""
    example = Path(__file__).parents[2] / "examples" / "spaces" / "mine.toml"
    moved, whole = tmp_path / "other.toml", tmp_path / "whole.json"
    moved.write_text(example.read_text(encoding="utf-8"), encoding="utf-8")
    load_space(moved).write(whole)
    assert ["mine", "mine"] == [Source.of(space=str(file), model=None).name for file in (moved, whole)]


@pytest.mark.parametrize("text", [None, "", "[space]", "[space]\nname = 3", "{"])
def test_a_file_that_tells_no_name_goes_by_its_own(text: str | None, tmp_path: Path) -> None:
    """What is wrong with it is said by whoever reads all of it."""
    file = tmp_path / "broken.toml"
    if text is not None:
        file.write_text(text)
    assert "broken" == Source.of(space=str(file), model=None).name
