"""models.space: encodings, exact cardinality, look-ups, files and subnets."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwbench.errors import ConfigError
from hwbench.workload import Op
from models.space import Block, Gene, Slot, Space, Subnet, load_space

TORCH_FREE = ("models.space", "models.stages", "models.cardinality", "models.block", "models.spaces")


def block(index: int) -> Block:
    """A block whose parameters and MACs are powers of two, so that a sum names its terms."""
    op = Op(kind="conv", macs=2**index, weight_count=1, read_count=10 + index, write_count=5)
    return Block(
        key=f"b{index}", kind="mbconv", in_shape=(1, 2, 2), out_shape=(2, 1, 1), ops=(op,), params=3 * 2**index
    )


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Small spaces with arbitrary tables: genes that matter always, sometimes or never."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    slots = []
    for _ in range(draw(st.integers(1, 3))):
        genes = tuple(draw(st.lists(st.sampled_from(range(len(sizes))), max_size=len(sizes), unique=True)))
        shape = [sizes[g] for g in genes]
        cells = int(np.prod(shape))
        values = draw(st.lists(st.integers(-1, 2), min_size=cells, max_size=cells))
        slots.append(Slot(genes=genes, block=np.array(values).reshape(shape), count=draw(st.integers(1, 2))))
    heads = draw(st.integers(0, len(slots) - 1))
    return Space(
        name="small",
        genes=tuple(Gene(name=f"g{i}", values=tuple(range(n)), group="any") for i, n in enumerate(sizes)),
        slots=tuple(slots[heads:]),
        blocks=tuple(block(i) for i in range(3)),
        positions=(0,) * heads,
        heads=tuple(slots[:heads]),
    )


def every_point(space: Space) -> np.ndarray:
    """All points, canonical or not."""
    return np.array(list(itertools.product(*(range(n) for n in space.sizes))), np.int16)


def network(space: Space, point: np.ndarray) -> tuple[int, ...]:
    """What runs, looked up slot by slot in the slowest way."""
    return tuple(int(s.block[tuple(point[g] for g in s.genes)]) for s in (*space.slots, *space.heads))


def is_canonical(space: Space, point: np.ndarray) -> bool:
    """The definition: no gene but a 0 may be without effect at this point."""
    for gene, size in enumerate(space.sizes):
        changed = [np.concatenate([point[:gene], [v], point[gene + 1 :]]) for v in range(size)]
        if point[gene] and len({network(space, p) for p in changed}) == 1:
            return False
    return True


@given(spaces())
@settings(max_examples=150, deadline=None)
def test_size_counts_the_points_whose_inert_genes_are_zero(space: Space) -> None:
    assert sum(is_canonical(space, p) for p in every_point(space)) == space.size()


@given(spaces())
@settings(max_examples=100, deadline=None)
def test_canonical_points_run_the_same_blocks_and_stay_as_they_are(space: Space) -> None:
    points = every_point(space)
    canonical = space.canonical(points)
    assert [network(space, p) for p in points] == [network(space, p) for p in canonical]
    assert np.array_equal(canonical, space.canonical(canonical))
    assert all(is_canonical(space, p) for p in canonical)


@given(spaces(), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_every_sample_is_canonical(space: Space, seed: int) -> None:
    drawn = space.sample(20, np.random.default_rng(seed))
    assert (20, len(space.genes)) == drawn.shape
    assert np.array_equal(space.canonical(drawn), drawn)


@given(spaces())
@settings(max_examples=100, deadline=None)
def test_vectorised_look_ups_equal_a_loop_over_slots(space: Space) -> None:
    points = every_point(space)
    ids = np.concatenate([space.block_ids(points), space.head_ids(points)], axis=1)
    assert [network(space, p) for p in points] == [tuple(row) for row in ids.tolist()]
    runs = [
        [(space.blocks[b], s.count) for s, b in zip(space.slots, row, strict=True) if b >= 0]
        for row in space.block_ids(points)
    ]
    assert [sum(b.params * n for b, n in run) for run in runs] == space.params(points).tolist()
    assert [sum(b.macs * n for b, n in run) for run in runs] == space.macs(points).tolist()
    peaks = [max((b.peak_activation_count for b, _ in run), default=0) for run in runs]
    assert peaks == space.peak_activation_count(points).tolist()


@given(spaces())
@settings(max_examples=50, deadline=None)
def test_a_space_read_back_equals_the_one_written(tmp_path_factory: pytest.TempPathFactory, space: Space) -> None:
    file = tmp_path_factory.mktemp("space") / "space.json"
    space.write(file)
    again = Space.read(file)
    assert space == again
    assert space.digest() == again.digest()
    assert space == load_space(file)


def test_samples_are_uniform_over_canonical_points(rng: np.random.Generator) -> None:
    """A depth of 1 or 2 with three kernels in the second layer: 1 + 3 points, not 2 × 3."""
    table = np.array([[-1, -1, -1], [0, 1, 2]])
    space = Space(
        name="deep",
        genes=(
            Gene(name="depth", values=(1, 2), group="depth"),
            Gene(name="kernel", values=(3, 5, 7), group="kernel"),
        ),
        slots=(Slot(genes=(0, 1), block=table),),
        blocks=tuple(block(i) for i in range(3)),
    )
    assert space.size() == 4
    rows, counts = np.unique(space.sample(8000, rng), axis=0, return_counts=True)
    assert [[0, 0], [1, 0], [1, 1], [1, 2]] == rows.tolist()
    # Four standard deviations of a binomial with p = 1/4.
    assert np.abs(counts - 2000).max() < 4 * np.sqrt(8000 * 3 / 16)


def test_more_candidates_than_one_pass_are_looked_up_alike(rng: np.random.Generator) -> None:
    space = load_space("sdu")
    points = space.sample(40_000, rng)
    ids = space.block_ids(points)
    for row in (0, 16_383, 16_384, 39_999):
        assert network(space, points[row])[: len(space.slots)] == tuple(ids[row].tolist())


def test_smallest_and_largest_bound_every_sample(rng: np.random.Generator) -> None:
    for name in ("sdu", "attentivenas"):
        space = load_space(name)
        drawn = space.params(space.sample(500, rng))
        assert space.params(space.smallest())[0] < drawn.min()
        assert drawn.max() < space.params(space.largest())[0]


@pytest.mark.parametrize(
    ("genes", "told"),
    [([[0, 9]], "gene 'kernel' is 9"), ([[-1, 0]], "gene 'depth' is -1"), ([[0]], "2 genes"), ([[0.5, 1.0]], "index")],
)
def test_genes_outside_their_range_are_refused_by_name(genes: list[list[float]], told: str) -> None:
    space = Space(
        name="two",
        genes=(Gene(name="depth", values=(1, 2), group="depth"), Gene(name="kernel", values=(3, 5), group="kernel")),
        slots=(Slot(genes=(0, 1), block=np.zeros((2, 2))),),
        blocks=(block(0),),
    )
    with pytest.raises(ConfigError, match=told):
        space.canonical(np.array(genes))


def test_a_subnet_is_its_text_and_its_key_needs_canonical_genes() -> None:
    space = load_space("sdu")
    subnet = space.subnet(space.largest())
    assert subnet == Subnet.parse(str(subnet))
    assert subnet.key == Subnet.parse(str(subnet)).key
    assert subnet.key != space.subnet(space.smallest()).key
    assert len(subnet.key) == 32
    with pytest.raises(ConfigError, match="expected SPACE"):
        Subnet.parse("sdu:1.x")


def test_choice_names_the_values_of_a_candidate() -> None:
    space = load_space("attentivenas")
    choice = space.choice(space.smallest())
    assert (192, 16, 1, 3, 4) == tuple(
        choice[k] for k in ("resolution", "width.stem", "depth.1", "kernel.7", "expand.2")
    )


def test_an_unknown_space_is_told_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'attentivenas'"):
        load_space("attentivnas")


def _break(text: str, how: str) -> str:
    raw = json.loads(text)
    if how == "cut short":
        return text[: len(text) // 2]
    if how == "unknown key":
        raw["genes"][0]["valeus"] = [1]
    elif how == "schema":
        raw["schema"] = 99
    elif how == "not a space":
        raw = [1, 2]
    elif how == "table":
        raw["slots"][0]["block"].append(0)
    elif how == "gene":
        raw["slots"][0]["genes"] = [77]
    elif how == "block":
        raw["slots"][0]["block"][0] = 10**6
    elif how == "twice":
        raw["blocks"].append(raw["blocks"][0])
    return json.dumps(raw)


@pytest.mark.parametrize(
    "how", ["cut short", "unknown key", "schema", "not a space", "table", "gene", "block", "twice"]
)
def test_a_broken_file_is_refused_and_named(tmp_path: Path, how: str) -> None:
    file = tmp_path / "mine.json"
    load_space("sdu").write(file)
    file.write_text(_break(file.read_text(), how))
    with pytest.raises(ConfigError, match=r"mine\.json"):
        load_space(file)


def test_a_missing_file_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.json: cannot be read"):
        load_space(tmp_path / "absent.json")


def test_spaces_need_no_torch() -> None:
    """In a process where importing torch fails, every built-in space still loads and samples."""
    code = (
        "import sys, numpy as np\n"
        "sys.modules['torch'] = None\n"
        f"for m in {TORCH_FREE!r}: __import__(m)\n"
        "from hwbench import plugin\n"
        "from models.space import load_space\n"
        "for n in plugin.names('models.spaces'):\n"
        "    s = load_space(n); assert s.block_ids(s.sample(3, np.random.default_rng(0))).shape == (3, len(s.slots))\n"
        "print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr
