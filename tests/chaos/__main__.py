"""Interrupt a running operator, and say whether anything was lost, paid twice or left without an answer.

    python -m tests.chaos --seed 1 --count 200 --json OUT

Exit status 1 when anything was. With --keep DIR the logs of the operator and of every component stay there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console

from tests.benchmarks import harness
from tests.chaos.run import chaos


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of plans, interruptions and simulated probes (default 1)")
    parser.add_argument("--count", type=int, default=200, help="interruptions (default 200)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the result there")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave logs there")
    args = parser.parse_args()
    commit = harness.commit()
    with tempfile.TemporaryDirectory() as scratch:
        result = chaos(args.keep or Path(scratch), args.seed, args.count, say=lambda line: print(line, flush=True))
    console = Console(width=None if sys.stdout.isatty() else 150)
    kinds = Counter(row["interruption"] for row in result.rows)
    console.print(harness.table("interruptions", [{"kind": k, "times": n} for k, n in sorted(kinds.items())]))
    console.print(harness.table("summary", [{"name": k, "value": v} for k, v in result.summary.items()]))
    wrong = {
        "unanswered": result.unanswered,
        "lost": result.lost,
        "duplicated": result.duplicated,
        "overspent": result.overspent,
    }
    for name, lines in wrong.items():
        for line in lines[:20]:
            print(f"{name}: {line}")
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        told = {
            "command": "python -m tests.chaos " + shlex.join(sys.argv[1:]),
            "commit": commit,
            "machine": harness.machine(),
            "seeds": [args.seed],
            "rows": result.rows,
            "summary": result.summary,
            "violations": wrong,
        }
        args.json.write_text(json.dumps(told, indent=1) + "\n")
    return 1 if any(wrong.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
