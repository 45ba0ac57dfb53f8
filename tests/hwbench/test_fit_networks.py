"""hwbench.fit_networks and the command: synthetic boards of which the truth is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hwbench import command
from hwbench.cli import hwbench
from hwbench.errors import ConfigError
from hwbench.fit_networks import Judged, check, fit_networks, kendall
from hwbench.fitted_file import read_fitted, write_fitted
from hwbench.networks_file import Networks, read_networks
from models.decoders.nas_bench_201 import EDGES, OPS, decode

Board = Callable[[list[str], np.random.Generator], np.ndarray]


def names(count: int, rng: np.random.Generator) -> list[str]:
    """Different cells by name."""
    found: dict[str, None] = {}
    while len(found) < count:
        w = [f"{OPS[op]}~{source}" for op, (source, _) in zip(rng.integers(0, 5, 6), EDGES, strict=True)]
        found[f"|{w[0]}|+|{w[1]}|{w[2]}|+|{w[3]}|{w[4]}|{w[5]}|"] = None
    return list(found)


def additive(archs: list[str], rng: np.random.Generator) -> np.ndarray:
    """Costs of executed operations, with 1 % of noise."""
    (backward, *_) = decode(archs).readings
    return (2 + backward.counts @ np.array([0.1, 1.0, 3.0, 0.5, 0.2])) * rng.normal(1, 0.01, len(archs))


def fusing(archs: list[str], rng: np.random.Generator) -> np.ndarray:
    """Convolutions cost more side by side than counts can tell."""
    (backward, *_) = decode(archs).readings
    convolutions = (backward.places == 3).sum(axis=1)
    together = (backward.places[:, 3] == 3) & (backward.places[:, 5] == 3)
    return (2 + 0.5 * convolutions**2 + 4 * together) * rng.normal(1, 0.01, len(archs))


def measured(board: Board, count: int, rng: np.random.Generator) -> Networks:
    archs = names(count, rng)
    return Networks(family="nas-bench-201", archs=tuple(archs), values={"latency_ms": board(archs, rng)})


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


def test_kendall_is_the_share_of_pairs_in_order() -> None:
    """By hand: one of six pairs is out of order."""
    assert kendall(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])) == pytest.approx(4 / 6)
    assert np.isnan(kendall(np.ones(3), np.arange(3.0)))
    assert 1.0 == Judged.of(np.array([1.0, 2.04]), np.array([1.0, 2.0])).within_5


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
