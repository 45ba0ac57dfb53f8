"""The analytic board: a law that can be checked by hand, and sessions in virtual time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbench.backend import Backend
from hwbench.backends import roofline
from hwbench.backends.roofline import Options, Roofline, Work, cost, costs, peak_memory_bytes
from hwbench.energy import integrate
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.link import Link
from hwbench.session import Prepared, Session, WindowSpec
from hwbench.setting import Setting
from hwbench.simulated import Nowhere, VirtualMeter
from hwbench.target import Simulation
from hwbench.workload import Bundle, Node, Op, Plan, Tensor, Workload
from tests.contracts.session import SHORT, SessionContract

GRIDS = {"gpu": (100.0, 400.0, 1000.0), "emc": (500.0, 2000.0)}
BOARD = Simulation(
    peak_gops=100,
    bandwidth_gbps=10,
    call_us=50,
    op_us=4,
    idle_mw=1500,
    static_mw=2000,
    dynamic_mw=8000,
    memory_mw=2000,
    compute_clock="gpu",
    memory_clock="emc",
)
SETTING = Setting(unit="gpu", precision="fp16")
ops = st.builds(
    Op,
    kind=st.just("conv"),
    macs=st.integers(0, 10**9),
    weight_count=st.integers(0, 10**7),
    read_count=st.integers(1, 10**7),
    write_count=st.integers(1, 10**7),
)


def _workload(*ops_: Op, key: str = "first") -> Workload:
    x = Tensor(name="x", dtype="float32", shape=(1, 8))
    return Workload(block_key=key, kind="block", inputs=(x,), outputs=(x,), ops=ops_, params=None)


def _op(macs: int = 10**6, weights: int = 10**4, moved: int = 10**5) -> Op:
    return Op(kind="conv", macs=macs, weight_count=weights, read_count=moved, write_count=moved)


def _at(gpu: float, emc: float) -> Setting:
    return replace(SETTING, clocks=(("emc", emc), ("gpu", gpu)))


def _options(**changes: object) -> Options:
    return Options.model_validate({"simulation": {"gpu": {"fp16": BOARD, "fp32": BOARD}}, "grids": GRIDS, **changes})


def test_a_run_is_the_call_and_a_smooth_maximum_for_each_operation() -> None:
    """By hand: 10⁶ MACs at 100 G/s are 10 µs, 420,000 bytes at 10 GB/s are 42 µs."""
    found = cost(BOARD, _workload(_op()), SETTING, GRIDS)
    each = (10.0**4 + 42.0**4) ** 0.25 + 4
    assert found.latency_us == pytest.approx(50 + each, rel=1e-12)
    drawn = 2000 * found.latency_us + 8000 * (0.3 * each + 0.7 * 10) + 2000 * (0.3 * each + 0.7 * 42)
    assert found.energy_uj == pytest.approx(drawn / 1e3, rel=1e-12)


def test_slower_clocks_and_their_voltage_enter_as_shares_of_the_highest() -> None:
    """400 of 100 … 1000 MHz: 0.4 of the speed, and a third of the way up from the lowest voltage."""
    found = cost(BOARD, _workload(_op()), _at(400, 500), GRIDS)
    each = (25.0**4 + 168.0**4) ** 0.25 + 4
    volt = 0.7 + 0.3 / 3
    drawn = 2000 * found.latency_us + 8000 * 0.4 * volt**2 * (0.3 * each + 0.7 * 25)
    drawn += 2000 * 0.25 * (0.3 * each + 0.7 * 168)
    assert found.latency_us == pytest.approx(50 + each, rel=1e-12)
    assert found.energy_uj == pytest.approx(drawn / 1e3, rel=1e-12)


def test_outputs_pools_and_fusing_enter_as_they_say() -> None:
    """By hand: 5 MACs for each of 10⁵ outputs are 5 µs more; a pool that reads thrice moves 800,000 bytes in 80 µs."""
    pool = Op(kind="pool", macs=0, weight_count=0, read_count=10**5, write_count=10**5)
    activation = replace(pool, kind="activation")
    richer = BOARD.model_copy(update={"output_macs": 5.0, "pool_reads": 3.0, "fused": ("activation",)})
    found = cost(richer, _workload(_op(), activation, pool), SETTING, GRIDS)
    each = (15.0**4 + 42.0**4) ** 0.25 + 4 + (5.0**4 + 80.0**4) ** 0.25 + 4
    assert found.latency_us == pytest.approx(50 + each, rel=1e-12)
    drawn = 2000 * found.latency_us + 8000 * (0.3 * each + 0.7 * 20) + 2000 * (0.3 * each + 0.7 * 122)
    assert found.energy_uj == pytest.approx(drawn / 1e3, rel=1e-12)


def test_many_networks_cost_what_each_costs_alone(rng: np.random.Generator) -> None:
    """Counted by how often each executes an operation, as a calibration asks."""
    described = [_op(), _op(macs=10**7, moved=10**4), replace(_op(), kind="pool")]
    times = rng.integers(0, 4, (5, 3))
    times[:, 0] += 1
    latency_us, energy_uj = costs(BOARD, Work.of(described), times, _at(400, 500), GRIDS)
    for i, counts in enumerate(times):
        alone = [op for op, count in zip(described, counts, strict=True) for _ in range(count)]
        one = cost(BOARD, _workload(*alone), _at(400, 500), GRIDS)
        assert (one.latency_us, one.energy_uj) == pytest.approx((latency_us[i], energy_uj[i]), rel=1e-12)


def test_a_number_of_threads_may_have_parameters_of_its_own() -> None:
    """Others run by those that hold for any."""
    single = BOARD.model_copy(update={"peak_gops": 30.0})
    board = BOARD.model_copy(update={"threads": {"1": single}})
    backend = roofline.open(_options(simulation={"gpu": {"fp16": board}}))
    found = [backend.parameters(replace(SETTING, threads=count)).peak_gops for count in (None, 1, 2)]
    assert [100.0, 30.0, 100.0] == found


@given(st.lists(ops, min_size=1, max_size=4), st.sampled_from([100.0, 400.0]), st.sampled_from(GRIDS["emc"]))
def test_latency_falls_as_clocks_rise(described: list[Op], gpu: float, emc: float) -> None:
    """Each of them, whatever runs."""
    workload = _workload(*described)
    slow = cost(BOARD, workload, _at(gpu, emc), GRIDS).latency_us
    assert cost(BOARD, workload, _at(1000.0, emc), GRIDS).latency_us <= slow
    assert cost(BOARD, workload, _at(gpu, 2000.0), GRIDS).latency_us <= slow


@given(st.lists(ops, min_size=1, max_size=4), ops)
def test_one_more_operation_costs_time_and_energy(described: list[Op], more: Op) -> None:
    """And a bigger one costs no less than a smaller."""
    shorter, longer = (cost(BOARD, _workload(*each), SETTING, GRIDS) for each in (described, [*described, more]))
    assert shorter.latency_us < longer.latency_us and shorter.energy_uj < longer.energy_uj
    bigger = cost(BOARD, _workload(*described, replace(more, macs=more.macs + 1000)), SETTING, GRIDS)
    assert longer.latency_us <= bigger.latency_us and longer.energy_uj <= bigger.energy_uj


@given(st.lists(ops, min_size=1, max_size=3), st.lists(ops, min_size=1, max_size=3))
def test_a_network_is_its_blocks_in_one_call(first: list[Op], second: list[Op]) -> None:
    """So a composition has something true to find: one call less for each block but one."""
    whole, *parts = (cost(BOARD, _workload(*each), SETTING, GRIDS) for each in (first + second, first, second))
    assert whole.latency_us == pytest.approx(sum(p.latency_us for p in parts) - 50, rel=1e-9)
    assert whole.energy_uj == pytest.approx(sum(p.energy_uj for p in parts) - 50 * 2000 / 1e3, rel=1e-9)


def test_energy_is_not_latency_rescaled() -> None:
    """Work that computes draws more than work that waits for memory."""
    computes = cost(BOARD, _workload(_op(macs=10**8, weights=1, moved=10)), SETTING, GRIDS)
    moves = cost(BOARD, _workload(_op(macs=10, weights=1, moved=10**7)), SETTING, GRIDS)
    assert computes.energy_uj / computes.latency_us > 1.5 * moves.energy_uj / moves.latency_us


def test_the_cheapest_operating_point_is_not_the_fastest() -> None:
    """What a search over clocks is for."""
    workload = _workload(*[_op(macs=10**8, weights=10**5, moved=10**5)] * 10)
    grid = [_at(gpu, emc) for gpu in GRIDS["gpu"] for emc in GRIDS["emc"]]
    latency = [cost(BOARD, workload, point, GRIDS).latency_us for point in grid]
    energy = [cost(BOARD, workload, point, GRIDS).energy_uj for point in grid]
    assert int(np.argmin(latency)) == len(grid) - 1
    assert int(np.argmin(energy)) < len(grid) - 1


def test_what_is_not_described_is_not_simulated() -> None:
    """A file of one's own says nothing of its operations; that is no latency of 0."""
    with pytest.raises(ConfigError, match="operations are not known"):
        cost(BOARD, _workload(), SETTING, GRIDS)


def test_memory_is_weights_and_the_largest_activations() -> None:
    """In bytes of the precision; a batch multiplies activations only."""
    workload = _workload(_op(weights=1000, moved=50), _op(weights=500, moved=200))
    assert peak_memory_bytes(workload, replace(SETTING, batch=3)) == 2 * (1500 + 3 * 400)


class TestSession(SessionContract):
    """Sessions of a simulation do what all sessions do."""

    @pytest.fixture
    def backend(self) -> Roofline:
        return roofline.open(_options())

    @pytest.fixture
    def session(self, backend: Roofline) -> Iterator[Session]:
        with backend.session(Nowhere(), SETTING) as session:
            yield session

    @pytest.fixture
    def prepared(self, backend: Roofline) -> Mapping[str, Prepared]:
        workloads = [_workload(_op(), key="first"), _workload(_op(macs=1000), key="next")]
        bundle = Bundle(root=Path("nowhere"), space=None, workloads=tuple(workloads))
        return {w.block_key: backend.prepare(Nowhere(), bundle, w, SETTING) for w in workloads}

    def test_it_says_that_it_is_simulated(self, session: Session) -> None:
        """Nothing that it tells is ever called measured."""
        assert str(session.hello.evidence) == "simulated"

    def test_the_meter_reads_the_energy_of_the_law(self, session: Session, prepared: Mapping[str, Prepared]) -> None:
        """Through the integration that every board's energy goes through: gross with idle, net without."""
        meter = VirtualMeter()
        session.load(prepared["first"])
        raw = session.window(["first"], WindowSpec(), meter.probes())
        idle = meter.total(session.idle(1.0, meter.probes()))
        assert set(idle.value) == {1500.0}
        end_ns = int(raw.start_ns[-1] + raw.run_ns[-1])
        told = integrate(meter.total(raw.traces), int(raw.start_ns[0]), end_ns, 1500.0, raw.run_ns.size)
        expected = cost(BOARD, _workload(_op()), SETTING, GRIDS)
        assert told.net_mj == pytest.approx(expected.energy_uj / 1e3, rel=1e-6)
        assert told.gross_mj == pytest.approx((expected.energy_uj + 1.5 * raw.run_ns[0] / 1e3) / 1e3, rel=1e-6)

    def test_one_session_serves_several_precisions(self, session: Session, backend: Roofline) -> None:
        """A campaign opens one for all cells of an operating point; each has its own parameters."""
        workload = _workload(_op())
        bundle = Bundle(root=Path("nowhere"), space=None, workloads=(workload,))
        runs = {}
        for precision in ("fp16", "fp32"):
            prepared = backend.prepare(Nowhere(), bundle, workload, replace(SETTING, precision=precision))
            session.load(prepared)
            runs[precision] = int(session.window(["first"], SHORT, ()).run_ns[0])
        assert runs["fp16"] < runs["fp32"]

    def test_no_inputs_are_answered(self, session: Session) -> None:
        """There are no weights; the message says where they are."""
        plan = Plan(name="cascade", nodes=(Node(node="final", block_key="first", answers=True),))
        with pytest.raises(PermanentDeviceError, match=r"no weights.*board itself"):
            session.answer(plan, Path("x.npy"), ())


@pytest.fixture
def backend() -> Backend:
    """Without noise."""
    return roofline.open(_options())


@pytest.fixture
def link() -> Link:
    """None is needed."""
    return Nowhere()


def _median_ms(backend: Roofline, number: int = 1) -> float:
    workload = _workload(_op())
    bundle = Bundle(root=Path("nowhere"), space=None, workloads=(workload,))
    prepared = backend.prepare(Nowhere(), bundle, workload, SETTING)
    for _ in range(number):
        session = backend.session(Nowhere(), SETTING)
    session.load(prepared)
    return float(np.median(session.window(["first"], SHORT, ()).run_ns)) / 1e6


def test_without_noise_every_session_says_the_same() -> None:
    """Bit for bit, also in another process: nothing is drawn."""
    assert _median_ms(roofline.open(_options())) == _median_ms(roofline.open(_options()), 3)


def test_noise_is_drawn_anew_for_each_session_from_the_seed() -> None:
    """So an interval over sessions has something to say, and a campaign can be repeated."""
    first, again, second = (_median_ms(roofline.open(_options(noise_percent=2.0, seed=7)), n) for n in (1, 1, 2))
    assert first == again
    assert first != second
    assert abs(first / second - 1) < 0.2
    assert first != _median_ms(roofline.open(_options(noise_percent=2.0, seed=8)))


def test_an_unknown_precision_or_unit_is_refused_with_the_known_ones(backend: Backend, link: Link) -> None:
    """Before anything is priced."""
    with pytest.raises(ConfigError, match=r"fp33.*fp16"):
        backend.formats("fp33")
    workload = _workload(_op())
    bundle = Bundle(root=Path("nowhere"), space=None, workloads=(workload,))
    with pytest.raises(ConfigError, match=r"simulation\.npu\.fp16.*gpu\.fp16"):
        backend.prepare(link, bundle, workload, replace(SETTING, unit="npu"))


def test_it_needs_no_file(backend: Backend, link: Link) -> None:
    """A description is enough, and its hash stands in the row where others have a file's."""
    workload = _workload(_op())
    bundle = Bundle(root=Path("nowhere"), space=None, workloads=(workload,))
    assert backend.formats("fp16") == ()
    prepared = backend.prepare_together(link, bundle, [workload], SETTING)[0]
    assert prepared.sha256 == workload.digest != _workload(_op(macs=1)).digest
    assert len(prepared.sha256) == len(hashlib.sha256().hexdigest())


def test_other_parameters_are_another_version() -> None:
    """Tables made with them do not merge, and no window of one is taken for the other's."""
    faster = _options(simulation={"gpu": {"fp16": BOARD.model_copy(update={"peak_gops": 200.0})}})
    assert roofline.open(_options()).version == roofline.open(_options()).version
    assert roofline.open(_options()).version != roofline.open(faster).version
