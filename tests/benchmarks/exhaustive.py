"""Measures every candidate of the benchmark's grid in full, once: what a search without forecasts would pay for.

    python -m tests.benchmarks.exhaustive [--task TASK ...]
    python -m tests.benchmarks.exhaustive --facts

Real probes in processes of their own, one load a model, as the exhaustive search would do at its best. Results are kept in
``tests/benchmarks/measured/grid/TASK.json`` and never measured twice: a run that was ended goes on. ``--facts`` brings what is
kept of the data up to date, here and in the remembered probes, where probes have learned to report more of it; it needs no
model and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orrery.api.models import Model
from orrery.api.probe import ProbeSpec, Trial
from orrery.probes.data import read_task
from orrery.probes.facts import task_facts
from orrery.probes.locations import SourceRoots
from tests.benchmarks.grids import TASKS, Full, full_trials, plan
from tests.benchmarks.harness import commit, machine

#: Measured grids lie in its folder ``grid``, the probes of plans in ``probes``.
MEASURED = Path(__file__).parent / "measured"
KEPT = MEASURED / "grid"
#: Trials of one process: few enough that a report holds all of their bits.
BATCH = 8


def path_of(task: str, folder: Path = MEASURED) -> Path:
    """File of a task's measurements."""
    return folder / "grid" / f"{task.rpartition('/')[2]}.json"


def key_of(full: Full) -> str:
    """A trial's name says nothing of its model."""
    return f"{full.model.name}/{full.trial.name}"


def load(task: str, folder: Path = MEASURED) -> dict[str, Any]:
    """Measurements of a task so far: ``{command, commit, machine, rows: {trial: {...}}, loads: [...]}``."""
    path = path_of(task, folder)
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    return {
        "command": f"python -m tests.benchmarks.exhaustive --task {task}",
        "commit": commit(),
        "machine": machine(),
        "rows": {},
        "processes": [],
    }


def measure(task: str) -> dict[str, Any]:
    """Measure what is missing of a task."""
    asked = plan(task)
    kept = load(task)
    for model in asked.spec.models:
        todo = [f for f in full_trials(asked) if f.model.name == model.name and key_of(f) not in kept["rows"]]
        # the longest last: a report after each trial, so an ended run loses one trial at the most
        for start in range(0, len(todo), BATCH):
            batch = todo[start : start + BATCH]
            spec = ProbeSpec(
                model=model,
                task=asked.spec.task,
                trials=[f.trial for f in batch],
                accelerator="cpu",
                deadline_seconds=86400,
            )
            report, cpu = run(spec)
            _keep(kept, model, batch, report, cpu)
            path_of(task).parent.mkdir(parents=True, exist_ok=True)
            path_of(task).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
            print(f"{task} {model.name}: {len(kept['rows'])} trials, {cpu:.0f} CPU-seconds", flush=True)
    return kept


def refresh_facts(task: str) -> None:
    """Add to a task's remembered facts what a probe would report of the data today without its tokenizer."""
    asked = plan(task).spec.task
    data = read_task(asked, SourceRoots.from_environment())
    facts = task_facts(asked, data, neighbours=True).model_dump(mode="json", by_alias=True, exclude_none=True)
    for path in (path_of(task), KEPT.parent / "probes" / path_of(task).name):
        kept = json.loads(path.read_text())
        if kept["task_facts"]["digest"] != data.digest:
            raise SystemExit(f"{path} was measured on other data than is in the cache: measure it again")
        kept["task_facts"] |= facts
        path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def run(spec: ProbeSpec) -> tuple[dict[str, Any], float]:
    """One probe in a process of its own: its report, and the CPU-seconds the operating system counted."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        spec_file = Path(folder) / "spec.json"
        spec_file.write_text(json.dumps(spec.to_wire()))
        command = [sys.executable, "-m", "orrery.cli.main", "probe", str(spec_file), "--report", str(report)]
        process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            raise SystemExit(f"the probe ended with {os.waitstatus_to_exitcode(status)}")
        return json.loads(report.read_text()), usage.ru_utime + usage.ru_stime


def in_cpu_seconds(results: list[dict[str, Any]], cpu: float) -> list[dict[str, Any]]:
    """Results whose seconds add up to no more than the process's CPU-seconds.

    A probe reads the wall clock; on a machine that does other things too, a trial's wall time is more than its work.
    """
    names = ("trainSeconds", "evaluationSeconds")
    wall = sum(float(r.get(n) or 0) for r in results for n in names)
    if wall <= cpu:
        return results
    return [r | {n: f"{float(r[n]) * cpu / wall:.6g}" for n in names if r.get(n)} for r in results]


def _keep(kept: dict[str, Any], model: Model, batch: Sequence[Full], report: dict[str, Any], cpu: float) -> None:
    trials: dict[str, Trial] = {f.trial.name: f.trial for f in batch}
    names = {f.trial.name: f for f in batch}
    kept["processes"].append(
        {"model": model.name, "cpu_seconds": round(cpu, 2), "load_seconds": report.get("loadSeconds")}
    )
    kept["task_facts"] = report.get("taskFacts")
    for result in in_cpu_seconds(report["trials"], cpu):
        trial = trials[result["name"]]
        kept["rows"][key_of(names[result["name"]])] = {
            "candidate": names[result["name"]].candidate,
            "model": model.name,
            "strategy": trial.strategy,
            "trial": trial.to_wire(),
            "result": result,
        }


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", choices=sorted(TASKS), help="default: all")
    parser.add_argument("--facts", action="store_true", help="measure nothing; bring the data's facts up to date")
    args = parser.parse_args()
    for task in args.task or list(TASKS):
        if args.facts:
            refresh_facts(task)
        else:
            measure(task)


if __name__ == "__main__":
    main()
