"""The one view of every dynamic network: a chain of stages that answer with a score and cost something.

Coverage, thresholds, expected cost, oracle and deployable accuracy are computed here and nowhere else.
Shapes: N samples, S stages, L levels, P operating points, B candidates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from hwbench.errors import ConfigError
from hwbench.evidence import Evidence
from hwbench.setting import Setting
from search import bits
from search.patience import Agreement, runs
from search.score import Score

_SETTINGS = TypeAdapter(tuple[tuple[Setting, ...], ...])
_RULE = TypeAdapter(Score)
# One level index beyond the last means "nobody leaves"; levels travel as uint8.
_MAX_LEVELS = 255
# Candidates a pass, and bytes of one buffer of bit sets: what a pass touches should stay in a core's caches.
_PASS = 1024
_TILE_BYTES = 320 * 1024
# With patience such a buffer stands for each exit of a run, so fewer candidates at once.
_PATIENT_SHARE = 4
# How far below the lowest score the threshold lies that all samples reach: far above a rounding.
_BELOW = np.float32(1e-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What B candidates would do on the cascade's samples.

    accuracy (B,): deployable, each sample answered by the first placed exit whose score reaches its threshold.
    oracle_accuracy (B,): some placed stage is right, the upper bound that only an ideal mapping reaches.
    coverage (B, S): share of the samples that leave at each stage, sums to 1.
    metrics: name -> (B,) expected value per input, NaN where unknown.
    """

    accuracy: np.ndarray
    oracle_accuracy: np.ndarray
    coverage: np.ndarray
    metrics: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, parts: Sequence[Outcome]) -> Outcome:
        """One outcome of candidates that were evaluated in several passes, in that order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            accuracy=np.concatenate([p.accuracy for p in parts]),
            oracle_accuracy=np.concatenate([p.oracle_accuracy for p in parts]),
            coverage=np.concatenate([p.coverage for p in parts]),
            metrics={name: np.concatenate([p.metrics[name] for p in parts]) for name in parts[0].metrics},
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cascade:
    """What each stage answers for every sample and costs at every operating point.

    label (N,) from 0 on, answer (N, S) with −1 = abstains, score (N, S) float32, higher = surer.
    levels (L, S) float32: thresholds to choose from, quantiles of each stage's score (the last stage needs none).
    patience: what a level is held against is no score but how many placed exits in a row have answered alike
    (search.patience); levels are then whole numbers from 1 on, the same for all stages, and a candidate has one.
    step, ask: metric -> (P, S). Leaving at i costs Σ_{s≤i} step[s] + Σ_{placed j≤i} ask[j]; the last stage is placed.
    resident: metric -> (S,): what a placed stage adds whether or not it is reached (bytes); the last holds the rest.
    settings: per stage P settings.  evidence: by metric.
    rule: where exits are scored, how; the metric `score` is then among the expected ones.
    Raises ConfigError where shapes disagree.
    """

    label: np.ndarray
    answer: np.ndarray
    score: np.ndarray
    levels: np.ndarray
    step: Mapping[str, np.ndarray]
    ask: Mapping[str, np.ndarray]
    settings: tuple[tuple[Setting, ...], ...]
    evidence: Mapping[str, Evidence]
    resident: Mapping[str, np.ndarray] = field(default_factory=dict)
    rule: Score | None = None
    patience: bool = False
    # Bit sets over samples, W words each. Row stage · L + level: who goes on, and who leaves with the right answer.
    _stay: np.ndarray = field(init=False, repr=False)  # (S · L, W)
    _hit: np.ndarray = field(init=False, repr=False)  # (S · L, W)
    _right: np.ndarray = field(init=False, repr=False)  # (S, W)
    _agreement: Agreement = field(init=False, repr=False)  # in their place where patience decides

    def __post_init__(self) -> None:
        # The board compares two float32 values, so the same comparison is made here.
        for name, dtype in (("score", np.float32), ("levels", np.float32)):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=dtype))
        self._check()
        right = self._answers_right().T
        object.__setattr__(self, "_right", bits.pack(right))
        if self.patience:
            object.__setattr__(self, "_agreement", Agreement(self.answer))
            return
        leaves = self.score.T[:, None, :] >= self.levels.T[:, :, None]  # (S, L, N); NaN never leaves
        leaves &= (self.answer != -1).T[:, None, :]
        rows = self.stages * self.level_count
        object.__setattr__(self, "_stay", bits.pack(~leaves.reshape(rows, -1)))
        object.__setattr__(self, "_hit", bits.pack((leaves & right[:, None, :]).reshape(rows, -1)))

    def _check(self) -> None:
        if self.label.ndim != 1 or not self.samples or self.label.min() < 0:
            raise ConfigError("a cascade needs samples, each with a label from 0 on: −1 is an answer that abstains")
        expected = (self.samples, self.stages)
        if self.answer.shape != expected or self.score.shape != expected or not self.stages:
            raise ConfigError(f"answers {self.answer.shape} and scores {self.score.shape} are not {expected}")
        if self.levels.ndim != 2 or self.levels.shape[1] != self.stages or not 1 <= self.level_count <= _MAX_LEVELS:
            raise ConfigError(f"levels {self.levels.shape} are not (1 to {_MAX_LEVELS}, {self.stages})")
        if self.patience and not (self.levels == np.maximum(np.rint(self.levels[:, :1]), 1)).all():
            raise ConfigError("levels of patience are whole numbers from 1 on, the same for every stage")
        points = {len(s) for s in self.settings}
        if len(self.settings) != self.stages or len(points) != 1 or 0 in points:
            raise ConfigError("every stage needs the same number of operating points")
        if self.step.keys() != self.ask.keys():
            raise ConfigError(f"metrics of steps {sorted(self.step)} and of asks {sorted(self.ask)} differ")
        paid, held = (self.points, self.stages), (self.stages,)
        for given, shape in ((self.step, paid), (self.ask, paid), (self.resident, held)):
            for name, array in given.items():
                if array.shape != shape:
                    raise ConfigError(f"cost {name} has shape {array.shape}, not {shape}")
        scored = {} if self.rule is None else self.rule.baseline
        if lacking := sorted(scored.keys() - self.step.keys()):
            raise ConfigError(f"a score needs the cost {', '.join(lacking)} of each stage, which is not known here")
        if missing := sorted({*self.step, *self.resident, *(["score"] if scored else [])} - self.evidence.keys()):
            raise ConfigError(f"no evidence for {', '.join(missing)}: a number without origin is not a number")

    @property
    def samples(self) -> int:
        return int(self.label.shape[0])

    @property
    def stages(self) -> int:
        return int(self.answer.shape[1])

    @property
    def level_count(self) -> int:
        return int(self.levels.shape[0])

    @property
    def points(self) -> int:
        return len(self.settings[0])

    def _answers_right(self) -> np.ndarray:
        """(N, S): this stage answers, and its answer is right."""
        return np.asarray(self.answer == self.label[:, None])

    def threshold(self, stage: int, level: int) -> float:
        """The score, or run of agreeing exits, from which a sample leaves; float32, so a plan decides the same."""
        return float(self.levels[level, stage])

    def evaluate(self, placed: np.ndarray, level: np.ndarray, point: np.ndarray) -> Outcome:
        """Run B candidates on all samples at once.

        placed: (B, S) bool, its last column is taken as true.  level: (B, S) integers below L, read where placed.
        point: (B, S), or (B, 1) for one operating point that all stages share.
        Raises IndexError for a level or a point that does not exist, ConfigError for several levels of patience.
        """
        starts = range(0, max(len(placed), 1), _PASS)
        return Outcome.of([self._evaluate(*(a[i : i + _PASS] for a in (placed, level, point))) for i in starts])

    def _evaluate(self, placed: np.ndarray, level: np.ndarray, point: np.ndarray) -> Outcome:
        placed = np.array(placed, dtype=bool)
        placed[:, -1] = True
        level, point = np.asarray(level, dtype=np.intp), np.asarray(point, dtype=np.intp)
        read = np.where(placed[:, :-1], level[:, :-1], 0)
        if read.size and not 0 <= read.min() <= read.max() < self.level_count:
            raise IndexError(f"a level is not in 0 … {self.level_count - 1}")
        if self.patience and np.any(placed[:, :-1] & (read != read.max(axis=1, keepdims=True, initial=0))):
            raise ConfigError("a candidate has one patience: the same level at all of its exits")
        if point.size and not 0 <= point.min() <= point.max() < self.points:
            raise IndexError(f"an operating point is not in 0 … {self.points - 1}")
        leaving, right, possible, first = self._walk(placed[:, :-1], level)
        # Who has not left before a stage reaches it.
        reach = (self.samples - leaving.cumsum(axis=1) + leaving) / self.samples
        return Outcome(
            accuracy=right / self.samples,
            oracle_accuracy=possible / self.samples,
            coverage=leaving / self.samples,
            metrics=self._expected(placed, reach, point)
            | {name: placed @ values for name, values in self.resident.items()}
            | ({} if self.rule is None else {"score": self._score(self.rule, placed, first, point)}),
        )

    def _spent(self, name: str, placed: np.ndarray, point: np.ndarray) -> np.ndarray:
        """What each stage costs those who reach it, (B, S), of one metric."""
        # A shared point selects whole rows, which is several times faster than single elements.
        at = point[:, 0] if point.shape[1] == 1 else (point, np.arange(self.stages))
        return np.asarray(self.step[name][at] + np.where(placed, self.ask[name][at], 0.0))

    def _score(self, rule: Score, placed: np.ndarray, first: np.ndarray, point: np.ndarray) -> np.ndarray:
        """The score of each candidate, (B,); first (B, S − 1): samples that an exit is the first to answer rightly."""
        upto = {name: self._spent(name, placed, point).cumsum(axis=1)[:, :-1] for name in rule.baseline}
        return rule.of(placed[:, :-1], first / self.samples, bits.count(self._right[:-1]) / self.samples, upto)

    def _expected(self, placed: np.ndarray, reach: np.ndarray, point: np.ndarray) -> dict[str, np.ndarray]:
        """Weigh what a stage costs by the share of inputs that reach it."""
        expected = {}
        for name in self.step:  # one after the other: all of them at once leave a core's caches
            # Where no input arrives nothing is paid, even if the cost is unknown.
            paid = np.where(reach > 0, self._spent(name, placed, point), 0.0)
            expected[name] = np.einsum("bs,bs->b", paid, reach)
        return expected

    def _walk(self, exits: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Samples leaving at each stage (B, S), answered rightly (B,), and answerable by some placed stage (B,).

        Last those that each exit is the first to answer rightly, (B, S − 1); zeros where nothing is scored.
        """
        counts = exits.sum(axis=1)
        # Candidates with many exits first: those that have a k-th exit are then the first rows, a slice without a copy.
        order = np.argsort(-counts, kind="stable")
        counts = counts[order]
        row, stage = np.nonzero(exits[order])
        nth = np.arange(len(row)) - np.repeat(counts.cumsum() - counts, counts)
        visit = np.zeros((len(exits), counts.max(initial=1)), dtype=np.intp)
        visit[row, nth] = stage
        choice = visit * self.level_count
        choice[row, nth] += level[order[row], stage]
        under_way = np.empty((len(exits), visit.shape[1] + 1), dtype=np.int64)
        # Samples that the exits so far can answer; counted only where a score asks who is first.
        answerable = np.zeros_like(under_way)
        found = np.empty((2, len(exits)), dtype=np.int64)
        walk = self._walk_patiently if self.patience else self._walk_tile
        tile = max(1, _TILE_BYTES // self._right[0].nbytes // (_PATIENT_SHARE if self.patience else 1))
        for start in range(0, len(exits), tile):
            rows = slice(start, start + tile)
            found[:, rows] = walk(counts[rows], visit[rows], choice[rows], under_way[rows], answerable[rows])
        leaving = np.zeros((len(exits), self.stages), dtype=np.int64)
        leaving[order[row], stage] = under_way[row, nth] - under_way[row, nth + 1]
        leaving[:, -1] = self.samples - leaving.sum(axis=1)
        right, possible = np.empty_like(found)
        right[order], possible[order] = found
        first = np.zeros(exits.shape, dtype=np.int64)
        first[order[row], stage] = answerable[row, nth + 1] - answerable[row, nth]
        return leaving, right, possible, first

    def _walk_tile(
        self,
        counts: np.ndarray,
        visit: np.ndarray,
        choice: np.ndarray,
        under_way: np.ndarray,
        answerable: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Send all samples through a few candidates, exit after exit; rows are sorted by falling count of exits.

        visit (T, K): stage of the k-th exit.  choice (T, K): its row in the bit sets.
        under_way (T, K + 1) is filled with the number of samples still there before each exit and after it,
        answerable (T, K + 1), where there is a score, with those that some exit up to there answers rightly.
        """
        shape = (len(counts), self._right.shape[1])
        here = np.full(shape, np.iinfo(np.uint64).max, dtype=np.uint64)
        right, possible = np.zeros(shape, dtype=np.uint64), np.zeros(shape, dtype=np.uint64)
        buffer = np.empty(shape, dtype=np.uint64)
        under_way[:, 0] = self.samples
        for k in range(counts[0]):
            n = int(np.searchsorted(-counts, -k))  # rows with more than k exits
            gathered = buffer[:n]
            # mode="clip" gathers straight into the buffer; `evaluate` has checked the indices.
            np.take(self._hit, choice[:n, k], axis=0, out=gathered, mode="clip")
            gathered &= here[:n]
            right[:n] |= gathered
            np.take(self._stay, choice[:n, k], axis=0, out=gathered, mode="clip")
            here[:n] &= gathered
            under_way[:n, k + 1] = bits.count(here[:n])
            np.take(self._right, visit[:n, k], axis=0, out=gathered, mode="clip")
            possible[:n] |= gathered
            if self.rule is not None:
                answerable[:n, k + 1] = bits.count(possible[:n])
        here &= self._right[-1]
        return bits.count(right | here), bits.count(possible | self._right[-1])

    def _walk_patiently(
        self,
        counts: np.ndarray,
        visit: np.ndarray,
        choice: np.ndarray,
        under_way: np.ndarray,
        answerable: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `_walk_tile`, where exits in a row that agree decide."""
        shape = (len(counts), self._right.shape[1])
        here = np.repeat(bits.pack(np.ones((1, self.samples), dtype=bool)), len(counts), axis=0)
        right, possible = np.zeros(shape, dtype=np.uint64), np.zeros(shape, dtype=np.uint64)
        buffer, leaving = np.empty(shape, dtype=np.uint64), np.empty(shape, dtype=np.uint64)
        under_way[:, 0] = self.samples
        under = self._agreement.start(self.levels.T.ravel()[choice[:, 0]].astype(np.intp), visit)
        for k in range(counts[0]):
            n = int(np.searchsorted(-counts, -k))  # rows with more than k exits
            leaves, gathered = leaving[:n], buffer[:n]
            under.pass_exit(k, n, leaves)
            leaves &= here[:n]
            here[:n] ^= leaves
            under_way[:n, k + 1] = bits.count(here[:n])
            np.take(self._right, visit[:n, k], axis=0, out=gathered, mode="clip")
            possible[:n] |= gathered
            if self.rule is not None:
                answerable[:n, k + 1] = bits.count(possible[:n])
            gathered &= leaves
            right[:n] |= gathered
        here &= self._right[-1]
        return bits.count(right | here), bits.count(possible | self._right[-1])

    def leaves_at(self, placed: np.ndarray, level: np.ndarray) -> np.ndarray:
        """The stage where each sample leaves, (N,), for one candidate: placed (S,) bool, level (S,)."""
        chosen = self.levels[np.where(placed, level, 0), np.arange(self.stages)]
        compared = runs(self.answer, placed) if self.patience else self.score
        leaves = (compared >= chosen) & (self.answer != -1) & placed
        leaves[:, -1] = True
        return np.asarray(leaves.argmax(axis=1))

    def first_right(self, placed: np.ndarray) -> np.ndarray:
        """The ideal mapping of one candidate, (N,): the first placed stage that is right, the last where none is."""
        right = self._answers_right() & placed
        right[:, -1] = True
        return np.asarray(right.argmax(axis=1))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything as named arrays, so that a cascade travels inside a task."""
        said = {
            "settings": _SETTINGS.dump_python(self.settings, mode="json"),
            "evidence": {name: str(evidence) for name, evidence in sorted(self.evidence.items())},
        }
        if self.rule is not None:
            said["rule"] = _RULE.dump_python(self.rule, mode="json")
        if self.patience:
            said["patience"] = True
        arrays = {"label": self.label, "answer": self.answer, "score": self.score, "levels": self.levels}
        for kind in ("step", "ask", "resident"):
            arrays |= {f"{kind}.{name}": array for name, array in getattr(self, kind).items()}
        arrays["said"] = np.frombuffer(json.dumps(said, sort_keys=True).encode(), dtype=np.uint8)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Cascade:
        """What `to_arrays` wrote; raises ConfigError when an array is missing."""
        named: dict[str, Any] = {"step": {}, "ask": {}, "resident": {}}
        for name, array in arrays.items():
            kind, dot, metric = name.partition(".")
            if dot and kind in named:
                named[kind][metric] = array
        try:
            said = json.loads(bytes(arrays["said"]))
            return cls(
                label=arrays["label"], answer=arrays["answer"], score=arrays["score"], levels=arrays["levels"],
                settings=_SETTINGS.validate_python(said["settings"]),
                evidence={name: Evidence.parse(text) for name, text in said["evidence"].items()},
                rule=_RULE.validate_python(said["rule"]) if "rule" in said else None,
                patience=said.get("patience", False),
                **named,
            )  # fmt: skip
        except KeyError as error:
            raise ConfigError(f"these arrays are no cascade: {error} is missing") from error


def quantile_levels(score: np.ndarray, count: int) -> np.ndarray:
    """Thresholds to choose from, (count, S) float32: at level l the surest 1 − l/count of the scored samples leave.

    Each lies midway between two scores that occurred: a board's arithmetic moves a score by a rounding, and no sample
    of these may change sides for that. At level 0 all of them leave. NaN is no score; a stage without any has NaN
    levels, and nobody leaves there.
    """
    score = np.asarray(score, dtype=np.float32)
    if score.size == 0 or not 1 <= count <= _MAX_LEVELS:
        raise ConfigError(f"{count} levels of scores {score.shape}: give some scores and 1 to {_MAX_LEVELS} levels")
    levels = np.full((count, score.shape[1]), np.nan, dtype=np.float32)
    for stage, column in enumerate(score.T):
        known = column[~np.isnan(column)]
        if known.size:
            ranked = np.sort(known)
            distinct = np.unique(ranked)
            # Where each level stands among the distinct scores, and what lies next below: for the lowest a margin.
            place = np.searchsorted(distinct, ranked[np.arange(count) * ranked.size // count])
            lower = np.concatenate([[distinct[0] - _BELOW], distinct[:-1]]).astype(np.float32)
            with np.errstate(invalid="ignore"):  # infinite scores have no middle
                middle = lower + (distinct - lower) / 2
            # Where no float lies between, the score itself still tells them apart.
            levels[:, stage] = np.where(middle > lower, middle, distinct)[place]
    return levels
