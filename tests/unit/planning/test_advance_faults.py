"""Whatever probes do, a run ends, says why, and stays within its budget."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.plan import AdaptationPlan
from orrery.planning.advance import advance
from orrery.planning.types import Facts, ProbeRequest
from tests.unit.planning.plans import PRICES, condition, small, states, tiny
from tests.unit.planning.world import Run, World, drive

pytestmark = pytest.mark.unit


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


def test_data_that_a_probe_cannot_use_stalls_the_plan_with_its_sentence() -> None:
    plan, world = tiny(), World(seed=3)
    record, _ = world.run(advance(plan, [], PRICES).start[0], Decimal("0.00001"))
    assert record.report is not None
    said = {"trials": [], "reason": "MissingColumn", "error": "there is no column 'text': write one of input, target"}
    step = advance(plan, [replace(record, report=record.report.model_copy(update=said))], PRICES)
    assert step.finished and not step.start and step.reason == "InvalidData" and step.status.recommendation is None
    assert "there is no column 'text': write one of input, target" in step.message
    assert states(step)["Stalled"] == "True" and states(step)["Validated"] == "True"


def test_a_failed_probe_is_asked_again_as_often_as_the_plan_says() -> None:
    run = drive(tiny(probing={"retries": 3, "parallelism": 1}), PRICES, World(behaviour=lambda _: "crash"))
    assert {r.attempts for r in run.records} == {4}


def test_out_of_memory_is_never_retried_and_rejects_what_needs_more() -> None:
    plan = small(strategies=[{"name": "lora", "type": "LoRA"}])
    run = drive(plan, PRICES, World(behaviour=lambda _: "oom"), facts=Facts(task=World().task_facts))
    assert {r.attempts for r in run.records} == {1}
    assert all("ran out of memory on cpu" in r.reason for r in run.last.rows)
    assert run.last.reason == "Infeasible" and run.last.status.recommendation is None


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
