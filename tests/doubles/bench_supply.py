"""A bench supply: prints `t_s,power_mw` 100 times a second in a clock of its own; the power stands in a file.

python bench_supply.py POWER_FILE OFFSET_S
"""

from __future__ import annotations

import sys
import time
from pathlib import Path


def main(file: str, offset_s: str) -> None:
    """Until somebody ends it."""
    print("t_s,power_mw", flush=True)
    while True:
        power_mw = Path(file).read_text() or "0"
        print(f"{time.monotonic() + float(offset_s):.6f},{power_mw}", flush=True)
        time.sleep(0.01)


main(*sys.argv[1:])
