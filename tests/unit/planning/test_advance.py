"""A plan from its first probe to its answer."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any

import pytest

from orrery.api.probe import TrialResult
from orrery.planning.advance import advance
from orrery.planning.types import Facts, ProbeRecord, ProbeState, Step
from tests.unit.planning.plans import PRICES, condition, small, tiny
from tests.unit.planning.world import World, drive, make_prices, model

pytestmark = pytest.mark.unit


def bytes_of(step: Step) -> str:
    start = [(r.name, r.spec.to_wire(), str(r.reservation), r.attempt, r.reason) for r in step.start]
    rows = [asdict(r) for r in step.rows]
    return json.dumps([start, step.finished, step.reason, step.message, step.status.to_wire(), rows], default=str)


def test_zero_shot_comes_first_and_brings_the_facts() -> None:
    step = advance(small(), [], PRICES)
    first = step.start[0]
    assert first.spec.trials[0].strategy == "ZeroShot"
    assert all(t.strategy != "LoRA" for r in step.start for t in r.spec.trials), "nobody knows the training split yet"
    assert first.attempt == 1 and first.reservation >= first.expected_cost > 0
    assert not step.finished and step.reason == "Probing" and step.status.phase == "Probing"
    assert (condition(step, "Ready").status, condition(step, "Reconciling").status) == ("False", "True")


def test_what_a_shell_read_itself_changes_no_answer_once_probes_have_reported() -> None:
    """`orrery run` reads sizes and data beforehand, the operator neither: from the same reports both answer the same."""
    plan, world = tiny(), World(seed=3)
    records = drive(plan, PRICES, world).records
    estimated = world.task_facts.model_copy(update={"input_tokens": Decimal(31), "example_tokens": Decimal(40)})
    sizes = plan.spec.models[0].facts
    assert sizes is not None
    read, blind = (advance(plan, records, PRICES, f) for f in (Facts({"small": sizes}, task=estimated), Facts()))
    assert read.finished and bytes_of(read) == bytes_of(blind)


def test_a_run_ends_with_an_answer_that_is_near_the_best() -> None:
    world = World(seed=3, overrides={("small", "LoRA"): 0.95, ("small", "InContext"): 0.6})
    run = drive(small(), PRICES, world)
    assert run.last.reason == "AnswerSettled" and run.last.status.phase == "Answered"
    answer = run.last.status.recommendation
    assert answer is not None and answer.strategy == "lora"
    assert condition(run.last, "Ready").status == "True" and condition(run.last, "Reconciling").status == "False"
    assert condition(run.last, "Feasible").status == "True"
    spend = run.last.status.spend
    assert spend is not None and spend.cost == run.spent > 0 and spend.reserved == 0
    assert all(a.rejected_because for a in run.last.status.alternatives)
    assert sum(r.status == "Recommended" for r in run.last.rows) == 1
    assert len({r.candidate for r in run.last.rows}) == len(run.last.rows) == 1 + 4 + 2
    assert spend.exhaustive_cost is not None and spend.saved_percent is not None
    assert float(spend.saved_percent) == pytest.approx(100 * (1 - float(spend.cost / spend.exhaustive_cost)), abs=0.5)


def test_the_same_inputs_give_the_same_bytes_in_any_order() -> None:
    plan, world = tiny(models=[model("small"), model("encoder", "Encoder")]), World(seed=5)
    records = drive(plan, PRICES, world).records
    want = bytes_of(advance(plan, records, PRICES))
    for seed in range(2):
        shuffled = list(records)
        random.Random(seed).shuffle(shuffled)
        shuffled = [
            r
            if r.report is None
            else replace(r, report=r.report.model_copy(update={"trials": list(reversed(r.report.trials))}))
            for r in shuffled
        ]
        assert bytes_of(advance(plan, shuffled, PRICES)) == want


def test_the_answer_holds_when_prices_change_and_costs_no_probe() -> None:
    plan, world = small(objective={"goal": "MinimizeCost", "minQuality": "0.3"}), World(seed=3)
    records = drive(plan, PRICES, world).records
    dear = advance(plan, records, make_prices(cpu="0.50"))
    assert dear.status.recommendation is not None
    cheap = advance(plan, records, PRICES)
    assert cheap.status.recommendation is not None
    ratio = dear.status.recommendation.cost.total / cheap.status.recommendation.cost.total
    assert abs(ratio - 10) < Decimal("0.01")


def test_what_runs_is_not_started_again() -> None:
    plan = small(probing={"parallelism": 4})
    request = advance(plan, [], PRICES).start[0]
    flying = ProbeRecord(request.name, request.spec, ProbeState.QUEUED, 1, Decimal(0), request.reservation, 0.0, None)
    step = advance(plan, [flying], PRICES)
    asked = {t.name for t in request.spec.trials}
    assert not asked & {t.name for r in step.start for t in r.spec.trials}
    assert step.status.spend is not None
    assert step.status.spend.reserved == request.reservation + sum((r.reservation for r in step.start), Decimal(0))


@pytest.mark.parametrize("edited", ["task", "models"])
def test_a_probe_of_before_an_edit_holds_its_money_and_no_place(edited: str) -> None:
    other = {"task": {"dataset": {"source": {"builtin": {"name": "tickets"}}}}, "models": [model("medium")]}[edited]
    before, one = small(), {"probing": {"parallelism": 1}}
    request = advance(before, [], PRICES).start[0]
    old = ProbeRecord(request.name, request.spec, ProbeState.QUEUED, 1, Decimal(0), request.reservation, 0.0, None)
    step = advance(small(**{edited: other}, **one), [old], PRICES)
    assert len(step.start) == 1 and step.start[0].name != old.name and not step.finished
    assert step.status.spend is not None
    assert step.status.spend.reserved == old.reserved + step.start[0].reservation
    # without the edit it has the only place
    assert not advance(small(**one), [old], PRICES).start
    # and where the money for another comes back only with its end, nobody is told to write a larger budget
    poor = small(**{edited: other}, budget={"maxProbeCost": str(request.reservation), "onExceeded": "Fail"})
    waits = advance(poor, [old], PRICES)
    assert not waits.start and not waits.finished and waits.reason == "Probing" and old.name in waits.message
    assert condition(waits, "Stalled").status == "False" and condition(waits, "BudgetAvailable").status == "True"
    assert advance(poor, [replace(old, state=ProbeState.INTERRUPTED, reserved=Decimal(0))], PRICES).start


def test_the_exhaustive_search_loads_each_model_once() -> None:
    plan = tiny()
    records = [r for r in drive(plan, PRICES, World(seed=3)).records if r.report is not None]
    slower = [
        replace(r, report=r.report.model_copy(update={"load_seconds": (r.report.load_seconds or 0) + 3600}))
        for r in records
        if r.report is not None
    ]
    before, after = (advance(plan, some, PRICES).status.spend for some in (records, slower))
    assert before is not None and after is not None and before.exhaustive_cost and after.exhaustive_cost
    assert float(after.exhaustive_cost - before.exhaustive_cost) == pytest.approx(0.05, abs=2e-6), "an hour, once"


def test_the_exhaustive_search_measures_each_configuration_on_the_first_accelerator_that_holds_it() -> None:
    prices, facts = make_prices(cpu="0.05", l4="0.70"), Facts(task=World().task_facts)
    one, two = (
        advance(tiny(accelerators=[{"name": n} for n in names]), [], prices, facts)
        for names in (["cpu"], ["cpu", "l4"])
    )
    assert one.status.spend is not None and two.status.spend is not None
    assert one.status.spend.exhaustive_cost == two.status.spend.exhaustive_cost
    assert len(two.rows) == 2 * len(one.rows)


def test_a_reused_measurement_costs_this_plan_nothing() -> None:
    plan, world = tiny(), World(seed=3)
    records = [replace(r, reused=True) for r in drive(plan, PRICES, world).records]
    step = advance(plan, records, PRICES)
    assert step.finished and step.status.spend is not None and step.status.spend.cost == 0
    assert step.status.progress is not None and step.status.progress.reused == len(records)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"strategies": [{"name": "x", "type": "Prayer"}]}, "'Prayer' is no installed strategy"),
        ({"accelerators": [{"name": "h100"}]}, "spec.accelerators[h100] has no OnDemand price in the PriceList"),
    ],
)
def test_what_cannot_be_answered_stalls_with_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    step = advance(small(**changes), [], PRICES)
    assert step.finished and step.reason == "InvalidPlan" and sentence in step.message
    assert condition(step, "Stalled").status == "True" and condition(step, "Validated").status == "False"
    assert step.status.phase == "Stalled" and not step.rows


def test_missing_prices_are_told_together_with_what_else_is_wrong() -> None:
    hosted = model("small") | {"hostedAs": "large"}
    changes = {"models": [hosted], "accelerators": [{"name": "h100"}, {"name": "l4"}]}
    step = advance(small(**changes, strategies=[{"name": "x", "type": "Prayer"}]), [], PRICES)
    for said in (
        "'Prayer' is no installed strategy",
        "[h100] has no OnDemand price",
        "[l4] has",
        "hostedAs is 'large'",
    ):
        assert said in step.message
    assert step.message.count("; ") == 3 and step.reason == "InvalidPlan" and step.finished
    alone = advance(small(**changes), [], PRICES)
    assert alone.message.count("; ") == 2 and alone.reason == "InvalidPlan"


def test_an_infeasible_plan_is_an_answer_that_names_the_nearest_miss() -> None:
    plan = tiny(objective={"goal": "MaximizeQuality", "minQuality": "0.999"})
    run = drive(plan, PRICES, World(seed=3))
    assert run.last.reason == "Infeasible" and run.last.status.phase == "Infeasible"
    assert condition(run.last, "Ready").status == "True" and condition(run.last, "Feasible").status == "False"
    assert "no candidate meets the objective; nearest is small/" in run.last.message
    assert run.last.status.recommendation is None and run.last.status.alternatives


def test_measured_answer_lengths_replace_what_the_plan_states() -> None:
    stated = {"requestsPerDay": 1000, "outputTokens": 4}
    task = {"dataset": {"source": {"builtin": {"name": "intents"}}}, "type": "Generation", "maxOutputTokens": 64}
    plan = tiny(workload=stated, task=task | {"metric": {"name": "ExactMatch"}})
    request = advance(plan, [], PRICES).start[0]
    record, _ = World(seed=3).run(request, Decimal("0.00001"))
    assert record.report is not None

    def latency(results: list[TrialResult]) -> float:
        report = record.report.model_copy(update={"trials": results})  # type: ignore[union-attr]  # it is there
        step = advance(plan, [replace(record, report=report)], PRICES)
        row = next(r for r in step.rows if r.type == "ZeroShot")
        assert row.latency_milliseconds is not None
        return row.latency_milliseconds

    plain = latency(list(record.report.trials))
    found = {"output_tokens": Decimal(20), "output_tokens_error": Decimal(2)}
    even, long = (
        latency([t.model_copy(update={**found, "output_token_quantiles": q}) for t in record.report.trials])
        for q in ([20, 20, 20, 20, 20], [2, 8, 16, 30, 64])
    )
    assert 2 * plain < even < long, "20 measured tokens for 4 stated ones, and 64 in the longest answers"
    refused = [t.model_copy(update={**found, "output_token_quantiles": [9, 3, 2, 1, 0]}) for t in record.report.trials]
    assert latency(refused) != even  # what cannot be is not believed


def test_losses_are_forecast_too() -> None:
    metric = {"name": "NegativeLogLikelihood"}
    plan = small(task={"dataset": {"source": {"builtin": {"name": "intents"}}}, "metric": metric})
    step = advance(plan, [], PRICES, Facts(task=World().task_facts))
    assert step.start and all(r.quality is not None and r.quality.lower > 0 for r in step.rows)
