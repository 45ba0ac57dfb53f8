"""How quiet a board was in one session, from what was noticed of it, as a grade from A to D.

The grade is the worst of what is known; what nobody told does not count, and with nothing known there is no grade.

    grade   control strays   steal    others   switches   unsteady windows
    A       <= 1 %           0.1 %    3 %      10 /s      5 %
    B       <= 2 %           1 %      10 %     50 /s      20 %
    C       <= 5 %           5 %      50 %     200 /s     50 %
    D       more of any

A is a board that does nothing else; its intervals may be taken at their word. B is one that other work touches now and
then. C is a virtual machine or a desktop: medians forgive it, differences of a few percent need many sessions. D says
that somebody else had a core, or that the clock was never the same twice: measure again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from hwbench.statistics import mad

GRADES = "ABCD"
_BOUNDS: Mapping[str, tuple[float, float, float]] = {
    "control_percent": (1.0, 2.0, 5.0),
    "steal_percent": (0.1, 1.0, 5.0),
    "others_percent": (3.0, 10.0, 50.0),
    "switches_per_s": (10.0, 50.0, 200.0),
    "unsteady_percent": (5.0, 20.0, 50.0),
}
_SAID = {
    "control_percent": "control strays {:.1f} %",
    "steal_percent": "steal {:.1f} %",
    "others_percent": "others {:.0f} % of a core",
    "switches_per_s": "{:.0f} switches/s",
    "unsteady_percent": "{:.0f} % of windows unsteady",
}
# Scale that makes the MAD of normal samples their standard deviation.
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What was noticed of one session; None = nobody told.

    control_percent: how far the looks at the control workload stray from each other, one standard deviation.
    steal_percent: of the windows' time, what the hypervisor gave to others.  others_percent: of one core, what other
    processes used.  switches_per_s: how often somebody else took the processor from the agent.
    unsteady_percent: of the windows, those with a step or a drift after their second try.
    """

    control_percent: float | None = None
    steal_percent: float | None = None
    others_percent: float | None = None
    switches_per_s: float | None = None
    unsteady_percent: float | None = None

    @property
    def grade(self) -> str | None:
        """`A` to `D`; None where nothing is known."""
        found = [
            sum(value > bound for bound in _BOUNDS[name]) for name, value in asdict(self).items() if value is not None
        ]
        return GRADES[max(found)] if found else None

    @property
    def line(self) -> str:
        """`control strays 0.4 %, steal 0.0 %, …`; what is not known is left out."""
        return ", ".join(_SAID[name].format(value) for name, value in asdict(self).items() if value is not None)


def noise_of(windows: Sequence[tuple[Mapping[str, float], bool]], control_ms: Sequence[float]) -> Noise:
    """The noise of one session.

    windows: for each, what the agent noticed beside it (`elapsed_ms`, `steal_ms`, …), and whether it was steady.
    control_ms: the looks at the control, of which one alone says nothing.
    """
    heard = [noise for noise, _ in windows if noise.get("elapsed_ms", 0.0) > 0]
    elapsed_ms = sum(noise["elapsed_ms"] for noise in heard)

    def share(name: str) -> float | None:
        """Sum over the windows for each ms that they took; in a single one, ticks of the kernel's clock are coarse."""
        known = [noise[name] for noise in heard if name in noise]
        return max(0.0, sum(known) / elapsed_ms) if known and len(known) == len(heard) else None

    steal, others, switches = share("steal_ms"), share("others_ms"), share("involuntary_switches")
    control = np.asarray(control_ms, dtype=np.float64)
    return Noise(
        control_percent=100 * _MAD_TO_SIGMA * mad(control) / float(np.median(control)) if control.size > 1 else None,
        steal_percent=None if steal is None else 100 * steal,
        others_percent=None if others is None else 100 * others,
        switches_per_s=None if switches is None else 1e3 * switches,
        unsteady_percent=100 * sum(not steady for _, steady in windows) / len(windows) if windows else None,
    )


def middle(noises: Sequence[Noise]) -> Noise:
    """The median over sessions of each figure that any of them knows."""
    known = {name: [v for n in noises if (v := getattr(n, name)) is not None] for name in _BOUNDS}
    return Noise(**{name: float(np.median(values)) for name, values in known.items() if values})


def grade_of(grades: Sequence[str]) -> str | None:
    """The grade of a table: that of its middle session, the worse of two; None without any."""
    return sorted(grades)[len(grades) // 2] if grades else None
