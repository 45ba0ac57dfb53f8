"""The program `nvpmodel` of a Jetson: says what a recording says, and keeps the mode it was told.

Called with the path of its state (JSON), then with the real program's options.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path


def main(state_file: Path, options: list[str]) -> int:
    """Answer one call."""
    state = json.loads(state_file.read_text())
    modes = {int(n): name for n, name in re.findall(r"POWER_MODEL: ID=(\d+) NAME=(\S+)", state["listing"])}
    if options == ["-q"]:
        print(state["query"], end="")
        return 0
    if options == ["-p", "--verbose"]:
        print(state["listing"], end="")
        return 0
    if len(options) != 2 or options[0] != "-m" or int(options[1]) not in modes:
        print("NVPM ERROR: invalid mode", file=sys.stderr)
        return 255
    number = int(options[1])
    if modes[number] in state["restarts"]:
        print(f"NVPM WARN: Reboot required for changing to this power mode: {number}")
        print("NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:")
        state["answers"].append(sys.stdin.readline().strip())
        state_file.write_text(json.dumps(state))
        if state["answers"][-1].lower() == "yes":
            print("NVPM WARN: rebooting")
            return 0
        print("NVPM ERROR: optMask is 1, no request for power mode", file=sys.stderr)
        return 255
    if not state["stuck"]:
        state["query"] = re.sub(r"(NV Power Mode: ?).*\n\d+\n", rf"\g<1>{modes[number]}\n{number}\n", state["query"])
        state_file.write_text(json.dumps(state))
        for file, text in state["moves"].items():
            Path(file).write_text(f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
