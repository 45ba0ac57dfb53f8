"""From a search to the board and into a report: real segments, the real agent, real inputs."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hwbench import command
from models.space import load_space
from models.supernet import create, save
from search import verify
from search.cli import group
from search.found import Found
from search.run import Run, read_config
from search.tasks import verify as task
from tests.search import priced
from tests.search.conftest import installed

TINY = ["--outer", "3x1", "--inner", "12x4", "--survivors", "2"]


def search(*words: str) -> int:
    return command.run(group, "search", words)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished search with exits, on a few images that may be opened to the end."""
    folder = tmp_path_factory.mktemp("search")
    with searched(folder, "max_softmax") as done:
        yield done


@contextlib.contextmanager
def searched(folder: Path, router: str) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch, installed(folder / "site", patch):
        patch.chdir(folder)
        patch.setenv("HWBENCH_TABLES", str(folder / "tables"))
        # The invented prices are never those of this machine: trying again would not help.
        patch.setattr(task, "_TRIES", 1)
        priced.table(load_space("digits")).write(folder / "tables" / "host" / "onnxruntime-digits")
        save(folder / "digits.safetensors", create(load_space("digits")))
        options = ["--dataset", "few_open", "--checkpoint", "digits.safetensors", "--workers", "0", "--out", "run"]
        assert 0 == search("run", "--objective", "latency", "--router", router, *options, *TINY)
        yield folder / "run"


@pytest.fixture
def found(once: Path, tmp_path: Path) -> Path:
    """The run folder, for one test to change."""
    return Path(shutil.copytree(once, tmp_path / "run"))


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Path]:
    """A finished search with patience for a router."""
    with searched(tmp_path, "patience") as done:
        yield done


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Path]:
    """A finished search with gates that were trained in it."""
    with searched(tmp_path, "learned") as done:
        yield done


@pytest.mark.parametrize("router", ["found", "patient", "learned"])
def test_the_board_decides_as_the_search_did_sample_by_sample(
    router: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exported plan and the cascade agree exit for exit; the report tells it; an unkept promise is exit 1."""
    found = request.getfixturevalue(router)
    capsys.readouterr()
    code = search("verify", str(found), "--designs", "3", "--sessions", "2", "--json")
    # The table's prices are invented: latencies are broken, or called a drift where blocks are off by the same factor
    # as networks. Accuracies must be kept.
    rows = json.loads(capsys.readouterr().out)
    verdicts = {row["verdict"] for row in rows}
    assert verdicts <= {"latency", "drifted", "kept"}
    assert code == (1 if "latency" in verdicts else 3 if "drifted" in verdicts else 0)
    assert rows == list(csv.DictReader((found / "verify.csv").open(encoding="utf-8", newline="")))
    assert [row["predicted_accuracy"] for row in rows] == [row["measured_accuracy"] for row in rows]
    assert [row["predicted_exit_rates"] for row in rows] == [row["measured_exit_rates"] for row in rows]
    with Run.start(found, read_config(found)) as opened:
        told = Found.of(opened)
        with_exits = [v for v in told.verified if len(v.design.stages) > 1]
        assert with_exits
        for v in with_exits:
            cascade, placed, level, _ = told.choice(v.design)
            stages = np.flatnonzero(placed)
            at = np.array([cascade.threshold(s, int(level[s])) for s in stages])
            leaves = cascade.score[:, stages] >= at
            if cascade.patience:
                said, n = cascade.answer[:, stages], [int(t) for t in at]
                leaves = np.array([[len(set(row[k - n[k] + 1 : k + 1])) == 1 for k in range(len(n))] for row in said])
            leaves[:, -1] = True
            np.testing.assert_array_equal(leaves.argmax(axis=1), v.val[-1].arrays["node"])
    assert 0 == search("report", str(found))
    page = (found / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 4
    assert all(row["design"] in page for row in rows)


def test_a_second_verification_asks_the_board_again(found: Path) -> None:
    """A measurement is not replayed from the store once its round is through, and `test` is answered once."""
    for _ in range(2):
        search("verify", str(found), "--designs", "1", "--sessions", "1")
    with Run.start(found, read_config(found)) as opened:
        asked = [(f.args["split"], f.args["attempt"]) for f in opened.store.facts("verify")]
        assert [("val", 0), ("test", 0), ("val", 1)] == asked
        assert 1 == len(verify.last(opened))


def test_an_interrupted_verification_goes_on(found: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the board has answered is not asked again."""
    asked: list[str] = []

    def stop(done: int, total: int, now: str) -> None:
        asked.append(now)
        if done == 2:
            raise KeyboardInterrupt

    with Run.start(found, read_config(found)) as opened:
        with pytest.raises(KeyboardInterrupt):
            verify.verify(opened, count=2, sessions=2, repeats=1, told=stop)
        before = {f.key for f in opened.store.facts("verify")}
        assert 2 == len(before)
        assert 2 == len(verify.verify(opened, count=2, sessions=2, repeats=1))
        assert before < {f.key for f in opened.store.facts("verify")}
        assert 6 == sum(1 for _ in opened.store.facts("verify"))


def test_a_search_that_is_not_through_cannot_be_verified(found: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the command that finishes it."""
    (found / "designs.json").unlink()
    capsys.readouterr()
    for command_ in ("verify", "report"):
        assert 2 == search(command_, str(found))
        assert "search resume" in capsys.readouterr().err.splitlines()[-1]


def test_a_fallback_that_the_backend_does_not_know_is_refused(found: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The flag reaches the board's backend, in whose options it has no place here."""
    capsys.readouterr()
    assert 2 == search("verify", str(found), "--designs", "1", "--allow-cpu-fallback")
    assert "[[backend]] onnxruntime: unknown key 'allow_cpu_fallback'" in capsys.readouterr().err


def test_another_checkpoint_is_refused(found: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The designs were trained on one supernet; verifying another would say nothing."""
    other = found.parent / "other.safetensors"
    save(other, create(load_space("digits"), seed=1))
    config = found / "config.toml"
    config.write_text(config.read_text().replace(str(read_config(found).checkpoint.path), str(other)))
    capsys.readouterr()
    assert 2 == search("verify", str(found))
    assert "checkpoint" in capsys.readouterr().err


def test_designs_are_spread_over_the_front() -> None:
    """Both ends are among them, and never more than there are."""
    assert [0, 3, 6, 9] == verify.spread(10, 4)
    assert [0, 1, 2] == verify.spread(3, 10)
    assert [0] == verify.spread(5, 1)
