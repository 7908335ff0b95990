"""The plan's status as it is written: stamped, and only when it says something new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orrery.api.status import Condition, PlanStatus
from orrery.controller.server import Object
from orrery.planning.types import ProbeRecord, ProbeState


def conditions(
    wanted: Sequence[Condition], before: Sequence[dict[str, Any]], generation: int, now: str
) -> list[Condition]:
    """The conditions with observedGeneration, and a lastTransitionTime that moves only when the status does.

    Conditions of other types that somebody else wrote are kept as they are.
    """
    known = {c.get("type"): c for c in before}
    stamped = []
    for condition in wanted:
        old = known.pop(condition.type, None)
        same = old is not None and old.get("status") == condition.status and old.get("lastTransitionTime")
        stamped.append(
            condition.model_copy(
                update={
                    "observed_generation": generation,
                    "last_transition_time": old["lastTransitionTime"] if same and old else now,
                }
            )
        )
    return stamped + [Condition.model_validate(c) for c in known.values()]


def stamped(status: PlanStatus, before: Object, generation: int, now: str) -> dict[str, Any]:
    """The wire form of a status as it would be written over ``before``."""
    listed = conditions(status.conditions, before.get("conditions") or [], generation, now)
    return status.model_copy(update={"conditions": listed, "observed_generation": generation}).to_wire()


def waiting(wanted: PlanStatus, records: Sequence[ProbeRecord]) -> PlanStatus:
    """The status with why nothing runs, while nothing does: what a person asks first."""
    if any(r.state is ProbeState.RUNNING for r in records):
        return wanted
    why = [(r.reason, f"{r.name} waits: {r.message}") for r in records if r.state is ProbeState.QUEUED and r.message]
    if not why or why[0][0] == "Pending":
        return wanted
    reason, sentence = why[0]
    told = [
        c.model_copy(update={"reason": reason, "message": sentence}) if c.type in ("Ready", "Reconciling") else c
        for c in wanted.conditions
    ]
    return wanted.model_copy(update={"conditions": told})


def remark(wanted: PlanStatus, sentence: str) -> PlanStatus:
    """The status with a sentence about the cluster in the condition Validated, which has nothing else to say when it is True."""
    if not sentence:
        return wanted
    told = [
        c.model_copy(update={"message": sentence}) if c.type == "Validated" and c.status == "True" else c
        for c in wanted.conditions
    ]
    return wanted.model_copy(update={"conditions": told})


def failure(reason: str, message: str, before: PlanStatus | None) -> PlanStatus:
    """A plan that a person must mend: Stalled=True with the sentence; what was answered and spent before stays readable."""
    base = before or PlanStatus()
    others = ("Validated", "ProbesCompleted", "BudgetAvailable", "Feasible")
    return base.model_copy(
        update={
            "phase": "Stalled",
            "conditions": [
                Condition(type="Ready", status="False", reason=reason, message=message),
                Condition(type="Reconciling", status="False", reason=reason, message=message),
                Condition(type="Stalled", status="True", reason=reason, message=message),
                *(
                    Condition(
                        type=kind,
                        status="False" if kind == "Validated" else "Unknown",
                        reason=reason,
                        message=message if kind == "Validated" else "",
                    )
                    for kind in others
                ),
            ],
        }
    )
