"""Tangent kernels of the real models on the builtin tasks: their cost, and what the NTK-rectified law makes of them.

    python -m tests.benchmarks.kernels --json OUT [--task TASK ...]

Each (task, model) is one kernel probe of 32 examples, kept in ``measured/kernels.json`` with its CPU-seconds;
``tests.benchmarks.predictors`` hands it to the law. Rows: seconds, the largest eigenvalue of K / n, the mean squared residual, and
F for a learning rate of 1e-3 over 16 and 96 steps.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from orrery.api.probe import Fidelity, Method, Outcome, ProbeSpec, Trial
from orrery.laws.ntk import gap_of_modes
from tests.benchmarks import harness
from tests.benchmarks.grids import TASKS, plan

KEPT = Path(__file__).parent / "measured" / "kernels.json"


def run(task: str) -> dict[str, dict[str, Any]]:
    """Kernels of every model of a task's plan."""
    from orrery.probes.data import read_task
    from orrery.probes.models import load
    from orrery.probes.runner import measure_trial, measures
    from orrery.probes.session import Session

    spec, found = plan(task).spec, {}
    fidelity = Fidelity(method=Method.KERNEL, training_examples=32, evaluation_items=1)
    trial = Trial(name="kernel", strategy="LoRA", fidelity=fidelity)
    for model in spec.models:
        asked = ProbeSpec(model=model, task=spec.task, trials=[trial], accelerator="cpu", deadline_seconds=600)
        session = Session(asked, read_task(spec.task), load(model))
        begun = time.process_time()
        result = measure_trial(session, trial, measures())
        seconds = time.process_time() - begun
        assert result.outcome is Outcome.MEASURED, result.message
        found[model.name] = {"kernel": [str(v) for v in result.kernel], "cpu_seconds": round(seconds, 2)}
    return found


def measure(tasks: list[str]) -> harness.Outcome:
    """All tasks; those that are kept are read."""
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for task in tasks:
        if task not in kept:
            kept[task] = run(task)
            KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    rows = []
    for task in tasks:
        for model, row in kept[task].items():
            modes = np.array([float(v) for v in row["kernel"]])
            values, powers = np.split(modes, 2)
            gap = gap_of_modes(values, powers, np.array([0.0, 16e-3, 96e-3]))
            rows.append(
                {
                    "task": task.rpartition("/")[2],
                    "model": model,
                    "cpu_seconds": row["cpu_seconds"],
                    "largest": values[0],
                    "residual": gap[0],
                    "F16": gap[1],
                    "F96": gap[2],
                }
            )
    return harness.Outcome(rows, {"cpu_seconds": fmean(r["cpu_seconds"] for r in rows)}, [("kernels", rows)])


def main() -> None:
    """See the module's docstring."""

    def extra(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--task", action="append", choices=sorted(TASKS), help="default: the first three")

    args = harness.arguments(__doc__, data=None, extra=extra)
    harness.run("kernels", args, lambda: measure(args.task or list(TASKS)[:3]))


if __name__ == "__main__":
    main()
