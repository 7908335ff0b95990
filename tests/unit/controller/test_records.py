"""What the core is told of probes: whose money it was, which failures count, and what a deletion may not refill."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from orrery.api.probe import AdaptationProbe, Fidelity, Trial
from orrery.controller.attempts import timestamp
from orrery.controller.jobs import JobSettings
from orrery.controller.ledger import Ledger, lost_with
from orrery.controller.records import (
    MOST_ATTEMPTS,
    Probe,
    deleted,
    deleted_confirmations,
    environments,
    parse,
    records,
)
from orrery.planning.types import CONFIRMING_SEED, ProbeState
from tests.unit.controller import factory
from tests.unit.controller.bodies import attempt

pytestmark = pytest.mark.unit

SETTINGS = JobSettings(image="r/probe:1")
PLAN = factory.plan()  # named "support"
NOW = environments(PLAN.spec, SETTINGS)["l4"]


def probe(*attempts: dict[str, Any], seed: int = 0, **status: Any) -> Probe:
    trial = Trial(name="t0", strategy="ZeroShot", fidelity=Fidelity(evaluation_items=200), seed=seed)
    made: AdaptationProbe = factory.probe(PLAN, trials=[trial])
    numbered = [
        {"number": i, "paidBy": "support", "environment": NOW, "phase": "Failed", "cost": "0.1", "seconds": "10"} | a
        for i, a in enumerate(attempts, 1)
    ]
    body = made.to_wire() | {"status": {"attempts": [attempt(**a).to_wire() for a in numbered], **status}}
    found = parse(body)
    assert found is not None
    return found


def one(*attempts: dict[str, Any], plan: Any = PLAN, **status: Any):
    (found,) = records([probe(*attempts, **status)], plan, SETTINGS)
    return found


def test_nothing_is_told_before_money_was_set_aside() -> None:
    assert records([probe()], PLAN, SETTINGS) == []


def test_only_what_this_plan_paid_is_its_own() -> None:
    mine = one({"reason": "Crashed"}, {"phase": "Running", "cost": None, "seconds": None})
    assert (mine.cost, mine.reserved, mine.seconds) == (Decimal("0.1"), Decimal("0.6"), 10.0)
    assert mine.state is ProbeState.RUNNING and not mine.reused
    other = one({"paidBy": "other", "phase": "Succeeded", "reason": "Completed"})
    assert (other.cost, other.reserved, other.seconds, other.reused) == (0, 0, 0.0, True)


@pytest.mark.parametrize(
    ("failed", "attempts", "retryable"),
    [
        ({"reason": "Crashed"}, 1, True),
        ({"reason": "Disrupted"}, 0, True),
        ({"reason": "NotStarted"}, 0, True),
        ({"reason": "JobDeleted"}, 0, True),
        ({"reason": "AccessDenied"}, 1, False),
        ({"reason": "Crashed", "paidBy": "other"}, 0, True),  # its bad luck is not ours
        ({"reason": "OutOfMemory", "paidBy": "other"}, 0, False),  # it would be so for us
        ({"reason": "AccessDenied", "environment": "another"}, 0, True),  # the token was mended
    ],
)
def test_which_failures_count(failed: dict[str, Any], attempts: int, retryable: bool) -> None:
    found = one(failed)
    assert (found.attempts, found.retryable) == (attempts, retryable)


def test_a_mended_image_forgets_the_failure_and_keeps_what_was_measured() -> None:
    part = {"probe": "p", "complete": False, "trials": [], "error": "no token", "reason": "AccessDenied"}
    same = one({"reason": "AccessDenied", "message": "no token"}, report=part)
    assert same.report is not None and same.report.reason == "AccessDenied"
    mended = factory.plan(probeTemplate={"image": "r/probe:2"})
    (found,) = records([probe({"reason": "AccessDenied"}, report=part)], mended, SETTINGS)
    assert found.report is not None and found.report.reason is None and found.reason == ""
    assert environments(mended.spec, SETTINGS) != environments(PLAN.spec, SETTINGS)


def test_a_budget_or_an_objective_is_not_the_environment() -> None:
    edited = factory.plan(budget={"maxProbeCost": "9"}, objective={"minQuality": "0.1"})
    assert environments(edited.spec, SETTINGS) == environments(PLAN.spec, SETTINGS)


def test_a_status_has_room_for_so_many_attempts() -> None:
    assert not one(*[{"reason": "Disrupted"}] * MOST_ATTEMPTS).retryable


def test_an_edited_task_keeps_its_bills() -> None:
    edited = factory.plan(task={"dataset": {"source": {"configMap": {"name": "other", "key": "k"}}}})
    (found,) = records([probe({"reason": "Crashed"})], edited, SETTINGS)
    assert found.cost == Decimal("0.1")
    assert records([probe({"paidBy": "other"})], edited, SETTINGS) == []


def test_deleting_a_probe_does_not_refill_the_budget() -> None:
    told = {"spend": {"cost": "0.35", "acceleratorSeconds": "40"}}
    known = records([probe({"reason": "Crashed"})], PLAN, SETTINGS)
    gone = deleted(PLAN, told, known)
    assert gone is not None and (gone.cost, gone.seconds) == (Decimal("0.25"), 30.0)
    after = {"spend": {"cost": "0.35", "deletedCost": "0.25"}}
    assert deleted(PLAN, after, known).cost == Decimal("0.25"), "it stays spent"
    more = records([probe({"reason": "Crashed"}, {"reason": "Crashed"})], PLAN, SETTINGS)
    assert deleted(PLAN, after, more).cost == Decimal("0.25"), "also when it is measured again"
    assert deleted(PLAN, {}, known) is None


@pytest.mark.parametrize("seed", [0, CONFIRMING_SEED])
def test_what_runs_when_it_is_deleted_is_charged_to_the_budget_that_reserved_it(seed: int) -> None:
    now, key = datetime(2026, 11, 22, 12, tzinfo=UTC), ("team-a", "gone")
    running = {"phase": "Running", "cost": None, "seconds": None, "reservedAt": timestamp(now)}
    ledger = Ledger()
    ledger.learn(key, probe(running, seed=seed))
    ledger.learn(key, None)
    lost, later = ledger.lost(("team-a", "support")), now + timedelta(seconds=60)
    probing, confirming = (lost_with(lost, PLAN.spec, later, confirming=c) for c in (False, True))
    nothing = (Decimal(0), 0.0)
    assert (confirming, probing)[not seed] == (Decimal("0.06"), 60.0), "a tenth of the 0.6 reserved for 600 seconds"
    assert (probing, confirming)[not seed] == nothing
    paid = deleted(PLAN, {}, [], probing), deleted_confirmations(PLAN, {}, [], confirming)
    assert [None if r is None else (r.cost, r.confirming) for r in paid] == (
        [None, (Decimal("0.06"), True)] if seed else [(Decimal("0.06"), False), None]
    )
    account = {"deletedCost": "0.06", "acceleratorSeconds": "60"}
    told = {"confirmation" if seed else "spend": account | {"spent" if seed else "cost": "0.06"}}
    kept = deleted_confirmations(PLAN, told, []) if seed else deleted(PLAN, told, [])
    assert kept is not None and (kept.cost, kept.seconds) == (Decimal("0.06"), 60.0), "it stays spent"
