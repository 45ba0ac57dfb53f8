"""How our command lines behave: one clear line for an expected error, its exit code, no traceback without --debug.

Both `hwbench` and `search` run their click groups through `run`.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Sequence

import click

from hwbench.errors import HwbenchError, nearest

_OURS = ("hwbench", "models", "search")
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class Group(click.Group):
    """A group that answers a mistyped command with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a usage error with the nearest known name otherwise."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.UsageError(f"no command {args[0]!r}{nearest(args[0], self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)


def run(group: click.Group, name: str, argv: Sequence[str] | None = None) -> int:
    """Run a group and return the exit code: 0 ok, 1 finding, 2 usage, 3 inconclusive, 4 device or runtime failure.

    `--debug` is taken anywhere on the line: tracebacks, and the dialogue with the board on stderr.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # The libraries we call are chatty at DEBUG; --debug is about our own dialogue.
    for noisy in ("matplotlib", "PIL", "filelock", "onnxscript", "jax", "absl"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        code = group.main(args=arguments, prog_name=name, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else name
        return _say(f"{where}: {error.format_message()}; see: {where} --help", 2, debug)
    except click.ClickException as error:
        return _say(error.format_message(), 2, debug)
    except (KeyboardInterrupt, click.Abort) as error:
        # A library that knows how to go on says so in the exception's text.
        return _say(f"interrupted{_hint(error)}", INTERRUPTED, debug)
    except HwbenchError as error:
        return _say(str(error), error.exit_code, debug)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OURS:
            return _last_resort(error, debug)
        return _say(
            f"{name}: this needs the Python package {package!r}, which is not installed here; "
            "pip install 'hwbench-nas[search]', or see the extras in the README",
            2,
            debug,
        )
    except BrokenPipeError:
        # The reader (head, less) has seen enough; Python would complain once more while it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _say(
                f"the disk is full ({error.filename or 'while writing'}); free some space and run again", 4, debug
            )
        return _say(f"{error.filename or name}: {error.strerror or error}", 2, debug)
    except Exception as error:
        return _last_resort(error, debug)


def _last_resort(error: Exception, debug: bool) -> int:
    """A bug, told in one line."""
    text = str(error).splitlines()[0] if str(error) else ""
    return _say(f"internal error, {type(error).__name__}: {text}; run again with --debug and report it", 4, debug)


def _hint(error: BaseException) -> str:
    # click turns a KeyboardInterrupt into an Abort without text.
    error = error.__cause__ or error if isinstance(error, click.Abort) else error
    return f"; {error}" if str(error) else "; nothing that was finished is lost, run the same command again to go on"


def _say(message: str, code: int, debug: bool) -> int:
    if debug:
        logging.getLogger(__name__).debug("traceback follows", exc_info=True)
    click.echo(f"error: {message}" if code != INTERRUPTED else message, err=True)
    return code
