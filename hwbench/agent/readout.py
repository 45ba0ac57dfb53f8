"""What a probe names, and how the text found there becomes a number; the same rule on the board and on the host.

`scheme:rest`, where `#FIELD` at the end of `rest` chooses one of several numbers:

- `file:/path` a file: one number, or lines of which FIELD names one
- `run:program arguments` what a program prints; its words are split as a shell would, but no shell runs
- `above:/path /path` 1 where the first file's number is at or above the second's, else 0
- `nvml:power:0` what NVIDIA's library tells of a GPU, by its number or UUID
- `jtop:#RAIL` mean power of a rail, as the package jetson-stats tells it
"""

import re
import shlex
from typing import List, Optional, Tuple, Union

SCHEMES = ("file", "run", "above", "nvml", "jtop")
NVML = ("power", "energy", "temp", "clock", "memory_clock", "throttle")
MAX_BYTES = 1 << 16

Raw = Union[bytes, float, None]

_VALUE = re.compile(
    r"(?:(?P<hex>0[xX][0-9a-fA-F]{1,16})|(?P<number>[-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?))"
    r" ?(?P<unit>[a-zA-Zµ'°]*)"
)
_BLANK = " \t\r\n"
_NVML = re.compile(r"(?P<what>[a-z_]+):(?P<device>[0-9]{1,3}|GPU-[0-9a-fA-F-]+)")
# What a text may say behind its number: the quantity, and how much of its base unit it is.
_TOLD = {
    "'C": ("temperature", 1.0), "C": ("temperature", 1.0), "°C": ("temperature", 1.0),
    "V": ("voltage", 1.0), "mV": ("voltage", 1e-3), "uV": ("voltage", 1e-6), "µV": ("voltage", 1e-6),
    "A": ("current", 1.0), "mA": ("current", 1e-3), "uA": ("current", 1e-6), "µA": ("current", 1e-6),
    "W": ("power", 1.0), "mW": ("power", 1e-3), "uW": ("power", 1e-6), "µW": ("power", 1e-6),
    "J": ("energy", 1.0), "mJ": ("energy", 1e-3), "uJ": ("energy", 1e-6), "µJ": ("energy", 1e-6),
    "Hz": ("clock", 1.0), "kHz": ("clock", 1e3), "MHz": ("clock", 1e6), "GHz": ("clock", 1e9),
}  # fmt: skip
_ASKED = {
    "c": ("temperature", 1.0), "mc": ("temperature", 1e-3), "mv": ("voltage", 1e-3), "ma": ("current", 1e-3),
    "mw": ("power", 1e-3), "uw": ("power", 1e-6), "uj": ("energy", 1e-6),
    "mhz": ("clock", 1e6), "khz": ("clock", 1e3), "hz": ("clock", 1.0),
}  # fmt: skip


def split(read: str) -> Tuple[str, str, Optional[str]]:
    """`scheme:rest#field` in its three parts, field None where none is named; ValueError says what is wrong."""
    scheme, colon, rest = read.partition(":")
    if not colon or scheme not in SCHEMES:
        raise ValueError("{!r} is read by no scheme of {}".format(read, ", ".join(s + ":" for s in SCHEMES)))
    field: Optional[str] = None
    if "#" in rest:
        rest, _, field = rest.rpartition("#")
        if not field.strip():
            raise ValueError("{!r} names no field after its #".format(read))
    if scheme == "file" and not rest.startswith("/"):
        raise ValueError("{!r} names no file from the root, as file:/path".format(read))
    if scheme == "run":
        words(rest)
    if scheme == "above":
        files = words(rest)
        if len(files) != 2 or field is not None or not all(file.startswith("/") for file in files):
            raise ValueError("{!r} does not name two files, as above:/path /path".format(read))
    if scheme == "nvml":
        nvml(rest)
    if scheme == "jtop" and (rest or field is None):
        raise ValueError("{!r} names no rail, as jtop:#VDD_IN".format(read))
    return scheme, rest, field


def words(rest: str) -> List[str]:
    """The words of a command or of two paths; ValueError where a quote is left open or there is none."""
    found = shlex.split(rest)
    if not found:
        raise ValueError("no command is named")
    return found


def nvml(rest: str) -> Tuple[str, str]:
    """(`power`, device) of `power:0`; ValueError."""
    found = _NVML.fullmatch(rest)
    if found is None or found.group("what") not in NVML:
        raise ValueError("{!r} is not one of {} and a device, as power:0".format(rest, ", ".join(NVML)))
    return found.group("what"), found.group("device")


def number(raw: Raw, field: Optional[str], unit: str, *, whole: bool) -> Optional[float]:
    """The number in `unit`, or None where the text does not tell exactly one.

    field: the number stands in the one line that has this word, behind the one `=`, `:` or `,` that follows it.
    Without a field the text is one number, or one `key=number`.  A unit that the text tells (`48.3'C`, `0.85V`) must be
    of the same quantity as `unit`, and is converted.
    whole: the text cannot have been cut short (a small file); else it must end with a newline, as must any line chosen.
    """
    if raw is None or isinstance(raw, float):
        return raw
    text = raw.decode("utf-8", "replace")
    if field is not None:
        behind = re.compile(r"(?<![\w.-])" + re.escape(field) + r"(?![\w.-])([^\n]*)\n")
        tails = behind.findall(text)
        parts = re.split("[=:,]", tails[0]) if len(tails) == 1 else []
        return _value(parts[1].strip(_BLANK), unit) if len(parts) == 2 else None
    if not whole and not text.endswith("\n"):
        return None
    line = text.strip(_BLANK)
    if line.count("=") == 1:
        key, _, line = line.partition("=")
        if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]*(\([0-9]+\))?", key) or key == "error":
            return None
    return _value(line, unit)


def above(first: Raw, second: Raw) -> Optional[float]:
    """Whether one file's number has reached another's: 1, 0, or None where one is missing."""
    value, limit = (number(raw, None, "raw", whole=True) for raw in (first, second))
    return None if value is None or limit is None else float(value >= limit)


def _value(text: str, unit: str) -> Optional[float]:
    found = _VALUE.fullmatch(text)
    if found is None:
        return None
    value = float(int(found.group("hex"), 16)) if found.group("hex") else float(found.group("number"))
    told = found.group("unit")
    if told:
        if told not in _TOLD or unit not in _ASKED or _TOLD[told][0] != _ASKED[unit][0]:
            return None
        value = value * _TOLD[told][1] / _ASKED[unit][1]
    return value if abs(value) < 1e300 else None
