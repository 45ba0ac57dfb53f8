"""models.spaces.sdu: the space of the SDU paper."""

from __future__ import annotations

from models.space import load_space

SPACE = load_space("sdu")


def test_five_stages_with_the_choices_of_the_paper() -> None:
    assert (4 * 4 * 3 * 4) ** 5 == SPACE.size()
    for stage in range(1, 6):
        genes = {g.group: g.values for g in SPACE.genes if g.name.endswith(f".{stage}")}
        assert (1, 2, 3, 4) == genes["depth"]
        assert (3, 5, 7) == genes["kernel"]
        assert (1, 2, 4, 6) == genes["expand"]
        assert [0.25, 0.5, 0.75, 1.0] == [w / genes["width"][-1] for w in genes["width"]]


def test_the_stem_is_fixed() -> None:
    assert () == SPACE.slots[0].genes
