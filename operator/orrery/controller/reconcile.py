"""One function for everything that can happen to a plan: read the world, ask the core, apply the difference.

It may be killed between any two lines; what it remembers only spares work. Everything it needs is read anew each time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orrery.api.base import API_VERSION
from orrery.api.load import ManifestError, parse_model
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.status import PlanStatus
from orrery.controller import attempts as ended
from orrery.controller import features, results, status
from orrery.controller.budgets import ACCOUNTS, Budgets, admit, settled
from orrery.controller.jobs import refuse_local_sources
from orrery.controller.probing import Probing, Unusable, spans_seconds
from orrery.controller.records import DELETED, Probe, deleted, model_key, records, task_key
from orrery.controller.server import CONFIG_MAPS, PLANS, PRICE_LISTS, Conflict, NotFound, Object, Refused
from orrery.controller.world import Key, key_of
from orrery.planning.advance import advance
from orrery.planning.status import progress
from orrery.planning.types import ProbeRecord, Step

log = logging.getLogger(__name__)

#: A plan that moves is looked at this often even if nothing wakes it: the level, not the edge, is what counts.
RESYNC_SECONDS = 300.0
#: Rows are written at most this often while probes run; always when they have ended.
RESULTS_SECONDS = 10.0


@dataclass(frozen=True)
class _Settled:
    """Of what the last full turn was made, and that nothing was left to be done: the same again would say the same."""

    of: tuple[Any, ...]
    finished: bool
    until: float


@dataclass
class Reconciler:
    """The level-based heart of the operator; safe to call from several threads, for one plan at a time each."""

    probing: Probing
    minor: int | None = None  #: the server's version, 1.minor, when it is known
    _settled: dict[Key, _Settled] = field(default_factory=dict, init=False)
    _written: dict[Key, tuple[str, str, float]] = field(default_factory=dict, init=False)  # uid, digest, when

    def __post_init__(self) -> None:
        p = self.probing
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
            self._settled.pop(key, None)
            self._written.pop(key, None)
            return None
        if self._until_expired(body) == 0.0:
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

    def _turn(self, key: Key, body: Object) -> float | None:
        # first what concerns money, which also goes on when the plan cannot be read any more
        look = self.probing.observe(body, self.world.probes_for(*key, None))
        plan = parse_model(AdaptationPlan, _bare(body))
        for model in plan.spec.models:
            try:
                refuse_local_sources(model, plan.spec.task)
            except ValueError as problem:
                raise Unusable("InvalidPlan", str(problem)) from None
        priced = self.world.version(PRICE_LISTS, ("", plan.spec.pricing.price_list_ref.name))
        prices = self._prices(plan)
        self.probing.resume(plan, body, self._probes(plan))
        shared = self.probing.observe(body, [p for p in self._probes(plan) if plan.metadata.name not in p.payers])
        settled = self._settled.get(key)
        if settled and settled.of == self._inputs(plan, body, priced) and time.monotonic() < settled.until:
            finished, pending = settled.finished, None
        else:
            finished, pending = self._decide(plan, body, prices, priced)
        waits = [
            w
            for w in (
                look,
                shared,
                pending,
                self._until_deadline(plan, finished),
                None if finished else RESYNC_SECONDS,
                self._until_expired(self.world.get(PLANS, key) or body),
            )
            if w is not None
        ]
        return min(waits) if waits else None

    def _decide(
        self, plan: AdaptationPlan, body: Object, prices: PriceList, priced: str | None
    ) -> tuple[bool, float | None]:
        """Ask, start, share and tell; whether the plan is finished, and when to come back for what was put off."""
        key = key_of(body)
        self.metrics.prices(prices)
        attempts = {p.name: len(p.status.attempts) for p in self._probes(plan)}
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
            others = [[pair for pair in versions[-1] if pair[0] not in asked] for versions in (before, of)]
            if as_asked and others[0] == others[1]:
                step = replace(step, start=(), status=self._after_start(plan, body, step.status))
            else:
                of = self._inputs(plan, body, priced)
                step = self._advance(plan, body, prices)
        changed = self.probing.share(plan, body, self._probes(plan))
        pending = self._publish(plan, body, step)
        if refusal is not None:
            self._settled.pop(key, None)
            if refusal.event:
                self.recorder.stalled(body, refusal.reason, refusal.event)
            return False, min(refusal.seconds, RESYNC_SECONDS)
        if step.start or pending is not None or changed:
            self._settled.pop(key, None)
            return step.finished, pending if pending is not None and not step.start else 0.2
        # the plan's own version is the one that was written just now
        self._settled[key] = _Settled(
            (of[0], body["metadata"].get("resourceVersion"), *of[2:]), step.finished, time.monotonic() + RESYNC_SECONDS
        )
        return step.finished, None

    def _advance(self, plan: AdaptationPlan, body: Object, prices: PriceList) -> Step:
        asked, known = self._question(plan, body)
        step = advance(asked, known, prices)
        told = status.waiting(step.status, known)
        gone = [r.cost for r in known if r.name == DELETED]
        if gone and told.spend is not None:
            told = told.model_copy(update={"spend": told.spend.model_copy(update={"deleted_cost": gone[0]})})
        if self.minor is not None:
            told = status.remark(told, features.of_version(self.minor, bool(plan.spec.scheduling.queue_name)))
        if told.inputs is not None and told.inputs.image is None:
            told = told.model_copy(
                update={"inputs": told.inputs.model_copy(update={"image": self.probing.jobs.image[:253]})}
            )
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
        """Versions of everything that a turn reads."""
        meta = body["metadata"]
        left = self._seconds_left(plan)
        return (
            meta.get("uid"),
            meta.get("resourceVersion"),
            priced,
            left is not None and left <= 0,
            tuple((p.name, p.body["metadata"].get("resourceVersion")) for p in self._probes(plan)),
        )

    def _prices(self, plan: AdaptationPlan) -> PriceList:
        name = plan.spec.pricing.price_list_ref.name
        found = self.world.get(PRICE_LISTS, ("", name))
        if found is None:
            raise Unusable(
                "PriceListNotFound",
                f"spec.pricing.priceListRef.name is '{name}', and there is no such PriceList: apply it, or name one of "
                f"{', '.join(sorted(n for _, n in self.world.keys(PRICE_LISTS))) or 'those you apply'}",
            )
        try:
            return parse_model(PriceList, {**found, "apiVersion": API_VERSION, "kind": "PriceList"})
        except ManifestError as error:
            raise Unusable("InvalidPriceList", f"the PriceList '{name}' cannot be used: {error}") from None

    def _probes(self, plan: AdaptationPlan) -> list[Probe]:
        models = {model_key(m) for m in plan.spec.models}
        return self.world.probes_for(plan.metadata.namespace, plan.metadata.name, task_key(plan.spec.task), models)

    def _question(self, plan: AdaptationPlan, body: Object) -> tuple[AdaptationPlan, Sequence[ProbeRecord]]:
        """The plan and its records; past its deadline, the same with nothing more to be started."""
        known = records(self._probes(plan), plan, self.probing.jobs)
        if (gone := deleted(plan, body.get("status") or {}, known)) is not None:
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

    # ---- writing the answer

    def _publish(self, plan: AdaptationPlan, body: Object, step: Step) -> float | None:
        wanted, pending = step.status, None
        if step.rows:
            pending = self._write_results(body, step)
            wanted = wanted.model_copy(update={"results_ref": results.config_map_name(plan.metadata.name)})
        self._write_status(body, wanted)
        self.metrics.plan(plan, wanted, step)
        if (error := _prediction_error(body, wanted)) is not None:
            self.metrics.predicted(key_of(body), error)
        self.recorder.answered(plan, wanted, body)
        return pending

    def _write_results(self, body: Object, step: Step) -> float | None:
        """Write the rows if they changed; seconds after which they are to be written, when it was done a moment ago."""
        key, uid, now = key_of(body), body["metadata"]["uid"], time.monotonic()
        lines = results.lines(step.rows)
        digest = results.digest_of(lines)
        known = self._written.get(key)
        ours = known is not None and known[0] == uid
        if known is not None and ours:
            if known[1] == digest and now - known[2] < RESYNC_SECONDS:
                return None
            if not step.finished and now - known[2] < RESULTS_SECONDS:
                return RESULTS_SECONDS - (now - known[2])
        self.probing.fence()
        manifest = results.build(body, lines)
        if known is not None and ours and known[1] != digest:
            try:
                self.server.replace(CONFIG_MAPS, manifest)
            except NotFound:
                self.server.create(CONFIG_MAPS, manifest)
        else:
            self._settle_results(manifest, digest)
        self._written[key] = (uid, digest, now)
        return None

    def _settle_results(self, manifest: Object, digest: str) -> None:
        """Nothing is remembered of the ConfigMap: see whether it is there, ours, and as it should be."""
        meta = manifest["metadata"]
        try:
            found = self.server.get(CONFIG_MAPS, meta["namespace"], meta["name"])
        except NotFound:
            self.server.create(CONFIG_MAPS, manifest)
            return
        had = found["metadata"]
        if (had.get("labels") or {}).get("app.kubernetes.io/managed-by") != "orrery":
            raise Unusable(
                "ForeignConfigMap",
                f"the ConfigMap '{meta['name']}', which would hold the results, is somebody else's: delete it, or give the "
                "plan another name",
            )
        same_owner = had.get("ownerReferences") == meta["ownerReferences"]
        if not same_owner or (had.get("annotations") or {}).get(results.DIGEST) != digest:
            self.server.replace(CONFIG_MAPS, manifest)

    def _write_status(self, body: Object, wanted: PlanStatus) -> None:
        """Write the status unless it says so already; ``body`` is brought up to date."""
        before = body.get("status") or {}
        now = ended.timestamp(self.clock())
        after = status.stamped(wanted, before, int(body["metadata"].get("generation", 1)), now)
        if after == before:
            return
        self.probing.fence()
        full = {**body, "apiVersion": API_VERSION, "kind": "AdaptationPlan", "status": after}
        try:
            written = self.server.replace(PLANS, full, "status")
        except Conflict:
            self.world.put(PLANS, self.server.get(PLANS, *key_of(body)))
            raise
        self.world.put(PLANS, written)
        body["metadata"] = {**body["metadata"], "resourceVersion": written["metadata"]["resourceVersion"]}

    def _stall(self, body: Object, reason: str, sentence: str) -> None:
        self._settled.pop(key_of(body), None)
        try:
            before = PlanStatus.model_validate(body.get("status") or {})
        except ValueError:
            before = None
        told = status.failure(reason, sentence[:4000], before)
        self._write_status(body, told)
        self.metrics.stalled(key_of(body), told)
        self.recorder.stalled(body, reason, sentence)

    # ---- time

    def _seconds_left(self, plan: AdaptationPlan) -> float | None:
        limit = plan.spec.active_deadline_seconds
        if limit is None:
            return None
        return limit - spans_seconds(self._probes(plan), plan.metadata.name, self.clock())

    def _until_deadline(self, plan: AdaptationPlan, finished: bool) -> float | None:
        left = self._seconds_left(plan)
        return left if left is not None and left > 0 and not finished else None

    def _until_expired(self, body: Object) -> float | None:
        """Seconds until the plan is to be deleted, 0 when it is due; None without an answer to the spec as it is."""
        spec = body.get("spec")
        ttl = spec.get("ttlSecondsAfterFinished") if isinstance(spec, dict) else None
        ready = ended.condition(body, "Ready")
        if (
            not isinstance(ttl, int)
            or not ready
            or ready.get("observedGeneration") != body["metadata"].get("generation")
        ):
            return None
        at = ended.parse_timestamp(ready.get("lastTransitionTime"))
        return None if at is None else max(0.0, ttl - (self.clock() - at).total_seconds())


def _prediction_error(body: Object, now: PlanStatus) -> float | None:
    """Measured minus predicted quality, when the candidate that was recommended by forecast has now been measured."""
    before = (body.get("status") or {}).get("recommendation")
    if not before or before.get("measured") or now.recommendation is None or not now.recommendation.measured:
        return None
    after = now.recommendation.to_wire()
    if any(before.get(k) != after.get(k) for k in ("model", "strategy", "configuration", "accelerator")):
        return None
    return float(after["quality"]["predicted"]) - float(before["quality"]["predicted"])


def _bare(body: Object) -> Object:
    """The plan without its status, which is read apart: what an older self wrote there must not make the plan invalid."""
    return {**{k: v for k, v in body.items() if k != "status"}, "apiVersion": API_VERSION, "kind": "AdaptationPlan"}
