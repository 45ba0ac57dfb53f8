"""The project as a whole: who imports whom, what is tracked, what a wheel carries."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGES = ("hwbench", "models", "search")
# What a module must not pull in just by being imported; a fresh process each, since pytest itself imports much.
LIGHT = {
    "hwbench.cli": ("torch", "pymoo", "scipy", "matplotlib"),
    "hwbench.target": ("numpy", "onnx", "onnxruntime"),
    "models.space": ("torch", "onnx", "onnxruntime"),
    "search.cascade": ("torch", "pymoo"),
    "search.cli": ("torch", "timm", "matplotlib"),
}
# In pieces, so that this file does not find itself.
TOPS = "|".join(["wo" + "rk", "ro" + "ot", "Us" + "ers", "fa" + "rm"])
MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:" + TOPS + r")/|/ho" + r"me/(?!pi/)")
NEIGHBOUR = re.compile(r"\.\./" + "shared")
HOSTS = ["py" + r"pi\.org", "python" + r"hosted\.org", r"download\.py" + r"torch\.org", "extra-" + "index-url"]
REGISTRY = re.compile("|".join(HOSTS))


@pytest.fixture(scope="module")
def tracked(root: Path) -> list[str]:
    """Paths that git tracks, relative to the root."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if name and (root / name).is_file()]


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this checkout with the tools at hand, no network."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def run(program: str, *, path: Path) -> str:
    """Standard output of a fresh Python that sees `path` first."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run([sys.executable, "-c", program], cwd=path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("file", ["tox.ini", "Makefile"])
def test_benchmarks_print_their_figures(file: str, root: Path) -> None:
    """pytest keeps to itself what a test prints that passes, and the figures are the point."""
    lines = (root / file).read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if "pytest" in line and "tests/benchmarks" in line]
    assert "--capture=no" in line.split()


def test_the_import_table_holds(root: Path) -> None:
    """.importlinter is the table of CONTRIBUTING.md; a new module that has no seat there breaks it too."""
    program = (
        "import sys; from importlinter.cli import lint_imports_command as main; sys.argv[1:] = ['--no-cache']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", LIGHT)
def test_importing_stays_light(root: Path, module: str) -> None:
    """Measuring installs without torch, and the command line answers at once."""
    loaded = run(f"import sys, {module}; print(*[m for m in {LIGHT[module]!r} if m in sys.modules])", path=root)
    assert loaded == ""


def test_tracked_files_speak_only_of_the_project(root: Path, tracked: list[str]) -> None:
    """No path of somebody's machine, no package registry: a clone works wherever it lies."""
    found = []
    for name in tracked:
        try:
            text = (root / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            patterns = [MACHINE_PATH, REGISTRY] + ([] if name.startswith(".ci/") else [NEIGHBOUR])
            found += [f"{name}:{number}: {m.group()}" for p in patterns if (m := p.search(line))]
    assert found == []


def test_a_wheel_carries_every_tracked_file_of_the_packages_and_the_data(wheel: Path, tracked: list[str]) -> None:
    """Targets, tables, checkpoint, report template: what a checkout finds, an installation finds."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    data = {"targets": "hwbench/_data/targets", "latency_tables": "hwbench/_data/latency_tables"}
    wanted = {name for name in tracked if name.split("/")[0] in PACKAGES}
    wanted |= {data[top] + name[len(top) :] for name in tracked if (top := name.split("/")[0]) in data}
    assert wanted
    assert sorted(wanted - inside) == []


def test_a_wheel_carries_nothing_but_the_packages_and_the_data(wheel: Path) -> None:
    """No tests, no caches, no runs."""
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {t for t in tops if not t.endswith(".dist-info")} == set(PACKAGES)


def test_an_installed_hwbench_finds_its_data_inside_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Shipped tables are read from the wheel, one's own go to a folder that can be written."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    program = "from hwbench.resources import *; print(targets_dir(), tables_dir(), *table_folders(), sep='\\n')"
    targets, own, first, second = run(program, path=site).splitlines()
    assert targets == str(site / "hwbench" / "_data" / "targets")
    assert own == first == str(Path(os.environ["XDG_DATA_HOME"]) / "hwbench" / "latency_tables")
    assert second == str(site / "hwbench" / "_data" / "latency_tables")


def test_every_entry_point_of_the_distribution_loads() -> None:
    """Console scripts, and the exporter and decoders that hwbench finds without importing models itself."""
    points = importlib.metadata.distribution("hwbench-nas").entry_points
    assert {"hwbench", "search", "torch", "fbnet", "nas-bench-201"} <= {p.name for p in points}
    assert all(callable(p.load()) for p in points if p.group != "pytest11")
