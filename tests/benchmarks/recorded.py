"""A world in which every trial is measured once, for real, and remembered: plans can be answered in it again and again.

A trial that no earlier run asked for is measured by a real probe in a process of its own and kept in
``probes/TASK.json`` of its folder, ``tests/benchmarks/measured`` by default; full trials come from the exhaustive measurement. What a probe costs is the
sum of its trials' own measured seconds and one start of the model, both as counted when they ran.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from orrery.api.plan import AdaptationPlan
from orrery.api.probe import ProbeSpec, Report, TaskFacts, Trial, TrialResult, probe_name
from orrery.api.quantities import money
from orrery.costs.prices import Prices
from orrery.planning.advance import advance
from orrery.planning.types import ProbeRecord, ProbeRequest, ProbeState, Step
from tests.benchmarks import exhaustive
from tests.benchmarks.grids import PRICES, facts_of

Choose = Callable[[AdaptationPlan, list[ProbeRecord]], Step]


@dataclass
class World:
    """The recorded measurements of one task."""

    task: str
    folder: Path = exhaustive.MEASURED
    grid: dict[str, Any] = field(init=False)
    probes: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.grid = exhaustive.load(self.task, self.folder)
        path = self._path()
        self.probes = json.loads(path.read_text()) if path.exists() else {"rows": {}, "processes": []}

    def _path(self) -> Path:
        return self.folder / "probes" / exhaustive.path_of(self.task).name

    def result(self, model: str, trial: Trial) -> TrialResult | None:
        """What a trial measured, if it ever ran."""
        for source in (self.grid["rows"], self.probes["rows"]):
            if (row := source.get(f"{model}/{trial.name}")) is not None:
                return TrialResult.model_validate(row["result"])
        return None

    def start_seconds(self, model: str) -> float:
        """CPU-seconds of starting a probe of a model: interpreter, libraries, data and weights; the mean over processes."""
        total, work, starts = 0.0, 0.0, 0
        for kept in (self.grid, self.probes):
            processes = [p for p in kept["processes"] if p["model"] == model]
            total += sum(p["cpu_seconds"] for p in processes)
            starts += len(processes)
            rows = [r for r in kept["rows"].values() if r["model"] == model]
            work += sum(seconds(TrialResult.model_validate(r["result"])) for r in rows)
        return max(total - work, 0.0) / starts if starts else 0.0

    def run(self, spec: ProbeSpec) -> Report:
        """A probe's report; measures what was never measured."""
        missing = [t for t in spec.trials if self.result(spec.model.name, t) is None]
        if missing:
            self._measure(spec.model_copy(update={"trials": missing, "deadline_seconds": 86400}))
        results = [self.result(spec.model.name, t) for t in spec.trials]
        return Report(
            probe=probe_name(spec),
            complete=True,
            load_seconds=Decimal(repr(round(self.start_seconds(spec.model.name), 3))),
            task_facts=TaskFacts.model_validate(self.probes.get("task_facts") or self.grid["task_facts"]),
            trials=[r for r in results if r is not None],
        )

    def _measure(self, spec: ProbeSpec) -> None:
        report, cpu = exhaustive.run(spec)
        failed = [r["message"] for r in report["trials"] if r["outcome"] == "Failed"]
        if failed:
            raise SystemExit(f"{len(failed)} trials of {spec.model.name} failed and are not kept: {failed[0]}")
        self.probes["processes"].append(
            {
                "model": spec.model.name,
                "cpu_seconds": round(cpu, 2),
                "load_seconds": report.get("loadSeconds"),
            }
        )
        self.probes.setdefault("task_facts", report.get("taskFacts"))
        trials = {t.name: t for t in spec.trials}
        for result in exhaustive.in_cpu_seconds(report["trials"], cpu):
            self.probes["rows"][f"{spec.model.name}/{result['name']}"] = {
                "model": spec.model.name,
                "trial": trials[result["name"]].to_wire(),
                "result": result,
            }
        self._path().parent.mkdir(parents=True, exist_ok=True)
        self._path().write_text(json.dumps(self.probes, indent=1, sort_keys=True) + "\n")

    def record(self, request: ProbeRequest) -> ProbeRecord:
        """A probe that was run to its end."""
        report = self.run(request.spec)
        spent = self.start_seconds(request.spec.model.name) + sum(seconds(r) for r in report.trials)
        price = Prices(PRICES).price_list.spec.accelerators[0].price_per_hour
        cost = money(Decimal(repr(round(spent, 3))) / 3600 * price)
        return ProbeRecord(
            name=request.name,
            spec=request.spec,
            state=ProbeState.SUCCEEDED,
            attempts=request.attempt,
            cost=cost,
            reserved=Decimal(0),
            seconds=spent,
            report=report,
        )


def seconds(result: TrialResult) -> float:
    """Seconds of a trial's own work."""
    return float(result.train_seconds or 0) + float(result.evaluation_seconds or 0)


def flops(result: TrialResult) -> float:
    """FLOPs of a trial's own work."""
    return float(result.train_flops or 0) + float(result.evaluation_flops or 0)


def answer(world: World, plan: AdaptationPlan, choose: Choose | None = None) -> tuple[Step, list[ProbeRecord]]:
    """Answer a plan in the recorded world: the same loop as every shell, one probe after the other."""
    facts = facts_of(plan)
    choose = choose or (lambda p, records: advance(p, records, PRICES, facts))
    records: list[ProbeRecord] = []
    for _ in range(plan.spec.probing.max_probes + 1):
        step = choose(plan, records)
        if step.finished or not step.start:
            return step, records
        records += [world.record(request) for request in step.start]
    raise RuntimeError(f"the plan did not finish within {plan.spec.probing.max_probes} probes: {step.message}")
