"""Shows how a campaign gets on: a bar in a terminal, one plain line a phase elsewhere."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hwbench import campaign, view


class Bar:
    """Progress on stderr: a bar in a terminal, a line a phase elsewhere; silent with --json."""

    def __init__(self, *, quiet: bool) -> None:
        self._screen = view.console(stderr=True)
        self._quiet = quiet
        self._shown = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}", style="dim", markup=False),
            console=self._screen,
            # One redraw a second: drawing costs time on the machine that is being measured.
            refresh_per_second=1,
            auto_refresh=False,
            transient=True,
            disable=quiet or not self._screen.is_terminal,
        )
        self._task = self._shown.add_task("starting", total=None, last="")

    def __enter__(self) -> Bar:
        self._shown.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.stop()

    def phase(self, text: str) -> None:
        """A new phase begins."""
        if not self._quiet and not self._screen.is_terminal:
            self._screen.print(text)
        self._shown.update(self._task, description=text, refresh=True)

    def advance(self, progress: campaign.Progress) -> None:
        """One more window; drawn between windows, never while one is open."""
        self._shown.update(
            self._task,
            completed=progress.done,
            total=progress.total,
            last=f"{progress.cell.block_key} {progress.latency_ms:.4g} ms",
            refresh=True,
        )
