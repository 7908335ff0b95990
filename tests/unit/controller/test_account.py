"""The account of a budget: what it says after anything that can happen to attempts, and that its cap holds meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.adaptation_budget import AdaptationBudgetSpec, AdaptationBudgetStatus
from orrery.controller.account import Facts, Room, balanced, conditions, hold_of, renewal, totalled
from orrery.controller.attempts import timestamp
from orrery.controller.ledger import Entry, Ledger, entries_of
from orrery.controller.records import parse
from tests.unit.controller import factory

pytestmark = pytest.mark.unit
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SPEC = AdaptationBudgetSpec(currency="USD", max_probe_cost=Decimal(10), max_accelerator_seconds=1000)


def entry(job: str = "p-1", open_: bool = True, cost: str = "1", at: datetime = NOW, seconds: str = "0") -> Entry:
    return Entry(job, job.rpartition("-")[0], "plan", "cpu", 100, timestamp(at), open_, Decimal(cost), Decimal(seconds))


def facts(*entries: Entry, exists: bool = True, taking: tuple[str, ...] = (), orphans: tuple[Entry, ...] = ()) -> Facts:
    def paid(month: str) -> tuple[Decimal, Decimal]:
        ended = [e for e in entries if not e.open and e.month == month]
        return sum((e.cost for e in ended), Decimal(0)), sum((e.seconds for e in ended), Decimal(0))

    return Facts(
        {e.job: e for e in entries},
        [e for e in entries if e.open],
        paid,
        lambda _: exists,
        lambda _: 2,
        frozenset(taking),
        {e.job: e for e in orphans},
    )


def account(*held: tuple[str, str], spent: str = "0", at: datetime = NOW) -> AdaptationBudgetStatus:
    holds = [hold_of(job, "plan", Decimal(cost), 100, 1, timestamp(at)) for job, cost in held]
    return totalled(AdaptationBudgetStatus(), "2026-11", Decimal(spent), Decimal(0), holds)


def test_a_new_budget_counts_what_the_month_has_cost_already() -> None:
    last_month = entry("old-1", False, "7", NOW - timedelta(days=30))
    made = balanced(
        AdaptationBudgetStatus(), facts(entry("a-1", False, "2", seconds="20"), entry("b-1"), last_month), NOW
    )
    assert (made.spent, made.reserved) == (2, 1)
    assert (made.spent_accelerator_seconds, made.reserved_accelerator_seconds) == (20, 200)
    assert made.renews_at == "2026-12-01T00:00:00Z" and made.month == "2026-11"


def test_an_ended_attempt_moves_from_reserved_to_spent_once() -> None:
    ended = facts(entry("a-1", False, "0.4", seconds="40"))
    once = balanced(account(("a-1", "1"), spent="3"), ended, NOW)
    assert (once.spent, once.reserved) == (Decimal("3.4"), 0)
    assert balanced(once, ended, NOW) == once


def test_what_was_paid_for_a_deleted_probe_stays_paid() -> None:
    assert balanced(account(spent="3"), facts(exists=False), NOW).spent == 3
    # its attempt was in flight: as if it had run until now
    gone = entry("a-1", at=NOW - timedelta(seconds=50))
    before = account(("a-1", "1"), at=NOW - timedelta(seconds=50))
    after = balanced(before, facts(exists=False, orphans=(gone,)), NOW)
    assert (after.spent, after.reserved) == (Decimal("0.5"), 0)
    # nobody saw it go
    assert balanced(before, facts(exists=False), NOW) == before
    later = balanced(before, facts(exists=False), NOW + timedelta(seconds=3600))
    assert (later.spent, later.reserved) == (1, 0)


def test_a_reservation_without_an_attempt_is_given_back_when_none_can_come() -> None:
    before = account(("a-1", "1"), at=NOW)
    assert balanced(before, facts(), NOW + timedelta(seconds=60)).reserved == 1
    assert balanced(before, facts(taking=("a-1",)), NOW + timedelta(seconds=600)).reserved == 1
    assert balanced(before, facts(), NOW + timedelta(seconds=600)).reserved == 0


def test_the_month_turns_forward_only() -> None:
    before = account(("a-1", "1"), spent="9")
    after = balanced(before, facts(entry("a-1")), NOW + timedelta(days=20))
    assert (after.month, after.spent, after.reserved) == ("2026-12", 0, 0)
    assert balanced(after, facts(), NOW).month == "2026-12"
    assert renewal("2026-12").year == 2027


def test_an_attempt_without_a_reservation_is_added() -> None:
    assert balanced(account(spent="1"), facts(entry("a-1", cost="4")), NOW).reserved == 4


def test_conditions_say_what_is_left() -> None:
    ready, available = conditions(SPEC, account(("a-1", "1"), spent="9"))
    assert (ready.status, available.status, available.reason) == ("True", "False", "NamespaceBudgetExhausted")
    assert "9 of 10 USD are spent and 1 reserved" in available.message
    assert "renews at 2026-12-01T00:00:00Z" in available.message
    assert conditions(SPEC, account(spent="9"))[1].status == "True"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("tesdx"), st.integers(0, 5), st.integers(1, 40)), max_size=60))
def test_reservations_that_fit_never_pass_the_cap_whatever_happens_between(steps: list[tuple[str, int, int]]) -> None:
    """t: take, e: end, s: the account is looked at, d: the probe is deleted, x: the account is lost and drawn up anew."""
    now, told = NOW, AdaptationBudgetStatus()
    world: dict[str, Entry] = {}
    orphans: dict[str, Entry] = {}
    deleted = Decimal(0)
    for kind, n, amount in steps:
        now += timedelta(seconds=5)
        job, cost = f"p{n}-{amount}", Decimal(amount) / 10
        seen = facts(*world.values(), exists=False, orphans=tuple(orphans.values()))
        if kind == "t":
            told = balanced(told, seen, now)
            if (
                job not in world
                and all(h.job != job for h in told.holds)
                and Room.of(SPEC, told).fits(cost, Decimal(100))
            ):
                hold = hold_of(job, "plan", cost, 100, 1, timestamp(now))
                told = totalled(told, "2026-11", told.spent or Decimal(0), Decimal(0), [*told.holds, hold])
                world[job] = entry(job, True, str(cost), now)
                orphans.pop(job, None)
        elif kind == "e" and job in world and world[job].open:
            world[job] = entry(job, False, str(cost / 2), datetime.fromisoformat(world[job].at))
        elif kind == "d" and job in world:
            gone = world.pop(job)
            if gone.open:
                orphans[job] = gone
            else:
                told = balanced(told, seen, now)  # it had been settled
                deleted += gone.cost
        else:
            told = balanced(told if kind != "x" else told.model_copy(update={"holds": []}), seen, now)
        told = told.model_copy(update={"spent_accelerator_seconds": Decimal(0)})
        total = balanced(told, facts(*world.values(), exists=False, orphans=tuple(orphans.values())), now)
        assert (total.spent or 0) + (total.reserved or 0) <= 10
        assert (total.spent or 0) + (total.reserved or 0) >= sum(e.cost for e in world.values()) + deleted


def test_the_ledger_follows_its_probes() -> None:
    body = factory.probe(factory.plan()).to_wire()
    body["metadata"]["namespace"] = "ns"
    attempt = {"number": 1, "jobName": "p-1", "phase": "Reserved", "reserved": "2", "paidBy": "plan"}
    body["status"] = {"attempts": [{**attempt, "reservedAt": "2026-11-05T00:00:00Z"}]}
    ledger, key = Ledger(), ("ns", "p")
    begun = parse(body)
    body["status"]["attempts"][0] |= {"cost": "0.5", "seconds": "30", "phase": "Succeeded"}
    ended = parse(body)
    assert begun is not None and ended is not None
    ledger.learn(key, begun)
    assert [e.cost for e in ledger.open("ns")] == [2] and ledger.paid("ns", "2026-11") == (0, 0)
    ledger.learn(key, ended)
    ledger.learn(key, ended)
    assert ledger.open("ns") == [] and ledger.paid("ns", "2026-11") == (Decimal("0.5"), 30)
    assert ledger.entry("ns", "p-1") == entries_of(ended)[0]
    ledger.learn(key, begun)
    ledger.learn(key, None)
    assert ledger.paid("ns", "2026-11") == (0, 0) and list(ledger.orphans("ns")) == ["p-1"]
    ledger.bury("ns", "p-1")
    assert ledger.orphans("ns") == {}
