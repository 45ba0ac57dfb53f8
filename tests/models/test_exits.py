"""models.exits: heads on a frozen backbone, segments, scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwbench.errors import ConfigError
from models import exits, supernet
from models.stages import Exits, Stage, StageSpace, Stem

SPACE = StageSpace(
    name="tiny",
    classes=3,
    channels=1,
    resolutions=(8,),
    stem=Stem(widths=(8,)),
    stages=(
        Stage(widths=(8, 16), depths=(1, 2), kernels=(3,), expands=(2,)),
        Stage(widths=(16,), depths=(2,), kernels=(3,), expands=(2,), stride=2),
    ),
    exits=Exits(width=8),
).space()
GENES = SPACE.largest()


@pytest.fixture
def network() -> exits.ExitNetwork:
    """The largest subnet with all its exits: layers in slots 1 to 4, heads behind 1 to 3."""
    net = supernet.create(SPACE, seed=1)
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(16, 1, 8, 8), GENES)
    return exits.ExitNetwork(net.extract(GENES), exits.new_heads(SPACE, GENES))


def test_heads_stand_where_the_space_says() -> None:
    assert [1, 2, 3] == list(exits.head_blocks(SPACE, GENES))
    assert [1, 3] == list(exits.head_blocks(SPACE, SPACE.smallest()))
    for slot, block in exits.head_blocks(SPACE, GENES).items():
        assert block.in_shape == SPACE.blocks[SPACE.block_ids(GENES[None])[0, slot]].out_shape


def test_fresh_heads_depend_on_seed_and_slot_alone() -> None:
    def first(seed: int, slot: int) -> torch.Tensor:
        return exits.new_heads(SPACE, GENES, seed)[slot].conv.conv.weight

    assert torch.equal(first(0, 1), first(0, 1))
    assert not torch.equal(first(0, 1), first(1, 1))
    assert not torch.equal(first(0, 1), first(0, 2))


def test_training_the_exits_leaves_the_backbone_frozen(network: exits.ExitNetwork) -> None:
    """Weights and running statistics of the backbone are the same bytes after a step; every head has moved."""
    network.train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    step = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    logits = network(torch.randn(16, 1, 8, 8))
    assert 4 == len(logits)
    sum(torch.nn.functional.cross_entropy(x, torch.zeros(16, dtype=torch.long)) for x in logits[:-1]).backward()
    step.step()
    moved = {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert not any(k.startswith("backbone") for k in moved)
    assert {k for k, _ in network.named_parameters() if k.startswith("heads")} <= moved


def test_the_last_logits_are_the_network_s_own(network: exits.ExitNetwork) -> None:
    x = torch.randn(4, 1, 8, 8)
    network.train()
    assert torch.equal(supernet.run(network.parts, x), network(x)[-1])


def test_a_learned_score_is_that_of_each_exit_s_own_gate(network: exits.ExitNetwork) -> None:
    """In segments and beside all answers; the network's own classifier decides nothing and has none."""
    gated = exits.ExitNetwork(network.parts, dict(exits.new_heads(SPACE, GENES)), exits.new_gates(SPACE, GENES)).eval()
    x = torch.randn(5, 1, 8, 8)
    *early, last = logits = gated(x)
    expected = [gated.gates[str(slot)](z) for slot, z in zip(gated.slots, early, strict=True)]
    together = torch.stack([*expected, exits.max_softmax(last)], 1)
    assert torch.equal(together, gated.scores(torch.stack(logits, 1), "learned"))
    assert not torch.allclose(together[:, 0], together[:, 1])
    features = x
    for segment, score in zip(gated.segments([2], "learned"), (expected[1], together[:, -1]), strict=True):
        features, _, found = segment(features)
        assert torch.allclose(score, found, atol=1e-6)


def test_a_learned_score_needs_gates(network: exits.ExitNetwork) -> None:
    with pytest.raises(ConfigError, match="slot 2 has no trained gate"):
        network.segments([2], "learned")


@given(placed=st.sets(st.sampled_from([1, 2, 3])), name=st.sampled_from(sorted(exits.SCORES)))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_segments_chained_give_the_logits_of_the_whole(network: exits.ExitNetwork, placed: set[int], name: str) -> None:
    network.eval()
    x = torch.randn(3, 1, 8, 8)
    whole = dict(zip([*network.slots, "end"], network(x), strict=True))
    segments = network.segments(sorted(placed), name)
    assert len(placed) + 1 == len(segments)
    features = x
    for where, segment in zip([*sorted(placed), "end"], segments, strict=True):
        features, logits, score = segment(features)
        assert torch.allclose(whole[where], logits, atol=1e-6)
        assert torch.allclose(exits.SCORES[name](logits), score)
        assert (3,) == tuple(score.shape)


def test_the_last_segment_s_features_are_what_the_classifier_reads(network: exits.ExitNetwork) -> None:
    segment = network.segments([])[0]
    features, logits, _ = segment(torch.randn(2, 1, 8, 8))
    assert (2, 16) == tuple(features.shape)
    assert torch.equal(segment.tail.classifier(features), logits)


def test_exits_that_do_not_exist_are_refused(network: exits.ExitNetwork) -> None:
    with pytest.raises(ConfigError, match=r"no exit behind slots \[4\]"):
        network.segments([1, 4])
    with pytest.raises(ConfigError, match=r"slots \[9\]"):
        exits.ExitNetwork(network.parts, {9: torch.nn.Identity()})


def test_scores_by_hand() -> None:
    """Probabilities 1/2, 1/4, 1/4: entropy 1.5 bits of log2(3)."""
    logits = torch.tensor([[1 / 2, 1 / 4, 1 / 4]]).log()
    assert 0.5 == pytest.approx(exits.max_softmax(logits).item())
    assert 0.25 == pytest.approx(exits.margin(logits).item())
    assert 1 - 1.5 / math.log2(3) == pytest.approx(exits.entropy(logits).item())


def test_a_margin_is_that_of_the_two_largest() -> None:
    """As a sorted list has it, to the bit; two classes that share the first place have none."""
    logits = torch.randn(500, 7, generator=torch.Generator().manual_seed(0)) * 4
    logits[0], logits[1, :2] = 0, 30
    first, second = logits.softmax(-1).topk(2, -1).values.T
    assert torch.equal(first - second, exits.margin(logits))
    assert [0, 0] == exits.margin(logits[:2]).tolist()


@pytest.mark.parametrize("name", sorted(exits.SCORES))
def test_scores_rise_from_not_knowing_to_certainty(name: str) -> None:
    logits = torch.stack([torch.tensor([s, 0.0, 0.0]) for s in np.linspace(0, 40, 9)]).float()
    found = exits.score(name)(logits)
    assert torch.all(found.diff() >= 0)
    assert 1.0 == pytest.approx(found[-1].item(), abs=1e-6)
    assert (1 / 3 if name == "max_softmax" else 0.0) == pytest.approx(found[0].item(), abs=1e-6)


def test_an_unknown_score_is_told_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'entropy'"):
        exits.score("entrpy")
