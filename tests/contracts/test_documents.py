"""What the documents show is true: examples are read by the code they are about."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from hwbench import plugin
from hwbench.target import Target
from tests.contracts.signatures import names, per_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of one language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def examples() -> list[str]:
    """TOML of the board example: the ten lines, then what a power sensor adds."""
    text = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return blocks(text[text.index("### Add a board in ten lines") :], "toml")[:2]


def test_the_page_of_contracts_shows_the_code_as_it_is(root: Path) -> None:
    """Every class, field, method and argument on the page stands in the file it names."""
    page = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = [pair for block in blocks(page, "python") for pair in per_file(block)]
    assert len({file for file, _ in shown}) > 20
    wrong = []
    for file, text in shown:
        real = names((root / file).read_text(encoding="utf-8"))
        for name, said in names(text).items():
            if real.get(name) != said:
                wrong.append(f"{file}: {name}({said}) on the page, {real.get(name, 'nothing')} in the code")
    assert wrong == []


def test_the_board_in_ten_lines_is_a_target(examples: list[str]) -> None:
    """Ten lines, no more, and every kind it names is a plugin that exists."""
    assert len(examples[0].splitlines()) == 10
    target = Target.model_validate(tomllib.loads(examples[0]))
    assert "pi5" == target.name
    assert {link.kind for link in target.link} <= set(plugin.names("hwbench.links"))
    assert {backend.kind for backend in target.backend} <= set(plugin.names("hwbench.backends"))


def test_the_meter_of_the_example_opens_with_its_options(examples: list[str]) -> None:
    """The lines added for a power sensor are the files meter's own options."""
    target = Target.model_validate(tomllib.loads("\n".join(examples)))
    (meter,) = target.meter
    plugin.load("hwbench.meters", meter.kind).Options.model_validate(meter.options)


def test_the_changelog_keeps_a_changelog(root: Path) -> None:
    """Unreleased first, and only the kinds of change that the format knows."""
    lines = (root / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert next(line for line in lines if line.startswith("## ")) == "## [Unreleased]"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {line[4:] for line in lines if line.startswith("### ")} <= kinds


def test_links_inside_the_documents_lead_somewhere(root: Path) -> None:
    """Relative links and pictures of the documents exist."""
    missing = []
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", (root / name).read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", link) and not (root / link).exists():
                missing.append(f"{name}: {link}")
    assert missing == []
