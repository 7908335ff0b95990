"""Statuses are stamped without noise, rows are the same bytes, and old servers are told of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from orrery.api.status import Condition, PlanStatus, Progress, Spend
from orrery.controller import features, results, status
from orrery.controller.jobs import JobSettings
from orrery.controller.reconcile import Reconciler
from orrery.controller.records import DELETED
from orrery.controller.until import until_old
from orrery.controller.world import World
from orrery.planning.types import ProbeRecord, ProbeState
from tests.unit.controller import factory
from tests.unit.planning.world import make_prices

pytestmark = pytest.mark.unit

READY = Condition(type="Ready", status="False", reason="Probing", message="waiting for running probes")
RECONCILING = Condition(type="Reconciling", status="True", reason="Probing")
VALID = Condition(type="Validated", status="True", reason="Valid")


def test_a_condition_keeps_its_transition_time_while_its_status_is_the_same() -> None:
    first = status.stamped(PlanStatus(conditions=[READY]), {}, 1, "t1")
    again = status.stamped(PlanStatus(conditions=[READY.model_copy(update={"message": "other"})]), first, 2, "t2")
    assert first["conditions"][0]["lastTransitionTime"] == again["conditions"][0]["lastTransitionTime"] == "t1"
    assert again["observedGeneration"] == again["conditions"][0]["observedGeneration"] == 2
    turned = status.stamped(PlanStatus(conditions=[READY.model_copy(update={"status": "True"})]), again, 2, "t3")
    assert turned["conditions"][0]["lastTransitionTime"] == "t3"


def test_the_same_status_is_the_same_bytes_and_no_empty_text_is_written() -> None:
    told = PlanStatus(conditions=[READY, RECONCILING, VALID])
    first = status.stamped(told, {}, 1, "t1")
    assert status.stamped(told, first, 1, "t2") == first
    assert "message" not in first["conditions"][2], "an old API server takes an empty text for null"


def test_conditions_of_others_are_kept() -> None:
    theirs = {"type": "Audited", "status": "True", "reason": "ByHand", "lastTransitionTime": "t0"}
    found = status.stamped(PlanStatus(conditions=[READY]), {"conditions": [theirs]}, 1, "t1")
    assert found["conditions"][1] == theirs


def test_a_plan_that_cannot_be_used_is_stalled_and_keeps_its_answer() -> None:
    before = PlanStatus(phase="Answered", conditions=[READY], results_ref="plan-results")
    found = status.failure("InvalidPlan", "spec.models is empty: write one", before)
    said = {c.type: (c.status, c.message) for c in found.conditions}
    assert len(said) == 7 and found.results_ref == "plan-results"
    assert said["Stalled"] == ("True", "spec.models is empty: write one") == ("True", said["Validated"][1])
    assert said["Ready"][0] == said["Reconciling"][0] == "False"


def record(state: ProbeState, reason: str = "", message: str = "") -> ProbeRecord:
    spec = factory.probe(factory.plan()).spec
    zero = Decimal(0)
    return ProbeRecord("probe-x", spec, state, 1, zero, zero, 0.0, reason=reason, message=message)


def test_why_nothing_runs_is_told_while_nothing_does() -> None:
    told = PlanStatus(conditions=[READY, RECONCILING, VALID])
    waits = record(ProbeState.QUEUED, "Unschedulable", "0/3 nodes have nvidia.com/gpu")
    found = status.waiting(told, [waits])
    assert found.conditions[1].reason == "Unschedulable"
    assert found.conditions[1].message == "probe-x waits: 0/3 nodes have nvidia.com/gpu"
    assert found.conditions[2] == VALID
    assert status.waiting(told, [waits, record(ProbeState.RUNNING)]) == told
    assert status.waiting(told, [record(ProbeState.QUEUED, "Pending", "its Pod has not started yet")]) == told


def test_between_decisions_it_counts_probes_and_money_and_says_nothing_else() -> None:
    plan = factory.plan()
    spec = factory.probe(plan).spec
    flying = ProbeRecord("a", spec, ProbeState.RUNNING, 1, Decimal(0), Decimal("0.6"), 0.0)
    told = PlanStatus(
        conditions=[READY],
        progress=Progress(planned=2, queued=2, running=0, succeeded=0, failed=0, reused=0, estimated_remaining_seconds=9),
        spend=Spend(
            currency="USD", cost=Decimal(0), reserved=Decimal("1.2"), accelerator_seconds=Decimal(0),
            exhaustive_cost=Decimal(10), saved_percent=Decimal(100),
        ),
    )  # fmt: skip
    done = replace(flying, name="b", state=ProbeState.SUCCEEDED, cost=Decimal("0.5"), reserved=Decimal(0), seconds=30.0)
    gone = replace(done, name=DELETED, state=ProbeState.INTERRUPTED, cost=Decimal("0.25"))
    now = status.underway(told, plan.spec, [flying, done, gone])
    assert now.conditions == told.conditions and now.progress is not None and now.spend is not None
    assert (now.progress.running, now.progress.succeeded, now.progress.failed) == (1, 1, 0)
    assert now.progress.estimated_remaining_seconds == 9
    assert (now.spend.cost, now.spend.reserved, now.spend.deleted_cost) == (
        Decimal("0.75"),
        Decimal("0.6"),
        Decimal("0.25"),
    )
    assert now.spend.saved_percent == Decimal("92.5") and now.spend.accelerator_seconds == 60


def test_what_a_server_lacks_is_said_where_it_matters() -> None:
    old, queued = features.of_version(20, queued=False), features.of_version(20, queued=True)
    assert "CEL" in old and "podFailurePolicy" in old and "queueName" not in old and "queueName" in queued
    assert features.of_version(25, queued=True).count(";") == 0 and features.of_version(26, queued=True) == ""
    told = status.remark(PlanStatus(conditions=[READY, VALID]), old)
    assert told.conditions[1].message == old and told.conditions[0] == READY
    refused = VALID.model_copy(update={"status": "False", "message": "no"})
    assert status.remark(PlanStatus(conditions=[refused]), old).conditions == [refused]


def test_old_prices_are_said_in_the_condition_once() -> None:
    asked, prices = factory.plan(), make_prices(l4="0.8")  # of the 1st of January 2026
    world, now = World(), datetime(2026, 3, 1, 12, tzinfo=UTC)
    parts = {
        "server": None,
        "world": world,
        "metrics": None,
        "recorder": None,
        "fence": None,
        "jobs": JobSettings("image"),
    }
    reconciler = Reconciler(SimpleNamespace(**parts, clock=lambda: now))  # type: ignore[arg-type]  # what deciding needs
    body = {**asked.to_wire(), "status": {}}

    def told(day: datetime) -> dict[str, Any]:
        nonlocal now
        now = day
        written = status.stamped(reconciler._advance(asked, body, prices).status, body["status"], 1, day.isoformat())
        body["status"] = written
        return written

    def message(written: dict[str, Any]) -> str:
        return next(c.get("message", "") for c in written["conditions"] if c["type"] == "Validated")

    assert message(told(now)) == ""
    wait = until_old(prices, now)
    assert wait == (datetime(2026, 4, 2, tzinfo=UTC) - now).total_seconds()
    assert message(told(now + timedelta(seconds=wait - 1))) == ""
    first = told(datetime(2026, 4, 2, tzinfo=UTC))
    assert message(first) == "the prices of 'prices' are more than 90 days old (2026-01-01): read them again"
    assert told(datetime(2026, 8, 2, tzinfo=UTC)) == first, "the same status is not written again"
    assert until_old(prices, now) is None


def test_fields_that_a_server_left_out_are_seen_in_its_answer() -> None:
    rules = {"spec": {"suspend": True, "podFailurePolicy": {"rules": [{"action": "Ignore"}]}}}
    assert features.dropped(rules, rules) == []
    both = features.dropped(rules, {"spec": {}})
    assert len(both) == 2 and "spec.suspend" in both[0] and "spec.podFailurePolicy" in both[1]


def rows():
    from tests.unit.controller.rows import ROWS

    return ROWS


def test_equal_rows_are_equal_bytes_whatever_order_a_sum_was_taken_in() -> None:
    plan = factory.plan().to_wire()
    drifted = [replace(r, feasible_probability=r.feasible_probability + 1e-13) for r in rows()]
    assert results.build(plan, results.lines(rows())) == results.build(plan, results.lines(drifted))
    other = [replace(r, feasible_probability=0.25) for r in rows()]
    assert results.digest_of(results.lines(rows())) != results.digest_of(results.lines(other))


def test_rows_are_read_back_and_fit() -> None:
    made = results.build(factory.plan().to_wire(), results.lines(rows()))
    assert [r["candidate"] for r in results.read(made)] == [r.candidate for r in rows()]
    many = [f'{{"candidate":"{i}","reason":"{hash(i)}"}}' for i in range(20_000)]
    assert len(results.build(factory.plan().to_wire(), many)["binaryData"]["results.jsonl.gz"]) < 900_000
