"""Jobs and Pods as the API server shows them."""

from __future__ import annotations

import json
from typing import Any

from orrery.api.probe import Attempt, ProbeSpec, probe_name

START, END = "2026-01-01T00:00:10Z", "2026-01-01T00:01:10Z"  # a minute


def attempt(**changes: Any) -> Attempt:
    base = {
        "number": 1,
        "jobName": "probe-1",
        "phase": "Queued",
        "reserved": "0.6",
        "paidBy": "plan",
        "pricePerHour": "3.6",
        "reservedAt": "2026-01-01T00:00:05Z",
    }
    return Attempt.model_validate(base | changes)


def job(*conditions: dict[str, Any], suspend: bool = False, **counts: int) -> dict[str, Any]:
    return {
        "metadata": {"name": "probe-1", "namespace": "ns", "uid": "job-uid"},
        "spec": {"suspend": suspend},
        "status": {"startTime": "2026-01-01T00:00:06Z", "conditions": list(conditions), **counts},
    }


def ended(kind: str, reason: str = "", at: str = END) -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": at}


COMPLETE, FAILED = ended("Complete"), ended("Failed", "BackoffLimitExceeded")
DEADLINE = ended("Failed", "DeadlineExceeded")


def pod(state: dict[str, Any] | None, uid: str = "pod-uid", **status: Any) -> dict[str, Any]:
    meta: dict[str, Any] = {"name": "probe-1-x", "uid": uid}
    if status.pop("deleted", False):
        meta["deletionTimestamp"] = END
    statuses = [{"name": "probe", "state": state}] if state is not None else []
    return {"metadata": meta, "status": {"containerStatuses": statuses, **status}}


def terminated(
    code: int = 0, reason: str = "", message: str = "", start: str = START, end: str = END
) -> dict[str, Any]:
    found: dict[str, Any] = {"exitCode": code, "startedAt": start, "finishedAt": end}
    found |= {"reason": reason or ("Completed" if code == 0 else "Error")}
    return {"terminated": found | ({"message": message} if message else {})}


RUNNING: dict[str, Any] = {"running": {"startedAt": START}}


def report(spec: ProbeSpec, **changes: Any) -> str:
    """A complete and true report as a termination message."""
    trials = [{"name": t.name, "outcome": "Measured", "score": "0.5", "items": 10} for t in spec.trials]
    base = {"version": "orrery.dev/report/v1", "probe": probe_name(spec), "complete": True, "trials": trials}
    return json.dumps(base | changes)
