"""Budget arithmetic in exact decimals: what is spent, what is set aside, what is left to start with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from math import ceil

from orrery.api.plan import PlanSpec
from orrery.planning.evidence import IN_FLIGHT, obsolete
from orrery.planning.types import ProbeRecord

_MICRO = Decimal("0.000001")

#: Least deadline: a process must start, import its libraries and load a model even when the work is nothing.
LEAST_DEADLINE = 120
#: Worst case as a multiple of the upper quantile of the expected seconds.
DEADLINE_FACTOR = 4.0


@dataclass
class Purse:
    """What the plan may still start; every taking is checked, so the budget cannot be passed."""

    limit: Decimal
    spent: Decimal
    reserved: Decimal
    seconds_limit: Decimal | None
    seconds_spent: Decimal
    seconds_reserved: Decimal
    slots: int
    probes_left: int

    @staticmethod
    def of(spec: PlanSpec, records: Sequence[ProbeRecord], *, confirming: bool = False) -> Purse:
        """The purse after everything the records say was paid or set aside, for looking for an answer or for confirming it."""
        own = sorted((r for r in records if not r.reused and r.confirming is confirming), key=lambda r: r.name)
        flying = [r for r in own if r.state in IN_FLIGHT]
        limit = spec.budget.max_accelerator_seconds
        counts = {a.name: a.count for a in spec.accelerators}
        return Purse(
            limit=spec.budget.max_probe_cost,
            spent=sum((r.cost for r in own), Decimal(0)),
            reserved=sum((r.reserved for r in flying), Decimal(0)),
            seconds_limit=None if limit is None else Decimal(limit),
            seconds_spent=sum((Decimal(repr(r.seconds)) for r in own), Decimal(0)),
            seconds_reserved=Decimal(sum(r.spec.deadline_seconds * counts.get(r.spec.accelerator, 1) for r in flying)),
            # one that is about to be ended, since the plan asks for something else now, keeps nothing waiting
            slots=spec.probing.parallelism - len(flying) + len(obsolete(spec, flying)),
            probes_left=spec.probing.max_probes - len(own),
        )

    @property
    def left(self) -> Decimal:
        """Money that is neither spent nor set aside."""
        return self.limit - self.spent - self.reserved

    @property
    def seconds_left(self) -> Decimal | None:
        """Accelerator-seconds likewise; None without a limit."""
        return None if self.seconds_limit is None else self.seconds_limit - self.seconds_spent - self.seconds_reserved

    def affords(self, reservation: Decimal, seconds: int) -> bool:
        """Whether the worst case still fits."""
        left = self.seconds_left
        return reservation <= self.left and (left is None or seconds <= left)

    def longest(self, price_per_second: Decimal, count: int) -> int:
        """Longest deadline, in seconds, that the purse can reserve for a probe on ``count`` accelerators."""
        # reservations are rounded up to a millionth, so less than that buys nothing
        whole = self.left.quantize(_MICRO, rounding=ROUND_DOWN)
        money = whole / price_per_second if price_per_second > 0 else Decimal(10**9)
        left = self.seconds_left
        seconds = money if left is None else min(money, left / count)
        return max(0, int(min(seconds, Decimal(10**9)).to_integral_value(rounding=ROUND_DOWN)))

    def take(self, reservation: Decimal, seconds: int, *, new: bool) -> None:
        """Sets a worst case aside; raises ValueError rather than pass a limit."""
        if not self.affords(reservation, seconds) or self.slots < 1 or (new and self.probes_left < 1):
            raise ValueError(f"a reservation of {reservation} does not fit the {self.left} that are left")
        self.reserved += reservation
        self.seconds_reserved += seconds
        self.slots -= 1
        self.probes_left -= int(new)


def reservation(deadline_seconds: int, price_per_second: Decimal) -> Decimal:
    """Worst case of an attempt, rounded up to a millionth."""
    return (deadline_seconds * price_per_second).quantize(_MICRO, rounding=ROUND_UP)


def expected(seconds: float, price_per_second: Decimal) -> Decimal:
    """Expected cost, rounded up to a millionth."""
    return (Decimal(repr(float(seconds))) * price_per_second).quantize(_MICRO, rounding=ROUND_UP)


def deadline(upper_seconds: float, limit: int) -> int:
    """Generous deadline for work whose upper quantile is ``upper_seconds``, within the plan's limit.

    >>> deadline(100.0, 1800), deadline(1.0, 1800), deadline(1e6, 1800)
    (400, 120, 1800)
    """
    return min(limit, max(LEAST_DEADLINE, ceil(min(upper_seconds, 1e9) * DEADLINE_FACTOR)))


def tightest(expected_seconds: float, limit: int) -> int:
    """Shortest deadline that is worth a try when the budget does not reserve for more: twice the expected time.

    >>> tightest(100.0, 1800), tightest(1.0, 1800)
    (200, 120)
    """
    return min(limit, max(LEAST_DEADLINE, ceil(min(expected_seconds, 1e9) * 2)))
