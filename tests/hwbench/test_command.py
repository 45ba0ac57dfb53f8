"""What both command lines do when something a user may meet goes wrong."""

from __future__ import annotations

import errno
import importlib
import os

import click
import pytest

from hwbench.command import INTERRUPTED, Group, run
from hwbench.errors import Finding, Inconclusive, PermanentDeviceError


def failing(error: BaseException | None = None, module: str | None = None) -> click.Group:
    """A program whose only command raises, or imports a module."""
    group = Group()

    @group.command()
    def work() -> None:
        if module is not None:
            importlib.import_module(module)
        if error is not None:
            raise error

    return group


def outcome(capsys: pytest.CaptureFixture[str], group: click.Group, *argv: str) -> tuple[int, str]:
    """Exit code and what stands on stderr."""
    code = run(group, "prog", list(argv))
    return code, capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    ("error", "code"), [(Finding("slower"), 1), (Inconclusive("noisy"), 3), (PermanentDeviceError("no runtime"), 4)]
)
def test_an_expected_error_is_one_line_with_its_exit_code(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    """The exit codes of the README."""
    assert outcome(capsys, failing(error), "work") == (code, f"error: {error}")


def test_an_absent_package_is_named_with_the_way_to_install_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Measuring installs without torch; a search command must say what it lacks."""
    code, text = outcome(capsys, failing(module="no_such_package_here.part"), "work")
    assert code == 2
    assert "'no_such_package_here'" in text
    assert "pip install" in text
    assert len(text.splitlines()) == 1


def test_an_absent_module_of_our_own_is_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    """No package would bring it."""
    code, text = outcome(capsys, failing(module="hwbench.no_such_module"), "work")
    assert code == 4
    assert "internal error, ModuleNotFoundError" in text


def test_a_bug_is_one_line_and_debug_adds_the_traceback(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """No traceback without --debug."""
    code, text = outcome(capsys, failing(ValueError("first\nsecond")), "work")
    assert (code, text) == (4, "error: internal error, ValueError: first; run again with --debug and report it")
    with caplog.at_level("DEBUG"):
        run(failing(ValueError("first")), "prog", ["work", "--debug"])
    assert "Traceback" in caplog.text


def test_a_full_disk_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Naming the file that could not be written."""
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x/store.sqlite")
    code, text = outcome(capsys, failing(error), "work")
    assert code == 4
    assert "runs/x/store.sqlite" in text
    assert "free some space" in text


def test_an_interruption_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    """What a library put into the exception is passed on."""
    code, text = outcome(capsys, failing(KeyboardInterrupt("resume with: prog work --resume")), "work")
    assert code == INTERRUPTED
    assert text == "interrupted; resume with: prog work --resume"


def test_a_mistyped_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """Usage errors are 2."""
    code, text = outcome(capsys, failing(), "wrok")
    assert code == 2
    assert "did you mean 'work'" in text
