"""The budgets of a namespace: reserve with every one of them before an attempt is written down, and keep their accounts.

A reservation is a write to the budget's status that fails when somebody else wrote it first (resourceVersion), so two plans
that are looked at at once cannot both take what is left, in this process or in two. Killed between any two writes nothing is
lost: a reservation without an attempt is found and given back, an attempt without a reservation is found and added.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal

from orrery.api.adaptation_budget import MOST_HOLDS, AdaptationBudget, AdaptationBudgetStatus
from orrery.api.base import API_VERSION
from orrery.api.load import ManifestError, parse_model
from orrery.api.plan import AdaptationPlan
from orrery.api.quantities import format_decimal
from orrery.api.status import PlanStatus
from orrery.controller import account, status
from orrery.controller.account import Facts, Room, balanced, hold_of, renewal, totalled
from orrery.controller.attempts import VOID_SECONDS, Accelerated, timestamp
from orrery.controller.jobs import job_name
from orrery.controller.ledger import Entry
from orrery.controller.metrics import Metrics
from orrery.controller.server import BUDGETS, PLANS, Conflict, NotFound, Object, Server
from orrery.controller.world import Key, World, key_of
from orrery.planning.types import ProbeRequest, Step, is_confirming

#: What a plan's key is with the name of a namespace's budgets in the work queue; no plan can have this name.
ACCOUNTS = "/budgets"
#: Reason of a refusal that the next look settles, and that nobody need be told of.
BUSY = "BudgetBusy"
_TRIES = 8
#: An account is looked at at least this often while its namespace has a budget.
_LOOK_SECONDS = 3600.0


@dataclass(frozen=True)
class Want:
    """What an attempt would set aside."""

    job: str
    cost: Decimal
    deadline_seconds: int
    count: int

    @property
    def seconds(self) -> Decimal:
        """Worst case in accelerator time."""
        return Decimal(self.deadline_seconds * self.count)


@dataclass(frozen=True)
class Refusal:
    """Why a budget does not reserve for an attempt."""

    reason: str
    message: str
    seconds: float  #: until it is worth another try
    final: bool = False  #: a person must act: no month is large enough
    event: str = ""  #: the same without amounts that change


@dataclass
class Budgets:
    """All budgets that the world knows; safe to call from several threads."""

    server: Server
    world: World
    metrics: Metrics
    fence: Callable[[], None]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _locks: dict[str, threading.RLock] = field(default_factory=lambda: defaultdict(threading.RLock), init=False)
    _taking: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set), init=False)
    _waiting: dict[Key, tuple[Decimal, Decimal]] = field(default_factory=dict, init=False)

    # ---- reserving

    def take(self, plan: Key, currency: str, want: Want) -> Refusal | str | None:
        """Reserve with every budget of the plan's namespace.

        Returns when it was reserved, as the attempt is to say it, None where there is no budget, or why not. Call ``settle``
        once the attempt was written down or was not.
        """
        namespace = plan[0]
        if not self._names(namespace):
            self._waiting.pop(plan, None)
            return None
        at = timestamp(self.clock())
        with self._locks[namespace]:
            self._taking[namespace].add(want.job)
            taken: list[Key] = []
            for name in self._names(namespace):
                refused = self._take_from((namespace, name), plan[1], currency, want, at)
                if refused is not None:
                    for other in taken:
                        self._drop_hold(other, want.job, at)
                    self._taking[namespace].discard(want.job)
                    self._waiting[plan] = want.cost, want.seconds
                    return refused
                taken.append((namespace, name))
        self._waiting.pop(plan, None)
        return at

    def settle(self, plan: Key, job: str, at: str, written: bool | None) -> None:
        """The attempt of a reservation was written down, or was not (None: nobody knows, and time will tell)."""
        namespace = plan[0]
        with self._locks[namespace]:
            self._taking[namespace].discard(job)
            if written is False:
                for name in self._names(namespace):
                    self._drop_hold((namespace, name), job, at)

    def _take_from(self, key: Key, plan: str, currency: str, want: Want, at: str) -> Refusal | None:
        for body, budget in self._tries(key):
            now = self._balanced(key[0], budget)
            refused = self._refusal(budget, now, plan, currency, want)
            if refused is not None:
                return refused
            hold = hold_of(want.job, plan, want.cost, want.deadline_seconds, want.count, at)
            after = totalled(
                now,
                now.month or at[:7],
                now.spent or Decimal(0),
                now.spent_accelerator_seconds or Decimal(0),
                [*now.holds, hold],
            )
            if self._write(body, budget, after):
                return None
        return self._busy(f"the AdaptationBudget '{key[1]}' is written by somebody else at this moment")

    def _refusal(
        self, budget: AdaptationBudget, now: AdaptationBudgetStatus, plan: str, currency: str, want: Want
    ) -> Refusal | None:
        spec, name = budget.spec, budget.metadata.name
        if spec.currency != currency:
            said = (
                f"the AdaptationBudget '{name}' is in {spec.currency} and the plan's price list in {currency}: write a "
                f"price list in {spec.currency}, or a budget in {currency}"
            )
            return Refusal("BudgetCurrencyMismatch", said, _LOOK_SECONDS, final=True, event=said)
        if any(hold.job == want.job for hold in now.holds):
            return self._busy(f"the probe of the Job {want.job} is being started or cleared already")
        if len(now.holds) >= MOST_HOLDS:
            return self._busy(f"{MOST_HOLDS} probes of the namespace are in flight already")
        room = Room.of(spec, now)
        if room.fits(want.cost, want.seconds):
            return None
        money = spec.max_probe_cost is not None and want.cost > (room.money or Decimal(0))
        cap = f"{format_decimal(spec.max_probe_cost)} {spec.currency}" if money and spec.max_probe_cost else ""
        cap = cap or f"{spec.max_accelerator_seconds} accelerator-seconds"
        asks = f"{format_decimal(want.cost)}" if money else f"{format_decimal(want.seconds)} accelerator-seconds"
        whole = spec.max_probe_cost if money else spec.max_accelerator_seconds
        if whole is not None and (want.cost if money else want.seconds) > whole:
            said = (
                f"the AdaptationBudget '{name}' allows {cap} a month, and the next probe reserves {asks}: raise "
                f"spec.{'maxProbeCost' if money else 'maxAcceleratorSeconds'}, or lower the plan's "
                "spec.probing.deadlineSeconds"
            )
            return Refusal("NamespaceBudgetTooSmall", said, _LOOK_SECONDS, final=True, event=said)
        left = room.money if money else room.seconds
        renews = renewal(now.month or "")
        until = f"it renews at {timestamp(renews)}, and the plan goes on by itself then or when the budget is raised"
        return Refusal(
            "NamespaceBudgetExhausted",
            f"the next probe reserves {asks}, and {format_decimal(max(left or Decimal(0), Decimal(0)))} are left of the "
            f"{cap} that the AdaptationBudget '{name}' allows in {now.month}: {until}",
            max(1.0, (renews - self.clock()).total_seconds()),
            event=f"the AdaptationBudget '{name}' allows {cap} in {now.month} and does not reserve for the next probe: {until}",
        )

    @staticmethod
    def _busy(message: str) -> Refusal:
        return Refusal(BUSY, message, 1.0)

    def _drop_hold(self, key: Key, job: str, at: str) -> None:
        for body, budget in self._tries(key):
            before = budget.status or AdaptationBudgetStatus()
            kept = [h for h in before.holds if h.job != job or h.at != at]
            if len(kept) == len(before.holds):
                return
            zero = Decimal(0)
            after = totalled(
                before, before.month or at[:7], before.spent or zero, before.spent_accelerator_seconds or zero, kept
            )
            if self._write(body, budget, after):
                return

    # ---- the account

    def sync(self, namespace: str) -> float | None:
        """Bring the accounts of a namespace up to date; seconds until they want to be looked at, None without a budget."""
        waits = []
        with self._locks[namespace]:
            for name in self._names(namespace):
                for body, budget in self._tries((namespace, name)):
                    after = self._balanced(namespace, budget)
                    if self._write(body, budget, after):
                        self.metrics.account((namespace, name), budget.spec, after)
                        left = (renewal(after.month or "") - self.clock()).total_seconds()
                        waits.append(min(_LOOK_SECONDS, max(1.0, left)))
                        if after.holds:
                            waits.append(VOID_SECONDS)
                        break
            self.metrics.forget_budgets(namespace, self._names(namespace))
        return min(waits) if waits else None

    def fitting(self, namespace: str) -> list[Key]:
        """Plans that waited for a budget and would find room now; as many as fit together."""
        rooms = []
        for name in self._names(namespace):
            try:
                budget = self._read((namespace, name))
            except ManifestError:
                return []
            if budget is not None:
                rooms.append(Room.of(budget.spec, budget.status or AdaptationBudgetStatus()))
        found, money, seconds = [], Decimal(0), Decimal(0)
        for plan, (cost, time) in list(self._waiting.items()):
            if plan[0] == namespace and all(room.fits(money + cost, seconds + time) for room in rooms):
                money, seconds = money + cost, seconds + time
                found.append(plan)
        return found

    def forget(self, plan: Key) -> None:
        """The plan is gone, or wants nothing."""
        self._waiting.pop(plan, None)

    def _balanced(self, namespace: str, budget: AdaptationBudget) -> AdaptationBudgetStatus:
        before = budget.status or AdaptationBudgetStatus()
        world = self.world
        facts = Facts(
            entries=world.attempts_of(namespace, [h.job for h in before.holds]),
            open=world.open_attempts(namespace),
            paid=lambda month: world.paid(namespace, month),
            probe_exists=lambda probe: world.probe((namespace, probe)) is not None,
            count=lambda entry: self._count(namespace, entry),
            taking=frozenset(self._taking[namespace]),
            orphans=world.orphans(namespace),
        )
        after = balanced(before, facts, self.clock())
        for job in facts.orphans:
            if not any(h.job == job for h in after.holds) and not any(h.job == job for h in before.holds):
                world.bury(namespace, job)
        return after

    def _count(self, namespace: str, entry: Entry) -> int:
        plan = self.world.get(PLANS, (namespace, entry.plan)) if entry.plan else None
        return Accelerated.of(plan, entry.accelerator).count if plan else 1

    # ---- reading and writing

    def _names(self, namespace: str) -> list[str]:
        return self.world.budgets_of(namespace)

    def _read(self, key: Key) -> AdaptationBudget | None:
        body = self.world.get(BUDGETS, key)
        if body is None:
            return None
        return parse_model(AdaptationBudget, {**body, "apiVersion": API_VERSION, "kind": "AdaptationBudget"})

    def _tries(self, key: Key) -> Iterator[tuple[Object, AdaptationBudget]]:
        """The budget as it is known, and again as it is read after each conflict; nothing when it is gone."""
        for _ in range(_TRIES):
            body, budget = self.world.get(BUDGETS, key), self._read(key)
            if body is None or budget is None:
                return
            yield body, budget

    def _write(self, body: Object, budget: AdaptationBudget, after: AdaptationBudgetStatus) -> bool:
        """Write the account unless it says so already; False after a conflict, having read what is there."""
        meta, before = body["metadata"], body.get("status") or {}
        generation = int(meta.get("generation", 1))
        said = account.conditions(budget.spec, after)
        told = status.conditions(said, before.get("conditions") or [], generation, timestamp(self.clock()))
        wire = after.model_copy(update={"conditions": told, "observed_generation": generation}).to_wire()
        if wire == before:
            return True
        self.fence()
        full = {**body, "apiVersion": API_VERSION, "kind": "AdaptationBudget", "status": wire}
        try:
            self.world.put(BUDGETS, self.server.replace(BUDGETS, full, "status"))
        except Conflict:
            self.world.put(BUDGETS, self.server.get(BUDGETS, *key_of(body)))
            return False
        except NotFound:
            self.world.drop(BUDGETS, body)
            return False
        return True


@dataclass(frozen=True)
class Admitted:
    """What of a step the budgets reserve for, and why not for the rest."""

    step: Step
    at: Mapping[str, str]  #: by Job, when its worst case was set aside; nothing without a budget
    refusal: Refusal | None


def admit(budgets: Budgets, plan: AdaptationPlan, currency: str, step: Step, attempts: Mapping[str, int]) -> Admitted:
    """Reserve for everything that a step starts, best first, until a budget refuses. ``attempts``: how many each probe had."""
    key = plan.metadata.namespace, plan.metadata.name
    counts = {a.name: a.count for a in plan.spec.accelerators}
    kept: list[ProbeRequest] = []
    at: dict[str, str] = {}
    refusal = None
    for request in step.start:
        job = job_name(request.name, attempts.get(request.name, 0) + 1)
        want = Want(job, request.reservation, request.spec.deadline_seconds, counts[request.spec.accelerator])
        answer = budgets.take(key, currency, want)
        if isinstance(answer, Refusal):
            refusal = answer
            break
        if answer is not None:
            at[job] = answer
        kept.append(request)
    if refusal is None:
        return Admitted(step, at, None)
    left_out = step.start[len(kept) :]
    return Admitted(
        replace(step, start=tuple(kept), status=_waiting(step.status, left_out, refusal, bool(kept))), at, refusal
    )


def _waiting(told: PlanStatus, left_out: Sequence[ProbeRequest], refusal: Refusal, starting: bool) -> PlanStatus:
    """The status without the probes that wait, and why they do."""
    update: dict[str, object] = {}
    assert told.progress is not None and told.spend is not None
    waits = not starting and not told.progress.queued and not told.progress.running
    new = sum(request.attempt == 1 for request in left_out)
    update["progress"] = told.progress.model_copy(update={"planned": max(0, told.progress.planned - new)})
    money = sum((request.reservation for request in left_out if not is_confirming(request.spec)), Decimal(0))
    update["spend"] = told.spend.model_copy(update={"reserved": max(Decimal(0), told.spend.reserved - money)})
    if told.confirmation is not None and any(is_confirming(request.spec) for request in left_out):
        update["confirmation"] = told.confirmation.model_copy(update={"reserved": Decimal(0)})
    if refusal.reason != BUSY:
        said = {"reason": refusal.reason, "message": refusal.message[:4096]}
        stalled = waits and refusal.final
        truth = {"BudgetAvailable": "False"}
        if waits:
            truth |= {"Ready": "False", "Reconciling": str(not stalled), "Stalled": str(stalled)}
        update["conditions"] = [
            c.model_copy(update={**said, "status": truth[c.type]}) if c.type in truth else c for c in told.conditions
        ]
        if stalled:
            update["phase"] = "Stalled"
    return told.model_copy(update=update)


@contextmanager
def settled(budgets: Budgets, plan: AdaptationPlan, at: Mapping[str, str]) -> Iterator[None]:
    """After the block, give back what was reserved for attempts that were not written down; nobody knows after an error."""
    key = plan.metadata.namespace, plan.metadata.name
    try:
        yield
    except BaseException:
        for job, when in at.items():
            budgets.settle(key, job, when, None)
        raise
    known = budgets.world.attempts_of(key[0], list(at))
    for job, when in at.items():
        budgets.settle(key, job, when, job in known and known[job].plan == key[1])
