"""Csv files, as people write them and as benchmarks keep them: one way to open, to read a number, to write."""

from __future__ import annotations

import csv
import math
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

_DECIMAL_COMMA = re.compile(r"^\s*([-+]?\d*),(\d+(?:[eE][-+]?\d+)?)\s*$")


class InputError(ValueError):
    """Input that a benchmark cannot use; its text says what to give instead."""


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Column names and rows, both stripped; a byte order mark and lines that begin with ``#`` are skipped.

    Fields lie between commas, semicolons or tabs, whichever the first line has most of; between semicolons a number may
    have a decimal comma.

    Raises:
        InputError: there is no such file, or it is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig").splitlines()
        lines = [x for x in text if x.strip(" ,;\t") and not x.startswith("#")]
        mark = max(",;\t", key=lines[0].count) if lines else ","
        table = list(csv.reader(lines, delimiter=mark, skipinitialspace=mark != "\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise InputError(f"{path} cannot be read as a csv in UTF-8: {problem}") from None
    if mark == ";":
        table = [[_DECIMAL_COMMA.sub(r"\1.\2", v) for v in row] for row in table]
    columns = [name.strip() for name in table[0]] if table else []
    rows = [{c: v.strip() for c, v in zip(columns, row, strict=False)} for row in table[1:]]
    return columns, [{c: row.get(c, "") for c in columns} for row in rows]


def replace_csv(path: Path, command: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table under the command that makes it, at once: a run that is ended leaves the last whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with new.open("w", newline="", encoding="utf-8") as stream:
        stream.write(f"# {command}\n")
        out = csv.writer(stream, lineterminator="\n")
        out.writerow(columns)
        out.writerows(rows)
    new.replace(path)


def number(text: str | None) -> float:
    """The finite number a cell holds; NaN where it holds none (empty, ``nan``, ``inf``, words).

    >>> number(" 1.5 "), number("1,638,400"), number(""), number("inf")
    (1.5, 1638400.0, nan, nan)
    """
    try:
        value = float((text or "").replace(",", ""))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def files(folder: Path) -> list[Path]:
    """Every csv of a folder, by name.

    Raises:
        InputError: there is none.
    """
    paths = sorted(p for p in folder.glob("*") if p.suffix.casefold() == ".csv" and p.is_file())
    if not paths:
        raise InputError(f"--data {folder} holds no csv file: give the folder in which they lie")
    return paths


def say(note: str) -> None:
    """Tell whoever runs a benchmark what was left out, apart from its tables."""
    print(note, file=sys.stderr)
