"""Both arms of a gate in the same fresh sessions: one bundle holds them, so a campaign shuffles them into each other.

After eight sessions most rows are decided; only those that are not are measured on, in twice as many sessions each
time. Both arms of a row are measured one right after the other, in random order: what the machine does to one it does
to the other, and falls out of their ratio. On a virtual machine that ratio strayed from session to session by 1.9 %,
clean and beside a busy neighbour (scaled MAD over 120 sessions each), and by 3 to 4 % with both arms placed at random.
Tenth percentiles instead of medians: 1.7 %, and no more rows decided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hwbench import gate_rule, profiling
from hwbench.board import Board, open_board
from hwbench.campaign import CellsFailed, Progress, campaign
from hwbench.errors import ConfigError
from hwbench.gate_arms import Arm
from hwbench.gate_report import GatePlace, GateRow
from hwbench.gate_rule import Docket, Effect, Rule
from hwbench.journal import median_ms
from hwbench.measurement import Cell, Measurement, Window
from hwbench.profiling import Job
from hwbench.session import WindowSpec
from hwbench.setting import Setting
from hwbench.source import Source
from hwbench.store import Store
from hwbench.table import LatencyTable
from hwbench.target import Target
from hwbench.workload import Bundle, Workload

_BASE, _NEW = "base.", "new."
_SPOILT = frozenset({"throttled", "clock_moved"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How to measure.

    sessions: fresh processes at first.  most_sessions: for rows that are not decided by then; doubled up to this.
    precisions, threads: as in Job.  how: the windows.  wait: for a board in use.
    """

    backend: str | None = None
    precisions: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    sessions: int = 8
    most_sessions: int = 128
    how: WindowSpec = field(default_factory=WindowSpec)
    seed: int = 0
    wait: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Rows of both arms, how often the question was asked, how they were measured, in words, and where.

    place: None = nothing had to be measured.
    """

    rows: list[GateRow]
    looks: int
    how: str
    place: GatePlace | None


def side_by_side(
    base: Arm,
    new: Arm,
    target: Target,
    place: Place,
    metric: str,
    rule: Rule,
    scratch: Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    phase: Callable[[str], None] = lambda text: None,
) -> Compared:
    """Measure the workloads of two bundles interleaved, until each row is decided or the sessions are used up.

    Workloads go together by their keys; two network files are one row. Files that are equal to the byte are ok unrun.
    """
    counts = gate_rule.looks(place.sessions, place.most_sessions)
    pairs = _pairs(base, new)
    with (
        open_board(target, backend=place.backend, wait=place.wait) as board,
        Store(scratch / "store.sqlite", durable=False) as store,
    ):
        bundle = _joined(pairs, base, new, scratch / "both")
        job = _job(target, place, new.name)
        run = _Run(
            board=board,
            bundle=bundle,
            store=store,
            place=place,
            metric=metric,
            docket=Docket(rule=replace(rule, looks=len(counts))),
            progress=progress,
        )
        settings = profiling.offered(job, board.backend, bundle).settings
        run.rows = [(row, setting) for setting in settings for row in _unmeasured(board, bundle, pairs, setting)]
        still = [at for at, (row, _) in enumerate(run.rows) if row.verdict == "inconclusive"]
        measured = bool(still)
        for count in counts:
            if still:
                phase(f"measuring {len(still)} rows in {count} sessions")
                run.look(still, count)
                still = run.docket.undecided
        identity = board.identity(settings[0]) if measured else {}
    return Compared(
        rows=[row for row, _ in run.rows],
        looks=len(counts),
        how=f"interleaved in {place.sessions} or more sessions on {target.name}",
        place=GatePlace(target=target.name, board=profiling.board_name(identity), runtime=identity["runtime"])
        if identity
        else None,
    )


def fresh_table(
    arm: Arm,
    target: Target,
    known: LatencyTable,
    place: Place,
    scratch: Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    phase: Callable[[str], None] = lambda text: None,
) -> tuple[LatencyTable, dict[Cell, tuple[float, ...]]]:
    """Measure an arm's workloads in the settings of a table's rows, with the table's runtime where none is named.

    Returns their table, and the latency of each in every session.
    Raises Inconclusive, before anything is measured, where the board or its runtime is not the table's.
    """
    if arm.bundle is None:
        raise ConfigError(f"{arm.name}: a table cannot be measured")
    settings = sorted({cell.setting for cell in known.row})
    job = _job(target, replace(place, backend=place.backend or known.origin.backend), arm.name)
    with (
        open_board(target, backend=job.backend, wait=place.wait) as board,
        Store(scratch / "store.sqlite", durable=False) as store,
    ):
        profiling.check_place(known, board.identity(settings[0]))
        phase(f"measuring {len(arm.bundle.workloads)} workloads in {place.sessions} sessions")
        measured = list(
            campaign(
                [board],
                arm.bundle,
                settings,
                store,
                sessions=place.sessions,
                rng=np.random.default_rng(place.seed),
                how=place.how,
                progress=progress,
            )
        )
        each = {m.cell: tuple(median_ms(w.run_ns) for w in m.windows) for m in measured}
        return profiling.table_of(job, [board], arm.bundle, measured), each


@dataclass(slots=True, kw_only=True)
class _Run:
    """One gate on an open board."""

    board: Board
    bundle: Bundle
    store: Store
    place: Place
    metric: str
    docket: Docket
    progress: Callable[[Progress], None] | None
    rows: list[tuple[GateRow, Setting]] = field(default_factory=list)

    def look(self, still: Sequence[int], sessions: int) -> None:
        """Measure these rows up to so many sessions, of which some may be there already, and judge them."""
        found: dict[Cell, Measurement] = {}
        failed: dict[Cell, str] = {}
        for setting in dict.fromkeys(self.rows[at][1] for at in still):
            keys = [self.rows[at][0].block_key for at in still if self.rows[at][1] == setting]
            try:
                for measurement in campaign(
                    [self.board],
                    self.bundle.only([arm + key for key in keys for arm in (_BASE, _NEW)]),
                    [setting],
                    self.store,
                    sessions=sessions,
                    rng=np.random.default_rng([self.place.seed, sessions]),
                    how=self.place.how,
                    progress=self.progress,
                    together=_row_of,
                ):
                    found[measurement.cell] = measurement
            except CellsFailed as error:
                failed.update(error.failures)
        effects: dict[int, Effect] = {}
        for at in still:
            row, setting = self.rows[at]
            was, now = (Cell(block_key=arm + row.block_key, setting=setting) for arm in (_BASE, _NEW))
            if was in failed or now in failed:
                # What ran before and runs no longer is as bad as a row that has gone.
                row = replace(row, verdict="inconclusive" if was in failed else "missing")
                why = failed[was] if was in failed else failed[now]
                self.rows[at] = replace(row, note=f"cannot be measured: {why}"), setting
                self.docket.drop(at)
                continue
            row, effect = self._weighed(row, found[was], found[now])
            self.rows[at] = row, setting
            if effect is not None:
                effects[at] = effect
        for at, effect in self.docket.hear(effects).items():
            row, setting = self.rows[at]
            self.rows[at] = row.judged(self.docket.verdicts[at], effect), setting

    def _weighed(self, row: GateRow, was: Measurement, now: Measurement) -> tuple[GateRow, Effect | None]:
        """The row with its values, and its effect, from the sessions in which neither arm was spoilt."""
        later = {w.session: w for w in now.windows}
        pairs = [(w, later[w.session]) for w in was.windows if not _SPOILT & {*w.flags, *later[w.session].flags}]
        values = [(self._value(b), self._value(n)) for b, n in pairs]
        known = [(b, n) for b, n in values if b is not None and n is not None]
        effect = gate_rule.paired([b for b, _ in known], [n for _, n in known])
        if effect is None:
            why = "the board throttled or moved its clocks" if len(pairs) < 3 else f"no {self.metric}"
            return replace(row, note=f"only {len(known)} sessions can be used: {why}"), None
        base, new = (float(np.median([pair[arm] for pair in known])) for arm in (0, 1))
        return replace(row, base=base, new=new, new_sessions=tuple(n for _, n in known), note=""), effect

    def _value(self, window: Window) -> float | None:
        return median_ms(window.run_ns) if self.metric == "latency_ms" else window.energy_mj


def _row_of(cell: Cell) -> tuple[str, Setting]:
    """What both arms of a row have in common."""
    return cell.block_key.partition(".")[2], cell.setting


def _pairs(base: Arm, new: Arm) -> dict[str, tuple[Workload | None, Workload | None]]:
    """Workloads of both arms by the key of their row; (None, …) where an arm has none."""
    if base.bundle is None or new.bundle is None:
        raise ConfigError("a table cannot be measured")
    if base.whole and new.whole:
        return {new.network: (base.bundle.workload(base.network), new.bundle.workload(new.network))}
    first, second = ({w.block_key: w for w in arm.workloads} for arm in (base.bundle, new.bundle))
    return {key: (first.get(key), second.get(key)) for key in {**first, **second}}


def _joined(pairs: dict[str, tuple[Workload | None, Workload | None]], base: Arm, new: Arm, folder: Path) -> Bundle:
    """One bundle of both arms; files stay where they are, behind two links."""
    folder.mkdir(parents=True)
    workloads: list[Workload] = []
    for place, (arm, prefix) in enumerate(((base, _BASE), (new, _NEW))):
        name = prefix.rstrip(".")
        if arm.bundle is not None:
            (folder / name).symlink_to(arm.bundle.root.resolve(), target_is_directory=True)
        for key, pair in pairs.items():
            workload = pair[place]
            if workload is not None:
                files = {f: replace(a, path=f"{name}/{a.path}") for f, a in workload.artifacts.items()}
                # What it consists of has other keys here, and nothing is composed.
                workloads.append(replace(workload, block_key=prefix + key, parts=(), artifacts=files))
    return Bundle(root=folder, space=None, workloads=tuple(workloads))


def _unmeasured(
    board: Board, bundle: Bundle, pairs: dict[str, tuple[Workload | None, Workload | None]], setting: Setting
) -> list[GateRow]:
    """What is known of the rows before anything is run; those that must be are `inconclusive`."""

    def sha256(arm: str, key: str) -> str:
        return board.artifact_sha256(bundle, bundle.workload(arm + key), setting)

    added = {key: sha256(_NEW, key) for key, (was, _) in pairs.items() if was is None}
    rows = []
    for key, (was, now) in sorted(pairs.items()):
        row = GateRow(block_key=key, setting=str(setting), verdict="inconclusive")
        if was is not None and now is not None:
            same = sha256(_BASE, key) == sha256(_NEW, key)
            rows.append(replace(row, verdict="ok", low=1.0, high=1.0, note="the same file") if same else row)
        elif was is not None:
            there = next((other for other, its in added.items() if its == sha256(_BASE, key)), None)
            added.pop(there or "", None)
            rows.append(
                replace(row, verdict="missing", note="no longer in the bundle")
                if there is None
                else replace(row, verdict="renamed", note=f"now {there}")
            )
    return rows + [GateRow(block_key=key, setting=str(setting), verdict="added") for key in added]


def _job(target: Target, place: Place, name: str) -> Job:
    """What a profile of this would be, for its settings and its table's origin."""
    return Job(
        target=target,
        backend=place.backend,
        source=Source(text=name, name=Path(name).stem),
        precisions=place.precisions,
        threads=place.threads,
        sessions=place.sessions,
        seed=place.seed,
        how=place.how,
    )
