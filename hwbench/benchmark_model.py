"""Reads what TensorFlow Lite's `benchmark_model` prints, each line behind the board's uptime in seconds.

The tool keeps the single runs to itself and prints figures of them. It goes on after flags that it does not know and
after runs that failed, and says so in passing; here that is an error, as is every figure that disagrees with another.
Format: `tensorflow/lite/tools/benchmark` (benchmark_model.cc, benchmark_tflite_model.cc) and `stats_calculator.h` of
TensorFlow 2.x, with and without percentiles, with and without `INFO:` before a line. Numbers have six digits, so
`avg=1.05478e+06` happens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hwbench.errors import PermanentDeviceError

_NUMBER = r"(?:0|[1-9]\d*)(?:\.\d+)?(?:e[+-]\d{2,3})?"
_WHOLE = r"0|[1-9]\d*"
_STAMPED = re.compile(r"((?:0|[1-9]\d*)\.\d\d) (.*)")
_LEVEL = re.compile(r"(?:INFO|VERBOSE|WARN|WARNING): ")
_ENDED = re.compile(rf"exit ({_WHOLE})")
_PHASE = re.compile(
    rf"Running benchmark for at least ({_WHOLE}) iterations and at least ({_NUMBER}) seconds"
    rf"(?: but terminate if exceeding ({_NUMBER}) seconds)?\."
)
_FIGURES = re.compile(
    rf"count=({_WHOLE}) first=({_WHOLE}) curr=({_WHOLE}) min=({_WHOLE}) max=({_WHOLE}) avg=({_NUMBER}) std=({_NUMBER})"
    rf"(?: p5=({_WHOLE}) median=({_WHOLE}) p95=({_WHOLE}))?"
)
_ALL_SAME = re.compile(rf"count=({_WHOLE}) curr=({_WHOLE})(\(all same\))?(?: p5=\2 median=\2 p95=\2)?")
_INIT = re.compile(rf"Initialized session in ({_NUMBER})ms\.?")
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: ({_WHOLE}), First inference: ({_WHOLE}), "
    rf"Warmup \(avg\): ({_NUMBER}), Inference \(avg\): ({_NUMBER})"
)
_DELEGATED = re.compile(
    r"Explicitly applied (\w+) delegate, and the model graph will be (?:(completely) executed by the delegate\.|"
    rf"(partially) executed by the delegate w/ ({_WHOLE}) delegate kernels\.)"
)
_NOT_DELEGATED = re.compile(
    r"Though (\w+) delegate is explicitly applied, the model graph will not be executed by the delegate\."
)
_LOADED = re.compile(r"Loaded model (.+)")
_MEMORY = re.compile(
    r"(?:Memory footprint delta from the start of the tool|Peak memory footprint) \(MB\): "
    rf"init=({_NUMBER}) overall=({_NUMBER})"
)
# What the tool or the runtime prints and goes on, or ends with. Drivers complain of much that does not matter here.
_COMPLAINT = re.compile(
    r"(ERROR: .*|Unconsumed cmdline flags: .*|Benchmarking failed.*|Disallowed CPU fallback detected.*"
    r"|Failed to (?:allocate|apply|construct|create|init|invoke|load|mmap|parse|prepare|resize).*)"
)
# A line that looks like one of those that count must be one, or a damaged figure would go unseen.
_COUNTS = re.compile(
    r".*(?:Running benchmark|count=|Initialized session|Inference timings|model graph will|Loaded model"
    r"|Memory footprint delta|^Peak memory)"
)
_READ = (_PHASE, _FIGURES, _ALL_SAME, _INIT, _TIMINGS, _DELEGATED, _NOT_DELEGATED, _LOADED, _MEMORY)
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is told of the runs of one phase, in µs; the percentiles only by newer tools."""

    count: int
    first_us: int
    last_us: int
    min_us: int
    max_us: int
    mean_us: float
    std_us: float
    p5_us: int | None = None
    median_us: int | None = None
    p95_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Warm-up or measurement: what was asked, when it began and ended (s of uptime), what came out."""

    least_runs: int
    least_s: float
    most_s: float | None
    start_s: float
    end_s: float
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """How much of the graph a delegate runs: `completely`, `partially` (in so many kernels) or `not`."""

    delegate: str
    share: str
    kernels: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One call of the tool that ended well.

    model: the file it says it loaded.  memory_bytes: what loading and running added; None where nothing was seen.
    """

    model: str
    init_ms: float
    warmup: Phase
    runs: Phase
    delegations: tuple[Delegation, ...]
    memory_bytes: int | None


def parse(text: str) -> Report:
    """The report of one call, from its output line by line as `UPTIME LINE`, the last `UPTIME exit STATUS`.

    Raises PermanentDeviceError for a call that failed, complained, was cut short, or whose figures disagree.
    """
    lines = _lines(text)
    _check_complaints([line for _, line in lines])
    phases = _phases(lines)
    init = _only(_INIT, lines)
    timings = _only(_TIMINGS, lines)
    warmup, runs = phases
    # Equal runs are told exactly there and with six digits here.
    told = (int(timings[1]) / 1e3, float(timings[2]), float(timings[3]), float(timings[4]))
    found = (float(init[1]), warmup.figures.first_us, warmup.figures.mean_us, runs.figures.mean_us)
    if [f"{value:g}" for value in told] != [f"{value:g}" for value in found] or told[1] != found[1]:
        raise _disagree(timings[0])
    return Report(
        model=_only(_LOADED, lines)[1],
        init_ms=float(init[1]),
        warmup=warmup,
        runs=runs,
        delegations=_delegations(lines),
        memory_bytes=_memory(lines),
    )


def complaint(text: str) -> str | None:
    """The first line by which the tool says that something went wrong; None where there is none."""
    for line in text.splitlines():
        stamped = _STAMPED.fullmatch(line)
        found = _COMPLAINT.match(_LEVEL.sub("", stamped[2] if stamped else line, count=1))
        if found is not None:
            return found[1]
    return None


def _lines(text: str) -> list[tuple[float, str]]:
    """(uptime, line without its level) of all lines but the last, which must say that the tool ended well."""
    if not text.endswith("\n"):
        raise PermanentDeviceError("benchmark_model: its output is cut short")
    lines: list[tuple[float, str]] = []
    for line in text[:-1].split("\n"):
        stamped = _STAMPED.fullmatch(line)
        if stamped is None:
            raise PermanentDeviceError(f"benchmark_model: no uptime before {line[:80]!r}")
        at_s = float(stamped[1])
        if lines and at_s < lines[-1][0]:
            raise PermanentDeviceError(f"benchmark_model: the board's uptime went back before {stamped[2][:80]!r}")
        lines.append((at_s, _LEVEL.sub("", stamped[2], count=1)))
    ended = _ENDED.fullmatch(lines.pop()[1])
    if ended is None:
        raise PermanentDeviceError("benchmark_model: its output is cut short")
    if int(ended[1]) != 0:
        said = [line for _, line in lines if line]
        why = complaint(text) or (said[-1][:200] if said else "it printed nothing")
        raise PermanentDeviceError(f"benchmark_model: it ended with status {ended[1]}: {why}")
    return lines


def _check_complaints(lines: Sequence[str]) -> None:
    for line in lines:
        found = _COMPLAINT.match(line)
        if found is not None:
            raise PermanentDeviceError(f"benchmark_model: {found[1][:200]}")
        if _COUNTS.match(line) and not any(pattern.fullmatch(line) for pattern in _READ):
            raise PermanentDeviceError(f"benchmark_model: cannot read {line[:200]!r}")


def _only(pattern: re.Pattern[str], lines: Sequence[tuple[float, str]]) -> re.Match[str]:
    found = [match for _, line in lines if (match := pattern.fullmatch(line))]
    if len(found) != 1:
        what = re.split(r"[:(\[]", pattern.pattern)[0].strip()
        raise PermanentDeviceError(f"benchmark_model: {len(found) or 'no'} lines {what!r} where one is due; cut short?")
    return found[0]


def _phases(lines: Sequence[tuple[float, str]]) -> tuple[Phase, Phase]:
    """Warm-up and measurement: two announcements, each followed by its figures."""
    found: list[Phase] = []
    announced: tuple[float, re.Match[str]] | None = None
    for at_s, line in lines:
        if match := _PHASE.fullmatch(line):
            if announced is not None:
                raise PermanentDeviceError("benchmark_model: a phase has no figures")
            announced = at_s, match
        elif line.startswith("count="):
            if announced is None:
                raise PermanentDeviceError(f"benchmark_model: no phase for {line!r}")
            found.append(_phase(*announced, at_s, line))
            announced = None
    if len(found) != 2 or announced is not None:
        raise PermanentDeviceError(f"benchmark_model: {len(found)} phases with figures, expected 2")
    return found[0], found[1]


def _phase(start_s: float, asked: re.Match[str], end_s: float, line: str) -> Phase:
    figures = _figures(line)
    least_runs, least_s = int(asked[1]), float(asked[2])
    most_s = None if asked[3] is None else float(asked[3])
    total_s = figures.count * figures.mean_us / 1e6
    # It goes on while there are too few runs or too little time, but begins no run after the longest time.
    before_last_s = total_s - figures.last_us / 1e6
    rounding_s = 2e-5 * total_s
    too_few = figures.count < least_runs and (most_s is None or total_s < 0.5 * most_s)
    too_many = figures.count > least_runs and before_last_s > least_s + rounding_s
    too_long = most_s is not None and before_last_s > most_s + rounding_s
    # The clock that stamps the lines is read by another process, which may come late.
    impossible = total_s > 1.25 * (end_s - start_s) + 0.5
    if too_few or too_many or too_long or impossible:
        raise _disagree(line)
    return Phase(least_runs=least_runs, least_s=least_s, most_s=most_s, start_s=start_s, end_s=end_s, figures=figures)


def _figures(line: str) -> Figures:
    if same := _ALL_SAME.fullmatch(line):
        count, value = int(same[1]), int(same[2])
        if count < 1 or value < 1 or (count > 1) != bool(same[3]):
            raise _disagree(line)
        alike = dict.fromkeys(("first_us", "last_us", "min_us", "max_us", "p5_us", "median_us", "p95_us"), value)
        return Figures(count=count, mean_us=float(value), std_us=0.0, **alike)
    match = _FIGURES.fullmatch(line)
    if match is None:
        raise PermanentDeviceError(f"benchmark_model: cannot read {line[:200]!r}")
    count, first, last, least, most = (int(match[i]) for i in range(1, 6))
    percentiles = None if match[8] is None else (int(match[8]), int(match[9]), int(match[10]))
    figures = Figures(
        count=count,
        first_us=first,
        last_us=last,
        min_us=least,
        max_us=most,
        mean_us=float(match[6]),
        std_us=float(match[7]),
        **dict(zip(("p5_us", "median_us", "p95_us"), percentiles or (None,) * 3, strict=True)),
    )
    if not _plausible(figures):
        raise _disagree(line)
    return figures


def _plausible(f: Figures) -> bool:
    """Whether there are runs of which all these figures are true, given six digits of the mean."""
    inside = [f.first_us, f.last_us] + [p for p in (f.p5_us, f.median_us, f.p95_us) if p is not None]
    if f.count < 2 or f.min_us >= f.max_us or not all(f.min_us <= value <= f.max_us for value in inside):
        return False
    slack = 1e-5 * f.mean_us
    # One run took the least and one the most.
    low = ((f.count - 1) * f.min_us + f.max_us) / f.count
    high = ((f.count - 1) * f.max_us + f.min_us) / f.count
    if f.p5_us is not None and f.median_us is not None and f.p95_us is not None:
        if not f.p5_us <= f.median_us <= f.p95_us:
            return False
        # At least (n − 1)/2 runs took as long as the median or longer, and as many as long or less.
        half = (f.count - 1) // 2
        low = max(low, (half * f.median_us + (f.count - half) * f.min_us) / f.count)
        high = min(high, (half * f.median_us + (f.count - half) * f.max_us) / f.count)
    spread = f.max_us - f.min_us
    # Least and greatest deviation of values with that range; it is printed without its fraction.
    most_std, least_std = spread / 2, spread / (2 * f.count) ** 0.5
    return (
        f.mean_us > 0
        and low - slack <= f.mean_us <= high + slack
        and least_std * 0.999 - 2 <= f.std_us <= most_std * 1.001 + 2
    )


def _delegations(lines: Sequence[tuple[float, str]]) -> tuple[Delegation, ...]:
    found: list[Delegation] = []
    for _, line in lines:
        if match := _DELEGATED.fullmatch(line):
            kernels = None if match[4] is None else int(match[4])
            found.append(Delegation(delegate=match[1], share=match[2] or match[3], kernels=kernels))
        elif match := _NOT_DELEGATED.fullmatch(line):
            found.append(Delegation(delegate=match[1], share="not"))
    if len({d.delegate for d in found}) != len(found):
        raise PermanentDeviceError("benchmark_model: it speaks twice of one delegate")
    return tuple(found)


def _memory(lines: Sequence[tuple[float, str]]) -> int | None:
    found = [match for _, line in lines if (match := _MEMORY.fullmatch(line))]
    if not found:
        return None
    init, overall = float(found[0][1]), float(found[0][2])
    if len(found) > 1 or overall < init:
        raise _disagree(found[0][0])
    # Memory that was there before the start is not counted, so nothing added means that nothing is known.
    return round(overall * _MIB) or None


def _disagree(line: str) -> PermanentDeviceError:
    return PermanentDeviceError(f"benchmark_model: its figures disagree: {line[:200]!r}")
