"""One function for everything that can happen to a plan: read the world, ask the core, apply the difference.

It holds no state of its own and may be killed between any two lines. The order of writes makes that safe: an attempt's worst
case is written to its probe before the Job exists, so money in flight is always counted; a Job's name is its attempt's, so
starting it twice is a conflict, which is success; a report is copied to the probe before anything is concluded from it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orrery.api.base import API_VERSION, GROUP
from orrery.api.load import ManifestError, parse_model
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.probe import AdaptationProbe, Attempt, ProbeStatus
from orrery.api.status import PlanStatus
from orrery.controller import attempts as ended
from orrery.controller import results, status
from orrery.controller.events import Recorder
from orrery.controller.jobs import ATTEMPT_LABEL, PROBE_LABEL, JobSettings, build_probe_job, job_name
from orrery.controller.metrics import Metrics
from orrery.controller.records import Probe, owner_reference, parse, records, task_key
from orrery.controller.server import (
    CONFIG_MAPS,
    JOBS,
    PLANS,
    PODS,
    PRICE_LISTS,
    PROBES,
    Conflict,
    NotFound,
    Object,
    Refused,
    Server,
)
from orrery.controller.world import Key, World
from orrery.costs.prices import Prices
from orrery.planning.advance import advance
from orrery.planning.reports import merge
from orrery.planning.types import ProbeRequest, Step

log = logging.getLogger(__name__)

#: A running plan is looked at this often even if nothing wakes it: the level, not the edge, is what counts.
RESYNC_SECONDS = 300.0
#: How long a Job may go without a running Pod before its Pods are asked why.
PENDING_SECONDS = 3.0


class Fenced(Exception):  # noqa: N818  # reads as what happened
    """This operator no longer holds its Lease: another may be spending, so this one must not."""


@dataclass(frozen=True)
class Reconciler:
    """The level-based heart of the operator; safe to call from several threads, for one plan at a time each."""

    server: Server
    world: World
    jobs: JobSettings
    metrics: Metrics
    recorder: Recorder
    may_write: Callable[[], bool]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __call__(self, key: Key) -> float | None:
        """Bring one plan forward; seconds after which it wants to be looked at again, None when only events matter."""
        body = self.world.get(PLANS, key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self.metrics.forget(key)
            return None
        if self._expired(body):
            self._fence()
            self.server.delete(PLANS, *key, uid=body["metadata"]["uid"])
            return None
        try:
            plan = parse_model(AdaptationPlan, _bare(body))
            prices = self._prices(plan)
        except ManifestError as error:
            self._stall(body, "InvalidPlan", str(error))
            return None
        except _Unusable as error:
            self._stall(body, error.reason, str(error))
            return None
        wait = self._observe(plan)
        step = advance(self._question(plan, body), self._records(plan), prices)
        started = self._start_all(plan, body, prices, step)
        if started:  # what was started is told at once, with the money that is set aside for it
            step = advance(self._question(plan, body), self._records(plan), prices)
        self._share(plan, body)
        self._publish(plan, body, step)
        deadline = self._until_deadline(plan, body, step)
        waits = [
            w
            for w in (wait, deadline, None if step.finished else RESYNC_SECONDS, self._until_expired(body))
            if w is not None
        ]
        return min(waits) if waits else None

    # ---- reading

    def _prices(self, plan: AdaptationPlan) -> PriceList:
        name = plan.spec.pricing.price_list_ref.name
        found = self.world.get(PRICE_LISTS, ("", name))
        if found is None:
            raise _Unusable(
                "PriceListNotFound",
                f"spec.pricing.priceListRef.name is '{name}', and there is no such PriceList: apply it, or name one of "
                f"{', '.join(sorted(n for _, n in self.world.keys(PRICE_LISTS))) or 'those you apply'}",
            )
        try:
            return parse_model(PriceList, {**found, "apiVersion": API_VERSION, "kind": "PriceList"})
        except ManifestError as error:
            raise _Unusable("InvalidPriceList", f"the PriceList '{name}' cannot be used: {error}") from None

    def _probes(self, plan: AdaptationPlan) -> list[Probe]:
        return self.world.probes_for(plan.metadata.namespace, plan.metadata.name, task_key(plan.spec.task))

    def _records(self, plan: AdaptationPlan) -> list[Any]:
        return records(self._probes(plan), plan)

    def _question(self, plan: AdaptationPlan, body: Object) -> AdaptationPlan:
        """The plan to ask about: past its deadline, the same with nothing more to be started."""
        left = self._seconds_left(plan, body)
        if left is None or left > 0:
            return plan
        asked = max(1, sum(plan.metadata.name in p.payers for p in self._probes(plan)))
        probing = plan.spec.probing.model_copy(update={"max_probes": asked, "retries": 0})
        return plan.model_copy(update={"spec": plan.spec.model_copy(update={"probing": probing})})

    # ---- attempts

    def _observe(self, plan: AdaptationPlan) -> float | None:
        """Bring every attempt in flight up to date with its Job; seconds until one wants to be looked at again."""
        waits = [
            wait
            for probe in self._probes(plan)
            if probe.status.attempts and probe.status.attempts[-1].cost is None
            for wait in [self._observe_probe(plan, probe)]
            if wait is not None
        ]
        return min(waits) if waits else None

    def _observe_probe(self, plan: AdaptationPlan, probe: Probe) -> float | None:
        namespace, attempt = plan.metadata.namespace, probe.status.attempts[-1]
        job = self.world.get(JOBS, (namespace, attempt.job_name))
        if job is None:
            try:
                job = self.server.get(JOBS, namespace, attempt.job_name)
                self.world.put(JOBS, job)
            except NotFound:
                if attempt.phase == "Reserved":
                    if attempt.paid_by == plan.metadata.name:
                        self._create_job(plan, probe, attempt.number)
                    return PENDING_SECONDS
        pods: list[Object] = []
        done = job is None or ended.finished(job)
        if done or self._worth_asking(attempt, job):
            selector = f"{PROBE_LABEL}={probe.name},{ATTEMPT_LABEL}={attempt.number}"
            pods = list(self.server.list(PODS, namespace, selector))
        count = next((a.count for a in plan.spec.accelerators if a.name == probe.spec.accelerator), 1)
        now = self.clock()
        seen = ended.observe(attempt, probe.spec, job, pods, count, self._data_digest(plan, probe), now)
        if seen.attempt != attempt:
            self._record(plan, probe, seen)
        return None if seen.ended else PENDING_SECONDS if seen.attempt.phase == "Reserved" else 5 * PENDING_SECONDS

    def _worth_asking(self, attempt: Attempt, job: Object | None) -> bool:
        """Whether a Job that has not finished has been at it for long enough to say how its Pod fares."""
        if job is None or (job.get("spec") or {}).get("suspend") or attempt.phase == "Running":
            return False
        begun = ended.parse_timestamp((job.get("status") or {}).get("startTime")) or ended.parse_timestamp(
            attempt.reserved_at
        )
        return begun is not None and (self.clock() - begun).total_seconds() >= PENDING_SECONDS

    def _data_digest(self, plan: AdaptationPlan, probe: Probe) -> str | None:
        """The digest that the plan's other reports agree on: a probe that read other data is refused."""
        for other in self._probes(plan):
            facts = other.status.report.task_facts if other.status.report else None
            if other.name != probe.name and facts is not None and other.task_key == probe.task_key:
                return facts.digest
        return None

    def _record(self, plan: AdaptationPlan, probe: Probe, seen: ended.Seen) -> None:
        """Write what became of an attempt; what earlier attempts measured stays."""
        known = [r for r in (probe.status.report, seen.report) if r is not None]
        attempt = seen.attempt
        after = ProbeStatus(
            observed_generation=probe.body["metadata"].get("generation"),
            phase=_PROBE_PHASES[attempt.phase],
            attempts=[*probe.status.attempts[:-1], attempt],
            report=merge(probe.spec, known),
            reason=attempt.reason,
            message=attempt.message,
        )
        self._write_probe_status(probe, after)
        if seen.ended:
            self.metrics.attempt_ended(plan, probe.spec, attempt)
            self.recorder.attempt_ended(plan, probe.name, attempt)

    def _start_all(self, plan: AdaptationPlan, body: Object, prices: PriceList, step: Step) -> bool:
        started = False
        for request in step.start:
            started |= self._start(plan, body, prices, request)
        return started

    def _start(self, plan: AdaptationPlan, body: Object, prices: PriceList, request: ProbeRequest) -> bool:
        """Reserve, then start; False when another plan was quicker with the same probe."""
        self._fence()
        probe = self._ensure_probe(plan, body, request)
        if len(probe.status.attempts) >= request.attempt:
            return False
        accelerator = next(a for a in plan.spec.accelerators if a.name == request.spec.accelerator)
        reserved = Attempt(
            number=request.attempt,
            job_name=job_name(probe.name, request.attempt),
            phase="Reserved",
            reserved=request.reservation,
            paid_by=plan.metadata.name,
            price_per_hour=Prices(prices).per_hour(accelerator),
            reserved_at=ended.timestamp(self.clock()),
        )
        after = probe.status.model_copy(update={"phase": "Pending", "attempts": [*probe.status.attempts, reserved]})
        try:
            probe = self._write_probe_status(probe, after)
        except Conflict:
            return False
        self._create_job(plan, probe, request.attempt)
        self.recorder.started(plan, request)
        return True

    def _ensure_probe(self, plan: AdaptationPlan, body: Object, request: ProbeRequest) -> Probe:
        key = (plan.metadata.namespace, request.name)
        if found := self.world.probe(key):
            return found
        manifest = AdaptationProbe.model_validate(
            {
                "apiVersion": API_VERSION,
                "kind": "AdaptationProbe",
                "metadata": {"name": request.name, "namespace": key[0]},
                "spec": request.spec.to_wire(),
            }
        ).to_wire()
        manifest["metadata"] = {
            "name": request.name,
            "namespace": key[0],
            "labels": {"app.kubernetes.io/managed-by": "orrery", f"{GROUP}/task": task_key(request.spec.task)},
            "ownerReferences": [owner_reference(body, controller=True)],
        }
        try:
            made = self.server.create(PROBES, manifest)
        except Conflict:
            made = self.server.get(PROBES, *key)
        self.world.put(PROBES, made)
        return self._own(made)

    def _own(self, body: Object) -> Probe:
        probe = parse(body)
        if probe is None:
            name = body["metadata"]["name"]
            raise _Unusable("ForeignProbe", f"the AdaptationProbe '{name}' is not one that Orrery wrote: delete it")
        return probe

    def _write_probe_status(self, probe: Probe, after: ProbeStatus) -> Probe:
        self._fence()
        body = {**probe.body, "apiVersion": API_VERSION, "kind": "AdaptationProbe", "status": after.to_wire()}
        try:
            written = self.server.replace(PROBES, body, "status")
        except Conflict:
            # another plan wrote it, or our copy is old: read it, so that the next turn starts from what is true
            self.world.put(PROBES, self.server.get(PROBES, *_key(probe.body)))
            raise
        self.world.put(PROBES, written)
        return self._own(written)

    def _create_job(self, plan: AdaptationPlan, probe: Probe, attempt: int) -> None:
        self._fence()
        # a later attempt runs the whole spec: its report then stands by itself, under the probe's own name
        resource = AdaptationProbe(metadata=probe.body["metadata"], spec=probe.spec)
        manifest = build_probe_job(resource, attempt, plan.spec, self.jobs)
        try:
            made = self.server.create(JOBS, manifest)
        except Conflict:
            made = self.server.get(JOBS, plan.metadata.namespace, job_name(probe.name, attempt))
        self.world.put(JOBS, made)

    # ---- sharing

    def _share(self, plan: AdaptationPlan, body: Object) -> None:
        """Become a further owner of every probe that this answer rests on: deleting the plan that paid must not take it."""
        models = {m.source.model_dump_json() for m in plan.spec.models}
        for probe in self._probes(plan):
            refs = probe.body["metadata"].get("ownerReferences") or []
            mine = body["metadata"]["uid"]
            if any(r.get("uid") == mine for r in refs) or probe.spec.model.source.model_dump_json() not in models:
                continue
            self._fence()
            patch = {
                "metadata": {
                    "resourceVersion": probe.body["metadata"]["resourceVersion"],
                    "ownerReferences": [
                        *refs,
                        owner_reference(body, controller=not any(r.get("controller") for r in refs)),
                    ],
                }
            }
            try:
                self.world.put(PROBES, self.server.merge(PROBES, *_key(probe.body), patch))
            except Conflict:
                self.world.put(PROBES, self.server.get(PROBES, *_key(probe.body)))
                raise

    # ---- writing the answer

    def _publish(self, plan: AdaptationPlan, body: Object, step: Step) -> None:
        wanted = step.status
        if step.rows:
            manifest = results.build(body, step.rows)
            if self._write_results(body, manifest):
                log.debug("%s: results written", plan.metadata.name)
            wanted = wanted.model_copy(update={"results_ref": manifest["metadata"]["name"]})
        self._write_status(body, wanted)
        self.metrics.plan(plan, wanted, step)
        self.recorder.answered(plan, wanted, body)

    def _write_results(self, body: Object, manifest: Object) -> bool:
        digest = manifest["metadata"]["annotations"][results.DIGEST]
        known = (body.get("status") or {}).get("resultsDigest")
        if known == digest:
            return False
        namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        self._fence()
        try:
            found = self.server.get(CONFIG_MAPS, namespace, name)
        except NotFound:
            self.server.create(CONFIG_MAPS, manifest)
            return True
        if (found["metadata"].get("annotations") or {}).get(results.DIGEST) == digest:
            return False
        self.server.replace(CONFIG_MAPS, manifest)
        return True

    def _write_status(self, body: Object, wanted: PlanStatus) -> None:
        before = body.get("status") or {}
        now = ended.timestamp(self.clock())
        after = status.stamped(wanted, before, int(body["metadata"].get("generation", 1)), now)
        if after == before:
            return
        self._fence()
        full = {**body, "apiVersion": API_VERSION, "kind": "AdaptationPlan", "status": after}
        try:
            self.world.put(PLANS, self.server.replace(PLANS, full, "status"))
        except Conflict:
            self.world.put(PLANS, self.server.get(PLANS, *_key(body)))
            raise

    def _stall(self, body: Object, reason: str, sentence: str) -> None:
        try:
            before = PlanStatus.model_validate(body.get("status") or {})
        except ValueError:
            before = None
        self._write_status(body, status.failure(reason, sentence[:4000], before))
        self.recorder.stalled(body, reason, sentence)

    # ---- time

    def _seconds_left(self, plan: AdaptationPlan, body: Object) -> float | None:
        limit = plan.spec.active_deadline_seconds
        begun = ended.parse_timestamp(body["metadata"].get("creationTimestamp"))
        return None if limit is None or begun is None else limit - (self.clock() - begun).total_seconds()

    def _until_deadline(self, plan: AdaptationPlan, body: Object, step: Step) -> float | None:
        left = self._seconds_left(plan, body)
        return left if left is not None and left > 0 and not step.finished else None

    def _until_expired(self, body: Object) -> float | None:
        ttl = (body.get("spec") or {}).get("ttlSecondsAfterFinished")
        ready = ended.condition(self.world.get(PLANS, _key(body)) or body, "Ready")
        at = ended.parse_timestamp(ready.get("lastTransitionTime")) if ready else None
        return None if ttl is None or at is None else max(0.0, ttl - (self.clock() - at).total_seconds())

    def _expired(self, body: Object) -> bool:
        return self._until_expired(body) == 0.0

    def _fence(self) -> None:
        if not self.may_write():
            raise Fenced("the Lease is not held: nothing is written or started")


_PROBE_PHASES = {
    "Reserved": "Pending",
    "Queued": "Queued",
    "Running": "Running",
    "Succeeded": "Succeeded",
    "Failed": "Failed",
}


class _Unusable(Exception):  # noqa: N818  # a state of the plan, told in its status
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _bare(body: Object) -> Object:
    """The plan without its status, which is read apart: what an older self wrote there must not make the plan invalid."""
    return {"apiVersion": API_VERSION, "kind": "AdaptationPlan", **{k: v for k, v in body.items() if k != "status"}}


def _key(body: Object) -> Key:
    return body["metadata"].get("namespace") or "", body["metadata"]["name"]


def refused(error: Refused) -> str:
    """What a person reads when the API server refuses a write."""
    return f"the API server refused a write: {error}; check the operator's role and the namespace's quota"
