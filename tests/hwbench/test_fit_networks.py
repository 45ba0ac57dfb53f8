"""hwbench.fit_networks and the command: synthetic boards of which the truth is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench import command
from hwbench.cli import hwbench
from hwbench.errors import ConfigError
from hwbench.evidence import Evidence
from hwbench.fit_networks import check, fit_networks
from hwbench.fitted_file import read_fitted, write_fitted
from hwbench.network_model import Source
from hwbench.networks_file import Networks, read_networks
from tests.doubles.cells import additive, eager, fusing, measured, names, rough, unlike


def _scaled(networks: Networks, factor: float) -> Networks:
    """The same on a board that is slower by a factor."""
    return replace(networks, values={m: v * factor for m, v in networks.values.items()})


def _csv(file: Path, networks: Networks) -> Path:
    """The file that `table fit` reads."""
    columns = [networks.archs, *(v.tolist() for v in networks.values.values())]
    rows = ("".join(f",{x}" for x in row) for row in zip(*columns, strict=True))
    file.write_text(f"family,arch,{','.join(networks.values)}\n" + "".join(f"nas-bench-201{r}\n" for r in rows))
    return file


def test_costs_of_operations_are_found(rng: np.random.Generator) -> None:
    """From whole networks alone; a sum needs no correction."""
    model = fit_networks(measured(additive, 200, rng), "latency_ms")
    assert "backward" == model.counts.reading
    assert model.correction is None
    assert model.counts.cost["nor_conv_3x3"] == pytest.approx(3, rel=0.05)
    assert model.error.mape < 1.5


def test_a_correction_is_kept_where_it_wins(rng: np.random.Generator) -> None:
    """On networks that it never saw, too."""
    model = fit_networks(measured(fusing, 200, rng), "latency_ms")
    other = measured(fusing, 500, np.random.default_rng(7))
    assert model.correction is not None
    assert model.error.mape < model.counts_error.mape / 2
    found = check(model, other)
    assert found.error.within_10 > 0.9
    assert 0.9 <= found.covered <= 0.99


def test_one_network_in_six_from_a_slow_machine_moves_nothing(rng: np.random.Generator) -> None:
    """A machine that was in another state now and then is a tail, not the cost of an operation."""
    networks = measured(additive, 180, rng)
    slowed = np.where(rng.random(180) < 1 / 6, 1.3, 1.0)
    model = fit_networks(
        Networks(
            family=networks.family, archs=networks.archs, values={"latency_ms": networks.values["latency_ms"] * slowed}
        ),
        "latency_ms",
    )
    other = measured(additive, 500, np.random.default_rng(7))
    assert np.median(np.abs(model.predict(other.archs).value / other.values["latency_ms"] - 1)) < 0.04


def test_what_cannot_run_is_predicted(rng: np.random.Generator) -> None:
    """A board whose compiler stumbles over convolutions of a pool."""

    def failing(archs: list[str], rng: np.random.Generator) -> np.ndarray:
        pooled = np.array(["|avg_pool_3x3~0|+" in a and "conv_3x3~1" in a for a in archs])
        return np.where(pooled, np.nan, additive(archs, rng))

    model = fit_networks(measured(failing, 300, rng), "latency_ms")
    found = check(model, measured(failing, 500, np.random.default_rng(7)))
    assert found.runs_right is not None
    assert found.runs_right > 0.97


def test_networks_unlike_those_measured_are_refused(rng: np.random.Generator) -> None:
    """Fitted without 3×3 convolutions, it does not answer for them."""
    archs = [a for a in names(400, rng) if "3x3" not in a.replace("avg_pool_3x3", "")]
    model = fit_networks(
        Networks(family="nas-bench-201", archs=tuple(archs), values={"latency_ms": additive(archs, rng)}), "latency_ms"
    )
    one = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert not model.predict([one]).known[0]
    assert model.predict([one.replace("3x3", "1x1")]).known[0]


def test_a_written_model_reads_as_it_was(rng: np.random.Generator, tmp_path: Path) -> None:
    """Predictions, intervals and figures."""
    model = fit_networks(measured(fusing, 120, rng), "latency_ms")
    file = write_fitted(tmp_path / "board", [model], source="x.csv", created="2026-01-01T00:00:00+00:00")
    (again,) = read_fitted(file)
    other = names(50, rng)
    np.testing.assert_allclose(again.predict(other).value, model.predict(other).value)
    np.testing.assert_allclose(again.predict(other).high, model.predict(other).high)
    assert (again.error, again.counts, again.valid) == (model.error, model.counts, model.valid)


def test_a_written_model_holds_the_boards_that_it_leans_on(rng: np.random.Generator, tmp_path: Path) -> None:
    """The file alone predicts, also where a source leaned on a third board; which were tried stands there, too."""
    first = Source(name="first", model=fit_networks(measured(fusing, 120, rng), "latency_ms"), origin="Li 2021")
    networks = replace(measured(fusing, 25, rng), evidence=Evidence(source="published"))
    second = Source(name="second", model=fit_networks(networks, "latency_ms", [first]))
    assert ("first",) == tuple(s.name for s in second.model.sources)
    model = fit_networks(measured(fusing, 25, rng), "latency_ms", [second])
    file = write_fitted(tmp_path / "board", [model], source="x.csv", created="2026-01-01T00:00:00+00:00")
    (again,) = read_fitted(file)
    other = names(50, rng)
    for field in ("value", "low", "high", "known"):
        np.testing.assert_allclose(getattr(again.predict(other), field), getattr(model.predict(other), field))
    assert (again.tried, again.counts, again.evidence) == (model.tried, model.counts, model.evidence)
    (inner,) = again.sources[0].model.sources
    assert ("Li 2021", "predicted:published") == (inner.origin, str(again.sources[0].model.evidence))


def test_a_file_of_the_first_schema_is_read(rng: np.random.Generator, tmp_path: Path) -> None:
    """It knew no other boards, and of cells as written it did not count `none`."""
    model = fit_networks(measured(eager, 60, rng), "latency_ms")
    cost = {op: value for op, value in model.counts.cost.items() if op != "none"}
    model = replace(model, counts=replace(model.counts, cost={**cost, "none": 0.0}))
    file = write_fitted(tmp_path / "board", [model], source="x.csv", created="2026-01-01T00:00:00+00:00")
    content = json.loads(file.read_text())
    content["schema"] = 1
    for section in content["model"]:
        del section["sources"], section["tried"], section["evidence"], section["composition"]["cost"]["none"]
    file.write_text(json.dumps(content))
    (again,) = read_fitted(file)
    other = names(50, rng)
    np.testing.assert_allclose(again.predict(other).value, model.predict(other).value)
    file.write_text(json.dumps(content | {"schema": 3}))
    with pytest.raises(ConfigError, match="schema 1 or 2"):
        read_fitted(file)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"schema": 2}', "", "{"])
def test_a_file_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    """However deep it nests."""
    file = tmp_path / "x.networks.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"x\.networks\.json"):
        read_fitted(file)


@pytest.mark.parametrize("key", ["archs", "model", "family"])
def test_a_file_with_other_parts_is_refused(key: str, rng: np.random.Generator, tmp_path: Path) -> None:
    """One clear line: never a prediction from half a model."""
    model = fit_networks(measured(fusing, 60, rng), "latency_ms")
    file = write_fitted(tmp_path / "board", [model], source="x.csv", created="2026-01-01T00:00:00+00:00")
    content = json.loads(file.read_text())
    content[key] = {"archs": content["archs"][1:], "model": [{}], "family": "fbnet"}[key]
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError):
        read_fitted(file)


def test_too_few_networks_are_refused(rng: np.random.Generator) -> None:
    """A fit that nothing judges is none."""
    with pytest.raises(ConfigError, match="needs 30"):
        fit_networks(measured(additive, 20, rng), "latency_ms")


def test_another_board_tells_what_twenty_networks_cannot(rng: np.random.Generator) -> None:
    """Two boards that fuse alike: the source is kept, and networks never seen are predicted as well as there."""
    board = Source(name="old", model=fit_networks(measured(fusing, 300, rng), "latency_ms"))
    networks = _scaled(measured(fusing, 20, np.random.default_rng(3)), 2.5)
    model = fit_networks(networks, "latency_ms", [board])
    (tried,) = model.tried
    assert tried.kept
    assert tried.beside.mape < tried.without.mape / 2
    assert "like old" in model.counts.cost
    found = check(model, _scaled(measured(fusing, 500, np.random.default_rng(7)), 2.5))
    assert found.refused < 10
    assert found.error.within_10 > 0.9


def test_a_source_that_tells_nothing_is_not_kept(rng: np.random.Generator) -> None:
    """A sum needs no other board, least of all one whose numbers are noise; yet it says what it would have gained."""

    board = Source(name="noise", model=fit_networks(measured(unlike, 60, rng), "latency_ms"))
    model = fit_networks(measured(additive, 20, rng), "latency_ms", [board])
    assert ("noise", False) == (model.tried[0].name, model.tried[0].kept)
    assert model.tried[0].without.mape == pytest.approx(model.counts_error.mape)
    assert () == model.sources
    assert "like noise" not in model.counts.cost


def test_the_better_of_two_sources_comes_first(rng: np.random.Generator) -> None:
    """Beside it the other has nothing left to tell."""
    good = Source(name="good", model=fit_networks(measured(fusing, 300, rng), "latency_ms"))
    poor = Source(name="poor", model=fit_networks(measured(additive, 60, rng), "latency_ms"))
    model = fit_networks(measured(fusing, 25, np.random.default_rng(3)), "latency_ms", [poor, good])
    assert [("poor", False), ("good", True)] == [(t.name, t.kept) for t in model.tried]


def test_a_source_of_other_evidence_weakens_the_prediction(rng: np.random.Generator) -> None:
    """Measured networks that lean on published ones predict what is published, as the weaker claim."""
    published = replace(measured(fusing, 200, rng), evidence=Evidence(source="published"))
    board = Source(name="old", model=fit_networks(published, "latency_ms"))
    model = fit_networks(measured(fusing, 20, np.random.default_rng(3)), "latency_ms", [board])
    assert "predicted:published" == str(model.evidence)


def test_intervals_of_few_networks_hold(rng: np.random.Generator) -> None:
    """Eleven networks and six costs: what lies beyond all errors seen is allowed for, on average over draws."""
    noisy = Source(name="noise", model=fit_networks(measured(unlike, 60, rng), "latency_ms"))
    other, covered = measured(rough, 500, np.random.default_rng(7)), []
    for seed in range(8):
        model = fit_networks(measured(rough, 11, np.random.default_rng(seed)), "latency_ms", [noisy])
        told = model.predict(other.archs)
        value = other.values["latency_ms"]
        covered.append(np.mean((value >= told.low) & (value <= told.high)))
    assert 0.94 <= np.mean(covered) <= 0.99


def test_ten_networks_are_enough_beside_another_board(rng: np.random.Generator) -> None:
    """Nine are not, and a board of another family tells nothing."""
    board = Source(name="old", model=fit_networks(measured(additive, 40, rng), "latency_ms"))
    assert 10 == fit_networks(measured(additive, 10, rng), "latency_ms", [board]).error.n
    with pytest.raises(ConfigError, match="needs 10"):
        fit_networks(measured(additive, 9, rng), "latency_ms", [board])
    fbnet = Networks(family="fbnet", archs=("0 " * 22,) * 10, values={"latency_ms": np.ones(10)})
    with pytest.raises(ConfigError, match="old is of nas-bench-201"):
        fit_networks(fbnet, "latency_ms", [board])


def test_the_command_fits_judges_and_predicts(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a CSV to figures on networks never seen, and to the prediction of one."""
    for name, count in (("a", 120), ("b", 100)):
        networks = measured(additive, count, rng)
        lines = [
            f"nas-bench-201,{a},{v!r}"
            for a, v in zip(networks.archs, networks.values["latency_ms"].tolist(), strict=True)
        ]
        (tmp_path / f"{name}.csv").write_text("family,arch,latency_ms\n" + "\n".join(lines) + "\n")
    words = ["table", "fit", "--networks", str(tmp_path / "a.csv"), "--validate", str(tmp_path / "b.csv")]
    assert 0 == command.run(hwbench, "hwbench", [*words, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["models"][0]["validated"]["error"]["mape"] < 2
    assert set(told["models"][0]["left_out"]) == {"mape", "rmse", "spearman", "kendall", "within_5", "within_10", "n"}
    assert 0 == command.run(hwbench, "hwbench", words)
    assert "networks it never saw" in capsys.readouterr().out
    assert 0 == command.run(hwbench, "hwbench", ["table", "predict", told["file"], measured(additive, 1, rng).archs[0]])
    assert "latency_ms" in capsys.readouterr().out
    assert 2 == command.run(hwbench, "hwbench", ["table", "predict", told["file"], "what"])


def test_a_source_may_not_be_the_board_itself(rng: np.random.Generator) -> None:
    """It would know every network that it is judged by; measured once more, or on another board, it may be."""
    networks = measured(rough, 40, rng)
    itself = Source(name="itself", model=fit_networks(networks, "latency_ms"))
    with pytest.raises(ConfigError, match="itself was fitted to the same measurements"):
        fit_networks(networks, "latency_ms", [itself])
    assert ("itself",) == tuple(t.name for t in fit_networks(_scaled(networks, 1.01), "latency_ms", [itself]).tried)


def test_the_command_transfers_from_other_boards(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two files of one name are told apart by their folders; what each gained is said, and the result stands alone."""
    for board, of in (("pi", fusing), ("coral", additive)):
        (tmp_path / board).mkdir()
        networks = _csv(tmp_path / board / "cells.csv", measured(of, 120, rng))
        assert 0 == command.run(hwbench, "hwbench", ["table", "fit", "--networks", str(networks)])
    new = _csv(tmp_path / "new.csv", measured(fusing, 20, rng))
    words = ["table", "fit", "--networks", str(new), "--from", str(tmp_path / "pi" / "cells")]
    words += ["--from", str(tmp_path / "coral" / "cells.networks.json")]
    capsys.readouterr()
    assert 0 == command.run(hwbench, "hwbench", words)
    out = capsys.readouterr().out
    assert "pi/cells beside, left out: mape" in out
    assert ": kept" in out
    assert "coral/cells beside" in out
    assert "not kept, no clear gain" in out
    assert 0 == command.run(hwbench, "hwbench", [*words, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [("pi/cells", True), ("coral/cells", False)] == [
        (t["name"], t["kept"]) for t in told["models"][0]["sources"]
    ]
    for board in ("pi", "coral"):
        (tmp_path / board / "cells.networks.json").unlink()
    assert 0 == command.run(hwbench, "hwbench", ["table", "predict", told["file"], measured(fusing, 1, rng).archs[0]])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "fbnet.networks.json"], "fitted to fbnet, the networks to fit are nas-bench-201"),
        (["--from", "energy.networks.json"], "has energy_mj, the networks to fit have latency_ms"),
        (["--from", "missing.networks.json"], "missing.networks.json: cannot be read"),
        (["--from", "new.csv"], "new.csv: cannot be read"),
        (["--from", "energy", "--from", "energy.networks.json"], "2 files are called"),
        ([], "needs 30, or 10 and --from a fit of another board"),
    ],
)
def test_a_source_that_does_not_fit_is_one_line(
    words: list[str],
    said: str,
    tmp_path: Path,
    rng: np.random.Generator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another family, another metric, no such file, the same one twice; exit 2."""
    monkeypatch.chdir(tmp_path)
    new = measured(additive, 40, rng)
    energy = Networks(family=new.family, archs=new.archs, values={"energy_mj": new.values["latency_ms"]})
    layers = [" ".join(map(str, row)) for row in rng.integers(0, 9, (40, 22))]
    fbnet = Networks(family="fbnet", archs=tuple(layers), values={"latency_ms": rng.uniform(1, 2, 40)})
    for name, networks in (("energy", energy), ("fbnet", fbnet)):
        model = fit_networks(networks, next(iter(networks.values)))
        write_fitted(tmp_path / name, [model], source="x.csv", created="2026-01-01T00:00:00+00:00")
    _csv(tmp_path / "new.csv", measured(additive, 20, rng))
    assert 2 == command.run(hwbench, "hwbench", ["table", "fit", "--networks", "new.csv", *words])
    error = capsys.readouterr().err
    assert said in error
    assert 1 == len(error.strip().splitlines())


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        (None, "predicted:measured"),
        ('[source]\nevidence = "published"\nsource = "Li 2021"\n', "predicted:published"),
        ('[source]\nevidence = "simulated"\n', "predicted:simulated"),
    ],
)
def test_a_prediction_says_what_it_was_fitted_on(
    beside: str | None, expected: str, tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the file beside the networks says, which an import writes; without one the user measured them."""
    networks = measured(additive, 60, rng)
    rows = zip(networks.archs, networks.values["latency_ms"].tolist(), strict=True)
    file = tmp_path / "board.csv"
    file.write_text("family,arch,latency_ms\n" + "".join(f"nas-bench-201,{a},{v!r}\n" for a, v in rows))
    if beside is not None:
        file.with_suffix(".source.toml").write_text(beside)
    assert 0 == command.run(hwbench, "hwbench", ["table", "fit", "--networks", str(file), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert expected == told["models"][0]["evidence"]
    assert 0 == command.run(hwbench, "hwbench", ["table", "predict", told["file"], networks.archs[0]])
    assert expected in capsys.readouterr().out
    assert ("Li 2021" if beside and "Li" in beside else "board.csv") == json.loads(Path(told["file"]).read_text())[
        "source"
    ]


@pytest.mark.parametrize("beside", ["", "[source]\nevidence = 3", '[source]\nevidence = "guessed"', "[", "source = 1"])
def test_a_source_that_says_nothing_is_refused(beside: str, tmp_path: Path) -> None:
    """Rather than called a measurement."""
    file = tmp_path / "board.csv"
    file.write_text("family,arch,latency_ms\nnas-bench-201,a,1\n")
    file.with_suffix(".source.toml").write_text(beside)
    with pytest.raises(ConfigError, match=r"board.source.toml"):
        read_networks(file)


def test_the_help_shows_a_file_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    """So that nobody has to look elsewhere."""
    assert 0 == command.run(hwbench, "hwbench", ["table", "fit", "--help"])
    out = capsys.readouterr().out
    assert "family,arch,latency_ms" in out
    assert "hwbench table fit --networks" in out
