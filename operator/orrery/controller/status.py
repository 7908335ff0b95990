"""The plan's status as it is written: stamped, and only when it says something new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orrery.api.plan import PlanSpec
from orrery.api.status import Condition, PlanStatus
from orrery.controller.records import DELETED, DELETED_CONFIRMATIONS
from orrery.controller.server import Object
from orrery.planning.reservation import Purse
from orrery.planning.status import number, progress
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
    for ours in ("Confirmed", "Ready"):  # and no longer asked for, or not to be said of a plan that rests
        known.pop(ours, None)
    return stamped + [Condition.model_validate(c) for c in known.values()]


def stamped(status: PlanStatus, before: Object, generation: int, now: str) -> dict[str, Any]:
    """The wire form of a status as it would be written over ``before``."""
    listed = conditions(status.conditions, before.get("conditions") or [], generation, now)
    told = status.model_copy(update={"conditions": listed, "observed_generation": generation, "completion_time": None})
    after = told.to_wire()
    if (answer := _answer(after)) is None:
        return after
    since = before.get("completionTime") if _answer(before) == answer else None
    return {**after, "completionTime": since or now}


def _answer(status: Object) -> tuple[Any, ...] | None:
    """What a finished plan answers, and to which spec; None while it has no answer."""
    for condition in status.get("conditions") or []:
        if condition.get("type") == "Ready" and condition.get("status") == "True":
            return status.get("observedGeneration"), condition.get("reason"), status.get("recommendation")
    return None


def waiting(wanted: PlanStatus, records: Sequence[ProbeRecord]) -> PlanStatus:
    """The status with why nothing runs, while nothing does: what a person asks first."""
    if any(r.state is ProbeState.RUNNING for r in records):
        return wanted
    waits = [r for r in records if r.state is ProbeState.QUEUED and r.message and r.reason != "Pending"]
    why = [(r.reason, f"{r.name} waits: {r.message}") for r in waits]
    if not why:
        return wanted
    reason, sentence = why[0]
    told = [
        c.model_copy(update={"reason": reason, "message": sentence}) if c.type in ("Ready", "Reconciling") else c
        for c in wanted.conditions
    ]
    return wanted.model_copy(update={"conditions": told})


def underway(decided: PlanStatus, spec: PlanSpec, records: Sequence[ProbeRecord]) -> PlanStatus:
    """What was decided, with where the probes stand and what they cost by now."""
    assert decided.progress is not None and decided.spend is not None
    purse, spend = Purse.of(spec, records), decided.spend
    counted = progress(records, 0, None)
    remaining = decided.progress.estimated_remaining_seconds
    saved = spend.saved_percent
    if spend.exhaustive_cost:
        saved = number(100.0 * (1.0 - float(purse.spent) / float(spend.exhaustive_cost)), 4)
    update = {
        "progress": counted.model_copy(update={"estimated_remaining_seconds": remaining}),
        "spend": spend.model_copy(
            update={
                "cost": purse.spent,
                "reserved": purse.reserved,
                "accelerator_seconds": number(float(purse.seconds_spent), 9),
                "saved_percent": saved,
            }
        ),
    }
    return with_deleted(waiting(decided.model_copy(update=update), records), records)


def with_deleted(wanted: PlanStatus, records: Sequence[ProbeRecord]) -> PlanStatus:
    """The status with the part of its cost whose probes are gone, which only it remembers."""
    gone = {r.name: {"deleted_cost": r.cost} for r in records if r.name in (DELETED, DELETED_CONFIRMATIONS)}
    update: dict[str, Any] = {}
    if DELETED in gone and wanted.spend is not None:
        update["spend"] = wanted.spend.model_copy(update=gone[DELETED])
    if DELETED_CONFIRMATIONS in gone and wanted.confirmation is not None:
        update["confirmation"] = wanted.confirmation.model_copy(update=gone[DELETED_CONFIRMATIONS])
    return wanted.model_copy(update=update) if update else wanted


def remark(wanted: PlanStatus, sentence: str) -> PlanStatus:
    """The status with a sentence about cluster or prices in the condition Validated, which has nothing else to say when it is True."""
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
