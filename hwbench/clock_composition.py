"""A composition at an operating point where no whole network was measured.

Whole networks have clock models of their own, as blocks have. So the point's composition is fitted there as anywhere:
on what the models say of networks and blocks. Averages of the coefficients at measured points are no match for it: a
call is most of a small block, so that a network is a difference of large sums, and what models of blocks have wrong in
common must be taken up by the call (simulated TX2: 1.1 % instead of 7 %). How far networks are from what is predicted
is measured by leaving each point out: `fit.between`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from hwbench import composition
from hwbench.composition import Composition, Error, Range
from hwbench.samples import Samples
from hwbench.setting import Clocks, Setting


def nearby(compositions: Sequence[Composition], metric: str, setting: Setting) -> list[Composition]:
    """Those of the metric and setting whose clocks say something about its operating point.

    They name the same clocks with the same modes; without any of those, what was fitted at clocks as found.
    """
    plain = setting.without_clocks
    alike = [c for c in compositions if c.metric == metric and c.setting.without_clocks == plain]
    shape = _shape(setting.clocks)
    return [c for c in alike if _shape(c.setting.clocks) == shape] or [c for c in alike if not c.setting.clocks]


def between(near: Sequence[Composition], setting: Setting, modelled: Samples, error: Error) -> Composition | None:
    """The composition that models of networks and blocks tell; None where there are too few of them.

    near: of measured points; it has the form that most of those have.  modelled: as the clock models have them at that
    point.  error: on networks at points left out.
    """
    if len(modelled.measured) < composition.MINIMUM_NETWORKS:
        return None
    (usual, _), *_ = Counter((c.alone is None, bool(c.factor)) for c in near).most_common(1)
    fitted = composition.fit_as(
        next(c for c in near if (c.alone is None, bool(c.factor)) == usual),
        setting,
        sums=modelled.sums,
        counts=modelled.counts,
        elements=modelled.elements,
        measured=modelled.measured,
        blocks=modelled.blocks,
    )
    return replace(fitted, error=error)


def scaled(found: Composition, setting: Setting, ratio: float, error: Error) -> Composition:
    """One that was fitted at clocks as found, at a point: scale and factors are ratios and carry over.

    ratio: how much more a typical block costs there, and so what a call, an element and standing alone cost.
    """
    return replace(
        found,
        setting=setting,
        call=found.call * ratio,
        layout=found.layout * ratio,
        alone=found.paid_alone * ratio,
        error=error,
        valid=Range(low=found.valid.low * ratio, high=found.valid.high * ratio),
    )


def _shape(clocks: Clocks) -> tuple[tuple[str, str], ...]:
    """Names, and modes: what must be the same."""
    return tuple((name, value if isinstance(value, str) else "") for name, value in clocks)
