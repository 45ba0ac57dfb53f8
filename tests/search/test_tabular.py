"""Searching a table of architectures: what may be asked, what is written, and that guidance pays."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hwbench import command
from models.decoders import nas_bench_201
from search.cli import group

COLUMNS = ["--arch", "cell", "--maximize", "accuracy", "--minimize", "latency_ms"]


def search(*words: str) -> int:
    return command.run(group, "search", words)


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that an error is."""
    return capsys.readouterr().err.splitlines()[-1]


def cells(count: int) -> list[str]:
    """The first of all cells in an order that mixes them."""
    ops = itertools.product(nas_bench_201.OPS, repeat=6)
    every = [f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|" for a, b, c, d, e, f in ops]
    return [every[i] for i in np.random.default_rng(3).permutation(len(every))[:count]]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,500 cells with an invented accuracy that convolutions on paths raise, and what they cost."""
    file = tmp_path_factory.mktemp("tabular") / "table.csv"
    archs = cells(1500)
    shapes, paths = nas_bench_201.decode(archs).function
    rng = np.random.default_rng(4)
    depth = np.minimum(paths, 1) @ rng.uniform(0, 1, paths.shape[1])
    accuracy = 50 + 4 * np.log1p(shapes[:, 2] * 2 + shapes[:, 1]) + depth + rng.normal(0, 0.2, len(archs))
    latency = 1 + shapes[:, :4] @ [0.1, 1, 3, 0.7] + rng.uniform(0, 0.2, len(archs))
    with file.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["cell", "accuracy", "latency_ms", "size"])
        for i, arch in enumerate(archs):
            # Every tenth cannot be measured.
            rows.writerow([arch, f"{accuracy[i]:.4f}", "" if i % 10 == 0 else f"{latency[i]:.4f}", i % 7])
    return file


def asked(folder: Path) -> list[dict[str, str]]:
    with (folder / "evaluations.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_it_asks_as_often_as_allowed_and_nothing_twice(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what has a cost; the front is that of what was asked."""
    out = tmp_path / "out"
    words = ["--tabular", str(table), *COLUMNS, "--evaluations", "40", "--at-least", "accuracy=52", "--out", str(out)]
    assert 0 == search("run", *words, "--json")
    said = json.loads(capsys.readouterr().out)
    rows = asked(out)
    assert 40 == said["evaluations"] == len({row["arch"] for row in rows})
    assert {"no cost": 150} == said["left_out"]
    good = [(float(r["latency_ms"]), -float(r["accuracy"])) for r in rows if float(r["accuracy"]) >= 52]
    beaten = [p for p in good if any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in good)]
    assert sorted(set(good) - set(beaten)) == [(r["latency_ms"], -r["accuracy"]) for r in said["front"]]
    # Once more is the same to the byte, and so is resuming.
    before = (out / "evaluations.csv").read_bytes(), (out / "front.csv").read_bytes()
    assert 0 == search("run", *words)
    assert 0 == search("resume", str(out))
    assert before == ((out / "evaluations.csv").read_bytes(), (out / "front.csv").read_bytes())


def test_guided_it_finds_more_than_blindly(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mean hypervolume over seeds, equal evaluations, the same corner."""
    reached = {}
    for strategy in ("predictor", "random"):
        found = []
        for seed in range(3):
            options = ["--strategy", strategy, "--seed", str(seed), "--out", str(tmp_path / f"{strategy}{seed}")]
            assert 0 == search(
                "run", "--tabular", str(table), *COLUMNS, "--at-least", "accuracy=50", "--evaluations", "40", "--json",
                *options,
            )  # fmt: skip
            found.append(json.loads(capsys.readouterr().out)["hypervolume"])
        reached[strategy] = np.mean(found)
    assert reached["predictor"] > 1.03 * reached["random"]


def test_a_table_may_be_asked_to_the_end(table: Path, tmp_path: Path) -> None:
    """More evaluations than candidates ask each candidate; a limit on another column leaves some out."""
    few = tmp_path / "few.csv"
    few.write_text("\n".join(table.read_text().splitlines()[:31]) + "\n")
    options = ["--at-least", "size=3", "--evaluations", "99", "--out", str(tmp_path / "out")]
    assert 0 == search("run", "--tabular", str(few), *COLUMNS, *options)
    assert sum(i % 10 != 0 and i % 7 >= 3 for i in range(30)) == len(asked(tmp_path / "out"))


def test_killed_and_resumed_it_ends_the_same(table: Path, tmp_path: Path) -> None:
    """With kill -9 in the middle."""
    words = ["run", "--tabular", str(table), *COLUMNS, "--evaluations", "120", "--out"]
    assert 0 == search(*words, str(tmp_path / "whole"))
    running = subprocess.Popen(
        [sys.executable, "-m", "search.cli", *words, str(tmp_path / "killed")],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    file = tmp_path / "killed" / "evaluations.csv"
    while running.poll() is None and (not file.exists() or len(file.read_text().splitlines()) < 20):
        time.sleep(0.01)
    running.kill()
    assert -signal.SIGKILL == running.wait()
    assert not (tmp_path / "killed" / "front.csv").exists()
    assert 0 == search("resume", str(tmp_path / "killed"))
    for name in ("evaluations.csv", "front.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arch", "cel"], "no column 'cel' — did you mean 'cell'?"),
        (["--at-least", "acuracy=1"], "did you mean 'accuracy'"),
        (["--arch", "size"], "the family of column 'size' cannot be told"),
        (["--family", "nas-bench-20"], "did you mean 'nas-bench-201'"),
        (["--family", "fbnet"], "expected 22 numbers"),
        (["--at-least", "accuracy"], "give COLUMN=VALUE"),
        (["--at-least", "accuracy=nan"], "give COLUMN=VALUE"),
        (["--at-least", "accuracy=50", "--at-least", "accuracy=60"], "give one limit a column"),
        (["--at-least", "size=99"], "no architecture is left"),
        (["--strategy", "nested"], "unknown strategy 'nested' for a table"),
        (["--at-least", "cell=1"], "not a number"),
        (["--minimize", "size"], "--minimize latency_ms and size: a table is searched for one value at one cost"),
        (["--maximize", "size"], "--maximize accuracy and size: a table is searched for one value at one cost"),
        (["--arch", "latency_ms"], "name three columns"),
        (["--objective", "latency", "--max-size-mb", "1"], "has no use for --objective, --max-size-mb; leave it out"),
        (["--from", "runs/other"], "has no use for --from"),
    ],
)
def test_wrong_words(
    words: list[str], said: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 2, nothing left behind."""
    out = tmp_path / "out"
    options = ["--tabular", str(table), *COLUMNS, "--evaluations", "5", "--out", str(out), *words]
    assert 2 == search("run", *options)
    assert said in line(capsys)
    assert not out.exists()


def test_words_of_a_table_need_one(capsys: pytest.CaptureFixture[str]) -> None:
    """They would be ignored."""
    assert 2 == search("run", "--objective", "latency", "--at-least", "accuracy=50", "--evaluations", "5")
    assert "only with --tabular FILE: --at-least, --evaluations; add it" in line(capsys)


def test_a_file_without_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names of columns alone tell no family."""
    file = tmp_path / "empty.csv"
    file.write_text("cell,accuracy,latency_ms\n")
    assert 2 == search("run", "--tabular", str(file), *COLUMNS, "--evaluations", "5", "--out", str(tmp_path / "out"))
    assert "empty.csv: the file has no rows to search" in line(capsys)


def test_what_is_missing_is_named(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it at once; and a search of nothing."""
    assert 2 == search("run", "--tabular", str(table), "--arch", "cell")
    assert "also needs --maximize, --minimize, --evaluations" in line(capsys)
    assert 2 == search("run")
    assert "give --objective latency or energy, or --tabular FILE" in line(capsys)


def test_twice_with_other_numbers(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Is refused; twice the same counts once."""
    lines = table.read_text().splitlines()
    odd = tmp_path / "odd.csv"
    options = ["--tabular", str(odd), *COLUMNS, "--evaluations", "5", "--out", str(tmp_path / "out"), "--json"]
    odd.write_text("\n".join([*lines[:20], lines[2]]) + "\n")
    assert 0 == search("run", *options)
    assert 1 == json.loads(capsys.readouterr().out)["left_out"]["twice the same"]
    arch, _, rest = lines[2].partition(",")
    odd.write_text("\n".join([*lines[:20], f"{arch},1{rest}"]) + "\n")
    assert 2 == search("run", *options)
    assert "stands there twice with other numbers" in line(capsys)


@pytest.mark.parametrize(
    "words",
    [
        ("extend", "--outer", "8x4"),
        ("verify",),
        ("test",),
        ("report",),
        ("run", "--target", "jetson-tx2", "--simulate", "--objective", "latency", "--from"),
    ],
)
def test_such_a_run_is_no_run_of_backbones(
    words: tuple[str, ...], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands on designs say so, and what is possible."""
    out = tmp_path / "out"
    assert 0 == search("run", "--tabular", str(table), *COLUMNS, "--evaluations", "2", "--out", str(out))
    assert 2 == search(*words, str(out))
    assert "searched the architectures of a file (--tabular): that can be resumed and compared" in line(capsys)


def test_a_limit_that_nothing_keeps_is_a_finding(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and the evaluations are there."""
    options = ["--at-least", "accuracy=99", "--evaluations", "15", "--out", str(tmp_path / "out")]
    assert 1 == search("run", "--tabular", str(table), *COLUMNS, *options)
    assert "none of 15 evaluations has accuracy 99" in line(capsys)
    assert 15 == len(asked(tmp_path / "out"))


def test_another_search_is_not_overwritten(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is a file that changed searched as if it had not."""
    copy = tmp_path / "copy.csv"
    copy.write_bytes(table.read_bytes())
    words = ["run", "--tabular", str(copy), *COLUMNS, "--evaluations", "5", "--out", str(tmp_path / "out")]
    assert 0 == search(*words)
    assert 2 == search(*words, "--seed", "1")
    assert "seed: 0 → 1" in line(capsys)
    copy.write_text(table.read_text() + "\n")
    assert 2 == search("resume", str(tmp_path / "out"))
    assert "has changed since the run began" in line(capsys)


def test_two_ways_to_search_a_table_compare(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the columns that were searched; a folder without a front is told how to get one."""
    words = ["--tabular", str(table), *COLUMNS, "--evaluations", "30"]
    for strategy in ("predictor", "random"):
        assert 0 == search("run", *words, "--strategy", strategy, "--out", str(tmp_path / strategy))
    capsys.readouterr()
    assert 0 == search("compare", str(tmp_path / "predictor"), str(tmp_path / "random"), "--json")
    said = json.loads(capsys.readouterr().out)
    assert ["strategy: predictor → random"] == said["differences"]
    assert said["hypervolume_ratio"] > 1
    assert {"latency_ms"} == set(said["gains"])
    (tmp_path / "random" / "front.csv").unlink()
    assert 2 == search("compare", str(tmp_path / "predictor"), str(tmp_path / "random"))
    assert "search resume" in line(capsys)
