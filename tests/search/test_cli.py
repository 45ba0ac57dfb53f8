"""The command line, from a table and weights to a front, and every way to get it wrong."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwbench import command
from hwbench.store import Store
from models.space import load_space
from models.supernet import create, save
from search.cli import group
from search.run import read_config
from tests.search import priced
from tests.search.conftest import OUTSIDE

TINY = ["--outer", "3x2", "--inner", "10x3", "--survivors", "1"]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the digits space as they are before any training."""
    file = tmp_path_factory.mktemp("weights") / "digits.safetensors"
    save(file, create(load_space("digits")))
    return file


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the host's table."""
    folder = tmp_path_factory.mktemp("tables")
    priced.table(load_space("digits")).write(folder / "host" / "onnxruntime-digits")
    return folder


@pytest.fixture
def ready(outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untrained: Path, tables: Path) -> list[str]:
    """An empty folder, and the options of a search that takes a second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HWBENCH_TABLES", str(tables))
    few = ["--dataset", "few", "--checkpoint", str(untrained), "--workers", "0", *TINY]
    return ["run", "--objective", "latency", *few]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first finished search is kept for the tests that need one."""
    return tmp_path_factory.mktemp("kept") / "run"


@pytest.fixture
def finished(ready: list[str], kept: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of a finished search with the options of `ready`."""
    folder = Path("runs/latency-digits-host-0")
    if not kept.exists():
        assert 0 == search(*ready)
        shutil.copytree(folder, kept)
        capsys.readouterr()
    elif not folder.exists():
        shutil.copytree(kept, folder)
    return folder


def search(*words: str) -> int:
    return command.run(group, "search", words)


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    out, err = capsys.readouterr()
    assert "" == out
    assert 1 == len(err.splitlines()), err
    return err


def test_a_search_writes_its_folder_and_says_what_to_do_next(
    ready: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Six lines, two commands."""
    assert 0 == search(*ready)
    folder = Path("runs/latency-digits-host-0")
    files = {"config.toml", "store.sqlite", "evaluations.csv", "front.csv", "designs.json"}
    assert files <= {p.name for p in folder.iterdir()}
    said = capsys.readouterr().out.splitlines()
    assert ["searched", "front", "surest", "near it", "cheapest", "evidence"] == [s[:8].strip() for s in said[:6]]
    assert [f"next: search verify {folder} --designs 10", f"      search report {folder}"] == said[-2:]


def test_json_tells_every_design(ready: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What front.csv has, and the hypervolume with its reference."""
    assert 0 == search(*ready, "--json", "--objective", "energy", "--out", "here")
    said = json.loads(capsys.readouterr().out)
    rows = Path("here/front.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [d["design"] for d in said["designs"]]
    assert {"accuracy", "latency_ms", "energy_mj"} == set(said["reference"])
    assert (6, 2) == (said["backbones"], said["inner_searches"])


def test_a_finished_run_is_not_searched_again(
    finished: Path, ready: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said, and the files stay as they were."""
    before = {p.name: p.read_bytes() for p in finished.glob("*.[cj]s*")}
    assert 0 == search(*ready)
    assert "finished before" in capsys.readouterr().err
    assert before == {p.name: p.read_bytes() for p in finished.glob("*.[cj]s*")}


def test_an_unkeepable_limit_is_a_finding(ready: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, how far the nearest choice is from it, and which limits did not go together."""
    assert 1 == search(*ready, "--min-accuracy", "0.99", "--max-exits", "2")
    said = capsys.readouterr().err
    assert "no design keeps the limits (accuracy 0.99, exits 2), the nearest misses them by" in said
    assert "in sum (accuracy 0.99 alone was missed by" in said


def test_a_limit_that_the_table_excludes_is_refused_at_once(
    ready: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, nothing left behind."""
    assert 2 == search(*ready, "--max-latency-ms", "0.0001")
    assert "latency_ms of at most 0.0001 cannot be" in line(capsys)
    assert not Path("runs").exists()


def test_kept_limits_are_kept_by_every_design(ready: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """In the option's own unit."""
    assert 0 == search(*ready, "--max-size-mb", "1", "--json")
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    with (folder / "front.csv").open() as file:
        sizes = [float(row["size_bytes"]) for row in csv.DictReader(file)]
    assert 0 < max(sizes) <= 1e6


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--target", "hots"], "did you mean 'host'"),
        (["--space", "digit"], "did you mean 'digits'"),
        (["--objective", "latancy"], "did you mean 'latency'"),
        (["--strategy", "nestd"], "did you mean 'nested'"),
        (["--problem", "exit"], "did you mean 'exits'"),
        (["--budget", "smal"], "did you mean 'small'"),
        (["--dataset", "digits23"], "did you mean 'digits32'"),
        (["--backend", "onnx"], "did you mean 'onnxruntime'"),
        (["--backend", "litert"], "hwbench profile --target host --backend litert --space digits"),
        (["--table", "nowhere.csv"], "hwbench profile"),
        (["--checkpoint", "nowhere.safetensors"], "search train --space digits"),
        (["--space", "sdu", "--table", "TABLES/host/onnxruntime-digits.csv", "--dataset", "few"], "is the table of"),
        (["--max-latency-ms", "-1"], "--max-latency-ms"),
        (["--threads", "3"], "known: cpu fp32 batch=1 threads=1"),
        (["--objectives", "latency"], "--objective"),
        (["--reuse", "nowhere"], "nowhere holds no run whose results could be reused"),
        (["--from", "nowhere"], "nowhere is no run folder"),
        (["--strategy", "fixed"], "--backbone"),
        (["--backbone", "largest"], "leave --strategy, --outer and --survivors out"),
    ],
)
def test_wrong_words_are_one_line_with_a_way_out(
    ready: list[str], tables: Path, capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    """Exit code 2; no traceback, and nothing left behind."""
    assert 2 == search(*ready, *(word.replace("TABLES", str(tables)) for word in words))
    assert text in line(capsys)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("genes", "text"), [("small", "give smallest, largest, or genes"), ("1.2", "12 genes"), ("9" + 11 * ".0", "is 9")]
)
def test_a_backbone_outside_the_space_is_one_line(
    ready: list[str], capsys: pytest.CaptureFixture[str], genes: str, text: str
) -> None:
    """With what is allowed."""
    assert 2 == search("run", "--objective", "latency", "--backbone", genes)
    assert text in line(capsys)


def test_resume_shows_what_changed(finished: Path, tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table measured anew is another table."""
    table = tables / "host" / "onnxruntime-digits.csv"
    text = table.read_text()
    table.write_text(text.replace("0.00", "0.01", 1))
    try:
        assert 2 == search("resume", str(finished))
    finally:
        table.write_text(text)
    said = line(capsys)
    assert "table.sha256: " in said
    assert str(table) in said


def test_a_broken_store_is_one_line(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Naming the file."""
    store = finished / "store.sqlite"
    for extra in ("-wal", "-shm"):
        store.with_name(store.name + extra).unlink(missing_ok=True)
    store.write_bytes(store.read_bytes()[:5000])
    assert 2 == search("resume", str(finished))
    assert "store.sqlite" in line(capsys)


def test_a_full_disk_is_one_line_and_loses_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was computed is in the store; with space again the run ends."""
    file = finished / "evaluations.csv"
    whole = file.read_text()
    file.unlink()
    file.symlink_to("/dev/full")
    assert 4 == search("resume", str(finished), "--workers", "0")
    assert "the disk is full" in capsys.readouterr().err.splitlines()[-1]
    file.unlink()
    assert 0 == search("resume", str(finished), "--workers", "0")
    assert whole == file.read_text()


def test_extended_it_finds_what_more_generations_find(
    finished: Path, ready: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Extending asks only what is new, and ends with the files of a search that was asked for so many at once."""
    assert 0 == search("extend", str(finished), "--outer", "3x4", "--workers", "0")
    assert 0 == search(*ready, "--outer", "3x4", "--reuse", str(finished), "--out", "longer")
    for name in ("front.csv", "designs.json", "evaluations.csv"):
        assert Path("longer", name).read_text() == (finished / name).read_text()
    assert read_config(Path("longer")).budget == read_config(finished).budget
    with Store(Path("longer/store.sqlite"), read_only=True) as store:
        assert {f"reused from {finished.name}"} == {fact.worker for fact in store.facts()}


def test_two_runs_compare_and_others_are_refused(
    finished: Path, ready: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What front.csv holds, step by step; a run compares with itself, not with one of other objectives or none."""
    assert 0 == search("compare", str(finished), str(finished), "--json", "--designs", "2")
    said = json.loads(capsys.readouterr().out)
    assert (1.0, {"a": 0.0, "b": 0.0}) == (said["hypervolume_ratio"], said["dominating"])
    with (finished / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    first = said["steps"][0]
    assert rows[0]["design"] == first["design"]
    assert float(rows[0]["accuracy"]) == pytest.approx(first["accuracy"]["exits"], rel=1e-5)
    # One operating point: nothing was gained by clocks, and exits alone promise what the front says.
    assert float(rows[0]["latency_ms"]) == pytest.approx(first["latency_ms"]["exits"], rel=1e-5)
    assert first["latency_ms"]["clocks"] is None
    assert 0 == search(*ready, "--objective", "energy", "--out", "more")
    capsys.readouterr()
    assert 2 == search("compare", str(finished), "more")
    assert "objectives: accuracy, latency_ms → accuracy, latency_ms, energy_mj" in line(capsys)
    assert 2 == search("compare", str(finished), "nowhere")
    assert "is no run folder" in line(capsys)


@pytest.mark.parametrize("outer", ["4x3", "3x1", "3", "3x", "x"])
def test_only_generations_can_be_added(outer: str, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the search would have begun otherwise; nothing is changed."""
    assert 2 == search("extend", str(finished), "--outer", outer)
    assert f"--outer {outer}" in line(capsys).replace("'", "")
    assert (finished / "designs.json").is_file()


def test_resume_of_no_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2."""
    assert 2 == search("resume", str(tmp_path))
    assert "is no run folder" in line(capsys)


def test_interrupted_and_resumed_it_finds_the_same(
    finished: Path, ready: list[str], outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C anywhere: exit code 130, how to go on, and then the front of a run that nobody stopped."""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (root, OUTSIDE, outside)))}
    running = subprocess.Popen(
        [sys.executable, "-m", "search.cli", *ready, "--out", "stopped", "--workers", "2"],
        env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert running.stderr
    # The first plain line of progress: a batch is through, the next one has begun.
    first = running.stderr.readline()
    assert first.startswith("batch 0")
    time.sleep(0.2)
    os.killpg(running.pid, signal.SIGINT)
    assert ["interrupted; continue with: search resume stopped"] == running.stderr.read().splitlines()[-1:]
    assert 130 == running.wait()
    assert 0 == search("resume", "stopped", "--workers", "0")
    for name in ("front.csv", "designs.json", "evaluations.csv"):
        assert (finished / name).read_text() == Path("stopped", name).read_text()


def test_space_show_tells_size_genes_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers are the space's own."""
    assert 0 == search("space", "show", "digits")
    space = load_space("digits")
    said = capsys.readouterr().out
    assert f"{space.size():,} networks" in said
    assert f"{int(space.params(space.largest()[None])[0]):,} parameters" in said
    assert all(gene.name in said for gene in space.genes)


def test_help_imports_nothing_heavy() -> None:
    """Neither torch nor numpy nor pymoo."""
    heavy = "{'torch', 'numpy', 'pymoo', 'rich'}"
    program = f"import sys; from search.cli import group; print(sorted({heavy} & sys.modules.keys()))"
    assert "[]" == subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip()
