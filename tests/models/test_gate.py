"""models.gate: what a gate computes, and that its description counts it."""

from __future__ import annotations

import torch

from models.block import gate_ops
from models.gate import Gate, seen


def test_a_gate_reads_logits_probabilities_and_the_largest() -> None:
    """By hand: two classes, odds three to one."""
    found = seen(torch.tensor([[3.0, 1.0]]).log())
    torch.testing.assert_close(found[0, 2:], torch.tensor([0.75, 0.25, 0.75]))
    torch.testing.assert_close(found[0, :2], torch.tensor([3.0, 1.0]).log())


def test_a_score_lies_between_0_and_1_whatever_the_logits() -> None:
    """One for each sample."""
    found = Gate(4)(torch.tensor([[80.0, 0, 0, -80.0], [0, 0, 0, 0], [-1e4, 1e4, 0, 0]]))
    assert (3,) == tuple(found.shape)
    assert ((found >= 0) & (found <= 1)).all()


def test_its_operations_count_the_weights_of_the_module() -> None:
    ops = gate_ops(10)
    assert sum(p.numel() for p in Gate(10).parameters()) == sum(op.weight_count for op in ops) == 21 * 16 + 16 + 16 + 1
    assert sum(op.macs for op in ops) == 21 * 16 + 16
