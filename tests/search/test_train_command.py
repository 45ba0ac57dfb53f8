"""The words of `search train`, and what it tells to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hwbench import command
from search import train_command
from search.cli import group

MINE = str(Path(__file__).parents[2] / "examples" / "spaces" / "mine.toml")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without runs, but for one file."""
    monkeypatch.chdir(tmp_path)
    Path("there.safetensors").touch()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--exits", "--resume"], "leave --resume out"),
        (["--checkpoint", "x"], "--checkpoint names the supernet whose --exits are trained"),
        (["--out", "there.safetensors"], "there.safetensors exists and is not overwritten"),
        (["--exits", "--out", "there.safetensors"], "there.safetensors exists and is not overwritten"),
        (["--resume"], "runs/supernet-digits-0.safetensors: no interrupted training to go on with"),
        (["--space", MINE], "name one with --dataset (known: cifar10, cifar100, digits32, folder)"),
        (["--space", MINE, "--exits", "--dataset", "digits32"], f"search train --space {MINE}, then name it"),
        (["--space", MINE, "--dataset", "digits32"], "choose another data set or space"),
    ],
)
def test_wrong_words_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, nothing left behind."""
    assert 2 == command.run(group, "search", ["train", *words])
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not list(Path().glob("runs/*.safetensors"))


@pytest.mark.parametrize(("words", "kept"), [([], ""), (["--dataset", "digits32"], " --dataset digits32")])
def test_interrupted_it_tells_all_words_that_go_on(
    words: list[str], kept: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data set, too, where it was named."""

    def stopped(*_: object, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "supernet_job", stopped)
    assert 130 == command.run(group, "search", ["train", "--seed", "3", *words])
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(
        f"continue with: search train --space digits{kept} --seed 3 --out runs/supernet-digits-3.safetensors"
    )
