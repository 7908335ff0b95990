"""Confirming: one full run of the recommended candidate, on money of its own, compared with what was forecast without it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from orrery.api.probe import Outcome
from orrery.planning.advance import advance
from orrery.planning.types import CONFIRMING_SEED, Facts, ProbeState, Step, is_confirming
from tests.unit.planning.world import Run, World, drive, make_plan, make_prices

pytestmark = pytest.mark.unit


def confirm(cost: str = "1", **more: Any) -> dict[str, Any]:
    return {"mode": "Automatic", "budget": {"maxCost": cost, **more}}


PRICES = make_prices()


@pytest.fixture(scope="module")
def plain() -> Run:
    return drive(make_plan(), PRICES, World())


@pytest.fixture(scope="module")
def confirmed() -> Run:
    return drive(make_plan(confirm=confirm()), PRICES, World())


def said(step: Step) -> tuple[str, str]:
    (found,) = [c for c in step.status.conditions if c.type == "Confirmed"]
    return found.status, found.reason


def test_the_recommended_candidate_is_run_in_full_once(plain: Run, confirmed: Run) -> None:
    (record,) = [r for r in confirmed.records if r.confirming]
    (trial,) = record.spec.trials
    best = confirmed.last.status.recommendation
    assert best is not None and record.spec.model.name == best.model
    assert {p.name: p.value for p in trial.parameters} == {c.name: c.value for c in best.configuration}
    assert trial.fidelity.training_examples == 0 and trial.fidelity.evaluation_items == 200
    assert trial.seed >= CONFIRMING_SEED
    # it changes neither the answer nor what probing cost
    before, after = plain.last.status, confirmed.last.status
    assert after.recommendation == before.recommendation and after.spend == before.spend
    assert after.alternatives == before.alternatives and plain.last.rows == confirmed.last.rows
    assert not any(c.type == "Confirmed" for c in before.conditions) and before.confirmation is None
    told = after.confirmation
    assert told is not None and told.cost is not None and told.cost.actual == record.cost == told.spent
    assert float(told.cost.actual_accelerator_seconds or 0) == pytest.approx(record.seconds, rel=1e-6)
    assert told.accelerator_seconds == told.cost.actual_accelerator_seconds
    assert (told.cost.predicted_accelerator_seconds or 0) > 0 and (told.cost.flops or 0) > 0
    assert told.error is not None and told.actual is not None and told.predicted is not None
    assert told.error == told.actual - told.predicted
    assert told.lower is not None and told.upper is not None and told.lower < told.predicted < told.upper
    assert said(confirmed.last) == (
        ("True", "WithinInterval") if told.lower <= told.actual <= told.upper else ("False", "OutsideInterval")
    )


def test_while_it_runs_the_plan_is_in_progress(confirmed: Run) -> None:
    step = next(s for s in confirmed.steps if any(is_confirming(r.spec) for r in s.start))
    assert step.status.phase == "Confirming" and not step.finished and len(step.start) == 1
    truth = {c.type: c.status for c in step.status.conditions}
    assert truth["Reconciling"] == "True" and truth["Confirmed"] == "Unknown" and truth["Feasible"] == "True"
    assert step.status.recommendation is not None
    assert step.status.confirmation is not None and step.status.confirmation.reserved == step.start[0].reservation
    assert confirmed.last.status.phase == "Answered"


def test_it_is_paid_from_a_budget_of_its_own_which_is_never_passed() -> None:
    small = drive(make_plan(confirm=confirm("0.0001")), PRICES, World())
    assert not any(r.confirming for r in small.records)
    assert small.last.finished and said(small.last) == ("False", "ConfirmBudgetTooSmall")
    told = small.last.status.confirmation
    assert told is not None and "write at least" in told.message and told.spent == told.reserved == 0
    enough = told.message.rsplit(" ", 1)[1]
    again = drive(make_plan(confirm=confirm(enough)), PRICES, World())
    (record,) = [r for r in again.records if r.confirming]
    assert record.cost <= Decimal(enough) and record.spec.deadline_seconds * Decimal("0.05") / 3600 <= Decimal(enough)
    seconds = drive(make_plan(confirm=confirm("1", maxAcceleratorSeconds=5)), PRICES, World())
    assert said(seconds.last)[1] == "ConfirmBudgetTooSmall"
    assert "maxAcceleratorSeconds" in seconds.last.status.confirmation.message  # type: ignore[union-attr]


@pytest.mark.parametrize("how", ["crash", "lie", "oom", "final", "slow"])
def test_a_confirmation_that_fails_leaves_the_recommendation(plain: Run, how: str) -> None:
    world = World(behaviour=lambda request: how if is_confirming(request.spec) else "ok")
    run = drive(make_plan(confirm=confirm()), PRICES, world)
    assert run.last.status.recommendation == plain.last.status.recommendation
    assert run.last.status.phase == "Answered" and said(run.last) == ("False", "ConfirmationFailed")
    (record,) = [r for r in run.records if r.confirming]
    assert record.attempts == (2 if how in ("crash", "lie") else 1)
    told = run.last.status.confirmation
    assert told is not None and told.actual is None and told.spent == record.cost > 0
    assert "stands unconfirmed" in told.message


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        ("data", "DataMismatch: it read data of digest eeeeeeeeeeee, and the forecast rests on dddddddddddd"),
        ("nothing", "ReportIncomplete"),
        ("unsupported", "Unsupported: peft is not installed"),
        ("foreign", "the report names the probe 'probe-0000000000000000'"),
    ],
)
def test_a_run_of_something_else_confirms_nothing(confirmed: Run, lie: str, sentence: str) -> None:
    """It was believed when it came, and what is known by now says otherwise."""
    (told,) = [r for r in confirmed.records if r.confirming]
    assert told.report is not None and told.report.task_facts is not None
    (trial,) = told.report.trials
    changes: dict[str, Any] = {
        "data": {"task_facts": told.report.task_facts.model_copy(update={"digest": "e" * 64})},
        "nothing": {"trials": [], "complete": False},
        "unsupported": {
            "trials": [
                trial.model_copy(
                    update={
                        "outcome": Outcome.UNSUPPORTED,
                        "score": None,
                        "bits": None,
                        "message": "peft is not installed",
                    }
                )
            ]
        },
        "foreign": {"probe": "probe-0000000000000000"},
    }[lie]
    other = replace(told, attempts=2, report=told.report.model_copy(update=changes))
    step = advance(make_plan(confirm=confirm()), [r for r in confirmed.records if not r.confirming] + [other], PRICES)
    assert step.finished and not step.start and said(step) == ("False", "ConfirmationFailed")
    assert step.status.confirmation is not None and sentence in step.status.confirmation.message
    assert step.status.recommendation == confirmed.last.status.recommendation


def test_a_forecast_that_was_wrong_is_said(confirmed: Run) -> None:
    records = []
    for record in confirmed.records:
        if record.confirming:
            assert record.report is not None
            poor = [
                r.model_copy(update={"score": Decimal("0.01"), "bits": None, "outcome": Outcome.MEASURED})
                for r in record.report.trials
            ]
            record = replace(record, report=record.report.model_copy(update={"trials": poor}))
        records.append(record)
    step = advance(make_plan(confirm=confirm()), records, PRICES)
    assert step.finished and said(step) == ("False", "OutsideInterval")
    assert step.status.confirmation is not None and "measured 0.01 in full" in step.status.confirmation.message
    assert step.status.recommendation == confirmed.last.status.recommendation


def test_another_answer_is_confirmed_anew_and_the_old_run_stays_paid(confirmed: Run) -> None:
    best = confirmed.last.status.recommendation
    assert best is not None
    other = make_plan(
        confirm=confirm(), objective={"minQuality": "0.2"}, exclude=[{"model": best.model, "strategy": best.strategy}]
    )
    run = drive(other, PRICES, World(), records=confirmed.records)
    mine = [r for r in run.records if r.confirming]
    second = run.last.status.recommendation
    assert second is not None and (second.model, second.strategy) != (best.model, best.strategy)
    assert len(mine) == 2 and run.last.status.confirmation is not None
    assert run.last.status.confirmation.spent == sum(r.cost for r in mine)
    # what was confirmed for another plan is not paid again
    reused = [replace(r, reused=True, cost=Decimal(0), seconds=0.0) for r in confirmed.records]
    free = drive(make_plan(confirm=confirm()), PRICES, World(), records=reused)
    assert len(free.steps) == 1 and said(free.last)[1] in ("WithinInterval", "OutsideInterval")
    assert free.last.status.confirmation is not None and free.last.status.confirmation.spent == 0


def test_nothing_is_started_when_suspended_out_of_time_or_without_an_answer(plain: Run) -> None:
    asked = make_plan(confirm=confirm())
    assert said(advance(make_plan(confirm=confirm(), suspend=True), plain.records, PRICES))[1] == "WaitingForAnswer"
    late = advance(asked, plain.records, PRICES, Facts(out_of_time=True))
    assert late.finished and said(late) == ("Unknown", "OutOfTime")
    strict = make_plan(confirm=confirm(), objective={"minQuality": "0.9999"})
    step = drive(strict, PRICES, World()).last
    assert said(step) == ("Unknown", "NothingToConfirm")


def test_a_run_for_an_earlier_answer_is_waited_for(confirmed: Run) -> None:
    flying = [
        replace(r, state=ProbeState.RUNNING, report=None, cost=Decimal(0), reserved=Decimal("0.1"))
        if r.confirming
        else r
        for r in confirmed.records
    ]
    for asked in (make_plan(), make_plan(confirm=confirm(), objective={"minQuality": "0.2"})):
        assert not advance(asked, flying, PRICES).finished
