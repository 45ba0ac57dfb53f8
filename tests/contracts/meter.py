"""What every meter must do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hwbench.energy import mean_power
from hwbench.measurement import Trace
from hwbench.meter import Meter

EMPTY = Trace(t_ns=np.zeros(0, dtype=np.int64), value=np.zeros(0), unit="raw")


class MeterContract:
    """Subclasses give `meter` (opened), `traces` (what it would be handed for 4 s) and `truth_mw` (their mean)."""

    def test_probes_have_names_of_their_own(self, meter: Meter) -> None:
        """Traces come back by name."""
        names = [probe.name for probe in meter.probes()]
        assert len(set(names)) == len(names)

    def test_its_rate_is_positive_or_unknown(self, meter: Meter) -> None:
        """0 samples a second would ask for an endless window."""
        assert meter.rate_hz is None or meter.rate_hz > 0

    def test_total_is_power_or_a_counter(self, meter: Meter, traces: Mapping[str, Trace], truth_mw: float) -> None:
        """In mW or uJ, in the order of time, and its mean is the board's power."""
        total = meter.total(traces)
        assert total.unit in ("mw", "uj")
        assert np.all(np.diff(total.t_ns) > 0)
        duration_ns, power_mw = mean_power(total, int(total.t_ns[0]), int(total.t_ns[-1]))
        assert duration_ns > 0
        assert abs(power_mw / truth_mw - 1) < 0.01

    def test_a_meter_that_the_agent_reads_has_no_traces_of_its_own(self, meter: Meter) -> None:
        """Either probes or `stop` give the samples, never both."""
        if meter.probes():
            meter.start()
            assert meter.stop(EMPTY) == {}
