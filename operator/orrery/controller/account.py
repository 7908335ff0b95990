"""The account of an AdaptationBudget: pure arithmetic from what it said and what the probes say to what it says now.

It is a ledger, not a sum over probes: what was paid for a probe that somebody deletes stays paid. A reservation enters it
before its attempt is written down and leaves it, in the same write in which its cost is added, once the attempt has ended;
so ``spent + reserved`` is never below what the probes of the month cost, and only a new reservation can raise it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal

from orrery.api.adaptation_budget import AdaptationBudgetSpec, AdaptationBudgetStatus, Hold
from orrery.api.quantities import format_decimal
from orrery.api.status import Condition
from orrery.controller.attempts import VOID_SECONDS, parse_timestamp, timestamp
from orrery.controller.ledger import Entry

_ZERO = Decimal(0)


@dataclass(frozen=True)
class Facts:
    """What the probes of the namespace say."""

    entries: Mapping[str, Entry]  #: by Job, of the account's holds
    open: Sequence[Entry]  #: every attempt in flight
    paid: Callable[[str], tuple[Decimal, Decimal]]  #: of a month: money and accelerator-seconds
    probe_exists: Callable[[str], bool]
    count: Callable[[Entry], int]  #: accelerators of an attempt
    taking: frozenset[str] = frozenset()  #: Jobs that this very process reserves at this moment
    orphans: Mapping[str, Entry] = field(default_factory=dict)  #: in flight when their probe was deleted


def month_of(now: datetime) -> str:
    """The account's month, UTC.

    >>> month_of(datetime(2026, 11, 30, 23, 59, tzinfo=UTC))
    '2026-11'
    """
    return now.astimezone(UTC).strftime("%Y-%m")


def renewal(month: str) -> datetime:
    """When the month after this one begins.

    >>> renewal("2026-12").isoformat()
    '2027-01-01T00:00:00+00:00'
    """
    year, number = int(month[:4]), int(month[5:])
    return datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)


def balanced(before: AdaptationBudgetStatus, facts: Facts, now: datetime) -> AdaptationBudgetStatus:
    """The account as it stands now, without conditions.

    A month that has turned begins a new one; a clock that is behind does not turn it back. Without an account (the budget is
    new, or somebody has cut its status) it is drawn up from the probes that exist.
    """
    month = max(month_of(now), before.month or "")
    same = before.month == month
    spent, seconds = (before.spent or _ZERO, before.spent_accelerator_seconds or _ZERO) if same else (_ZERO, _ZERO)
    holds: dict[str, Hold] = {}
    for hold in before.holds if same else ():
        entry, orphan = facts.entries.get(hold.job), facts.orphans.get(hold.job)
        deleted = orphan is not None and orphan.at == hold.at
        if entry is not None and entry.at == hold.at and not entry.open:
            spent, seconds = spent + entry.cost, seconds + entry.seconds
        elif not deleted and (entry is not None or hold.job in facts.taking or _age(hold, now) < VOID_SECONDS):
            holds[hold.job] = hold
        elif deleted or not facts.probe_exists(hold.job.rpartition("-")[0]):
            # its probe was deleted: as if it had run until now
            share = min(Decimal(1), Decimal(repr(_age(hold, now))) / hold.deadline_seconds)
            spent += min(hold.cost, (hold.cost * share).quantize(Decimal("0.000001"), rounding=ROUND_CEILING))
            seconds += (hold.accelerator_seconds * share).quantize(Decimal("0.001"), rounding=ROUND_CEILING)
    paid = facts.paid(month)
    spent, seconds = max(spent, paid[0]), max(seconds, paid[1])
    for entry in facts.open:
        if entry.month == month and entry.job not in holds:
            holds[entry.job] = hold_of(
                entry.job, entry.plan or "unknown", entry.cost, entry.deadline_seconds, facts.count(entry), entry.at
            )
    return totalled(before, month, spent, seconds, holds.values())


def hold_of(job: str, plan: str, cost: Decimal, deadline_seconds: int, count: int, at: str) -> Hold:
    """The reservation of an attempt."""
    return Hold(
        job=job,
        plan=plan,
        cost=cost,
        accelerator_seconds=Decimal(deadline_seconds * count),
        deadline_seconds=deadline_seconds,
        at=at,
    )


def totalled(
    before: AdaptationBudgetStatus, month: str, spent: Decimal, seconds: Decimal, holds: Iterable[Hold]
) -> AdaptationBudgetStatus:
    """The account with these holds and its sums."""
    kept = sorted(holds, key=lambda h: h.job)
    return before.model_copy(
        update={
            "month": month,
            "renews_at": timestamp(renewal(month)),
            "spent": spent,
            "reserved": sum((h.cost for h in kept), _ZERO),
            "spent_accelerator_seconds": seconds,
            "reserved_accelerator_seconds": sum((h.accelerator_seconds for h in kept), _ZERO),
            "holds": kept,
        }
    )


@dataclass(frozen=True)
class Room:
    """What is left of each cap; None where there is none."""

    money: Decimal | None
    seconds: Decimal | None

    @classmethod
    def of(cls, spec: AdaptationBudgetSpec, status: AdaptationBudgetStatus) -> Room:
        """After everything that is spent and reserved; below zero when the cap was lowered."""
        money = spec.max_probe_cost
        seconds = spec.max_accelerator_seconds
        return cls(
            None if money is None else money - (status.spent or _ZERO) - (status.reserved or _ZERO),
            None
            if seconds is None
            else Decimal(seconds)
            - (status.spent_accelerator_seconds or _ZERO)
            - (status.reserved_accelerator_seconds or _ZERO),
        )

    def fits(self, cost: Decimal, seconds: Decimal) -> bool:
        """Whether a worst case still fits."""
        return (self.money is None or cost <= self.money) and (self.seconds is None or seconds <= self.seconds)


def conditions(spec: AdaptationBudgetSpec, status: AdaptationBudgetStatus) -> list[Condition]:
    """Ready: the account is kept. Available: something is left of every cap."""
    room = Room.of(spec, status)
    left = all(value is None or value > 0 for value in (room.money, room.seconds))
    said = []
    if spec.max_probe_cost is not None:
        said.append(
            f"{format_decimal(status.spent or _ZERO)} of {format_decimal(spec.max_probe_cost)} {spec.currency} are spent and "
            f"{format_decimal(status.reserved or _ZERO)} reserved"
        )
    if spec.max_accelerator_seconds is not None:
        said.append(
            f"{format_decimal(status.spent_accelerator_seconds or _ZERO)} of {spec.max_accelerator_seconds} "
            f"accelerator-seconds are used and {format_decimal(status.reserved_accelerator_seconds or _ZERO)} reserved"
        )
    message = f"{'; '.join(said)} in {status.month}; it renews at {status.renews_at}"
    return [
        Condition(type="Ready", status="True", reason="AccountKept", message=message),
        Condition(
            type="Available",
            status="True" if left else "False",
            reason="WithinBudget" if left else "NamespaceBudgetExhausted",
            message=message,
        ),
    ]


def _age(hold: Hold, now: datetime) -> float:
    at = parse_timestamp(hold.at)
    return (now - at).total_seconds() if at is not None else float(hold.deadline_seconds)
