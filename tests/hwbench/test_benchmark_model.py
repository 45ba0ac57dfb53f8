"""The reader of what `benchmark_model` prints: recordings whole, cut short and damaged."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbench.benchmark_model import Delegation, Phase, Report, complaint, parse
from hwbench.errors import PermanentDeviceError
from tests.doubles import benchmark_model as double

RECORDINGS = sorted((Path(__file__).parents[1] / "recordings" / "benchmark_model").glob("*.txt"))
TEXTS = {file.stem: file.read_text(encoding="utf-8") for file in RECORDINGS}
GPU = TEXTS["2.17-gpu"]


class TestRecordings:
    """Each form that a line has taken."""

    def test_an_old_tool_tells_no_median(self) -> None:
        """Unknown is None, not 0 and not the mean."""
        report = parse(TEXTS["2.4-cpu"])
        runs = report.runs.figures
        assert (50, 33204, 33161, 32987, 34120) == (runs.count, runs.first_us, runs.last_us, runs.min_us, runs.max_us)
        assert (33230.7, 214.0, None) == (runs.mean_us, runs.std_us, runs.median_us)
        assert (41.233, 18501599) == (report.init_ms, report.memory_bytes)
        assert (Delegation(delegate="XNNPACK", share="partially", kernels=2),) == report.delegations

    def test_a_new_tool_tells_percentiles_and_says_info(self) -> None:
        """And when each phase began and ended."""
        report = parse(GPU)
        runs = report.runs
        assert (5549, 5590, 5688) == (runs.figures.p5_us, runs.figures.median_us, runs.figures.p95_us)
        assert (50, 0.2, 5.0, 90079.19, 90079.48) == (
            *(runs.least_runs, runs.least_s, runs.most_s),
            *(runs.start_s, runs.end_s),
        )
        assert "/data/local/tmp/hwbench/files/8c.tflite" == report.model
        assert (Delegation(delegate="GPU", share="completely"),) == report.delegations

    def test_nnapi_takes_all(self) -> None:
        """The name is the one that the session asks for."""
        assert (Delegation(delegate="NNAPI", share="completely"),) == parse(TEXTS["2.11-npu"]).delegations

    def test_scientific_notation_is_a_number(self) -> None:
        """Six digits are all that a stream writes of a double."""
        report = parse(TEXTS["2.17-slow"])
        assert (5, 1.04063e6, 1039984) == (
            report.runs.figures.count,
            report.runs.figures.mean_us,
            report.runs.figures.median_us,
        )

    def test_equal_runs_and_memory_that_nobody_saw(self) -> None:
        """`(all same)` stands for all figures; 0 MB are not a measurement."""
        report = parse(TEXTS["2.17-tiny"])
        figures = report.runs.figures
        assert (3, 2, 2, 2.0, 0.0, 2) == (
            *(figures.count, figures.min_us, figures.max_us),
            *(figures.mean_us, figures.std_us, figures.median_us),
        )
        assert report.memory_bytes is None
        assert (Delegation(delegate="XNNPACK", share="not"),) == report.delegations

    @pytest.mark.parametrize("name", TEXTS)
    def test_every_truncation_raises(self, name: str) -> None:
        """Wherever the output ends."""
        for end in range(len(TEXTS[name])):
            with pytest.raises(PermanentDeviceError):
                parse(TEXTS[name][:end])


class TestDamage:
    """A thousand mutations of recordings."""

    def test_none_that_can_be_noticed_passes(self) -> None:
        """What passes has left alone all that is told twice, and its figures can be those of real runs."""
        rng = random.Random(0)
        passed = 0
        for _ in range(1000):
            name = rng.choice(list(TEXTS))
            mutant = _mutated(TEXTS[name], rng)
            try:
                found = parse(mutant)
            except PermanentDeviceError:
                continue
            passed += 1
            _check_same(parse(TEXTS[name]), found, mutant)
        assert 0 < passed < 500  # most of a text is free: parameters, notes, uptimes

    @given(text=st.text(alphabet="count=f rst.1234567890e+-\nRINFO:", max_size=300))
    def test_garbage_is_one_clear_line(self, text: str) -> None:
        """Whatever comes, nothing but the one error."""
        for line in (text, GPU.replace("count=50 first=5612", text, 1)):
            if line != GPU:
                with pytest.raises(PermanentDeviceError):
                    parse(line)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("count=50 first", "count=40 first"),  # fewer than asked, with time left
            ("count=88 first", "count=98 first"),  # it would have gone on past its time
            ("min=5534", "min=5734"),  # above the mean
            ("max=5860", "max=5360"),
            ("avg=5601.36 std", "avg=5601.37 std"),  # told twice
            ("Init: 1184968", "Init: 1184868"),
            ("First inference: 14307", "First inference: 14308"),
            ("median=5590 p95=5688", "median=5690 p95=5688"),
            ("std=53", "std=530"),  # more than any runs between the extremes can have
            ("std=53", "std=0"),
            ("overall=108.512", "overall=8.512"),  # memory at its greatest shrinks
            ("90079.48 INFO: count=50", "90071.48 INFO: count=50"),  # time goes back
            ("exit 0", "exit 1"),
            ("5601.36\n", "nan\n"),
            ("count=50 first=5612", "count= first=5612"),
            ("count=50 first=5612 curr", "count=50 curr"),
        ],
    )
    def test_a_figure_that_disagrees_is_refused(self, old: str, new: str) -> None:
        """One damaged figure each, alone in an otherwise good text."""
        assert 1 == GPU.count(old)
        with pytest.raises(PermanentDeviceError):
            parse(GPU.replace(old, new))


class TestComplaints:
    """What the tool says in passing."""

    @pytest.mark.parametrize(
        "line",
        [
            "WARN: Unconsumed cmdline flags: --use_nnapi=true",
            "Unconsumed cmdline flags: --use_nnapi=true",
            "ERROR: Node number 3 (CONV_2D) failed to invoke.",
            "INFO: Failed to apply GPU delegate.",
            "Failed to allocate tensors!",
            "ERROR: Benchmarking failed.",
        ],
    )
    def test_is_an_error_although_figures_follow(self, line: str) -> None:
        """Named with the tool's own words."""
        text = GPU.replace("90077.50 INFO: STARTING!\n", f"90077.50 INFO: STARTING!\n90077.50 {line}\n")
        told = complaint(text)
        assert told is not None and told in line
        with pytest.raises(PermanentDeviceError, match=re.escape(told)):
            parse(text)

    def test_a_status_is_told_with_the_reason(self) -> None:
        """The complaint where there is one, else the last line."""
        with pytest.raises(PermanentDeviceError, match=r"status 1: Failed to load model x\.tflite"):
            parse("1.00 Failed to load model x.tflite\n1.00 exit 1\n")
        with pytest.raises(PermanentDeviceError, match="status 139: Segmentation fault"):
            parse("1.00 STARTING!\n1.01 Segmentation fault\n1.02 exit 139\n")

    def test_not_to_know_a_files_size_is_harmless(self) -> None:
        """It goes on, and rightly so."""
        text = GPU.replace(
            "INFO: The input model file size (MB): 13.9786", "WARN: Failed to get the input model file size."
        )
        assert parse(GPU) == parse(text)


class TestReal:
    """Figures of real lists of runs, as the tool's own arithmetic makes them."""

    @given(runs=st.lists(st.integers(1, 10**7), min_size=1, max_size=200))
    def test_every_list_of_runs_is_believed(self, runs: list[int]) -> None:
        """No check refuses what can happen."""
        figures = double.figures(runs)
        mean = f"{sum(runs) / len(runs):g}"
        text = (
            "1.00 Loaded model x.tflite\n1.00 Initialized session in 1ms.\n"
            "1.00 Running benchmark for at least 1 iterations and at least 0 seconds.\n1.00 count=1 curr=7\n"
            f"1.00 Running benchmark for at least {len(runs)} iterations and at least 0 seconds.\n9999.00 {figures}\n"
            "9999.00 Inference timings in us: Init: 1000, First inference: 7, Warmup (avg): 7, "
            f"Inference (avg): {mean}\n9999.00 exit 0\n"
        )
        found = parse(text).runs.figures
        assert (len(runs), runs[0], runs[-1], min(runs), max(runs)) == (
            *(found.count, found.first_us, found.last_us),
            *(found.min_us, found.max_us),
        )


def _mutated(text: str, rng: random.Random) -> str:
    """One small accident: a character, a digit, a line, or a piece that is lost, doubled or changed."""
    at = rng.randrange(len(text))
    lines = text.splitlines(keepends=True)
    which = rng.randrange(len(lines))
    digits = [i for i, c in enumerate(text) if c.isdigit()]
    digit = rng.choice(digits)
    return rng.choice(
        [
            text[:at] + text[at + 1 :],
            text[:at] + chr(rng.randrange(32, 127)) + text[at + 1 :],
            text[:at] + text[at : at + 3] + text[at:],
            text[:digit] + rng.choice("0123456789") + text[digit + 1 :],
            text[:digit] + text[digit + 1 :],
            "".join(lines[:which] + lines[which + 1 :]),
            "".join(lines[: which + 1] + lines[which:]),
            text[:at] + text[at + rng.randrange(1, 200) :],
        ]
    )


def _check_same(good: Report, found: Report, mutant: str) -> None:
    """Told twice: loading time, first run, both means; told by form: delegates; the rest must be possible."""
    assert (good.init_ms, good.warmup.figures.first_us) == (found.init_ms, found.warmup.figures.first_us), mutant
    assert good.warmup.figures.mean_us == found.warmup.figures.mean_us, mutant
    assert good.runs.figures.mean_us == found.runs.figures.mean_us, mutant
    for before, after in ((good.warmup, found.warmup), (good.runs, found.runs)):
        _check_possible(before, after, mutant)


def _check_possible(before: Phase, after: Phase, mutant: str) -> None:
    figures = after.figures
    assert figures.min_us <= figures.mean_us <= figures.max_us, mutant
    if figures.median_us is not None:
        assert figures.min_us <= figures.median_us <= figures.max_us, mutant
    assert (figures.median_us is None) == (before.figures.median_us is None), mutant
    # The count alone may move, inside what the asked time allows.
    total_s = figures.count * figures.mean_us / 1e6
    assert figures.count <= max(after.least_runs, after.least_s / figures.mean_us * 1e6 + 2), mutant
    assert figures.count >= after.least_runs or total_s >= 0.5 * (after.most_s or 0.0), mutant
