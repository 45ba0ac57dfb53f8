"""What the documents show is true: examples are read by the code they are about."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
import pytest

import hwbench.cli
import search.cli
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


GROUPS: dict[str, click.Command] = {"hwbench": hwbench.cli.hwbench, "search": search.cli.group}
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "latency_tables/README.md", "targets/README.md")


def commands(text: str) -> list[str]:
    """Command lines of ours in a document: code spans of one line, and lines of fenced blocks."""
    fenced = [line.partition("#")[0].strip() for block in blocks(text, "") for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line for line in (*fenced, *spans) if re.match(r"(hwbench|search) [a-z]", line)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_shown_exists_with_its_options(root: Path, name: str) -> None:
    """`a|b` names two commands, `[...]` what may be left out."""
    wrong = []
    for line in commands((root / name).read_text(encoding="utf-8")):
        program, *words = re.sub(r"[\[\]]", " ", line.replace("\\|", "|")).split()
        found = [GROUPS[program]]
        for word in words:
            if not isinstance(found[0], click.Group):
                break
            found = [group.commands.get(w) for group in found for w in word.split("|")]  # type: ignore[attr-defined]
            if None in found:
                break
        options = {o for w in words for o in w.split("|") if o.startswith("--")}
        for command in found:
            known = {o for p in command.params for o in p.opts} if command is not None else set()
            if command is None or not options <= known:
                wrong.append(f"{line}: {sorted(options - known) or 'no such command'}")
    assert wrong == []


def test_the_readme_shows_enough_commands_to_check(root: Path) -> None:
    """Guards the check above against a pattern that finds nothing."""
    assert len(commands((root / "README.md").read_text(encoding="utf-8"))) >= 10
