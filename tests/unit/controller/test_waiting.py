"""What keeps a probe from running: the last word of its Job's or its Pod's Events, and Kueue's."""

from __future__ import annotations

from typing import Any

import pytest

from orrery.controller.server import EVENTS, WORKLOADS, NotFound, Refused
from orrery.controller.waiting import NO_KUEUE, held_by_its_queue, told_by_events

pytestmark = pytest.mark.unit

JOB = {"metadata": {"name": "probe-1", "namespace": "team-a", "uid": "job"}}
POD = {"metadata": {"name": "probe-1-x", "namespace": "team-a", "uid": "pod"}}


class Events:
    """Lists what is told of one object."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events, self.asked = events, ""

    def list(self, resource: Any, namespace: str, selector: str | None = None, *, fields: str = "") -> Any:
        assert resource in (EVENTS, *WORKLOADS) and namespace == "team-a"
        self.asked = fields
        return iter(self.events)


class Refusing:
    """An API server that refuses, or knows no such kind."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def list(self, *_: Any, **__: Any) -> Any:
        raise self.error


def event(reason: str, at: str | None, version: int, kind: str = "Warning", **more: Any) -> dict[str, Any]:
    meta = {"resourceVersion": str(version), "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": meta, "type": kind, "reason": reason, "message": f"{reason}!", "lastTimestamp": at, **more}


def test_the_latest_event_is_told_if_it_is_a_warning() -> None:
    early, late = "2026-01-01T00:00:01Z", "2026-01-01T00:00:09Z"
    trouble = Events(event("FailedMount", late, 3), event("Scheduled", early, 1, "Normal"))
    assert told_by_events(trouble, JOB, [POD]) == ("FailedMount", "FailedMount!") and trouble.asked.endswith("=pod")
    over = Events(event("FailedScheduling", early, 1), event("Pulling", early, 2, "Normal"))
    assert told_by_events(over, JOB, [POD]) is None, "of one second, the one that was written last"
    assert told_by_events(Events(), JOB, [POD]) is None
    newer = event("FailedCreate", None, 2, eventTime="2026-01-01T00:00:05.000001Z")
    quota = Events(event("SuccessfulCreate", early, 9, "Normal"), newer)
    assert told_by_events(quota, JOB, []) == ("FailedCreate", "FailedCreate!") and quota.asked.endswith("=job")


@pytest.mark.parametrize("error", [NotFound(404, "no such kind"), Refused(403, "may not list")])
def test_whoever_may_not_ask_is_told_nothing(error: Exception) -> None:
    assert told_by_events(Refusing(error), JOB, []) is None


def test_a_queue_without_kueue_is_said_and_one_that_may_not_be_asked_is_not() -> None:
    assert held_by_its_queue(Refusing(NotFound(404, "no such kind")), JOB) == ("WaitingInQueue", NO_KUEUE)
    assert held_by_its_queue(Refusing(Refused(403, "may not list")), JOB) is None


def test_kueue_is_asked_in_whichever_version_it_serves() -> None:
    waits = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": "no quota"}

    class Newer:
        def list(self, resource: Any, *_: Any) -> Any:
            if resource is WORKLOADS[0]:
                raise NotFound(404, "no such kind")
            return iter([{"status": {"conditions": [waits]}}])

    assert held_by_its_queue(Newer(), JOB) == ("WaitingInQueue", "Kueue: Pending: no quota")
