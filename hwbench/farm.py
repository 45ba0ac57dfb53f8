"""Several boards of one kind in one campaign: opened together, worked in parallel, and asked whether they agree.

Whole sessions are spread, never the cells of one: every cell is then measured by the same boards equally often, so what
one board does faster than another shows in every interval and distorts no ratio between cells. Only when a board dies
are the cells that it still owed measured elsewhere.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from hwbench.board import Board, open_board
from hwbench.errors import ConfigError, DeviceError, HwbenchError, Inconclusive, TransientDeviceError
from hwbench.setting import Setting
from hwbench.target import Target

logger = logging.getLogger(__name__)

# Boards of one kind differ by a percent or two; more is another power mode, a hot case or a busy board.
AGREE_PERCENT = 5.0
_SAME_KIND = ("board.model", "board.cpu", "board.cores", "board.machine", "runtime")

Answer = TypeVar("Answer")
# Works on sessions (their numbers) with a board, asking between cells whether it is to stop.
Work = Callable[[int, Board, Callable[[], bool]], None]


@contextmanager
def open_boards(
    target: Target, *, backend: str | None = None, link: int | None = None, wait: bool = False
) -> Iterator[list[Board]]:
    """Open all boards of a target, or the one behind `link`; each has a lock of its own.

    Of several boards those that do not answer are named and left out. Raises what `open_board` raises when none does,
    and ConfigError when one is in use and `wait` is false.
    """
    # One simulated board is like the other.
    several = link is None and not target.simulates
    numbers = range(len(target.link)) if several else [link or 0]
    with ExitStack() as stack:
        boards: list[Board] = []
        for number in numbers:
            try:
                boards.append(stack.enter_context(open_board(target, backend=backend, link=number, wait=wait)))
            except DeviceError as error:
                if number == numbers[-1] and not boards:
                    raise type(error)(f"{error} {_way_out(target)}") from error
                logger.warning("going on without link %d of %s: %s", number, target.name, error)
        yield boards


def _way_out(target: Target) -> str:
    """What helps where no board answers."""
    simulate = "; without a board: --simulate" if target.simulation else ""
    return f"(see: hwbench doctor --target {target.name}{simulate})"


def put_back(target: Target) -> Iterator[str]:
    """Open every board of a target, which puts back what a crash left behind; a line on each.

    Raises, after all others had their turn, ConfigError when one is in use and DeviceError when one does not answer or
    cannot be put back.
    """
    failed: list[HwbenchError] = []
    for number in range(len(target.link)):
        try:
            with open_board(target, link=number) as board:
                states = [
                    f"{name} ({', '.join(f'{key} {value}' for key, value in state.items())})"
                    for name, state in sorted(board.put_back.items())
                ]
                name = board.name
        except HwbenchError as error:
            failed.append(error)
            continue
        yield f"{name}: " + (f"put back {', '.join(states)}" if states else "nothing to put back")
    if failed:
        raise failed[0]


def of_one_kind(boards: Sequence[Board], setting: Setting) -> list[Board]:
    """The boards that answer, after a look at who they are.

    Raises ConfigError when they differ in model, processor or runtime: their rows would not merge.
    """
    told = ask(boards, lambda board: board.identity(setting))
    first, one = told[0]
    for board, other in told[1:]:
        for key in _SAME_KIND:
            if one.get(key) != other.get(key):
                raise ConfigError(
                    f"{first.name} and {board.name} are not of one kind: {key.removeprefix('board.')} is "
                    f"{one.get(key)!r} on one and {other.get(key)!r} on the other; measure each with --link"
                )
    return [board for board, _ in told]


def ask(boards: Sequence[Board], question: Callable[[Board], Answer]) -> list[tuple[Board, Answer]]:
    """Ask one board after the other; those that are lost meanwhile are given up.

    Raises TransientDeviceError when all are.
    """
    answers: list[tuple[Board, Answer]] = []
    for board in boards:
        try:
            answers.append((board, question(board)))
        except TransientDeviceError as error:
            if board is boards[-1] and not answers:
                raise
            _give_up(board, error)
    return answers


def check_agreement(times: Mapping[str, float]) -> None:
    """Raise Inconclusive when boards are further apart than `AGREE_PERCENT`.

    times: by board, how long it takes for the same work, in any unit.
    """
    least = min(times.values(), default=0.0)
    if any(time > least * (1 + AGREE_PERCENT / 100) for time in times.values()):
        told = ", ".join(f"{name} {(time / least - 1) * 100:+.1f} %" for name, time in sorted(times.items()))
        raise Inconclusive(
            f"the boards do not agree: against the fastest, {told}; {AGREE_PERCENT:g} % is allowed. What was measured "
            "is kept: look at power mode, cooling and load of the odd one, or profile one board with --link"
        )


def spread(boards: Sequence[Board], sessions: Sequence[int], work: Work) -> None:
    """Let the boards work on the sessions in parallel, each on every len(boards)-th, one after the other.

    A board that raises a DeviceError is given up and what it had not finished is handed to the others; the error is
    raised when none is left. After any other error, and after Ctrl-C, all stop at the end of their open cell.
    """
    living, left = list(boards), list(sessions)
    if len(left) < len(living):
        logger.info("%d sessions for %d boards: the others have nothing to do", len(left), len(living))
    while left:
        ends = _work_off(living, left, work)
        for end in ends:
            if end.error is not None and not isinstance(end.error, DeviceError):
                raise end.error
        lost = [end for end in ends if end.error is not None]
        living = [end.board for end in ends if end.error is None]
        left = sorted(number for end in lost for number in end.left)
        for end in lost:
            if end.error is not None and not living:
                raise end.error
            _give_up(end.board, end.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """How a board ended its share.  left: the sessions it did not finish."""

    board: Board
    left: list[int]
    error: Exception | None


def _work_off(boards: Sequence[Board], sessions: Sequence[int], work: Work) -> list[_End]:
    """One share of the sessions to each board, a thread each; returns when all have ended."""
    stop = threading.Event()

    def share(board: Board, numbers: list[int]) -> _End:
        error: Exception | None = None
        try:
            while numbers and not stop.is_set():
                work(numbers[0], board, stop.is_set)
                # Of a session that was stopped nobody knows whether it is complete.
                if not stop.is_set():
                    del numbers[0]
        except DeviceError as found:
            error = found
        except Exception as found:  # raised where the campaign was asked for, once all threads have ended
            error = found
            stop.set()
        return _End(board=board, left=numbers, error=error)

    with ThreadPoolExecutor(len(boards), thread_name_prefix="board") as pool:
        futures = [pool.submit(share, board, list(sessions[i :: len(boards)])) for i, board in enumerate(boards)]
        try:
            return [future.result() for future in futures]
        except BaseException:
            logger.warning("stopping after the open cell of each board")
            stop.set()
            raise


def _give_up(board: Board, error: Exception | None) -> None:
    board.given_up = True
    logger.warning("%s is given up (%s); what it still had to measure goes to the others", board.name, error)
