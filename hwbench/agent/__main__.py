"""The agent's loop: reads one request a line, answers it, ends when its input ends."""

import hashlib
import os
import platform
import shutil
import sys
from typing import IO, Any, Dict, Mapping, Optional

from hwbench.agent import machine, protocol
from hwbench.agent.executor import Executor
from hwbench.agent.protocol import AgentError


class Agent:
    """One dialogue."""

    def __init__(self, replies: IO[bytes]) -> None:
        self._replies = replies
        self._executor: Optional[Executor] = None
        self.folder: Optional[str] = None

    def reply(self, message: Mapping[str, Any]) -> None:
        """Send one line."""
        self._replies.write(protocol.encode(message))
        self._replies.flush()

    def handle(self, message: Mapping[str, Any]) -> bool:
        """Answer one request; False after `bye`."""
        number, op = message.get("id"), message.get("op")
        try:
            self.reply(dict(self._answer(number, op, message), id=number, ok=True))
        except AgentError as error:
            self.reply({"id": number, "error": {"kind": error.kind, "message": str(error)}})
        except MemoryError:
            self.reply({"id": number, "error": {"kind": "runtime", "message": "the board has not enough memory"}})
        except (KeyError, TypeError, ValueError) as error:
            told = "{} {!r}: {} {}".format("request", op, type(error).__name__, error)
            self.reply({"id": number, "error": {"kind": "request", "message": told}})
        except OSError as error:
            # A full disk, a folder taken away: the host must hear of it while the pipe still works.
            self.reply({"id": number, "error": {"kind": "file", "message": str(error)}})
        return op != "bye"

    def _answer(self, number: Any, op: Any, message: Mapping[str, Any]) -> Dict[str, Any]:
        if op == "hello":
            return self._hello(message)
        if op == "bye":
            return {}
        if self._executor is None:
            raise AgentError("request", "{!r} before `hello`".format(op))
        if op == "load":
            return self._executor.load(message)
        if op == "drop":
            return self._executor.drop(message)
        if op == "idle":
            return self._executor.idle(message)
        if op == "window":
            return self._executor.window(message)
        if op == "answer":
            return self._executor.answer(message, lambda done: self.reply({"id": number, "progress": done}))
        raise AgentError("request", "this agent does not know {!r}".format(op))

    def _hello(self, message: Mapping[str, Any]) -> Dict[str, Any]:
        if message["protocol"] != protocol.VERSION:
            raise AgentError(
                "request", "the host speaks protocol {}, this agent {}".format(message["protocol"], protocol.VERSION)
            )
        folder = str(message["folder"])
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        machine.keep_to([int(core) for core in message.get("cores", ())])
        self._executor = Executor(str(message["runtime"]), folder)
        return {
            "protocol": protocol.VERSION,
            "agent": _own_digest(),
            "python": platform.python_version(),
            "runtime": message["runtime"],
            "runtime_version": self._executor.version(),
            "board": machine.identity(),
            "can": list(self._executor.can()),
        }


def _own_digest() -> str:
    try:
        with open(sys.argv[0], "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()[:12]
    except OSError:  # run as a package from a checkout
        return "source"


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer until the input ends, `bye`, or a line that cannot be one."""
    agent = Agent(replies)
    try:
        while True:
            line = requests.readline(protocol.MAX_LINE_BYTES + 1)
            if not line:
                return
            if len(line) > protocol.MAX_LINE_BYTES or not line.endswith(b"\n"):
                agent.reply(
                    {"id": None, "error": {"kind": "request", "message": "a line longer than 1 MiB, or cut short"}}
                )
                return
            try:
                message = protocol.decode(line)
            except ValueError as error:
                agent.reply({"id": None, "error": {"kind": "request", "message": "not a request: {}".format(error)}})
                continue
            if not agent.handle(message):
                return
    finally:
        if agent.folder is not None:
            shutil.rmtree(agent.folder, ignore_errors=True)


def main() -> int:
    """Take the two pipes away from everybody else, then serve."""
    # A runtime that prints would garble the dialogue: descriptor 1 becomes the error stream, and 0 reads nothing.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    try:
        serve(requests, replies)
    except BrokenPipeError:  # the host is gone, and nobody is left to tell
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
