"""A plan from its first probe to its answer, whatever the probes do on the way."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.plan import AdaptationPlan
from orrery.api.probe import TrialResult
from orrery.api.status import Condition
from orrery.local.facts import model_reading
from orrery.planning.advance import advance
from orrery.planning.types import Facts, ProbeRecord, ProbeRequest, ProbeState, Step
from orrery.probes.locations import SourceRoots
from tests.unit.planning.world import Run, World, drive, make_plan, make_prices, model

pytestmark = pytest.mark.unit

PRICES = make_prices()
#: Three ways on one small model: runs end within a second.
SMALL: dict[str, Any] = {
    "models": [model("small")],
    "strategies": [
        {"name": "zero-shot", "type": "ZeroShot"},
        {"name": "in-context", "type": "InContext", "grid": [{"name": "shots", "values": [1, 8]}]},
        {"name": "lora", "type": "LoRA", "grid": [{"name": "epochs", "values": [1]}]},
    ],
    "objective": {"goal": "MaximizeQuality"},
}


#: Two ways on one small model, for what is run often.
TINY: dict[str, Any] = SMALL | {
    "strategies": [
        {"name": "zero-shot", "type": "ZeroShot"},
        {"name": "lora", "type": "LoRA", "grid": [{"name": "epochs", "values": [1, 3]}]},
    ],
    "probing": {"fidelities": [16]},
}


def small(**changes: Any) -> AdaptationPlan:
    return make_plan(**(SMALL | changes))


def tiny(**changes: Any) -> AdaptationPlan:
    return make_plan(**(TINY | changes))


def bytes_of(step: Step) -> str:
    start = [(r.name, r.spec.to_wire(), str(r.reservation), r.attempt, r.reason) for r in step.start]
    rows = [asdict(r) for r in step.rows]
    return json.dumps([start, step.finished, step.reason, step.message, step.status.to_wire(), rows], default=str)


def condition(step: Step, kind: str) -> Condition:
    return next(c for c in step.status.conditions if c.type == kind)


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


@pytest.mark.parametrize("fault", ["crash", "lie", "final", "oom", "partial", "slow"])
def test_faults_never_stop_a_plan(fault: str) -> None:
    """Every second attempt goes wrong; what can be known is still known, and every run ends."""
    calls = iter(range(10_000))
    world = World(seed=3, behaviour=lambda _: fault if next(calls) % 2 else "ok")
    run = drive(tiny(), PRICES, world)
    assert run.last.finished
    assert run.highest <= 1
    assert run.last.status.recommendation is not None


@pytest.mark.parametrize("fault", ["crash", "lie", "final", "slow"])
def test_a_plan_whose_probes_all_fail_stalls_with_the_reason(fault: str) -> None:
    run = drive(tiny(), PRICES, World(behaviour=lambda _: fault))
    assert run.last.finished and run.last.reason == "ProbesFailed"
    assert condition(run.last, "Stalled").status == "True" and run.last.status.phase == "Stalled"
    expected = {
        "crash": "(Error)",
        "lie": "the report names the probe 'probe-0000000000000000'",
        "final": "(ModelNotFound)",
        "slow": "(DeadlineExceeded)",
    }[fault]
    assert expected in run.last.message


def test_a_failed_probe_is_asked_again_as_often_as_the_plan_says() -> None:
    run = drive(tiny(probing={"retries": 3, "parallelism": 1}), PRICES, World(behaviour=lambda _: "crash"))
    assert {r.attempts for r in run.records} == {4}


def test_out_of_memory_is_never_retried_and_rejects_what_needs_more() -> None:
    plan = small(strategies=[{"name": "lora", "type": "LoRA"}])
    run = drive(plan, PRICES, World(behaviour=lambda _: "oom"), facts=Facts(task=World().task_facts))
    assert {r.attempts for r in run.records} == {1}
    assert all("ran out of memory on cpu" in r.reason for r in run.last.rows)
    assert run.last.reason == "Infeasible" and run.last.status.recommendation is None


def test_memory_gate_says_its_arithmetic() -> None:
    plan = small(
        models=[model("large", parameters=8_000_000_000, layers=32, hiddenSize=4096)],
        strategies=[{"name": "full", "type": "FullFineTuning"}, {"name": "zero-shot", "type": "ZeroShot"}],
        accelerators=[{"name": "t4"}],
    )
    step = advance(plan, [], make_prices(t4="0.5"))
    full = next(r for r in step.rows if r.type == "FullFineTuning")
    assert full.status == "Rejected" and full.reason.startswith("training needs 1")
    assert "GiB (weights and optimizer 134.1 + activations " in full.reason
    assert full.reason.endswith("and t4 has 15.0 GiB")
    plain = next(r for r in step.rows if r.type == "ZeroShot")
    assert plain.reason.startswith("serving needs 17.9 GiB (weights 14.9 + ")


def test_on_a_cpu_the_process_that_trains_counts() -> None:
    # SmolLM2-135M in full peaks at 3.0 GiB alone (docs/benchmarks/costs.md), its weights and their state at 2.3
    sizes = {
        "layers": 30,
        "hiddenSize": 576,
        "heads": 9,
        "kvHeads": 3,
        "intermediateSize": 1536,
        "vocabularySize": 49_152,
    }
    trained = [{"name": "full", "type": "FullFineTuning"}, {"name": "lora", "type": "LoRA"}]
    reasons = {}
    for name in ("cpu", "tiny"):
        accelerators = [{"name": name, "memory": "2560Mi"}]
        plan = small(
            models=[model("m", parameters=134_515_008, **sizes)], strategies=trained, accelerators=accelerators
        )
        rows = advance(plan, [], make_prices(**{name: "0.1"}), Facts(task=World().task_facts)).rows
        reasons |= {(name, r.type): r.reason for r in rows if r.gated}
    assert set(reasons) == {("cpu", "FullFineTuning")}
    assert "GiB (weights and optimizer 2.3 + activations and its process 1.0)" in reasons["cpu", "FullFineTuning"]


def test_prompts_longer_than_the_model_reads_are_rejected() -> None:
    plan = small(models=[model("small", contextLength=200)], strategies=[{"name": "icl", "type": "InContext"}])
    step = advance(plan, [], PRICES, Facts(task=World().task_facts))
    long = [r for r in step.rows if dict(r.configuration)["shots"] == "8"]
    assert all("prompt + 3 answer) and small reads 200" in r.reason for r in long)


def test_more_memory_elsewhere_is_used() -> None:
    plan = small(
        models=[model("large", parameters=3_000_000_000)],
        strategies=[{"name": "lora", "type": "LoRA"}],
        accelerators=[{"name": "tiny", "memory": "4Gi"}, {"name": "h100"}],
    )
    step = advance(plan, [], make_prices(tiny="0.1", h100="4"), Facts(task=World().task_facts))
    assert {r.spec.accelerator for r in step.start} == {"h100"}


def test_a_budget_below_the_cheapest_probe_is_a_sentence() -> None:
    step = advance(small(budget={"maxProbeCost": "0.0001"}), [], PRICES)
    assert step.finished and not step.start and step.reason == "BudgetExhausted"
    assert condition(step, "Stalled").status == "True" and condition(step, "BudgetAvailable").status == "False"
    assert step.message.startswith("spec.budget.maxProbeCost is 0.0001 USD and the cheapest useful probe reserves 0.0")
    assert "write at least 0.00" in step.message


#: A designer that is never content.
GREEDY = {"designer": "Uniform"}


def test_an_exhausted_budget_recommends_or_fails_as_asked() -> None:
    for exceeded, phase in (("Recommend", "Answered"), ("Fail", "Failed")):
        plan = small(budget={"maxProbeCost": "0.003", "onExceeded": exceeded}, probing=GREEDY)
        run = drive(plan, PRICES, World(seed=3, train=3000))
        assert run.last.reason == "BudgetExhausted" and run.last.status.phase == phase
        assert (run.last.status.recommendation is None) == (exceeded == "Fail")
        assert run.highest <= Decimal("0.003")


def test_accelerator_seconds_are_a_limit_too() -> None:
    plan = small(budget={"maxProbeCost": "1", "maxAcceleratorSeconds": 150}, probing=GREEDY)
    run = drive(plan, PRICES, World(seed=3, train=3000))
    assert sum(r.seconds for r in run.records) <= 150
    assert run.last.reason == "BudgetExhausted"


def test_the_number_of_probes_is_a_limit_too() -> None:
    run = drive(tiny(probing={"maxProbes": 1} | GREEDY), PRICES, World(seed=3))
    assert len(run.records) == 1 and run.last.reason == "ProbesExhausted"


def test_a_suspended_plan_starts_nothing_but_lets_probes_end() -> None:
    plan = small()
    request = advance(plan, [], PRICES).start[0]
    flying = ProbeRecord(request.name, request.spec, ProbeState.RUNNING, 1, Decimal(0), request.reservation, 0.0, None)
    held = small(suspend=True)
    step = advance(held, [flying], PRICES)
    assert not step.start and not step.finished and step.status.phase == "Suspended"
    assert advance(held, [], PRICES).finished


def states(step: Step) -> dict[str, str]:
    return {c.type: c.status for c in step.status.conditions}


def test_a_suspended_plan_that_rests_is_neither_ready_nor_in_progress() -> None:
    """kstatus takes Ready=False for in progress, and Ready=True for an answer: so there is none."""
    held = advance(small(suspend=True), [], PRICES)
    said = states(held)
    assert "Ready" not in said and (said["Reconciling"], said["Stalled"]) == ("False", "False")
    assert (said["ProbesCompleted"], said["Feasible"]) == ("Unknown", "Unknown")
    assert held.status.phase == "Suspended" and condition(held, "Reconciling").reason == "Suspended"
    request = advance(small(), [], PRICES).start[0]
    flying = ProbeRecord(request.name, request.spec, ProbeState.RUNNING, 1, Decimal(0), request.reservation, 0.0, None)
    waits = states(advance(small(suspend=True), [flying], PRICES))
    assert (waits["Ready"], waits["Reconciling"]) == ("False", "True"), "what runs is waited for"


@pytest.mark.parametrize(
    ("why", "reason", "feasible"),
    [
        ("probing", "Probing", "Unknown"),
        ("suspended", "Suspended", "Unknown"),
        ("too little money", "BudgetExhausted", "Unknown"),
        ("all failed", "ProbesFailed", "Unknown"),
        ("all failed, and no money for another try", "BudgetExhausted", "Unknown"),
        ("no such model", "InvalidPlan", "Unknown"),
        ("impossible", "Infeasible", "False"),
        ("answered", "AnswerSettled", "True"),
        ("all probes used", "ProbesExhausted", "True"),
    ],
)
def test_feasible_is_unknown_without_an_answer(why: str, reason: str, feasible: str) -> None:
    asked: dict[str, Any] = {"objective": {"goal": "MinimizeCost", "minQuality": "0.6"}}
    if why == "probing":
        step = advance(tiny(), [], PRICES)  # any candidate would do: there is a best so far
        assert step.status.recommendation is not None
    elif why == "suspended":
        step = advance(tiny(suspend=True), [], PRICES)
    elif why == "too little money":
        step = advance(tiny(budget={"maxProbeCost": "0.0001"}, **asked), [], PRICES)
    elif why == "no such model":
        step = advance(tiny(accelerators=[{"name": "h100"}]), [], PRICES)
    else:
        changes: dict[str, Any] = {
            "all failed": {"probing": {"retries": 0}, **asked},
            "all failed, and no money for another try": {"budget": {"maxProbeCost": "0.002"}, **asked},
            "impossible": {"objective": {"goal": "MaximizeQuality", "minQuality": "0.999"}},
            "answered": {},
            "all probes used": {"probing": {"maxProbes": 1} | GREEDY},
        }[why]
        broken = why.startswith("all failed")
        step = drive(tiny(**changes), PRICES, World(seed=3, behaviour=lambda _: "crash" if broken else "ok")).last
    assert (step.reason, states(step)["Feasible"]) == (reason, feasible), step.message
    if why.startswith("all failed"):
        assert states(step)["Stalled"] == "True" and "no probe brought a measurement" in step.message


@pytest.mark.parametrize(("limit", "reason"), [("money", "BudgetExhausted"), ("probes", "ProbesExhausted")])
def test_what_was_used_up_for_other_data_is_no_answer_about_these(limit: str, reason: str) -> None:
    probing = {"maxProbes": 1} if limit == "probes" else {}
    records = drive(tiny(probing=probing | GREEDY), PRICES, World(seed=3)).records
    spent = sum((r.cost for r in records), Decimal(0))
    budget = {} if limit == "probes" else {"budget": {"maxProbeCost": str(spent)}}
    other = {"dataset": {"source": {"builtin": {"name": "tickets"}}}}
    step = advance(tiny(task=other, probing=probing | GREEDY, **budget), records, PRICES)
    said = states(step)
    assert (step.reason, said["Stalled"], said["Ready"], said["Feasible"]) == (reason, "True", "False", "Unknown")
    assert "what the plan asks" in step.message and step.status.recommendation is None


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


def test_an_infeasible_plan_is_an_answer_that_names_the_nearest_miss() -> None:
    plan = tiny(objective={"goal": "MaximizeQuality", "minQuality": "0.999"})
    run = drive(plan, PRICES, World(seed=3))
    assert run.last.reason == "Infeasible" and run.last.status.phase == "Infeasible"
    assert condition(run.last, "Ready").status == "True" and condition(run.last, "Feasible").status == "False"
    assert "no candidate meets the objective; nearest is small/" in run.last.message
    assert run.last.status.recommendation is None and run.last.status.alternatives


def test_unknown_sizes_are_measured_not_assumed() -> None:
    nameless = {k: v for k, v in model("nameless").items() if k != "facts"}
    run = drive(small(models=[nameless]), make_prices(), World(seed=3))
    assert run.last.finished and run.last.status.recommendation is not None


def test_why_sizes_are_uncertain_is_said_of_every_candidate_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "heliograph", "vocab_size": 32000}')
    header = b'{"weight": {"dtype": "BF16", "shape": [1000, 1000], "data_offsets": [0, 2000000]}}'
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    local = {"name": "sunny", "source": {"local": {"path": str(tmp_path)}}}
    plan = tiny(models=[local, model("small")])
    reading = model_reading(plan.spec.models[0], SourceRoots())
    assert reading.facts is not None and reading.facts.parameters == 1_000_000 and reading.problem is not None
    step = advance(plan, [], PRICES, Facts({"sunny": reading.facts}, uncertain={"sunny": reading.problem}))
    said = "Its sizes are uncertain, since model_type 'heliograph' is not known"
    assert step.rows and all((said in row.reason) == (row.model == "sunny") for row in step.rows)
    full = tiny(models=[local], accelerators=[{"name": "cpu", "memory": "1Gi"}])
    huge = {"sunny": reading.facts.model_copy(update={"parameters": 10**12})}
    gated = advance(full, [], PRICES, Facts(huge, uncertain={"sunny": reading.problem})).rows
    assert all(row.gated and " GiB " in row.reason and said in row.reason for row in gated)
    rivals = [a for a in step.status.alternatives if a.model == "sunny"]
    assert rivals and all(said in a.rejected_because for a in rivals)


def test_a_probe_tells_why_sizes_are_uncertain_where_the_shell_cannot_read_them() -> None:
    nameless = {k: v for k, v in model("nameless").items() if k != "facts"}
    plan = tiny(models=[nameless])
    first = advance(plan, [], PRICES).start[0]
    record, _ = World(seed=3).run(first, Decimal("0.00001"))
    assert record.report is not None
    told = {"model_facts": {"parameters": 10**9}, "model_problem": "model_type 'heliograph' is not known"}
    step = advance(plan, [replace(record, report=record.report.model_copy(update=told))], PRICES)
    assert all("since model_type 'heliograph' is not known" in row.reason for row in step.rows)


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


faults = st.sampled_from(["ok", "ok", "ok", "crash", "lie", "partial", "oom", "final", "slow"])


def drive_with(plan: AdaptationPlan, seed: int, events: list[str]) -> Run:
    turn = iter(events)

    def behaviour(_: ProbeRequest) -> str:
        return next(turn, "ok")

    return drive(plan, PRICES, World(seed=seed, behaviour=behaviour))


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 50),
    st.lists(faults, max_size=8),
    st.decimals("0.001", "0.03", places=4),
    st.integers(1, 3),
    st.integers(0, 2),
)
def test_spend_never_passes_the_budget_and_every_run_ends(
    seed: int, events: list[str], budget: Decimal, parallelism: int, retries: int
) -> None:
    plan = tiny(budget={"maxProbeCost": str(budget)}, probing={"parallelism": parallelism, "retries": retries})
    run = drive_with(plan, seed, events)
    assert run.highest <= budget
    assert run.spent <= budget
    assert run.last.finished
    for step in run.steps:
        spend = step.status.spend
        assert spend is not None and spend.cost + spend.reserved <= budget
