"""Answers of a backbone are those of the network that an export builds, whoever computes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench.errors import ConfigError
from hwbench.store import Result
from models import datasets
from models.exits import ExitNetwork
from models.space import Space, load_space
from models.supernet import create, save
from models.training.exits import answer
from search import export
from search.engines import local
from search.task import File, Task, run

pytestmark = pytest.mark.usefixtures("outside")


@pytest.fixture(scope="module")
def space() -> Space:
    return load_space("digits")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, space: Space) -> File:
    """Weights as they are before any training."""
    file = tmp_path_factory.mktemp("weights") / "digits.safetensors"
    save(file, create(space, seed=3))
    return File.of(file)


def asked(checkpoint: File, genes: np.ndarray, *, exits: bool, seed: int = 0) -> Task:
    args = {"space": "digits", "genes": genes.tolist(), "dataset": "few", "exits": exits, "seed": seed}
    return Task(kind="answers", args=args, files={"checkpoint": checkpoint})


@pytest.fixture
def exits(checkpoint: File, space: Space) -> Result:
    """Of the smallest network, with all its exits."""
    return run(asked(checkpoint, space.smallest(), exits=True))


def test_shapes_and_values_are_as_the_docstring_says(exits: Result, space: Space) -> None:
    """N = 160 samples of val, one answer an exit and the classifier's last."""
    heads = np.flatnonzero(space.head_ids(space.smallest()[None])[0] >= 0)
    assert [*heads.tolist(), -1] == exits.arrays["positions"].tolist()
    shape = (160, len(heads) + 1)
    expected = {"answer": (np.int16, shape), "score": (np.float32, shape), "label": (np.int16, (160,))}
    assert expected == {name: (exits.arrays[name].dtype, exits.arrays[name].shape) for name in expected}
    assert np.isfinite(exits.arrays["difficulty"]).all()
    right = exits.arrays["answer"][:, -1] == exits.arrays["label"]
    assert {"accuracy": right.mean(), "samples": 160, "params": 3810} == exits.values


def test_training_exits_leaves_the_backbone_as_it_is(checkpoint: File, space: Space, exits: Result) -> None:
    """Its own classifier answers the same with exits and without; the score, too, to the bit."""
    alone = run(asked(checkpoint, space.smallest(), exits=False))
    assert (160, 1) == alone.arrays["answer"].shape
    for name in ("answer", "score"):
        assert np.array_equal(alone.arrays[name][:, -1], exits.arrays[name][:, -1])


def test_the_state_builds_the_network_that_answered(checkpoint: File, space: Space, exits: Result) -> None:
    """What is exported is what was searched."""
    state = {name: array for name, array in exits.arrays.items() if name.startswith(export.STATE)}
    built = export.network(checkpoint.path, "digits", space.smallest().tolist(), state)
    assert isinstance(built, ExitNetwork)
    again = answer(built, datasets.load("few", "val"))
    assert np.array_equal(exits.arrays["answer"], again.answer)
    assert np.allclose(exits.arrays["score"], again.score, atol=1e-6)


def test_a_learned_score_brings_its_gates_along(checkpoint: File, space: Space, exits: Result) -> None:
    """Heads and answers are those of any other score; the state builds the gates that scored; none without exits."""
    genes = space.smallest()
    task = asked(checkpoint, genes, exits=True)
    learned = run(replace(task, args={**task.args, "score": "learned"}))
    assert np.array_equal(exits.arrays["answer"], learned.arrays["answer"])
    assert not np.allclose(exits.arrays["score"][:, :-1], learned.arrays["score"][:, :-1])
    state = {name: array for name, array in learned.arrays.items() if name.startswith(export.STATE)}
    own = {name for name in state if name.startswith("gate/")}
    assert own == state.keys() - exits.arrays.keys() and own
    built = export.network(checkpoint.path, "digits", genes.tolist(), state)
    again = answer(built, datasets.load("few", "val"), "learned")
    np.testing.assert_allclose(learned.arrays["score"], again.score, atol=1e-6)
    # What was trained answers again and is not trained anew.
    told = run(replace(task, args={**task.args, "score": "learned", "seed": 5}, arrays=state))
    np.testing.assert_allclose(learned.arrays["score"], told.arrays["score"], atol=1e-6)
    with pytest.raises(ConfigError, match="does not fit"):
        export.network(checkpoint.path, "digits", genes.tolist(), {n: a for n, a in state.items() if n != min(own)})
    alone = asked(checkpoint, genes, exits=False)
    static = run(replace(alone, args={**alone.args, "score": "learned"}))
    assert np.array_equal(static.arrays["score"], exits.arrays["score"][:, -1:])


def test_workers_give_the_bytes_of_this_process(checkpoint: File, space: Space, exits: Result) -> None:
    """One thread everywhere, whatever torch was told before."""
    genes = [space.smallest(), *space.sample(1, np.random.default_rng(0))]
    tasks = [asked(checkpoint, g, exits=e) for g in genes for e in (True, False)]
    with local.open(local.Options(workers=2)) as engine:
        found = {done.task.key: done.result for done in engine.run(tasks)}
    for task in tasks:
        here = run(task)
        assert here.values == found[task.key].values
        assert here.arrays.keys() == found[task.key].arrays.keys()
        assert all(np.array_equal(array, found[task.key].arrays[name]) for name, array in here.arrays.items())


def test_another_seed_trains_other_exits(checkpoint: File, space: Space, exits: Result) -> None:
    """And asks for another task."""
    other = asked(checkpoint, space.smallest(), exits=True, seed=1)
    assert other.key != asked(checkpoint, space.smallest(), exits=True).key
    assert not np.array_equal(exits.arrays["score"][:, 0], run(other).arrays["score"][:, 0])


def test_a_checkpoint_that_changed_is_refused(checkpoint: File, space: Space, tmp_path: Path) -> None:
    """The key promises one content."""
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(checkpoint.path.read_bytes())
    task = asked(File.of(copy), space.smallest(), exits=False)
    save(copy, create(space, seed=4))
    with pytest.raises(ConfigError, match="changed while it was searched"):
        run(task)


def test_the_test_split_stays_closed(checkpoint: File, space: Space) -> None:
    """The data set of this test raises KeyError when `test` is opened."""
    with pytest.raises(KeyError):
        datasets.load("few", "test")
    run(asked(checkpoint, space.smallest(), exits=True))
