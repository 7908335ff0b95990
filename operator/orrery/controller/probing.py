"""Probes of a plan in the cluster: reserve, start, look how they fare, and write down what became of them.

Killed between any two lines, nothing is lost and nothing starts twice: an attempt's worst case is written to its probe
before the Job exists, so money in flight is always counted; a Job's name is its attempt's, so starting it twice is a
conflict, which is success; a report is copied to the probe before anything is concluded from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from orrery.api.base import API_VERSION, GROUP
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.probe import AdaptationProbe, Attempt, ProbeStatus
from orrery.controller import attempts as ended
from orrery.controller import features
from orrery.controller.attempts import Accelerated
from orrery.controller.events import Recorder
from orrery.controller.jobs import ATTEMPT_LABEL, PROBE_LABEL, JobSettings, build_probe_job, job_name
from orrery.controller.metrics import Metrics
from orrery.controller.records import Probe, environments, owner_reference, parse, task_key
from orrery.controller.server import (
    JOBS,
    PLANS,
    PODS,
    PROBES,
    WORKLOADS,
    Conflict,
    NotFound,
    Object,
    Refused,
    Server,
)
from orrery.controller.world import Key, World, key_of
from orrery.costs.prices import Prices
from orrery.planning.reports import merge
from orrery.planning.types import ProbeRequest

#: How long a Job may go without having finished before one looks how its Pod fares.
PENDING_SECONDS = 3.0
#: How often one looks again.
LOOK_SECONDS = 15.0
#: A reservation without a Job is given back after this long: a request that was sent to make it can no longer arrive.
VOID_SECONDS = 90.0

_PROBE_PHASES = {
    "Reserved": "Pending",
    "Queued": "Queued",
    "Running": "Running",
    "Succeeded": "Succeeded",
    "Failed": "Failed",
}


class Fenced(Exception):  # noqa: N818  # reads as what happened
    """This operator no longer holds its Lease: another may be spending, so this one must not."""


class Unusable(Exception):  # noqa: N818  # a state of the plan, told in its status
    """The operator cannot go on with a plan before a person acts; a CamelCase reason and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Probing:
    """Everything that is written to probes and Jobs; safe to call from several threads, for one plan at a time each."""

    server: Server
    world: World
    jobs: JobSettings
    metrics: Metrics
    recorder: Recorder
    may_write: Callable[[], bool]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    #: Jobs, with the plan that pays, that this very process sets money aside for and has not seen yet. Of others nobody knows
    #: whether they were made and deleted since, so those are never made again: one attempt, one Job.
    unmade: dict[Key, str] = field(default_factory=dict)

    def fence(self) -> None:
        """Raises Fenced unless the Lease is surely held for now."""
        if not self.may_write():
            raise Fenced("the Lease is not held: nothing is written or started")

    # ---- looking

    def observe(self, plan: Object, probes: Iterable[Probe]) -> float | None:
        """Bring attempts in flight up to date with their Jobs; seconds until one wants to be looked at again.

        A shared probe is its payer's to look at, as long as there is that plan: two would only get into each other's way.
        """
        namespace, name = key_of(plan)
        waits = []
        for probe in probes:
            last = probe.status.attempts[-1] if probe.status.attempts else None
            if last is None or last.cost is not None:
                continue
            if last.paid_by in (name, None) or self.world.version(PLANS, (namespace, last.paid_by)) is None:
                waits.append(self._look(plan, probe, last))
        return min(waits) if waits else None

    def _look(self, plan: Object, probe: Probe, attempt: Attempt) -> float:
        namespace = key_of(plan)[0]
        job = self.world.get(JOBS, (namespace, attempt.job_name))
        if job is not None:
            self.unmade.pop((namespace, attempt.job_name), None)
        if job is None:
            try:
                job = self.server.get(JOBS, namespace, attempt.job_name)
                self.world.put(JOBS, job)
            except NotFound:
                if attempt.phase == "Reserved":
                    return self._unmade(plan, probe, attempt)
        done = job is None or ended.finished(job)
        age = self._age(attempt)
        if not done and age < PENDING_SECONDS:
            return PENDING_SECONDS - age
        run = (namespace, probe.name, str(attempt.number))
        pods = self.world.pods(run)
        if done and not (job is not None and ended.condition(job, "Complete") and any(_over(pod) for pod in pods)):
            # the watch of Pods has not shown it yet, or this process is younger than the Pod; or the Job has failed, and may
            # have left a Pod behind that still runs
            seen = {pod["metadata"].get("uid") for pod in pods}
            selector = f"{PROBE_LABEL}={probe.name},{ATTEMPT_LABEL}={attempt.number}"
            listed = list(self.server.list(PODS, namespace, selector))
            pods = listed + [p for p in pods if p.get("gone") and p["metadata"].get("uid") in seen]
        accelerator = Accelerated.of(plan, probe.spec.accelerator)
        found = ended.observe(
            attempt,
            probe.spec,
            job,
            pods,
            accelerator.count,
            self._data_digest(namespace, probe),
            self.clock(),
            self._queue_says(job) if job is not None and not done else None,
        )
        if found.attempt != attempt:
            self._record(plan, probe, accelerator, found)
        if found.ended:
            self.world.forget_pods(run)
        return PENDING_SECONDS if done else LOOK_SECONDS

    def _age(self, attempt: Attempt) -> float:
        reserved = ended.parse_timestamp(attempt.reserved_at)
        return (self.clock() - reserved).total_seconds() if reserved else float("inf")

    def _queue_says(self, job: Object) -> str | None:
        """Why Kueue has not admitted a Job, in its own words; None where it is not installed or says nothing."""
        if not (job.get("spec") or {}).get("suspend"):
            return None
        meta = job["metadata"]
        try:
            listed = list(self.server.list(WORKLOADS, meta["namespace"], f"kueue.x-k8s.io/job-uid={meta['uid']}"))
        except (NotFound, Refused):
            return None
        for workload in listed:
            for found in (workload.get("status") or {}).get("conditions") or []:
                if found.get("type") in ("QuotaReserved", "Admitted") and found.get("status") == "False":
                    return f"Kueue: {found.get('reason')}: {found.get('message')}"
        return None

    def _data_digest(self, namespace: str, probe: Probe) -> str | None:
        """The digest that most other reports on the task agree on: a probe that read other data is refused."""
        digests = Counter(self.world.data_digests(namespace, probe.task_key, but=probe.name))
        return max(digests, key=lambda d: (digests[d], d)) if digests else None

    def _record(self, plan: Object, probe: Probe, accelerator: Accelerated, seen: ended.Seen) -> None:
        """Write what became of an attempt; what earlier attempts measured stays."""
        known = [r for r in (probe.status.report, seen.report) if r is not None]
        attempt = seen.attempt
        self.write_status(
            probe,
            ProbeStatus(
                observed_generation=probe.body["metadata"].get("generation"),
                phase=_PROBE_PHASES[attempt.phase],
                attempts=[*probe.status.attempts[:-1], attempt],
                report=merge(probe.spec, known),
                reason=attempt.reason,
                message=attempt.message,
            ),
        )
        if seen.ended:
            self.metrics.attempt_ended(key_of(plan)[0], accelerator, attempt)
            self.recorder.attempt_ended(plan, probe.name, attempt)
        else:
            self.recorder.pending(plan, probe.name, attempt)

    def _unmade(self, plan: Object, probe: Probe, attempt: Attempt) -> float:
        """A reservation without a Job: ``resume`` makes it if that can be done safely, else it is given up."""
        namespace, name = key_of(plan)
        mine = self.unmade.get((namespace, attempt.job_name)) == name
        left = VOID_SECONDS - self._age(attempt)
        if mine and left > 0:
            return min(left, LOOK_SECONDS)
        # it is given back when its Job was surely never made; else whoever deleted it may have let it run until now
        wall = 0.0 if mine else min(self._age(attempt), float(probe.spec.deadline_seconds))
        accelerator = Accelerated.of(plan, probe.spec.accelerator)
        self.unmade.pop((namespace, attempt.job_name), None)
        closed = attempt.model_copy(
            update={
                "phase": "Failed",
                "cost": ended.charge(attempt, wall),
                "seconds": Decimal(repr(round(wall * accelerator.count, 3))),
                "finished_at": ended.timestamp(self.clock()),
                "reason": "NotStarted",
                "message": "its Job was never made; nothing ran and nothing is charged"
                if mine
                else "there is no Job of it, made and deleted or never made; charged as if it had run until now",
            }
        )
        self._record(plan, probe, accelerator, ended.Seen(closed))
        return 0.0

    # ---- starting

    def resume(self, plan: AdaptationPlan, body: Object, probes: Iterable[Probe]) -> None:
        """Make the Jobs of this plan's reservations that have none, since the API server did not answer before."""
        around = environments(plan.spec, self.jobs)
        for probe in probes:
            last = probe.status.attempts[-1] if probe.status.attempts else None
            if last is None or last.phase != "Reserved" or last.paid_by != plan.metadata.name or plan.spec.suspend:
                continue
            key, now = (plan.metadata.namespace, last.job_name), around.get(probe.spec.accelerator)
            # not later than this: then it is given back, by an operator that need not see this Job
            if (
                now is None
                or self.unmade.get(key) != last.paid_by
                or self.world.version(JOBS, key) is not None
                or self._age(last) >= VOID_SECONDS
            ):
                continue
            if last.environment != now:  # what kept it from being made was mended
                mended = [*probe.status.attempts[:-1], last.model_copy(update={"environment": now})]
                probe = self.write_status(probe, probe.status.model_copy(update={"attempts": mended}))
            self._create_job(plan, body, probe, last.number)

    def start_all(
        self,
        plan: AdaptationPlan,
        body: Object,
        prices: PriceList,
        requests: Sequence[ProbeRequest],
        attempts: Mapping[str, int],
        reserved_at: Mapping[str, str] | None = None,
    ) -> bool:
        """Start what was asked for; whether all of it was, as asked.

        ``attempts``: how many each probe had then; ``reserved_at``, by Job, when a budget of the namespace reserved for it.
        """
        at = reserved_at or {}
        started = [self._start(plan, body, prices, request, attempts.get(request.name, 0), at) for request in requests]
        return all(started)

    def _start(
        self,
        plan: AdaptationPlan,
        body: Object,
        prices: PriceList,
        request: ProbeRequest,
        attempts: int,
        at: Mapping[str, str],
    ) -> bool:
        """Reserve, then start; False when another plan was quicker with the same probe."""
        self.fence()
        probe = self._ensure(plan, body, request)
        if len(probe.status.attempts) != attempts:
            return False
        number = attempts + 1
        accelerator = next(a for a in plan.spec.accelerators if a.name == request.spec.accelerator)
        reserved = Attempt(
            number=number,
            job_name=job_name(probe.name, number),
            phase="Reserved",
            reserved=request.reservation,
            paid_by=plan.metadata.name,
            environment=environments(plan.spec, self.jobs)[accelerator.name],
            price_per_hour=Prices(prices).per_hour(accelerator),
            reserved_at=at.get(job_name(probe.name, number)) or ended.timestamp(self.clock()),
        )
        after = probe.status.model_copy(
            update={"phase": "Pending", "attempts": [*probe.status.attempts, reserved], "reason": None, "message": None}
        )
        job = plan.metadata.namespace, reserved.job_name
        self.unmade[job] = plan.metadata.name  # before it is written: the answer may be lost, and the reservation not
        try:
            probe = self.write_status(probe, after)
        except Conflict:
            if self.unmade.get(job) == plan.metadata.name:
                del self.unmade[job]
            return False
        self._create_job(plan, body, probe, number)
        self.recorder.started(plan, request, number)
        return True

    def _ensure(self, plan: AdaptationPlan, body: Object, request: ProbeRequest) -> Probe:
        key = (plan.metadata.namespace, request.name)
        if found := self.world.probe(key):
            return found
        manifest: Object = {
            "apiVersion": API_VERSION,
            "kind": "AdaptationProbe",
            "metadata": {
                "name": request.name,
                "namespace": key[0],
                "labels": {"app.kubernetes.io/managed-by": "orrery", f"{GROUP}/task": task_key(request.spec.task)},
                "ownerReferences": [owner_reference(body, controller=True)],
            },
            "spec": request.spec.to_wire(),
        }
        try:
            made = self.server.create(PROBES, manifest)
        except Conflict:
            made = self.server.get(PROBES, *key)
        self.world.put(PROBES, made)
        return _ours(made)

    def write_status(self, probe: Probe, after: ProbeStatus) -> Probe:
        """The probe with its new status; raises Conflict when somebody else wrote it, after reading what they wrote."""
        self.fence()
        body = {**probe.body, "apiVersion": API_VERSION, "kind": "AdaptationProbe", "status": after.to_wire()}
        try:
            written = self.server.replace(PROBES, body, "status")
        except Conflict:
            self.world.put(PROBES, self.server.get(PROBES, *key_of(probe.body)))
            raise
        except NotFound:
            self.world.drop(PROBES, probe.body)
            raise
        self.world.put(PROBES, written)
        return _ours(written)

    def _create_job(self, plan: AdaptationPlan, body: Object, probe: Probe, attempt: int) -> None:
        self.fence()
        resource = AdaptationProbe(metadata=probe.body["metadata"], spec=probe.spec)
        manifest = build_probe_job(resource, attempt, plan.spec, self.jobs)
        try:
            made = self.server.create(JOBS, manifest)
        except Conflict:
            made = self.server.get(JOBS, plan.metadata.namespace, job_name(probe.name, attempt))
        self.world.put(JOBS, made)
        self.unmade.pop((plan.metadata.namespace, job_name(probe.name, attempt)), None)
        for sentence in features.dropped(manifest, made):
            self.recorder.server_lacks(body, sentence)

    # ---- sharing

    def share(self, plan: AdaptationPlan, body: Object, probes: Iterable[Probe]) -> bool:
        """Become a further owner of every probe that this answer rests on; whether there was one to become.

        Deleting the plan that paid must not take the measurement away.
        """
        changed = False
        models = {m.source.model_dump_json() for m in plan.spec.models}
        mine = body["metadata"]["uid"]
        for probe in probes:
            meta = probe.body["metadata"]
            refs = meta.get("ownerReferences") or []
            if any(r.get("uid") == mine for r in refs) or probe.spec.model.source.model_dump_json() not in models:
                continue
            self.fence()
            owner = owner_reference(body, controller=not any(r.get("controller") for r in refs))
            patch = {"metadata": {"resourceVersion": meta["resourceVersion"], "ownerReferences": [*refs, owner]}}
            try:
                self.world.put(PROBES, self.server.merge(PROBES, *key_of(probe.body), patch))
                changed = True
            except NotFound:
                self.world.drop(PROBES, probe.body)
                raise
            except Conflict:
                self.world.put(PROBES, self.server.get(PROBES, *key_of(probe.body)))
                raise
        return changed


def spans_seconds(probes: Iterable[Probe], plan: str, now: datetime) -> float:
    """How long a plan has been probing: the time in which at least one attempt that it pays for was open."""
    spans = sorted(
        (begin, ended.parse_timestamp(a.finished_at) or now)
        for probe in probes
        for a in probe.status.attempts
        if a.paid_by == plan and (begin := ended.parse_timestamp(a.reserved_at)) is not None
    )
    total, reached = 0.0, datetime.min.replace(tzinfo=UTC)
    for begin, end in spans:
        total += max(0.0, (end - max(begin, reached)).total_seconds())
        reached = max(reached, end)
    return total


def _over(pod: Object) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return any("terminated" in (s.get("state") or {}) for s in statuses) or bool(pod.get("gone"))


def _ours(body: Object) -> Probe:
    probe = parse(body)
    if probe is None:
        name = body["metadata"]["name"]
        raise Unusable("ForeignProbe", f"the AdaptationProbe '{name}' is not one that Orrery wrote: delete it")
    return probe
