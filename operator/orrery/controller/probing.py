"""Probes of a plan in the cluster: set money aside, then start.

Killed between any two lines, nothing is lost and nothing starts twice: an attempt's worst case is written to its probe
before the Job exists, so money in flight is always counted; a Job's name is its attempt's, so starting it twice is a
conflict, which is success.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orrery.api.base import API_VERSION, GROUP
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.probe import AdaptationProbe, Attempt
from orrery.controller import attempts as ended
from orrery.controller import features
from orrery.controller.jobs import build_probe_job, job_name
from orrery.controller.observing import Observing
from orrery.controller.records import Probe, environments, owner_reference, task_key
from orrery.controller.server import JOBS, PROBES, Conflict, NotFound, Object
from orrery.costs.prices import Prices
from orrery.planning.types import ProbeRequest


@dataclass(frozen=True)
class Probing(Observing):
    """Everything that is written to probes and Jobs; safe to call from several threads, for one plan at a time each."""

    def resume(self, plan: AdaptationPlan, body: Object, probes: Iterable[Probe]) -> None:
        """Make the Jobs of this plan's reservations that have none, since the API server did not answer before."""
        around = environments(plan.spec, self.jobs)
        unmade: list[Probe] = []
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
                or self.age(last) >= ended.VOID_SECONDS
            ):
                continue
            unmade.append(probe)

        def make(probe: Probe) -> None:
            last = probe.status.attempts[-1]
            if last.environment != (now := around[probe.spec.accelerator]):  # what kept it from being made was mended
                mended = [*probe.status.attempts[:-1], last.model_copy(update={"environment": now})]
                probe = self.write_status(probe, probe.status.model_copy(update={"attempts": mended}))
            self._create_job(plan, body, probe, last.number)

        self.starting.map(make, unmade)

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
        told: list[tuple[ProbeRequest, int]] = []
        around = environments(plan.spec, self.jobs)

        def start(request: ProbeRequest) -> bool:
            number = attempts.get(request.name, 0) + 1
            if not self._start(plan, body, prices, request, number, at, around):
                return False
            told.append((request, number))
            return True

        try:
            return all(self.starting.map(start, requests))
        finally:
            self.recorder.started(plan, sorted(told, key=lambda pair: pair[0].name))

    def _start(
        self,
        plan: AdaptationPlan,
        body: Object,
        prices: PriceList,
        request: ProbeRequest,
        number: int,
        at: Mapping[str, str],
        around: Mapping[str, str],
    ) -> bool:
        """Reserve, then start; False when another plan was quicker with the same probe."""
        self.fence()
        probe = self._ensure(plan, body, request)
        if probe.tries != number - 1:
            return False
        accelerator = next(a for a in plan.spec.accelerators if a.name == request.spec.accelerator)
        reserved = Attempt(
            number=number,
            job_name=job_name(probe.name, number),
            phase="Reserved",
            reserved=request.reservation,
            paid_by=plan.metadata.name,
            environment=around[accelerator.name],
            price_per_hour=Prices(prices).per_hour(accelerator),
            reserved_at=at.get(job_name(probe.name, number)) or ended.timestamp(self.clock()),
        )
        after = probe.status.model_copy(
            update={"phase": "Pending", "attempts": [*probe.worth_keeping(), reserved], "reason": None, "message": None}
        )
        job = plan.metadata.namespace, reserved.job_name
        self.unmade[job] = plan.metadata.name  # before it is written: the answer may be lost, and the reservation not
        try:
            probe = self.write_status(probe, after)
        except Conflict:
            if self.unmade.get(job) == plan.metadata.name:
                del self.unmade[job]
            return False
        except NotFound:  # it was deleted at this moment, and nothing was set aside
            self.unmade.pop(job, None)
            raise
        self._create_job(plan, body, probe, number)
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
        return self.learn(made)

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
