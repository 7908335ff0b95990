"""Between AdaptationProbe objects and the core's records: what this plan paid, and what it finds already measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from orrery.api.base import API_VERSION
from orrery.api.plan import AdaptationPlan, Model
from orrery.api.probe import AdaptationProbe, ProbeSpec, ProbeStatus, data_identity, digest, model_identity
from orrery.api.task import Task
from orrery.controller.attempts import FINAL_REASONS
from orrery.controller.server import Object
from orrery.planning.types import ProbeRecord, ProbeState

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
    def payers(self) -> frozenset[str]:
        """Plans that paid for an attempt."""
        return frozenset(a.paid_by for a in self.status.attempts if a.paid_by)


def parse(body: Object) -> Probe | None:
    """A probe object, or None when it is not one of ours: somebody wrote it by hand, or another version did."""
    try:
        probe = AdaptationProbe.model_validate({**body, "apiVersion": API_VERSION, "kind": "AdaptationProbe"})
    except ValidationError:
        return None
    return Probe(
        body, probe.spec, probe.status or ProbeStatus(), task_key(probe.spec.task), _model_key(probe.spec.model)
    )


def task_key(task: Task) -> str:
    """Digest of what makes measurements of a task comparable."""
    return digest(data_identity(task))[:16]


def _model_key(model: Model) -> str:
    return digest(model_identity(model))[:16]


def record(probe: Probe, plan: str) -> ProbeRecord | None:
    """What the core is told of a probe; None before its first attempt is reserved."""
    attempts = probe.status.attempts
    if not attempts:
        return None
    mine = [a for a in attempts if a.paid_by == plan]
    last = attempts[-1]
    return ProbeRecord(
        name=probe.name,
        spec=probe.spec,
        state=_STATES[last.phase],
        attempts=len(attempts),
        cost=sum((a.cost for a in mine if a.cost is not None), Decimal(0)),
        reserved=sum((a.reserved for a in mine if a.cost is None), Decimal(0)),
        seconds=float(sum((a.seconds for a in mine if a.seconds is not None), Decimal(0))),
        report=probe.status.report,
        reused=not mine,
        retryable=last.reason not in FINAL_REASONS,
        reason=last.reason or "",
        message=last.message or "",
    )


def records(probes: Iterable[Probe], plan: AdaptationPlan) -> list[ProbeRecord]:
    """Records of the probes that measured the plan's models on its task, or that it paid for before it was edited."""
    task, models = task_key(plan.spec.task), {_model_key(m) for m in plan.spec.models}
    name = plan.metadata.name
    found = [record(p, name) for p in probes if (p.task_key == task and p.model_key in models) or name in p.payers]
    return sorted((r for r in found if r is not None), key=lambda r: r.name)


def owner_reference(plan: Object, controller: bool) -> dict[str, Any]:
    """Owner reference to a plan; a probe may have several, one of them its controller."""
    return {
        "apiVersion": API_VERSION,
        "kind": "AdaptationPlan",
        "name": plan["metadata"]["name"],
        "uid": plan["metadata"]["uid"],
        **({"controller": True} if controller else {}),
    }
