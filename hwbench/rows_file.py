"""Rows of a CSV or Parquet file that others wrote: every field as text, under the name of its column."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from pathlib import Path

from hwbench.errors import ConfigError

_MAX_BYTES = 1 << 28
Rows = Iterator[tuple[int, dict[str, str]]]


def read_rows(file: Path, wanted: Collection[str], expected: str) -> tuple[list[str], Rows]:
    """The names of all columns, and each row's number with its fields; of Parquet only the wanted columns.

    A Parquet field that is null is empty. expected: what such a file holds, in words, for who has none.
    Raises ConfigError naming the file, and the line that is wrong.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such file; it has {expected}")
    if file.stat().st_size > _MAX_BYTES:
        raise ConfigError(f"{file}: {file.stat().st_size} bytes, more than the {_MAX_BYTES} that are read; split it")
    return _parquet(file, wanted) if file.suffix == ".parquet" else _csv(file, expected)


def _csv(file: Path, expected: str) -> tuple[list[str], Rows]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = [(reader.line_num, line) for reader in [csv.reader(stream, strict=True)] for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{file}: not a CSV that can be read ({error})") from error
    if not lines:
        raise ConfigError(f"{file}: empty; the first line names {expected}")
    names = [name.strip() for name in lines[0][1]]

    def rows() -> Rows:
        for number, line in lines[1:]:
            if not line:
                continue
            if len(line) != len(names):
                raise ConfigError(f"{file}:{number}: {len(line)} fields where the first line has {len(names)}")
            yield number, dict(zip(names, line, strict=True))

    return names, rows()


def _parquet(file: Path, wanted: Collection[str]) -> tuple[list[str], Rows]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{file}: reading Parquet needs the Python package pyarrow: pip install 'hwbench-nas[parquet]'; "
            "or give it as CSV"
        ) from error
    try:
        names = list(parquet.read_schema(file).names)
        table = parquet.read_table(file, columns=[n for n in names if n in wanted]).to_pydict()
    except (ArrowException, OSError) as error:
        raise ConfigError(f"{file}: not a Parquet file that can be read ({error})") from error
    columns = {name: ["" if v is None else str(v) for v in values] for name, values in table.items()}
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return names, enumerate(rows, start=1)
