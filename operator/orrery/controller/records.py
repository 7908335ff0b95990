"""Between AdaptationProbe objects and the core's records: what this plan paid, and what it finds already measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from orrery.api.base import API_VERSION
from orrery.api.models import Model
from orrery.api.plan import AdaptationPlan, PlanSpec
from orrery.api.probe import (
    AdaptationProbe,
    Attempt,
    Fidelity,
    ProbeSpec,
    ProbeStatus,
    Report,
    Trial,
    data_identity,
    digest,
    model_identity,
)
from orrery.api.task import Task
from orrery.controller.jobs import JobSettings
from orrery.controller.server import Object
from orrery.planning.reports import FINAL_REASONS
from orrery.planning.types import CONFIRMING_SEED, ProbeRecord, ProbeState

#: Ends that are nobody's failure: they use up no retry.
UNCOUNTED = frozenset({"Disrupted", "Interrupted", "JobDeleted", "NotStarted"})
#: Name of the record of what was paid for probes that are deleted.
DELETED = "deleted"
DELETED_CONFIRMATIONS = "deleted-confirmations"
#: Attempts that a probe's status can hold.
MOST_ATTEMPTS = 16

_STATES = {
    "Reserved": ProbeState.RESERVED,
    "Queued": ProbeState.QUEUED,
    "Running": ProbeState.RUNNING,
    "Succeeded": ProbeState.SUCCEEDED,
    "Failed": ProbeState.FAILED,
}


@dataclass(frozen=True)
class Probe:
    """A probe object, parsed once for each of its versions: a plan looks at all its probes at every wake."""

    body: Object
    spec: ProbeSpec
    status: ProbeStatus
    task_key: str  #: digest of the task it measured
    model_key: str  #: digest of the model it measured

    @property
    def name(self) -> str:
        """Object name."""
        return str(self.body["metadata"]["name"])

    @property
    def is_open(self) -> bool:
        """Whether its last attempt has not ended."""
        return bool(self.status.attempts) and self.status.attempts[-1].cost is None

    @property
    def tries(self) -> int:
        """How many attempts there were, those included whose nothing is remembered."""
        return self.status.attempts[-1].number if self.status.attempts else 0

    def worth_keeping(self) -> list[Attempt]:
        """The attempts without those before the last of which nothing ran, for nobody's fault: a status has room for so many."""
        kept = self.status.attempts
        return [a for a in kept if a is kept[-1] or a.cost != 0 or a.reason not in ("NotStarted", "Interrupted")]

    @property
    def payers(self) -> frozenset[str]:
        """Plans that paid for an attempt."""
        return frozenset(a.paid_by for a in self.status.attempts if a.paid_by)


def parse(body: Object, before: Probe | None = None) -> Probe | None:
    """A probe object, or None when it is not one of ours: somebody wrote it by hand, or another version did.

    ``before`` is the same object in an earlier version: its spec, which no write of a status changes, is not read again.
    """
    if before is not None and _same_spec(before.body, body):
        try:
            status = ProbeStatus.model_validate(body.get("status") or {})
        except ValidationError:
            return None
        return replace(before, body=body, status=status)
    try:
        probe = AdaptationProbe.model_validate({**body, "apiVersion": API_VERSION, "kind": "AdaptationProbe"})
    except ValidationError:
        return None
    return Probe(
        body, probe.spec, probe.status or ProbeStatus(), task_key(probe.spec.task), model_key(probe.spec.model)
    )


def _same_spec(one: Object, other: Object) -> bool:
    """Whether the API server says so: it counts the changes of a spec."""
    a, b = one["metadata"], other["metadata"]
    return bool(a.get("uid")) and a.get("uid") == b.get("uid") and a.get("generation", 0) == b.get("generation", 1)


def task_key(task: Task) -> str:
    """Digest of what makes measurements of a task comparable."""
    return digest(data_identity(task))[:16]


def model_key(model: Model) -> str:
    """Digest of what makes two models the same."""
    return digest(model_identity(model))[:16]


def environments(plan: PlanSpec, settings: JobSettings) -> dict[str, str]:
    """By accelerator, a digest of everything a Pod runs with that is not the measurement itself.

    A failure is remembered only as long as this is the same: a mended image, token, cache or memory limit deserves a new try,
    and what still waits for the old ones is not waited for.
    """
    template = plan.probe_template
    shared = {
        "image": template.image or settings.image,
        "cpu": template.cpu or settings.default_cpu,
        "memory": template.memory or settings.default_memory,
        "assets": settings.assets_claim,
        "labels": template.labels,
        "annotations": template.annotations,
        "cache": plan.model_cache.to_wire() if plan.model_cache else None,
        "token": plan.hf_token_secret_ref.to_wire() if plan.hf_token_secret_ref else None,
        "scheduling": plan.scheduling.to_wire(),
    }
    return {a.name: digest({**shared, "accelerator": a.to_wire()})[:8] for a in plan.accelerators}


def record(probe: Probe, plan: str, environments: Mapping[str, str]) -> ProbeRecord | None:
    """What the core is told of a probe; None before its first attempt is reserved.

    ``attempts`` counts this plan's own failures in the environment as it is now: what failed for another plan may be tried
    again by this one, unless it failed for a reason that would be met again.
    """
    attempts = probe.status.attempts
    if not attempts:
        return None
    mine = [a for a in attempts if a.paid_by == plan]
    last = attempts[-1]
    now = environments.get(probe.spec.accelerator)
    same = last.environment in (None, now)
    return ProbeRecord(
        name=probe.name,
        spec=probe.spec,
        state=ProbeState.INTERRUPTED if last.reason in UNCOUNTED else _STATES[last.phase],
        attempts=sum(a.environment in (None, now) and a.reason not in UNCOUNTED for a in mine),
        cost=sum((a.cost for a in mine if a.cost is not None), Decimal(0)),
        reserved=sum((a.reserved for a in mine if a.cost is None), Decimal(0)),
        seconds=float(sum((a.seconds for a in mine if a.seconds is not None), Decimal(0))),
        report=probe.status.report if same else _without_failure(probe.status.report),
        reused=not mine,
        retryable=len(attempts) < MOST_ATTEMPTS and not (same and last.reason in FINAL_REASONS),
        reason=(last.reason or "") if same else "",
        message=(last.message or "") if same else "",
    )


def _without_failure(report: Report | None) -> Report | None:
    """What was measured stays; why the rest was not is to be seen anew."""
    return report and report.model_copy(update={"error": None, "reason": None})


def records(probes: Iterable[Probe], plan: AdaptationPlan, settings: JobSettings) -> list[ProbeRecord]:
    """Records of the probes that measured the plan's models on its task, or that it paid for before it was edited."""
    task, models = task_key(plan.spec.task), {model_key(m) for m in plan.spec.models}
    name, around = plan.metadata.name, environments(plan.spec, settings)
    found = [
        record(p, name, around) for p in probes if (p.task_key == task and p.model_key in models) or name in p.payers
    ]
    return sorted((r for r in found if r is not None), key=lambda r: r.name)


def deleted(
    plan: AdaptationPlan,
    told: Object,
    records: Sequence[ProbeRecord],
    lost: tuple[Decimal, float] = (Decimal(0), 0.0),
) -> ProbeRecord | None:
    """What the plan's status says was spent and no probe accounts for any more, since somebody deleted it.

    Deleting measurements must not refill the budget. The record measured nothing that the plan asks about. ``lost`` is the
    money and the accelerator-seconds of what ran when its probe was deleted, which no status has counted yet.
    """
    spend = told.get("spend") or {}
    own = [r for r in records if not r.reused and not r.confirming]
    known = Decimal(str(spend.get("deletedCost", "0")))
    paid = known + sum((r.cost for r in own), Decimal(0))
    cost = known + max(Decimal(str(spend.get("cost", "0"))) - paid, Decimal(0)) + lost[0]
    seconds = float(spend.get("acceleratorSeconds", 0)) - sum(r.seconds for r in own) + lost[1]
    if cost <= 0:
        return None
    return _gone(plan, DELETED, 0, cost, max(0.0, round(seconds, 3)))


def deleted_confirmations(
    plan: AdaptationPlan,
    told: Object,
    records: Sequence[ProbeRecord],
    lost: tuple[Decimal, float] = (Decimal(0), 0.0),
) -> ProbeRecord | None:
    """The same of what confirming has cost, whose budget is apart."""
    spend = told.get("confirmation") or {}
    known = Decimal(str(spend.get("deletedCost", "0")))
    paid = known + sum((r.cost for r in records if r.confirming and not r.reused), Decimal(0))
    cost = known + max(Decimal(str(spend.get("spent", "0"))) - paid, Decimal(0)) + lost[0]
    used = sum(r.seconds for r in records if r.confirming and not r.reused)
    seconds = max(0.0, round(float(spend.get("acceleratorSeconds", 0)) - used, 3)) + lost[1]
    return _gone(plan, DELETED_CONFIRMATIONS, CONFIRMING_SEED, cost, seconds) if cost > 0 else None


def _gone(plan: AdaptationPlan, name: str, seed: int, cost: Decimal, seconds: float) -> ProbeRecord:
    spec = ProbeSpec(
        model=Model.model_validate({"name": "deleted", "source": {"builtin": {"name": "deleted"}}}),
        task=plan.spec.task,
        trials=[Trial(name="deleted", strategy="Deleted", fidelity=Fidelity(evaluation_items=1), seed=seed)],
        accelerator=plan.spec.accelerators[0].name,
        deadline_seconds=1,
    )
    return ProbeRecord(
        name=name,
        spec=spec,
        state=ProbeState.INTERRUPTED,
        attempts=1,
        cost=cost,
        reserved=Decimal(0),
        seconds=seconds,
    )


def owner_reference(plan: Object, controller: bool) -> dict[str, Any]:
    """Owner reference to a plan; a probe may have several, one of them its controller."""
    return {
        "apiVersion": API_VERSION,
        "kind": "AdaptationPlan",
        "name": plan["metadata"]["name"],
        "uid": plan["metadata"]["uid"],
        **({"controller": True} if controller else {}),
    }
