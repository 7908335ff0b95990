"""Measurements that other plans under the same root have paid for.

A measurement is identified by its trial's key: model source, task, configuration, fidelity, seed and hardware. Plans'
names for things, prices, objectives and budgets are not part of it, so another budget re-decides without measuring.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orrery.api.plan import AdaptationPlan
from orrery.api.probe import (
    Outcome,
    ProbeSpec,
    Report,
    TrialResult,
    data_identity,
    model_identity,
    probe_name,
    trial_key,
)
from orrery.local.files import StateError
from orrery.local.store import Store
from orrery.planning.types import ProbeState


def copy_measurements(store: Store, root: Path, plan: AdaptationPlan) -> int:
    """Copy what the plans under ``root`` have measured and this plan may need into its state; gives how many trials.

    Another plan's broken state folder is passed over: it is not this run's to mend.
    """
    known = {
        trial_key(record.spec.model, record.spec.task, trial, record.spec.accelerator)
        for record in store.records()
        for trial in record.spec.trials
        if record.report is not None and trial.name in {r.name for r in record.report.trials}
    }
    copied = 0
    for other in sorted(path.parent for path in root.glob("*/*/probes")):
        if other.resolve() == store.folder.resolve():
            continue
        try:
            for spec, report in measurements(Store(other, store.data_digest), plan):
                fresh = [t for t in spec.trials if trial_key(spec.model, spec.task, t, spec.accelerator) not in known]
                if fresh:
                    known |= {trial_key(spec.model, spec.task, t, spec.accelerator) for t in fresh}
                    part, kept = _part(spec, report, {t.name for t in fresh})
                    store.write_reused(part, kept, str(other))
                    copied += len(fresh)
        except StateError:
            continue
    return copied


def measurements(store: Store, plan: AdaptationPlan) -> Iterator[tuple[ProbeSpec, Report]]:
    """What a state folder holds of the plan's models, task and hardware, under this plan's names for them."""
    models = {str(model_identity(model)): model for model in plan.spec.models}
    accelerators = {accelerator.name for accelerator in plan.spec.accelerators}
    for record in store.records():
        model = models.get(str(model_identity(record.spec.model)))
        same_task = data_identity(record.spec.task) == data_identity(plan.spec.task)
        if model is None or not same_task or record.spec.accelerator not in accelerators or record.report is None:
            continue
        if record.state in (ProbeState.RESERVED, ProbeState.RUNNING):
            continue
        done = {result.name for result in record.report.trials if _lasting(result)}
        if done:
            yield _part(record.spec.model_copy(update={"model": model}), record.report, done)


def _lasting(result: TrialResult) -> bool:
    return result.outcome is not Outcome.FAILED


def _part(spec: ProbeSpec, report: Report, names: set[str]) -> tuple[ProbeSpec, Report]:
    """The spec and report of some of the trials, complete in themselves."""
    part = spec.model_copy(update={"trials": [trial for trial in spec.trials if trial.name in names]})
    results = [result for result in report.trials if result.name in names]
    update = {"probe": probe_name(part), "trials": results, "complete": True, "error": None, "reason": None}
    return part, report.model_copy(update=update)
