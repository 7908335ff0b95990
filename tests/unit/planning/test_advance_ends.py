"""Why a plan rests: a limit, a suspension, an answer; and what its conditions say then."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from orrery.planning.advance import advance
from orrery.planning.types import ProbeRecord, ProbeState
from tests.unit.planning.plans import GREEDY, PRICES, condition, small, states, tiny
from tests.unit.planning.world import World, drive

pytestmark = pytest.mark.unit


def test_a_budget_below_the_cheapest_probe_is_a_sentence() -> None:
    step = advance(small(budget={"maxProbeCost": "0.0001"}), [], PRICES)
    assert step.finished and not step.start and step.reason == "BudgetExhausted"
    assert condition(step, "Stalled").status == "True" and condition(step, "BudgetAvailable").status == "False"
    assert step.message.startswith("spec.budget.maxProbeCost is 0.0001 USD and the cheapest useful probe reserves 0.0")
    assert "write at least 0.00" in step.message


def test_too_few_accelerator_seconds_for_the_cheapest_probe_are_a_sentence_too() -> None:
    step = advance(small(budget={"maxProbeCost": "1", "maxAcceleratorSeconds": 10}), [], PRICES)
    assert step.finished and step.reason == "BudgetExhausted" and condition(step, "Stalled").status == "True"
    assert step.message == (
        "spec.budget.maxAcceleratorSeconds is 10, less than the deadline of the cheapest useful probe: write more"
    )


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
