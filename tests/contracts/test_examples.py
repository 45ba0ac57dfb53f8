"""The examples for other people's CI name commands, options and targets that exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from hwbench.cli import hwbench
from hwbench.target_file import known_targets
from models.space import load_space


@pytest.fixture(scope="module")
def workflow(root: Path) -> str:
    return (root / "examples" / "github-actions" / "hwbench-gate.yml").read_text(encoding="utf-8")


def commands(text: str) -> list[list[str]]:
    """Each `hwbench …` that a step of a workflow runs, in words."""
    lines = (line.strip().removeprefix("run: ") for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [shlex.split(line)[1:] for line in lines if line.startswith("hwbench ")]


def test_every_command_of_the_workflow_exists_with_its_options(workflow: str) -> None:
    """Parsed by the command line itself, with its values; nothing is run."""
    found = commands(workflow)
    assert {"doctor", "gate"} == {words[0] for words in found}
    for name, *words in found:
        command = hwbench.commands[name]
        with click.Context(command) as context:
            command.parse_args(context, list(words))


def test_the_target_of_the_workflow_ships(workflow: str) -> None:
    """What stands there to be changed works as it stands."""
    (target,) = re.findall(r"^  TARGET: (\S+)$", workflow, flags=re.MULTILINE)
    assert target in known_targets()


def test_the_workflow_takes_no_code_of_strangers(workflow: str) -> None:
    """Branches of forks do not run on a machine of one's own, and the job may write nothing."""
    assert "head.repo.full_name == github.repository" in workflow
    assert "pull_request_target" not in workflow
    assert "permissions:\n  contents: read\n" in workflow
    # What a stranger can name (title, branch) never becomes part of a script.
    assert not re.search(r"\$\{\{", "".join(re.findall(r"run: .*|(?:\n {10}.*)+", workflow)))


def test_the_workflow_is_yaml(workflow: str) -> None:
    """Read by a YAML parser where one is installed."""
    yaml = pytest.importorskip("yaml")
    steps = yaml.safe_load(workflow)["jobs"]["gate"]["steps"]
    assert all("uses" in step or "run" in step for step in steps)


def test_every_changed_table_is_told_though_the_first_fails(workflow: str, tmp_path: Path) -> None:
    """The step as a runner runs it (`bash -e`), with a gate that finds something in the first of two tables."""
    yaml = pytest.importorskip("yaml")
    (script,) = (s["run"] for s in yaml.safe_load(workflow)["jobs"]["gate"]["steps"] if "changed" in s.get("run", ""))
    programs = {
        "git": "printf 'a.csv\\nb.csv\\n'",
        "hwbench": 'cat > /dev/null; echo "$2 $3" > table.md; [ "$3" = b.csv ]',
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    surroundings = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TARGET": "rpi5",
        "SPACE": "net",
        "GITHUB_BASE_REF": "main",
    }
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=tmp_path, env=surroundings, stdin=subprocess.DEVNULL, timeout=30, check=False
    )
    assert 1 == done.returncode
    told = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert "a.csv@origin/main a.csv\nb.csv@origin/main b.csv\n" == told


def test_the_space_of_ones_own_is_a_space(root: Path) -> None:
    """With every key its comments explain; its first stage has one kernel for all layers, its second one for each."""
    space = load_space(root / "examples" / "spaces" / "mine.toml")
    names = [g.name for g in space.genes]
    assert ["kernel.1", "kernel.2.1", "kernel.2.2", "kernel.2.3"] == [n for n in names if n.startswith("kernel")]
    assert 2 * 2 * (3 * 2 * 2) * (4**2 + 4**3) == space.size()
