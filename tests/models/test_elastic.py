"""models.elastic: small layers as parts of large ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwbench.errors import ConfigError
from models.elastic import cut, lend, normalise


def test_channels_are_cut_from_the_front_and_kernels_from_the_centre() -> None:
    weight = torch.arange(4 * 3 * 7 * 7).reshape(4, 3, 7, 7)
    assert torch.equal(weight[:2, :1, 2:5, 2:5], cut(weight, (2, 1, 3, 3)))
    assert torch.equal(weight[:, 0, 0, 0][:3], cut(weight[:, 0, 0, 0], (3,)))


@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (4, 3, 9, 9), (4, 3)])
def test_a_part_larger_than_the_whole_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="cannot lend"):
        cut(torch.zeros(4, 3, 7, 7), shape)


def test_lending_copies() -> None:
    large, small = nn.Conv2d(8, 8, 5), nn.Conv2d(4, 2, 3)
    lend(large, small)
    assert torch.equal(large.weight[:2, :4, 1:4, 1:4], small.weight)
    small.weight.data.zero_()
    assert large.weight.abs().min() > 0


def test_a_layer_the_shared_weights_lack_is_named() -> None:
    with pytest.raises(ConfigError, match="hold no 'bias'"):
        lend(nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 4, 1))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_follow_as_in_a_layer_of_that_size(momentum: float | None) -> None:
    """Three batches through four of six channels: torch's own layer of four agrees, the other two stay untouched."""
    shared, own = nn.BatchNorm2d(6, momentum=momentum), nn.BatchNorm2d(4, momentum=momentum)
    for _ in range(3):
        x = torch.randn(8, 4, 5, 5) * 3 + 1
        assert torch.allclose(own(x), normalise(shared, x))
    assert torch.allclose(own.running_mean, shared.running_mean[:4])
    assert torch.allclose(own.running_var, shared.running_var[:4])
    assert [0.0, 0.0] == shared.running_mean[4:].tolist()
    x = torch.randn(8, 4, 5, 5)
    assert torch.allclose(own.eval()(x), normalise(shared.eval(), x))
