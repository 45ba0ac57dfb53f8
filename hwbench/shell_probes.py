"""Reads probes with nothing but the board's shell, where no agent runs; times are the board's uptime."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import numpy as np

from hwbench.agent import readout
from hwbench.errors import ConfigError
from hwbench.measurement import Trace
from hwbench.target import Probe

# More would be work itself: a shell reads files slowly.
MOST_HZ = 20.0
# `now` sets $up.  What a script has started ends with it when the link is lost.
SHELL = """
now() { read -r up _ </proc/uptime; }
show() { now; echo "@ $up $1"; while IFS= read -r text || [ -n "$text" ]; do echo "$text"; done; }
trap 'trap "" TERM; kill 0' HUP TERM
"""
_SAMPLE = re.compile(r"@ (\d+\.\d\d) (\d+)")


def sampler(probes: Sequence[Probe], hz: float) -> str:
    """Shell text that reads the probes in the background, onto its error stream; those of one source in one reading."""
    reads = []
    for number, (scheme, rest) in enumerate(_sources(probes)):
        if scheme == "file":
            reads.append(f"show {number} <{shlex.quote(rest)}")
        elif scheme == "run":
            reads.append(f"{shlex.join(readout.words(rest))} </dev/null | show {number}")
        else:
            raise ConfigError(f"probe {scheme}:{rest}: is read by the agent only, which does not run here")
    body = "; ".join([*reads, f"sleep {1 / min(hz, MOST_HZ):.3f}"])
    return f"sample() {{ while :; do {body}; done; }}\nsample >&2 2>/dev/null &\nsampler=$!\n"


def traces(text: bytes, probes: Sequence[Probe]) -> dict[str, Trace]:
    """What the sampler read: `@ UPTIME SOURCE`, then the source's own text."""
    sources = _sources(probes)
    found: dict[str, list[tuple[int, float]]] = {probe.name: [] for probe in probes}
    for block in re.split(r"^(?=@ \d+\.\d\d \d+$)", text.decode("utf-8", "replace"), flags=re.MULTILINE):
        head, _, raw = block.partition("\n")
        match = _SAMPLE.fullmatch(head)
        if match is None or int(match[2]) >= len(sources):
            continue
        for probe in probes:
            scheme, rest, field = readout.split(probe.read)
            if (scheme, rest) == sources[int(match[2])]:
                value = readout.number(raw.encode(), field, probe.unit, whole=False)
                if value is not None:
                    found[probe.name].append((ns(float(match[1])), value))
    return {
        probe.name: Trace(
            t_ns=np.array([t for t, _ in found[probe.name]], dtype=np.int64),
            value=np.array([v for _, v in found[probe.name]], dtype=np.float64),
            unit=probe.unit,
        )
        for probe in probes
    }


def _sources(probes: Sequence[Probe]) -> list[tuple[str, str]]:
    """What is read, each once: several probes may want a number of one file."""
    return list(dict.fromkeys(readout.split(probe.read)[:2] for probe in probes))


def ns(seconds: float) -> int:
    """Uptime in seconds as the clock of traces."""
    return round(seconds * 1e9)
