"""A planner small enough to see through: one probe of two trials a model, within budget, parallelism and retries."""

from decimal import Decimal

from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.probe import Fidelity, ProbeSpec, Trial, probe_name, trial_key
from orrery.api.status import PlanStatus, Progress, Spend
from orrery.costs.prices import Prices
from orrery.planning.types import ProbeRequest, ProbeState, Step


def plan(*families, deadline=20, budget="1", name="stub", **spec):
    models = [
        {"name": f"m{i}", "source": {"builtin": {"name": f"stub-{i}"}}, "family": family}
        for i, family in enumerate(families)
    ]
    return AdaptationPlan.model_validate(
        {
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "task": {"dataset": {"source": {"builtin": {"name": "stub-task"}}}},
                "models": models,
                "strategies": [{"name": "zero-shot", "type": "ZeroShot"}],
                "workload": {"requestsPerDay": 1},
                "objective": {"goal": "MaximizeQuality"},
                "budget": {"maxProbeCost": budget},
                "pricing": {"priceListRef": {"name": "stub"}},
                "accelerators": [{"name": "cpu"}],
                "probing": {"deadlineSeconds": deadline, "retries": 1, "parallelism": 4},
                **spec,
            },
        }
    )


def prices(per_hour="3.6"):
    return PriceList.model_validate(
        {
            "metadata": {"name": "stub"},
            "spec": {
                "currency": "USD",
                "source": "made up",
                "date": "2026-01-01",
                "accelerators": [{"name": "cpu", "pricePerHour": per_hour}],
            },
        }
    )


def advance(plan, records, prices, facts):
    price = Prices(prices).per_second(plan.spec.accelerators[0])
    by_name = {record.name: record for record in records}
    measured = {
        trial_key(r.spec.model, r.spec.task, t, r.spec.accelerator): result
        for r in records
        if r.report
        for t in r.spec.trials
        for result in r.report.trials
        if result.name == t.name
    }
    in_flight = [r for r in records if r.state in (ProbeState.RESERVED, ProbeState.RUNNING)]
    cost = sum((r.cost for r in records), Decimal(0))
    reserved = sum((r.reserved for r in records), Decimal(0))
    committed, start, waiting = cost + reserved, [], 0
    for model in plan.spec.models:
        trials = [
            Trial(name=f"t{i}", strategy="ZeroShot", fidelity=Fidelity(evaluation_items=8 * (i + 1))) for i in range(2)
        ]
        spec = ProbeSpec(
            model=model,
            task=plan.spec.task,
            trials=trials,
            accelerator="cpu",
            deadline_seconds=plan.spec.probing.deadline_seconds,
        )
        name = probe_name(spec)
        record = by_name.get(name)
        done = all(trial_key(model, plan.spec.task, t, "cpu") in measured for t in trials)
        if done or (record and record.state in (ProbeState.RESERVED, ProbeState.RUNNING, ProbeState.SUCCEEDED)):
            continue
        if record and (not record.retryable or record.attempts > plan.spec.probing.retries):
            continue
        if record is None and len([r for r in records if not r.reused]) + len(start) >= plan.spec.probing.max_probes:
            continue
        reservation = price * spec.deadline_seconds
        if plan.spec.suspend or committed + reservation > plan.spec.budget.max_probe_cost:
            continue
        if len(in_flight) + len(start) >= plan.spec.probing.parallelism:
            waiting += 1
            continue
        committed += reservation
        attempt = (record.attempts if record else 0) + 1
        start.append(ProbeRequest(name, spec, attempt, reservation, reservation / 10, "because"))
    finished = not start and not in_flight and not waiting
    status = PlanStatus(
        phase="Answered" if finished else "Probing",
        progress=Progress(
            planned=len(plan.spec.models),
            running=len(in_flight),
            succeeded=sum(r.state is ProbeState.SUCCEEDED for r in records),
            failed=sum(r.state is ProbeState.FAILED for r in records),
            reused=sum(r.reused for r in records),
        ),
        spend=Spend(
            currency="USD",
            cost=cost,
            reserved=reserved,
            accelerator_seconds=Decimal(repr(round(sum(r.seconds for r in records), 3))),
        ),
    )
    return Step(start, finished, "AnswerSettled" if finished else "Probing", "", status, ())
