"""Rows out of jsonl, json, csv, tsv and parquet files, and folders of splits; no pandas, no torch."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orrery.probes.errors import DataError

Row = dict[str, Any]

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_SHARD = re.compile(r"-\d{3,}-of-\d{3,}$")


def read_rows(path: Path) -> list[Row]:
    """All rows of one file, in its order.

    Raises ``DataError`` (``UnreadableFile``, ``MissingPackage``) that names the line.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        said = f"ends in '{suffix}'" if suffix else "has no ending that tells its format"
        raise DataError(
            "UnreadableFile", f"the data file '{path}' {said}: use one that ends in one of {', '.join(FORMATS)}"
        )
    try:
        if suffix == ".parquet":
            return _parquet(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            if suffix in (".csv", ".tsv"):
                return list(_csv(file, path, "\t" if suffix == ".tsv" else ","))
            if suffix == ".json":
                return _json(file.read(), path)
            return list(_jsonl(file, path))
    except UnicodeDecodeError as error:
        raise DataError(
            "UnreadableFile", f"'{path.name}' is not UTF-8 at byte {error.start}: save it as UTF-8"
        ) from error
    except OSError as error:
        raise DataError("UnreadableFile", f"'{path.name}' cannot be read: {error.strerror or error}") from error


def read_splits(path: Path) -> dict[str, list[Path]]:
    """Files of each split of a folder: ``train.jsonl``, ``validation/*.parquet``, ``test-00000-of-00002.csv``.

    Raises ``DataError`` when no data file is in there.
    """
    splits: dict[str, list[Path]] = {}
    for file in sorted(path.rglob("*")):
        relative = file.relative_to(path)
        if file.suffix.lower() not in FORMATS or not file.is_file() or any(p.startswith(".") for p in relative.parts):
            continue
        name = _SHARD.sub("", file.stem) if len(relative.parts) == 1 else relative.parts[0]
        splits.setdefault(name, []).append(file)
    if not splits:
        raise DataError(
            "UnreadableFile",
            f"the folder '{path.name}' holds no data: put train.jsonl (or {', '.join(FORMATS[1:])}) into it",
        )
    return splits


def _jsonl(lines: Iterator[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(
                "UnreadableFile", f"line {number} of '{path.name}' is not JSON: write one JSON object a line"
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                "UnreadableFile",
                f"line {number} of '{path.name}' is a {type(row).__name__}: write one JSON object a line",
            )
        yield row


def _json(text: str, path: Path) -> list[Row]:
    try:
        rows = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError("UnreadableFile", f"'{path.name}' is not JSON: write a list of objects") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError("UnreadableFile", f"'{path.name}' is not a list of objects: write [{{...}}, ...] or use .jsonl")
    return rows


def _csv(file: Any, path: Path, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(2**24)
    reader = csv.DictReader(file, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if None in row:
                raise DataError(
                    "UnreadableFile",
                    f"line {reader.line_num} of '{path.name}' has more fields than the header: quote fields that hold "
                    f"{delimiter!r}",
                )
            yield row
    except csv.Error as error:
        raise DataError(
            "UnreadableFile",
            f"line {reader.reader.line_num} of '{path.name}' is not valid CSV ({error}): close its quotes, and double "
            "those within a field",
        ) from error


def _parquet(path: Path) -> list[Row]:
    try:
        import pyarrow.parquet as parquet
        from pyarrow.lib import ArrowException
    except ImportError as error:
        raise DataError(
            "MissingPackage", f"'{path.name}' is parquet, which needs pyarrow: pip install 'orrery[probe]'"
        ) from error
    try:
        rows: list[Row] = parquet.read_table(path).to_pylist()
    except ArrowException as error:
        said = str(error).splitlines()[0]
        raise DataError(
            "UnreadableFile", f"'{path.name}' is not valid parquet ({said}): write it anew, or use .jsonl or .csv"
        ) from error
    return rows
