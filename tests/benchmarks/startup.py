"""How long commands take that measure nothing: ``--help`` is to answer within half a second.

    python -m tests.benchmarks.startup --json OUT

Each command is started ten times; wall-clock and CPU time (user and system) of the process are reported. On a machine that
does other things too, CPU time is the one to read.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.benchmarks.harness import Outcome, arguments, run

REPEATS = 10
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "intents" / "plan.yaml"
COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "run_help": ["run", "--help"],
    "validate": ["validate", str(EXAMPLE)],
    "estimate": ["estimate", str(EXAMPLE)],
}


def measure() -> Outcome:
    rows = []
    for name, arguments_ in COMMANDS.items():
        wall, cpu = [], []
        for _ in range(REPEATS):
            before, begin = os.times(), time.perf_counter()
            subprocess.run([sys.executable, "-P", "-m", "orrery", *arguments_], check=True, stdout=subprocess.DEVNULL)
            wall.append(time.perf_counter() - begin)
            after = os.times()
            cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
        rows.append(
            {
                "command": name,
                "wall_seconds": median(wall),
                "wall_least": min(wall),
                "wall_most": max(wall),
                "cpu_seconds": median(cpu),
            }
        )
    summary = {f"{row['command']}_{key}": row[key] for row in rows for key in ("wall_seconds", "cpu_seconds")}
    return Outcome(rows, summary, [("seconds of a command, ten starts each", rows)])


if __name__ == "__main__":
    run("startup", arguments(__doc__, data=None), measure)
