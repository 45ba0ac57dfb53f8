"""The command line, from a user's file to a table, and every way to get it wrong."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from hwbench import command
from hwbench.cli import hwbench
from hwbench.table import LatencyTable
from tests.hwbench.onnx_networks import Net

QUICK = ("--sessions", "1", "--window", "0.01")


def run(*words: str) -> int:
    return command.run(hwbench, "hwbench", words)


def chain(file: Path, *, blocks: int = 4) -> Path:
    """A chain of convolutions with a classifier."""
    net = Net((1, 3, 16, 16))
    at, channels = net.node("Relu", net.conv("image", 3, 8)), 8
    for _ in range(blocks):
        at = net.node("Relu", net.conv(at, channels, channels))
    onnx.save(net.model(at), file)
    return file


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with a network, where tables go, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HWBENCH_TABLES", str(tmp_path / "tables"))
    chain(tmp_path / "net.onnx")
    yield tmp_path


@pytest.fixture
def tables(place: Path) -> tuple[Path, Path]:
    """The same network measured once, and a copy of that table."""
    assert 0 == run("profile", "--model", "net.onnx", *QUICK)
    first = place / "tables" / "host" / "onnxruntime-net.csv"
    table = LatencyTable.read(first)
    # What was noticed of this machine in these milliseconds is no matter of these tests.
    calm = replace(table, row={cell: replace(row, flags=()) for cell, row in table.row.items()})
    for stem in (first.with_suffix(""), place / "copy"):
        calm.write(stem)
    return first, place / "copy.csv"


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error; before it only phases may have been named."""
    *phases, error = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("error: ")
    assert set(phases) <= {"exporting", "measuring"}
    return error


def test_a_users_file_is_measured_block_by_block_and_whole(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table holds both; the screen shows the slowest blocks with bars and the residual of their sum."""
    assert 0 == run("profile", "--model", "net.onnx", *QUICK)
    out = capsys.readouterr().out
    assert "█" in out
    assert "residual" in out
    assert "predicted:declared" in out
    table = LatencyTable.read(place / "tables" / "host" / "onnxruntime-net")
    kinds = [row.kind for row in table.row.values()]
    assert 1 == kinds.count("network")
    assert 2 <= kinds.count("block")
    (parts,) = table.parts.values()
    assert 5 == sum(count for _, count in parts)
    assert all(row.peak_memory_mb for row in table.row.values())


def test_the_table_is_also_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but JSON on stdout, nothing on stderr."""
    assert 0 == run("profile", "--model", "net.onnx", "--json", *QUICK)
    out, err = capsys.readouterr()
    assert "" == err
    rows = json.loads(out)["rows"]
    assert {"measured"} == {row["latency_evidence"] for row in rows}
    assert {"predicted:declared"} == {row["energy_evidence"] for row in rows}


def test_a_plan_measures_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cells and time, no table."""
    assert 0 == run("profile", "--model", "net.onnx", "--plan")
    assert "about" in capsys.readouterr().out.splitlines()[-1]
    assert not (place / "tables").exists()


def test_targets_are_listed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also a broken one of one's own, with what is wrong."""
    (place / "targets").mkdir()
    (place / "targets" / "mine.toml").write_text("schema = 1\nname = 'mine'\ntitel = 'x'\n")
    assert 0 == run("targets")
    out = capsys.readouterr().out
    assert any(line.split()[:4] == ["host", "this", "machine's", "CPU;"] for line in out.splitlines())
    assert "did you mean 'title'" in out


def test_the_doctor_finds_what_is_wrong(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A board that cannot be opened is a finding with advice, not a traceback."""
    assert run("doctor", "--json") in (0, 1)  # a busy machine is a finding, too
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert "ok" == checks["runtime onnxruntime"]["state"]
    assert "ok" == checks["reach local"]["state"]
    (place / "targets").mkdir()
    text = (Path(__file__).parents[2] / "targets" / "host.toml").read_text()
    rails = 'kind = "files"\nrails = {total = "file:/nowhere"}\nunit = "mw"'
    broken = text.replace('name = "host"', 'name = "worse"', 1).replace('kind = "rapl"\noptional = true', rails)
    (place / "targets" / "worse.toml").write_text(broken)
    assert 1 == run("doctor", "--target", "worse")
    out = capsys.readouterr().out
    assert "FAIL" in out
    assert "/nowhere" in out


def test_equal_tables_do_not_differ_and_are_sound(
    tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Show, diff and check on a real table."""
    assert 0 == run("table", "diff", *map(str, tables))
    assert 0 == run("table", "check", str(tables[0]))
    assert 0 == run("table", "show", str(tables[0]))
    assert "measured" in capsys.readouterr().out
    assert 0 == run("table", "show")
    assert str(tables[0]) in capsys.readouterr().out


def test_batches_are_measured_with_any_network_that_allows_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blocks and whole, in a table of their own; what is made for one input says where."""
    assert 0 == run("profile", "--model", "net.onnx", "--batch", "4", *QUICK)
    table = LatencyTable.read(place / "tables" / "host" / "onnxruntime-net-batch4")
    assert {4} == {cell.setting.batch for cell in table.row}
    assert {"block", "network"} == {row.kind for row in table.row.values()}
    net = Net((1, 3, 16, 16))
    shape = net.constant(np.array([1, -1], dtype=np.int64))
    onnx.save(net.model(net.node("Reshape", net.conv("image", 3, 8), shape)), place / "one.onnx")
    capsys.readouterr()
    assert 4 == run("profile", "--model", "one.onnx", "--batch", "4", *QUICK)
    assert "fed 4 inputs at once" in capsys.readouterr().err


def test_a_precision_that_a_users_file_does_not_have_is_left_out_unless_asked_for(
    place: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A board offers int8 by default; a float file is measured in float, and told why not in more."""
    (place / "targets").mkdir()
    (place / "targets" / "desk.toml").write_text(
        'schema = 1\nname = "desk"\ntitle = "a desk"\nlink = [{ kind = "local" }]\n'
        '[[backend]]\nkind = "onnxruntime"\nunits = ["cpu"]\nprecisions = ["fp32", "int8"]\nthreads = [1]\n'
    )
    asked = ("profile", "--target", "desk", "--model", "net.onnx", *QUICK)
    assert 0 == run(*asked)
    assert "not measured in int8 (no onnx_int8)" in caplog.text
    table = LatencyTable.read(place / "tables" / "desk" / "onnxruntime-net")
    assert {"fp32"} == {cell.setting.precision for cell in table.row}
    assert 2 == run(*asked, "--precision", "int8")
    assert "no onnx_int8 artifact" in capsys.readouterr().err


def test_cells_that_fail_leave_the_table_of_the_others(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 4, and the rows that were measured are not lost."""
    net = Net((1, 3, 16, 16))
    shape = net.constant(np.array([1, 8, 16, 16], dtype=np.int64))
    fixed = net.node("Reshape", net.node("Relu", net.conv("image", 3, 8)), shape)
    onnx.save(net.model(net.node("Relu", net.conv(fixed, 8, 8))), place / "part.onnx")
    assert 4 == run("profile", "--model", "part.onnx", "--batch", "2", *QUICK)
    assert "could not be measured" in capsys.readouterr().err
    table = LatencyTable.read(place / "tables" / "host" / "onnxruntime-part-batch2")
    assert {"block"} == {row.kind for row in table.row.values()}


def test_a_table_that_lacks_a_block_is_shown_without_its_sum(
    tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A board may refuse a block alone and run the network all the same."""
    table = LatencyTable.read(tables[1])
    (network,) = [row for row in table.row.values() if row.kind == "network"]
    missing = table.parts[network.cell.block_key][0][0]
    rows = {cell: row for cell, row in table.row.items() if cell.block_key != missing}
    replace(table, row=rows, compositions=()).write(tables[1].with_suffix(""))
    capsys.readouterr()
    assert 0 == run("table", "show", str(tables[1]))
    assert network.cell.block_key in capsys.readouterr().out


def test_a_tables_rows_say_how_many_inputs_a_second(
    tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """One call after the other, so batch over latency, on the screen and as JSON."""
    capsys.readouterr()
    assert 0 == run("table", "show", str(tables[0]))
    assert "inputs/s" in capsys.readouterr().out
    assert 0 == run("table", "show", str(tables[0]), "--json")
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert all(row["inputs_per_s"] == pytest.approx(1000 / row["latency_ms"]["value"]) for row in rows)


def test_a_missing_row_is_a_finding(tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A row that was renamed or lost must not pass."""
    base, new = tables
    lines = new.read_text().splitlines(keepends=True)
    new.write_text("".join(lines[:1] + lines[2:]))
    assert 1 == run("table", "diff", str(base), str(new))
    out, err = capsys.readouterr()
    assert "missing" in out
    assert "1 of" in err


def test_another_board_is_inconclusive(tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Two boards' rows answer different questions: exit 3."""
    base, new = tables
    toml = new.with_suffix(".toml")
    toml.write_text(toml.read_text().replace("onnxruntime-", "").replace("boards = [", 'boards = [\n    "another",', 1))
    assert 3 == run("table", "diff", str(base), str(new))
    assert "board" in line(capsys)


def test_an_implausible_table_is_a_finding(tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A network far below one of its parts cannot be."""
    table = LatencyTable.read(tables[1])
    ((key, _),) = table.parts.items()
    text = tables[1].read_text().splitlines(keepends=True)
    at = next(i for i, entry in enumerate(text) if entry.startswith(key))
    cells = text[at].split(",")
    cells[7:10] = ["1e-06", "", ""]
    text[at] = ",".join(cells)
    tables[1].write_text("".join(text))
    assert 1 == run("table", "check", str(tables[1]))
    assert "faster than its part" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["profil"], 2, "did you mean 'profile'"),
        (["profile", "--target", "hots"], 2, "did you mean 'host'"),
        (["profile", "--space", "digist"], 2, "did you mean 'digits'"),
        (["profile", "--backend", "onxruntime", "--model", "net.onnx"], 2, "did you mean 'onnxruntime'"),
        (["profile", "--model", "nothing.onnx"], 2, "no such file"),
        (["profile", "--model", "net.onnx", "--space", "digits"], 2, "give one"),
        (["profile", "--model", "broken.onnx"], 2, "broken.onnx"),
        (["profile", "--model", "broken.tflite", "--backend", "litert"], 2, "broken.tflite"),
        (["profile", "--model", "text.txt"], 2, "text.txt"),
        (["profile", "--model", "net.onnx", "--precision", "fp8"], 2, "did you mean 'fp32'"),
        (["profile", "--model", "net.onnx", "--window", "-1"], 2, "more than 0 seconds"),
        (["profile", "--model", "net.onnx", "--sessions", "0"], 2, "sessions"),
        (["profile", "--model", "timm:resnet5000"], 2, "resnet5000"),
        (["table", "show", "nowhere.csv"], 2, "nowhere"),
        (["table", "validate", "--model", "net.onnx"], 2, "table"),
    ],
)
def test_wrong_input_is_one_line_that_names_it(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, says: str
) -> None:
    """What, where, what next; nothing else."""
    (place / "broken.onnx").write_bytes((place / "net.onnx").read_bytes()[:-100])
    (place / "broken.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 64)
    (place / "text.txt").write_text("hello")
    assert code == run(*words)
    assert says in line(capsys)


def test_a_truncated_store_is_named_and_kept(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the file; nothing is deleted."""
    folder = place / "runs" / "profile-host-onnxruntime-net"
    folder.mkdir(parents=True)
    (folder / "store.sqlite").write_bytes(b"SQLite format 3\0 and then nothing")
    assert 2 == run("profile", "--model", "net.onnx", "--resume", *QUICK)
    assert "store.sqlite" in line(capsys)
    assert (folder / "store.sqlite").exists()


def test_a_profile_killed_midway_goes_on_and_keeps_its_windows(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """kill -9, a refusal to start over by accident, then --resume: the windows of before are still the same."""
    argv = [sys.executable, "-m", "hwbench.cli", "profile", "--model", "net.onnx", "--sessions", "3", "--window", "0.3"]
    store = place / "runs" / "profile-host-onnxruntime-net" / "store.sqlite"
    with subprocess.Popen(argv, env={**os.environ}, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while windows(store) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    before = keys(store)
    assert 3 <= len(before) < 12
    assert 2 == run("profile", "--model", "net.onnx", *QUICK)
    assert "--resume" in line(capsys)
    assert 0 == run("profile", "--model", "net.onnx", "--sessions", "3", "--window", "0.3", "--resume")
    after = keys(store)
    assert before == {key: after[key] for key in before}
    assert len(after) == 3 * len(LatencyTable.read(place / "tables" / "host" / "onnxruntime-net").row)


def windows(store: Path) -> int:
    return len(keys(store))


def keys(store: Path) -> dict[str, str]:
    """Windows by key, with their content."""
    if not store.exists():
        return {}
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as database:
            return dict(database.execute("SELECT key, result FROM facts WHERE kind = 'window'"))
    except sqlite3.OperationalError:
        return {}
