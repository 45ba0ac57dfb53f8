"""When is a row slower? The statistics behind `hwbench gate`: numbers in, verdicts out, nothing of tables or boards.

A change is the logarithm of new over base, so that a slowdown and the speed-up that undoes it are equally far from 0.
Sessions are the unit of chance: runs inside a process are correlated, tests on them alarm between equal programs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from hwbench.statistics import t_quantile, t_tail

# Share of the sessions cut off at either end, and how many are kept at least: a neighbour that wakes up now and then
# makes a tenth of the windows of a real machine slower by a third; that must spoil sessions, not the verdict.
_TRIM, _KEPT = 0.25, 4
# So many rows tell how much variances differ from row to row; with fewer each row stands alone.
_ENOUGH_ROWS = 8
# More degrees of freedom make no difference to a verdict.
_MOST_FREEDOM = 200
# Confidence of the bound that must lie below the largest acceptable slowdown before a row is called ok.
_OK_CONFIDENCE = 0.995


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One row's change: log(new / base), its standard error, and how well that error itself is known.

    sessions: behind it.  freedom: degrees of freedom of `error`; 0 = exact, as simulated values are.
    """

    log: float
    error: float
    freedom: int
    sessions: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided interval of the ratio new / base."""
        half = self.error * _quantile((1 + confidence) / 2, self.freedom) if self.freedom else 0.0
        return math.exp(self.log - half), math.exp(self.log + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What counts as slower.

    threshold: a change that is not worth a verdict; only one shown to be larger is a regression or an improvement.
    max_slowdown: what must be excluded before a row is ok.  rate: false discoveries among a table's alarms, over all
    looks.  looks: how often the question is asked while sessions are added.
    """

    threshold: float = 0.01
    max_slowdown: float = 0.03
    rate: float = 0.01
    looks: int = 1


def paired(base: ArrayLike, new: ArrayLike) -> Effect | None:
    """The effect from (n,) values of both arms in the same sessions; None for fewer than three.

    A trimmed mean with its standard error from the winsorised variance (Yuen, Biometrika 61, 1974).
    """
    logs = np.sort(np.log(np.asarray(new, dtype=np.float64)) - np.log(np.asarray(base, dtype=np.float64)))
    n = logs.size
    if n < 3:
        return None
    cut = max(0, min(int(_TRIM * n), (n - _KEPT) // 2))
    kept = n - 2 * cut
    winsorised = np.clip(logs, logs[cut], logs[n - cut - 1])
    squares = float(((winsorised - winsorised.mean()) ** 2).sum())
    return Effect(
        log=float(logs[cut : n - cut].mean()),
        error=math.sqrt(squares / (kept * (kept - 1))),
        freedom=kept - 1,
        sessions=n,
    )


def between(
    base: tuple[float, float, float], new: tuple[float, float, float], base_sessions: int, new_sessions: int
) -> Effect | None:
    """The effect from two (value, low, high) with 95 % intervals over that many sessions; None for fewer than two.

    Errors add as in Welch's test, degrees of freedom after Satterthwaite.
    """
    if min(base_sessions, new_sessions) < 2:
        return None
    errors = [
        math.log(high / max(low, 1e-3 * value)) / 2 / _quantile(0.975, sessions - 1)
        for (value, low, high), sessions in ((base, base_sessions), (new, new_sessions))
    ]
    variance = sum(e**2 for e in errors)
    parts = sum(e**4 / (n - 1) for e, n in zip(errors, (base_sessions, new_sessions), strict=True))
    freedom = variance**2 / parts if parts > 0 else base_sessions + new_sessions - 2
    return Effect(
        log=math.log(new[0] / base[0]),
        error=math.sqrt(variance),
        freedom=max(1, int(freedom + 1e-9)),
        sessions=min(base_sessions, new_sessions),
    )


def exact(base: float, new: float) -> Effect:
    """The effect between two values without noise."""
    return Effect(log=math.log(new / base), error=0.0, freedom=0, sessions=1)


def moderated(effects: Sequence[Effect]) -> list[Effect]:
    """Let rows lend each other what they know of the noise: eight sessions alone know it badly.

    Each variance is drawn towards that of all rows, by as much as they agree (Smyth, Statistical Applications in
    Genetics and Molecular Biology 3, 2004, section 6). Rows that disagree, or few of them, stay as they are.
    """
    noisy = [e for e in effects if e.freedom]
    spreads = np.array([e.error**2 * e.sessions for e in noisy])
    if len(noisy) < _ENOUGH_ROWS or float(np.median(spreads)) <= 0:
        return list(effects)
    floor = 1e-5 * float(np.median(spreads))
    freedoms = [e.freedom for e in noisy]
    centred = np.log(np.maximum(spreads, floor)) - [_digamma(d / 2) - math.log(d / 2) for d in freedoms]
    excess = float(centred.var(ddof=1)) - float(np.mean([_trigamma(d / 2) for d in freedoms]))
    if excess > 0:
        lent = 2 * _trigamma_inverse(excess)
        common = math.exp(float(centred.mean()) + _digamma(lent / 2) - math.log(lent / 2))
    else:
        lent, common = float(_MOST_FREEDOM), math.exp(float(centred.mean()))

    def drawn(effect: Effect) -> Effect:
        if not effect.freedom:
            return effect
        known = effect.error**2 * effect.sessions
        variance = (lent * common + effect.freedom * known) / (lent + effect.freedom)
        return replace(
            effect,
            error=math.sqrt(variance / effect.sessions),
            freedom=min(_MOST_FREEDOM, int(lent + effect.freedom)),
        )

    return [drawn(effect) for effect in effects]


def judge(effects: Sequence[Effect], rule: Rule) -> list[str]:
    """`regression`, `improvement`, `ok` or `inconclusive` for each (moderated) effect of a table.

    A regression is shown: its lower bound lies above the threshold, at a level that keeps the false discovery rate over
    rows (Benjamini & Hochberg, Journal of the Royal Statistical Society B 57, 1995). Ok is shown too: the upper bound
    lies below the largest acceptable slowdown. What is neither is inconclusive.
    """
    edge, most = math.log1p(rule.threshold), math.log1p(rule.max_slowdown)
    rate = rule.rate / rule.looks
    slower = discoveries([_exceeds(e.log - edge, e) for e in effects], rate)
    faster = discoveries([_exceeds(-edge - e.log, e) for e in effects], rate)
    verdicts = []
    for effect, is_slower, is_faster in zip(effects, slower, faster, strict=True):
        bound = effect.log + (effect.error * _quantile(_OK_CONFIDENCE, effect.freedom) if effect.freedom else 0.0)
        if is_slower:
            verdicts.append("regression")
        elif is_faster:
            verdicts.append("improvement")
        else:
            verdicts.append("ok" if bound <= most else "inconclusive")
    return verdicts


def discoveries(chances: Sequence[float], rate: float) -> list[bool]:
    """Which of m p-values are discoveries when at most `rate` of these may be false: Benjamini-Hochberg."""
    order = np.argsort(chances, kind="stable")
    under = [rank for rank, place in enumerate(order, start=1) if chances[place] <= rate * rank / len(chances)]
    found = set(order[: max(under, default=0)].tolist())
    return [place in found for place in range(len(chances))]


@dataclass(slots=True, kw_only=True)
class Docket:
    """Rows (by any number) under judgement while sessions are added; what is decided stays decided.

    effects: of each row as last heard.  verdicts: of each row.
    """

    rule: Rule
    effects: dict[int, Effect] = field(default_factory=dict)
    verdicts: dict[int, str] = field(default_factory=dict)

    def hear(self, found: Mapping[int, Effect]) -> dict[int, Effect]:
        """Judge these rows anew, among all rows heard so far; returns their moderated effects."""
        self.effects.update(found)
        rows = list(self.effects)
        effects = moderated([self.effects[row] for row in rows])
        told = dict(zip(rows, zip(effects, judge(effects, self.rule), strict=True), strict=True))
        self.verdicts.update({row: told[row][1] for row in found})
        return {row: told[row][0] for row in found}

    def drop(self, row: int) -> None:
        """Forget a row that can be judged no more."""
        self.effects.pop(row, None)
        self.verdicts.pop(row, None)

    @property
    def undecided(self) -> list[int]:
        """Rows that more sessions could decide."""
        return [row for row, verdict in self.verdicts.items() if verdict == "inconclusive"]


def looks(sessions: int, most: int) -> list[int]:
    """After how many sessions the question is asked: doubled each time, at last after `most`."""
    counts = [sessions]
    while counts[-1] < most:
        counts.append(min(counts[-1] * 2, most))
    return counts


def _exceeds(distance: float, effect: Effect) -> float:
    """How likely so large a distance above the threshold is by chance."""
    if effect.error == 0:
        return 0.0 if distance > 0 else 1.0
    return t_tail(distance / effect.error, effect.freedom)


@lru_cache(maxsize=1024)
def _quantile(probability: float, freedom: int) -> float:
    return t_quantile(probability, freedom)


def _digamma(x: float) -> float:
    """Abramowitz & Stegun 6.3.18, after shifting the argument up by 6.3.5."""
    shift = 0.0
    while x < 6:
        shift -= 1 / x
        x += 1
    return shift + math.log(x) - 1 / (2 * x) - 1 / (12 * x**2) + 1 / (120 * x**4) - 1 / (252 * x**6)


def _trigamma(x: float) -> float:
    """Abramowitz & Stegun 6.4.12, after shifting the argument up by 6.4.6."""
    shift = 0.0
    while x < 6:
        shift += 1 / x**2
        x += 1
    return shift + 1 / x + 1 / (2 * x**2) + 1 / (6 * x**3) - 1 / (30 * x**5) + 1 / (42 * x**7)


def _trigamma_inverse(value: float) -> float:
    """Where trigamma, which falls from infinity to 0, has this value; by bisection."""
    low, high = 1e-3, 1e6
    for _ in range(200):
        middle = math.sqrt(low * high)
        if _trigamma(middle) > value:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)
