"""What every benchmark shares: its command line, its JSON form and its table.

A benchmark is a module ``tests.benchmarks.NAME`` with a ``main`` that calls ``run``. The JSON it writes with ``--json`` is
``{command, commit, machine, seeds, rows, summary}``: rows are the cells as measured, summary is flat names to numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from rich.console import Console
from rich.table import Table

from tests.benchmarks.tables import InputError, say

Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What one run of a benchmark measured; ``tables`` are (title, rows) pairs for people, ``rows`` everything."""

    rows: list[Row]
    summary: Mapping[str, float]
    tables: Sequence[tuple[str, Sequence[Row]]] = field(default=())


def arguments(
    description: str | None, *, data: str | None, extra: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.Namespace:
    """``--data DIR`` (none where ``data`` is None), ``--json OUT`` and ``--seed N``; ``extra`` may add to them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if data is not None:
        parser.add_argument("--data", type=Path, required=True, metavar="DIR", help=data)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the result there")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="first seed of everything random (default 0)")
    if extra is not None:
        extra(parser)
    return parser.parse_args()


def run(
    name: str, args: argparse.Namespace, measure: Callable[[], Outcome], *, seeds: Sequence[int] | None = None
) -> Outcome:
    """Measure, print the tables and the summary, write the JSON; names whose figure is undefined are left out and said.

    Input that cannot be used, or of which nothing can be scored, ends with code 2 and a sentence.
    """
    begun = time.perf_counter()
    try:
        outcome = measure()
        summary = {k: v for k, v in outcome.summary.items() if math.isfinite(v)}
        if not summary:
            raise InputError("nothing could be scored")
    except InputError as refusal:
        print(f"python -m tests.benchmarks.{name}: {refusal}", file=sys.stderr)
        raise SystemExit(2) from None
    if undefined := [k for k in outcome.summary if k not in summary]:
        say(f"undefined here and left out of the summary: {', '.join(undefined)}")
    console = Console(width=None if sys.stdout.isatty() else 150)
    for title, rows in outcome.tables:
        console.print(table(title, rows))
    console.print(table("summary", [{"name": k, "value": v} for k, v in summary.items()]))
    console.print(f"{name}: {time.perf_counter() - begun:.1f} s")
    if args.json is not None:
        result = {
            "command": f"python -m tests.benchmarks.{name} " + shlex.join(sys.argv[1:]),
            "commit": commit(),
            "machine": machine(),
            "seeds": list(seeds) if seeds is not None else [args.seed],
            "rows": [_plain(row) for row in outcome.rows],
            "summary": _plain(summary),
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    return outcome


def table(title: str, rows: Sequence[Row]) -> Table:
    """A table with one column a key of the first row, numbers to four significant digits."""
    shown = Table(title=title, title_justify="left")
    for key in rows[0] if rows else []:
        shown.add_column(str(key), justify="left" if isinstance(rows[0][key], str) else "right")
    for row in rows:
        shown.add_row(*(v if isinstance(v, str) else f"{v:.4g}" if math.isfinite(v) else "" for v in row.values()))
    return shown


def commit() -> str:
    """The checked-out commit, with ``-dirty`` where files differ; ``unknown`` outside a checkout."""
    here = Path(__file__).parent
    try:
        head, changed = (
            subprocess.run(["git", *a], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for a in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("-dirty" if changed else "")


def machine() -> dict[str, Any]:
    """Processor, cores and the versions the numbers depend on."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def _plain(value: Any) -> Any:
    """JSON has no NaN and no numpy: numbers become Python's, what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, (np.integer, np.bool_)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
