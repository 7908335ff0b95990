"""How attempts fare: look at their Jobs and Pods, and write down what became of them.

A report is copied to the probe before anything is concluded from it. What several probes of a plan need is asked and written
side by side; they are judged one after another, in the order of their names, so that equal worlds give equal verdicts.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from orrery.api.probe import Attempt, ProbeStatus
from orrery.controller import attempts as ended
from orrery.controller.attempts import NO_POD, VOID_SECONDS, Accelerated
from orrery.controller.jobs import ATTEMPT_LABEL, PROBE_LABEL
from orrery.controller.probe_store import ProbeStore
from orrery.controller.records import Probe
from orrery.controller.server import JOBS, PLANS, PODS, NotFound, Object
from orrery.controller.waiting import Why, held_by_its_queue, told_by_events
from orrery.controller.world import key_of
from orrery.planning.reports import agreed, merge

#: How long a Job may go without having finished before one looks how its Pod fares.
PENDING_SECONDS = 3.0
#: How often one looks again.
LOOK_SECONDS = 15.0
#: Of so many Jobs that do not begin it is remembered why.
_REMEMBERED = 10_000

#: Why a plan ends attempts that it pays for before their time.
OUT_OF_TIME = "the plan's time was over"
EDITED = "the plan was edited and does not ask for it any more"
SUSPENDED = "the plan was suspended before it could run"
MENDED = "what it runs in was edited before it could run"

_PROBE_PHASES = {
    "Reserved": "Pending",
    "Queued": "Queued",
    "Running": "Running",
    "Succeeded": "Succeeded",
    "Failed": "Failed",
}


@dataclass(frozen=True)
class _Sight:
    """What was found of an open attempt; ``seen`` when there is something to say about how it stands now."""

    probe: Probe
    attempt: Attempt
    again: float  #: seconds until it wants to be looked at again
    job: Object | None = None
    pods: tuple[Object, ...] = ()
    waits: Why | None = None  #: what keeps it from running, in whose words it may be
    looked: bool = True  #: False: it is too early to judge
    void: ended.Seen | None = None  #: it was given up, since there is no Job of it


@dataclass(frozen=True)
class _ToldNow:
    """What the reports of one look have read, which the world does not know yet."""

    digests: dict[str, list[str]] = field(default_factory=dict)  #: of data, by task
    commits: dict[tuple[str, str], list[str]] = field(default_factory=dict)  #: of a hub's model, by task and model


@dataclass(frozen=True)
class Observing(ProbeStore):
    """Brings the attempts of probes up to date with the cluster."""

    #: What was said last of Jobs and Pods that do not begin, and when, by uid.
    said: dict[str, tuple[datetime, Why | None]] = field(default_factory=dict)

    def observe(self, plan: Object, probes: Iterable[Probe], early: Mapping[str, str] | None = None) -> float | None:
        """Bring attempts in flight up to date with their Jobs; seconds until one wants to be looked at again.

        A shared probe is its payer's to look at, as long as there is that plan: two would only get into each other's way.
        ``early``: by probe, why its plan ends it; whose Job is gone was ended so.
        """
        namespace, name = key_of(plan)
        due = []
        for probe in probes:
            last = probe.status.attempts[-1] if probe.status.attempts else None
            if last is None or last.cost is not None:
                continue
            if last.paid_by in (name, None) or self.world.version(PLANS, (namespace, last.paid_by)) is None:
                due.append((probe, last))
        if not due:
            return None
        sights = self.telling.map(lambda pair: self._find(plan, *pair), due)
        told_now = _ToldNow()
        changed = [
            (sight, found)
            for sight in sights
            if sight.looked
            and (found := sight.void or self._judge(plan, sight, told_now, early or {})).attempt != sight.attempt
        ]
        told: list[tuple[str, Attempt]] = []

        def write(pair: tuple[_Sight, ended.Seen]) -> None:
            sight, found = pair
            self._record(plan, sight.probe, found)
            if found.ended:
                told.append((sight.probe.name, found.attempt))
                self.world.forget_pods((namespace, sight.probe.name, str(sight.attempt.number)))

        try:
            self.telling.map(write, changed)
        finally:
            self.recorder.attempts_ended(plan, sorted(told, key=lambda pair: pair[0]))
        return min(sight.again for sight in sights)

    def interrupt(self, plan: Object, probes: Iterable[Probe], early: Mapping[str, str]) -> float | None:
        """End what this plan pays for and wants ``early``, by probe; it is paid for its seconds, and its report counts.

        The Job is deleted, so its Pod gets its grace period; seconds until one looks how that went, None when nothing runs.
        What was to be ended because it did not run, and runs now, is left alone.
        """
        namespace, name = key_of(plan)
        mine = [(p, p.status.attempts[-1]) for p in probes if p.status.attempts and p.name in early]
        running = [
            job
            for probe, last in mine
            if last.cost is None
            and last.paid_by == name
            and (job := self.world.get(JOBS, (namespace, last.job_name))) is not None
            and not job["metadata"].get("deletionTimestamp")
            and not ended.finished(job)
            and (early[probe.name] not in (SUSPENDED, NO_POD) or ended.is_idle(job))
            and (early[probe.name] != MENDED or not _begun(self.world.pods((namespace, probe.name, str(last.number)))))
        ]

        self.telling.map(self._delete_job, running)
        return PENDING_SECONDS if running else None

    def sweep(self, plan: Object, probes: Iterable[Probe]) -> None:
        """Delete a Job that arrived after its attempt was given up as never made: nobody would account for it."""
        namespace = key_of(plan)[0]
        late = [
            job
            for probe in probes
            for attempt in probe.status.attempts
            if attempt.reason == "NotStarted"
            and (job := self.world.get(JOBS, (namespace, attempt.job_name))) is not None
            and not job["metadata"].get("deletionTimestamp")
            and not ended.finished(job)
        ]
        self.telling.map(self._delete_job, late)

    def _delete_job(self, job: Object) -> None:
        self.fence()
        self.server.delete(JOBS, job)

    def _find(self, plan: Object, probe: Probe, attempt: Attempt) -> _Sight:
        """Ask for what is not known yet of an attempt's Job and Pods."""
        namespace = key_of(plan)[0]
        at = namespace, attempt.job_name
        pods = self.world.pods((namespace, probe.name, str(attempt.number)))
        job = self.world.get(JOBS, at)
        if job is not None:
            self.unmade.pop(at, None)
        else:
            try:
                job = self.server.get(JOBS, *at)
                self.world.put(JOBS, job)
            except NotFound:
                if attempt.phase == "Reserved" and not pods:
                    return self._unmade(plan, probe, attempt)
        done = job is None or ended.finished(job)
        age = self.age(attempt)
        if not done and age < PENDING_SECONDS:
            return _Sight(probe, attempt, PENDING_SECONDS - age, looked=False)
        if done and not (job is not None and ended.condition(job, "Complete") and any(_over(pod) for pod in pods)):
            # the watch of Pods has not shown it yet, or this process is younger than the Pod; or the Job has failed, and may
            # have left a Pod behind that still runs
            pods = self._listed(probe, attempt) + [p for p in pods if p.get("gone")]
        elif not done and job is not None and age >= LOOK_SECONDS and _hides(job, pods):
            pods = self._shown_by_a_list(probe, attempt, pods)
        waits = self._why_waiting(job, pods) if job is not None and not done else None
        return _Sight(probe, attempt, PENDING_SECONDS if done else LOOK_SECONDS, job, tuple(pods), waits)

    def _listed(self, probe: Probe, attempt: Attempt) -> list[Object]:
        namespace = key_of(probe.body)[0]
        return list(self.server.list(PODS, namespace, f"{PROBE_LABEL}={probe.name},{ATTEMPT_LABEL}={attempt.number}"))

    def _shown_by_a_list(self, probe: Probe, attempt: Attempt, known: list[Object]) -> list[Object]:
        """An attempt's Pods that run while the watch of Pods says nothing of it; it is held against that watch."""
        listed = self._listed(probe, attempt)
        if not _begun(listed) and known:
            return known
        news = [key_of(pod) for pod in listed if key_of(pod) not in self.owed]
        self.owed.update(dict.fromkeys(news, time.monotonic()))
        # a watch that showed it while the list was on its way owes nothing
        seen = self.world.pods((key_of(probe.body)[0], probe.name, str(attempt.number)))
        shown = {pod["metadata"]["uid"] for pod in seen if _begun([pod]) or not known}
        for pod in listed:
            if pod["metadata"]["uid"] in shown:
                self.owed.pop(key_of(pod), None)
        self.metrics.repaired.labels(PODS.plural).inc(sum(key in self.owed for key in news))
        return listed

    def _judge(self, plan: Object, sight: _Sight, told: _ToldNow, early: Mapping[str, str]) -> ended.Seen:
        """How an attempt stands; what its report has read is added to what reports of this very look have ``told``."""
        probe, namespace = sight.probe, key_of(plan)[0]
        digests = told.digests.setdefault(probe.task_key, [])
        commits = told.commits.setdefault((probe.task_key, probe.model_key), [])
        found = ended.observe(
            sight.attempt,
            probe.spec,
            sight.job,
            sight.pods,
            Accelerated.of(plan, probe.spec.accelerator).count,
            # a probe that read other data, or another commit of the model, than most others is refused
            agreed([*self.world.data_digests(namespace, probe.task_key, but=probe.name), *digests]),
            self.clock(),
            sight.waits,
            early.get(probe.name),
            agreed([*self.world.model_commits(namespace, probe.task_key, probe.model_key, but=probe.name), *commits]),
        )
        if found.ended and found.report is not None:
            if found.report.task_facts is not None:
                digests.append(found.report.task_facts.digest)
            if found.report.model_commit is not None:
                commits.append(found.report.model_commit)
        return found

    def _why_waiting(self, job: Object, pods: Sequence[Object]) -> Why | None:
        """What keeps an unfinished Job from running; None when it runs, when its Pod says so itself, or when nobody does."""
        held = bool((job.get("spec") or {}).get("suspend"))
        unseen = not pods and (job.get("status") or {}).get("active")
        if not held and (unseen or _begun(pods) or ended.why_pending(pods) is not None):
            return None
        # however often the plan is woken by its other probes, nobody is asked about this one more often than it would be alone
        of, now = str((pods[-1] if pods else job)["metadata"]["uid"]), self.clock()
        at, why = self.said.get(of, (None, None))
        if at is None or (now - at).total_seconds() >= LOOK_SECONDS:
            why = held_by_its_queue(self.server, job) if held else told_by_events(self.server, job, pods)
            if len(self.said) >= _REMEMBERED:
                self.said.clear()
            self.said[of] = (now, why)
        return why

    def _record(self, plan: Object, probe: Probe, seen: ended.Seen) -> None:
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
            accelerator = Accelerated.of(plan, probe.spec.accelerator)
            self.metrics.attempt_ended(key_of(plan)[0], accelerator, attempt)
        else:
            self.recorder.pending(plan, probe.name, attempt)

    def _unmade(self, plan: Object, probe: Probe, attempt: Attempt) -> _Sight:
        """A reservation without a Job: ``resume`` makes it if that can be done safely, else it is given up."""
        namespace, name = key_of(plan)
        mine = self.unmade.get((namespace, attempt.job_name)) == name
        left = VOID_SECONDS - self.age(attempt)
        if mine and left > 0:
            return _Sight(probe, attempt, min(left, LOOK_SECONDS), looked=False)
        # it is given back when its Job was surely never made; else whoever deleted it may have let it run until now
        wall = 0.0 if mine else min(self.age(attempt), float(probe.spec.deadline_seconds))
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
        return _Sight(probe, attempt, 0.0, void=ended.Seen(closed))


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


def _hides(job: Object, pods: Sequence[Object]) -> bool:
    """Whether a Job says that it has a Pod, or one that runs (since Kubernetes 1.24), and the watch has shown none such."""
    status = job.get("status") or {}
    return bool(status.get("active") and not pods) or bool(status.get("ready") and not _begun(pods))


def _begun(pods: Sequence[Object]) -> bool:
    """Whether a container of one of them has begun."""
    listed = (s.get("state") or {} for p in pods for s in (p.get("status") or {}).get("containerStatuses") or [])
    return any("running" in state or "terminated" in state for state in listed)


def _over(pod: Object) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return any("terminated" in (s.get("state") or {}) for s in statuses) or bool(pod.get("gone"))
