"""What `trtexec` says: its log, `--exportTimes` and `--exportProfile`, of TensorRT 8 to 11.

Nothing is taken on trust that is told twice: counts, sums and the summary must agree with each other, so that a file
cut short or damaged is an error and never a number.
Source: the formats that samples/common/{sampleReporting,logging}.cpp of the TensorRT OSS releases 8.2.1 to 11.1 print.
"""

import json
import math
import re
from typing import Any, Dict, List, Mapping, NamedTuple, NoReturn, Optional, Sequence, Tuple

from hwbench.agent.protocol import AgentError

# Numbers are printed with six significant digits, so one is off by half a unit of the sixth at most.
_HALF_UNIT = 5e-6
# The tool adds in float32; a mean over thousands of runs is off by more than its last printed digit.
_MEAN_SLACK = 1e-4
_SPANS = (
    ("startH2dMs", "endH2dMs", "h2dMs"),
    ("startComputeMs", "endComputeMs", "computeMs"),
    ("startD2hMs", "endD2hMs", "d2hMs"),
)
_RUN_KEYS = {key for span in _SPANS for key in span} | {"startEnqMs", "endEnqMs", "latencyMs"}
_LAYER_KEYS = {"name", "timeMs", "averageMs", "percentage"}
_NUMBER = r"([0-9.eE+-]+)"
_BANNER = re.compile(r"&&&& (RUNNING|PASSED|FAILED) (TensorRT\.trtexec \[TensorRT v([0-9]{4,6})\].*)")
_PREFIX = re.compile(r"\[[0-9]{2}/[0-9]{2}/[0-9]{4}-[0-9]{2}:[0-9]{2}:[0-9]{2}\] \[([VIWEF])\] ?(.*)")
_BINDING = re.compile(r"(?:Created )?([Ii]nput|[Oo]utput) binding for (.+) with dimensions ([0-9x]*)(?: is created\.)?")


class Run(NamedTuple):
    """One run in milliseconds since the inference began: GPU time and when it started."""

    start_ms: float
    end_ms: float
    compute_ms: float
    latency_ms: float


class Summary(NamedTuple):
    """What the log says of a window.

    compute_ms: min, max, mean, median of the GPU's time.  walltime_s: from the first query to the end of the last.
    """

    version: str
    queries: int
    throughput: float
    compute_ms: Tuple[float, float, float, float]
    walltime_s: float


class Layer(NamedTuple):
    """One layer of a profile: its mean time over all runs."""

    name: str
    average_ms: float


def version_of(log: str) -> str:
    """`8.2.1` of `[TensorRT v8201]`; AgentError where the log does not begin as trtexec's does."""
    found = [match for match in (_BANNER.fullmatch(line) for line in log.splitlines()) if match]
    if not found:
        _bad("log", "no line says `&&&& RUNNING TensorRT.trtexec [TensorRT v…]`")
    number = int(found[0].group(3))
    # Until version 9 a thousand to the major, since 10 ten thousand.
    major, rest = divmod(number, 1000) if number < 10000 else divmod(number, 10000)
    return "{}.{}.{}".format(major, *divmod(rest, 100))


def last_error(log: str) -> str:
    """The first error that the log names, in one line: what follows from it comes after."""
    for line in log.splitlines():
        found = _PREFIX.fullmatch(line.strip())
        if found and found.group(1) in "EF" and found.group(2).strip():
            return " ".join(found.group(2).split())
    lines = [" ".join(line.split()) for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def passed(log: str) -> bool:
    """Whether the log ends as that of a whole, successful run, with the command it began with."""
    found = [match for match in (_BANNER.fullmatch(line) for line in log.splitlines()) if match]
    return (
        len(found) == 2
        and [m.group(1) for m in found] == ["RUNNING", "PASSED"]
        and found[0].group(2) == found[1].group(2)
        and log.endswith(found[1].group(0) + "\n")
    )


def bindings(log: str) -> Tuple[List[Tuple[str, List[int]]], List[Tuple[str, List[int]]]]:
    """(inputs, outputs): name and shape of each that the log says it made."""
    found: Tuple[List[Tuple[str, List[int]]], List[Tuple[str, List[int]]]] = ([], [])
    for text in _said(log):
        match = _BINDING.fullmatch(text)
        if match:
            shape = [int(n) for n in match.group(3).split("x") if n]
            found[match.group(1).lower() == "output"].append((match.group(2), shape))
    if not found[0] or not found[1]:
        _bad("log", "it names no input or no output")
    return found


def summary(log: str) -> Summary:
    """The figures of a window's log; AgentError when one is missing, told twice or contradicts another."""
    if not passed(log):
        _bad("log", "it does not end with the line `&&&& PASSED` of the command it began with")
    version = version_of(log)
    said = _said(log)
    if _one(said, r"TensorRT version: ([0-9.]+)", "TensorRT version") != (version,):
        _bad("log", "two versions of TensorRT")
    queries, trace_s = _one(said, "Timing trace has ([0-9]+) queries over " + _NUMBER + " s", "Timing trace")
    (throughput,) = _one(said, "Throughput: " + _NUMBER + " qps", "Throughput")
    compute = _one(
        said,
        "GPU Compute Time: min = {0} ms, max = {0} ms, mean = {0} ms, median = {0} ms(?:, percentile.*)?".format(
            _NUMBER
        ),
        "GPU Compute Time",
    )
    (wall_s,) = _one(said, "Total Host Walltime: " + _NUMBER + " s", "Total Host Walltime")
    (total_s,) = _one(said, "Total GPU Compute Time: " + _NUMBER + " s", "Total GPU Compute Time")
    low, high, mean, median = (_positive(n, "GPU Compute Time") for n in compute)
    found = Summary(
        version=version,
        queries=int(queries),
        throughput=_positive(throughput, "Throughput"),
        compute_ms=(low, high, mean, median),
        walltime_s=_positive(wall_s, "Total Host Walltime"),
    )
    if wall_s != trace_s:
        _bad("log", "the trace took {} s and {} s".format(trace_s, wall_s))
    _agree("Throughput", found.throughput * found.walltime_s, found.queries, 2 * _HALF_UNIT)
    _agree("Total GPU Compute Time", 1e3 * _positive(total_s, "Total"), mean * found.queries, 2 * _HALF_UNIT)
    if not low <= median <= high or not low * (1 - _MEAN_SLACK) <= mean <= high * (1 + _MEAN_SLACK):
        _bad("log", "mean and median of the GPU Compute Time lie outside its range")
    return found


def runs(text: str) -> List[Run]:
    """The runs of an `--exportTimes` file; AgentError when it is no whole file, or times contradict each other."""
    found = []
    for record in _records(text, "times"):
        if set(record) - {"endToEndMs"} != _RUN_KEYS:
            _bad("times", "a run has other keys: {}".format(", ".join(sorted(record))))
        told = {key: _number(record[key], key) for key in record}
        for start, end, span in _SPANS:
            _span(told, start, end, span)
        if "endToEndMs" in told:
            _span(told, "startH2dMs", "endD2hMs", "endToEndMs")
        if told["endEnqMs"] < told["startEnqMs"]:
            _bad("times", "a run was enqueued before it was")
        parts = told["h2dMs"] + told["computeMs"] + told["d2hMs"]
        slack = 0.0 if told["h2dMs"] == told["d2hMs"] == 0 else 4 * _unit(parts)
        if abs(told["latencyMs"] - parts) > slack:
            _bad("times", "a latency of {} ms is not the sum of its parts".format(told["latencyMs"]))
        if not told["computeMs"] > 0:
            _bad("times", "a run of {} ms".format(told["computeMs"]))
        found.append(Run(told["startComputeMs"], told["endComputeMs"], told["computeMs"], told["latencyMs"]))
    return found


def agree(said: Summary, measured: Sequence[Run]) -> None:
    """AgentError unless log and times are of the same window."""
    if said.queries != len(measured):
        _bad("times", "{} runs, the log says {}".format(len(measured), said.queries))
    times = sorted(run.compute_ms for run in measured)
    middle = len(times) // 2
    median = times[middle] if len(times) % 2 else (times[middle - 1] + times[middle]) / 2
    low, high, mean, told_median = said.compute_ms
    if (low, high) != (times[0], times[-1]):
        _bad("times", "from {} to {} ms, the log says {} to {} ms".format(times[0], times[-1], low, high))
    _agree("median", told_median, median, 4 * _HALF_UNIT)
    _agree("mean", mean, sum(times) / len(times), _MEAN_SLACK)


def layers(text: str) -> List[Layer]:
    """The layers of an `--exportProfile` file; AgentError when it is no whole file, or its sums are wrong."""
    records = _records(text, "profile")
    if set(records[0]) != {"count"} or type(records[0]["count"]) is not int or records[0]["count"] < 1:
        _bad("profile", "it does not begin with its count")
    count, found = records[0]["count"], records[1:]
    if not found:
        _bad("profile", "no layers")
    for record in found:
        if set(record) - {"medianMs"} != _LAYER_KEYS or not isinstance(record["name"], str) or not record["name"]:
            _bad("profile", "a layer has other keys: {}".format(", ".join(sorted(record))))
    if len({"medianMs" in record for record in found}) != 1:
        _bad("profile", "some layers have a median, some do not")
    names = [str(record["name"]) for record in found]
    if len(set(names)) != len(names):
        _bad("profile", "a layer stands twice")
    times = [_number(record["timeMs"], "timeMs") for record in found]
    total = math.fsum(times)
    if not total > 0:
        _bad("profile", "no layer took any time")
    for record, time_ms in zip(found, times):
        average = _number(record["averageMs"], "averageMs")
        _number(record.get("medianMs", 0), "medianMs")
        _agree("averageMs", average * count, time_ms, 4 * _HALF_UNIT)
        _agree("percentage", _number(record["percentage"], "percentage"), 100 * time_ms / total, _MEAN_SLACK)
    return [Layer(name, _number(record["averageMs"], "averageMs")) for name, record in zip(names, found)]


def _said(log: str) -> List[str]:
    found = [_PREFIX.fullmatch(line) for line in log.splitlines()]
    return [match.group(2).strip() for match in found if match]


def _one(said: Sequence[str], pattern: str, name: str) -> Tuple[str, ...]:
    found = [match for match in (re.fullmatch(pattern, text) for text in said) if match]
    if len(found) != 1:
        _bad("log", "{} lines tell the {}".format(len(found) or "no", name))
    return found[0].groups()


def _records(text: str, what: str) -> List[Dict[str, Any]]:
    # The last character is a newline: without it somebody cut the file, even where JSON would be whole.
    if not text.endswith("]\n"):
        _bad(what, "the file is cut short")
    try:
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except ValueError as error:
        raise AgentError("runtime", "trtexec's {}: {}".format(what, error)) from error
    if not isinstance(found, list) or not found or not all(isinstance(record, dict) for record in found):
        _bad(what, "not a list of records")
    return list(found)


def _once(pairs: Sequence[Tuple[str, Any]]) -> Dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _no_constant(text: str) -> float:
    raise ValueError("{} is no time".format(text))


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        _bad("file", "{} is {!r}".format(name, value))
    return float(value)


def _positive(text: str, name: str) -> float:
    try:
        value: Optional[float] = float(text)
    except ValueError:
        value = None
    if value is None or not math.isfinite(value) or value <= 0:
        _bad("log", "{} is {!r}".format(name, text))
    return value


def _span(told: Mapping[str, float], start: str, end: str, span: str) -> None:
    slack = _unit(told[start]) + _unit(told[end]) + _unit(told[span])
    if abs(told[end] - told[start] - told[span]) > slack:
        _bad("times", "{} is {}, from {} to {}".format(span, told[span], told[start], told[end]))


def _unit(value: float) -> float:
    """How far a number may be from what was printed with six digits."""
    return 0.0 if value == 0 else 0.5 * 10.0 ** (math.floor(math.log10(abs(value))) - 5) * (1 + 1e-9) + 1e-12


def _agree(name: str, one: float, other: float, slack: float) -> None:
    if not abs(one - other) <= slack * max(abs(one), abs(other)) * (1 + 1e-9):
        _bad("output", "two figures for the {}: {:g} and {:g}".format(name, one, other))


def _bad(what: str, why: str) -> NoReturn:
    raise AgentError("runtime", "trtexec's {}: {}".format(what, why))
