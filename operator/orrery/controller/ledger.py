"""What the probes of each namespace cost, by the month in which each attempt was reserved; kept as probes come and go.

Sums are brought up to date by what a probe's new version changes, so that asking is cheap however many probes there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from sys import intern

from orrery.api.plan import PlanSpec
from orrery.controller.records import Probe
from orrery.planning.types import is_confirming

Key = tuple[str, str]
_ZERO = Decimal(0)
_MOST_ORPHANS = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One attempt as an account sees it."""

    job: str
    probe: str
    plan: str | None
    accelerator: str
    deadline_seconds: int
    at: str  #: when it was reserved
    open: bool
    cost: Decimal  #: what it cost, or its worst case while it is open
    seconds: Decimal  #: accelerator-seconds used; 0 while it is open
    confirming: bool = False  #: paid from the budget of spec.confirm

    @property
    def month(self) -> str:
        """Such as ``2026-11``."""
        return self.at[:7]


def entries_of(probe: Probe) -> tuple[Entry, ...]:
    """The attempts of a probe that were reserved at a known time."""
    return tuple(
        Entry(
            # the same few words in thousands of entries
            intern(attempt.job_name),
            intern(probe.name),
            intern(attempt.paid_by) if attempt.paid_by else None,
            intern(probe.spec.accelerator),
            probe.spec.deadline_seconds,
            intern(attempt.reserved_at),
            attempt.cost is None,
            attempt.reserved if attempt.cost is None else attempt.cost,
            attempt.seconds or _ZERO,
            is_confirming(probe.spec),
        )
        for attempt in probe.status.attempts
        if attempt.reserved_at
    )


class Ledger:
    """Entries by probe, sums by namespace and month. Not safe by itself: the world's lock is held around it."""

    def __init__(self) -> None:
        self._probes: dict[Key, tuple[Entry, ...]] = {}
        self._jobs: dict[str, dict[str, Entry]] = defaultdict(dict)
        self._open: dict[str, dict[str, Entry]] = defaultdict(dict)
        self._paid: dict[Key, tuple[Decimal, Decimal]] = {}  # (namespace, month) -> money, accelerator-seconds
        self._orphans: dict[str, dict[str, Entry]] = defaultdict(dict)
        self._lost: dict[Key, dict[str, Entry]] = defaultdict(dict)  # (namespace, plan) -> the same, for who pays

    def learn(self, key: Key, probe: Probe | None) -> None:
        """A probe's newest version; None when it is gone."""
        namespace = key[0]
        old = self._probes.pop(key, ())
        new = entries_of(probe) if probe is not None else ()
        if new:
            self._probes[key] = new
        if new == old:
            return
        jobs, open_ = self._jobs[namespace], self._open[namespace]
        for entry in old:
            if probe is None and entry.open:
                self._orphans[namespace][entry.job] = entry
                while len(self._orphans[namespace]) > _MOST_ORPHANS:  # without a budget nobody accounts for them
                    self._orphans[namespace].pop(next(iter(self._orphans[namespace])))
                if entry.plan is not None:
                    self._lost[namespace, entry.plan][entry.job] = entry
            jobs.pop(entry.job, None)
            open_.pop(entry.job, None)
            self._pay(namespace, entry, -1)
        for entry in new:
            jobs[entry.job] = entry
            if entry.open:
                open_[entry.job] = entry
            self._pay(namespace, entry, 1)

    def _pay(self, namespace: str, entry: Entry, sign: int) -> None:
        if not entry.open:
            money, seconds = self._paid.get((namespace, entry.month), (_ZERO, _ZERO))
            self._paid[namespace, entry.month] = money + sign * entry.cost, seconds + sign * entry.seconds

    def entry(self, namespace: str, job: str) -> Entry | None:
        """The attempt of this Job, if a probe knows it."""
        return self._jobs[namespace].get(job)

    def open(self, namespace: str) -> Sequence[Entry]:
        """Attempts in flight."""
        return list(self._open[namespace].values())

    def paid(self, namespace: str, month: str) -> tuple[Decimal, Decimal]:
        """Money and accelerator-seconds of the attempts of a month that have ended, as far as their probes still exist."""
        return self._paid.get((namespace, month), (_ZERO, _ZERO))

    def orphans(self, namespace: str) -> dict[str, Entry]:
        """Attempts that were in flight when their probe was deleted."""
        return dict(self._orphans[namespace])

    def lost(self, plan: Key) -> Sequence[Entry]:
        """Attempts that a plan pays for, and that were in flight when their probe was deleted."""
        return list(self._lost.get(plan, {}).values())

    def settle(self, plan: Key, entries: Sequence[Entry]) -> None:
        """A plan has accounted for what it lost, or is gone."""
        known = self._lost.get(plan, {})
        for entry in entries:
            known.pop(entry.job, None)
        if not known:
            self._lost.pop(plan, None)

    def bury(self, namespace: str, job: str) -> None:
        """An orphan has been accounted for."""
        self._orphans[namespace].pop(job, None)


def lost_with(
    entries: Iterable[Entry], plan: PlanSpec, now: datetime, *, confirming: bool = False
) -> tuple[Decimal, float]:
    """Money and accelerator-seconds of attempts whose probe was deleted while they ran: charged as if until now.

    Those that look for an answer, or those that confirm it, since each have a budget of their own.
    """
    counts = {a.name: a.count for a in plan.accelerators}
    money, seconds = Decimal(0), 0.0
    for entry in entries:
        if entry.confirming is not confirming:
            continue
        begun = datetime.fromisoformat(entry.at)
        wall = min(max((now - begun).total_seconds(), 0.0), float(entry.deadline_seconds))
        share = Decimal(repr(wall)) / entry.deadline_seconds
        money += (entry.cost * share).quantize(Decimal("0.000001"), rounding=ROUND_CEILING)
        seconds += wall * counts.get(entry.accelerator, 1)
    return money, round(seconds, 3)
