"""Every figure of trtexec is read or refused, never guessed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwbench.agent import trtexec_output as output
from hwbench.agent.protocol import AgentError

FOLDER = Path(__file__).resolve().parents[2] / "recordings" / "trtexec"
VERSIONS = {"8.2.1": 40, "10.3.0": 41, "11.1.0": 50}


def recorded(version: str, what: str) -> str:
    """One recording."""
    return (FOLDER / f"{version}.{what}").read_text()


def window(log: str, times: str) -> tuple[output.Summary, list[output.Run]]:
    """Both, as a window reads them."""
    said, runs = output.summary(log), output.runs(times)
    output.agree(said, runs)
    return said, runs


@pytest.mark.parametrize("version", VERSIONS)
def test_log_and_times_of_each_version_are_read(version: str) -> None:
    """Version, count, and each run's time on the GPU."""
    said, runs = window(recorded(version, "log"), recorded(version, "times.json"))
    assert (version, VERSIONS[version]) == (said.version, said.queries)
    assert len(runs) == said.queries
    assert said.compute_ms[0] == min(run.compute_ms for run in runs)
    assert said.throughput * said.walltime_s == pytest.approx(said.queries, rel=1e-5)
    assert all(later.start_ms >= run.end_ms for run, later in pairwise(runs))


@pytest.mark.parametrize("version", VERSIONS)
def test_bindings_are_named_with_their_shapes(version: str) -> None:
    """Both ways of saying it."""
    inputs, outputs = output.bindings(recorded(version, "log"))
    assert [("image", [1, 3, 32, 32])] == inputs
    assert [("features", [1, 48, 8, 8]), ("logits", [1, 10]), ("score", [1])] == outputs


@pytest.mark.parametrize("version", VERSIONS)
def test_layers_of_each_version_are_read(version: str) -> None:
    """With the median that 8.2 does not give, and without."""
    layers = output.layers(recorded(version, "profile.json"))
    assert 6 == len(layers)
    assert all(layer.average_ms > 0 for layer in layers)


@pytest.mark.parametrize(
    ("number", "version"), [("8001", "8.0.1"), ("8601", "8.6.1"), ("100300", "10.3.0"), ("101301", "10.13.1")]
)
def test_both_ways_of_numbering_versions(number: str, version: str) -> None:
    """A thousand to the major until 9, ten thousand since 10."""
    assert version == output.version_of(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{number}] # trtexec --help\n")


def test_the_first_error_is_told() -> None:
    """What follows from it comes later in the log."""
    log = recorded("8.2.1", "log").replace(
        "[I] Starting inference", "[E] [TRT] no room\n[1] x\n[E] Inference set up failed"
    )
    assert "[TRT] no room" == output.last_error(log)
    assert "Illegal instruction" == output.last_error("Illegal instruction\n")


READERS: dict[str, Callable[[str], Any]] = {
    "log": output.summary,
    "times.json": output.runs,
    "profile.json": output.layers,
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", READERS)
def test_every_truncation_raises(version: str, what: str) -> None:
    """Also one that takes only the last newline."""
    text = recorded(version, what)
    for length in range(len(text)):
        with pytest.raises(AgentError):
            READERS[what](text[:length])


def mutated(text: str, data: st.DataObject) -> str:
    """One damage: a character changed, put in or lost, or a line lost, doubled or swapped with the next."""
    at = data.draw(st.integers(0, len(text) - 1))
    kind = data.draw(st.sampled_from(["change", "digit", "insert", "lose", "lose line", "double line", "swap lines"]))
    if kind in ("change", "insert", "digit"):
        letters = "0123456789.e-" if kind == "digit" else '0123456789.,:;-+eE "{}[]\n\tinfNa'
        letter = data.draw(st.sampled_from(letters))
        return text[:at] + letter + text[at + (kind != "insert") :]
    if kind == "lose":
        return text[:at] + text[at + data.draw(st.integers(1, 20)) :]
    lines = text.splitlines(keepends=True)
    number = text[:at].count("\n")
    if kind == "lose line":
        return "".join(lines[:number] + lines[number + 1 :])
    if kind == "double line":
        return "".join(lines[: number + 1] + lines[number:])
    swapped = lines[:number] + lines[number + 1 : number + 2] + lines[number : number + 1] + lines[number + 2 :]
    return "".join(swapped)


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_no_damage_changes_a_figure_unnoticed(data: st.DataObject) -> None:
    """What still passes says the same: every run's time, their number, the version; starts within what was printed."""
    version = data.draw(st.sampled_from(sorted(VERSIONS)))
    log, times = recorded(version, "log"), recorded(version, "times.json")
    said, runs = window(log, times)
    which = data.draw(st.sampled_from(["log", "times"]))
    try:
        new_said, new_runs = window(
            mutated(log, data) if which == "log" else log, mutated(times, data) if which == "times" else times
        )
    except AgentError as error:
        assert "\n" not in str(error)
        return
    assert (said.version, said.queries, said.compute_ms[:2]) == (
        new_said.version,
        new_said.queries,
        new_said.compute_ms[:2],
    )
    assert new_said.throughput == pytest.approx(said.throughput, rel=3e-5)
    assert new_said.walltime_s == said.walltime_s
    # With transfers a time may differ by what the rounding of its parts hides.
    assert sorted(r.compute_ms for r in new_runs) == pytest.approx(sorted(r.compute_ms for r in runs), rel=2e-5)
    assert sorted(r.start_ms for r in new_runs) == pytest.approx(sorted(r.start_ms for r in runs), rel=5e-5)


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_no_damage_changes_a_layers_time_unnoticed(data: st.DataObject) -> None:
    """Count, sums and shares are told twice."""
    text = recorded(data.draw(st.sampled_from(sorted(VERSIONS))), "profile.json")
    layers = output.layers(text)
    try:
        found = output.layers(mutated(text, data))
    except AgentError:
        return
    assert len(layers) == len(found)
    expected = sorted(layer.average_ms for layer in layers)
    assert sorted(layer.average_ms for layer in found) == pytest.approx(expected, rel=5e-5)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"computeMs" : ', '"computeMs" : -', "computeMs is -"),
        ('"computeMs" : ', '"computeMs" : null, "x" : ', "other keys"),
        ('"d2hMs" : ', '"d2hMs" : NaN, "x" : ', "NaN is no time"),
        ('"latencyMs" : ', '"h2dMs" : ', "stands twice"),
        ("[\n  {", "[\n  1, {", "not a list of records"),
    ],
)
def test_a_missing_number_is_never_zero(old: str, new: str, told: str) -> None:
    """Absent, null, negative and not a number are all errors that say what they are."""
    with pytest.raises(AgentError, match=told):
        output.runs(recorded("10.3.0", "times.json").replace(old, new, 1))
