"""The nested search asks, ranks twice, and repeats itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from search.front import Front
from search.objective import Constraint, by_metric
from search.predictor import Predictor
from search.strategies import evolution, nested, random
from search.strategy import Budget, Strategy, draw
from search.task import Task, run
from tests.search.toy import BUDGET, Toy, small_space

pytestmark = pytest.mark.usefixtures("outside")


def played(strategy: Strategy, problem: Toy, budget: Budget, seed: int) -> tuple[list[list[Task]], Front]:
    """All batches a strategy asks, answered in place, and its front."""
    dialogue = strategy.search(problem, budget, np.random.default_rng(seed))
    batches = [next(dialogue)]
    try:
        while True:
            batches.append(dialogue.send([run(task) for task in batches[-1]]))
    except StopIteration as end:
        return batches, end.value


def opened() -> Strategy:
    return nested.open(nested.Options())


def backbones(batches: list[list[Task]], *, exits: bool) -> list[list[tuple[int, ...]]]:
    return [[tuple(t.args["genes"]) for t in b] for b in batches if b[0].args.get("exits") is exits]


def screening() -> Strategy:
    return nested.open(nested.Options(screen=4))


def evolving() -> Strategy:
    return evolution.open(evolution.Options(levels=3, generations=10, population=12))


@pytest.mark.parametrize(
    "open_", [opened, screening, evolving, lambda: random.open(random.Options())],
    ids=["nested", "screened", "evolution", "random"],
)  # fmt: skip
class TestEveryStrategy:
    """What holds for a guided search and for its baseline."""

    def test_spends_its_budget_exactly(self, open_: type) -> None:
        """Population, survivors and one inner search a survivor, in each generation."""
        batches, _ = played(open_(), Toy(), BUDGET, 0)
        assert [("double", 6), ("double", 2), ("inner", 2)] * 3 == [(b[0].kind, len(b)) for b in batches]

    def test_repeats_with_its_seed_and_differs_with_another(self, open_: type) -> None:
        """All randomness comes from the generator that is passed, whatever numpy's global one does."""
        first, front = played(open_(), Toy(), BUDGET, 7)
        np.random.seed(0)
        again, same = played(open_(), Toy(), BUDGET, 7)
        other, _ = played(open_(), Toy(), BUDGET, 8)
        keys = [[[t.key for t in b] for b in batches] for batches in (first, again, other)]
        assert keys[0] == keys[1]
        assert keys[0] != keys[2]
        assert front.to_csv() == same.to_csv()

    def test_begins_with_the_smallest_and_the_largest(self, open_: type) -> None:
        """Both ends of the front are known from the start."""
        batches, _ = played(open_(), Toy(), BUDGET, 3)
        assert [(0, 0, 0), (3, 3, 3)] == backbones(batches, exits=False)[0][:2]

    def test_never_asks_for_a_backbone_twice(self, open_: type) -> None:
        """Nor for a training of its exits."""
        batches, _ = played(open_(), Toy(), replace(BUDGET, outer_generations=8), 5)
        for exits in (False, True):
            asked = [g for generation in backbones(batches, exits=exits) for g in generation]
            assert len(asked) == len(set(asked))

    def test_ends_when_the_space_is_used_up(self, open_: type) -> None:
        """8 points, however much the budget allows."""
        batches, front = played(open_(), Toy(small_space(2)), replace(BUDGET, outer_generations=9), 1)
        assert 8 == sum(len(g) for g in backbones(batches, exits=False))
        assert front.designs

    def test_front_has_the_best_of_every_inner_search(self, open_: type) -> None:
        """The archive forgets nothing: at the end it dominates or holds every inner choice."""
        batches, front = played(open_(), Toy(), BUDGET, 2)
        best = max(run(t).arrays["accuracy"].max() for b in batches if b[0].kind == "inner" for t in b)
        assert best == front.values[:, 0].max()


def test_a_third_objective_is_searched_too() -> None:
    """Order of objectives is the order asked."""
    _, front = played(opened(), Toy(names=("latency", "size")), BUDGET, 2)
    assert ["accuracy", "latency_ms", "size_bytes"] == [o.name for o in front.objectives]
    assert front.hypervolume() > 0


def test_guided_search_beats_the_random_one() -> None:
    """Mean hypervolume over seeds, same budget, on a space too large to be lucky in."""
    budget = Budget(outer_generations=6, outer_population=8, survivors=2, inner_generations=4, inner_population=10)
    problem = Toy(small_space(24))
    guided = [played(opened(), problem, budget, s)[1].hypervolume() for s in range(4)]
    blind = [played(random.open(random.Options()), problem, budget, s)[1].hypervolume() for s in range(4)]
    assert np.mean(guided) > np.mean(blind)


def test_inner_results_reach_the_second_selection() -> None:
    """Of two backbones with equal static costs the one whose inner front adds to the archive stands first."""
    problem = Toy()
    costs = np.array([[-0.9, 1.0], [-0.9, 1.0], [-0.8, 2.0]])
    batches, _ = played(opened(), problem, BUDGET, 0)
    assert batches
    good = played(opened(), problem, BUDGET, 0)[1]
    empty = Front.of(problem.objectives, problem.reference)
    assert [1, 0, 2] == nested.second_ranking(costs, {0: empty, 1: good}, good)
    assert [0, 1, 2] == nested.second_ranking(costs, {0: good, 1: empty}, good)


def test_a_backbone_without_inner_search_stands_behind() -> None:
    """Its dynamic value is unknown, which is not a value of 0."""
    problem = Toy()
    empty = Front.of(problem.objectives, problem.reference)
    costs = np.array([[-0.9, 1.0], [-0.1, 9.0]])
    assert [1, 0] == nested.second_ranking(costs, {1: empty}, empty)


def test_ranking_prefers_the_emptier_place() -> None:
    """First front before second; inside a front the ends, then the loneliest."""
    costs = np.array([[0.0, 4.0], [1.0, 2.9], [1.1, 2.8], [4.0, 0.0], [5.0, 5.0]])
    order = nested.ranked(costs)
    assert {0, 3} == set(order[:2])
    assert 4 == order[-1]


def test_drawing_stops_at_the_end_of_the_space(rng: np.random.Generator) -> None:
    """Known points are never drawn, and a space with none left gives none."""
    space = small_space(2)
    first = draw(space, 5, set(), rng, anchors=True)
    known = {tuple(g) for g in first.tolist()}
    rest = draw(space, 5, known, rng)
    assert (5, 3) == (len(first), len(rest))
    assert not known & {tuple(g) for g in rest.tolist()}
    assert (0, 3) == draw(space, 5, known | {tuple(g) for g in rest.tolist()}, rng).shape


@pytest.mark.parametrize("open_", [screening, evolving], ids=["screened", "evolution"])
def test_a_predictor_is_held_against_what_was_measured(open_: type) -> None:
    """In each generation but the first: it learned from all before, and was asked about those that came."""
    strategy = open_()
    played(strategy, Toy(small_space(24)), replace(BUDGET, outer_generations=4, outer_population=10), 3)
    assert [(10, 10), (20, 10), (30, 10)] == [(one.trained_on, one.asked) for one in strategy.learned]
    assert all(one.rank_correlation is None or -1 <= one.rank_correlation <= 1 for one in strategy.learned)
    # Played again, the strategy begins anew.
    again = open_()
    played(again, Toy(small_space(24)), replace(BUDGET, outer_generations=4, outer_population=10), 3)
    assert strategy.learned == again.learned


def test_screening_prefers_what_is_predicted_better_at_no_more_cost() -> None:
    """Of two children that cost alike the one that resembles the good ones."""
    problem = Toy(small_space(6))
    genes = problem.space.sample(60, np.random.default_rng(0))
    predictor = Predictor(problem.space)
    predictor.fit(genes, genes[:, 0].astype(float))
    low, high = np.array([0, 2, 2], np.int16), np.array([4, 0, 2], np.int16)  # both have equal parameters
    assert problem.space.params(low[None]) == problem.space.params(high[None])
    assert [1, 0] == nested.promising(problem, predictor, np.stack([low, high]))


def test_evolution_keeps_the_user_s_limit_on_the_network_itself() -> None:
    """Backbones that are found, not drawn, cost no more than the limit on a design."""
    problem = Toy(small_space(24))
    problem.constraints = (Constraint(objective=by_metric("latency_ms"), limit=0.6),)
    batches, _ = played(evolving(), problem, replace(BUDGET, outer_population=8), 1)
    for generation in backbones(batches, exits=False)[1:]:
        assert (problem.static(np.array(generation))["latency_ms"] <= 0.6).all()
