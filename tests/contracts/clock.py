"""What every clock must do."""

from __future__ import annotations

import pytest

from hwbench.clock import Clock
from hwbench.errors import ConfigError, PermanentDeviceError


class ClockContract:
    """Subclasses give the fixture `clock`: opened, as a board offers it."""

    def test_it_has_a_name_that_an_operating_point_can_hold(self, clock: Clock) -> None:
        """`NAME=VALUE` pairs are separated by spaces."""
        assert clock.name
        assert not set(clock.name) & set(" =,;\n")

    def test_each_value_of_its_grid_can_be_set(self, clock: Clock) -> None:
        """Setting tells how long it took, and the probe, where there is one, is read in MHz, kHz or Hz."""
        for value in clock.grid():
            assert clock.set(value) >= 0
        probe = clock.probe()
        assert probe is None or probe.unit in ("mhz", "khz", "hz", "raw")

    def test_a_value_outside_of_its_grid_is_refused(self, clock: Clock) -> None:
        """No board runs at 1 mHz."""
        with pytest.raises((ConfigError, PermanentDeviceError)):
            clock.set(1e-9)

    def test_what_state_found_is_put_back(self, clock: Clock) -> None:
        """All that restore needs are strings, so that a record can hold them."""
        state = clock.state()
        assert all(isinstance(name, str) and isinstance(value, str) for name, value in state.items())
        for value in clock.grid():
            clock.set(value)
        clock.restore(state)
        assert clock.state() == state
