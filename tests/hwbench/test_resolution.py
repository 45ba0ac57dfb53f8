"""Which slowdowns a machine can tell: the arithmetic against drawn gates, and one real look."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hwbench import command
from hwbench.cli import hwbench
from hwbench.errors import ConfigError
from hwbench.gate_rule import Docket, Rule, paired
from hwbench.noise import Noise
from hwbench.resolution import CHANGES, Resolution, Resolved, lines, resolve, sessions_needed
from hwbench.target_file import find_target

GATES = 400
# The gate's trimmed mean of normal values strays so much more than their plain mean.
TRIMMED = 1.09


@pytest.mark.parametrize(("change", "stray"), [(0.03, 0.01), (0.03, 0.03), (0.10, 0.05)])
def test_so_many_sessions_find_it_in_most_gates(change: float, stray: float) -> None:
    """Of 400 drawn gates of one row 92 to 100 % find it; with half of the sessions clearly fewer."""
    rng = np.random.default_rng(5)
    rule = Rule(threshold=change / 3, max_slowdown=change)

    def found(sessions: int) -> float:
        hits = 0
        for _ in range(GATES):
            base = np.exp(rng.normal(0, 0.2, sessions))
            docket = Docket(rule=rule)
            effect = paired(base, base * np.exp(rng.normal(np.log1p(change), stray, sessions)))
            assert effect is not None
            docket.hear({0: effect})
            hits += docket.verdicts[0] == "regression"
        return hits / GATES

    needed = sessions_needed(change, TRIMMED * stray, rule)
    assert needed is not None
    assert 0.92 <= found(needed)
    assert found(max(3, needed // 2)) < 0.85


def test_more_noise_takes_more_sessions_until_none_do() -> None:
    """Never fewer; a machine that strays by half tells 1 % never."""
    needed = [sessions_needed(0.03, stray, Rule()) for stray in (0.001, 0.005, 0.02, 0.08)]
    assert needed == sorted(needed, key=lambda n: n or 0)
    assert 4 == needed[0]
    assert sessions_needed(0.01, 0.5, Rule()) is None
    told = Resolved(
        sessions=6, stray_percent=50.0, session_s=1.0, grade="D", noise=Noise(steal_percent=3.0),
        resolutions=(Resolution(change=0.01, sessions=None, seconds=None),),
    )  # fmt: skip
    assert "cannot be told here" in "\n".join(lines("host", told))


def test_a_look_at_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """Six real sessions; every change has its sessions and its time."""
    assert 0 == command.run(hwbench, "hwbench", ["doctor", "--noise", "--seconds", "1", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["sessions"] >= 6
    assert 0 < told["stray_percent"] < 500
    assert list(CHANGES) == [r["change"] for r in told["resolutions"]]
    for one in told["resolutions"]:
        assert (one["sessions"] is None) == (one["seconds"] is None)


def test_a_simulated_board_has_nothing_to_resolve() -> None:
    """Said in one line, before anything is made."""
    with pytest.raises(ConfigError, match="coral is simulated"):
        resolve(find_target("coral").simulated(), seconds=1)


def test_a_board_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """As for every command."""
    assert 4 == command.run(hwbench, "hwbench", ["doctor", "--noise", "--target", "coral", "--host", "nobody.invalid"])
    assert "cannot connect" in capsys.readouterr().err.splitlines()[-1]
