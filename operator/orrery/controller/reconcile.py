"""One function for everything that can happen to a plan: read the world, ask the core, apply the difference.

It may be killed between any two lines; what it remembers only spares work. Everything it needs is read anew each time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orrery.api.load import ManifestError
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.probe import Attempt
from orrery.api.status import PlanStatus
from orrery.controller import attempts as ended
from orrery.controller import features, status
from orrery.controller.budgets import ACCOUNTS, Budgets, admit, settled
from orrery.controller.jobs import refuse_local_sources
from orrery.controller.ledger import lost_with
from orrery.controller.observing import EDITED, MENDED, OUT_OF_TIME, SUSPENDED, spans_seconds
from orrery.controller.parsed import Parsed
from orrery.controller.probe_store import Unusable
from orrery.controller.probing import Probing
from orrery.controller.publishing import Publisher
from orrery.controller.records import (
    Probe,
    deleted,
    deleted_confirmations,
    environments,
    model_key,
    records,
    task_key,
)
from orrery.controller.results import config_map_name
from orrery.controller.server import JOBS, PLANS, PRICE_LISTS, Object, Refused
from orrery.controller.until import until_expired, until_old
from orrery.controller.world import Key, key_of, owners_of
from orrery.costs.prices import age_note
from orrery.planning.advance import advance
from orrery.planning.status import progress
from orrery.planning.types import Facts, ProbeRecord, Step

log = logging.getLogger(__name__)

#: A plan that moves is looked at this often even if nothing wakes it: the level, not the edge, is what counts.
RESYNC_SECONDS = 300.0
#: One that rests is looked at this often: its results are nobody's to watch.
REST_SECONDS = 600.0
#: Of plans that move now, and of price lists, so many are kept parsed.
_PLANS, _PRICE_LISTS = 32, 8
#: Planning takes at most a fiftieth of a thread for one plan while its probes run: news that comes sooner is only counted.
_SHARE, _LONGEST_REST = 50.0, 5.0


@dataclass(frozen=True)
class _Decided:
    """What the last decision on a plan was made of: the same again would say the same, save how far its probes are."""

    of: tuple[Any, ...]
    told: PlanStatus | None  #: None when it is finished: a thousand answers need not be kept
    rest: float  #: until then, ends of probes are only counted while others run
    until: float  #: until then it is not decided anew without news


@dataclass
class Reconciler:
    """The level-based heart of the operator; safe to call from several threads, for one plan at a time each."""

    probing: Probing
    minor: int | None = None  #: the server's version, 1.minor, when it is known
    _decided: dict[Key, _Decided] = field(default_factory=dict, init=False)
    _keys: dict[Key, tuple[tuple[str, int], str, frozenset[str]]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        p = self.probing
        self._plan, self._price_list = Parsed(AdaptationPlan, _PLANS), Parsed(PriceList, _PRICE_LISTS)
        self.publisher = Publisher(p)
        self.budgets = Budgets(p.server, p.world, p.metrics, p.fence, p.clock)
        self.server, self.world, self.metrics, self.recorder, self.clock = (
            p.server,
            p.world,
            p.metrics,
            p.recorder,
            p.clock,
        )

    def __call__(self, key: Key) -> float | None:
        """Bring one plan forward; seconds after which it wants to be looked at again, None when only events matter."""
        if key[1] == ACCOUNTS:
            return self.budgets.sync(key[0])
        body = self.world.get(PLANS, key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self.metrics.forget(key)
            self.budgets.forget(key)
            self.publisher.forget(key)
            self._decided.pop(key, None)
            self._keys.pop(key, None)
            self.world.settle(key, self.world.lost(key))
            return None
        if until_expired(body, self.clock()) == 0.0:
            self.probing.fence()
            self.server.delete(PLANS, body)
            return None
        try:
            return self._turn(key, body)
        except ManifestError as error:
            self._stall(body, "InvalidPlan", str(error))
        except Unusable as error:
            self._stall(body, error.reason, str(error))
        except Refused as error:
            self._stall(
                body,
                "WriteRefused",
                f"the API server refused a write: {error}; mend the plan, the namespace's quota or the operator's role",
            )
            raise
        return RESYNC_SECONDS

    def _stall(self, body: Object, reason: str, sentence: str) -> None:
        self._decided.pop(key_of(body), None)
        self.publisher.stall(body, reason, sentence)

    def _turn(self, key: Key, body: Object) -> float | None:
        # first what concerns money, which also goes on when the plan cannot be read any more
        mine = self.world.probes_for(*key, None)
        try:
            plan = self._plan(body)
        except ManifestError:
            self.probing.observe(body, mine, self._early(body, None, mine))
            raise
        early = self._early(body, plan, mine)
        look = self.probing.observe(body, mine, early)
        for model in plan.spec.models:
            try:
                refuse_local_sources(model, plan.spec.task)
            except ValueError as problem:
                raise Unusable("InvalidPlan", str(problem)) from None
        priced = self.world.version(PRICE_LISTS, ("", plan.spec.pricing.price_list_ref.name))
        prices = self._prices(plan)
        ending = self.probing.interrupt(body, self._probes(plan), early)
        self.probing.resume(plan, body, [p for p in self._probes(plan) if p.name not in early])
        self.probing.sweep(body, self._probes(plan))
        shared = self.probing.observe(body, [p for p in self._probes(plan) if plan.metadata.name not in p.payers])
        finished, pending = self._answer(plan, body, prices, priced)
        waits = [
            w
            for w in (
                look,
                shared,
                ending,
                pending,
                self._until_deadline(plan, finished),
                REST_SECONDS if finished else RESYNC_SECONDS,
                until_expired(self.world.get(PLANS, key) or body, self.clock()),
                until_old(prices, self.clock()),
            )
            if w is not None
        ]
        return min(waits)

    def _answer(
        self, plan: AdaptationPlan, body: Object, prices: PriceList, priced: str | None
    ) -> tuple[bool, float | None]:
        """Decide if there is something to decide, else tell how far the probes are; as ``_decide`` returns it."""
        key, now = key_of(body), time.monotonic()
        of, last = self._inputs(plan, body, priced), self._decided.get(key)
        rests = last is not None and last.told is None and last.of == of
        if last is None or (now >= last.until and not (rests and self.publisher.stands(body))):
            return self._decide(plan, body, prices, priced)
        if last.of == of:
            if last.told is not None:
                self._count(plan, body, last, last.told)
            return last.told is None, None
        running = any(p.is_open and plan.metadata.name in p.payers for p in self._probes(plan))
        if running and last.told is not None and now < last.rest and last.of[:-1] == of[:-1]:
            self._count(plan, body, last, last.told)
            return False, last.rest - now
        return self._decide(plan, body, prices, priced)

    def _count(self, plan: AdaptationPlan, body: Object, last: _Decided, decided: PlanStatus) -> None:
        """Tell how far the probes are and what they cost, beside what was decided last."""
        lost = self.world.lost(key_of(body))
        _, known = self._question(plan, body)
        told = status.underway(decided, plan.spec, known)
        self.publisher.status(plan, body, told)
        self.world.settle(key_of(body), lost)
        key = key_of(body)
        # the plan's own version is the one that was written just now
        of = (last.of[0], body["metadata"].get("resourceVersion"), *last.of[2:])
        self._decided[key] = replace(last, of=of)

    def _decide(
        self, plan: AdaptationPlan, body: Object, prices: PriceList, priced: str | None
    ) -> tuple[bool, float | None]:
        """Ask, start, share and tell; whether the plan is finished, and when to come back for what was put off."""
        key, begun = key_of(body), time.thread_time()
        self.metrics.prices(prices)
        self._decided.pop(key, None)
        lost = self.world.lost(key)
        attempts = {p.name: p.tries for p in self._probes(plan)}
        of = self._inputs(plan, body, priced)
        step = self._advance(plan, body, prices)
        admitted = admit(self.budgets, plan, prices.spec.currency, step, attempts)
        step, refusal = admitted.step, admitted.refusal
        if step.start:
            # what was started is told at once, with the money that is set aside for it
            asked = {request.name for request in step.start}
            with settled(self.budgets, plan, admitted.at):
                as_asked = self.probing.start_all(plan, body, prices, step.start, attempts, admitted.at)
            before, of = of, self._inputs(plan, body, priced)
            others = [[probe for probe in inputs[-1] if probe[0] not in asked] for inputs in (before, of)]
            if as_asked and others[0] == others[1]:
                step = replace(step, start=(), status=self._after_start(plan, body, step.status))
            else:
                of = self._inputs(plan, body, priced)
                step = self._advance(plan, body, prices)
        took = time.thread_time() - begun
        changed = self.probing.share(plan, body, self._probes(plan))
        pending = self.publisher.answer(plan, body, step)
        self.world.settle(key, lost)
        if refusal is not None:
            if refusal.event:
                self.recorder.stalled(body, refusal.reason, refusal.event)
            return False, min(refusal.seconds, RESYNC_SECONDS)
        if step.start or changed:
            return step.finished, 0.2
        now = time.monotonic()
        self._decided[key] = _Decided(
            (of[0], body["metadata"].get("resourceVersion"), *of[2:]),  # the plan's own version is the one just written
            None if step.finished else step.status,
            now + min(_SHARE * took, _LONGEST_REST),
            now + (RESYNC_SECONDS if pending is None else pending),
        )
        return step.finished, pending

    def _advance(self, plan: AdaptationPlan, body: Object, prices: PriceList) -> Step:
        asked, known = self._question(plan, body)
        left = self._seconds_left(plan)
        step = advance(asked, known, prices, Facts(out_of_time=left is not None and left <= 0))
        told = status.with_deleted(status.waiting(step.status, known), known)
        if step.rows:
            told = told.model_copy(update={"results_ref": config_map_name(plan.metadata.name)})
        notes = [age_note(prices, self.clock().date())]
        if self.minor is not None:
            notes.append(features.of_version(self.minor, bool(plan.spec.scheduling.queue_name)))
        told = status.remark(told, "; ".join(note for note in notes if note))
        if told.inputs is not None:
            image = _images(self._probes(plan)) or told.inputs.image or self.probing.jobs.image
            told = told.model_copy(update={"inputs": told.inputs.model_copy(update={"image": image[:253]})})
        return replace(step, status=told)

    def _after_start(self, plan: AdaptationPlan, body: Object, told: PlanStatus) -> PlanStatus:
        """The status of a step, all of whose probes were started: it counts their money already, and now where they stand.

        Asking again would only say this: with them in flight, nothing more is worth starting.
        """
        assert told.progress is not None
        _, known = self._question(plan, body)
        remaining = told.progress.estimated_remaining_seconds
        return told.model_copy(update={"progress": progress(known, 0, remaining)})

    # ---- reading

    def _inputs(self, plan: AdaptationPlan, body: Object, priced: str | None) -> tuple[Any, ...]:
        """Versions of everything that a decision rests on; last, of each probe, its attempts that have begun and ended."""
        meta = body["metadata"]
        left = self._seconds_left(plan)
        return (
            meta.get("uid"),
            meta.get("resourceVersion"),
            priced,
            left is not None and left <= 0,
            tuple(
                (
                    p.name,
                    p.body["metadata"].get("uid"),
                    [(a.environment, a.reason, a.cost) for a in p.status.attempts if a.cost is not None],
                    p.is_open,
                )
                for p in self._probes(plan)
            ),
        )

    def _prices(self, plan: AdaptationPlan) -> PriceList:
        name = plan.spec.pricing.price_list_ref.name
        found = self.world.get(PRICE_LISTS, ("", name))
        if found is None:
            self.metrics.forget_prices(name)
            others = ", ".join(sorted(n for _, n in self.world.keys(PRICE_LISTS))[:20])
            mend = f"apply it, or name one of {others}" if others else "apply it"
            sentence = f"spec.pricing.priceListRef.name is '{name}', and there is no such PriceList: {mend}"
            raise Unusable("PriceListNotFound", sentence)
        try:
            return self._price_list(found)
        except ManifestError as error:
            self.metrics.forget_prices(name)
            raise Unusable("InvalidPriceList", f"the PriceList '{name}' cannot be used: {error}") from None

    def _probes(self, plan: AdaptationPlan) -> list[Probe]:
        """Probes that measured the plan's models on its task, or that it paid for."""
        return self.world.probes_for(plan.metadata.namespace, plan.metadata.name, *self._asked(plan))

    def _asked(self, plan: AdaptationPlan) -> tuple[str, frozenset[str]]:
        """Keys of the plan's task and of its models."""
        meta = plan.metadata
        key, version = (meta.namespace, meta.name), (meta.uid, meta.generation)
        known = self._keys.get(key)
        if known is None or known[0] != version:
            models = frozenset(model_key(m) for m in plan.spec.models)
            self._keys[key] = known = version, task_key(plan.spec.task), models
        return known[1:]

    def _asks(self, plan: AdaptationPlan, probe: Probe) -> bool:
        """Whether a probe measures what the plan, as it is now, wants to know."""
        task, models = self._asked(plan)
        return probe.task_key == task and probe.model_key in models

    def _asked_by_another(self, body: Object, probe: Probe) -> bool:
        """Whether a further owner of a probe waits for its measurement; one that cannot be read may be mended to do so."""
        namespace, name = key_of(body)
        for owner in owners_of(probe.body, "AdaptationPlan"):
            other = self.world.get(PLANS, (namespace, owner)) if owner != name else None
            if other is None:
                continue
            try:
                if self._asks(self._plan(other), probe):
                    return True
            except ManifestError:
                return True
        return False

    def _question(self, plan: AdaptationPlan, body: Object) -> tuple[AdaptationPlan, Sequence[ProbeRecord]]:
        """The plan and its records; past its deadline, the same with nothing more to be started."""
        known = records(self._probes(plan), plan, self.probing.jobs)
        told, now, lost = body.get("status") or {}, self.clock(), self.world.lost(key_of(body))
        if (gone := deleted(plan, told, known, lost_with(lost, plan.spec, now))) is not None:
            known.append(gone)
        confirming = lost_with(lost, plan.spec, now, confirming=True)
        if (gone := deleted_confirmations(plan, told, known, confirming)) is not None:
            known.append(gone)
        left = self._seconds_left(plan)
        if left is None or left > 0:
            return plan, known
        asked = max(1, sum(not r.reused for r in known))
        limits = plan.spec.probing.model_copy(update={"max_probes": asked, "retries": 0})
        return (
            plan.model_copy(update={"spec": plan.spec.model_copy(update={"probing": limits})}),
            [replace(r, retryable=False) for r in known],
        )

    # ---- time

    def _seconds_left(self, plan: AdaptationPlan) -> float | None:
        limit = plan.spec.active_deadline_seconds
        if limit is None:
            return None
        return limit - spans_seconds(self._probes(plan), plan.metadata.name, self.clock())

    def _early(self, body: Object, plan: AdaptationPlan | None, mine: Sequence[Probe]) -> dict[str, str]:
        """By probe, why its open attempt, which this plan pays for, is to be ended now; read leniently, since it concerns money."""
        name, spec = body["metadata"]["name"], body.get("spec")
        limit = spec.get("activeDeadlineSeconds") if isinstance(spec, dict) else None
        if isinstance(limit, int) and spans_seconds(mine, name, self.clock()) >= limit:
            return {p.name: OUT_OF_TIME for p in mine}
        if plan is None:
            return {}
        found = {}
        for probe in mine:
            if not probe.is_open or (last := probe.status.attempts[-1]).paid_by != name:
                continue
            if not self._asks(plan, probe) and not self._asked_by_another(body, probe):
                found[probe.name] = EDITED
            elif plan.spec.suspend and ended.is_held(last):
                found[probe.name] = SUSPENDED
            elif ended.is_stuck(last) and (why := self._not_waited_for(plan, probe, last)):
                found[probe.name] = why
        return found

    def _not_waited_for(self, plan: AdaptationPlan, probe: Probe, last: Attempt) -> str | None:
        """Why an attempt that cannot begin is not waited for any longer."""
        if last.environment != environments(plan.spec, self.probing.jobs).get(probe.spec.accelerator):
            return MENDED
        job = self.world.get(JOBS, (plan.metadata.namespace, last.job_name))
        return ended.NO_POD if ended.cannot_start(last, probe.spec, job, self.clock()) else None

    def _until_deadline(self, plan: AdaptationPlan, finished: bool) -> float | None:
        left = self._seconds_left(plan)
        return left if left is not None and left > 0 and not finished else None


def _images(probes: Sequence[Probe]) -> str:
    """What the measurements were made with, to the digest; several where an image was mended or its tag moved."""
    return ", ".join(sorted({a.image for p in probes for a in p.status.attempts if a.image and a.phase == "Succeeded"}))
