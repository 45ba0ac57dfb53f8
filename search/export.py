"""From a design to what a board runs: the supernet's weights, the trained state, and the bundle with its plan.

Torch is imported inside the functions: the command line that offers them must answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwbench.errors import ConfigError
from hwbench.workload import Bundle, Preprocessing
from models.space import load_space
from search.design import Design
from search.router import score_of

if TYPE_CHECKING:
    from models.exits import ExitNetwork

# What of a result of `answers` a network is built from again.
STATE = ("norm/", "head/", "gate/")
# Every format is checked on these against torch, and int8 takes its ranges from them.
_IMAGES = 128


def bundle(
    design: Design,
    *,
    checkpoint: Path,
    state: Mapping[str, np.ndarray],
    dataset: str,
    formats: Sequence[str],
    out: Path,
) -> Bundle:
    """Write a design's segments and its one plan into the folder `out`.

    state: the arrays `norm/…`, `head/…` and `gate/…` of the result of the design's `answers` task.
    Raises ConfigError where the state does not belong to the design's backbone.
    """
    import torch

    from models.datasets import load
    from models.export import deployment

    subnet = design.stages[0]
    if any((s.space, s.genes) != (subnet.space, subnet.genes) for s in design.stages):
        raise ConfigError(f"design {design.key} has stages of several backbones; only exits of one can be exported")
    space = load_space(subnet.space)
    train = load(dataset, "train")
    exits = [stage for stage in design.stages if stage.threshold is not None]
    return deployment(
        space,
        subnet.genes,
        network(checkpoint, subnet.space, subnet.genes, state),
        [space.positions[stage.position] for stage in exits],
        [stage.threshold for stage in exits if stage.threshold is not None],
        out=out,
        formats=formats,
        data=Preprocessing(shape=train.shape, mean=train.mean, std=train.std, labels=train.classes),
        images=torch.from_numpy(train.inputs(slice(0, _IMAGES))),
        score=score_of(subnet.router),
        patience=subnet.router == "patience",
        name=f"design-{design.key}",
    )


def network(checkpoint: Path, space_name: str, genes: Sequence[int], state: Mapping[str, np.ndarray]) -> ExitNetwork:
    """The extracted backbone with its recalibrated statistics, trained heads and, where there are, gates; eval mode."""
    import torch

    from models.exits import ExitNetwork, new_gates, new_heads
    from models.supernet import load

    space = load_space(space_name)
    supernet, _ = load(checkpoint, space)
    gates = new_gates(space, genes) if any(name.startswith("gate/") for name in state) else {}
    found = ExitNetwork(supernet.extract(genes), new_heads(space, genes), gates)
    wanted = {**_named("norm/", found.backbone.state_dict()), **_named("head/", found.heads.state_dict())}
    wanted |= _named("gate/", found.gates.state_dict())
    missing = sorted(name for name in wanted if name.startswith(("head/", "gate/")) and name not in state)
    unknown = sorted(name for name in state if name not in wanted)
    if missing or unknown:
        raise ConfigError(
            f"the trained state does not fit {space_name} {list(genes)} ({(missing + unknown)[0]}); "
            "it was made by another version of the models: search again"
        )
    for name, array in state.items():
        wanted[name].copy_(torch.from_numpy(np.array(array)))
    return found.eval()


def _named(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}
