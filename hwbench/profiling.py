"""From a source to a table: what `hwbench profile` does, and what is asked of a table afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from hwbench import journal
from hwbench.backend import Backend
from hwbench.board import Board
from hwbench.campaign import CampaignPlan, CellsFailed, Progress, campaign, plan
from hwbench.errors import ConfigError, Inconclusive
from hwbench.farm import open_boards
from hwbench.fit import tabulate
from hwbench.measurement import Measurement
from hwbench.provenance import provenance
from hwbench.session import WindowSpec
from hwbench.setting import Setting
from hwbench.source import Source
from hwbench.store import Store
from hwbench.table import CalibrationSection, LatencyTable, Origin, RuntimeSection, SessionSection
from hwbench.target import Target
from hwbench.workload import Bundle

logger = logging.getLogger(__name__)

_FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One profile: what, on which target and runtime, and how long to look.

    backend: None = the target's first.  networks: random whole networks of a space, to fit the composition on.
    batch: how many inputs a run takes at once.  clocks: operating points, as `Target.settings` takes them.
    pause_s: rest between sessions.
    """

    target: Target
    backend: str | None
    source: Source
    units: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    batch: int = 1
    clocks: str = "found"
    sessions: int = 5
    networks: int = 64
    seed: int = 0
    how: WindowSpec = field(default_factory=WindowSpec)
    pause_s: float = 0.0

    @property
    def runtime(self) -> str:
        """Kind of the backend."""
        return self.target.backend_section(self.backend).kind

    @property
    def settings(self) -> list[Setting]:
        """What is measured: the target's settings of that backend."""
        return self.target.settings(
            self.backend,
            self.clocks,
            units=self.units,
            precisions=self.precisions,
            threads=self.threads,
            batch=self.batch,
        )

    @property
    def name(self) -> str:
        """What is measured, as run folders and tables are called: tables of another batch are tables of their own."""
        return self.source.name if self.batch == 1 else f"{self.source.name}-batch{self.batch}"

    def folder(self, runs: Path) -> Path:
        """Where bundle and store of this profile lie."""
        verb = "profile" if self.clocks == "found" else "sweep"
        return runs / f"{verb}-{self.target.name}-{self.runtime}-{self.name}"


def describe(job: Job, folder: Path) -> CampaignPlan:
    """Cells and estimated time, without measuring and without a board."""
    bundle = job.source.bundle(formats=(), out=folder / "plan", networks=job.networks, seed=job.seed)
    return plan(bundle, job.settings, sessions=job.sessions, how=job.how, pause_s=job.pause_s)


def profile(
    job: Job,
    folder: Path,
    *,
    resume: bool = False,
    fresh: bool = False,
    wait: bool = False,
    link: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    phase: Callable[[str], None] = logger.info,
    failed: Callable[[CellsFailed], None] | None = None,
) -> LatencyTable:
    """Measure all cells of a job and make their table.

    resume: go on where an interrupted profile stopped.  fresh: throw such a one away.  wait: for a board in use.
    link: only the board behind that link of the target; None = all of them share the work.
    failed: told of cells that could not be measured, while the table holds the others; None = that is raised.
    phase: told what begins.  Raises ConfigError when an unfinished profile is there and neither was said.
    """
    store_file = folder / "store.sqlite"
    _make_room(store_file, resume=resume, fresh=fresh)
    settings = job.settings
    with (
        Store(store_file, durable=not job.target.simulates) as store,
        open_boards(job.target, backend=job.backend, link=link, wait=wait) as boards,
    ):
        check_clocks(boards, settings)
        phase("exporting")
        bundle = job.source.bundle(
            formats=formats(boards[0].backend, settings), out=folder / "bundle", networks=job.networks, seed=job.seed
        )
        job = offered(job, boards[0].backend, bundle)
        phase("measuring")
        measured = measure(job, boards, bundle, store, progress=progress, failed=failed)
        store.set_meta(_FINISHED, "yes")
        return table_of(job, boards, bundle, measured, store)


def measure(
    job: Job,
    boards: Sequence[Board],
    bundle: Bundle,
    store: Store,
    *,
    progress: Callable[[Progress], None] | None = None,
    failed: Callable[[CellsFailed], None] | None = None,
) -> list[Measurement]:
    """All measurements of a bundle on open boards; `failed` as for `profile`."""
    measured: list[Measurement] = []
    try:
        for measurement in campaign(
            boards,
            bundle,
            job.settings,
            store,
            sessions=job.sessions,
            rng=np.random.default_rng(job.seed),
            how=job.how,
            progress=progress,
            pause_s=job.pause_s,
        ):
            measured.append(measurement)
    except CellsFailed as error:
        if failed is None or not measured:
            raise
        failed(error)
    return measured


def table_of(
    job: Job, boards: Sequence[Board], bundle: Bundle, measured: Sequence[Measurement], store: Store | None = None
) -> LatencyTable:
    """The table of these measurements, with where they come from."""
    identities = [board.identity(job.settings[0]) for board in boards if board.known or not board.given_up]
    # A simulation is the same whoever makes it, and whenever: so is its table.
    simulated = job.target.simulates
    made = provenance() | ({"created": "", "commit": ""} if simulated else {})
    name, _, version = identities[0]["runtime"].partition(" ")
    notes = [] if store is None or simulated else list(journal.sessions(store))
    table = tabulate(
        measured,
        bundle,
        origin=Origin(
            target=job.target.name,
            backend=job.runtime,
            space=job.source.name,
            boards=sorted({board_name(identity) for identity in identities}),
            created=made["created"],
            commit=made.get("commit", ""),
            command=made["command"],
        ),
        runtime=RuntimeSection(name=name, version=version),
        sessions=[
            SessionSection(
                session=note.session,
                grade=note.noise.grade,
                **{name: None if value is None else round(value, 3) for name, value in asdict(note.noise).items()},
                steal_ms=note.steal_ms,
                drift_percent=note.drift_percent,
                temps_c=dict(note.temps_c),
                flags=list(note.flags),
            )
            for note in notes
        ],
        switch_ms=journal.switch_ms(notes),
    )
    return replace(table, calibrations=_calibrations(job, table)) if simulated else table


def _calibrations(job: Job, table: LatencyTable) -> tuple[CalibrationSection, ...]:
    """What those parameters of a simulated board were fitted to that made the table's rows."""
    found = []
    for setting in dict.fromkeys(setting.without_clocks for setting in table.settings):
        parameters = job.target.parameters(setting)
        if parameters is not None and parameters.calibrated is not None:
            told = parameters.calibrated.model_dump()
            here = {"unit": setting.unit, "precision": setting.precision, "threads": setting.threads}
            found.append(CalibrationSection.model_validate({**here, **told}))
    return tuple(found)


def check_place(table: LatencyTable, identity: Mapping[str, str]) -> None:
    """Raise Inconclusive where a board is not one of the table's, or runs another runtime: their numbers differ anyway.

    identity: as `Board.identity` tells it.
    """
    here = (board_name(identity), identity["runtime"])
    there = f"{table.runtime.name} {table.runtime.version}"
    if here[0] not in table.origin.boards or here[1] != there:
        raise Inconclusive(
            f"{table.name} was measured on {', '.join(table.origin.boards)} with {there}, this is {here[0]} with "
            f"{here[1]}; their times differ whatever the network does; measure both networks here, or the table anew"
        )


def check_clocks(boards: Sequence[Board], settings: Sequence[Setting]) -> None:
    """Hold the grids of all clocks that the settings name against the boards', before hours of measuring.

    Raises ConfigError naming a board's nearest value.
    """
    named = {name for setting in settings for name, _ in setting.clocks}
    for board in boards:
        for clock in board.clocks:
            if clock.name in named:
                clock.grid()


def offered(job: Job, backend: Backend, bundle: Bundle) -> Job:
    """The job without those precisions that nobody asked for by name and that a user's bundle has no file of."""
    wanted = tuple(dict.fromkeys(setting.precision for setting in job.settings))
    first = {p: backend.formats(p)[:1] for p in wanted}  # nothing where descriptions are enough, as in a simulation
    there = tuple(p for p in wanted if not first[p] or any(first[p][0] in w.artifacts for w in bundle.workloads))
    if job.precisions or not there or there == wanted:
        return job
    absent = ", ".join(f"{p} (no {backend.formats(p)[0]})" for p in wanted if p not in there)
    logger.warning("%s: not measured in %s; its files have other formats", job.source.text, absent)
    return replace(job, precisions=there)


def formats(backend: Backend, settings: Sequence[Setting]) -> tuple[str, ...]:
    """The artifact formats that these settings need, each once."""
    wanted: dict[str, None] = {}
    for setting in settings:
        wanted.update(dict.fromkeys(backend.formats(setting.precision)[:1]))
    return tuple(wanted)


def board_name(identity: Mapping[str, str]) -> str:
    """Model and serial, as tables name a board; identity: as `Board.identity` tells it."""
    parts = [identity.get("board.model"), identity.get("board.serial")]
    return " ".join(p for p in parts if p) or "unknown"


def _make_room(store_file: Path, *, resume: bool, fresh: bool) -> None:
    if resume and fresh:
        raise ConfigError("--resume goes on and --fresh starts over; give one")
    if resume or not store_file.exists():
        return
    with Store(store_file) as store:
        finished = store.meta(_FINISHED) == "yes"
        windows = sum(1 for _ in store.facts(journal.WINDOW))
    if not finished and windows and not fresh:
        raise ConfigError(
            f"{store_file.parent}: an unfinished profile with {windows} windows is there; "
            "go on with --resume, or throw it away with --fresh"
        )
    for file in store_file.parent.glob(store_file.name + "*"):
        file.unlink()
